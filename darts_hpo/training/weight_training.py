"""What search and retraining share: the weights' optimizer, its schedule, and the means of an epoch's losses."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from darts_hpo.config import OptimizerConfig, ScheduleConfig
from darts_hpo.errors import ConfigError
from darts_hpo.training.optimizers import apply_schedule, build_optimizer
from darts_hpo.training.schedules import Schedule, ScheduleValues
from darts_hpo.training.task import EpochSampler, Split, Task


def weight_optimizer(task: Task, network: nn.Module, config: OptimizerConfig) -> Optimizer:
    """The configured optimizer over a network's parameter groups."""
    return build_optimizer(
        task.parameter_groups(network),
        name=config.name,
        lr=config.lr,
        momentum=config.momentum,
        beta2=config.beta2,
        weight_decay=config.weight_decay,
    )


def plain_optimizer(optimizer: Any) -> Optimizer:
    """The optimizer inside Lightning's wrapper, or itself."""
    inner = getattr(optimizer, "optimizer", optimizer)
    assert isinstance(inner, Optimizer)
    return inner


def present_values(optimizer: Any) -> dict[str, float]:
    """Learning rate and momentum of the weights at present, for tables."""
    group = plain_optimizer(optimizer).param_groups[0]
    return {"lr": group["lr"], "momentum": group["betas"][0] if "betas" in group else group["momentum"]}


def training_loader(
    task: Task, split: Split, *, stage: str, batch_size: int, epochs: int, epoch: int = 0
) -> DataLoader[Any]:
    """Training batches of a split.

    Args:
        task: has the data.
        split: which images.
        stage: ``search`` or ``retrain``, for the message.
        batch_size: images in a batch.
        epochs: of the full training.
        epoch: to begin with. Worker processes read ahead, before Lightning tells the sampler.

    Raises:
        ConfigError: the split is too small for a single batch.
    """
    loader = task.loader(split, training=True, batch_size=batch_size, epochs=epochs)
    if len(loader) == 0:
        size = f"{len(loader.dataset)} or less" if isinstance(loader.dataset, Sized) else "less"
        raise ConfigError(
            f"The {split} split has too few samples for {stage}.batch_size={batch_size}; set it to {size}."
        )
    if isinstance(loader.sampler, EpochSampler):
        loader.sampler.set_epoch(epoch)
    return loader


class WeightSchedule:
    """Sets an optimizer's learning rates and momentum before every step, by our own count of steps.

    Lightning's ``global_step`` counts the steps of every optimizer together, so it cannot drive a schedule.

    Args:
        optimizer: configured values, reached exactly after warm-up.
        schedule: warm-up and decay.
        steps_per_epoch: weight steps in an epoch.
        epochs: of the full training, also where a budget ends it earlier.
    """

    def __init__(self, optimizer: OptimizerConfig, schedule: ScheduleConfig, steps_per_epoch: int, epochs: int) -> None:
        self._schedule = Schedule(
            lr=optimizer.lr,
            momentum=optimizer.momentum,
            decay=schedule.decay,
            final_factor=schedule.final_factor,
            warmup_epochs=schedule.warmup_epochs,
            warmup_min_steps=schedule.warmup_min_steps,
            # A rate of 0.1 is right for the small gradients of biases under SGD; Adam would move each by 0.1 a step.
            warmup_bias_lr=schedule.warmup_bias_lr if optimizer.name == "sgd" else 0.0,
            warmup_momentum=schedule.warmup_momentum,
        )
        self.steps_per_epoch, self.epochs = steps_per_epoch, epochs

    def apply(self, optimizer: Optimizer, epoch: int, step_in_epoch: int) -> ScheduleValues:
        """Set the values of one step and return them."""
        step = epoch * self.steps_per_epoch + step_in_epoch
        values = self._schedule.at(step, self.steps_per_epoch, self.epochs)
        apply_schedule(optimizer, values)
        return values


class EpochMeans:
    """Means of named numbers over an epoch."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: dict[str, float]) -> None:
        """Take in the numbers of one step."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def pop(self) -> dict[str, Any]:
        """The means so far, and start anew."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means
