"""Classification of scikit-learn's handwritten digits: real images, bundled, no download."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy

from darts_hpo.errors import ConfigError, DataError
from darts_hpo.runs import write_json
from darts_hpo.training.task import EpochSampler, Metric, SampleKey, Split, Task, sample_rng

CLASSES = tuple(str(digit) for digit in range(10))
IMAGE_SIZE = 8
_BRIGHTEST = 16.0
_PARTS: tuple[Literal["train", "arch", "val", "test"], ...] = ("train", "arch", "val", "test")


class DigitsBatch(NamedTuple):
    """A batch of digits.

    Attributes:
        images: `B x 1 x 8 x 8`, float32 in [0, 1], ink bright.
        labels: `B`, int64 class indices.
        indices: `B`, int64, position of the image in scikit-learn's data set.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class DigitsClassification(Task):
    """Cross-entropy and accuracy on 1797 images of 8 x 8 pixels, ten classes.

    Args:
        eval_batch_size: images per batch in evaluation.
        fractions: shares of train, arch, val and test, positive, of sum 1; every class is divided alike.
        max_shift: augmentation moves the image by up to so many pixels each way, uniformly.

    Raises:
        ConfigError: a value is out of range.
    """

    primary_metric = "accuracy"

    def __init__(
        self,
        eval_batch_size: int = 256,
        fractions: tuple[float, float, float, float] = (0.3, 0.3, 0.2, 0.2),
        max_shift: int = 1,
    ) -> None:
        if eval_batch_size < 1:
            raise ConfigError(f"task.eval_batch_size={eval_batch_size}: expected at least 1.")
        if len(fractions) != len(_PARTS) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
            raise ConfigError(
                f"task.fractions={list(fractions)}: expected four positive shares of sum 1 ({', '.join(_PARTS)})."
            )
        if not 0 <= max_shift < IMAGE_SIZE:
            raise ConfigError(f"task.max_shift={max_shift}: expected 0 to {IMAGE_SIZE - 1} pixels.")
        self.eval_batch_size, self.fractions, self.max_shift = eval_batch_size, tuple(fractions), max_shift
        self._seed = 0
        self._splits: dict[str, list[int]] = {}
        self._images = torch.empty(0)
        self._labels = torch.empty(0, dtype=torch.int64)

    def prepare(self, run_dir: Path, seed: int) -> None:
        """Read the digits and divide them; ``splits.json`` of an earlier start of the run is kept.

        Raises:
            DataError: ``splits.json`` exists and is no division of these images.
        """
        images, labels = load_digits(return_X_y=True)
        pixels = np.asarray(images, dtype=np.float32).reshape(-1, 1, IMAGE_SIZE, IMAGE_SIZE)
        self._images = torch.from_numpy(pixels / _BRIGHTEST)
        self._labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self._seed = seed
        path = run_dir / "splits.json"
        if path.exists():
            self._splits = _read_splits(path, len(labels))
        else:
            self._splits = _stratified_splits(np.asarray(labels), self.fractions, seed)
            write_json(path, self._splits)

    def strata(self, split: Split) -> list[int]:
        """The digits' classes."""
        return [int(self._labels[index]) for index in self._splits[split]]

    def keep(self, split: Split, positions: Sequence[int]) -> None:
        """Leave out all digits of a split but some."""
        self._splits[split] = [self._splits[split][position] for position in positions]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One channel of 8 x 8 pixels."""
        return (1, IMAGE_SIZE, IMAGE_SIZE)

    def network_arguments(self) -> Mapping[str, Any]:
        """Number of classes, channels, and side of an image in pixels."""
        return {"num_classes": len(CLASSES), "in_channels": 1, "image_size": IMAGE_SIZE}

    def loader(
        self, split: Split, *, training: bool, batch_size: int | None = None, epochs: int = 1
    ) -> DataLoader[DigitsBatch]:
        """Batches of :class:`DigitsBatch`; shuffled, shifted and all of full size where training."""
        del epochs  # nothing is switched off in the last epochs
        indices = [index for part in split.split("+") for index in self._splits[part]]
        digits = _Digits(self._images, self._labels, indices, self.max_shift if training else 0, self._seed)
        return DataLoader(
            digits,
            batch_size=self.eval_batch_size if batch_size is None else batch_size,
            sampler=EpochSampler(len(indices), self._seed, shuffle=training),
            collate_fn=_collate,
            drop_last=training,
            # A generator of its own: making an iterator would otherwise draw from the global one.
            generator=torch.Generator().manual_seed(self._seed),
        )

    def inputs(self, batch: DigitsBatch) -> Tensor:
        """The images."""
        return batch.images

    def loss(
        self,
        network: nn.Module,
        outputs: Tensor,
        batch: DigitsBatch,
        memo: dict[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Mean cross-entropy of the logits `B x 10`."""
        del network, memo
        return {"loss": F.cross_entropy(outputs, batch.labels)}

    def metric(self) -> Metric:
        """``accuracy`` in [0, 1]."""
        return _Accuracy()

    def deployment(self) -> Mapping[str, Any]:
        """Labels, and how an image becomes the network's input."""
        return {
            "task": "classification",
            "labels": list(CLASSES),
            "preprocessing": {
                "layout": "NCHW",
                "channels": "gray",
                "size": [IMAGE_SIZE, IMAGE_SIZE],
                "range": [0.0, 1.0],
                "divide_by": _BRIGHTEST,
            },
        }


