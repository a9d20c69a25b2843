"""Batches cut from tensors in one piece, and batches that are always the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from darts_hpo.training.task import EpochSampler, SampleKey


class FeatureBatch(NamedTuple):
    """A batch of labelled features.

    Attributes:
        features: `B x F`, float32, angles in radians.
        labels: `B`, int64 class indices.
        indices: `B`, int64, position of the sample in the data set.
    """

    features: Tensor
    labels: Tensor
    indices: Tensor


class FeatureRows(Dataset[FeatureBatch]):
    """Samples of one split, fetched a batch at a time: a batch is one gather and no work per sample.

    Args:
        features: `N x F`, of the whole data set.
        labels: `N`.
        indices: samples of the split.
        noise: standard deviation of Gaussian noise on the features, in radians.
        seed: of the noise, which is a pure function of it, the epoch and the sample.
    """

    def __init__(
        self, features: Tensor, labels: Tensor, indices: Sequence[int], *, noise: float = 0.0, seed: int = 0
    ) -> None:
        self._features, self._labels = features, labels
        self._indices = torch.as_tensor(indices, dtype=torch.int64)
        self._noise, self._seed = noise, seed
        self._drawn: tuple[tuple[int, int], Tensor] | None = None

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, key: SampleKey) -> FeatureBatch:
        """One sample, as a batch of one."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[SampleKey]) -> FeatureBatch:
        """A whole batch; PyTorch's loader asks for one in this way."""
        indices = self._indices[torch.tensor([key[0] for key in keys])]
        features = self._features[indices]
        if self._noise:
            features = features + self._noise_of(*keys[0][1:])[indices]
        return FeatureBatch(features, self._labels[indices], indices)

    def _noise_of(self, epoch: int, passes: int) -> Tensor:
        """Noise on the whole data set in one pass: drawn once, indexed by the sample."""
        if self._drawn is None or self._drawn[0] != (epoch, passes):
            rng = np.random.default_rng([self._seed, epoch, passes, 1])
            drawn = rng.normal(scale=self._noise, size=tuple(self._features.shape)).astype(np.float32)
            self._drawn = (epoch, passes), torch.from_numpy(drawn)
        return self._drawn[1]


def feature_loader(rows: FeatureRows, *, training: bool, batch_size: int, seed: int) -> DataLoader[FeatureBatch]:
    """Batches of a split: shuffled by seed and epoch and all of full size where training, else in order."""
    return DataLoader(
        rows,
        batch_size=batch_size,
        sampler=EpochSampler(len(rows), seed, shuffle=training),
        collate_fn=_as_it_is,
        drop_last=training,
        # A generator of its own: making an iterator would otherwise draw from the global one.
        generator=torch.Generator().manual_seed(seed),
    )


class _Repeated(Dataset[Any]):
    """One batch, as often as there are steps."""

    def __init__(self, batch: Any, steps: int) -> None:
        self._batch, self._steps = batch, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Any:
        return self._batch


def constant_loader(batch: Any, steps: int) -> DataLoader[Any]:
    """The same batch for a number of steps."""
    return DataLoader(
        _Repeated(batch, steps), batch_size=None, collate_fn=_as_it_is, generator=torch.Generator().manual_seed(0)
    )


def _as_it_is(batch: Any) -> Any:
    return batch
