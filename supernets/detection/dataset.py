"""Records as training samples: images decoded once, augmented on the fly, gathered into batches."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from darts_hpo.errors import ConfigError
from darts_hpo.training.task import SampleKey, sample_rng
from supernets.detection.augment import Augmentation, Labelled, Letterbox, Placement, augment, compose
from supernets.detection.image_size import check_image_size
from supernets.detection.predictions import DetectionBatch
from supernets.detection.records import ImageRecord

logger = logging.getLogger(__name__)


class DetectionSample(NamedTuple):
    """One network input.

    Attributes:
        image: `3 x S x S`, uint8, RGB.
        boxes: `N x 4`, float32, corners in pixels of the input.
        labels: `N`, int64.
        position: of the image in its data set.
        ignored_boxes: `K x 4`, like ``boxes``: regions that do not count; none in training.
        ignored_labels: `K`, int64, their classes.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    position: int
    ignored_boxes: Tensor
    ignored_labels: Tensor


class ImageCache:
    """Decoded images, their longer side resized to the network's input, in memory up to a limit.

    One cache may serve several data sets: train, arch and their union then decode each image once.

    Args:
        image_size: side of the network input, pixels.
        limit_gib: images beyond this much memory are decoded again at every use.
    """

    def __init__(self, image_size: int, limit_gib: float = 4.0) -> None:
        check_image_size([image_size], name="data.image_size")
        self.image_size = image_size
        self._room = int(limit_gib * 2**30)
        self._images: dict[str, Tensor] = {}
        self._beyond: set[str] = set()

    def fill(self, records: Sequence[ImageRecord]) -> None:
        """Decode every new image once, several files at a time, and keep what fits.

        What does not fit is decoded too: a damaged file ends a run before it begins, not hours later.

        Raises:
            DataError: an image is truncated or corrupt.
        """
        new = {r.id: r for r in records if r.id not in self._images and r.id not in self._beyond}
        kept: list[ImageRecord] = []
        beyond: list[ImageRecord] = []
        for record in new.values():
            width, height = self._letterbox(record).resized
            fits = self._room >= 3 * width * height
            self._room -= 3 * width * height if fits else 0
            (kept if fits else beyond).append(record)
        # Decoding releases the interpreter's lock, so threads do run side by side.
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            for record, image in zip(kept, pool.map(self._decode, kept), strict=True):
                self._images[record.id] = image
            for record, _ in zip(beyond, pool.map(_verify, beyond), strict=True):
                self._beyond.add(record.id)
        if beyond:
            logger.warning("%d of %d images do not fit the cache and are decoded at every use", len(beyond), len(new))

    def get(self, record: ImageRecord) -> Tensor:
        """The image, `3 x h x w`, uint8, its longer side equal to the network's input."""
        image = self._images.get(record.id)
        return self._decode(record) if image is None else image

    def _letterbox(self, record: ImageRecord) -> Letterbox:
        return Letterbox(record.width, record.height, self.image_size)

    def _decode(self, record: ImageRecord) -> Tensor:
        width, height = self._letterbox(record).resized
        # Twice the target leaves the resampling enough to average over.
        pixels = record.load(min_side=2 * self.image_size)
        image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
        if image.shape[-2:] != (height, width):
            image = functional.resize(image, [height, width], antialias=True)
        # Colours interleaved: the layout in which resampling is fastest.
        return image.permute(1, 2, 0).contiguous().permute(2, 0, 1)


def _verify(record: ImageRecord) -> None:
    record.load(min_side=1)


