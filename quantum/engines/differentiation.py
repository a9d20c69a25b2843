"""Differentiation of a chain of matrices with little memory: adjoint where they are unitary, else in chunks."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from quantum.engines.application import apply, outer_product, product
from quantum.engines.precision import in_full_precision

Windows = tuple[tuple[int, ...], ...]


def apply_all(state: Tensor, *matrices: Tensor, windows: Windows, n_wires: int, local: int) -> Tensor:
    """The matrices in order, each on its window; the state after every one is kept for the backward pass.

    Args:
        state: `local**n_wires x B`.
        matrices: one per window.
        windows: their wires.
        n_wires: of the state.
        local: dimension of a wire.
    """
    result: Tensor = _Chain.apply(state, windows, n_wires, local, *matrices)
    return result


def apply_unitaries(state: Tensor, *matrices: Tensor, windows: Windows, n_wires: int) -> Tensor:
    """As :func:`apply_all` for unitary matrices on amplitudes, by adjoint differentiation.

    The backward pass undoes one matrix after the other, so that two states are alive at any depth
    (Jones and Gacon, https://arxiv.org/abs/2009.02823).
    """
    result: Tensor = _UnitaryChain.apply(state, windows, n_wires, *matrices)
    return result


def apply_in_chunks(state: Tensor, *matrices: Tensor, windows: Windows, n_wires: int, local: int) -> Tensor:
    """As :func:`apply_all`, keeping about `2 sqrt(n)` of the `n` states and computing the others twice.

    A mixture of gates, or noise, cannot be undone, so this is what is left for it
    (Chen and others, https://arxiv.org/abs/1604.06174).
    """
    size = max(1, math.ceil(math.sqrt(len(matrices))))
    for start in range(0, len(matrices), size):
        run = partial(apply_all, windows=windows[start : start + size], n_wires=n_wires, local=local)
        kept = checkpoint(run, state, *matrices[start : start + size], use_reentrant=False, preserve_rng_state=False)
        assert isinstance(kept, Tensor)
        state = kept
    return state


class _Chain(torch.autograd.Function):
    """One node for all matrices: autograd's bookkeeping for each would take longer than the products of a few wires."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, windows: Windows, n_wires: int, local: int, *matrices: Tensor) -> Tensor:
        states = [state]
        for matrix, wires in zip(matrices, windows, strict=True):
            states.append(product(states[-1], matrix, wires, n_wires, local))
        ctx.save_for_backward(*states[:-1], *matrices)
        ctx.windows, ctx.n_wires, ctx.local = windows, n_wires, local
        return states[-1]

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        windows, n_wires, local = ctx.windows, ctx.n_wires, ctx.local
        saved = ctx.saved_tensors
        states, matrices = saved[: len(windows)], saved[len(windows) :]
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            return _differentiable_gradients(ctx, gradient, states[0], matrices)
        # Conjugates of gradients need transposed matrices only, no conjugate copies of states.
        conjugate = gradient.conj().resolve_conj()
        of_matrices: list[Tensor | None] = [None] * len(windows)
        for place in reversed(range(len(windows))):
            wires, matrix = windows[place], matrices[place]
            if ctx.needs_input_grad[4 + place]:
                of_matrices[place] = outer_product(conjugate, states[place], wires, n_wires, local).conj()
            if place or ctx.needs_input_grad[0]:
                conjugate = product(conjugate, matrix.mT, wires, n_wires, local)
        return (conjugate.conj() if ctx.needs_input_grad[0] else None, None, None, None, *of_matrices)


def _differentiable_gradients(
    ctx: Any, gradient: Tensor, state: Tensor, matrices: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """The gradients of a chain with a graph of their own: the chain is run again, matrix after matrix."""
    state, matrices = state.view_as(state), tuple(matrix.view_as(matrix) for matrix in matrices)
    result = state
    for matrix, wires in zip(matrices, ctx.windows, strict=True):
        result = apply(result, matrix, wires, ctx.n_wires, ctx.local)
    wanted = [ctx.needs_input_grad[0], *ctx.needs_input_grad[4:]]
    inputs = [tensor for tensor, want in zip((state, *matrices), wanted, strict=True) if want]
    found = iter(torch.autograd.grad(result, inputs, gradient, create_graph=True))
    of_state, *of_matrices = (next(found) if want else None for want in wanted)
    return of_state, None, None, None, *of_matrices


class _UnitaryChain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, windows: Windows, n_wires: int, *matrices: Tensor) -> Tensor:
        for matrix, wires in zip(matrices, windows, strict=True):
            state = product(state, matrix, wires, n_wires, 2)
        ctx.save_for_backward(state, *matrices)
        ctx.windows, ctx.n_wires = windows, n_wires
        return state

    @staticmethod
    @once_differentiable
    @in_full_precision
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        conjugate = gradient.conj().resolve_conj()  # so that no state is conjugated on the way
        state, *matrices = ctx.saved_tensors
        of_matrices: list[Tensor | None] = [None] * len(matrices)
        for place in reversed(range(len(matrices))):
            wires, matrix = ctx.windows[place], matrices[place]
            state = product(state, matrix.mH, wires, ctx.n_wires, 2)
            if ctx.needs_input_grad[3 + place]:
                of_matrices[place] = outer_product(conjugate, state, wires, ctx.n_wires, 2).conj()
            conjugate = product(conjugate, matrix.mT, wires, ctx.n_wires, 2)
        return (conjugate.conj() if ctx.needs_input_grad[0] else None, None, None, *of_matrices)
