"""Embedded data: scenes composed of real handwritten digits.

The digits are the 1797 of scikit-learn's `load_digits` (8x8 pixels, from E. Alpaydin and C. Kaynak, "Optical
Recognition of Handwritten Digits", UCI, 1998). A scene shows several of them, enlarged, rotated and inked in
colour, on a textured background among shapes that are no digits. Every digit image belongs to one split: what
is tested was never seen in training, in any scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from sklearn.datasets import load_digits

from darts_hpo.errors import ConfigError
from supernets.detection.records import DetectionData, ImageRecord

CLASS_NAMES = tuple("0123456789")

# Part of the digit images that each split's scenes draw from.
_POOLS = {"train": 0.5, "arch": 0.2, "val": 0.15, "test": 0.15}
# Digit height as a part of the image side: 14 to 54 pixels at 160.
_HEIGHT = (0.09, 0.34)
_MAX_OVERLAP = 0.15
_MIN_CONTRAST = 85.0
# The brightness (0..255) that an eye and a grey camera see in red, green and blue (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class _Glyph:
    """An enlarged digit: coverage in [0, 1], cropped to its ink."""

    alpha: NDArray[np.float32]
    label: int


def digits_scenes(
    n_train: int = 400,
    n_arch: int = 160,
    n_val: int = 100,
    n_test: int = 100,
    image_size: int = 160,
    seed: int = 0,
    digits_per_scene: tuple[int, int] = (3, 10),
) -> DetectionData:
    """Compose the scenes, the same for the same arguments.

    Args:
        n_train: scenes for weights.
        n_arch: scenes for architecture logits.
        n_val: scenes for selections.
        n_test: scenes for the final number.
        image_size: side in pixels, 64 or more.
        seed: of the composition; also deals the digits out to the splits.
        digits_per_scene: fewest and most digits of a scene.

    Raises:
        ConfigError: a number is out of range.
    """
    sizes = {"train": n_train, "arch": n_arch, "val": n_val, "test": n_test}
    for name, number in sizes.items():
        if number < 1:
            raise ConfigError(f"data.source.n_{name} is {number}; at least one scene is needed.")
    if image_size < 64:
        raise ConfigError(f"data.image_size is {image_size}; digits need at least 64 pixels.")
    fewest, most = digits_per_scene
    if not 1 <= fewest <= most:
        raise ConfigError(
            f"data.source.digits_per_scene is {list(digits_per_scene)}; expected [fewest, most], 1 or more."
        )
    images, targets = load_digits(return_X_y=True)
    digits = images.reshape(-1, 8, 8).astype(np.float32) / 16
    pools = source_pools(targets, seed)
    splits = {}
    for position, (name, number) in enumerate(sizes.items()):
        records = []
        for scene in range(number):
            rng = np.random.default_rng([seed, position, scene])
            picture, boxes, labels = _compose(rng, digits, targets, pools[name], image_size, (fewest, most))
            records.append(ImageRecord(f"{name}/{scene:05d}", picture, image_size, image_size, boxes, labels))
        splits[name] = tuple(records)
    return DetectionData(CLASS_NAMES, splits, None, "digits_scenes")


def source_pools(targets: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.int64]]:
    """Indices of the digit images each split may use: disjoint, every class in its overall proportion."""
    rng = np.random.default_rng(seed)
    bounds = np.cumsum(list(_POOLS.values()))[:-1]
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in _POOLS}
    for label in range(len(CLASS_NAMES)):
        members = rng.permutation(np.flatnonzero(targets == label))
        for name, part in zip(_POOLS, np.split(members, np.round(bounds * len(members)).astype(int)), strict=True):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(part)) for name, part in parts.items()}


def _compose(
    rng: np.random.Generator,
    digits: NDArray[np.float32],
    targets: NDArray[np.int64],
    pool: NDArray[np.int64],
    size: int,
    number: tuple[int, int],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """One scene: picture, boxes and labels."""
    canvas = _background(rng, size)
    boxes: list[tuple[int, int, int, int]] = []
    labels = []
    for _ in range(rng.integers(number[0], number[1] + 1)):
        source = rng.choice(pool)
        glyph = _enlarge(rng, digits[source], int(targets[source]), size)
        box = _place(rng, glyph, boxes, size)
        # A crowded scene may have no room left for a large digit; it then has one digit fewer.
        if box is not None:
            _ink(rng, canvas, glyph, box)
            boxes.append(box)
            labels.append(glyph.label)
    noise = rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(2, 8))
    picture = np.clip(canvas + noise, 0, 255).round().astype(np.uint8)
    return picture, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)


def _background(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """`size x size x 3`: a colour gradient, coarse and fine texture, and distractor shapes."""
    corners = np.clip(rng.uniform(40, 215) + rng.normal(0, 22, (2, 2, 3)), 0, 255)
    canvas = _resized(corners, size) + _resized(rng.normal(0, 10, (9, 9, 3)), size)
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(3, 9)):
        _distractor(rng, draw, size)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(0.6)), np.float32).copy()


def _resized(values: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """A small `h x w x 3` field enlarged smoothly to the scene's size."""
    channels = [
        Image.fromarray(values[..., c].astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
        for c in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def _distractor(rng: np.random.Generator, draw: ImageDraw.ImageDraw, size: int) -> None:
    """Draw a shape that is no digit: a long line, zigzag, cross, polygon or filled blob."""
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    x, y = rng.uniform(0, size, 2)
    radius = rng.uniform(0.03, 0.13) * size
    width = int(rng.integers(1, 4))
    kind = rng.integers(5)
    if kind == 0:
        end = (x + rng.normal(0, 0.5) * size, y + rng.normal(0, 0.5) * size)
        draw.line([(x, y), end], fill=colour, width=width)
    elif kind == 1:
        steps = [(x + i * radius * 0.6, y + (radius if i % 2 else -radius) * 0.5) for i in range(6)]
        draw.line(steps, fill=colour, width=width)
    elif kind == 2:
        draw.line([(x - radius, y), (x + radius, y)], fill=colour, width=width)
        draw.line([(x, y - radius), (x, y + radius)], fill=colour, width=width)
    elif kind == 3:
        sides = int(rng.integers(3, 6))
        draw.regular_polygon((x, y, radius), sides, rotation=int(rng.integers(360)), outline=colour, width=width)
    else:
        draw.ellipse([x - radius, y - radius * 0.7, x + radius, y + radius * 0.7], fill=colour)


def _enlarge(rng: np.random.Generator, digit: NDArray[np.float32], label: int, size: int) -> _Glyph:
    """Enlarge an 8x8 digit to a random height, with slight rotation, stretch and pen width."""
    low, high = _HEIGHT
    # Uniform in the logarithm: as many small digits as large ones per octave.
    height = size * np.exp(rng.uniform(np.log(low), np.log(high)))
    width = height * rng.uniform(0.85, 1.2)
    framed = Image.fromarray(np.pad(digit, 2))
    # The frame of two pixels on each side leaves room for the rotation; 12/8 keeps the digit itself at
    # `height`.
    large = framed.resize((round(width * 1.5), round(height * 1.5)), Image.Resampling.BICUBIC)
    turned = np.asarray(large.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC))
    threshold = rng.uniform(0.35, 0.55)
    alpha = np.clip((turned - threshold) / 0.3 + 0.5, 0, 1).astype(np.float32)
    inked = alpha > 0.5
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    return _Glyph(alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], label)


