"""``metrics.json``: how far a run is, what it found and what every stage took."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from darts_hpo.errors import RunStopped
from darts_hpo.runs.directory import RunDirectory
from darts_hpo.training.resources import StageUsage, measured

METRICS_SCHEMA_VERSION = 1


class Ledger:
    """The content of ``metrics.json``, written at every change.

    Args:
        directory: of the run; what an earlier start stored there is kept.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self.metrics: dict[str, Any] = {
            "schema_version": METRICS_SCHEMA_VERSION,
            "status": "RUNNING",
            "reason": None,
            "primary_metric": None,
            "found": None,
            "reference": None,
            "random": [],
            "search": None,
            "paused": None,
            "export": None,
            "cost_labels": {},
            "stages": {},
        } | _stored(directory)

    def __getitem__(self, key: str) -> Any:
        return self.metrics[key]

    def store(self, **values: Any) -> None:
        """Set top-level keys and write the file."""
        self.metrics |= values
        self._directory.write_metrics(self.metrics)

    def status(self, status: str, reason: str | None = None) -> None:
        """Say where the run stands."""
        self.store(status=status, reason=reason)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what a stage takes; time and memory of several starts are put together.

        Raises:
            RunStopped: a STOP file asks the run to end before the stage.
        """
        if self._directory.stop_requested():
            raise RunStopped(f"STOP was found before the stage {name}. The same command continues.")
        usage = StageUsage()
        try:
            with measured(usage):
                yield
        finally:  # a stage that was stopped has used its share too
            earlier = self.metrics["stages"].get(name, {})
            self.metrics["stages"][name] = {
                "seconds": earlier.get("seconds", 0.0) + usage.seconds,
                "peak_memory_mb": max(earlier.get("peak_memory_mb", 0.0), usage.peak_memory_mb),
                "peak_gpu_memory_mb": max(earlier.get("peak_gpu_memory_mb", 0.0), usage.peak_gpu_memory_mb),
            }
        self._directory.write_metrics(self.metrics)


def _stored(directory: RunDirectory) -> dict[str, Any]:
    try:
        content = json.loads(directory.metrics.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}
