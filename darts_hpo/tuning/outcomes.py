"""What the trials of a study were worth, as arrays that a model can be fitted to.

Three steps, each optional after the first::

    outcomes = observed(history)                  # finite results at one budget
    outcomes = with_failures(outcomes, history)   # failed trials join with the worst finite gains
    y = scalarized(outcomes, rng)                 # one robust number per point for a surrogate, or
    best_first = ranking(outcomes)                # an order for models that only split good from bad

NaN and infinities never get in; a diverged 1e30 does not get past :func:`robust`. More is always better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from darts_hpo.space import Point, Value
from darts_hpo.tuning.history import History
from darts_hpo.tuning.trial import Result, Trial, TrialState

_HEADROOM = 64.0
"""Differences of values near the largest float must not overflow; dividing by a power of two is exact."""


@dataclass(frozen=True)
class Outcomes:
    """Points with what they were worth at one budget.

    Args:
        points: n of them, in the order of arrival; failed ones last.
        gains: shape ``[n, m]``, one column per objective, more is better, all finite.
        violations: shape ``[n, c]``, one column per outcome constraint, at most 0 where it holds.
        failed: shape ``[n]``, true where the gains are imputed and not observed.
        budget: at which all were observed; None where the study knows no budgets.
    """

    points: tuple[Point, ...]
    gains: NDArray[np.float64]
    violations: NDArray[np.float64]
    failed: NDArray[np.bool_]
    budget: float | None

    def __len__(self) -> int:
        return len(self.points)

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Shape ``[n]``: observed, and every outcome constraint holds."""
        return np.asarray((self.violations <= 0.0).all(axis=1) & ~self.failed, dtype=np.bool_)


def observed(history: History, minimum: int = 1, *, pooled: bool = False) -> Outcomes:
    """The finite results at the largest budget with at least ``minimum`` results.

    Where no budget has that many, the best-filled one is taken (:meth:`History.largest_budget`).

    Args:
        history: the study so far.
        minimum: results needed.
        pooled: repetitions of a trial on other seeds are averaged into its row; otherwise each is a row.
    """
    return observed_at(history, history.largest_budget(minimum), pooled=pooled)


def observed_at(history: History, budget: float | None, *, pooled: bool = False) -> Outcomes:
    """The finite results at exactly one budget; see :func:`observed`."""
    rows: dict[int, list[tuple[Mapping[str, Value], list[float], list[float]]]] = {}
    for trial, result in history.at(budget):
        gains, violations = _gains(history, result), _violations(history, result)
        if np.isfinite(gains).all() and np.isfinite(violations).all():
            original = trial.replicate_of if pooled and trial.replicate_of is not None else trial.number
            rows.setdefault(original, []).append((trial.point, gains, violations))
    n = len(rows)
    mean_gains = [np.mean([row[1] for row in group], axis=0) for group in rows.values()]
    mean_violations = [np.mean([row[2] for row in group], axis=0) for group in rows.values()]
    return Outcomes(
        points=tuple(group[0][0] for group in rows.values()),
        gains=np.array(mean_gains, dtype=np.float64).reshape(n, len(history.objectives)),
        violations=np.array(mean_violations, dtype=np.float64).reshape(n, len(history.constraints)),
        failed=np.zeros(n, dtype=np.bool_),
        budget=budget,
    )


