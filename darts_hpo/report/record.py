"""What a run directory says, read tolerantly: every part may be absent, unfinished or damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from darts_hpo.errors import RunDirectoryError
from darts_hpo.runs import EpochLog, EpochTable, RunDirectory, RunStatus

Row: TypeAlias = dict[str, Any]

STAGES = ("search", "retrain", "reference")
"""Stages whose curves are shown; those of random networks are not."""


@dataclass(frozen=True)
class RunRecord:
    """Everything a report is made from.

    Attributes:
        name: experiment and run, the last two parts of the path.
        status: where the run stands.
        reason: why it failed or stopped.
        config: the text of ``config.yaml``.
        provenance: ``provenance.json``.
        genotype: ``genotype.json``.
        metrics: ``metrics.json``.
        alphas: lines of ``search/alphas.jsonl``.
        tables: rows of ``metrics.csv`` of each of :data:`STAGES`.
        files: paths, relative to the directory, of what a reader may want to open.
        notes: what could not be read, for the reader to know.
    """

    name: str
    status: RunStatus
    reason: str | None
    config: str
    provenance: Mapping[str, Any]
    genotype: Mapping[str, Any]
    metrics: Mapping[str, Any]
    alphas: list[Row]
    tables: Mapping[str, list[Row]]
    files: list[tuple[str, int]]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, run_dir: Path) -> RunRecord:
        """Read what there is.

        Raises:
            RunDirectoryError: there is no such directory.
        """
        run = RunDirectory(run_dir)
        if not run.path.is_dir():
            raise RunDirectoryError(f"There is no run directory at {run.path}.")
        notes: list[str] = []
        metrics = _json(run.metrics, notes)
        resolved = run.path.resolve()
        return cls(
            name=f"{resolved.parent.name}/{resolved.name}",
            status=run.status(),
            reason=_text(metrics.get("reason")),
            config=_read(run.config, notes),
            provenance=_json(run.provenance, notes),
            genotype=_json(run.genotype, notes),
            metrics=metrics,
            alphas=[row for row in _log(run.search / "alphas.jsonl", notes) if probabilities(row)],
            tables={stage: _table(run.path / stage / "metrics.csv", notes) for stage in STAGES},
            files=_files(run),
            notes=[note.replace(f"{run.path}/", "") for note in notes],  # a report is passed on
        )

    @property
    def choices(self) -> dict[str, str]:
        """Choice to option of the found architecture; before it is written, the best so far."""
        found = mapping(self.genotype, "choices")
        if found:
            order = {name: position for position, name in enumerate(self.final_probabilities)}  # the network's
            names = sorted(found, key=lambda name: order.get(name, len(order)))
            return {name: str(found[name]) for name in names}
        if not self.alphas:
            return {}
        return {name: max(options, key=options.__getitem__) for name, options in self.final_probabilities.items()}

    @property
    def final_probabilities(self) -> dict[str, dict[str, float]]:
        """Probabilities of the options of every choice when the search ended (or so far)."""
        recorded = probabilities(self.genotype)
        return recorded or (probabilities(self.alphas[-1]) if self.alphas else {})

    @property
    def primary_metric(self) -> str | None:
        """Name of the metric that selections maximize."""
        return _text(self.metrics.get("primary_metric"))


def mapping(data: Any, *keys: str) -> Mapping[str, Any]:
    """The mapping at a path of keys; empty where there is none."""
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def random_networks(metrics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The random networks of ``metrics.json``, in the order in which they were drawn."""
    entries = metrics.get("random")
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def number(value: Any) -> float | None:
    """A finite number, or nothing."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def numbers(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | None]]:
    """Names and values of a nested mapping's numbers; None where one was not finite."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{key}/")
        elif value is None or number(value) is not None:
            yield f"{prefix}{key}", number(value)


def probabilities(data: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The well-formed part of ``probabilities``: choice to option to probability."""
    result = {}
    for choice, options in mapping(data, "probabilities").items():
        if isinstance(options, Mapping) and options:
            values = {str(option): number(p) for option, p in options.items()}
            if all(p is not None for p in values.values()):
                result[str(choice)] = {option: p for option, p in values.items() if p is not None}
    return result


def column(rows: list[Row], name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of one column, rows without a number left out."""
    epochs, values = [], []
    for row in rows:
        epoch, value = number(row.get("epoch")), number(row.get(name))
        if epoch is not None and value is not None:
            epochs.append(epoch)
            values.append(value)
    return epochs, values


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _read(path: Path, notes: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        notes.append(f"{path.name} could not be read: {error}.")
        return ""


def _json(path: Path, notes: list[str]) -> Mapping[str, Any]:
    text = _read(path, notes)
    if not text:
        return {}
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        notes.append(f"{path.name} is not JSON: {error}.")
        return {}
    if not isinstance(data, dict):
        notes.append(f"{path.name} is not a JSON object.")
        return {}
    return data


def _log(path: Path, notes: list[str]) -> list[Row]:
    try:
        return EpochLog(path).rows()
    except (RunDirectoryError, OSError) as error:
        notes.append(str(error))
        return []


def _table(path: Path, notes: list[str]) -> list[Row]:
    try:
        return [dict(row) for row in EpochTable(path).rows()]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        notes.append(f"{path.parent.name}/{path.name} could not be read: {error}.")
        return []


def _files(run: RunDirectory) -> list[tuple[str, int]]:
    candidates = [
        *sorted(run.export.glob("*")),
        run.genotype,
        run.metrics,
        run.config,
        run.provenance,
        run.search / "alphas.jsonl",
        *(run.path / stage / "metrics.csv" for stage in STAGES),
        run.retrain / "best.ckpt",
    ]
    return [(p.relative_to(run.path).as_posix(), p.stat().st_size) for p in candidates if p.is_file()]
