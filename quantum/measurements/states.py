"""Raw states in their two forms, and what can be said of a state as a whole.

A statevector is complex, `2**n x B`. A Pauli vector is real, `4**n x B`, with entries r_P = Tr(P rho) in base-4 order
I X Y Z, so that mixed states fit too. In both, wire 0 is the most significant digit and the batch comes last.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from quantum.measurements.plans import kept
from quantum.measurements.products import apply_factors, factor_windows
from quantum.measurements.readout import Readout, checked_readout, confused

# Row P, column (row, column) of rho: the entries of P transposed, so that the product is Tr(P rho).
_PAULI_FROM_DENSITY = (
    (1, 0, 0, 1),
    (0, 1, 1, 0),
    (0, 1j, -1j, 0),
    (1, 0, 0, -1),
)


def wires_of(state: Tensor) -> int:
    """Number of qubits of a raw state.

    Raises:
        ConfigError: the state has not two dimensions, or its rows are no power of 2 (complex) or 4 (real).
    """
    levels = 2 if state.is_complex() else 4
    rows = state.shape[0] if state.dim() == 2 else 0
    n_wires = round(math.log(rows, levels)) if rows else 0
    if rows != levels**n_wires or n_wires < 1:
        raise ConfigError(
            f"A state of shape {list(state.shape)} and {state.dtype} is no raw state: expected complex 2**n x batch "
            "(statevector) or real 4**n x batch (Pauli vector)."
        )
    return n_wires


def check_wires(state: Tensor, n_wires: int) -> None:
    """Raises ConfigError unless the raw state has so many qubits."""
    if wires_of(state) != n_wires:
        raise ConfigError(f"The state of shape {list(state.shape)} has {wires_of(state)} wires; expected {n_wires}.")


def pauli_vector(statevector: Tensor) -> Tensor:
    """The Pauli vector of pure states; differentiable.

    Args:
        statevector: `2**n x B` complex.

    Returns:
        `4**n x B` real.
    """
    density = statevector.T.unsqueeze(2) * statevector.T.conj().unsqueeze(1)
    return pauli_vector_of_density(density)


def pauli_vector_of_density(density: Tensor) -> Tensor:
    """The Pauli vector of density matrices; differentiable.

    Args:
        density: `B x 2**n x 2**n` complex, Hermitian.

    Returns:
        `4**n x B` real.
    """
    batch, n = density.shape[0], wires_of(density[0])
    # Rows and columns of each wire side by side: B, r0, c0, r1, c1, ...
    order = [0] + [1 + wire + side * n for wire in range(n) for side in (0, 1)]
    entries = density.reshape([batch] + [2] * (2 * n)).permute(order).reshape(batch, -1)
    return _on_every_wire(density.new_tensor(_PAULI_FROM_DENSITY), entries, n).real.T.contiguous()


def density_matrix(pauli: Tensor) -> Tensor:
    """The density matrices of Pauli vectors, rho = 2**-n sum_P r_P P; differentiable.

    Args:
        pauli: `4**n x B` real.

    Returns:
        `B x 2**n x 2**n` complex.
    """
    n, batch = wires_of(pauli), pauli.shape[1]
    complex_dtype = torch.complex128 if pauli.dtype == torch.float64 else torch.complex64
    # The rows of the map are orthogonal with squared norm 2, so half of its adjoint undoes it.
    inverse = torch.tensor(_PAULI_FROM_DENSITY, dtype=complex_dtype, device=pauli.device).mH / 2
    entries = _on_every_wire(inverse, pauli.T.to(complex_dtype), n).reshape([batch] + [2] * (2 * n))
    order = [0] + [1 + 2 * wire + side for side in (0, 1) for wire in range(n)]
    return entries.permute(order).reshape(batch, 2**n, 2**n)


def probabilities(state: Tensor, basis: str | None = None, readout: Readout | None = None) -> Tensor:
    """Probabilities of the outcomes when every wire is measured; differentiable.

    Args:
        state: raw, in either form.
        basis: letter `X`, `Y` or `Z` per wire; all `Z` when left out.
        readout: `(e01, e10)` per wire.

    Returns:
        `B x 2**n`; bit 0 on a wire is its eigenvalue +1.

    Raises:
        ConfigError: the basis or the readout errors do not fit the wires.
    """
    n = wires_of(state)
    basis = "Z" * n if basis is None else basis
    if len(basis) != n or set(basis) - set("XYZ"):
        raise ConfigError(f"{basis!r} is no measurement basis of {n} wires: expected one of X, Y, Z per wire.")
    outcomes = outcome_probabilities(state, basis)
    errors = checked_readout(readout, n)
    return (outcomes if errors is None else confused(outcomes, errors)).T


def outcome_probabilities(state: Tensor, basis: str) -> Tensor:
    """Like :func:`probabilities` without checks and errors, and with the batch last: `2**n x B`."""
    if state.is_complex():
        return squared_magnitude(apply_factors(state, _rotation(basis, state.dtype, state.device)))
    return apply_factors(
        state.index_select(0, _rows(basis, state.device)), _signs(len(basis), state.dtype, state.device)
    )


def squared_magnitude(state: Tensor) -> Tensor:
    """|psi|**2, real, of the same shape."""
    magnitude: Tensor = _SquaredMagnitude.apply(state)
    return magnitude


class _SquaredMagnitude(torch.autograd.Function):
    """Autograd alone would make complex gradients of the real and the imaginary part, and add them."""

    @staticmethod
    def forward(ctx: Any, state: Tensor) -> Tensor:
        ctx.save_for_backward(state)
        numbers = torch.view_as_real(state.resolve_conj())
        return numbers[..., 0].square().addcmul_(numbers[..., 1], numbers[..., 1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (state,) = ctx.saved_tensors
        numbers = torch.view_as_real(state.resolve_conj())
        return torch.view_as_complex(numbers * (2 * gradients[0]).unsqueeze(-1))


def purity(state: Tensor) -> Tensor:
    """Tr(rho**2), `B`, from 2**-n to 1; differentiable. It is 1 for every normalised statevector.

    Args:
        state: raw, in either form.
    """
    if state.is_complex():
        return squared_magnitude(state).sum(0).square()
    return state.square().sum(0) / 2 ** wires_of(state)


def fidelity(state: Tensor, targets: Tensor, n_wires: int) -> Tensor:
    """Fidelity <t| rho |t> with pure targets; differentiable.

    Args:
        state: raw, in either form, batch last.
        targets: `B x 2**n`, or `1 x 2**n` for one target of all; normalised.
        n_wires: number of qubits.

    Returns:
        `B`, from 0 to 1.

    Raises:
        ConfigError: the shapes do not fit.
    """
    check_wires(state, n_wires)
    batch = state.shape[1]
    if targets.dim() != 2 or targets.shape[1] != 2**n_wires or targets.shape[0] not in (1, batch):
        raise ConfigError(
            f"The targets have shape {list(targets.shape)}; expected [{batch}, {2**n_wires}] or [1, {2**n_wires}]."
        )
    if state.is_complex():
        overlap = (targets.to(state).conj() * state.T).sum(1)
        return squared_magnitude(overlap)
    complex_dtype = torch.complex128 if state.dtype == torch.float64 else torch.complex64
    target = pauli_vector(targets.to(device=state.device, dtype=complex_dtype).T)
    return (state * target).sum(0) / 2**n_wires


def _on_every_wire(matrix: Tensor, entries: Tensor, n_wires: int) -> Tensor:
    """Applies a 4 x 4 matrix to each base-4 digit of the last dimension, `B x 4**n`."""
    shape = entries.shape
    for wire in range(n_wires):
        entries = torch.matmul(matrix, entries.reshape(-1, 4, 4 ** (n_wires - 1 - wire)))
    return entries.reshape(shape)


@kept
def _rotation(basis: str, dtype: torch.dtype, device: torch.device) -> tuple[Tensor | None, ...]:
    """The rotation that brings each letter of the basis to Z."""
    root = math.sqrt(0.5)
    # H turns X into Z; H after the inverse of S turns Y into Z.
    turns = {"X": ((root, root), (root, -root)), "Y": ((root, -1j * root), (root, 1j * root))}
    return factor_windows([turns.get(letter) for letter in basis], dtype, device)


@kept
def _rows(basis: str, device: torch.device) -> Tensor:
    """Rows of a Pauli vector that matter to a basis: `I` or its letter on each wire, `I` first."""
    rows = torch.zeros(1, dtype=torch.long, device=device)
    for letter in basis:
        rows = (4 * rows.unsqueeze(1) + rows.new_tensor([0, "IXYZ".index(letter)])).flatten()
    return rows


@kept
def _signs(n_wires: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor | None, ...]:
    """From the expectations of all products of the measured letters to probabilities (Walsh-Hadamard)."""
    return factor_windows([((0.5, 0.5), (0.5, -0.5))] * n_wires, dtype, device)
