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
from supernets.detection.predictions import DetectionBatch
from supernets.detection.records import ImageRecord

logger = logging.getLogger(__name__)

MAX_STRIDE = 32
"""Network inputs are multiples of this many pixels, the stride of the coarsest level."""


class DetectionSample(NamedTuple):
    """One network input.

    Attributes:
        image: `3 x S x S`, uint8, RGB.
        boxes: `N x 4`, float32, corners in pixels of the input.
        labels: `N`, int64.
        position: of the image in its data set.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    position: int


class ImageCache:
    """Decoded images, their longer side resized to the network's input, in memory up to a limit.

    One cache may serve several data sets: train, arch and their union then decode each image once.

    Args:
        image_size: side of the network input, pixels.
        limit_gib: images beyond this much memory are decoded again at every use.
    """

    def __init__(self, image_size: int, limit_gib: float = 4.0) -> None:
        check_image_size(image_size)
        self.image_size = image_size
        self._room = int(limit_gib * 2**30)
        self._images: dict[str, Tensor] = {}

    def fill(self, records: Sequence[ImageRecord]) -> None:
        """Decode what fits, several files at a time.

        Raises:
            DataError: an image is truncated or corrupt.
        """
        wanted = []
        for record in records:
            width, height = self._letterbox(record).resized
            if record.id not in self._images and self._room >= 3 * width * height:
                self._room -= 3 * width * height
                wanted.append(record)
        # Decoding releases the interpreter's lock, so threads do run side by side.
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            for record, image in zip(wanted, pool.map(self._decode, wanted), strict=True):
                self._images[record.id] = image
        beyond = sum(record.id not in self._images for record in records)
        if beyond:
            logger.warning("%d of %d images do not fit the cache and are decoded at every use", beyond, len(records))

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
        check_image_size(image_size)
        self.cache = ImageCache(image_size) if cache is None else cache
        if self.cache.image_size != image_size:
            raise ConfigError(f"The cache holds images of {self.cache.image_size} pixels, not {image_size}.")
        self.records = list(records)
        self.image_size, self.augmentation, self.seed, self.epochs = image_size, augmentation, seed, epochs
        self.cache.fill(self.records)
        self._letterboxes = [Letterbox(r.width, r.height, image_size) for r in self.records]
        self._boxes = [_scaled(r.boxes, box) for r, box in zip(self.records, self._letterboxes, strict=True)]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: SampleKey | int) -> DetectionSample:
        """The sample of a key, or of a position in epoch 0."""
        index, epoch, passes = (key, 0, 0) if isinstance(key, int) else key
        if self.augmentation is None:
            sample = self._letterboxed(index)
        else:
            rng = sample_rng(self.seed, (index, epoch, passes))
            mosaic = epoch < self.epochs - self.augmentation.close_mosaic
            sample = augment(index, self._fetch, len(self), self.image_size, self.augmentation, rng, mosaic=mosaic)
        return DetectionSample(sample.image, torch.from_numpy(sample.boxes), torch.from_numpy(sample.labels), index)

    def to_original(self, index: int, boxes: Tensor) -> Tensor:
        """Boxes of the plain letterboxed input (`N x 4`, corners) in pixels of the original image."""
        return self._letterboxes[index].to_original(boxes)

    def _fetch(self, index: int) -> Labelled:
        return Labelled(self.cache.get(self.records[index]), self._boxes[index], self.records[index].labels)

    def _letterboxed(self, index: int) -> Labelled:
        left, top = self._letterboxes[index].padding
        return compose([Placement(self._fetch(index), left, top, 1.0)], self.image_size, 0.0, 0.0)


def collate(samples: Sequence[DetectionSample]) -> DetectionBatch:
    """Samples as a batch, padded to the most objects of one image, and to one at least."""
    most = max(1, max(len(sample.labels) for sample in samples))
    boxes = torch.zeros(len(samples), most, 4)
    labels = torch.full((len(samples), most), -1, dtype=torch.int64)
    for row, sample in enumerate(samples):
        boxes[row, : len(sample.boxes)] = sample.boxes
        labels[row, : len(sample.labels)] = sample.labels
    images = torch.stack([sample.image for sample in samples]).float().div_(255)
    return DetectionBatch(images, boxes, labels, torch.tensor([sample.position for sample in samples]))


def check_image_size(image_size: int) -> None:
    """Refuse a network input that the strides do not divide.

    Raises:
        ConfigError: names the nearest valid sizes.
    """
    if image_size < MAX_STRIDE or image_size % MAX_STRIDE:
        below = max(MAX_STRIDE, image_size // MAX_STRIDE * MAX_STRIDE)
        raise ConfigError(
            f"data.image_size is {image_size}; it must be a multiple of {MAX_STRIDE}, "
            f"for example {below} or {below + MAX_STRIDE}."
        )


def _scaled(boxes: NDArray[np.float32], letterbox: Letterbox) -> NDArray[np.float32]:
    """Boxes of the original in pixels of the resized image, without padding."""
    return boxes * np.array([*letterbox.scale, *letterbox.scale], np.float32)
