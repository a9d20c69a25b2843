"""The results of a study at all its budgets, as arrays for the models that learn across budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darts_hpo.errors import ConfigError
from darts_hpo.space import Value
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity
from darts_hpo.tuning.outcomes import robust
from darts_hpo.tuning.surrogates.scaling import OutcomeScaling
from darts_hpo.tuning.trial import Trial, TrialState


def required_fidelity(history: History, sampler: str) -> Fidelity:
    """The study's range of budgets.

    Args:
        history: the study.
        sampler: named in the message.

    Raises:
        ConfigError: the study knows no budgets, or has more than one objective.
    """
    if history.fidelity is None:
        raise ConfigError(
            f"{sampler} chooses the budget of every trial, but the study has none; expected a range of budgets. "
            "Type for example hydra.sweeper.budget.key=data_fraction hydra.sweeper.budget.minimum=0.1 "
            "hydra.sweeper.budget.maximum=1 hydra.sweeper.budget.integer=false hydra.sweeper.budget.resumes=false"
        )
    if len(history.objectives) != 1:
        raise ConfigError(
            f"{sampler} tunes one objective, but the study has {len(history.objectives)}; keep one, or choose "
            "hydra/sweeper/sampler=gp."
        )
    return history.fidelity


@dataclass(frozen=True)
class GainScale:
    """From gains to what a model is fitted to, and back.

    Args:
        log: the model sees minus the logarithm of the loss.
        scaling: to zero mean and unit variance, applied afterwards.
    """

    log: bool
    scaling: OutcomeScaling

    def value(self, scaled: float, history: History) -> float:
        """A value of the objective, as reported, from the model's scale. With ``log`` a median, not a mean."""
        gain = float(self.scaling.inverse(np.array([scaled]))[0])
        gain = -float(np.exp(-gain)) if self.log else gain
        return history.objectives[0].gain(gain)


@dataclass(frozen=True)
class FidelityData:
    """What was observed, at every budget.

    Args:
        x: shape ``[n, width]``, encoded points; repeated where a trial has results at several budgets.
        budget: shape ``[n]``.
        y: shape ``[n]``, more is better, zero mean, unit variance, outliers drawn in, failures imputed.
        cost: shape ``[n]``, seconds to reach that budget from nothing; NaN where unknown.
        failed: shape ``[n]``, whether ``y`` is imputed.
        trials: of each row.
        pending_x: shape ``[p, width]``, points that run.
        pending_budget: shape ``[p]``, the budgets they run to.
        scale: how ``y`` was made.
    """

    x: NDArray[np.float64]
    budget: NDArray[np.float64]
    y: NDArray[np.float64]
    cost: NDArray[np.float64]
    failed: NDArray[np.bool_]
    trials: tuple[Trial, ...]
    pending_x: NDArray[np.float64]
    pending_budget: NDArray[np.float64]
    scale: GainScale

    def __len__(self) -> int:
        return len(self.y)

    @property
    def observed(self) -> int:
        """Rows that were really measured."""
        return int((~self.failed).sum())

    @classmethod
    def of(cls, history: History, fidelity: Fidelity, encoding: Encoding, *, log: bool = True) -> FidelityData:
        """The results of a study.

        A failed trial, and a result that violates an outcome constraint or is not finite, gets the worst gain
        that was observed at its budget (at any budget, where there is none at its own): the region is avoided,
        the scale kept.

        Args:
            history: the study.
            fidelity: its range of budgets.
            encoding: of its points.
            log: take logarithms where the objective is a loss to be minimized and all of its values are positive.
        """
        rows = _rows(history, fidelity)
        gains = np.array([row.gain for row in rows], dtype=np.float64)
        budget = np.array([row.budget for row in rows], dtype=np.float64)
        failed = ~np.isfinite(gains)
        gains = _imputed(gains, budget)
        is_log = log and history.objectives[0].direction == "minimize" and bool(len(gains)) and bool((gains < 0).all())
        if is_log:
            gains = -np.log(-gains)
        gains = robust(gains)
        scale = GainScale(is_log, OutcomeScaling.fit(gains) if len(gains) else OutcomeScaling(0.0, 1.0, 1.0, 0.0, 1.0))
        return cls(
            x=encoding.encode([row.trial.point for row in rows]),
            budget=budget,
            y=scale.scaling.forward(gains),
            cost=np.array([row.cost for row in rows], dtype=np.float64),
            failed=failed,
            trials=tuple(row.trial for row in rows),
            pending_x=encoding.encode([trial.point for trial in history.running]),
            pending_budget=np.array([_target(trial, fidelity) for trial in history.running], dtype=np.float64),
            scale=scale,
        )


@dataclass(frozen=True)
class _Row:
    trial: Trial
    budget: float
    gain: float
    cost: float


def _rows(history: History, fidelity: Fidelity) -> list[_Row]:
    rows = []
    for trial in history:
        seconds = 0.0
        for result in sorted(trial.results, key=lambda result: result.budget or fidelity.maximum):
            # Where trials resume, each result's seconds count from the one before; a new trial pays for all.
            own = float("nan") if result.seconds is None else float(result.seconds)
            seconds = seconds + own if fidelity.resumes else own
            gain = history.gain(result) if _holds(history, result.values) else float("nan")
            rows.append(_Row(trial, _within(result.budget, fidelity), gain, seconds))
        if trial.state is TrialState.FAILED and trial.at(trial.budget) is None:
            rows.append(_Row(trial, _target(trial, fidelity), float("nan"), float("nan")))
    return rows


def _holds(history: History, values: Mapping[str, float]) -> bool:
    return all(constraint.violation(values[constraint.name]) <= 0 for constraint in history.constraints)


def _within(budget: float | None, fidelity: Fidelity) -> float:
    return fidelity.maximum if budget is None else min(max(budget, fidelity.minimum), fidelity.maximum)


def _target(trial: Trial, fidelity: Fidelity) -> float:
    return _within(trial.budget, fidelity)


def _imputed(gains: NDArray[np.float64], budget: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(gains)
    if known.all():
        return gains
    if not known.any():
        return np.zeros_like(gains)
    worst = float(gains[known].min())
    result = gains.copy()
    for row in np.flatnonzero(~known):
        beside = known & (budget == budget[row])
        result[row] = float(gains[beside].min()) if beside.any() else worst
    return result


def distinct_points(data: FidelityData) -> tuple[NDArray[np.float64], tuple[Mapping[str, Value], ...]]:
    """The encoded points that were really observed, and the points themselves, each once."""
    seen: dict[tuple[float, ...], int] = {}
    for row in np.flatnonzero(~data.failed):
        seen.setdefault(tuple(data.x[row].tolist()), int(row))
    rows = list(seen.values())
    return data.x[rows], tuple(data.trials[row].point for row in rows)