class DetectionDataset(Dataset[DetectionSample]):
    """A split as network inputs, addressed by the keys of `EpochSampler`.

    With an augmentation a sample is a pure function of seed, epoch, pass and position. Without, it is the
    plain letterboxed image.

    Args:
        records: of the split; partners of a mosaic are drawn from them alone.
        image_size: side of the square input, pixels, a multiple of 32.
        augmentation: of training samples; None for evaluation.
        seed: of the run.
        epochs: length of the training; mosaic ends ``close_mosaic`` epochs before.
        cache: shared with other data sets; None makes one.

    Raises:
        ConfigError: the image size is no multiple of 32.
        DataError: an image is truncated or corrupt.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        image_size: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        epochs: int = 1,
        cache: ImageCache | None = None,
    ) -> None:
        self.cache = ImageCache(image_size) if cache is None else cache
        if self.cache.image_size != image_size:
            raise ConfigError(f"The cache holds images of {self.cache.image_size} pixels, not {image_size}.")
        self.records = list(records)
        self.image_size, self.augmentation, self.seed, self.epochs = image_size, augmentation, seed, epochs
        self.cache.fill(self.records)
        self._letterboxes = [Letterbox(r.width, r.height, image_size) for r in self.records]
        self._boxes = [_scaled(r.boxes, box) for r, box in zip(self.records, self._letterboxes, strict=True)]
        self._ignored = [_scaled(r.ignored_boxes, box) for r, box in zip(self.records, self._letterboxes, strict=True)]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: SampleKey | int) -> DetectionSample:
        """The sample of a key, or of a position in epoch 0."""
        index, epoch, passes = (key, 0, 0) if isinstance(key, int) else key
        if self.augmentation is None:
            left, top = self._letterboxes[index].padding
            sample = compose([Placement(self._fetch(index), left, top, 1.0)], self.image_size, 0.0, 0.0)
            ignored = self._ignored[index] + np.array([left, top, left, top], np.float32)
            ignored_labels = self.records[index].ignored_labels
        else:
            rng = sample_rng(self.seed, (index, epoch, passes))
            mosaic = epoch < self.epochs - self.augmentation.close_mosaic
            sample = augment(index, self._fetch, len(self), self.image_size, self.augmentation, rng, mosaic=mosaic)
            ignored, ignored_labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        arrays = (sample.boxes, sample.labels, ignored, ignored_labels)
        boxes, labels, ignored_boxes, ignored_classes = map(torch.from_numpy, arrays)
        return DetectionSample(sample.image, boxes, labels, index, ignored_boxes, ignored_classes)

    def to_original(self, index: int, boxes: Tensor) -> Tensor:
        """Boxes of the plain letterboxed input (`N x 4`, corners) in pixels of the original image."""
        return self._letterboxes[index].to_original(boxes)

    def _fetch(self, index: int) -> Labelled:
        return Labelled(self.cache.get(self.records[index]), self._boxes[index], self.records[index].labels)


def collate(samples: Sequence[DetectionSample]) -> DetectionBatch:
    """Samples as a batch, padded to the most objects of one image, and to one at least."""
    boxes, labels = _padded([(sample.boxes, sample.labels) for sample in samples], fewest=1)
    images = torch.stack([sample.image for sample in samples]).float().div_(255)
    batch = DetectionBatch(images, boxes, labels, torch.tensor([sample.position for sample in samples]))
    if not any(len(sample.ignored_labels) for sample in samples):
        return batch
    boxes, labels = _padded([(sample.ignored_boxes, sample.ignored_labels) for sample in samples])
    return batch._replace(ignored_boxes=boxes, ignored_labels=labels)


def _padded(objects: Sequence[tuple[Tensor, Tensor]], fewest: int = 0) -> tuple[Tensor, Tensor]:
    """Boxes `N x 4` and labels `N` of each image as `B x M x 4` and `B x M`; zeros and -1 fill up."""
    most = max(fewest, *(len(labels) for _, labels in objects))
    all_boxes = torch.zeros(len(objects), most, 4)
    all_labels = torch.full((len(objects), most), -1, dtype=torch.int64)
    for row, (boxes, labels) in enumerate(objects):
        all_boxes[row, : len(boxes)] = boxes
        all_labels[row, : len(labels)] = labels
    return all_boxes, all_labels


def _scaled(boxes: NDArray[np.float32], letterbox: Letterbox) -> NDArray[np.float32]:
    """Boxes of the original in pixels of the resized image, without padding."""
    return boxes * np.array([*letterbox.scale, *letterbox.scale], np.float32)
