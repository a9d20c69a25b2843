"""What a study's results say about points that were not tried: a Gaussian process in the objective's own units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from darts_hpo.space import Point
from darts_hpo.tuning.encoding import Encoding
from darts_hpo.tuning.history import History
from darts_hpo.tuning.surrogates.backend import numerics
from darts_hpo.tuning.surrogates.evidence import fitted
from darts_hpo.tuning.surrogates.fitting import FitSchedule, Fitter
from darts_hpo.tuning.surrogates.gaussian_process import FitError, ModelSettings


class NoSurface(Exception):  # noqa: N818 - too little is known, which is no error
    """There are too few results for a surrogate, or none could be fitted to them."""


class Surface:
    """The posterior of the first objective over the space.

    Args:
        history: with more results at one budget than parameters.

    Raises:
        NoSurface: there are fewer, or the fit fails.
    """

    def __init__(self, history: History) -> None:
        if len(history.comparable(len(history.space) + 1)) <= len(history.space):
            raise NoSurface("There are too few results for a surrogate.")
        self._encoding = Encoding(history.space)
        self._sign = history.objectives[0].gain(1.0)
        fitter = Fitter(ModelSettings(), FitSchedule(always=10**9))
        try:
            with numerics(0):
                surrogate = fitted(history, self._encoding, fitter, failures="feasibility", scale="standardize")
        except FitError as error:
            raise NoSurface(str(error)) from error
        self._process, self._scaling = surrogate.objectives[0], surrogate.scalings[0]

    def posterior(self, points: Sequence[Point]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of the noise-free objective, in its own units.

        Args:
            points: n of them.

        Returns:
            Two arrays of shape ``[n]``.
        """
        rows = torch.from_numpy(self._encoding.encode(points))
        with numerics(0):
            mean, variance = self._process.posterior(rows)
        low, middle, high = (
            self._scaling.inverse((mean + shift * variance.sqrt()).numpy()) for shift in (-1.0, 0.0, 1.0)
        )
        return self._sign * middle, (high - low) / 2
