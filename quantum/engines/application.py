"""Matrices on some wires of states, and their gradients, in one matrix product each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quantum.engines.precision import in_full_precision


def apply(state: Tensor, matrix: Tensor, wires: tuple[int, ...], n_wires: int, local: int) -> Tensor:
    """A matrix on some wires of a state; differentiable, twice as well.

    Args:
        state: `local**n_wires x B`.
        matrix: `local**m x local**m`; its first index is the first of the wires.
        wires: `m` wires, ascending.
        n_wires: of the state.
        local: dimension of a wire.

    Returns:
        The new state, of the same shape.
    """
    result: Tensor = _Application.apply(state, matrix, wires, n_wires, local)
    return result


def product(state: Tensor, matrix: Tensor, wires: tuple[int, ...], n_wires: int, local: int) -> Tensor:
    """As :func:`apply`, for where autograd does not look: within a function that brings its own backward pass."""
    dim = local ** len(wires)
    if _neighbours(wires):
        left = local ** wires[0]
        matrix = matrix.resolve_conj().expand(left, -1, -1)  # a lazy conjugate would be copied `left` times
        return torch.bmm(matrix, state.reshape(left, dim, -1)).reshape(state.shape)
    axes = _to_front(state, wires, n_wires, local)
    moved = (matrix @ axes.reshape(dim, -1)).reshape(axes.shape)
    return moved.movedim(tuple(range(len(wires))), wires).reshape(state.shape)


def outer_product(left: Tensor, right: Tensor, wires: tuple[int, ...], n_wires: int, local: int) -> Tensor:
    """`left right^T` over all but some wires: the conjugate of the gradient by the matrix on these wires.

    Args:
        left: `local**n_wires x B`, the conjugate of the gradient by the state after the matrix.
        right: likewise, the state before it.
        wires: `m` wires, ascending.
        n_wires: of the states.
        local: dimension of a wire.

    Returns:
        `local**m x local**m`.
    """
    dim = local ** len(wires)
    if _neighbours(wires):
        shape = local ** wires[0], dim, -1
        outer = torch.bmm(left.reshape(shape), right.reshape(shape).mT)
        return outer[0] if len(outer) == 1 else outer.sum(0)
    rows = (_to_front(state, wires, n_wires, local).reshape(dim, -1) for state in (left, right))
    return next(rows) @ next(rows).mT


class _Application(torch.autograd.Function):
    """Autograd's own backward pass of a broadcast product copies the state several times over."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, matrix: Tensor, wires: tuple[int, ...], n_wires: int, local: int) -> Tensor:
        ctx.save_for_backward(state, matrix)
        ctx.where = wires, n_wires, local
        return product(state, matrix, wires, n_wires, local)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        state, matrix = ctx.saved_tensors
        conjugate = gradient.conj().resolve_conj()
        of_state = apply(conjugate, matrix.mT, *ctx.where).conj() if ctx.needs_input_grad[0] else None
        of_matrix = outer_product(conjugate, state, *ctx.where).conj() if ctx.needs_input_grad[1] else None
        return of_state, of_matrix, None, None, None


def _neighbours(wires: tuple[int, ...]) -> bool:
    return wires[-1] - wires[0] == len(wires) - 1


def _to_front(state: Tensor, wires: tuple[int, ...], n_wires: int, local: int) -> Tensor:
    """The state with an axis per wire, these wires first."""
    return state.reshape(*[local] * n_wires, state.shape[-1]).movedim(wires, tuple(range(len(wires))))
