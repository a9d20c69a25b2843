"""Training augmentation: mosaic, scale and shift, flips, colour and mix-up.

All geometry here is axis-aligned, so an output image is a few crops, each resampled once, straight to its
place: no canvas of twice the size is ever drawn and a sample costs little more than the pixels it shows.
Boxes follow the very same integer windows, hence exactly.

Everything is drawn from one generator per sample: a sample is a pure function of seed, epoch and index.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from darts_hpo.errors import ConfigError

PAD_VALUE = 114
"""Grey (of 255) where an image does not reach, as in the YOLO family."""

# Shape parameter of the symmetric Beta distribution of mix-up ratios, narrow around one half, as in YOLOX and
# YOLOv9 (mix-up: Zhang et al., ICLR 2018).
_MIXUP_BETA = 32.0
# Rows: brightness and the two chroma axes of YIQ; hue turns the chroma plane, saturation stretches it.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_RGB_OF_YIQ = np.linalg.inv(_YIQ)


@dataclass(frozen=True)
class Augmentation:
    """What happens to training images; names and defaults as users of the YOLO family know them.

    Attributes:
        mosaic: probability of four images in one (Bochkovskiy et al., "YOLOv4", 2020).
        close_mosaic: last epochs of a training without mosaic and mix-up.
        mixup: probability of blending in a second sample, drawn only where there is mosaic.
        translate: largest shift, as a part of the image side.
        scale: sizes change by a factor drawn evenly from 1 - scale to 1 + scale.
        hsv_h: largest turn of the hue, as a part of the circle.
        hsv_s: largest relative change of saturation.
        hsv_v: largest relative change of brightness.
        fliplr: probability of a mirror image, left for right.
        flipud: probability of a mirror image, upside down.
        rot90: probability of a quarter turn, for images without an up (microscopes, aerial views).
        min_side: boxes with a side of fewer pixels, after all, are dropped.
        min_visibility: boxes of which less than this part of the area is still in the image are dropped.

    Raises:
        ConfigError: a value is out of range.
    """

    mosaic: float = 1.0
    close_mosaic: int = 10
    mixup: float = 0.0
    translate: float = 0.1
    scale: float = 0.5
    hsv_h: float = 0.015
    hsv_s: float = 0.7
    hsv_v: float = 0.4
    fliplr: float = 0.5
    flipud: float = 0.0
    rot90: float = 0.0
    min_side: float = 2.0
    min_visibility: float = 0.1

    def __post_init__(self) -> None:
        upper = {"close_mosaic": math.inf, "min_side": math.inf, "scale": 0.95, "hsv_h": 0.5}
        for entry in fields(self):
            value, most = getattr(self, entry.name), upper.get(entry.name, 1.0)
            if not 0 <= value <= most:
                raise ConfigError(f"data.augmentation.{entry.name} is {value}; it must lie between 0 and {most:g}.")


class Labelled(NamedTuple):
    """An image with its boxes.

    Attributes:
        image: `3 x H x W`, uint8, RGB.
        boxes: `N x 4`, float32, corners (x1, y1, x2, y2) in pixels of the image.
        labels: `N`, int64.
    """

    image: Tensor
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


class Placement(NamedTuple):
    """Where a source image lies in the output: its top left corner and its magnification."""

    source: Labelled
    left: float
    top: float
    scale: float


@dataclass(frozen=True)
class Letterbox:
    """The map from an original image to the square network input and back.

    Attributes:
        width: of the original, pixels.
        height: of the original, pixels.
        size: side of the network input, pixels.
    """

    width: int
    height: int
    size: int

    @property
    def resized(self) -> tuple[int, int]:
        """Width and height once the longer side fits the input."""
        ratio = self.size / max(self.width, self.height)
        return max(1, round(self.width * ratio)), max(1, round(self.height * ratio))

    @property
    def padding(self) -> tuple[int, int]:
        """Pixels left of and above the resized image."""
        width, height = self.resized
        return (self.size - width) // 2, (self.size - height) // 2

    @property
    def scale(self) -> tuple[float, float]:
        """Resized by original pixels, horizontally and vertically; equal but for rounding."""
        width, height = self.resized
        return width / self.width, height / self.height

    def to_original(self, boxes: Tensor) -> Tensor:
        """Boxes of the network input in pixels of the original, clipped to it.

        Args:
            boxes: `N x 4`, corners.
        """
        offset = boxes.new_tensor([*self.padding, *self.padding])
        factor = boxes.new_tensor([*self.scale, *self.scale])
        limit = boxes.new_tensor([self.width, self.height] * 2)
        return torch.minimum(((boxes - offset) / factor).clamp_min(0), limit)


def augment(
    index: int,
    fetch: Callable[[int], Labelled],
    number: int,
    size: int,
    settings: Augmentation,
    rng: np.random.Generator,
    *,
    mosaic: bool,
) -> Labelled:
    """One augmented training sample.

    Args:
        index: of the main image.
        fetch: gives an image of the split by its index, longer side equal to ``size``.
        number: of images in the split; partners of mosaic and mix-up are drawn from them.
        size: side of the output, pixels.
        settings: what to do.
        rng: all that is random comes from here.
        mosaic: off for the last epochs.
    """
    sample = _arranged(index, fetch, number, size, settings, rng, mosaic=mosaic)
    if mosaic and rng.random() < settings.mixup:
        partner = _arranged(int(rng.integers(number)), fetch, number, size, settings, rng, mosaic=mosaic)
        sample = _mixed(sample, partner, float(rng.beta(_MIXUP_BETA, _MIXUP_BETA)))
    sample = _oriented(sample, settings, rng)
    return sample._replace(image=_recoloured(sample.image, settings, rng))


def compose(placements: Sequence[Placement], size: int, min_side: float, min_visibility: float) -> Labelled:
    """Draw source images into one square output.

    Args:
        placements: drawn in this order.
        size: side of the output, pixels.
        min_side: boxes with a shorter side in the output are dropped.
        min_visibility: boxes of which a smaller part of the area lies in the output are dropped.
    """
    canvas = torch.full((3, size, size), PAD_VALUE, dtype=torch.uint8)
    boxes, labels = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    for placement in placements:
        source = placement.source
        height, width = source.image.shape[-2:]
        x = _window(placement.left, placement.scale, width, size)
        y = _window(placement.top, placement.scale, height, size)
        if x is None or y is None:
            continue
        (left, right, x1, x2), (top, bottom, y1, y2) = x, y
        if (right - left, bottom - top) == (x2 - x1, y2 - y1):
            patch = source.image[:, top:bottom, left:right]
        else:
            patch = functional.resized_crop(
                source.image, top, left, bottom - top, right - left, [y2 - y1, x2 - x1], antialias=True
            )
        clear_x, clear_y = max(0, -x1), max(0, -y1)
        patch = patch[:, clear_y : size - y1, clear_x : size - x1]
        canvas[:, y1 + clear_y : min(y2, size), x1 + clear_x : min(x2, size)] = patch
        scale_x, scale_y = (x2 - x1) / (right - left), (y2 - y1) / (bottom - top)
        factor = np.array([scale_x, scale_y] * 2, np.float32)
        offset = np.array([x1 - left * scale_x, y1 - top * scale_y] * 2, np.float32)
        kept_boxes, kept_labels = visible_boxes(
            source.boxes * factor + offset, source.labels, size, min_side, min_visibility
        )
        boxes.append(kept_boxes)
        labels.append(kept_labels)
    return Labelled(canvas, np.concatenate(boxes), np.concatenate(labels))


def _window(offset: float, scale: float, length: int, size: int) -> tuple[int, int, int, int] | None:
    """Along one axis: the source pixels that show, first and end, and the output pixels they fill.

    Output pixels may lie outside ``0..size`` by less than one source pixel on either side. None if nothing
    shows.
    """
    first = max(0, math.floor(-offset / scale))
    end = min(length, math.ceil((size - offset) / scale))
    start, stop = round(offset + first * scale), round(offset + end * scale)
    if end <= first or stop <= start or stop <= 0 or start >= size:
        return None
    return first, end, start, stop


def visible_boxes(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    size: int,
    min_side: float,
    min_visibility: float,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes clipped to a square image, without those of which too little is left.

    Args:
        boxes: `N x 4`, corners in pixels, of any position.
        labels: `N`.
        size: side of the image.
        min_side: fewest pixels of either side.
        min_visibility: smallest part of the area.
    """
    clipped = boxes.clip(0, size)
    sides, whole = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    visible = sides.prod(1) >= min_visibility * whole.prod(1)
    keep = visible & (sides >= min_side).all(1)
    return clipped[keep], labels[keep]


