"""The upper confidence bound."""

from __future__ import annotations

import math

from torch import Tensor

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.acquisitions.base import Acquisition, Score, Situation, log_softplus


class UpperConfidenceBound(Acquisition):
    """``mu(x) + kappa sigma(x)`` (Srinivas et al. 2010, eq. 6, where ``kappa`` is the root of ``beta``).

    Answers still out count as if they came exactly as expected, see :attr:`Situation.believed`.

    Args:
        kappa: how many standard deviations of optimism; more explores more.

    Raises:
        ConfigError: ``kappa`` is negative or not finite.
    """

    def __init__(self, kappa: float = 2.0) -> None:
        if not 0.0 <= kappa < math.inf:
            raise ConfigError(f"kappa={kappa} is no optimism; expected a number of at least 0, for example 2.")
        self.kappa = float(kappa)

    def score(self, situation: Situation) -> Score:  # noqa: D102 - described by the base class
        def score(x: Tensor) -> Tensor:
            mean, variance = situation.believed.posterior(x)
            return mean + self.kappa * variance.sqrt()

        return score

    def log_score(self, situation: Situation) -> Score:
        """Logarithm of by how much the bound passes the best mean, made positive by a softplus."""
        score, best = self.score(situation), situation.best
        return lambda x: log_softplus(score(x) - best, width=0.1)
