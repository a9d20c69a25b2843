"""Gain at the full budget per cost, for observations at any budget.

Each :class:`GainPerCost` turns a :class:`Question` into a score of rows ``(x, fidelity coordinate)``, of shape
``[n, d + 1]`` to ``[n]``. What the coordinate is (a share, its logarithm, the index of a task) is the model's business.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from darts_hpo.tuning.surrogates.backend import botorch
from darts_hpo.tuning.surrogates.information_gain import (
    Belief,
    information_gain,
    knowledge_gradient,
    normal_grid,
    quantiles,
)

Score: TypeAlias = Callable[[Tensor], Tensor]

CHUNK = 128
FANTASIES = 4
"""Draws of the answers still out. What they do to covariances is exact, only their means are sampled."""


@dataclass(frozen=True)
class Question:
    """What an acquisition function is asked about.

    Args:
        model: a fitted BoTorch model of the gain over ``(x, fidelity coordinate)``.
        cost_model: a deterministic BoTorch model of the cost over the same rows.
        pool: shape ``[m, d]``, points of the space that may be the best.
        target: the fidelity coordinate of the full budget.
        pending: shape ``[p, d + 1]``, rows whose answers are still out.
        generator: of random numbers.
    """

    model: Any
    cost_model: Any
    pool: Tensor
    target: float
    pending: Tensor
    generator: torch.Generator

    def projected(self, rows: Tensor) -> Tensor:
        """Points or rows at the full budget: shape ``[..., d]`` or ``[..., d + 1]`` to ``[..., d + 1]``."""
        points = rows[..., : self.pool.shape[-1]]
        return torch.cat([points, torch.full_like(points[..., :1], self.target)], dim=-1)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)


class GainPerCost(ABC):
    """A rule for what is worth observing next, and at which budget. Plain settings in the constructor."""

    @abstractmethod
    def score(self, question: Question) -> Score:
        """The function to maximize. Not differentiable in general."""


@dataclass(frozen=True)
class EntropySearch(GainPerCost):
    """Information gain about where the best point is, per cost: FABOLAS (Klein et al. 2017, eq. 6).

    Args:
        representers: points at the full budget among which the best one is looked for, drawn by their expected
            improvement.
        samples: of the function at the representers, from which the probability of being best is counted.
        outcomes: fantasized per observation.
    """

    representers: int = 50
    samples: int = 200
    outcomes: int = 8

    def score(self, question: Question) -> Score:
        """The function to maximize."""
        chosen = _representers(question, self.representers)
        base, noise = question.normal(self.samples, len(chosen)), question.normal(self.samples)
        fantasies, z = question.normal(FANTASIES, len(question.pending)), quantiles(self.outcomes)

        def score(rows: Tensor) -> Tensor:
            belief, _, _ = _belief(question, chosen, rows, fantasies)
            return information_gain(belief, base, noise, z) / _cost(question, rows)

        return partial(_chunked, score)


@dataclass(frozen=True)
class KnowledgeGradient(GainPerCost):
    """Expected rise of the largest posterior mean at the full budget, per cost (misoKG, Poloczek et al. 2017).

    The maximum is taken over representers and the observed point itself, so that no inner optimization is needed.

    Args:
        representers: points at the full budget, drawn by their expected improvement.
        outcomes: fantasized per observation.
    """

    representers: int = 100
    outcomes: int = 61

    def score(self, question: Question) -> Score:
        """The function to maximize."""
        chosen = _representers(question, self.representers)
        fantasies = question.normal(FANTASIES, len(question.pending))
        z, probabilities = normal_grid(self.outcomes)

        def score(rows: Tensor) -> Tensor:
            belief, own_mean, own_cross = _belief(question, chosen, rows, fantasies)
            return knowledge_gradient(belief, z, probabilities, own_mean, own_cross) / _cost(question, rows)

        return partial(_chunked, score)


@dataclass(frozen=True)
class MaxValueEntropy(GainPerCost):
    """Information gain about the best value at the full budget, per cost (MF-MES, Takeno et al. 2020).

    Args:
        values: sampled of the best value.
        outcomes: sampled per observation.
    """

    values: int = 10
    outcomes: int = 64

    def score(self, question: Question) -> Score:
        """The function to maximize."""
        function = botorch.acquisition.max_value_entropy_search.qMultiFidelityMaxValueEntropy
        return _botorch_score(function, question, num_mv_samples=self.values, num_y_samples=self.outcomes)


@dataclass(frozen=True)
class Gibbon(GainPerCost):
    """A cheap lower bound of :class:`MaxValueEntropy` (MF-GIBBON, Moss et al. 2021).

    Args:
        values: sampled of the best value.
    """

    values: int = 10

    def score(self, question: Question) -> Score:
        """The function to maximize."""
        function = botorch.acquisition.max_value_entropy_search.qMultiFidelityLowerBoundMaxValueEntropy
        return _botorch_score(function, question, num_mv_samples=self.values)


def _botorch_score(function: Any, question: Question, **options: Any) -> Score:
    utility = botorch.acquisition.cost_aware.InverseCostWeightedUtility(cost_model=question.cost_model)
    acquisition = function(
        model=_believing(question.model, question.pending),
        candidate_set=question.projected(question.pool),
        cost_aware_utility=utility,
        project=question.projected,
        **options,
    )

    def score(rows: Tensor) -> Tensor:
        values: Tensor = acquisition(rows.unsqueeze(-2))
        return values

    return partial(_chunked, score)


def _believing(model: Any, pending: Tensor) -> Any:
    """The model as if the answers still out had been what it expects (Ginsbourger et al. 2010).

    BoTorch's own fantasies of a multi-task model do not fit its noise model; and entropies depend on where was looked
    more than on what was found.
    """
    if not len(pending):
        return model
    expected = model.posterior(pending).mean.squeeze(-1)
    believing = copy.deepcopy(model)
    inputs = torch.cat([model.train_inputs[0], pending])
    believing.set_train_data(inputs, torch.cat([model.train_targets, expected]), strict=False)
    return believing


def _chunked(score: Score, rows: Tensor) -> Tensor:
    with torch.no_grad():
        values = torch.cat([score(chunk) for chunk in rows.split(CHUNK)])
    return torch.nan_to_num(values, nan=-torch.inf, posinf=-torch.inf)


def _cost(question: Question, rows: Tensor) -> Tensor:
    cost: Tensor = question.cost_model(rows).squeeze(-1)
    return cost


def _representers(question: Question, count: int) -> Tensor:
    """Rows at the full budget, drawn without replacement by expected improvement; the likeliest best one is in."""
    rows = question.projected(question.pool)
    posterior = question.model.posterior(rows)
    mean, deviation = posterior.mean.squeeze(-1), posterior.variance.squeeze(-1).clamp_min(1e-12).sqrt()
    z = (mean - mean.max()) / deviation
    normal = torch.distributions.Normal(0.0, 1.0)
    improvement = deviation * (normal.log_prob(z).exp() + z * normal.cdf(z)).clamp_min(0.0)
    improvement = improvement / improvement.max().clamp_min(1e-300) + 1e-9
    improvement[mean.argmax()] = torch.inf
    # The largest keys u^(1/w) are a sample without replacement with weights w (Efraimidis and Spirakis 2006).
    uniform = torch.rand(len(rows), generator=question.generator, dtype=torch.float64).clamp_min(1e-300)
    return rows[(uniform.log() / improvement).topk(min(count, len(rows))).indices]


def _belief(question: Question, chosen: Tensor, rows: Tensor, draws: Tensor) -> tuple[Belief, Tensor, Tensor]:
    """The joint Gaussian of representers and observations, and each observation's own point at the full budget.

    Returns:
        The belief; the means of the own points, shape ``[F, C]``; their covariances with the observations, ``[C]``.
    """
    r, c = len(chosen), len(rows)
    own = question.projected(rows)
    asked = torch.cat([chosen, rows, own, question.pending])
    joint = question.model.posterior(asked).distribution
    mean, covariance = joint.mean, joint.covariance_matrix
    at_rows, at_pending = slice(r, r + c), slice(r + 2 * c, None)
    noise = question.model.posterior(torch.cat([rows, question.pending]), observation_noise=True).variance.squeeze(-1)
    noise = (noise - torch.cat([covariance.diagonal()[at_rows], covariance.diagonal()[at_pending]])).clamp_min(0.0)
    # Representers and own points are all asked for at the full budget; own points ride along as representers.
    wanted = torch.cat([torch.arange(r), torch.arange(r + c, r + 2 * c)])
    belief = Belief(
        mean=mean[wanted].unsqueeze(0),
        covariance=covariance[wanted][:, wanted],
        cross=covariance[at_rows][:, wanted],
        variance=covariance.diagonal()[at_rows].clamp_min(1e-12) + noise[:c],
    )
    if len(question.pending):
        belief = belief.after(
            cross=covariance[at_pending][:, wanted],
            between=covariance[at_pending][:, at_rows],
            covariance=covariance[at_pending][:, at_pending] + noise[c:].diag(),
            draws=draws,
        )
    representers = Belief(belief.mean[:, :r], belief.covariance[:r, :r], belief.cross[:, :r], belief.variance)
    return representers, belief.mean[:, r:], belief.cross[:, r:].diagonal()
