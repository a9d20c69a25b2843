"""Samplers that rank candidates, and so can take somebody else's opinion of them into account."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from darts_hpo.space import Point
from darts_hpo.tuning.history import History
from darts_hpo.tuning.samplers.base import Sampler, Suggestion

LogBias: TypeAlias = Callable[[Sequence[Point]], NDArray[np.float64]]
"""Points to what is added to the logarithm of their acquisition value, shape ``[n]``."""


def unbiased(points: Sequence[Point]) -> NDArray[np.float64]:
    """No opinion: 0 for every point."""
    return np.zeros(len(points))


class RankingSampler(Sampler):
    """Proposes the best of many candidates by the logarithm of an acquisition function, plus a bias."""

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """The best candidate without any bias; see :meth:`Sampler.suggest`."""
        return self.suggest_biased(history, seed=seed, budget=budget, log_bias=unbiased)

    @abstractmethod
    def suggest_biased(
        self, history: History, *, seed: int, budget: float | None = None, log_bias: LogBias
    ) -> Suggestion:
        """The best candidate by log acquisition value plus ``log_bias`` of its point.

        Args:
            history: as in :meth:`Sampler.suggest`.
            seed: as in :meth:`Sampler.suggest`.
            budget: as in :meth:`Sampler.suggest`.
            log_bias: finite; ``(beta / n) log pi(x)`` makes it piBO (Hvarfner et al. 2022, eq. 6).
        """
