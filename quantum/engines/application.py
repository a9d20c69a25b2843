"""A matrix on some wires of a batch of states, and its gradients, in one matrix product each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
    m = len(wires)
    if _neighbours(wires):
        left = local ** wires[0]
        shaped = state.reshape(left, local**m, -1)
        return torch.bmm(matrix.resolve_conj().expand(left, -1, -1), shaped).reshape(state.shape)
    axes = _to_front(state, wires, n_wires, local)
    moved = (matrix @ axes.reshape(local**m, -1)).reshape(axes.shape)
    return moved.movedim(tuple(range(m)), wires).reshape(state.shape)


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
    if _neighbours(wires):
        shape = local ** wires[0], local ** len(wires), -1
        return torch.bmm(left.reshape(shape), right.reshape(shape).mT).sum(0)
    rows = _to_front(left, wires, n_wires, local), _to_front(right, wires, n_wires, local)
    return rows[0].reshape(local ** len(wires), -1) @ rows[1].reshape(local ** len(wires), -1).mT


class _Application(torch.autograd.Function):
    """Autograd's own backward pass of a broadcast product copies the state several times over."""

    generate_vmap_rule = True

    @staticmethod
    def forward(state: Tensor, matrix: Tensor, wires: tuple[int, ...], n_wires: int, local: int) -> Tensor:
        return product(state, matrix, wires, n_wires, local)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        state, matrix, ctx.wires, ctx.n_wires, ctx.local = inputs
        ctx.save_for_backward(state, matrix)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        state, matrix = ctx.saved_tensors
        where = ctx.wires, ctx.n_wires, ctx.local
        # Conjugates of gradients need transposed matrices only, no conjugate copies of states. What is returned is
        # conjugated lazily, so the next backward pass in the chain takes it as it lies in memory.
        conjugate = gradient.conj().resolve_conj()
        of_state = apply(conjugate, matrix.mT, *where).conj() if ctx.needs_input_grad[0] else None
        of_matrix = outer_product(conjugate, state, *where).conj() if ctx.needs_input_grad[1] else None
        return of_state, of_matrix, None, None, None


def _neighbours(wires: tuple[int, ...]) -> bool:
    return wires == tuple(range(wires[0], wires[0] + len(wires)))


def _to_front(state: Tensor, wires: tuple[int, ...], n_wires: int, local: int) -> Tensor:
    """The state with an axis per wire, these wires first."""
    axes = state.reshape([local] * n_wires + [state.shape[-1]])
    return axes.movedim(wires, tuple(range(len(wires))))