def _arranged(
    index: int,
    fetch: Callable[[int], Labelled],
    number: int,
    size: int,
    settings: Augmentation,
    rng: np.random.Generator,
    *,
    mosaic: bool,
) -> Labelled:
    """One image or a mosaic of four, scaled and shifted."""
    four = mosaic and rng.random() < settings.mosaic
    scale = rng.uniform(1 - settings.scale, 1 + settings.scale)
    shift = (0.5 + rng.uniform(-settings.translate, settings.translate, 2)) * size
    if four:
        # The point where the four meet lies anywhere in the middle half of a canvas of twice the size; the
        # canvas' centre goes to `shift`.
        meet = shift + rng.uniform(-0.5, 0.5, 2) * size * scale
        sources = [fetch(i) for i in [index, *rng.integers(number, size=3).tolist()]]
        order = rng.permutation(4).tolist()
        placements = [
            _in_quadrant(source, quadrant, meet, scale) for source, quadrant in zip(sources, order, strict=True)
        ]
    else:
        source = fetch(index)
        height, width = source.image.shape[-2:]
        placements = [Placement(source, shift[0] - width * scale / 2, shift[1] - height * scale / 2, scale)]
    return compose(placements, size, settings.min_side, settings.min_visibility)


def _in_quadrant(source: Labelled, quadrant: int, meet: NDArray[np.float64], scale: float) -> Placement:
    """Touching the meeting point from the left or right (bit 0) and from above or below (bit 1)."""
    height, width = source.image.shape[-2:]
    # Rounded so that neighbours share an edge exactly.
    x, y = round(float(meet[0])), round(float(meet[1]))
    return Placement(
        source,
        float(x if quadrant & 1 else x - width * scale),
        float(y if quadrant & 2 else y - height * scale),
        scale,
    )


