"""Which prediction is to learn which object: the task-aligned assigner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from supernets.detection.boxes import complete_iou


class Assignment(NamedTuple):
    """The `P` predictions that were given an object; every other prediction is background.

    Attributes:
        images: `P`, int64, position of the image in the batch.
        anchors: `P`, int64, position of the anchor point.
        objects: `P`, int64, position of the object among its image's.
        scores: `P`, the class score to be predicted, in [0, 1].
    """

    images: Tensor
    anchors: Tensor
    objects: Tensor
    scores: Tensor


@dataclass(frozen=True)
class TaskAlignedAssigner:
    """Gives each object the predictions that are best at both tasks, classification and localization.

    Candidates of an object are the anchor points strictly inside its box. They are ranked by the alignment
    `t = s^alpha * u^beta`, where `s` is the predicted score of the object's class and `u` the complete IoU,
    not below 0; the best ``topk`` are taken. A prediction wanted by several objects goes to the one with
    which its IoU is highest. Its target score is `t` scaled so that the object's largest equals the object's
    largest IoU (TOOD, https://arxiv.org/abs/2108.07755, section 3.2; the numbers are those of YOLOv9).

    Args:
        topk: predictions per object, at most.
        alpha: exponent of the score.
        beta: exponent of the IoU.
        eps: added to the largest alignment before the division. It also damps the targets of objects that no
            prediction comes near yet.
    """

    topk: int = 10
    alpha: float = 0.5
    beta: float = 6.0
    eps: float = 1e-9

    @torch.no_grad()
    def __call__(
        self, scores: Tensor, boxes: Tensor, centres: Tensor, object_boxes: Tensor, object_labels: Tensor
    ) -> Assignment:
        """Assign the objects of a batch.

        Args:
            scores: `B x A x C`, predicted class scores in [0, 1].
            boxes: `B x A x 4`, predicted corners in pixels.
            centres: `A x 2`, anchor points (x, y) in pixels.
            object_boxes: `B x M x 4`, corners in pixels.
            object_labels: `B x M`, int64 classes; -1 where padded.

        Returns:
            The assignment, ordered by image and anchor. Empty where there are no objects.
        """
        n_images, n_anchors = scores.shape[:2]
        n_objects = object_labels.shape[1]
        if n_objects == 0:
            none = torch.empty(0, dtype=torch.long, device=scores.device)
            return Assignment(none, none, none, scores.new_empty(0))

        left_top, right_bottom = object_boxes.unsqueeze(2).chunk(2, -1)
        inside = ((centres > left_top) & (centres < right_bottom)).all(-1)  # B x M x A
        inside &= (object_labels >= 0).unsqueeze(-1)

        # Only pairs of an object and a point inside it have an IoU worth computing: few of the B x M x A.
        image, obj, anchor = inside.nonzero(as_tuple=True)
        pair_iou = complete_iou(object_boxes[image, obj].to(boxes.dtype), boxes[image, anchor]).clamp(min=0)
        pair_score = scores[image, anchor, object_labels[image, obj]]
        iou = scores.new_full(inside.shape, -1.0)
        iou[image, obj, anchor] = pair_iou
        alignment = scores.new_full(inside.shape, -1.0)
        alignment[image, obj, anchor] = pair_score**self.alpha * pair_iou**self.beta

        best, best_anchor = alignment.topk(min(self.topk, n_anchors), dim=-1)
        # Points outside have alignment -1: an object with fewer than topk points inside gets no others.
        wanted = torch.zeros_like(inside).scatter_(-1, best_anchor, best >= 0)
        winner = iou.masked_fill(~wanted, -1.0).argmax(1)  # B x A
        images, anchors = wanted.any(1).nonzero(as_tuple=True)
        objects = winner[images, anchors]

        align = alignment[images, objects, anchors]
        owner = images * n_objects + objects
        largest = scores.new_zeros(2, n_images * n_objects)
        largest[0].scatter_reduce_(0, owner, align, "amax")
        largest[1].scatter_reduce_(0, owner, iou[images, objects, anchors], "amax")
        targets = align * largest[1, owner] / (largest[0, owner] + self.eps)
        return Assignment(images, anchors, objects, targets)
