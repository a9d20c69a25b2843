"""Geometry of boxes: complete IoU, and distances from anchor points as distributions over bins.

Boxes are corners (x1, y1, x2, y2) unless a name says otherwise. Conversions between layouts are
:func:`torchvision.ops.box_convert`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EPS = 1e-7


def complete_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    r"""Complete IoU of boxes taken in pairs, never of all against all.

    .. math:: \text{CIoU} = \text{IoU} - \frac{\rho^2(b_1, b_2)}{c^2} - \alpha v, \quad
        v = \frac{4}{\pi^2}\left(\arctan\frac{w_1}{h_1} - \arctan\frac{w_2}{h_2}\right)^2, \quad
        \alpha = \frac{v}{1 - \text{IoU} + v}

    with :math:`\rho` the distance of the centres and :math:`c` the diagonal of the smallest enclosing box
    (https://arxiv.org/abs/1911.08287, equations 8 to 11; :math:`\alpha` is not differentiated). Equal boxes
    give exactly 1, and the gradient is finite for boxes without area or overlap.

    Args:
        boxes1: `... x 4`, corners with x1 <= x2 and y1 <= y2.
        boxes2: `... x 4`, of a shape that broadcasts with ``boxes1``.

    Returns:
        `...`, in (-2, 1].
    """
    left1, top1, right1, bottom1 = boxes1.unbind(-1)
    left2, top2, right2, bottom2 = boxes2.unbind(-1)
    width1, height1 = right1 - left1, bottom1 - top1
    width2, height2 = right2 - left2, bottom2 - top2

    overlap_width = (torch.minimum(right1, right2) - torch.maximum(left1, left2)).clamp(min=0)
    overlap_height = (torch.minimum(bottom1, bottom2) - torch.maximum(top1, top2)).clamp(min=0)
    intersection = overlap_width * overlap_height
    union = width1 * height1 + width2 * height2 - intersection
    # A clamp where others add an epsilon: the IoU of equal boxes stays exactly 1.
    iou = intersection / union.clamp(min=_EPS)

    enclosing_width = torch.maximum(right1, right2) - torch.minimum(left1, left2)
    enclosing_height = torch.maximum(bottom1, bottom2) - torch.minimum(top1, top2)
    diagonal = (enclosing_width**2 + enclosing_height**2).clamp(min=_EPS)
    distance = ((left1 + right1 - left2 - right2) ** 2 + (top1 + bottom1 - top2 - bottom2) ** 2) / 4

    # atan2 needs no division by the height, so flat boxes keep a bounded gradient.
    angle1 = torch.atan2(width1.clamp(min=_EPS), height1.clamp(min=_EPS))
    angle2 = torch.atan2(width2.clamp(min=_EPS), height2.clamp(min=_EPS))
    aspect = (4 / math.pi**2) * (angle1 - angle2) ** 2
    with torch.no_grad():
        trade_off = aspect / (1 - iou + aspect).clamp(min=_EPS)
    return iou - distance / diagonal - trade_off * aspect


def expected_distances(box_logits: Tensor, bins: Tensor) -> Tensor:
    """Means of the distributions over the bins, one for each side of the box.

    The integral form of Generalized Focal Loss (https://arxiv.org/abs/2006.04388, equation 5).

    Args:
        box_logits: `... x (4 * R)`, the `R` bins of a side next to each other; sides in the order left, top,
            right, bottom.
        bins: `R`, the distance that every bin stands for, in units of the stride.

    Returns:
        `... x 4`, distances in units of the stride.
    """
    return box_logits.unflatten(-1, (4, bins.shape[0])).softmax(-1) @ bins


def distances_to_boxes(distances: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
    """Boxes in pixels from distances to their sides.

    Args:
        distances: `... x A x 4`, left, top, right, bottom in units of the stride.
        anchors: `A x 2`, centres (x, y) in units of the stride.
        strides: `A`, pixels per unit.

    Returns:
        `... x A x 4`, corners in pixels.
    """
    left_top, right_bottom = distances.chunk(2, -1)
    corners = torch.cat((anchors - left_top, anchors + right_bottom), -1)
    return corners * strides.unsqueeze(-1)


def boxes_to_distances(boxes: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
    """Inverse of :func:`distances_to_boxes`; negative where a centre lies outside its box.

    Args:
        boxes: `... x A x 4`, corners in pixels.
        anchors: `A x 2`, or of any shape `... x A x 2`, centres in units of the stride.
        strides: `A`, pixels per unit.

    Returns:
        `... x A x 4`, left, top, right, bottom in units of the stride.
    """
    left_top, right_bottom = (boxes / strides.unsqueeze(-1)).chunk(2, -1)
    return torch.cat((anchors - left_top, right_bottom - anchors), -1)


def decode_boxes(box_logits: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
    """Boxes in pixels from the logits of the distance bins 0, 1, ..., reg_max - 1.

    Args:
        box_logits: `... x A x (4 * reg_max)`.
        anchors: `A x 2`, centres (x, y) in units of the stride.
        strides: `A`, pixels per unit.

    Returns:
        `... x A x 4`, corners in pixels.
    """
    bins = torch.arange(box_logits.shape[-1] // 4, dtype=box_logits.dtype, device=box_logits.device)
    return distances_to_boxes(expected_distances(box_logits, bins), anchors, strides)
