"""What a study's results say about points that were not tried, in the objective's own units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darts_hpo.space import Point
from darts_hpo.tuning.acquisitions.maximize import Domain, SearchSettings, maximize
from darts_hpo.tuning.history import History
from darts_hpo.tuning.recommendation import PosteriorBest
from darts_hpo.tuning.surrogates.backend import numerics
from darts_hpo.tuning.surrogates.evidence import Surrogate, fitted
from darts_hpo.tuning.surrogates.fitting import FitSchedule, Fitter
from darts_hpo.tuning.surrogates.gaussian_process import FitError, ModelSettings

_SEARCH = SearchSettings(candidates=512, local=256, restarts=8, steps=100)


class PosteriorError(Exception):
    """No Gaussian process can be fitted to the study's results."""


class Posterior:
    """A Gaussian process of the first objective over the space, fitted to all results at one budget.

    Args:
        history: with at least one result.
        settings: kind of process; by default that of :class:`~darts_hpo.tuning.samplers.gp.GPSampler`.

    Raises:
        PosteriorError: no process can be fitted to the results.
    """

    def __init__(self, history: History, settings: ModelSettings | None = None) -> None:
        self._history, self._domain = history, Domain(history.space)
        fitter = Fitter(settings or ModelSettings(warp="auto"), FitSchedule(always=1_000_000))
        with numerics(0):
            try:
                self._surrogate = fitted(
                    history, self._domain.encoding, fitter, failures="feasibility", scale="half_rank"
                )
            except FitError as error:
                raise PosteriorError(str(error)) from error

    def at(self, points: Sequence[Point]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of the noise-free objective, in its own units.

        Args:
            points: n of them.

        Returns:
            Two arrays of shape ``[n]``.
        """
        with numerics(0):
            return self._in_units(self._domain.rows(points))

    def best(self, seed: int = 0) -> PosteriorBest:
        """The maximum of the posterior mean over the whole space, and the best trial by that mean.

        With outcome constraints, among points that are feasible with a probability of at least one half each, as far
        as there are any.

        Args:
            seed: of the search.
        """
        history, surrogate = self._history, self._surrogate
        process = surrogate.objectives[0]

        def score(x: Tensor) -> Tensor:
            mean, _ = process.posterior(x)
            return mean - _infeasibility(surrogate, x)

        with numerics(seed):
            order = score(surrogate.observed).argsort(descending=True, stable=True)
            point, _ = maximize(score, self._domain, _SEARCH, seed, surrogate.observed[order[:5]], taken=set())
            values, deviations = self._in_units(torch.cat([self._domain.rows([point]), surrogate.observed[order[:1]]]))
        best = history.at(surrogate.budget)[int(order[0])][0]
        return PosteriorBest(
            point=history.space.validate(point),
            mean=float(values[0]),
            deviation=float(deviations[0]),
            trial=best.number if best.replicate_of is None else best.replicate_of,
            trial_mean=float(values[1]),
            trial_deviation=float(deviations[1]),
            budget=surrogate.budget,
        )

    def _in_units(self, rows: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation at encoded points; a gain may be a loss turned.

        Where the scaling is not linear, these are the median and half the distance between the quantiles that are one
        standard deviation away on the process's scale.
        """
        mean, variance = self._surrogate.objectives[0].posterior(rows)
        scaling, gain = self._surrogate.scalings[0], self._history.objectives[0].gain
        low, middle, high = (scaling.inverse((mean + shift * variance.sqrt()).numpy()) for shift in (-1.0, 0.0, 1.0))
        return gain(1.0) * middle, (high - low) / 2


def _infeasibility(surrogate: Surrogate, x: Tensor) -> Tensor:
    """A large penalty times by how much the expected constraints are missed."""
    total = torch.zeros(len(x), dtype=x.dtype)
    for process, bound in zip(surrogate.constraints, surrogate.bounds, strict=True):
        mean, _ = process.posterior(x)
        total = total + 1e3 * (mean - bound).clamp_min(0.0)
    return total
