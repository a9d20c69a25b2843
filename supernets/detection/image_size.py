"""Which sizes a detector takes: what its strides divide."""

from __future__ import annotations

from collections.abc import Sequence

from darts_hpo.errors import ConfigError

MAX_STRIDE = 32
"""Pixels per cell on the coarsest level of YOLOv9's layouts."""


def check_image_size(sides: Sequence[int], stride: int = MAX_STRIDE, *, name: str = "The image size") -> None:
    """Refuse a network input that cannot be halved all the way down.

    Args:
        sides: height and width in pixels, or the one side of a square.
        stride: largest stride of the network.
        name: of what is checked, for the message.

    Raises:
        ConfigError: a side is not a positive multiple of the stride; names the nearest valid sizes.
    """
    for side in sides:
        if side < stride or side % stride:
            below = max(stride, side // stride * stride)
            raise ConfigError(
                f"{name} is {' x '.join(map(str, sides))}; it must be a multiple of {stride}, "
                f"for example {below} or {below + stride}."
            )
