"""Outcomes on the scale that a Gaussian process is fitted on, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Scale: TypeAlias = Literal["standardize", "power"]


@dataclass(frozen=True)
class OutcomeScaling:
    """A monotone map from gains to values of about zero mean and unit variance.

    Args:
        centre: subtracted first.
        spread: then divided by.
        exponent: of the Yeo-Johnson transformation that follows; 1 leaves the values as they are.
        shift: mean of the transformed values, subtracted.
        size: standard deviation of the transformed values, divided by.
    """

    centre: float
    spread: float
    exponent: float
    shift: float
    size: float

    @classmethod
    def fit(cls, values: NDArray[np.float64], scale: Scale = "standardize") -> OutcomeScaling:
        """The scaling that suits some values.

        Args:
            values: shape ``[n]``, finite, more is better.
            scale: ``standardize`` is linear; ``power`` also draws in a long tail of bad values by the Yeo-Johnson
                transformation (Yeo and Johnson 2000) of greatest likelihood.
        """
        centre, spread = _moments(values)
        unit = (values - centre) / spread
        exponent = _yeo_johnson_exponent(unit) if scale == "power" else 1.0
        shift, size = _moments(_yeo_johnson(unit, exponent))
        return cls(centre, spread, exponent, shift, size)

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values to model scale; any shape."""
        unit = (values - self.centre) / self.spread
        return np.asarray((_yeo_johnson(unit, self.exponent) - self.shift) / self.size, dtype=np.float64)

    def inverse(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Model scale to values; any shape. Beyond the range of the power transformation: its end."""
        return np.asarray(
            self.centre + self.spread * _inverse_yeo_johnson(self.shift + self.size * scaled, self.exponent),
            dtype=np.float64,
        )


def _moments(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation; 1 in place of a deviation that is only rounding."""
    mean, deviation = float(values.mean()), float(values.std())
    return mean, deviation if deviation > 1e-10 * max(1e-300, float(np.abs(values).max())) else 1.0


def _yeo_johnson(values: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    if exponent == 1.0:
        return values
    return np.asarray(stats.yeojohnson(values, exponent), dtype=np.float64)


def _yeo_johnson_exponent(unit: NDArray[np.float64]) -> float:
    """The exponent of greatest likelihood between 1, linear, and 2, where what is below the mean is a logarithm.

    Below 1 the good values would be drawn together, whose differences matter most; a few that stand out are what a
    search is for.
    """
    if len(unit) < 3 or not np.ptp(unit) > 0.0:
        return 1.0
    found = optimize.minimize_scalar(lambda e: -stats.yeojohnson_llf(e, unit), bounds=(1.0, 2.0), method="bounded")
    return float(found.x)


def _inverse_yeo_johnson(values: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    if exponent == 1.0:
        return values
    positive = values >= 0.0
    result = np.empty_like(values)
    high, low = values[positive], -values[~positive]
    e, f = exponent, 2.0 - exponent
    result[positive] = np.expm1(high) if abs(e) < 1e-9 else np.maximum(1.0 + e * high, 1e-12) ** (1.0 / e) - 1.0
    result[~positive] = -np.expm1(low) if abs(f) < 1e-9 else 1.0 - np.maximum(1.0 + f * low, 1e-12) ** (1.0 / f)
    return result