def with_failures(outcomes: Outcomes, history: History, *, same_budget: bool = False) -> Outcomes:
    """The outcomes with failed trials added at the worst finite gain (and violation) of each column.

    So the region is avoided without destroying the scale. Where nothing was observed, their gains are 0.
    In a study without budgets, a trial that a scheduler stopped before its end joins too: with the last value it
    had, but at most the median of what was observed, for it was stopped because others did better.

    Args:
        outcomes: of :func:`observed`.
        history: the same study.
        same_budget: count only failures on the way to ``outcomes.budget``; otherwise all of them.
    """
    added = [trial for trial in history.trials if _gave_nothing(trial, outcomes.budget, same_budget)]
    if not added:
        return outcomes
    m, c = outcomes.gains.shape[1], outcomes.violations.shape[1]
    known = len(outcomes) > 0
    worst = outcomes.gains.min(axis=0) if known else np.zeros(m)
    middle = np.median(outcomes.gains, axis=0) if known else np.zeros(m)
    gains = np.tile(worst, (len(added), 1))
    for row, trial in enumerate(added):
        last = _last_gains(history, trial) if trial.state is TrialState.STOPPED else None
        if last is not None:
            gains[row] = np.minimum(last, middle) if known else last
    violations = np.tile(outcomes.violations.max(axis=0, initial=0.0), (len(added), 1)).reshape(len(added), c)
    return replace(
        outcomes,
        points=(*outcomes.points, *(trial.point for trial in added)),
        gains=np.concatenate([outcomes.gains, gains]),
        violations=np.concatenate([outcomes.violations, violations]),
        failed=np.concatenate([outcomes.failed, np.ones(len(added), dtype=np.bool_)]),
    )


def pending(history: History) -> tuple[Point, ...]:
    """Points whose answer is still out, repetitions included."""
    return tuple(trial.point for trial in history.running)


def robust(values: NDArray[np.float64], fence: float = 3.0) -> NDArray[np.float64]:
    """The values with outliers drawn in, so that diverged trials do not hide all differences between others.

    Far below the lower quartile values are cut off, for how bad does not matter. Equally far above the upper one,
    where the best values are, they are compressed by a logarithm and keep their order. Since trials diverge to one
    side only, the half above the median also bounds what counts as usual below it: up to half of the trials may
    have diverged.

    Args:
        values: shape ``[n]`` or ``[n, m]`` (each column by itself), finite, more is better.
        fence: how far, in interquartile ranges; 3 is Tukey's "far out".

    Returns:
        The same shape.
    """
    if values.size == 0:
        return values.copy()
    if values.ndim == 2:
        return np.stack([robust(column, fence) for column in values.T], axis=1)
    scaled = values / _HEADROOM
    middle, above = float(np.median(scaled)), 0.0
    for share in (0.75, 0.9, 0.95, 1.0):  # wider where many values are equal
        above = float(np.quantile(scaled, share)) - middle
        if above > 0.0:
            break
    else:
        # Nothing but the middle value and worse: how much worse has no scale to be measured on.
        return np.maximum(values, float(np.median(values)) - 1.0)
    below = min(middle - float(np.quantile(scaled, 0.25)), 10.0 * above)
    spread = below + above
    bottom, top = middle - below - fence * spread, middle + above + fence * spread
    result = np.maximum(scaled, bottom)
    high = result > top
    result[high] = top + spread * np.log1p((result[high] - top) / spread)
    return np.asarray(result * _HEADROOM, dtype=np.float64)


def ranking(outcomes: Outcomes) -> NDArray[np.intp]:
    """Indices of the points, best first.

    Feasible points come first, by gain (several objectives: by nondominated front, within a front the less
    crowded first; Deb et al. 2002), then those that violate constraints, by how much, then failed ones.
    Equals keep their order of arrival.
    """
    n = len(outcomes)
    merit = np.zeros(n)
    feasible = outcomes.feasible
    if outcomes.gains.shape[1] == 1:
        merit = outcomes.gains[:, 0]
    elif feasible.any():
        merit[feasible] = _front_merit(outcomes.gains[feasible])
    violated = ~feasible & ~outcomes.failed
    if violated.any():
        merit = np.where(violated, -total_violation(outcomes), merit)
    tier = np.where(feasible, 0, np.where(violated, 1, 2))
    return np.lexsort((np.arange(n), -merit, tier))


def total_violation(outcomes: Outcomes) -> NDArray[np.float64]:
    """Shape ``[n]``: the sum of positive violations, each in units of its largest."""
    positive = np.maximum(outcomes.violations, 0.0)
    largest = positive.max(axis=0, initial=0.0)
    return np.asarray((positive / np.where(largest > 0.0, largest, 1.0)).sum(axis=1), dtype=np.float64)


