"""Labelled samples as a reader gives them, and the choice of some classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts_hpo.errors import ConfigError, DataError


@dataclass(frozen=True)
class LabelledData:
    """Samples with features and one class each.

    Args:
        features: `N x F`, as the reader found or pooled them.
        labels: `N`, class indices.
        class_names: by class index.
        value_range: smallest and largest value that a feature can have, where that is known beforehand (pixels);
            None has features standardized by the train split.
        held_out: `N`, samples that the data set sets aside for testing; None where it sets none aside.
        preprocessing: plain data that says how a raw sample becomes features.

    Raises:
        DataError: there is no sample, a feature is not finite, or shapes do not fit.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    value_range: tuple[float, float] | None = None
    held_out: NDArray[np.bool_] | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = len(self.labels)
        if size == 0 or self.features.ndim != 2 or len(self.features) != size:
            raise DataError(f"Features of shape {self.features.shape} do not fit {size} labels: expected N x F and N.")
        if not np.isfinite(self.features).all():
            raise DataError("A feature is not finite; remove or fill missing values before they are read.")
        if self.labels.min() < 0 or self.labels.max() >= len(self.class_names):
            raise DataError(f"A label lies outside of 0 to {len(self.class_names) - 1}, the classes that have names.")

    @property
    def n_features(self) -> int:
        """Features per sample."""
        return int(self.features.shape[1])


def chosen_classes(
    labels: NDArray[np.int64], classes: Sequence[int] | None, available: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64], list[int]]:
    """Keep some classes and count them anew from 0, in the order given.

    Args:
        labels: `N`, class indices.
        classes: to keep, at least two; None keeps all.
        available: number of classes.

    Returns:
        Which samples are kept (`N`), their new labels, and the classes.

    Raises:
        ConfigError: a class does not exist or is given twice, or there are fewer than two.
    """
    wanted = list(range(available)) if classes is None else [int(label) for label in classes]
    if len(wanted) < 2 or len(set(wanted)) < len(wanted) or min(wanted) < 0 or max(wanted) >= available:
        raise ConfigError(
            f"task.data.classes={wanted}: expected two or more different classes out of 0 to {available - 1}, "
            "for example [0,1,2,3]."
        )
    places = np.full(available, -1, dtype=np.int64)
    places[wanted] = np.arange(len(wanted))
    kept = places[labels] >= 0
    return kept, places[labels][kept], wanted
