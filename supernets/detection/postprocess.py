"""From a detector's output to a list of objects: thresholds and non-maximum suppression."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

Detections: TypeAlias = dict[str, Tensor]
"""Objects found in one image, `D` of them, the most certain first: ``boxes`` (`D x 4`, corners in pixels of
the network input), ``scores`` (`D`, in [0, 1]) and ``labels`` (`D`, int64)."""


@torch.no_grad()
def detect(
    predictions: Tensor,
    confidence: float = 0.001,
    iou: float = 0.7,
    max_detections: int = 300,
    *,
    multi_label: bool = True,
    max_candidates: int = 30_000,
) -> list[Detections]:
    """Keep the certain predictions and of those that overlap the best, class by class.

    The defaults are those of YOLOv9's evaluation. For showing results a ``confidence`` of 0.25 is customary.

    Args:
        predictions: `B x (4 + C) x A`, box centre x, y, width, height in pixels, then class scores in [0, 1].
        confidence: predictions with a score at or below it are dropped.
        iou: of two boxes of one class that overlap by more, the less certain is dropped.
        max_detections: objects kept per image.
        multi_label: whether a prediction may name several classes; otherwise its best class counts alone.
        max_candidates: predictions per image that enter the suppression.

    Returns:
        One entry per image.
    """
    return [
        _detect_one(image.float(), confidence, iou, max_detections, multi_label, max_candidates)
        for image in predictions
    ]


def _detect_one(
    predictions: Tensor, confidence: float, iou: float, max_detections: int, multi_label: bool, limit: int
) -> Detections:
    class_scores = predictions[4:]
    if multi_label:
        labels, points = (class_scores > confidence).nonzero(as_tuple=True)
    else:
        best, best_label = class_scores.max(0)
        points = (best > confidence).nonzero().squeeze(1)
        labels = best_label[points]
    scores = class_scores[labels, points]
    if len(scores) > limit:
        scores, top = scores.topk(limit)
        labels, points = labels[top], points[top]
    boxes = box_convert(predictions[:4, points].T, "cxcywh", "xyxy")
    kept = batched_nms(boxes, scores, labels, iou)[:max_detections]
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