def scalarized(outcomes: Outcomes, rng: np.random.Generator) -> NDArray[np.float64]:
    """One finite number per point for a surrogate, more is better, outliers drawn in.

    One objective: its gain. Several: the augmented Tchebycheff function of the gains scaled to ``[0, 1]``, with
    weights drawn uniformly from the simplex at every call (ParEGO: Knowles 2006, eq. 2). A point that violates a
    constraint is worth less than every feasible one, the less the more it violates.

    Args:
        outcomes: with or without failures.
        rng: draws the weights; untouched for one objective.

    Returns:
        Shape ``[n]``.
    """
    if len(outcomes) == 0:
        return np.zeros(0)
    gains = robust(outcomes.gains)
    m = gains.shape[1]
    if m == 1:
        merit = gains[:, 0]
    else:
        low, high = gains.min(axis=0), gains.max(axis=0)
        regret = (high - gains) / np.where(high > low, high - low, 1.0)
        weighted = regret * rng.dirichlet(np.ones(m))
        merit = -(weighted.max(axis=1) + 0.05 * weighted.sum(axis=1))
    if not outcomes.violations.shape[1]:
        return np.asarray(merit, dtype=np.float64)
    violation = robust(-total_violation(outcomes))
    feasible = outcomes.feasible
    if not feasible.any():
        return violation
    good = merit[feasible]
    unit = max(float(np.ptp(good)), 1e-12 * max(1.0, float(np.abs(good).max())))
    infeasible = float(good.min()) - 0.1 * unit + unit * violation / max(float(np.abs(violation).max()), 1e-300)
    return np.where(feasible, merit, infeasible)


def _front_merit(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minus the number of the front, plus up to a half for lying alone in it."""
    fronts = nondominated_fronts(gains)
    merit = np.zeros(len(gains))
    for front in range(int(fronts.max()) + 1):
        members = np.flatnonzero(fronts == front)
        distance = _crowding(gains[members])
        merit[members] = -front + 0.5 * distance / (1.0 + distance)
    return merit


def nondominated_fronts(gains: NDArray[np.float64]) -> NDArray[np.intp]:
    """The front of each point, from 0: fronts are peeled off one after the other.

    Args:
        gains: shape ``[n, m]``, more is better.

    Returns:
        Shape ``[n]``.
    """
    no_worse = (gains[:, None, :] >= gains[None, :, :]).all(axis=2)
    better = (gains[:, None, :] > gains[None, :, :]).any(axis=2)
    dominates = no_worse & better  # [i, j]: i dominates j
    fronts = np.full(len(gains), -1, dtype=np.intp)
    front = 0
    while (fronts < 0).any():
        left = fronts < 0
        free = left & ~(dominates & left[:, None]).any(axis=0)
        fronts[free] = front
        front += 1
    return fronts


def _crowding(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Crowding distances within a front; its ends get a large finite one."""
    n, m = gains.shape
    distance = np.zeros(n)
    for column in gains.T:
        order = np.argsort(column, kind="stable")
        span = max(float(np.ptp(column)), 1e-300)
        distance[order[[0, -1]]] += 2.0 * m
        distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def _gains(history: History, result: Result) -> list[float]:
    return [history.gain(result, index) for index in range(len(history.objectives))]


def _violations(history: History, result: Result) -> list[float]:
    return [constraint.violation(result.values[constraint.name]) for constraint in history.constraints]


def _gave_nothing(trial: Trial, budget: float | None, same_budget: bool) -> bool:
    if trial.at(budget) is not None:
        return False
    if trial.state is TrialState.FAILED:
        return not same_budget or trial.budget == budget
    return trial.state is TrialState.STOPPED and budget is None


def _last_gains(history: History, trial: Trial) -> list[float] | None:
    """What a stopped trial was worth when it was stopped: its last result, or else its last report."""
    if trial.last is not None:
        gains = _gains(history, trial.last)
        return gains if np.isfinite(gains).all() else None
    finite = {step: value for step, value in trial.reports.items() if np.isfinite(value)}
    return [history.objectives[0].gain(finite[max(finite)])] if finite and len(history.objectives) == 1 else None
