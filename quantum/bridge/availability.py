"""TorchQuantum imported when it is needed, with a remedy where it cannot be."""

from __future__ import annotations

import importlib
from importlib import metadata
from types import ModuleType

from darts_hpo.errors import MissingDependencyError

_WANTED = "pip install 'torchquantum-ng>=0.2,<0.3'"


def require_torchquantum() -> ModuleType:
    """The package ``torchquantum``.

    Two distributions install a package of that name into one folder: ``torchquantum-ng``, which is wanted, and
    ``torchquantum``, whose last release of 2024 does not declare all that it imports.

    Raises:
        MissingDependencyError: it is not installed or cannot be imported; the message says which distribution was
            found and what to type.
    """
    try:
        return importlib.import_module("torchquantum")
    except (ImportError, AttributeError) as error:
        # The old wheel fails with either, depending on what is missing or too new.
        raise MissingDependencyError(_diagnosis(error)) from error


def _diagnosis(error: Exception) -> str:
    old, wanted = _version("torchquantum"), _version("torchquantum-ng")
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    reason = f"it needs {missing!r}, which is absent" if missing else f"it fails with {str(error)!r}"
    if old and wanted:
        return (
            f"torchquantum {old} and torchquantum-ng {wanted} are both installed, in one folder, where the last "
            f"overwrote the first; {reason}. Type: pip uninstall -y torchquantum torchquantum-ng && {_WANTED}"
        )
    if old:
        return (
            f"torchquantum {old} cannot be imported: {reason}. That distribution is no longer maintained and does not "
            f"declare all it imports. Type: pip uninstall -y torchquantum && {_WANTED}"
        )
    if wanted:
        return f"torchquantum-ng {wanted} cannot be imported: {reason}. Type: {_WANTED} --force-reinstall"
    if missing == "torchquantum":
        return f"TorchQuantum is not installed. Type: {_WANTED}"
    return f"A package torchquantum of unknown origin cannot be imported: {reason}. Type: {_WANTED}"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
