"""What every acquisition does: turn a surrogate into a function whose largest value is the next point."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from darts_hpo.tuning.surrogates.gaussian_process import GaussianProcess

Score: TypeAlias = Callable[[Tensor], Tensor]
"""Worth of rows of the unit cube, differentiable: shape ``[k, d]`` to shape ``[k]``."""


@dataclass(frozen=True)
class Situation:
    """What an acquisition looks at. Everything is on the scale of the processes, and more is better.

    Args:
        objectives: one process per objective, conditioned on the results so far.
        observed: rows with a result, shape ``[n, d]``.
        values: what was observed there, shape ``[n, m]``.
        pending: rows whose answer is still out, shape ``[p, d]``.
        candidates: valid rows spread over the space, shape ``[c, d]``.
        seed: of everything random.
        constraints: one process per outcome constraint.
        bounds: a constraint holds where its process is at most its bound.
        feasible: shape ``[n]``, whether every constraint held at the observed rows; empty without constraints.
    """

    objectives: tuple[GaussianProcess, ...]
    observed: Tensor
    values: Tensor
    pending: Tensor
    candidates: Tensor
    seed: int
    constraints: tuple[GaussianProcess, ...] = ()
    bounds: tuple[float, ...] = ()
    feasible: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))

    @cached_property
    def believed(self) -> GaussianProcess:
        """The first objective's process, the pending answers assumed to come as its mean expects them.

        Acquisitions without a notion of pending points use it (the "kriging believer").
        """
        return self.objectives[0].with_believed(self.pending)

    @cached_property
    def best(self) -> float:
        """Largest mean of the first objective over feasible observed rows and pending ones.

        Over all rows where none is feasible. The mean stands in for observed values because these are noisy.
        """
        rows = self.observed[self.feasible] if bool(self.feasible.any()) else self.observed
        mean, _ = self.objectives[0].posterior(torch.cat([rows, self.pending]))
        return float(mean.max())

    def log_feasibility(self, x: Tensor) -> Tensor:
        """Log-probability that every outcome constraint holds, shape ``[k]``, at rows of shape ``[k, d]``.

        The constraints are taken as independent (Gardner et al. 2014, "Bayesian optimization with inequality
        constraints", eq. 6).
        """
        total = torch.zeros(len(x), dtype=x.dtype)
        for process, bound in zip(self.constraints, self.bounds, strict=True):
            mean, variance = process.posterior(x)
            total = total + torch.special.log_ndtr((bound - mean) / variance.sqrt())
        return total


class Acquisition(ABC):
    """A rule for what is worth trying next. Plain settings in the constructor; what it looks at is handed in."""

    several_objectives = False
    """Whether it is for two or more objectives; otherwise it is for exactly one."""

    constrained = False
    """Whether its score takes account of outcome constraints; otherwise it is weighted by their probability."""

    @abstractmethod
    def score(self, situation: Situation) -> Score:
        """The function to maximize."""

    def log_score(self, situation: Situation) -> Score:
        """Logarithm of the score, so that it can be weighted by probabilities; never NaN.

        Estimates of a positive score may be zero or below: a softplus keeps their order and a slope to climb.
        """
        score = self.score(situation)
        return lambda x: log_softplus(score(x))


def log_softplus(value: Tensor, width: float = 0.01) -> Tensor:
    """Logarithm of a value made positive: almost that of the value itself where it is several widths above zero.

    Args:
        value: any shape.
        width: of the bend at zero; below it the logarithm falls linearly.
    """
    scaled = value / width
    # softplus(s) is exp(s) to rounding far below zero, where its logarithm would underflow.
    positive = torch.nn.functional.softplus(scaled.clamp_min(-30.0)).log()
    return torch.where(scaled < -30.0, scaled, positive) + math.log(width)
