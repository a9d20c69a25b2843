r"""A weighted mixture of activations at little more than the price of one.

ReLU, leaky ReLU, SiLU and Mish of one input all follow from its sigmoid, hence from one exponential. With
:math:`s = \sigma(x)` and :math:`r = s (2 - s)`::

    silu(x) = x s                 d silu = s + x s (1 - s)
    mish(x) = x t                 d mish = t + x s (1 - t^2)

where :math:`t = \tanh(\operatorname{softplus}(x)) = r / (2 - r)` and :math:`1 - t^2 = 4 (1 - r) / (2 - r)^2`:
dividing through by powers of :math:`1 + e^x` leaves a quotient of bounded terms, so nothing overflows
anywhere and no case distinction is needed. One tensor is kept for the backward pass, as for a plain SiLU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from supernets.gelan.activations import LEAKY_SLOPE, build_activation

SIGMOID_FAMILY = ("relu", "leaky_relu", "silu", "mish")
"""Activations that :func:`mix_sigmoid_family` combines, in the order of its weights."""

_CHUNK = 1 << 16
"""Elements worked on at a time on a CPU: all temporaries of a chunk fit in a core's cache."""


def mix_sigmoid_family(x: Tensor, weights: Tensor) -> Tensor:
    """``weights[0] * relu(x) + weights[1] * leaky_relu(x) + weights[2] * silu(x) + weights[3] * mish(x)``.

    Args:
        x: any shape, floating point; half precisions are computed in float32.
        weights: `4`, not necessarily normalised.

    Returns:
        Of the shape and dtype of ``x``; differentiable once, with respect to both arguments.
    """
    return _MixSigmoidFamily.apply(x, weights)


class _MixSigmoidFamily(torch.autograd.Function):
    """Keeps one tensor: the input where the weights want a gradient, otherwise the slope at the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor) -> Tensor:
        x = _dense(x)
        out = torch.empty_like(x)
        slope = torch.empty_like(x) if ctx.needs_input_grad == (True, False) else None
        coefficients = weights.detach().to(_compute_dtype(x))
        _for_chunks(partial(_forward_chunk, weights=coefficients), x, out, slope)
        ctx.save_for_backward(x if slope is None else slope, weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        kept, weights = ctx.saved_tensors
        grad = grads[0]
        if not ctx.needs_input_grad[1]:
            return grad * kept, None
        if grad.stride() != kept.stride():
            grad = torch.empty_like(kept).copy_(grad)
        grad_x = torch.empty_like(kept)
        inner: list[Tensor] = []
        coefficients = weights.detach().to(_compute_dtype(kept))
        _for_chunks(partial(_backward_chunk, weights=coefficients, inner=inner), kept, grad, grad_x)
        above, everything, silu, mish = torch.stack(inner).view(-1, 4).sum(0)
        grad_weights = torch.stack([above, above + LEAKY_SLOPE * (everything - above), silu, mish])
        return grad_x, grad_weights.to(weights.dtype)


def _forward_chunk(x: Tensor, out: Tensor, slope: Tensor | None, weights: Tensor) -> None:
    x = x.to(weights.dtype)
    relu, leaky, silu, mish = weights.unbind()
    s, t = _sigmoid_and_tanh(x)
    if slope is not None:
        slope.copy_(_slope(x, s, t, _positive(x), weights))
    s.mul_(silu).addcmul_(t, mish).add_(LEAKY_SLOPE * leaky).mul_(x)
    out.copy_(s.addcmul_(x.clamp(min=0), relu + (1 - LEAKY_SLOPE) * leaky))


def _backward_chunk(x: Tensor, grad: Tensor, out: Tensor, weights: Tensor, inner: list[Tensor]) -> None:
    """Gradient of the input into ``out``; into ``inner`` <grad, x h> of the terms ``h`` of the mixture."""
    x, grad = x.to(weights.dtype), grad.to(weights.dtype)
    s, t = _sigmoid_and_tanh(x)
    positive = _positive(x)
    product = grad * x
    inner += [torch.dot(product, positive), product.sum(), torch.dot(product, s), torch.dot(product, t)]
    out.copy_(_slope(x, s, t, positive, weights).mul_(grad))


def _slope(x: Tensor, s: Tensor, t: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """Derivative of the mixture; overwrites ``positive``."""
    relu, leaky, silu, mish = weights.unbind()
    slope = positive.mul_(relu + (1 - LEAKY_SLOPE) * leaky).add_(LEAKY_SLOPE * leaky)
    slope.addcmul_(s, silu).addcmul_(t, mish)
    # x (w_silu s (1 - s) + w_mish s (1 - t^2)), the part that comes from differentiating s and t themselves
    bend = (t * t).mul_(-mish).addcmul_(s, -silu).add_(silu + mish)
    return slope.addcmul_(bend.mul_(s), x)


def _positive(x: Tensor) -> Tensor:
    # Written straight into floats: converting a boolean mask costs ten times as much on a CPU.
    return torch.gt(x, 0, out=torch.empty_like(x))


def _sigmoid_and_tanh(x: Tensor) -> tuple[Tensor, Tensor]:
    """``sigmoid(x)`` and ``tanh(softplus(x))``."""
    s = torch.sigmoid(x)
    t = (2 - s).mul_(s)
    return s, t.div_(2 - t)


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _dense(x: Tensor) -> Tensor:
    if x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


def _flat(x: Tensor) -> Tensor:
    """A one-dimensional view of a dense tensor, in the order of its memory."""
    return x.view(-1) if x.is_contiguous() else x.permute(0, 2, 3, 1).reshape(-1)


def _for_chunks(work: Callable[..., None], *tensors: Tensor | None) -> None:
    """Run ``work`` over pieces of tensors laid out alike: in cache-sized ones on a CPU, at once elsewhere."""
    flat = [None if tensor is None else _flat(tensor) for tensor in tensors]
    first = flat[0]
    assert first is not None
    size = _CHUNK if first.device.type == "cpu" else max(first.numel(), 1)
    for start in range(0, max(first.numel(), 1), size):
        work(*(None if tensor is None else tensor[start : start + size] for tensor in flat))


class MixedActivation(nn.Module):
    """Activations of one input, mixed by weights or reduced to one of them.

    Args:
        names: activations in the order of the weights. Those of :data:`SIGMOID_FAMILY` share their work,
            others are computed one by one.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.plain = nn.ModuleList(build_activation(name) for name in self.names)

    def forward(self, x: Tensor, weights: Tensor | int) -> Tensor:
        """Activate.

        Args:
            x: any shape.
            weights: `len(names)` weights, or the position of the only activation to apply.
        """
        if isinstance(weights, int):
            return self.plain[weights](x)
        family = [self.names.index(n) if n in self.names else None for n in SIGMOID_FAMILY]
        zero = weights.new_zeros(())
        total: Tensor | None = None
        if any(position is not None for position in family):
            total = mix_sigmoid_family(x, torch.stack([zero if p is None else weights[p] for p in family]))
        for position, name in enumerate(self.names):
            if name not in SIGMOID_FAMILY:
                term = weights[position] * self.plain[position](x)
                total = term if total is None else total + term
        assert total is not None
        return total
