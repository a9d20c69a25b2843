"""Files that are either the old ones or the new ones, never something in between."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from darts_hpo.errors import RunDirectoryError

PARTIAL_SUFFIX = ".partial"
"""Ending of files that are being written. One that is found while nobody writes was left by a crash."""

NOT_FINITE = "not_finite"
"""Key (or column) that says which numbers were not finite, and what they were."""


_TORCH_WRITER = "inline_container"
"""What PyTorch's messages have in common when its checkpoint writer fails; the system's own error is lost there."""


@contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write ``path`` into messages that say what to do.

    Raises:
        RunDirectoryError: instead of any :class:`OSError` inside.
    """
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(_explain(path, error)) from error


def _explain(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = ""
        with suppress(OSError):
            free = f" ({shutil.disk_usage(path.parent).free / 2**20:.1f} MiB free)"
        return (
            f"The disk is full{free}: {path} could not be written. Free some space and run the same command "
            "again; it continues from what is already saved."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} may not be written ({error.strerror}). Choose another directory or change permissions."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{path} cannot be made: a file is where a directory should be. Choose another directory."
    return f"{path} could not be written: {error.strerror or error}."


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path to write to; on success its content takes the place of ``path`` in one step.

    The partial file lies in the same directory (a rename across file systems is a copy). It reaches the disk
    before the rename and the rename before the return, so a crash leaves the old content or the new.

    Args:
        path: the file to make or replace; its directory is created.

    Yields:
        A path beside it, not yet existing. ``torch.save`` may write to it too.

    Raises:
        RunDirectoryError: the system refuses to write; the partial file is removed and ``path`` is as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    with readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            descriptor = os.open(partial, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            partial.replace(path)
            sync_directory(path.parent)
        except RuntimeError as error:
            if _TORCH_WRITER not in str(error):
                raise
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise RunDirectoryError(_explain(path, full)) from error
        finally:
            partial.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make renames and new names of a directory survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        RunDirectoryError: the system refuses to write; the old content is kept.
    """
    with atomic_file(path) as partial:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            write_all(descriptor, content)
        finally:
            os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write every byte: the system may take fewer than it is given."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically; see :func:`write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object atomically; numbers that are not finite become null (:func:`finite`).

    Raises:
        RunDirectoryError: the system refuses to write; the old content is kept.
    """
    write_text(path, json.dumps(finite(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain containers in which NaN and infinities are ``None``, and said to be so.

    Such a number is never a score; written as one it would be compared. Where there was any, the key
    ``not_finite`` is added at the top: dotted path to what stood there.

    >>> finite({"val": {"map50": float("nan"), "loss": 2.0}})
    {'val': {'map50': None, 'loss': 2.0}, 'not_finite': {'val.map50': 'nan'}}
    """
    reasons: dict[str, str] = {}
    result = {str(key): _finite(value, str(key), reasons) for key, value in data.items()}
    if reasons:
        result[NOT_FINITE] = {**(result.get(NOT_FINITE) or {}), **reasons}
    return result


def _finite(value: Any, path: str, reasons: dict[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item, f"{path}.{key}", reasons) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item, f"{path}.{index}", reasons) for index, item in enumerate(value)]
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a NumPy or torch scalar
        return _finite(value.item(), path, reasons)
    if isinstance(value, float) and not math.isfinite(value):
        reasons[path] = str(value)
        return None
    return value