class _Accuracy(Metric):
    def __init__(self) -> None:
        self._metric = MulticlassAccuracy(num_classes=len(CLASSES), average="micro")

    def update(self, network: nn.Module, outputs: Tensor, batch: DigitsBatch) -> None:
        del network
        self._metric.update(outputs.detach().cpu(), batch.labels.cpu())

    def compute(self) -> dict[str, float]:
        return {"accuracy": float(self._metric.compute())}


class _Digits(Dataset[DigitsBatch]):
    """Images of one split, addressed by the sampler's keys."""

    def __init__(self, images: Tensor, labels: Tensor, indices: list[int], max_shift: int, seed: int) -> None:
        self._images, self._labels, self._indices = images, labels, indices
        self._max_shift, self._seed = max_shift, seed

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, key: SampleKey) -> DigitsBatch:
        index = self._indices[key[0]]
        image = self._images[index]
        if self._max_shift:
            # The generator is keyed by the image, not by its place in the split.
            rng = sample_rng(self._seed, (index, key[1], key[2]))
            down, right = rng.integers(-self._max_shift, self._max_shift + 1, size=2).tolist()
            image = _shift(image, down, right)
        return DigitsBatch(image, self._labels[index], torch.tensor(index))


def _shift(image: Tensor, down: int, right: int) -> Tensor:
    """Move an image `C x H x W` and fill with background (zero)."""
    return F.pad(image, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))[
        :,
        max(-down, 0) : max(-down, 0) + image.shape[1],
        max(-right, 0) : max(-right, 0) + image.shape[2],
    ]


def _collate(samples: list[DigitsBatch]) -> DigitsBatch:
    images, labels, indices = zip(*samples, strict=True)
    return DigitsBatch(torch.stack(images), torch.stack(labels), torch.stack(indices))


def _stratified_splits(labels: NDArray[Any], fractions: tuple[float, ...], seed: int) -> dict[str, list[int]]:
    splits: dict[str, list[int]] = {part: [] for part in _PARTS}
    bounds = np.cumsum(fractions)[:-1]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        shuffled = np.random.default_rng([seed, int(label)]).permutation(members)
        cuts = np.round(bounds * len(members)).astype(int)
        for part, chunk in zip(_PARTS, np.split(shuffled, cuts), strict=True):
            splits[part].extend(chunk.tolist())
    return {part: sorted(indices) for part, indices in splits.items()}


def _read_splits(path: Path, size: int) -> dict[str, list[int]]:
    try:
        splits = json.loads(path.read_text())
        indices = sorted(index for part in _PARTS for index in splits[part])
    except (ValueError, KeyError, TypeError):
        indices = []
    if indices != list(range(size)):
        raise DataError(
            f"{path} is no division of the {size} digits into {', '.join(_PARTS)}; "
            "delete it, or start another run with run=NAME."
        )
    return {part: splits[part] for part in _PARTS}
