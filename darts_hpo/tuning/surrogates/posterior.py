"""Where a study's posterior mean is largest."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


def posterior_best(history: History, *, seed: int = 0, settings: ModelSettings | None = None) -> PosteriorBest:
    """The maximum of the posterior mean over the whole space, and the best trial by that mean.

    With outcome constraints, among points that are feasible with a probability of at least one half each, as far
    as there are any.

    Args:
        history: one objective, at least one result.
        seed: of the search.
        settings: kind of process.

    Raises:
        PosteriorError: no process can be fitted to the results.
    """
    fitter = Fitter(settings or ModelSettings(), FitSchedule(always=1_000_000))
    domain = Domain(history.space)
    with numerics(seed):
        try:
            surrogate = fitted(history, domain.encoding, fitter, failures="feasibility", scale="standardize")
        except FitError as error:
            raise PosteriorError(str(error)) from error
        process = surrogate.objectives[0]

        def score(x: Tensor) -> Tensor:
            mean, _ = process.posterior(x)
            return mean - _infeasibility(surrogate, x)

        order = score(surrogate.observed).argsort(descending=True, stable=True)
        point, _ = maximize(score, domain, _SEARCH, seed, surrogate.observed[order[:5]], taken=set())
        rows = torch.cat([domain.rows([point]), surrogate.observed[order[:1]]])
        means, variances = (moment.numpy() for moment in process.posterior(rows))
        values, deviations = _in_units(surrogate, means, np.sqrt(variances))
    gain = history.objectives[0].gain
    best = history.at(surrogate.budget)[int(order[0])][0]
    return PosteriorBest(
        point=history.space.validate(point),
        mean=gain(float(values[0])),
        deviation=float(deviations[0]),
        trial=best.number if best.replicate_of is None else best.replicate_of,
        trial_mean=gain(float(values[1])),
        trial_deviation=float(deviations[1]),
        budget=surrogate.budget,
    )


def _infeasibility(surrogate: Surrogate, x: Tensor) -> Tensor:
    """A large penalty times by how much the expected constraints are missed."""
    total = torch.zeros(len(x), dtype=x.dtype)
    for process, bound in zip(surrogate.constraints, surrogate.bounds, strict=True):
        mean, _ = process.posterior(x)
        total = total + 1e3 * (mean - bound).clamp_min(0.0)
    return total


def _in_units(
    surrogate: Surrogate, means: NDArray[np.float64], deviations: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation as gains, by Gauss-Hermite quadrature through the scaling."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    weights = weights / weights.sum()
    gains = surrogate.scalings[0].inverse(means[:, None] + deviations[:, None] * nodes)
    mean = gains @ weights
    return mean, np.sqrt(np.maximum((gains - mean[:, None]) ** 2 @ weights, 0.0))
