"""What the engine asks of a problem: its data, its loss and its metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from darts_hpo.report.figure import Figure
from darts_hpo.training.subset import nested_subset

Split: TypeAlias = Literal["train", "arch", "train+arch", "val", "test"]


class Metric(ABC):
    """Accumulates predictions over a split and gives numbers."""

    @abstractmethod
    def update(self, network: nn.Module, outputs: Any, batch: Any) -> None:
        """Take in the outputs of one batch (evaluation mode)."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The metrics over everything taken in; larger is better for the task's primary one."""


class Task(ABC):
    """Loss, metrics and data of a problem.

    The four splits are disjoint: ``train`` for weights, ``arch`` for architecture logits, ``val`` for every
    selection, ``test`` for the final number. Retraining, after the search, uses ``train+arch``.
    """

    primary_metric: str
    """Name of the metric that selections maximize."""

    @property
    def metric_names(self) -> Sequence[str]:
        """Metrics that a sweep may ask for by name; every :meth:`metric` computes them."""
        return (self.primary_metric,)

    @abstractmethod
    def prepare(self, run_dir: Path, seed: int) -> None:
        """Read the data, make the splits and save them in the run directory. Called once, before all else.

        Raises:
            DataError: the data cannot be used; the message names the file and the remedy.
        """

    def reduce_training_data(self, fraction: float, seed: int) -> None:
        """Train on a share of the ``train`` and ``arch`` splits from now on; ``val`` and ``test`` stay whole.

        Args:
            fraction: of either split, in (0, 1]; for one seed, a smaller part is contained in a larger one.
            seed: of the run.
        """
        if fraction == 1:
            return
        splits: tuple[Split, ...] = ("train", "arch")
        for split in splits:
            self.keep(split, nested_subset(self.strata(split), fraction, seed))

    @abstractmethod
    def strata(self, split: Split) -> Sequence[Hashable]:
        """The group of every sample of a split, of which a part of the data keeps its share: its class, if any."""

    @abstractmethod
    def keep(self, split: Split, positions: Sequence[int]) -> None:
        """Leave out all samples of a split but those at some positions, for the rest of the run."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""

    @abstractmethod
    def network_arguments(self) -> Mapping[str, Any]:
        """What a network must know of the data, for example ``num_classes``."""

    @abstractmethod
    def loader(
        self, split: Split, *, training: bool, batch_size: int | None = None, epochs: int = 1
    ) -> torch.utils.data.DataLoader[Any]:
        """Batches of a split.

        Args:
            split: which of the splits.
            training: shuffled and augmented, the order and augmentation a pure function of seed, epoch and image;
                otherwise in fixed order and unaugmented.
            batch_size: images in a batch; None takes the task's own size for evaluation.
            epochs: length of the training, for what is switched off in its last epochs.
        """

    @abstractmethod
    def inputs(self, batch: Any) -> Tensor:
        """The network's input tensor in a batch."""

    @abstractmethod
    def loss(
        self, network: nn.Module, outputs: Any, batch: Any, memo: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Named loss terms, scalars; ``"loss"`` is what is minimized.

        Args:
            network: the network that made the outputs.
            outputs: its output in training mode.
            batch: the batch.
            memo: where given, decisions that are not differentiated (such as the assignment of labels to
                predictions) are stored in it on the first call and read from it on the next ones.
        """

    @abstractmethod
    def metric(self) -> Metric:
        """A fresh accumulator."""

    def require_network(self, network: nn.Module) -> None:
        """Refuse a network that a metric of the task cannot be computed of, before it is trained; by default none.

        Args:
            network: as the search space derives it.

        Raises:
            ConfigError: names what is missing and what gives it.
        """
        del network

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """Groups for the weight optimizer: ``params`` and a ``role``, one of ``decay``, ``no_decay``, ``bias``."""
        return split_by_decay(network)

    def export_tolerance(self) -> float | Tensor:
        """How far an exported model's output may be from PyTorch's.

        Returns:
            A tensor of absolute tolerances that broadcasts over the output, or a number in units of the largest value
            (at least 1) of each of its channels.
        """
        return 1e-4

    def figures(self, network: nn.Module) -> Sequence[Figure]:
        """Pictures for the report.

        Args:
            network: the found network, trained, in evaluation mode on the CPU.
        """
        del network
        return ()

    def deployment(self) -> Mapping[str, Any]:
        """Plain data a deployed model needs: labels and preprocessing."""
        return {}


def split_by_decay(network: nn.Module) -> list[dict[str, Any]]:
    """Weight matrices and kernels (``decay``), normalization weights (``no_decay``) and biases (``bias``)."""
    roles: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": [], "bias": []}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.endswith("bias"):
            roles["bias"].append(parameter)
        elif parameter.ndim > 1:
            roles["decay"].append(parameter)
        else:
            roles["no_decay"].append(parameter)
    return [{"params": params, "role": role} for role, params in roles.items() if params]


SampleKey: TypeAlias = tuple[int, int, int]
"""Position in the data set, epoch, and how often the split was passed through within that epoch."""


class EpochSampler(Sampler[SampleKey]):
    """Shuffles by a pure function of seed and epoch, and tells the data set both.

    Order and augmentation then depend on nothing else: not on worker processes, not on what ran before. A killed
    run continues bit-equally from an epoch's boundary.

    Args:
        size: number of samples.
        seed: of the run.
        shuffle: off gives the natural order.
    """

    def __init__(self, size: int, seed: int, *, shuffle: bool = True) -> None:
        self.size, self.seed, self.shuffle = size, seed, shuffle
        self._epoch = 0
        self._passes = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch, resumed ones included."""
        if epoch != self._epoch:  # Lightning tells an epoch that worker processes may have begun to read
            self._epoch, self._passes = epoch, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[SampleKey]:
        epoch, passes = self._epoch, self._passes
        self._passes += 1
        order: Sequence[int] = range(self.size)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch, passes, 0]).permutation(self.size).tolist()
        for position in order:
            yield position, epoch, passes


def sample_rng(seed: int, key: SampleKey) -> np.random.Generator:
    """The random generator of one sample in one epoch."""
    position, epoch, passes = key
    return np.random.default_rng([seed, epoch, passes, 1, position])
