from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@pytest.fixture
def randomize() -> Callable[[nn.Module], nn.Module]:
    """Random weights, biases and BatchNorm statistics: nothing compared is at its initial value."""

    @torch.no_grad()
    def apply(module: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for parameter in module.parameters():
            if parameter.requires_grad:
                noise = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype) - 0.5
                parameter.mul_(1 + noise).add_(0.1 * noise)
        for layer in module.modules():
            if isinstance(layer, _BatchNorm) and layer.running_mean is not None:
                size = layer.running_mean.shape
                layer.running_mean.copy_(torch.rand(size, generator=generator) - 0.5)
                layer.running_var.copy_(torch.rand(size, generator=generator) + 0.2)
        return module

    return apply