def _place(
    rng: np.random.Generator, glyph: _Glyph, taken: list[tuple[int, int, int, int]], size: int
) -> tuple[int, int, int, int] | None:
    """A box (x1, y1, x2, y2) in the scene that overlaps no other by more than a small part of the smaller."""
    height, width = glyph.alpha.shape
    for _ in range(30):
        x, y = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
        for x1, y1, x2, y2 in taken:
            overlap = max(0, min(x + width, x2) - max(x, x1)) * max(0, min(y + height, y2) - max(y, y1))
            if overlap > _MAX_OVERLAP * min(width * height, (x2 - x1) * (y2 - y1)):
                break
        else:
            return x, y, x + width, y + height
    return None


def _ink(rng: np.random.Generator, canvas: NDArray[np.float32], glyph: _Glyph, box: tuple[int, int, int, int]) -> None:
    """Paint the digit in a colour that stands out from what lies below it."""
    x1, y1, x2, y2 = box
    region = canvas[y1:y2, x1:x2]
    below = float((region @ _LUMA).mean())
    for _ in range(50):
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        if abs(float(colour @ _LUMA) - below) >= _MIN_CONTRAST:
            break
    else:
        colour = np.full(3, 0.0 if below > 127 else 255.0, np.float32)
    coverage = glyph.alpha[..., None] * np.float32(rng.uniform(0.85, 1))
    region += coverage * (colour - region)
