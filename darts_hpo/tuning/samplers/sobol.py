"""Quasi-random search by a scrambled Sobol sequence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from darts_hpo.errors import SpaceError
from darts_hpo.space import Space, Value
from darts_hpo.tuning.history import History
from darts_hpo.tuning.samplers.base import Sampler, Suggestion
from darts_hpo.tuning.samplers.points import first_new, from_cube

_LONGEST_RUN = 2**14
"""Points of the sequence that may violate the constraints in a row."""


class SobolSampler(Sampler):
    """The points of one scrambled Sobol sequence (Owen 1998), which cover the space evenly at every length.

    The next point is the first of the sequence that is valid and was not proposed yet, so a resumed study and one
    with warm-start points go on with the same sequence. Options of a categorical are equal bins of a coordinate.

    Args:
        seed: scrambles the sequence. The seed of each call is not used: points of one sequence belong together.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._rows: NDArray[np.float64] = np.zeros((0, 0))

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """The next point of the sequence; see :meth:`Sampler.suggest`.

        Raises:
            SpaceError: thousands of points in a row violate the constraints.
        """
        # Of a finite space, every point has come up long before: then repeat.
        limit = None if history.space.size is None else 2 * len(history) + 64
        point = first_new(self._valid(history.space, limit), history)
        assert point is not None
        return Suggestion(point)

    def _valid(self, space: Space, limit: int | None) -> Iterator[dict[str, Value]]:
        """Valid points of the sequence, at most ``limit`` of them."""
        given, index, last = 0, 0, -1
        while limit is None or given < limit:
            if index == len(self._rows) or self._rows.shape[1] != len(space):
                exponent = max(7, int(index).bit_length())
                self._rows = qmc.Sobol(len(space), scramble=True, rng=self.seed).random_base2(exponent)
            point = from_cube(space, self._rows[index].tolist())
            if space.satisfies(point):
                given, last = given + 1, index
                yield point
            elif index - last > _LONGEST_RUN:
                raise SpaceError(f"{_LONGEST_RUN} points in a row violate {list(space.constraints)}; loosen them.")
            index += 1
