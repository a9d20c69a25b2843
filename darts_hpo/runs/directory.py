"""One run's directory: who may write in it, whose configuration it holds, and where it stands."""

from __future__ import annotations

import fnmatch
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from darts_hpo.errors import RunDirectoryError
from darts_hpo.runs.files import PARTIAL_SUFFIX, readable_errors, write_json, write_text
from darts_hpo.runs.lock import DirectoryLock
from darts_hpo.runs.tables import EpochLog

RunStatus: TypeAlias = Literal["NEW", "RUNNING", "INTERRUPTED", "COMPLETED", "FAILED", "STOPPED"]

_ABSENT = "(absent)"

log = logging.getLogger(__name__)


class RunDirectory:
    """The files of one run, as the design's contract names them.

    Args:
        path: the directory; nothing is made until :meth:`create` or :meth:`lock`.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.provenance = self.path / "provenance.json"
        self.genotype = self.path / "genotype.json"
        self.metrics = self.path / "metrics.json"
        self.report = self.path / "report.html"
        self.search = self.path / "search"
        self.retrain = self.path / "retrain"
        self.reference = self.path / "reference"
        self.random = self.path / "random"
        self.export = self.path / "export"
        self.progress = EpochLog(self.path / "progress.jsonl")
        """Intermediate objective values, which schedulers of an outer loop read."""
        self._lock = DirectoryLock(
            self.path,
            f"Wait until it ends, stop it with `touch {self.path / 'STOP'}`, or start another run beside it with "
            "run=NAME.",
        )

    def create(self) -> None:
        """Make the directory.

        Raises:
            RunDirectoryError: it cannot be made or is no directory.
        """
        with readable_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    # Ownership

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Own the directory while inside; the system releases it when the process ends in whatever way.

        Files that a crash left half-written are removed.

        Raises:
            RunDirectoryError: another process owns it; the message names it.
        """
        self.create()
        with self._lock.held():
            self._remove_partial_files()
            yield

    def owner(self) -> int | None:
        """Process id of the run that owns the directory now, if one does."""
        return self._lock.owner()

    def _remove_partial_files(self) -> None:
        for left in self.path.rglob(f".*{PARTIAL_SUFFIX}"):
            left.unlink(missing_ok=True)

    # Configuration

    def write_config(self, config: Mapping[str, Any], ignore: Sequence[str]) -> None:
        """Store the resolved configuration, or check that it is the one stored.

        Args:
            config: plain containers.
            ignore: dotted keys that may differ; a key stands for everything below it, ``*`` for any text.

        Raises:
            RunDirectoryError: the directory belongs to another configuration; the message lists what differs.
        """
        text = yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)
        if self.config.exists():
            difference = config_difference(self.read_config(), yaml.safe_load(text) or {}, ignore)
            if difference:
                raise RunDirectoryError(
                    f"{self.path} belongs to another configuration (stored -> now):\n  "
                    + "\n  ".join(difference)
                    + "\nStart another run with run=NAME, or restore these settings to continue this one."
                )
        write_text(self.config, text)

    def read_config(self) -> dict[str, Any]:
        """The stored configuration; empty where there is none yet.

        Raises:
            RunDirectoryError: the file is not a YAML mapping.
        """
        try:
            data = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RunDirectoryError(f"{self.config} cannot be read: {' '.join(str(error).split())}") from None
        if not isinstance(data, dict):
            raise RunDirectoryError(f"{self.config} is not a mapping of settings; remove the directory to start over.")
        return data

    # State

    def status(self) -> RunStatus:
        """Where the run stands. ``INTERRUPTED``: it says RUNNING, but no process owns the directory."""
        try:
            status = json.loads(self.metrics.read_text(encoding="utf-8")).get("status")
        except (OSError, ValueError, AttributeError):
            status = None
        if status in ("COMPLETED", "FAILED", "STOPPED"):
            return status
        if self.owner() is not None:
            return "RUNNING"
        return "INTERRUPTED" if status == "RUNNING" or self.config.exists() else "NEW"

    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.status() == "COMPLETED"

    def stop_requested(self) -> bool:
        """Whether a file named STOP asks the run to end at the next opportunity."""
        return (self.path / "STOP").exists()

    def clear_stop(self) -> None:
        """Forget a past request to stop: the run was started again on purpose."""
        with readable_errors(self.path / "STOP"):
            (self.path / "STOP").unlink(missing_ok=True)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json`` atomically; numbers that are not finite become null with a reason."""
        write_json(self.metrics, metrics)

    def link_latest(self) -> None:
        """Point the sibling ``latest`` at this directory, in one step.

        It is a convenience: where it cannot be made (no symbolic links, or a real directory of that name) the
        run goes on without.
        """
        latest = self.path.parent / "latest"
        if self.path.name == latest.name:
            return
        partial = latest.with_name(f".latest.{os.getpid()}{PARTIAL_SUFFIX}")
        try:
            partial.unlink(missing_ok=True)
            partial.symlink_to(self.path.name, target_is_directory=True)
            partial.replace(latest)
        except OSError as error:
            partial.unlink(missing_ok=True)
            log.warning("%s was not pointed at %s: %s.", latest, self.path.name, error.strerror)


def config_difference(old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str]) -> list[str]:
    """What differs between two configurations, one line each: ``key: old -> new``.

    >>> config_difference({"lr": 0.1, "task": {"name": "a"}}, {"lr": 0.2, "task": {"name": "b"}}, ignore=["task"])
    ['lr: 0.1 -> 0.2']
    """
    before, after = flattened(old), flattened(new)
    lines = []
    for key in dict.fromkeys([*before, *after]):
        if _ignored(key, ignore):
            continue
        left, right = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if left != right or isinstance(left, bool) != isinstance(right, bool):
            lines.append(f"{key}: {_shown(left)} -> {_shown(right)}")
    return lines


def _ignored(key: str, ignore: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(key, name) or fnmatch.fnmatchcase(key, f"{name}.*") for name in ignore)


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys; an empty mapping is a value.

    >>> flattened({"neck": {"p4": "3x3", "p3": {}}})
    {'neck.p4': '3x3', 'neck.p3': {}}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _shown(value: Any) -> str:
    return value if value == _ABSENT else json.dumps(value, default=str, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
