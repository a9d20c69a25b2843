"""All options of a block in one set of weights: mixtures at little more than the price of one block.

The smaller kernel is the centre of the larger one (as the elastic kernels of Once-for-All,
https://arxiv.org/abs/1908.09791, without their transform). Convolution is linear in its kernel, so the
mixture of options with different kernels is one convolution with the mixed kernel; BatchNorm is shared and
sees the mixture. The activations are mixed after it (:mod:`supernets.gelan.mixed_activation`). Both mixtures
are taken at every convolution of the block, which is not the mixture of whole blocks: the two agree exactly
where the weights are one-hot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_hpo.errors import SpaceError
from darts_hpo.supernet import Gate
from supernets.gelan.mixed_activation import MixedActivation
from supernets.gelan.options import BlockOption

Selection: TypeAlias = Tensor | int
"""Weights over all values, or the position of the only one that counts."""


def selection(gate: Gate) -> Selection:
    """What a gate asks of an entangled choice.

    A probed path keeps the value of its active option and lets a gradient through to the weights of the
    probed ones: the mixed forward pass is differentiable in them, so nothing is recomputed.

    Args:
        gate: of one choice with `n` values.

    Returns:
        The active position where no gradient is wanted, otherwise `n` weights, zero for what is not active.
    """
    if gate.kind == "path" and not gate.weights.requires_grad:
        return gate.active[0]
    positions = range(len(gate.weights))
    active = gate.weights.new_tensor([float(p in gate.active) for p in positions])
    weights = gate.weights * active
    if gate.probed:
        probed = gate.weights.new_tensor([float(p in gate.probed) for p in positions])
        weights = weights + (gate.weights - gate.weights.detach()) * probed
    return weights


@dataclass
class _Mixture:
    """The selections of the current forward pass, read by the mixed layers of one block."""

    kernel: Selection | None = None
    activation: Selection | None = None

    @contextmanager
    def of(self, kernel: Selection, activation: Selection) -> Iterator[None]:
        self.kernel, self.activation = kernel, activation
        try:
            yield
        finally:
            self.kernel = self.activation = None


class NestedConv2d(nn.Module):
    """A convolution whose kernel is a mixture of centred crops of one kernel.

    Args:
        conv: square, odd, without bias, padded to keep the size; its kernel is the largest one.
        kernels: sides of the nested kernels, ascending, the last one that of ``conv``.
        mixture: tells every forward pass which kernel to use.
    """

    masks: Tensor

    def __init__(self, conv: nn.Conv2d, kernels: Sequence[int], mixture: _Mixture) -> None:
        super().__init__()
        self.weight = conv.weight
        self.kernels = tuple(kernels)
        self.stride = conv.stride
        self.groups = conv.groups
        self.mixture = mixture
        largest = self.kernels[-1]
        masks = torch.zeros(len(self.kernels), largest, largest, device=conv.weight.device)
        for mask, kernel in zip(masks, self.kernels, strict=True):
            self._centre(mask, kernel).fill_(1.0)
        self.register_buffer("masks", masks, persistent=False)

    def _centre(self, kernel: Tensor, side: int) -> Tensor:
        border = (self.kernels[-1] - side) // 2
        return kernel[..., border : border + side, border : border + side]

    def crop(self, position: int) -> Tensor:
        """Kernel `out x in / groups x k x k` of one option."""
        return self._centre(self.weight, self.kernels[position])

    def forward(self, x: Tensor) -> Tensor:
        """`B x in x H x W` to `B x out x H / stride x W / stride`."""
        chosen = self.mixture.kernel
        assert chosen is not None
        if isinstance(chosen, int):
            kernel = self.crop(chosen)
        else:
            kernel = self.weight * torch.tensordot(chosen.to(self.masks.dtype), self.masks, dims=1)
        return F.conv2d(x, kernel, stride=self.stride, padding=kernel.shape[-1] // 2, groups=self.groups)


class _EntangledActivation(MixedActivation):
    """A mixed activation that reads its weights from the block's mixture."""

    def __init__(self, names: Sequence[str], mixture: _Mixture) -> None:
        super().__init__(names)
        self.mixture = mixture

    def forward(self, x: Tensor, weights: Selection | None = None) -> Tensor:
        chosen = self.mixture.activation if weights is None else weights
        assert chosen is not None
        return super().forward(x, chosen)


class EntangledBlock(nn.Module):
    """A block whose kernel and activation are chosen by two gates over one set of weights.

    What an option changes in the plain block is what gets mixed: convolutions whose kernel size follows the
    option and activations that follow it; all else is shared as it is.

    Args:
        build: the plain block for an option.
        kernels: sides of the kernels, ascending.
        activations: names, in the order of the activation gate's weights.
    """

    def __init__(
        self, build: Callable[[BlockOption], nn.Module], kernels: Sequence[int], activations: Sequence[str]
    ) -> None:
        super().__init__()
        self.kernels, self.activations = tuple(kernels), tuple(activations)
        self.mixture = _Mixture()
        self.block = build(BlockOption(self.kernels[-1], self.activations[0]))
        with torch.device("meta"):
            other = build(BlockOption(self.kernels[0], self.activations[-1]))
        ours, theirs = dict(self.block.named_modules()), dict(other.named_modules())
        for name in list(ours):
            if any(True for _ in ours[name].children()):
                continue
            mixed = self._mixed_layer(ours[name], theirs[name])
            if mixed is not None:
                self.block.set_submodule(name, mixed)

    def _mixed_layer(self, layer: nn.Module, other: nn.Module) -> nn.Module | None:
        if isinstance(layer, nn.Conv2d) and isinstance(other, nn.Conv2d):
            if layer.kernel_size == other.kernel_size:
                return None
            return NestedConv2d(layer, self.kernels, self.mixture)
        if repr(layer) != repr(other):
            return _EntangledActivation(self.activations, self.mixture)
        return None

    def forward(self, x: Tensor, kernel: Gate, activation: Gate) -> Tensor:
        """Run the mixture.

        Args:
            x: input of the block.
            kernel: gate over :attr:`kernels`.
            activation: gate over :attr:`activations`.

        Raises:
            SpaceError: a gate has another number of weights than there are values.
        """
        for what, gate, values in (
            ("kernel", kernel, self.kernels),
            ("activation", activation, self.activations),
        ):
            if len(gate.weights) != len(values):
                raise SpaceError(f"The block has {len(values)} {what}s but its gate has {len(gate.weights)} weights.")
        with self.mixture.of(selection(kernel), selection(activation)):
            return self.block(x)

    def plain_state(self, option: BlockOption) -> dict[str, Tensor]:
        """State of the plain block of an option, sharing memory with this one."""
        state = self.block.state_dict()
        position = self.kernels.index(option.kernel)
        for name, layer in self.block.named_modules():
            if isinstance(layer, NestedConv2d):
                state[f"{name}.weight"] = layer.crop(position).detach()
        return state
