"""One cell: a method on a problem in a mode with a seed. Done once, kept in a file, never repeated."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.hpo.methods import Method
from benchmarks.hpo.problems import Problem
from benchmarks.hpo.worker import RemoteTuner, WorkerDied
from darts_hpo.space import Point
from darts_hpo.tuning.simulation import simulate

RESULTS = Path(__file__).resolve().parents[1] / "results" / "hpo"


@dataclass(frozen=True)
class Mode:
    """How trials are run.

    Args:
        name: as on the command line.
        slots: trials at once.
        trials: in all.
    """

    name: str
    slots: int
    trials: int = 100


MODES = {mode.name: mode for mode in (Mode("async40", 40), Mode("sequential", 1))}

SEQUENTIAL_PROBLEMS = ("hartmann6", "mlp_vehicle", "curves_lstm")


@dataclass(frozen=True)
class Cell:
    """What one run of a method gave, trials in the order of asking.

    Args:
        seed: of the method.
        losses: None where a trial failed.
        seconds: of each trial, on the simulated clock.
        cpu: seconds of processor time that the method took before each trial, telling it of others included.
        wall: seconds by the clock on the wall in all, on a machine that may have been busy with other things.
        failures: of the method's own calls, as it worded them.
        error: why the run came to nothing; there is nothing else then.
        code: what computed it: a peer's release, or a digest of our sampler's source.
    """

    seed: int
    losses: Sequence[float | None] = ()
    seconds: Sequence[float] = ()
    cpu: Sequence[float] = ()
    wall: float = 0.0
    failures: Sequence[str] = ()
    error: str | None = None
    code: str = ""


def run_cell(method: Method, problem: Problem, mode: Mode, seed: int) -> Cell:
    """Let a method choose all trials, on the simulated clock."""

    def evaluate(point: Point, budget: float | None, previous: float) -> tuple[float | None, float]:
        answer = problem.evaluate(point)
        return answer.loss, answer.seconds

    with tempfile.TemporaryFile() as log:
        try:
            with RemoteTuner(method, problem.space, seed, mode.trials, log) as tuner:
                # Thinking is not charged here, so that a busy machine changes no result; the time it takes is
                # put on the clock afterwards, by statistics.finish_times.
                trace = simulate(tuner, evaluate, slots=mode.slots, runs=mode.trials)
        except WorkerDied as died:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-1:]
            return Cell(seed, error=": ".join([str(died), *last]), code=method.code)
    return Cell(
        seed,
        losses=[None if run.value is None else _rounded(run.value, 9) for run in trace.runs],
        seconds=[_rounded((run.finished or 0.0) - run.started, 6) for run in trace.runs],
        cpu=[_rounded(value, 3) for value in tuner.cpu],
        wall=_rounded(tuner.wall, 4),
        failures=tuner.failures,
        code=method.code,
    )


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def path_of(mode: str, problem: str, method: str, folder: Path = RESULTS) -> Path:
    """The file of one method on one problem in one mode."""
    return folder / mode / f"{problem}--{method}.json"


def read(path: Path) -> dict[int, Cell]:
    """The cells of a file by seed; none where there is no file."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    return {cell["seed"]: Cell(**cell) for cell in stored["cells"]}


def write(path: Path, cells: dict[int, Cell], **facts: Any) -> None:
    """Put cells into a file, whole or not at all; one line per seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(asdict(cells[seed]), separators=(",", ":")) for seed in sorted(cells))
    head = json.dumps(facts)[1:-1]
    text = f'{{{head + ", " if head else ""}"cells": [\n{lines}\n]}}\n'
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)
