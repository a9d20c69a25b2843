"""Random search (Bergstra and Bengio 2012)."""

from __future__ import annotations

from random import Random

from darts_hpo.tuning.history import History
from darts_hpo.tuning.samplers.base import Sampler, Suggestion
from darts_hpo.tuning.samplers.points import first_new

_DRAWS = 64
"""Draws before a point of a finite space is repeated."""


class RandomSampler(Sampler):
    """Every point drawn alike, uniformly on each parameter's own scale.

    The baseline that every other sampler has to beat at equal budget. In a finite space, points already proposed
    are drawn again only when nothing new turns up.
    """

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """A random point; see :meth:`Sampler.suggest`."""
        rng = Random(seed)
        point = first_new((history.space.sample(rng) for _ in range(_DRAWS)), history)
        assert point is not None  # the space raises where it has no point at all
        return Suggestion(point)
