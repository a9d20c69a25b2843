"""Tasks without data: the batch is always the same, and an epoch is a number of steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.training.task import Split
from quantum.tasks.base import QuantumTask
from quantum.tasks.batches import constant_loader

_PRECISIONS = {"float32": (torch.float32, torch.complex64), "float64": (torch.float64, torch.complex128)}


class StateBatch(NamedTuple):
    """What a circuit starts from, and what it shall make of it.

    Attributes:
        inputs: `B x F`; `1 x 0` where the circuit starts from |0...0>, else amplitudes `B x 2**n`.
        targets: `B x 2**n`, the amplitudes wanted; `B x 0` where the task has no target state.
    """

    inputs: Tensor
    targets: Tensor


Batches: TypeAlias = Mapping[str, StateBatch]
"""The batch of each of train, arch, val and test."""


class ConstantTask(QuantumTask):
    """A task of which every split is a single batch, made and not read.

    A circuit's energy, for instance, is a number: there is nothing to shuffle or to split, and every split gives
    that number. The configured batch size does not matter here. ``data_fraction`` is refused, because there are no
    samples of which a share could be taken; shorten epochs with ``steps_per_epoch`` instead.

    Args:
        metrics: names of the ideal metrics.
        primary: metric that selections maximize.
        evaluations: the network's other passes that ``primary`` or a sweep's objective may name.
        steps_per_epoch: training steps in an epoch.
        precision: ``float32`` or ``float64``, of inputs and targets; the network computes in its own precision.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        primary: str,
        evaluations: Sequence[str] = (),
        steps_per_epoch: int = 20,
        precision: str = "float32",
    ) -> None:
        super().__init__(metrics, primary, evaluations)
        if steps_per_epoch < 1:
            raise ConfigError(f"task.steps_per_epoch={steps_per_epoch}: expected at least 1.")
        if precision not in _PRECISIONS:
            raise ConfigError(unknown_name("task.precision", precision, _PRECISIONS))
        self._steps = steps_per_epoch
        self.real_dtype, self.complex_dtype = _PRECISIONS[precision]
        self._batches: Batches = {}

    @abstractmethod
    def batches(self, seed: int) -> Batches:
        """The batch of every split.

        Args:
            seed: of the run; what is random must be a pure function of it.
        """

    def prepare(self, run_dir: Path, seed: int) -> None:
        """Make the batches. Nothing is stored: they are a function of the configuration and the seed."""
        del run_dir
        self._batches = self.batches(seed)

    def reduce_training_data(self, fraction: float, seed: int) -> None:
        """Accepts the whole only.

        Raises:
            ConfigError: a share is asked for.
        """
        del seed
        if fraction != 1:
            raise ConfigError(
                f"data_fraction={fraction:g}: this task has no data of which a part could be taken. "
                "Leave data_fraction=1, and shorten a training with task.steps_per_epoch or epochs."
            )

    def strata(self, split: Split) -> list[int]:
        """One group of all."""
        return [0] * sum(len(self._batches[part].inputs) for part in split.split("+"))

    def keep(self, split: Split, positions: Sequence[int]) -> None:
        """Refused, as in :meth:`reduce_training_data`.

        Raises:
            ConfigError: not every sample is to be kept.
        """
        if list(positions) != list(range(len(self.strata(split)))):
            raise ConfigError(f"This task has no data; nothing can be left out of its {split} split.")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a circuit's input."""
        return (int(self.network_arguments()["n_inputs"]),)

    def loader(
        self, split: Split, *, training: bool, batch_size: int | None = None, epochs: int = 1
    ) -> DataLoader[StateBatch]:
        """The split's batch, ``steps_per_epoch`` times where training, else once."""
        del batch_size, epochs
        parts = [self._batches[part] for part in split.split("+")]
        # Of equal batches one is enough; different ones are joined.
        equal = all(part is parts[0] for part in parts)
        batch = parts[0] if equal else StateBatch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        return constant_loader(batch, self._steps if training else 1)

    def inputs(self, batch: StateBatch) -> Tensor:
        """What the circuit starts from, `B x F`."""
        return batch.inputs

    def from_zero(self, targets: Tensor | None = None) -> Batches:
        """Batches of one circuit run from |0...0>.

        Args:
            targets: `1 x 2**n`, the state wanted, if any.
        """
        inputs = torch.zeros(1, 0, dtype=self.real_dtype)
        wanted = torch.zeros(1, 0, dtype=self.complex_dtype) if targets is None else targets.to(self.complex_dtype)
        batch = StateBatch(inputs, wanted)
        return dict.fromkeys(("train", "arch", "val", "test"), batch)

    def deployment(self) -> Mapping[str, Any]:
        """What was asked of the circuit, as plain data."""
        return {"task": type(self).__name__}
