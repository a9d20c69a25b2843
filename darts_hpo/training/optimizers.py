"""The optimizer of the weights, built from plain settings and set by a schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import SGD, AdamW, Optimizer

from darts_hpo.errors import ConfigError, unknown_name
from darts_hpo.training.schedules import ScheduleValues


def _sgd(groups: list[dict[str, Any]], lr: float, momentum: float, beta2: float) -> Optimizer:
    del beta2  # it averages no squares
    # Nesterov momentum is plain gradient descent at momentum 0, where torch refuses the flag.
    return SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)


def _adamw(groups: list[dict[str, Any]], lr: float, momentum: float, beta2: float) -> Optimizer:
    return AdamW(groups, lr=lr, betas=(momentum, beta2))


OPTIMIZERS: Mapping[str, Callable[[list[dict[str, Any]], float, float, float], Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
}
"""Builders by name, of groups, learning rate, momentum and second beta: SGD with Nesterov momentum; AdamW, whose first
beta is the momentum."""


def build_optimizer(
    groups: Sequence[Mapping[str, Any]],
    *,
    name: str = "sgd",
    lr: float,
    momentum: float,
    beta2: float = 0.999,
    weight_decay: float,
) -> Optimizer:
    """An optimizer over a task's parameter groups.

    Args:
        groups: ``params`` and ``role``, as of :meth:`~darts_hpo.training.task.Task.parameter_groups`.
        name: one of :data:`OPTIMIZERS`.
        lr: learning rate.
        momentum: in [0, 1).
        beta2: in [0, 1), decay of Adam's running mean of squared gradients; SGD leaves it unused.
        weight_decay: of the groups of role ``decay``; the others get none.

    Raises:
        ConfigError: the optimizer is unknown, or a value is out of range.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(unknown_name("optimizer", name, OPTIMIZERS))
    if not weight_decay >= 0:
        raise ConfigError(f"weight_decay must be at least 0, not {weight_decay!r}.")
    if not lr >= 0:
        raise ConfigError(f"lr must be at least 0, not {lr!r}.")
    for beta, value in (("momentum", momentum), ("beta2", beta2)):
        if not 0 <= value < 1:
            raise ConfigError(f"{beta} must be in [0, 1), not {value!r}.")
    decayed = [{**group, "weight_decay": weight_decay if group["role"] == "decay" else 0.0} for group in groups]
    return OPTIMIZERS[name](decayed, lr, momentum, beta2)


def apply_schedule(optimizer: Optimizer, values: ScheduleValues) -> None:
    """Set learning rates and momentum of all groups, biases apart, before a step."""
    for group in optimizer.param_groups:
        group["lr"] = values.bias_lr if group["role"] == "bias" else values.lr
        if "betas" in group:
            group["betas"] = (values.momentum, group["betas"][1])
        else:
            group["momentum"] = values.momentum
