"""Object detection as a task of the engine: splits, batches, loss and mean average precision."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from darts_hpo.errors import ConfigError
from darts_hpo.report import Figure
from darts_hpo.training.task import EpochSampler, Metric, Split, Task
from supernets.detection.augment import PAD_VALUE, Augmentation
from supernets.detection.dataset import (
    DetectionDataset,
    DetectionSample,
    ImageCache,
    collate,
)
from supernets.detection.figures import detection_examples
from supernets.detection.image_size import check_image_size
from supernets.detection.loss import DetectionLoss
from supernets.detection.metrics import DetectionMetric
from supernets.detection.predictions import DetectionBatch, DetectorOutput
from supernets.detection.records import DetectionData
from supernets.detection.splits import SPLIT_NAMES, DetectionSplits, prepare_splits


class DetectionTask(Task):
    """Finds objects of named classes in images.

    Args:
        data: what a reader or the scene composer gave.
        image_size: side of the square network input in pixels, a multiple of 32.
        augmentation: of training images.
        box_gain: weight of the box loss (complete IoU).
        cls_gain: weight of the class loss.
        dfl_gain: weight of the distribution focal loss.
        auxiliary_weight: weight of an auxiliary head's loss beside the main one's.
        arch_fraction: share of the training images that drive the logits, where the data set offers no such split.
        val_fraction: share of the images offered for training that becomes ``val``, where none is offered.
        test_fraction: the same for ``test``.
        evaluation_batch_size: images in a batch when nothing is trained.
        workers: processes that load images; 0 loads in the training process.
        confidence: predictions below are not evaluated.
        iou: overlap above which of two boxes of one class the less certain is dropped.
        max_detections: per image.
        cache_gib: memory for decoded images; those beyond it are decoded again at every use.

    Raises:
        ConfigError: a value is out of range.
    """

    primary_metric = "map"
    metric_names = ("map", "map50", "map75")

    def __init__(
        self,
        data: DetectionData,
        image_size: int,
        augmentation: Augmentation,
        *,
        box_gain: float = 7.5,
        cls_gain: float = 0.5,
        dfl_gain: float = 1.5,
        auxiliary_weight: float = 0.25,
        arch_fraction: float = 0.3,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        evaluation_batch_size: int = 16,
        workers: int = 0,
        confidence: float = 0.001,
        iou: float = 0.7,
        max_detections: int = 300,
        cache_gib: float = 4.0,
    ) -> None:
        check_image_size([image_size], name="data.image_size")
        shares = {"arch_fraction": arch_fraction, "val_fraction": val_fraction, "test_fraction": test_fraction}
        _require(
            {"box_gain": box_gain, "cls_gain": cls_gain, "dfl_gain": dfl_gain, "auxiliary_weight": auxiliary_weight},
            lambda value: 0 <= value < math.inf,
            "a weight of 0 or more",
        )
        _require(shares, lambda value: 0 < value < 1, "a share between 0 and 1")
        _require({"confidence": confidence}, lambda value: 0 <= value < 1, "a score from 0 to below 1")
        _require({"iou": iou}, lambda value: 0 < value <= 1, "an overlap above 0, at most 1")
        counts = {"evaluation_batch_size": evaluation_batch_size, "max_detections": max_detections}
        _require(counts, lambda value: value >= 1, "a number of at least 1")
        _require({"workers": workers}, lambda value: value >= 0, "a number of at least 0")
        _require({"cache_gib": cache_gib}, lambda value: 0 <= value < math.inf, "GiB, 0 or more")
        self.data, self.image_size, self.augmentation = data, image_size, augmentation
        self.criterion = DetectionLoss(
            data.num_classes,
            box_gain=box_gain,
            cls_gain=cls_gain,
            dfl_gain=dfl_gain,
            auxiliary_weight=auxiliary_weight,
        )
        self.evaluation_batch_size, self.workers = evaluation_batch_size, workers
        self._fractions = shares
        self._metric_arguments = {"confidence": confidence, "iou": iou, "max_detections": max_detections}
        self._cache = ImageCache(image_size, cache_gib)
        self._seed = 0
        self._splits: DetectionSplits | None = None

    # -- data ---------------------------------------------------------------------------------------------------

    def prepare(self, run_dir: Path, seed: int) -> None:
        """Make the splits, or read those of an earlier start of the run, and decode every image once.

        Raises:
            DataError: there are too few images, or one is damaged.
        """
        self._seed = seed
        self.data.log_summary()
        self._splits = prepare_splits(self.data, run_dir, seed, **self._fractions)
        self._cache.fill([record for split in SPLIT_NAMES for record in self._splits.records(self.data, split)])

    def strata(self, split: Split) -> list[int | None]:
        """The rarest class in every image, by the split's own counts; None where nothing is labelled."""
        records = self.splits.records(self.data, split)
        counts = Counter(int(label) for record in records for label in record.labels)
        return [
            min((int(label) for label in record.labels), key=lambda label: (counts[label], label), default=None)
            for record in records
        ]

    def keep(self, split: Split, positions: Sequence[int]) -> None:
        """Leave out all images of a split but some; they are no partners of a mosaic either."""
        ids = self.splits.ids
        self._splits = replace(self.splits, ids={**ids, split: tuple(ids[split][i] for i in positions)})

    @property
    def splits(self) -> DetectionSplits:
        """Which image belongs to which split; known after :meth:`prepare`."""
        if self._splits is None:
            raise ConfigError("DetectionTask.prepare() must be called before its data are used.")
        return self._splits

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Three colours, square."""
        return (3, self.image_size, self.image_size)

    def network_arguments(self) -> Mapping[str, Any]:
        """Number of classes, and the input's shape."""
        return {"num_classes": self.data.num_classes, "input_shape": self.input_shape}

    def dataset(self, split: Split, *, training: bool, epochs: int = 1) -> DetectionDataset:
        """The images of a split as network inputs."""
        return DetectionDataset(
            self.splits.records(self.data, split),
            self.image_size,
            self.augmentation if training else None,
            seed=self._seed,
            epochs=epochs,
            cache=self._cache,
        )

    def loader(
        self, split: Split, *, training: bool, batch_size: int | None = None, epochs: int = 1
    ) -> DataLoader[DetectionSample]:
        """Batches of :class:`~supernets.detection.predictions.DetectionBatch`.

        In training a last batch of less than half the size is dropped: its batch statistics would be poor.
        """
        dataset = self.dataset(split, training=training, epochs=epochs)
        size = self.evaluation_batch_size if batch_size is None else batch_size
        return DataLoader(
            dataset,
            batch_size=size,
            sampler=EpochSampler(len(dataset), self._seed) if training else None,
            drop_last=training and len(dataset) % size < size / 2,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            # Of its own: making an iterator would otherwise draw from the global generator.
            generator=torch.Generator().manual_seed(self._seed),
        )

    def inputs(self, batch: DetectionBatch) -> Tensor:
        """The images."""
        return batch.images

    # -- loss and metrics ---------------------------------------------------------------------------------------

    def loss(
        self,
        network: nn.Module,
        outputs: DetectorOutput,
        batch: DetectionBatch,
        memo: dict[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Class, box and distribution losses, of the auxiliary head too; the memo keeps the label assignment."""
        del network
        return self.criterion(outputs, batch, memo)

    def metric(self) -> Metric:
        """Mean average precision, overall and per class."""
        return DetectionMetric(self.data.class_names, **self._metric_arguments)  # type: ignore[arg-type]

    # -- deployment ---------------------------------------------------------------------------------------------

    def export_tolerance(self) -> Tensor:
        """0.02 pixels of a box, 1e-4 of a score."""
        return torch.tensor([0.02] * 4 + [1e-4] * self.data.num_classes)[:, None]

    def figures(self, network: nn.Module) -> Sequence[Figure]:
        """Truth and detections on images of the val split."""
        return [detection_examples(network, self.dataset("val", training=False), self.data.class_names)]

    def deployment(self) -> Mapping[str, Any]:
        """Labels, and how an image becomes the network's input."""
        return {
            "task": "detection",
            "labels": list(self.data.class_names),
            "preprocessing": {
                "layout": "NCHW",
                "channels": "RGB",
                "size": [self.image_size, self.image_size],
                "range": [0.0, 1.0],
                "resize": "letterbox",
                "pad_value": PAD_VALUE,
                "output": "B x (4 + classes) x anchors: centre x, y, width, height in pixels of the input, scores",
            },
        }


def _require(values: Mapping[str, float], holds: Callable[[float], bool], expected: str) -> None:
    """Refuse settings of the task that are out of range; NaN is in no range."""
    for name, value in values.items():
        if not holds(value):
            raise ConfigError(f"task.{name}={value}: expected {expected}.")
