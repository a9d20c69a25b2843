"""What samplers that choose the budget themselves save, against Bayesian optimization with full trials only.

    python -m benchmarks.fidelity [--problems ...] [--methods ...] [--seeds 0 1 2 3 4]

A trial at share ``s`` of the budget takes ``60 (0.02 + s)`` seconds on a simulated clock, one trial at a time; a full
trial is 61.2 of them. After every second trial each method says which point it believes to be the best, and the true
regret of that point at ``s = 1`` counts, whether it was ever run there or not. Printed is what had been spent, in full
trials, when the regret first reached the target: the median over seeds, then every seed; ``-`` where it did not
within 20 full trials or 80 trials. Observations have no noise.

Finished runs are kept in ``benchmarks/results/fidelity.json`` and not repeated: kill it and start it again.

The problems: ``curves`` and ``hartmann`` are validation errors that fall with the share like ``s^-0.5`` towards a value
that depends on the point, the smaller the share the further the optimum is off; ``branin`` is BoTorch's augmented
Branin function, whose valleys move with the fidelity in a way that none of the models assumes.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darts_hpo.runs.files import write_text
from darts_hpo.space import Float, Point, Space
from darts_hpo.tuning import events
from darts_hpo.tuning.acquisitions.per_cost import MaxValueEntropy
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective
from darts_hpo.tuning.samplers.base import Sampler
from darts_hpo.tuning.samplers.fabolas import FabolasSampler
from darts_hpo.tuning.samplers.fidelity_aware import FidelityAwareSampler
from darts_hpo.tuning.samplers.gp import GPSampler
from darts_hpo.tuning.samplers.multi_fidelity import MultiFidelitySampler
from darts_hpo.tuning.samplers.multi_task import MultiTaskSampler
from darts_hpo.tuning.samplers.random import RandomSampler

RESULTS = Path(__file__).resolve().parent / "results" / "fidelity.json"
FIDELITY = Fidelity(1 / 64, 1.0, resumes=False, integer=False)
FULL_SECONDS = 61.2
MOST_SPENT, MOST_TRIALS = 20.0, 80


@dataclass(frozen=True)
class Problem:
    """A loss that depends on a share of the budget.

    Args:
        space: of the points.
        loss: of a point at a share.
        optimum: smallest loss at the full budget.
        target: regret to reach.
    """

    space: Space
    loss: Callable[[Point, float], float]
    optimum: float
    target: float

    def regret(self, point: Point) -> float:
        """At the full budget."""
        return self.loss(point, 1.0) - self.optimum


def curves(point: Point, share: float) -> float:
    """Two hyperparameters, smooth, one basin with a ripple."""
    a, b = float(point["a"]) - 0.65, float(point["b"]) - 0.3
    bowl = 1.0 - math.exp(-(10 * a * a + 7 * b * b + 6 * a * b))
    return 0.05 + 0.45 * bowl + 0.02 * (1.0 - math.cos(12 * a)) + 0.04 * (share**-0.5 - 1.0) * (0.4 + a + 0.65)


_H3_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_H3_A = np.array([[3.0, 10, 30], [0.1, 10, 35], [3.0, 10, 30], [0.1, 10, 35]])
_H3_P = 1e-4 * np.array([[3689.0, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]])


def hartmann(point: Point, share: float) -> float:
    """Three hyperparameters, four basins."""
    x = np.array([point["a"], point["b"], point["c"]], dtype=np.float64)
    depth = float(_H3_ALPHA @ np.exp(-(_H3_A * (x - _H3_P) ** 2).sum(axis=1)))
    gap = 0.03 * (share**-0.5 - 1.0) * (0.3 + x[0] ** 2 + 0.5 * (1.0 - x[2]))
    return 0.05 + 0.12 * (3.86278 - depth) + float(gap)


def branin(point: Point, share: float) -> float:
    """Two parameters; BoTorch's ``AugmentedBranin``."""
    x, y = float(point["a"]), float(point["b"])
    valley = y - (5.1 / (4 * math.pi**2) - 0.1 * (1 - share)) * x * x + 5 / math.pi * x - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


