"""The Pauli basis, and what a gate does to density matrices written in it.

A density matrix of `n` qubits is a real vector of `4**n` numbers `r_P = Tr(P rho)`. A gate acts on it by its
Pauli-transfer matrix `T_ij = Tr(P_i U P_j U^dagger) / 2**n`, which is real and orthogonal, and does not depend on the
gate's global phase (D. Greenbaum, Introduction to Quantum Gate Set Tomography, 2015, equation 2.11).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor

from quantum.gates.constants import Constant

MatrixOf: TypeAlias = Callable[[Tensor], Tensor]
"""Angles `[..., n_parameters]` (real, radians) to matrices `[..., d, d]`."""

_ONE_WIRE = torch.tensor(
    [[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=torch.complex128
)


def pauli_basis(n_wires: int) -> Tensor:
    """The products of I, X, Y and Z on some wires.

    Args:
        n_wires: number of wires, at least 1.

    Returns:
        complex128 `[4**n, 2**n, 2**n]`. The first wire is the most significant digit of the index, with the digits
        I X Y Z = 0 1 2 3.
    """
    basis = _ONE_WIRE.clone()
    for _ in range(n_wires - 1):
        size = 2 * basis.shape[-1]
        basis = torch.einsum("aij,bkl->abikjl", basis, _ONE_WIRE).reshape(-1, size, size)
    return basis


def superoperator(left: Tensor, right: Tensor) -> Tensor:
    """`Tr(P_i A P_j B^dagger) / d`, what `rho -> A rho B^dagger` does to Pauli vectors.

    Args:
        left: A, complex `[..., d, d]` with `d = 2**n`.
        right: B, the same precision and device, broadcastable against A.

    Returns:
        Complex `[..., d*d, d*d]`; real numbers where A = B.
    """
    size = left.shape[-1]
    basis = _flat_basis(size).like(left.real)
    # With rows stacked, A rho B^dagger is the Kronecker product of A and conj(B) applied to rho.
    product = torch.einsum("...ik,...jl->...ijkl", left, right.conj())
    product = product.reshape(*product.shape[:-4], size * size, size * size)
    return basis.conj() @ product @ basis.mT


def transfer_of(matrix: MatrixOf) -> MatrixOf:
    """The Pauli-transfer form of any gate from its matrix, by definition and differentiable.

    Slower than a closed form, which a gate that is used often should have.

    Args:
        matrix: angles `[..., P]` to complex `[..., d, d]`.

    Returns:
        A function of angles `[..., P]` that gives real `[..., d*d, d*d]`.
    """

    def transfer(angles: Tensor) -> Tensor:
        unitary = matrix(angles)
        return superoperator(unitary, unitary).real

    return transfer


@cache
def _flat_basis(size: int) -> Constant:
    """The basis for `size = 2**n`, one flattened Pauli product a row, scaled to be unitary."""
    return Constant(pauli_basis(size.bit_length() - 1).flatten(1) / size**0.5)
