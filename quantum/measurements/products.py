"""A 2 x 2 matrix on every wire at once, as few matrix products over windows of neighbouring wires."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Factor: TypeAlias = tuple[tuple[complex, complex], tuple[complex, complex]]

_WINDOW = 5
"""Wires per matrix product: 32 x 32 matrices keep a processor busiest (see the engines)."""


def factor_windows(
    factors: Sequence[Factor | None], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor | None, ...]:
    """Kronecker products over windows of wires.

    Args:
        factors: a matrix per wire, wire 0 first; None for the identity.
        dtype: of the result, real or complex.
        device: of the result.

    Returns:
        A matrix per window, or None where it is the identity.
    """
    identity: Factor = ((1.0, 0.0), (0.0, 1.0))
    windows: list[Tensor | None] = []
    for start in range(0, len(factors), _WINDOW):
        window = factors[start : start + _WINDOW]
        if not any(window):
            windows.append(None)
            continue
        total = torch.ones(1, 1, dtype=torch.complex128)
        for factor in window:
            total = torch.kron(total, torch.tensor(factor or identity, dtype=torch.complex128))
        windows.append((total if dtype.is_complex else total.real).to(dtype=dtype, device=device))
    return tuple(windows)


def apply_factors(values: Tensor, windows: Sequence[Tensor | None]) -> Tensor:
    """Applies the windows to `2**n x B` values; differentiable."""
    for place, matrix in enumerate(windows):
        if matrix is not None:
            shaped = values.reshape(2 ** (_WINDOW * place), matrix.shape[0], -1)
            values = torch.matmul(matrix, shaped).reshape(values.shape)
    return values
