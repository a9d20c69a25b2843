"""BatchNorm in shared weights: freezing its statistics, and measuring them anew for one architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def frozen_batchnorm(module: nn.Module) -> Iterator[None]:
    """Normalize by batch statistics while leaving every running statistic untouched.

    Only layers in training mode are affected. A backward pass that recomputes operations must run inside too.
    """
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


@torch.no_grad()
def recalibrate_batchnorm(module: nn.Module, forward: Callable[[Any], object], batches: Iterable[Any]) -> int:
    """Reset running statistics and set them to the plain average over some batches.

    Statistics of a supernet belong to no single architecture, so a derived network that inherits weights needs its
    own (SPOS, https://arxiv.org/abs/1904.00420, section 3.3: re-initialise, then run training batches).

    Args:
        module: the network whose layers are recalibrated; each submodule's mode is restored afterwards.
        forward: runs the network on one batch.
        batches: training batches.

    Returns:
        The number of batches used. With none, nothing is reset.
    """
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    used = 0
    modes = [(part, part.training) for part in module.modules()]
    momenta = [layer.momentum for layer in layers]
    try:
        for batch in batches:
            if used == 0:
                module.train()
                for layer in layers:
                    layer.reset_running_stats()
                    layer.momentum = None  # cumulative average
            forward(batch)
            used += 1
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for part, mode in modes:
            part.training = mode
    return used
