"""What a detector minimizes: classification, box overlap and the distributions of distances."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from supernets.detection.assigner import Assignment, TaskAlignedAssigner
from supernets.detection.boxes import boxes_to_distances, complete_iou, decode_boxes
from supernets.detection.predictions import DetectionBatch, DetectorOutput, RawPredictions

_LARGEST_BIN_MARGIN = 0.01
"""Keeps a distance target below the last bin, so that the bin above it exists."""


class DetectionLoss:
    r"""The loss of YOLOv9 with its normalization, for one head or two.

    With the assignment's target scores :math:`\hat s` and their sum :math:`N = \max(\sum \hat s, 1)` over the
    batch:

    - ``cls``: binary cross entropy with logits over all predictions and classes, summed, over N;
    - ``box``: :math:`\sum \hat s (1 - \text{CIoU}) / N` over the assigned predictions;
    - ``dfl``: :math:`\sum \hat s \, \text{DFL} / N`, where DFL is the cross entropy with the two bins around
      the distance, linearly weighted, averaged over the four sides (https://arxiv.org/abs/2006.04388,
      equation 6).

    Each is multiplied by its gain. ``loss`` is their sum times the number of images. Gradients therefore add
    over images like those of a sum: a step on 16 images with the published learning rate moves the weights as
    far as the published recipe does per 16 images, which collects 64 before it steps. The batch size can
    change and the learning rate keep its meaning.

    Computation is in float32 (float64 for such logits) under autocast too: initial class losses exceed what
    half precision holds, and bfloat16 resolves neither IoU nor distances.

    Args:
        num_classes: number of classes.
        reg_max: bins per distance.
        box_gain: weight of ``box``.
        cls_gain: weight of ``cls``.
        dfl_gain: weight of ``dfl``.
        auxiliary_weight: weight of the auxiliary head's terms, which get an assignment of their own; at 0
            they are not computed.
        assigner: gives objects to predictions.
    """

    def __init__(
        self,
        num_classes: int,
        reg_max: int = 16,
        *,
        box_gain: float = 7.5,
        cls_gain: float = 0.5,
        dfl_gain: float = 1.5,
        auxiliary_weight: float = 0.25,
        assigner: TaskAlignedAssigner | None = None,
    ) -> None:
        self.num_classes = num_classes
        self.reg_max = reg_max
        self.gains = {"box": box_gain, "cls": cls_gain, "dfl": dfl_gain}
        self.auxiliary_weight = auxiliary_weight
        self.assigner = assigner or TaskAlignedAssigner()

    def __call__(
        self, output: DetectorOutput, batch: DetectionBatch, memo: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Loss of a batch.

        Args:
            output: of the network in training mode.
            batch: with any number of objects, none included.
            memo: where given, keeps the assignment of each head (keys ``assignment/main`` and
                ``assignment/auxiliary``); a later call with the same memo reuses it.

        Returns:
            Scalars: ``loss``, to be minimized, and its parts ``box``, ``cls``, ``dfl`` with gains, per unit
            of target score; ``aux_box``, ``aux_cls``, ``aux_dfl`` where there is an auxiliary head, before
            its weight.
        """
        memo = {} if memo is None else memo
        with torch.autocast(output.main.box_logits.device.type, enabled=False):
            terms = self._head("main", output.main, batch, memo)
            loss = terms["box"] + terms["cls"] + terms["dfl"]
            if output.auxiliary is not None and self.auxiliary_weight:
                aux = self._head("auxiliary", output.auxiliary, batch, memo)
                loss = loss + self.auxiliary_weight * (aux["box"] + aux["cls"] + aux["dfl"])
                terms |= {f"aux_{name}": term for name, term in aux.items()}
        return {"loss": loss * len(batch.images), **terms}

    def _head(self, name: str, raw: RawPredictions, batch: DetectionBatch, memo: dict[str, Any]) -> dict[str, Tensor]:
        box_logits, class_logits = _at_least_float32(raw.box_logits), _at_least_float32(raw.class_logits)
        anchors, strides = raw.anchors.to(box_logits.dtype), raw.strides.to(box_logits.dtype)
        key = f"assignment/{name}"
        if key not in memo:
            memo[key] = self.assigner(
                class_logits.detach().sigmoid(),
                decode_boxes(box_logits.detach(), anchors, strides),
                anchors * strides.unsqueeze(-1),
                batch.boxes,
                batch.labels,
            )
        assignment: Assignment = memo[key]
        images, points, objects, scores = assignment
        normalizer = scores.sum().clamp(min=1)

        class_targets = torch.zeros_like(class_logits)
        class_targets[images, points, batch.labels[images, objects]] = scores
        cls = F.binary_cross_entropy_with_logits(class_logits, class_targets, reduction="sum") / normalizer

        # With no object these are sums over nothing: zero, and still connected to the logits.
        target_boxes = batch.boxes[images, objects].to(box_logits.dtype)
        logits, centres, stride = box_logits[images, points], anchors[points], strides[points]
        overlap = complete_iou(decode_boxes(logits, centres, stride), target_boxes)
        box = ((1 - overlap) * scores).sum() / normalizer

        distances = boxes_to_distances(target_boxes, centres, stride)
        dfl = (self._distribution_loss(logits, distances) * scores).sum() / normalizer
        return {
            "box": self.gains["box"] * box,
            "cls": self.gains["cls"] * cls,
            "dfl": self.gains["dfl"] * dfl,
        }

    def _distribution_loss(self, logits: Tensor, distances: Tensor) -> Tensor:
        """Distribution focal loss, `P`, from logits `P x (4 * reg_max)` and distances `P x 4`."""
        target = distances.clamp(0, self.reg_max - 1 - _LARGEST_BIN_MARGIN)
        lower = target.floor()
        weight_upper = target - lower
        index = lower.long().unsqueeze(-1)
        log_probabilities = logits.unflatten(-1, (4, self.reg_max)).log_softmax(-1)
        at_lower = log_probabilities.gather(-1, index).squeeze(-1)
        at_upper = log_probabilities.gather(-1, index + 1).squeeze(-1)
        return -((1 - weight_upper) * at_lower + weight_upper * at_upper).mean(-1)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
