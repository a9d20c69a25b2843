"""Scoring a network on a split, and a supernet as the plain network it would become."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from darts_hpo.errors import TrainingError
from darts_hpo.normalization import recalibrate_batchnorm
from darts_hpo.supernet import Supernet
from darts_hpo.training.task import Split, Task

Autocast = Callable[[], AbstractContextManager[Any]]


@torch.no_grad()
def evaluate(
    network: nn.Module, task: Task, split: Split, *, device: torch.device, autocast: Autocast = nullcontext
) -> dict[str, float]:
    """Metrics of a network in evaluation mode on a whole split.

    Raises:
        TrainingError: an output of the network or the primary metric is not finite. (A comparison with NaN is
            false, so a metric may well make a finite number of such outputs; it would be no score.)
    """
    was_training = network.training
    network.eval()
    metric = task.metric()
    try:
        for batch in task.loader(split, training=False):
            moved = to_device(batch, device)
            with autocast():
                outputs = network(task.inputs(moved))
            if not _all_finite(outputs):
                raise TrainingError(
                    f"The network's outputs on the {split} split are not finite: training diverged. Lower the learning "
                    "rate (search.optimizer.lr, retrain.optimizer.lr) or lengthen the warm-up."
                )
            metric.update(network, outputs, moved)
    finally:
        network.train(was_training)
    values = metric.compute()
    if not math.isfinite(values[task.primary_metric]):
        raise TrainingError(f"The {split} score {task.primary_metric} is {values[task.primary_metric]}, no number.")
    return values


def evaluate_choices(
    supernet: Supernet,
    choices: Mapping[str, str],
    task: Task,
    *,
    device: torch.device,
    calibration_batches: int,
    batch_size: int,
    autocast: Autocast = nullcontext,
) -> dict[str, float]:
    """Val metrics of the plain network that some choices stand for, with the supernet's weights.

    Its BatchNorm statistics are measured anew on training batches; the supernet's own are not touched.
    """
    network = supernet.derive(supernet.genotype(choices), inherit_weights=True).to(device)
    loader = task.loader("train", training=True, batch_size=batch_size)
    batches = (to_device(batch, device) for batch in itertools.islice(loader, calibration_batches))

    def forward(batch: Any) -> object:
        with autocast():
            return network(task.inputs(batch))

    recalibrate_batchnorm(network, forward, batches)
    return evaluate(network, task, "val", device=device, autocast=autocast)


def _all_finite(outputs: Any) -> bool:
    if isinstance(outputs, torch.Tensor):
        return bool(torch.isfinite(outputs).all())
    if isinstance(outputs, Mapping):
        return all(map(_all_finite, outputs.values()))
    return not isinstance(outputs, (list, tuple)) or all(map(_all_finite, outputs))


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch with every tensor on a device; containers keep their type."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(item, device) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(to_device(item, device) for item in batch)
    if isinstance(batch, Mapping):
        return {key: to_device(item, device) for key, item in batch.items()}
    return batch
