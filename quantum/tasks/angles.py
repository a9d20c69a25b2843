"""From features to rotation angles: one affine map, fitted on training samples where the data have no range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts_hpo.errors import ConfigError

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class AngleMap:
    """`angles = clip(offset + matrix @ (features - centre), low, high)`, in radians.

    Args:
        centre: `F`, subtracted from the features.
        matrix: `K x F`, or `F` for a diagonal one.
        offset: added to every angle.
        low: smallest angle.
        high: largest angle.
    """

    centre: Matrix
    matrix: Matrix
    offset: float
    low: float
    high: float

    @property
    def n_angles(self) -> int:
        """Angles per sample, `K`."""
        return int(self.matrix.shape[0])

    def __call__(self, features: Matrix) -> NDArray[np.float32]:
        """Angles `N x K` of features `N x F`."""
        centred = np.asarray(features, dtype=np.float64) - self.centre
        mapped = centred * self.matrix if self.matrix.ndim == 1 else centred @ self.matrix.T
        return np.clip(mapped + self.offset, self.low, self.high).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """The map as plain data, for whoever deploys the circuit."""
        return {
            "formula": "angles = clip(add + multiply (features - subtract)); a list multiplies feature by feature",
            "subtract": self.centre.tolist(),
            "multiply": self.matrix.tolist(),
            "add": self.offset,
            "clip": [self.low, self.high],
        }


def checked_angles(angles: Sequence[float]) -> tuple[float, float]:
    """The interval that features are mapped to.

    Raises:
        ConfigError: it is no pair of ascending finite numbers.
    """
    if len(angles) != 2 or not np.isfinite(angles).all() or not angles[0] < angles[1]:
        raise ConfigError(f"task.angles={list(angles)}: expected the smallest and the largest angle in radians.")
    return float(angles[0]), float(angles[1])


def range_map(n_features: int, value_range: tuple[float, float], angles: tuple[float, float]) -> AngleMap:
    """Maps a known range of values, such as that of pixels, to the interval of angles; nothing is fitted.

    Args:
        n_features: features per sample.
        value_range: smallest and largest value.
        angles: interval in radians.
    """
    (least, most), (low, high) = value_range, angles
    slope = (high - low) / (most - least)
    return AngleMap(np.full(n_features, float(least)), np.full(n_features, slope), low, low, high)


def fitted_map(
    train: Matrix,
    angles: tuple[float, float],
    *,
    spread: float,
    components: int | None = None,
    standardize: bool = True,
) -> AngleMap:
    """Maps the mean of training samples to the middle of the interval and some standard deviations to its ends.

    Args:
        train: `N x F` features of the samples that the map may look at.
        angles: interval in radians.
        spread: standard deviations from the middle to an end; what lies beyond is clipped.
        components: project to so many principal components first, each then scaled by its own deviation.
        standardize: divide features by their deviations before the projection. Off for pixels, which share a unit.

    Raises:
        ConfigError: more components than the samples span.
    """
    low, high = angles
    half, middle = (high - low) / 2, (high + low) / 2
    centre = train.mean(axis=0)
    deviations = train.std(axis=0)
    # A feature that is constant on the training samples says nothing about them: it stays in the middle.
    inverse = np.divide(1.0, deviations, out=np.zeros_like(deviations), where=deviations > 0)
    if components is None:
        return AngleMap(centre, inverse * (half / spread), middle, low, high)
    scale = inverse if standardize else np.ones_like(inverse)
    directions, spreads = _principal_components((train - centre) * scale, components)
    matrix = directions * scale / spreads[:, None] * (half / spread)
    return AngleMap(centre, matrix, middle, low, high)


def _principal_components(centred: Matrix, components: int) -> tuple[Matrix, Matrix]:
    """Directions `K x F` and standard deviations `K` along them."""
    from sklearn.decomposition import PCA

    rank = int(np.linalg.matrix_rank(centred))
    if not 1 <= components <= rank:
        raise ConfigError(
            f"task.components={components}: expected 1 to {rank}, the dimensions that the train split spans."
        )
    analysis = PCA(components, svd_solver="full").fit(centred)
    deviations = np.sqrt(analysis.explained_variance_ * (len(centred) - 1) / len(centred))
    return np.asarray(analysis.components_), np.asarray(deviations)
