"""Images with their boxes, for reports and for looking at the data."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

_GOLDEN_RATIO = 0.618034


def class_color(label: int) -> tuple[int, int, int]:
    """A colour (red, green, blue in 0..255) for a class; neighbouring classes get distant hues."""
    red, green, blue = colorsys.hsv_to_rgb((0.02 + label * _GOLDEN_RATIO) % 1.0, 0.9, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_objects(
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    scores: Tensor | None = None,
    width: int = 2,
) -> Tensor:
    """Draw boxes with class names on an image.

    Args:
        image: `3 x H x W`, floating point in [0, 1], or uint8.
        boxes: `N x 4`, corners in pixels.
        labels: `N`, class indices; rows below 0 are padding and not drawn.
        class_names: by class index.
        scores: `N`, written beside the name where given.
        width: of the lines, in pixels.

    Returns:
        `3 x H x W`, uint8.
    """
    canvas = image if image.dtype == torch.uint8 else (image.detach().clamp(0, 1) * 255).round().to(torch.uint8)
    canvas = canvas.cpu()
    rows = (labels >= 0).nonzero().squeeze(1).tolist()
    if not rows:
        return canvas.clone()
    classes = [int(labels[row]) for row in rows]
    texts = [class_names[label] for label in classes]
    if scores is not None:
        texts = [f"{text} {float(scores[row]):.2f}" for text, row in zip(texts, rows, strict=True)]
    corners = boxes[rows].detach().float().cpu()
    corners[:, 2:] = torch.maximum(corners[:, :2], corners[:, 2:])  # the drawer refuses flipped boxes
    return draw_bounding_boxes(canvas, corners, texts, [class_color(label) for label in classes], width=width)
