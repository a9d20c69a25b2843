"""Outcomes on the scale that a Gaussian process is fitted on, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Parametric: TypeAlias = Literal["standardize", "power"]
Scale: TypeAlias = Literal["half_rank", "standardize", "power"]


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
    def fit(cls, values: NDArray[np.float64], scale: Parametric = "standardize") -> OutcomeScaling:
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


@dataclass(frozen=True)
class HalfRankScaling:
    """A monotone map that keeps the distances of good values, and of bad ones only their order.

    From the median up it is linear. Below, a value goes where a normal distribution has its rank, with the deviation
    that the good half shows ("half-rank warping" of Song et al. 2024, "The Vizier Gaussian process bandit
    algorithm"). How much worse than the median a setting is says nothing of where the best is, but a few settings
    that learn nothing, or a fifth that diverge, would otherwise take up nearly all of the variance to be explained.
    A power transformation follows: where good values crowd below a bound that none can pass, as accuracies do, it
    spreads them.

    Args:
        unit: all values are divided by it first, so that differences of huge ones do not overflow.
        median: of the values.
        spread: root mean square distance of the good half from the median.
        knots: the values below the median and the median itself, rising, each once, shape ``[k]``.
        scores: what the knots become, shape ``[k]``; in between, the map is linear.
        then: the power transformation, and the standardization.
    """

    unit: float
    median: float
    spread: float
    knots: NDArray[np.float64]
    scores: NDArray[np.float64]
    then: OutcomeScaling = OutcomeScaling(0.0, 1.0, 1.0, 0.0, 1.0)

    @classmethod
    def fit(cls, values: NDArray[np.float64]) -> HalfRankScaling:
        """The scaling that suits some values.

        Args:
            values: shape ``[n]``, finite, more is better.
        """
        unit = max(float(np.abs(values).max()), 1e-300)
        scaled = values / unit
        median = float(np.median(scaled))
        bad = scaled < median
        distances = scaled[~bad] - median
        top = float(distances.max())
        # Where the best is no better than the median, but for rounding, any unit will do.
        spread = top * float(np.sqrt(np.square(distances / top).mean())) if top > 1e-10 * abs(median) else 1.0
        normal = stats.norm.ppf((stats.rankdata(scaled) - 0.5) / len(scaled))
        knots, first = np.unique(np.append(scaled[bad], median), return_index=True)
        plain = cls(unit, median, spread, knots, np.append(normal[bad], 0.0)[first])
        return replace(plain, then=OutcomeScaling.fit(plain.forward(values), "power"))

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values to model scale; any shape. All that are worse than those fitted are as bad as the worst of them."""
        scaled = values / self.unit
        below = np.interp(scaled, self.knots, self.scores)
        above = (scaled - self.median) / self.spread
        return self.then.forward(np.where(scaled < self.median, below, above))

    def inverse(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Model scale to values; any shape. Below the worst value fitted: that value."""
        score = self.then.inverse(scaled)
        below = np.interp(score, self.scores, self.knots)
        above = self.median + self.spread * score
        return np.asarray(self.unit * np.where(score < 0.0, below, above), dtype=np.float64)


Scaling: TypeAlias = OutcomeScaling | HalfRankScaling


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
