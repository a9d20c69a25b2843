"""The results of a study as data for Gaussian processes, and the processes fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darts_hpo.space import Point
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.history import History
from darts_hpo.tuning.outcomes import Outcomes, observed, robust, with_failures
from darts_hpo.tuning.surrogates.fitting import Fitter
from darts_hpo.tuning.surrogates.gaussian_process import GaussianProcess
from darts_hpo.tuning.surrogates.scaling import HalfRankScaling, OutcomeScaling, Scale, Scaling
from darts_hpo.tuning.trial import TrialState

Failures: TypeAlias = Literal["impute", "ignore", "feasibility"]

_FENCE = 2.0
_DIVERGED = 10.0


@dataclass(frozen=True)
class Surrogate:
    """Processes fitted to a study.

    Args:
        objectives: one per objective, on the scale of ``scalings``; more is better.
        scalings: between a process and the gains of its objective.
        constraints: one per outcome constraint, and one for failures where these are modelled as one.
        bounds: a constraint holds where its process is at most its bound.
        observed: rows with a result, shape ``[n, d]``.
        values: scaled gains there, shape ``[n, m]``.
        feasible: whether every constraint held there, shape ``[n]``.
        budget: at which all were observed.
        trouble: what went wrong while fitting; None where nothing did.
    """

    objectives: tuple[GaussianProcess, ...]
    scalings: tuple[Scaling, ...]
    constraints: tuple[GaussianProcess, ...]
    bounds: tuple[float, ...]
    observed: Tensor
    values: Tensor
    feasible: Tensor
    budget: float | None
    trouble: str | None


@dataclass(frozen=True)
class _Table:
    """Rows with one column per modelled quantity."""

    x: Tensor
    y: Tensor
    scalings: tuple[Scaling, ...]


def fitted(history: History, encoding: Encoding, fitter: Fitter, *, failures: Failures, scale: Scale) -> Surrogate:
    """Processes for the objectives and outcome constraints of a study, conditioned on all it knows.

    Results are those at the largest budget with more of them than parameters. Hyperparameters come from the first
    of them in the order of arrival, as many as the fitter's schedule says.

    Args:
        history: with at least one result.
        encoding: of its space.
        fitter: of the processes.
        failures: ``impute`` gives failed trials the worst finite gain, ``ignore`` leaves them out, ``feasibility``
            models failing as one more constraint.
        scale: ``half_rank`` is :class:`HalfRankScaling`, the others are kinds of :class:`OutcomeScaling`.

    Raises:
        FitError: no process could be conditioned on the data.
    """
    outcomes = observed(history, len(history.space) + 1)
    count = fitter.schedule.last(len(outcomes))
    known = _imputable(history, failures)
    table = _table(outcomes, known, encoding, scale)
    early = _table(_first(outcomes, count), _until(known, outcomes, count), encoding, scale)
    m = len(history.objectives)
    processes: list[GaussianProcess] = []
    trouble: list[str] = []
    for column in range(table.y.shape[1]):
        process, problem = fitter.process(table.x, table.y[:, column], early.x, early.y[:, column], encoding.hot)
        processes.append(process)
        trouble += [problem] if problem else []
    constraints = processes[m:]
    bounds = [-float(scaling.forward(np.zeros(1))[0]) for scaling in table.scalings[m:]]
    failed = _failures(history, outcomes)
    if failures == "feasibility" and failed:
        x, y = _success(outcomes, failed, encoding)
        early_failed = _failures(_until(history, outcomes, count), outcomes) or failed
        early_x, early_y = _success(_first(outcomes, count), early_failed, encoding)
        process, problem = fitter.process(x, y, early_x, early_y, encoding.hot)
        constraints.append(process)
        bounds.append(0.0)
        trouble += [problem] if problem else []
    n = len(outcomes)
    return Surrogate(
        objectives=tuple(processes[:m]),
        scalings=table.scalings[:m],
        constraints=tuple(constraints),
        bounds=tuple(bounds),
        observed=table.x[:n],
        values=table.y[:n, :m],
        feasible=torch.from_numpy(outcomes.feasible.copy()),
        budget=outcomes.budget,
        trouble="; ".join(dict.fromkeys(trouble)) or None,
    )


def _failures(history: History, outcomes: Outcomes) -> list[Point]:
    """Where trials failed and gave no result either."""
    return [trial.point for trial in history.failed if trial.at(outcomes.budget) is None]


def _success(outcomes: Outcomes, failed: Sequence[Point], encoding: Encoding) -> tuple[Tensor, Tensor]:
    """Rows of points that gave a result, at -1, and of points that failed, at 1."""
    y = torch.tensor([-1.0] * len(outcomes) + [1.0] * len(failed), dtype=torch.float64)
    return torch.from_numpy(encoding.encode([*outcomes.points, *failed])), y


def _imputable(history: History, failures: Failures) -> History:
    """The history without the failures that are not to be imputed."""
    if failures == "impute":
        return history
    return replace(history, trials=tuple(t for t in history.trials if t.state is not TrialState.FAILED))


def _first(outcomes: Outcomes, count: int) -> Outcomes:
    return replace(
        outcomes,
        points=outcomes.points[:count],
        gains=outcomes.gains[:count],
        violations=outcomes.violations[:count],
        failed=outcomes.failed[:count],
    )


def _until(history: History, outcomes: Outcomes, count: int) -> History:
    """The trials asked for no later than those with the first results: later failures wait for the next fit."""
    if count == len(outcomes):
        return history
    newest = max(trial.number for trial, _ in history.at(outcomes.budget)[:count])
    return replace(history, trials=tuple(trial for trial in history.trials if trial.number <= newest))


def _table(outcomes: Outcomes, history: History, encoding: Encoding, scale: Scale) -> _Table:
    joined = with_failures(outcomes, history)
    n, first = len(outcomes), max(8, 2 * (len(history.space) + 1))
    columns: list[NDArray[np.float64]] = []
    scalings: list[Scaling] = []
    for gains in joined.gains.T:
        scaling, values = _scaled(gains, n, first, scale)
        scalings.append(scaling)
        columns.append(values)
    for violations in joined.violations.T:
        # A margin is a gain: how much too bad a value is does not matter beyond some point.
        scaling, values = _scaled(-violations, n, first, "standardize")
        scalings.append(scaling)
        columns.append(-values)
    x = torch.from_numpy(encoding.encode(joined.points))
    return _Table(x, torch.from_numpy(np.stack(columns, axis=1)), tuple(scalings))


def _scaled(gains: NDArray[np.float64], n: int, first: int, scale: Scale) -> tuple[Scaling, NDArray[np.float64]]:
    """Gains on the scale of a process, the scaling made for the first ``n``, which were observed.

    Unless only ranks matter below, very bad results are drawn in first, or all others would look alike beside them.
    """
    if scale == "half_rank":
        ranked = HalfRankScaling.fit(gains[:n])
        return ranked, ranked.forward(gains)
    clipped = np.maximum(gains, floor(gains[:n], first))
    scaling = OutcomeScaling.fit(clipped[:n], scale)
    return scaling, scaling.forward(clipped)


def floor(gains: NDArray[np.float64], first: int) -> float:
    """Below which it does not matter how bad a result is.

    As far below the median of the first results as ``_FENCE`` times the distance from there to the best result of
    all; below their upper quartile where the median itself has diverged. The first results are spread over the
    space; quantiles of later ones, most of them close to the optimum, would cut off all that is known of the rest.

    Args:
        gains: shape ``[n]``, in the order of arrival, more is better.
        first: how many count as the first ones.
    """
    scale = max(float(np.abs(gains).max()), 1e-300)  # differences of huge numbers must not overflow
    scaled = gains / scale
    best = float(scaled.max())
    upper, median, lower = (best - float(np.quantile(scaled[:first], share)) for share in (0.75, 0.5, 0.25))
    if upper > 0.0:
        distance = median if median <= _DIVERGED * upper else upper
    else:
        distance = median if median > 0.0 else lower
    if distance > 0.0:
        return (best - (1.0 + _FENCE) * distance) * scale
    return float(robust(gains).min())
