"""What cells say when put together: regrets, ranks, ratios and how sure they are.

A regret is the best loss so far less the smallest there is, in units of a random point's median regret. Regrets below
:data:`FLOOR` count as that: a ten-thousandth of what guessing gives is found for any purpose, and a table's
best entry, whose regret is zero, must not make a mean of logarithms infinite.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.hpo.cells import Cell

FLOOR = 1e-4

Array = NDArray[np.float64]
Block = tuple[str, int]
"""A problem and a seed: where methods are compared with each other."""


def finish_times(seconds: Sequence[float], thinking: Sequence[float], slots: int) -> tuple[Array, Array]:
    """When trials end if thinking takes no time, and if it takes what it took.

    The second clock replays the first: every suggestion is made from the same answers as it was made from, so it waits
    until those are there, and one suggestion at a time is thought of. Where trials are short and thinking is long this
    is somewhat hard on a slow method, which in truth would have had more answers by then.

    Args:
        seconds: of each trial, in the order of asking.
        thinking: seconds before each trial.
        slots: trials at once.

    Returns:
        Two arrays of simulated seconds, ``[trials]``, in the order of asking.
    """
    plain, charged = np.zeros(len(seconds)), np.zeros(len(seconds))
    running: list[tuple[float, int]] = []
    now = idle_since = answers_at = 0.0
    for index, (duration, thought) in enumerate(zip(seconds, thinking, strict=True)):
        if len(running) == slots:
            now = running[0][0]
            while running and running[0][0] <= now:
                answers_at = max(answers_at, charged[heapq.heappop(running)[1]])
        idle_since = max(idle_since, answers_at) + thought
        plain[index], charged[index] = now + duration, idle_since + duration
        heapq.heappush(running, (plain[index], index))
    return plain, charged


@dataclass(frozen=True)
class Course:
    """How the regret of one cell fell.

    Args:
        by_trial: after each trial that ended, ``[trials]``; infinite before the first that did not fail.
        finished: the same trials' ends on the clock that thinking is charged to, sorted, ``[trials]``.
        by_time: regret at each of these.
    """

    by_trial: Array
    finished: Array
    by_time: Array

    def at(self, seconds: float) -> float:
        """Regret at a time; infinite before the first answer."""
        count = int(np.searchsorted(self.finished, seconds, side="right"))
        return float(self.by_time[count - 1]) if count else np.inf


def course(cell: Cell, slots: int, best: float, unit: float) -> Course:
    """The course of a cell.

    Args:
        cell: that did not come to nothing.
        slots: trials at once.
        best: smallest loss of the problem.
        unit: regret that counts as 1.
    """
    regrets = np.array([np.inf if loss is None else max((loss - best) / unit, FLOOR) for loss in cell.losses])
    plain, charged = finish_times(cell.seconds, cell.cpu, slots)
    in_order, in_time = np.argsort(plain, kind="stable"), np.argsort(charged, kind="stable")
    return Course(np.minimum.accumulate(regrets[in_order]), charged[in_time], np.minimum.accumulate(regrets[in_time]))


def median_band(values: Array, level: float = 0.95, resamples: int = 1000) -> tuple[Array, Array, Array]:
    """Median over the first axis, with a bootstrap confidence band.

    Args:
        values: ``[seeds, ...]``; may hold infinities.
        level: of confidence.
        resamples: of the seeds.

    Returns:
        Median, lower and upper bound, each ``[...]``.
    """
    rng = np.random.default_rng(0)
    picks = rng.integers(len(values), size=(resamples, len(values)))
    # Sorting instead of interpolating keeps infinities from becoming NaN.
    medians = np.sort(_median(values[picks], axis=1), axis=0)
    low, high = (round(share * (resamples - 1)) for share in ((1 - level) / 2, (1 + level) / 2))
    return _median(values, axis=0), medians[low], medians[high]


def _median(values: Array, axis: int) -> Array:
    ordered = np.sort(values, axis=axis)
    count = values.shape[axis]
    lower, upper = (np.take(ordered, index, axis=axis) for index in ((count - 1) // 2, count // 2))
    return np.where(np.isinf(upper), upper, (lower + np.where(np.isinf(upper), 0.0, upper)) / 2)


def ranks(regrets: Mapping[str, Mapping[Block, float]]) -> dict[Block, dict[str, float]]:
    """Rank of each method in each block that all have: 1 is best, equals share the mean of their ranks.

    Args:
        regrets: of each method in each block.
    """
    methods = list(regrets)
    common = set.intersection(*(set(blocks) for blocks in regrets.values())) if methods else set()
    return {
        block: dict(zip(methods, map(float, stats.rankdata([regrets[name][block] for name in methods])), strict=True))
        for block in sorted(common)
    }


@dataclass(frozen=True)
class Estimate:
    """A mean with a bootstrap interval."""

    mean: float
    low: float
    high: float


def mean_over_problems(values: Mapping[Block, float], level: float = 0.95, resamples: int = 1000) -> Estimate:
    """Mean over problems of the mean over seeds; the interval is for other seeds of the same problems.

    Args:
        values: one per block, at least one.
        level: of confidence.
        resamples: of the seeds of each problem.
    """
    rng = np.random.default_rng(0)
    problems: dict[str, list[float]] = {}
    for (name, _), value in values.items():
        problems.setdefault(name, []).append(value)
    groups = [np.array(group) for group in problems.values()]
    draws = np.mean(
        [group[rng.integers(len(group), size=(resamples, len(group)))].mean(axis=1) for group in groups], axis=0
    )
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(np.mean([group.mean() for group in groups])), float(low), float(high))


@dataclass(frozen=True)
class Comparison:
    """One method against another.

    Args:
        ratio: geometric mean over problems of its regret by the other's: below 1 it is better.
        per_problem: the same on each problem.
        p_problems: two-sided Wilcoxon signed-rank test over the problems' mean log ratios.
        p_cells: the same over all pairs of equal problem and seed number.
        pairs: how many those were.
    """

    ratio: Estimate
    per_problem: Mapping[str, float]
    p_problems: float
    p_cells: float
    pairs: int


def compare(ours: Mapping[Block, float], others: Mapping[Block, float]) -> Comparison | None:
    """Regrets of two methods, block by block; None where they share none."""
    shared = sorted(
        block for block in ours.keys() & others.keys() if np.isfinite(ours[block]) and np.isfinite(others[block])
    )
    if not shared:
        return None
    logs = {block: float(np.log(ours[block] / others[block])) for block in shared}
    names = sorted({name for name, _ in shared})
    per_problem = {name: float(np.mean([logs[b] for b in shared if b[0] == name])) for name in names}
    mean = mean_over_problems(logs)
    return Comparison(
        ratio=Estimate(*(float(np.exp(value)) for value in (mean.mean, mean.low, mean.high))),
        per_problem={name: float(np.exp(value)) for name, value in per_problem.items()},
        p_problems=_wilcoxon(list(per_problem.values())),
        p_cells=_wilcoxon(list(logs.values())),
        pairs=len(shared),
    )


def _wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p-value of the signed-rank test; 1 where nothing differs."""
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)
