"""Small images from larger ones: a centred crop and average pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darts_hpo.errors import ConfigError


def pooled(images: NDArray[Any], size: int, crop: int | None = None) -> NDArray[np.float64]:
    """Crop the centre, then average square blocks of pixels.

    Args:
        images: `N x S x S`.
        size: side of the result in pixels; divides the crop.
        crop: side of the centred crop in pixels; None takes the whole image.

    Returns:
        `N x size x size`.

    Raises:
        ConfigError: the crop is larger than the image or off its centre, or the size does not divide it.
    """
    side = images.shape[-1]
    crop = side if crop is None else crop
    if not 1 <= crop <= side or (side - crop) % 2:
        raise ConfigError(
            f"task.data.crop={crop}: expected 1 to {side} pixels, {'even' if side % 2 == 0 else 'odd'} as the image."
        )
    if size < 1 or crop % size:
        divisors = [divisor for divisor in range(1, crop + 1) if crop % divisor == 0]
        raise ConfigError(f"task.data.size={size}: expected a side that divides {crop} pixels: {divisors}.")
    edge, block = (side - crop) // 2, crop // size
    centre = images[:, edge : edge + crop, edge : edge + crop]
    return centre.reshape(-1, size, block, size, block).mean(axis=(2, 4), dtype=np.float64)
