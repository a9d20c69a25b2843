"""The errors a person can cause, and the wording they share.

Every message says what was wrong, what was expected, which valid names are nearest and what to type.
The command line prints the message alone; a traceback is for defects of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DartsHPOError(Exception):
    """Root of every error that is the caller's to fix."""


class SpaceError(DartsHPOError):
    """A search space, or a point of one, is invalid."""


class GenotypeError(DartsHPOError):
    """A genotype does not belong to the space it is used with, or cannot be read."""


class ConfigError(DartsHPOError):
    """A configuration key, group option or combination of settings is invalid."""


class DataError(DartsHPOError):
    """A data set, or one file of it, cannot be used."""


class RunDirectoryError(DartsHPOError):
    """A run directory is locked, belongs to another configuration, or cannot be written."""


class TrainingError(DartsHPOError):
    """Training cannot go on, for example because the loss is no longer finite."""


class RunStopped(DartsHPOError):  # noqa: N818 - it is no error, the run continues later
    """The run was asked to stop by a file named STOP in its directory; what was done so far is kept."""


class ExportError(DartsHPOError):
    """A model cannot be exported faithfully, or an exported one cannot be read back."""


class MissingDependencyError(DartsHPOError):
    """An optional package is needed and absent or broken."""


def nearest_names(name: str, valid: Iterable[str], limit: int = 3) -> list[str]:
    """The valid names most like ``name``, best first; empty when nothing is close."""
    return difflib.get_close_matches(name, list(valid), n=limit, cutoff=0.4)


def unknown_name(what: str, name: str, valid: Iterable[str]) -> str:
    """One sentence for an unknown name: the nearest valid ones, then all of them.

    Args:
        what: the kind of thing, for example ``"option of choice 'neck.p4'"``.
        name: what was given.
        valid: what would have been accepted.
    """
    names = sorted(valid)
    close = nearest_names(name, names)
    hint = f" Did you mean {' or '.join(repr(n) for n in close)}?" if close else ""
    return f"Unknown {what}: {name!r}.{hint} Valid: {', '.join(names) or '(none)'}."
