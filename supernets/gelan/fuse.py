"""Folding BatchNorm and parallel branches into single convolutions for deployment."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.gelan.blocks import Conv, RepConv

M = TypeVar("M", bound=nn.Module)


def fuse(module: M) -> M:
    """A deployed copy of a module: equal outputs in evaluation mode, fewer parameters, nothing left to train.

    Args:
        module: a block or network made of :class:`~supernets.gelan.blocks.Conv` and
            :class:`~supernets.gelan.blocks.RepConv`; it is left as it is.

    Returns:
        The copy, in evaluation mode.
    """
    fused = copy.deepcopy(module).eval()
    fuse_in_place(fused)
    return fused


@torch.no_grad()
def fuse_in_place(module: nn.Module) -> None:
    """Fuse every Conv and RepConv inside a module. What is fused already stays as it is."""
    for part in module.modules():
        if isinstance(part, Conv):
            _fuse_conv(part)
    for part in module.modules():
        if isinstance(part, RepConv):
            _fuse_branches(part)


def _fuse_conv(layer: Conv) -> None:
    if not isinstance(layer.bn, nn.BatchNorm2d):
        return
    kernel, bias = folded_batchnorm(layer.conv.weight, layer.bn)
    conv = layer.conv
    fused = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        groups=conv.groups,
        device=kernel.device,
        dtype=kernel.dtype,
    )
    fused.weight.copy_(kernel)
    assert fused.bias is not None
    fused.bias.copy_(bias)
    layer.conv, layer.bn = fused, nn.Identity()


def _fuse_branches(layer: RepConv) -> None:
    if layer.pointwise is None:
        return
    spatial, pointwise = layer.spatial.conv, layer.pointwise.conv
    border = (spatial.weight.shape[-1] - 1) // 2
    spatial.weight.add_(F.pad(pointwise.weight, [border] * 4))
    assert spatial.bias is not None
    assert pointwise.bias is not None
    spatial.bias.add_(pointwise.bias)
    layer.pointwise = None


def folded_batchnorm(kernel: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the convolution that equals ``norm(conv(x))`` in evaluation mode.

    Args:
        kernel: `out x in x k x k`, of a convolution without bias.
        norm: BatchNorm over `out` channels, with running statistics.

    Returns:
        Kernel `out x in x k x k` and bias `out`, computed in double precision and given in the kernel's.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - norm.running_mean.double() * scale
    return (kernel.double() * scale.view(-1, 1, 1, 1)).to(kernel.dtype), bias.to(kernel.dtype)
