"""Floating-point operations of one forward pass."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from darts_hpo.costs.base import Cost

_GIGA = 1e9


class Flops(Cost):
    """Twice the multiply-accumulates of convolutions and matrix products (linear layers), in GFLOPs.

    Normalization, activations, pooling and other elementwise work are not counted: the convention of the YOLO
    papers' tables. Counting happens where operations are dispatched, so a convolution called as a function
    counts too.
    """

    name = "flops"
    unit = "GFLOPs"
    label = "GFLOPs"

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """GFLOPs of a forward pass on one input."""
        # A copy, so that neither the mode nor what a forward pass may cache (anchors, for example) changes.
        replica = copy.deepcopy(module).eval()
        try:  # shapes alone decide, so nothing needs to be computed ...
            return _count(copy.deepcopy(replica).to("meta"), input_shape, torch.device("meta"))
        except (RuntimeError, NotImplementedError):  # ... unless the forward pass looks at values
            parameter = next(iter(replica.parameters()), torch.empty(0))
            return _count(replica, input_shape, parameter.device)


def _count(module: nn.Module, input_shape: tuple[int, ...], device: torch.device) -> float:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(torch.zeros(1, *input_shape, device=device))
    return counter.get_total_flops() / _GIGA
