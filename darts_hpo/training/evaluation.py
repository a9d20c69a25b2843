"""Scoring a network on a split, and a supernet as the plain network it would become."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from darts_hpo.bilevel.base import diverged
from darts_hpo.errors import ConfigError, TrainingError, unknown_name
from darts_hpo.genotype import Genotype
from darts_hpo.normalization import recalibrate_batchnorm
from darts_hpo.supernet import Gates, Supernet
from darts_hpo.training.task import Split, Task


def evaluate(network: nn.Module, task: Task, split: Split, *, device: torch.device) -> dict[str, float]:
    """Metrics of a network in evaluation mode on a whole split.

    Args:
        network: what is evaluated.
        task: has data and metrics.
        split: which.
        device: where the network is.

    Raises:
        ConfigError: the primary metric is none of those that the network has.
        TrainingError: an output of the network or the primary metric is not finite. (A comparison with NaN is
            false, so a metric may well make a finite number of such outputs; it would be no score.)
    """
    values = _metrics(network, task, split, device)
    if task.primary_metric not in values:
        raise ConfigError(unknown_name("metric of the network in task.primary", task.primary_metric, values))
    return values


@torch.no_grad()
def _metrics(network: nn.Module, task: Task, split: Split, device: torch.device) -> dict[str, float]:
    """Metrics as of :func:`evaluate`; the primary one may be missing, but not be infinite."""
    was_training = network.training
    network.eval()
    metric = task.metric()
    try:
        for batch in task.loader(split, training=False):
            moved = to_device(batch, device)
            outputs = network(task.inputs(moved))
            if not _all_finite(outputs):
                raise diverged(f"The network's outputs on the {split} split are not finite")
            metric.update(network, outputs, moved)
    finally:
        network.train(was_training)
    values = metric.compute()
    score = values.get(task.primary_metric)
    if score is not None and not math.isfinite(score):
        raise TrainingError(f"The {split} score {task.primary_metric} is {score}, no number.")
    return values


def inherited_network(
    supernet: Supernet,
    genotype: Genotype,
    task: Task,
    *,
    device: torch.device,
    calibration_batches: int,
    batch_size: int,
) -> nn.Module:
    """The plain network of a genotype with the supernet's weights and BatchNorm statistics of its own.

    The statistics are measured on augmented training batches as in the last epochs of a training, when mosaic is
    closed: closest to what the network will be shown. The supernet's own are not touched.

    Args:
        supernet: searched.
        genotype: of its space.
        task: has the data.
        device: where the network shall be.
        calibration_batches: how many batches; 0 keeps the statistics of the supernet.
        batch_size: images in a batch.
    """
    network = supernet.derive(genotype, inherit_weights=True).to(device)
    batches = _calibration_batches(task, device, calibration_batches, batch_size)
    recalibrate_batchnorm(network, lambda batch: network(task.inputs(batch)), batches)
    return network


def evaluate_choices(
    supernet: Supernet,
    choices: Mapping[str, str],
    task: Task,
    *,
    device: torch.device,
    calibration_batches: int,
    batch_size: int,
) -> dict[str, float]:
    """Val metrics of :func:`inherited_network`: what a search has found, before any retraining."""
    network = inherited_network(
        supernet,
        supernet.genotype(choices),
        task,
        device=device,
        calibration_batches=calibration_batches,
        batch_size=batch_size,
    )
    return evaluate(network, task, "val", device=device)


def evaluate_relaxed(
    supernet: Supernet,
    gates: Gates,
    task: Task,
    *,
    device: torch.device,
    calibration_batches: int,
    batch_size: int,
) -> dict[str, float]:
    """Val metrics of a supernet itself under some gates: what the search believes that it has found.

    A copy is evaluated, with BatchNorm statistics of its own as in :func:`inherited_network`; the supernet's weights
    and statistics are left as they were. The number means something only beside that of :func:`evaluate_choices`.
    What a supernet is not simulated under, a derived network may well be: metrics of it are missing then, be it the
    primary one.

    Args:
        supernet: searched.
        gates: of every choice, as the relaxation gives them in evaluation.
        task: has the data.
        device: where it is evaluated.
        calibration_batches: how many batches set the statistics; 0 keeps those of the supernet.
        batch_size: images in a batch.
    """
    replica = copy.deepcopy(supernet).to(device)
    moved = {
        name: dataclasses.replace(gate, weights=gate.weights.detach().to(device), log_prob=None)
        for name, gate in gates.items()
    }

    network = replica.with_gates(moved)
    batches = _calibration_batches(task, device, calibration_batches, batch_size)
    recalibrate_batchnorm(network, lambda batch: network(task.inputs(batch)), batches)
    return _metrics(network, task, "val", device)


def _calibration_batches(task: Task, device: torch.device, number: int, batch_size: int) -> Iterator[Any]:
    loader = task.loader("train", training=True, batch_size=batch_size, epochs=1)
    return (to_device(batch, device) for batch in itertools.islice(loader, number))


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
