"""Seconds per suggestion of the sampler with Gaussian processes.

A study of Hartmann's function of six parameters grows to a number of results, with 39 trials running beside; then
every further result is followed by one suggestion, as in a study with 40 slots. One thread. The clock of the wall
is what a user waits for, the clock of the processor what is left of it on a machine without other work.

    python -m benchmarks.suggestion_time --results 100 1000
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from darts_hpo.runs.provenance import provenance
from darts_hpo.space import Float, Point, Space
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Objective
from darts_hpo.tuning.samplers.gp import GPSampler
from darts_hpo.tuning.trial import Result, Trial, TrialState

RESULTS = Path(__file__).parent / "results"
RUNNING = 39
SPACE = Space({f"x{i}": Float(0.0, 1.0) for i in range(6)})

_ALPHA = (1.0, 1.2, 3.0, 3.2)
_A = (
    (10.0, 3.0, 17.0, 3.5, 1.7, 8.0),
    (0.05, 10.0, 17.0, 0.1, 8.0, 14.0),
    (3.0, 3.5, 1.7, 10.0, 17.0, 8.0),
    (17.0, 8.0, 0.05, 10.0, 0.1, 14.0),
)
_P = (
    (1312, 1696, 5569, 124, 8283, 5886),
    (2329, 4135, 8307, 3736, 1004, 9991),
    (2348, 1451, 3522, 2883, 3047, 6650),
    (4047, 8828, 8732, 5743, 1091, 381),
)


def main() -> None:
    """Measure, print a table, and write ``benchmarks/results/suggestion_time.json``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=int, nargs="+", default=[20, 100, 300, 1000], help="results told before")
    parser.add_argument("--suggestions", type=int, default=30, help="measured at each number of results")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f"{'results':>8}{'first s':>10}{'median s':>10}{'p95 s':>8}{'median cpu s':>14}{'p95 cpu s':>11}")
    for number in arguments.results:
        row = measured(number, arguments.suggestions, arguments.seed)
        rows.append(row)
        print(
            f"{number:8}{row['first']:10.2f}{row['median']:10.2f}{row['p95']:8.2f}"
            f"{row['median_cpu']:14.2f}{row['p95_cpu']:11.2f}"
        )
    report = {
        "provenance": provenance(arguments.seed, ["python", "-m", "benchmarks.suggestion_time", *sys.argv[1:]]),
        "running": RUNNING,
        "dimensions": len(SPACE),
        "rows": rows,
    }
    path = RESULTS / "suggestion_time.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"Written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def measured(number: int, suggestions: int, seed: int) -> dict[str, Any]:
    """Seconds from a number of results on; ``first`` is of a sampler that knows nothing, as after a restart."""
    history, sampler = grown(number, seed), GPSampler()
    wall, cpu = [], []
    for call in range(suggestions + 1):
        start, start_cpu = time.perf_counter(), time.process_time()
        point = sampler.suggest(history, seed=seed + call).point
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
        history = told(replace(history, trials=(*history.trials, Trial(len(history), point))))
    return {
        "results": number,
        "first": wall[0],
        "median": statistics.median(wall[1:]),
        "p95": quantile(wall[1:], 0.95),
        "median_cpu": statistics.median(cpu[1:]),
        "p95_cpu": quantile(cpu[1:], 0.95),
        "seconds": [round(value, 4) for value in wall],
    }


def grown(number: int, seed: int) -> History:
    """A study with so many results, half of them spread at random and half around the optimum, as studies have."""
    rng = random.Random(seed)
    optimum = (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)
    trials = []
    for index in range(number + RUNNING):
        if index % 2:
            near = [min(max(value + rng.gauss(0.0, 0.1), 0.0), 1.0) for value in optimum]
            point: Point = {f"x{i}": value for i, value in enumerate(near)}
        else:
            point = SPACE.sample(rng)
        trials.append(Trial(index, point))
    history = History(SPACE, (Objective("value", "minimize"),), tuple(trials))
    for _ in range(number):
        history = told(history)
    return history


def told(history: History) -> History:
    """The history after the oldest running trial has answered."""
    trial = history.running[0]
    value = hartmann6([float(trial.point[f"x{i}"]) for i in range(6)])
    result = Result({"value": value}, order=len(history) - len(history.running))
    trials = list(history.trials)
    trials[trial.number] = replace(trial, state=TrialState.COMPLETED, results=(result,))
    return replace(history, trials=tuple(trials))


def hartmann6(x: list[float]) -> float:
    """Hartmann's function of six parameters in [0, 1]; its minimum is -3.32237."""
    total = 0.0
    for alpha, a, p in zip(_ALPHA, _A, _P, strict=True):
        total += alpha * math.exp(-sum(w * (v - c / 1e4) ** 2 for w, v, c in zip(a, x, p, strict=True)))
    return -total


def quantile(values: list[float], share: float) -> float:
    """The value that a share of the others does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


if __name__ == "__main__":
    main()
