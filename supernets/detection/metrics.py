"""Average precision, as COCO defines it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from darts_hpo.errors import DataError
from darts_hpo.training.task import Metric
from supernets.detection.postprocess import detect
from supernets.detection.predictions import DetectionBatch

_MAX_DETECTIONS = (1, 10, 100)


class DetectionMetric(Metric):
    """Mean average precision over classes, in all and by class.

    Precision is interpolated at 101 recalls and averaged over the IoU thresholds 0.50, 0.55, ..., 0.95
    (pycocotools through torchmetrics). As in COCO's official numbers the 100 most certain detections of an
    image count. Boxes are compared in pixels of the network input; IoU does not change under letterboxing.
    Detections in an ignored region of their class (``iscrowd``, by the share of the detection inside it) count
    neither for nor against.

    Args:
        class_names: by class index.
        confidence: see :func:`~supernets.detection.postprocess.detect`.
        iou: see there.
        max_detections: see there. More than 100 do not change the metric.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        confidence: float = 0.001,
        iou: float = 0.7,
        max_detections: int = 300,
    ) -> None:
        # torchmetrics pulls in pycocotools, which costs as long as everything else together.
        from torchmetrics.detection import MeanAveragePrecision

        self.class_names = tuple(class_names)
        self.confidence, self.iou, self.max_detections = confidence, iou, max_detections
        self._average_precision = MeanAveragePrecision(
            # The precision of every class and threshold: all our numbers come from one pass.
            extended_summary=True,
            max_detection_thresholds=list(_MAX_DETECTIONS),
        )
        self._average_precision.warn_on_many_detections = False  # counting 100 of them is the definition

    def update(self, network: nn.Module, outputs: Tensor, batch: DetectionBatch) -> None:
        """Take in the predictions `B x (4 + C) x A` of one batch."""
        del network
        found = detect(outputs.cpu(), self.confidence, self.iou, self.max_detections)
        boxes, labels, ignored = batch.boxes, batch.labels, torch.zeros_like(batch.labels)
        if batch.ignored_boxes is not None and batch.ignored_labels is not None:
            boxes = torch.cat((boxes, batch.ignored_boxes), 1)
            labels = torch.cat((labels, batch.ignored_labels), 1)
            ignored = torch.cat((ignored, torch.ones_like(batch.ignored_labels)), 1)
        targets = [
            {
                "boxes": boxes[row][real].float().cpu(),
                "labels": labels[row][real].cpu(),
                "iscrowd": ignored[row][real].cpu(),
            }
            for row, real in enumerate(labels >= 0)
        ]
        self._average_precision.update(found, targets)

    def compute(self) -> dict[str, float]:
        """The metrics: ``map`` (IoU 0.50:0.95), ``map50``, ``map75``, ``map/<class>`` and ``map50/<class>``.

        A class without any object in the split has no average precision and no entry.

        Returns:
            Name to value in [0, 1].

        Raises:
            DataError: there is no object at all.
        """
        result = self._average_precision.compute()
        # Thresholds x recalls x classes, over all areas, 100 detections; -1 for classes without objects.
        precision = result["precision"][:, :, :, 0, -1]
        by_class = {
            int(label): precision[:, :, position]
            for position, label in enumerate(result["classes"].reshape(-1).tolist())
            if bool((precision[:, :, position] > -1).all())
        }
        if not by_class:
            raise DataError(
                "The evaluated images contain no object, so average precision is not defined; "
                "give the validation and test splits labelled images."
            )
        mean = torch.stack(list(by_class.values())).mean((0, 2))  # by threshold
        numbers = {"map": mean.mean(), "map50": mean[0], "map75": mean[5]}
        for label, values in by_class.items():
            numbers[f"map/{self.class_names[label]}"] = values.mean()
            numbers[f"map50/{self.class_names[label]}"] = values[0].mean()
        return {name: float(number) for name, number in numbers.items()}