PROBLEMS: Mapping[str, Problem] = {
    "curves": Problem(Space({"a": Float(0, 1), "b": Float(0, 1)}), curves, 0.05, 0.005),
    "hartmann": Problem(Space({"a": Float(0, 1), "b": Float(0, 1), "c": Float(0, 1)}), hartmann, 0.05, 0.02),
    "branin": Problem(Space({"a": Float(-5, 10), "b": Float(0, 15)}), branin, 0.397887, 0.5),
}
METHODS: Mapping[str, Callable[[], Sampler]] = {
    "random": RandomSampler,
    "gp": GPSampler,
    "fabolas": FabolasSampler,
    "fabolas-mes": lambda: FabolasSampler(MaxValueEntropy()),
    "multi_fidelity": MultiFidelitySampler,
    "multi_task": MultiTaskSampler,
}
"""``random`` and ``gp`` run full trials only."""


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    done: dict[str, dict[str, object]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for seed in arguments.seeds:
        for problem in arguments.problems:
            for method in arguments.methods:
                name = f"{problem}/{method}/{seed}"
                if name not in done:
                    done[name] = run(PROBLEMS[problem], METHODS[method](), seed)
                    write_text(RESULTS, json.dumps(done, indent=1, sort_keys=True) + "\n")
    for line in table(done, arguments.problems, arguments.methods, arguments.seeds):
        print(line)


def run(problem: Problem, sampler: Sampler, seed: int) -> dict[str, object]:
    """One study, until the target is reached or the limits are.

    Returns:
        ``spent`` in full trials and ``regret``, parallel lists; ``seconds_per_suggestion``, a median of CPU time;
        ``trials``.
    """
    history = History(problem.space, (Objective("loss", "minimize"),), fidelity=FIDELITY)
    chooses = isinstance(sampler, FidelityAwareSampler)
    spent, curve, took = 0.0, list[tuple[float, float]](), []
    while spent < MOST_SPENT and len(history) < MOST_TRIALS and not (curve and curve[-1][1] <= problem.target):
        number, begun = len(history), time.process_time()
        suggestion = sampler.suggest(
            history, seed=events.suggestion_seed(seed, number), budget=None if chooses else FIDELITY.maximum
        )
        took.append(time.process_time() - begun)
        share = FIDELITY.maximum if suggestion.budget is None else suggestion.budget
        seconds = 60 * (0.02 + share)
        history = events.start(events.ask(history, suggestion.point, budget=share, source=sampler.name), number)
        history = events.tell(history, number, {"loss": problem.loss(suggestion.point, share)}, seconds=seconds)
        spent += seconds / FULL_SECONDS
        if number % 2:
            curve.append((spent, problem.regret(believed_best(sampler, history))))
    return {
        "spent": [round(cost, 4) for cost, _ in curve],
        "regret": [round(regret, 6) for _, regret in curve],
        "seconds_per_suggestion": round(statistics.median(took), 3),
        "trials": len(history),
    }


def believed_best(sampler: Sampler, history: History) -> Point:
    """The point that a method would hand over now."""
    if isinstance(sampler, FidelityAwareSampler):
        incumbent = sampler.incumbent(history)
        assert incumbent is not None
        return incumbent.point
    best = history.best()
    assert best is not None
    return best[0].point


def spent_until(result: Mapping[str, object], target: float) -> float:
    """Full trials until the regret first reached a target; infinite where it did not."""
    spent, regret = result["spent"], result["regret"]
    assert isinstance(spent, list)
    assert isinstance(regret, list)
    return next((cost for cost, value in zip(spent, regret, strict=True) if value <= target), math.inf)


def table(
    done: Mapping[str, Mapping[str, object]], problems: list[str], methods: list[str], seeds: list[int]
) -> list[str]:
    """Lines: full trials spent until the target, median and every seed, and seconds per suggestion."""
    lines = []
    for problem in problems:
        target = PROBLEMS[problem].target
        lines.append(f"{problem}: full trials spent until a regret of {target}")
        for method in methods:
            results = [done[f"{problem}/{method}/{seed}"] for seed in seeds if f"{problem}/{method}/{seed}" in done]
            costs = [spent_until(result, target) for result in results]
            each = " ".join("-" if math.isinf(cost) else f"{cost:.1f}" for cost in costs)
            middle = statistics.median(costs)
            seconds = statistics.median(float(str(result["seconds_per_suggestion"])) for result in results)
            shown = "-" if math.isinf(middle) else f"{middle:.1f}"
            lines.append(f"  {method:15s} {shown:>6s}   ({each})   {seconds:.2f} s per suggestion")
    return lines


if __name__ == "__main__":
    main()
