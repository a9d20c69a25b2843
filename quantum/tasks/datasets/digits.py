"""Scikit-learn's handwritten digits: 1797 real images of 8 x 8 pixels, bundled, no download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.datasets import load_digits

from quantum.tasks.datasets.labelled import LabelledData, chosen_classes
from quantum.tasks.datasets.pooling import pooled

IMAGE_SIZE = 8
BRIGHTEST = 16.0


def digits(classes: Sequence[int] | None = None, size: int = 4) -> LabelledData:
    """Digits of some classes, averaged down to a small image.

    Args:
        classes: digits to tell apart, labels in this order; None takes all ten.
        size: side of the image in pixels: 8, or 4, 2 or 1 by average pooling. Features are its pixels, row by row.

    Raises:
        ConfigError: a class or the size is not available.
    """
    images, labels = load_digits(return_X_y=True)
    kept, places, wanted = chosen_classes(np.asarray(labels, dtype=np.int64), classes, 10)
    small = pooled(np.asarray(images, dtype=np.float64)[kept].reshape(-1, IMAGE_SIZE, IMAGE_SIZE), size)
    return LabelledData(
        features=small.reshape(len(small), -1),
        labels=places,
        class_names=tuple(str(label) for label in wanted),
        value_range=(0.0, BRIGHTEST),
        preprocessing={
            "channels": "gray, ink bright",
            "image_size": [IMAGE_SIZE, IMAGE_SIZE],
            "range": [0.0, BRIGHTEST],
            "average_pool": IMAGE_SIZE // size,
            "layout": "row by row",
        },
    )
