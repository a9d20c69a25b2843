"""What a detector hands to its loss, and what it hands to everybody else."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class RawPredictions(NamedTuple):
    """Undecoded outputs of one detection head over all levels, `A` anchor points in all.

    Attributes:
        box_logits: `B x A x (4 * reg_max)`, per side (left, top, right, bottom) the logits of the distance's bins.
        class_logits: `B x A x C`.
        anchors: `A x 2`, anchor centres (x, y) in units of their stride.
        strides: `A`, pixels per unit.
    """

    box_logits: Tensor
    class_logits: Tensor
    anchors: Tensor
    strides: Tensor


class DetectorOutput(NamedTuple):
    """Output of a detector in training mode.

    In evaluation mode a detector returns one tensor `B x (4 + C) x A` instead: box centre x, y, width, height in
    pixels of the network input, then the class scores in [0, 1].
    """

    main: RawPredictions
    auxiliary: RawPredictions | None = None


class DetectionBatch(NamedTuple):
    """A batch of letterboxed images with their objects.

    Attributes:
        images: `B x 3 x H x W`, float32 in [0, 1], RGB.
        boxes: `B x M x 4`, corners (x1, y1, x2, y2) in pixels of the network input; rows of zeros where padded.
        labels: `B x M`, int64 class indices; -1 where padded.
        indices: `B`, int64, position of the image in the data set.
        ignored_boxes: `B x K x 4`, like ``boxes``: regions where a detection is neither right nor wrong. None, and
            always in training, where there are none.
        ignored_labels: `B x K`, like ``labels``, their classes.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    indices: Tensor
    ignored_boxes: Tensor | None = None
    ignored_labels: Tensor | None = None