def _mixed(first: Labelled, second: Labelled, ratio: float) -> Labelled:
    """Both images blended, both sets of boxes."""
    blended = first.image.float().lerp_(second.image.float(), 1 - ratio).round_().to(torch.uint8)
    return Labelled(
        blended,
        np.concatenate([first.boxes, second.boxes]),
        np.concatenate([first.labels, second.labels]),
    )


def _oriented(sample: Labelled, settings: Augmentation, rng: np.random.Generator) -> Labelled:
    """Mirrored and turned, with the probabilities of the settings."""
    image, boxes, labels = sample
    size = image.shape[-1]
    mirror, overturn, turn = rng.random(3) < (settings.fliplr, settings.flipud, settings.rot90)
    if mirror:
        image = functional.horizontal_flip(image)
        boxes = boxes[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1], np.float32) + np.array([size, 0, size, 0], np.float32)
    if overturn:
        image = functional.vertical_flip(image)
        boxes = boxes[:, [0, 3, 2, 1]] * np.array([1, -1, 1, -1], np.float32) + np.array([0, size, 0, size], np.float32)
    if turn:
        # A quarter turn counter-clockwise takes (x, y) to (y, size - x).
        image = torch.rot90(image, 1, (-2, -1))
        boxes = np.stack([boxes[:, 1], size - boxes[:, 2], boxes[:, 3], size - boxes[:, 0]], axis=1)
    return Labelled(image, boxes, labels)


def colour_matrix(hue: float, saturation: float, value: float) -> NDArray[np.float64]:
    """`3 x 3` matrix on RGB: hue turned by a part of the circle, saturation and brightness multiplied.

    The linear form of the HSV change, in YIQ space: it keeps greys grey and costs one matrix product, where
    the conversion to HSV and back costs thirty times as much.
    """
    angle = 2 * math.pi * hue
    cosine, sine = saturation * math.cos(angle), saturation * math.sin(angle)
    chroma = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    return value * (_RGB_OF_YIQ @ chroma @ _YIQ)


def _recoloured(image: Tensor, settings: Augmentation, rng: np.random.Generator) -> Tensor:
    hue, saturation, value = rng.uniform(-1, 1, 3) * (settings.hsv_h, settings.hsv_s, settings.hsv_v)
    if not (settings.hsv_h or settings.hsv_s or settings.hsv_v):
        return image.contiguous()
    matrix = torch.from_numpy(colour_matrix(hue, 1 + saturation, 1 + value)).float()
    pixels = matrix @ image.reshape(3, -1).float()
    return pixels.round_().clamp_(0, 255).to(torch.uint8).reshape(image.shape)
