"""Draws from normalized expected improvement: the Gaussian process beside Hyperband of Bertrand et al. 2017."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darts_hpo.errors import ConfigError
from darts_hpo.space import Point
from darts_hpo.tuning.acquisitions.improvement import log_h
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.history import History
from darts_hpo.tuning.outcomes import Outcomes, scalarized
from darts_hpo.tuning.samplers.base import Sampler, Suggestion
from darts_hpo.tuning.samplers.points import first_new, key, tried
from darts_hpo.tuning.surrogates.backend import numerics
from darts_hpo.tuning.surrogates.fitting import FitSchedule, Fitter
from darts_hpo.tuning.surrogates.gaussian_process import FitError, ModelSettings
from darts_hpo.tuning.surrogates.scaling import OutcomeScaling
from darts_hpo.tuning.trial import Result, Trial, TrialState


def normalized_improvement(mean: Tensor, deviation: Tensor, best: float) -> NDArray[np.float64]:
    """Expected improvement over some points, divided by its sum: the distribution that the next point is drawn from.

    In logarithms, so that it stays a distribution where every improvement underflows.

    Args:
        mean: shape ``[n]``, more is better.
        deviation: shape ``[n]``, positive.
        best: value to improve on.

    Returns:
        Shape ``[n]``, adds up to 1.
    """
    log_improvement = log_h((mean - best) / deviation) + deviation.log()
    probabilities = torch.softmax(log_improvement, dim=0).numpy()
    return np.asarray(probabilities / probabilities.sum(), dtype=np.float64)


class BertrandSampler(Sampler):
    """Draws the next point from a pool with probabilities proportional to expected improvement.

    Bertrand, Ardon, Perrot and Bloch 2017, "Hyperparameter optimization of deep neural networks: combining Hyperband
    with Bayesian model selection". Made for :class:`~darts_hpo.tuning.schedulers.hyperband.Hyperband`: the first
    bracket is random, then a Gaussian process learns each trial's value at the end of its budget, whatever that
    was. Drawing instead of maximizing keeps a bracket's trials diverse, so pending ones need no further care. Failed
    trials count with the worst value seen.

    Args:
        pool: random points that compete for being drawn.
        startup: results before the model is used; None takes one more than there are parameters. With budgets, the
            first bracket is random too: all trials that begin at one budget, until one begins at another or has
            reached the full one.

    Raises:
        ConfigError: a pool or start-up below 1.
    """

    def __init__(self, pool: int = 1000, startup: int | None = None) -> None:
        if pool < 1 or (startup is not None and startup < 1):
            raise ConfigError(f"pool={pool}, startup={startup}; expected at least 1, and at least 1 or null.")
        self.pool, self.startup = pool, startup
        # Draws are noisy anyway, so that hyperparameters need not follow every result.
        self.fitter = Fitter(ModelSettings(), FitSchedule(always=8, growth=1.2))

    def candidates(self, history: History, rng: Random) -> Sequence[Point]:
        """The pool: random points, in a finite space only new ones as long as there are any."""
        drawn = [history.space.sample(rng) for _ in range(self.pool)]
        known = tried(history)
        return [point for point in drawn if key(point) not in known] or drawn

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """A random point at first, then one drawn by its expected improvement; see :meth:`Sampler.suggest`."""
        if len(history.objectives) != 1:
            raise ConfigError(
                f"BertrandSampler tunes one objective, but the study has {len(history.objectives)}; keep one, or "
                "choose another sampler."
            )
        points = self.candidates(history, Random(seed))
        if self._begins(history, budget):
            point = first_new(points, history)
            assert point is not None  # the space raises where it has no point at all
            return Suggestion(point, labels={"model": False})
        with numerics(seed):
            encoding = Encoding(history.space)
            try:
                mean, variance, best = self._posterior(history, encoding, torch.from_numpy(encoding.encode(points)))
            except FitError as error:
                return Suggestion(dict(points[0]), labels={"model": False, "fallback": str(error)})
            probabilities = normalized_improvement(mean, variance.sqrt(), best)
        index = int(np.random.default_rng(seed).choice(len(points), p=probabilities))
        return Suggestion(dict(points[index]), labels={"model": True, "probability": float(probabilities[index])})

    def _begins(self, history: History, budget: float | None) -> bool:
        """Whether it is too early for the model."""
        startup = len(history.space) + 1 if self.startup is None else self.startup
        if sum(trial.last is not None for trial in history.trials) < startup:
            return True
        if history.fidelity is None or history.at(history.fidelity.maximum):
            return False
        # Later brackets begin at other budgets: as long as all began at this one, the first is being filled.
        began = {trial.results[0].budget if trial.results else trial.budget for trial in history.proposals}
        return began == {budget}

    def _posterior(self, history: History, encoding: Encoding, x: Tensor) -> tuple[Tensor, Tensor, float]:
        """Mean and variance at rows, and the best value so far, on the model's scale."""
        x_told, y_told = self._rows(history, encoding, None)
        x_early, y_early = self._rows(history, encoding, self.fitter.schedule.last(len(history.observations)))
        process, _ = self.fitter.process(x_told, y_told, x_early, y_early, encoding.hot)
        return *process.posterior(x), float(y_told.max())

    @staticmethod
    def _rows(history: History, encoding: Encoding, before: int | None) -> tuple[Tensor, Tensor]:
        trials, y = _ends(history, before)
        rows = encoding.encode([trial.point for trial in trials])
        return torch.from_numpy(rows), torch.from_numpy(OutcomeScaling.fit(y).forward(y))


def _ends(history: History, before: int | None) -> tuple[list[Trial], NDArray[np.float64]]:
    """Trials with what they were worth at the end of their budget, outliers drawn in, more is better.

    Args:
        history: the study.
        before: only results that so many came before at most; failures, which have no place among them, are left out.
    """
    told: list[tuple[Trial, Result]] = []
    failed: list[Trial] = []
    for trial in history.trials:
        if before is None and trial.state is TrialState.FAILED:
            failed.append(trial)
            continue
        results = [result for result in trial.results if before is None or result.order < before]
        if results:
            told.append((trial, max(results, key=lambda result: (result.budget or 0.0, result.order))))
    gains = [history.gain(result) for _, result in told]
    violations = [[c.violation(result.values[c.name]) for c in history.constraints] for _, result in told]
    if failed:
        worst = np.array(violations).max(axis=0).tolist() if violations else [0.0] * len(history.constraints)
        gains += [min(gains, default=0.0)] * len(failed)
        violations += [worst] * len(failed)
    trials = [*(trial for trial, _ in told), *failed]
    outcomes = Outcomes(
        points=tuple(trial.point for trial in trials),
        gains=np.array(gains, dtype=np.float64).reshape(-1, 1),
        violations=np.array(violations, dtype=np.float64).reshape(len(trials), len(history.constraints)),
        failed=np.array([False] * len(told) + [True] * len(failed)),
        budget=None,
    )
    return trials, scalarized(outcomes, np.random.default_rng(0))
