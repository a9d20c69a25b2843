"""Differentiation of a chain of matrices with little memory: adjoint where they are unitary, else in chunks."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from quantum.engines.application import apply, outer_product

Windows = tuple[tuple[int, ...], ...]


def apply_all(state: Tensor, *matrices: Tensor, windows: Windows, n_wires: int, local: int) -> Tensor:
    """The matrices in order, each on its window; autograd keeps the state after every one.

    Args:
        state: `local**n_wires x B`.
        matrices: one per window.
        windows: their wires.
        n_wires: of the state.
        local: dimension of a wire.
    """
    for matrix, wires in zip(matrices, windows, strict=True):
        state = apply(state, matrix, wires, n_wires, local)
    return state


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


class _UnitaryChain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, windows: Windows, n_wires: int, *matrices: Tensor) -> Tensor:
        for matrix, wires in zip(matrices, windows, strict=True):
            state = apply(state, matrix, wires, n_wires, 2)
        ctx.save_for_backward(state, *matrices)
        ctx.windows, ctx.n_wires = windows, n_wires
        return state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        conjugate = gradient.conj().resolve_conj()  # so that no state is conjugated on the way
        state, *matrices = ctx.saved_tensors
        of_matrices: list[Tensor | None] = [None] * len(matrices)
        for place in reversed(range(len(matrices))):
            wires, matrix = ctx.windows[place], matrices[place]
            state = apply(state, matrix.mH, wires, ctx.n_wires, 2)
            if ctx.needs_input_grad[3 + place]:
                of_matrices[place] = outer_product(conjugate, state, wires, ctx.n_wires, 2).conj()
            conjugate = apply(conjugate, matrix.mT, wires, ctx.n_wires, 2)
        return (conjugate.conj() if ctx.needs_input_grad[0] else None, None, None, *of_matrices)
