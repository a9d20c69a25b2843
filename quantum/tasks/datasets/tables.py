"""Scikit-learn's small tables: iris, wine and breast cancer, bundled, no download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_iris, load_wine

from quantum.tasks.datasets.labelled import LabelledData, chosen_classes


def iris(classes: Sequence[int] | None = None) -> LabelledData:
    """150 flowers, 4 measures in cm, 3 species.

    Args:
        classes: species to tell apart (0 setosa, 1 versicolor, 2 virginica); None takes all.
    """
    return _table(load_iris(), classes)


def wine(classes: Sequence[int] | None = None) -> LabelledData:
    """178 wines, 13 chemical measures, 3 growers.

    Args:
        classes: growers to tell apart, 0 to 2; None takes all.
    """
    return _table(load_wine(), classes)


def breast_cancer() -> LabelledData:
    """569 biopsies, 30 measures of cell nuclei, malignant (0) or benign (1)."""
    return _table(load_breast_cancer(), None)


def _table(bunch: Any, classes: Sequence[int] | None) -> LabelledData:
    names = [str(name) for name in bunch.target_names]
    kept, labels, wanted = chosen_classes(np.asarray(bunch.target, dtype=np.int64), classes, len(names))
    return LabelledData(
        features=np.asarray(bunch.data, dtype=np.float64)[kept],
        labels=labels,
        class_names=tuple(names[label] for label in wanted),
        preprocessing={"columns": [str(name) for name in bunch.feature_names]},
    )
