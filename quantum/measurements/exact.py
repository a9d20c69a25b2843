"""Exact expectation values of observables, for statevectors and for Pauli vectors.

A string of Pauli matrices maps a basis state to one basis state with a phase. Strings that flip the same wires read the
same products conj(psi[x ^ flips]) psi[x], so all of them together, with their coefficients, are one matrix product; the
diagonal ones read |psi|**2. Where fewer measurement bases than flips would do, or where readout errors act on the
outcomes of a measurement, the state is rotated to each basis instead, and every outcome has its worth. A Pauli vector
holds every string's expectation as a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from quantum.measurements.bases import bit_signs, measurement_bases, settings
from quantum.measurements.observables import Observable, PauliString
from quantum.measurements.plans import kept
from quantum.measurements.readout import Readout, checked_readout, linear_form
from quantum.measurements.states import check_wires, outcome_probabilities, squared_magnitude


def expectations(
    state: Tensor, observables: Sequence[Observable], n_wires: int, readout: Readout | None = None
) -> Tensor:
    """Expectation values of observables; differentiable.

    What depends on the observables alone is prepared once and kept.

    Args:
        state: raw: complex `2**n x B` (statevector) or real `4**n x B` (Pauli vector).
        observables: `M` of them.
        n_wires: number of qubits.
        readout: per wire `(e01, e10)`, the probabilities to read 1 for 0 and 0 for 1; none when left out.

    Returns:
        `B x M` real.

    Raises:
        ConfigError: the state, an observable or the readout errors do not fit the wires.
    """
    chosen = checked_observables(observables, n_wires)
    check_wires(state, n_wires)
    errors = checked_readout(readout, n_wires)
    if not state.is_complex():
        return _selected(chosen, errors, state.dtype, state.device).apply(state)
    real_dtype = state.real.dtype
    if errors is None and not _few_bases(chosen):
        return _overlaps(chosen, real_dtype, state.device).apply(state)
    parts = [
        setting.values @ outcome_probabilities(state, setting.basis)
        for setting in settings(chosen, errors, real_dtype, state.device)
    ]
    return (parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)).T


def checked_observables(observables: Sequence[Observable], n_wires: int) -> tuple[Observable, ...]:
    """The observables as a hashable value.

    Raises:
        ConfigError: there is none, or one is not on so many wires.
    """
    if not observables:
        raise ConfigError("There is no observable to measure; expected at least one.")
    for observable in observables:
        if observable.n_wires != n_wires:
            raise ConfigError(
                f"The observable {observable.data} is on {observable.n_wires} wires; the state has {n_wires}."
            )
    return tuple(observables)


# -- Statevectors -----------------------------------------------------------------------------------------------------


@kept
def _few_bases(observables: tuple[Observable, ...]) -> bool:
    """Whether it is cheaper to rotate to a few measurement bases, as for X on every wire, than to flip."""
    strings = [string for observable in observables for string, _ in observable.terms]
    return len(measurement_bases(strings)) < len({string.flipped for string in strings})


@dataclass(frozen=True)
class _Flip:
    """All strings that flip the same wires.

    Args:
        flipped: these wires, ascending.
        rows: the observables that have such strings.
        real: `len(rows) x 2**(n-1)`: factor of the products' real parts over the basis states whose first flipped
            wire is 0 (the other half is the complex conjugate). Without flips over all `2**n` basis states.
        imaginary: the same for imaginary parts, or None where no string has an odd number of `Y`.
    """

    flipped: tuple[int, ...]
    rows: Tensor
    real: Tensor | None
    imaginary: Tensor | None

    def values(self, state: Tensor) -> Tensor:
        """`len(rows) x B`."""
        products = _flip_products(state, self.flipped)
        parts = []
        if self.real is not None:
            parts.append(self.real @ (products.real if products.is_complex() else products))
        if self.imaginary is not None:
            parts.append(self.imaginary @ products.imag)
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


@dataclass(frozen=True)
class _OverlapPlan:
    n_observables: int
    flips: tuple[_Flip, ...]

    def apply(self, state: Tensor) -> Tensor:
        if len(self.flips) == 1:
            return self.flips[0].values(state).T
        real_dtype = state.real.dtype
        total = torch.zeros(self.n_observables, state.shape[1], dtype=real_dtype, device=state.device)
        for flip in self.flips:
            total = total.index_add(0, flip.rows, flip.values(state))
        return total.T


@kept
def _overlaps(observables: tuple[Observable, ...], dtype: torch.dtype, device: torch.device) -> _OverlapPlan:
    signs = bit_signs(observables[0].n_wires)
    by_flip: dict[tuple[int, ...], list[tuple[int, PauliString, float]]] = {}
    for row, observable in enumerate(observables):
        for string, coefficient in observable.terms:
            by_flip.setdefault(string.flipped, []).append((row, string, coefficient))
    flips = tuple(_flip(flipped, entries, signs, dtype, device) for flipped, entries in by_flip.items())
    return _OverlapPlan(len(observables), flips)


def _flip(
    flipped: tuple[int, ...],
    entries: list[tuple[int, PauliString, float]],
    signs: Tensor,
    dtype: torch.dtype,
    device: torch.device,
) -> _Flip:
    rows = sorted({row for row, _, _ in entries})
    half = signs if not flipped else signs[:, signs[flipped[0]] > 0]
    parts: dict[bool, Tensor] = {}
    for row, string, coefficient in entries:
        # Y = i X Z, and the two halves of the basis states double the real part of i**y times the product.
        n_y = string.letters.count("Y")
        weight = coefficient * (2 if flipped else 1) * (1, -1, -1, 1)[n_y % 4]
        part = parts.setdefault(n_y % 2 == 1, torch.zeros(len(rows), half.shape[1], dtype=torch.float64))
        part[rows.index(row)] += weight * half[list(string.signed)].prod(0)
    placed = {odd: part.to(dtype=dtype, device=device) for odd, part in parts.items()}
    return _Flip(flipped, torch.tensor(rows, device=device), placed.get(False), placed.get(True))


def _flip_products(state: Tensor, flipped: tuple[int, ...]) -> Tensor:
    """conj(psi[x ^ flips]) psi[x] where the first flipped wire is 0; |psi|**2 (real) without flips."""
    if not flipped:
        return squared_magnitude(state)
    first, batch = flipped[0], state.shape[1]
    n_after = state.shape[0].bit_length() - 2 - first
    shaped = state.reshape(2**first, 2, 2**n_after, batch)
    zero, one = shaped.unbind(1)  # one backward pass for both halves
    if len(flipped) > 1:
        bits = one.reshape([2**first] + [2] * n_after + [batch])
        one = bits.flip([wire - first for wire in flipped[1:]]).reshape(zero.shape)
    return (one.conj() * zero).reshape(-1, batch)


# -- Pauli vectors ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _RowPlan:
    rows: Tensor
    coefficients: Tensor | None

    def apply(self, state: Tensor) -> Tensor:
        values = state.index_select(0, self.rows)
        return (values if self.coefficients is None else self.coefficients @ values).T


@kept
def _selected(
    observables: tuple[Observable, ...],
    readout: tuple[tuple[float, float], ...] | None,
    dtype: torch.dtype,
    device: torch.device,
) -> _RowPlan:
    rows: dict[int, int] = {}
    entries: list[tuple[int, int, float]] = []
    for position, observable in enumerate(observables):
        for string, coefficient in observable.terms:
            for part, factor in _as_read(string, readout):
                column = rows.setdefault(part.pauli_index, len(rows))
                entries.append((position, column, coefficient * factor))
    matrix = torch.zeros(len(observables), len(rows), dtype=torch.float64)
    for position, column, value in entries:
        matrix[position, column] += value
    plain = matrix.shape[0] == matrix.shape[1] and torch.equal(matrix, torch.eye(len(rows), dtype=torch.float64))
    return _RowPlan(
        torch.tensor(list(rows), device=device), None if plain else matrix.to(dtype=dtype, device=device, copy=True)
    )


def _as_read(string: PauliString, readout: tuple[tuple[float, float], ...] | None) -> list[tuple[PauliString, float]]:
    """The string, or with readout errors the sum of its parts: each wire's letter becomes `a * letter + b * I`."""
    if readout is None:
        return [(string, 1.0)]
    choices = [
        (("I", 1.0),) if letter == "I" else ((letter, linear_form(pair)[0]), ("I", linear_form(pair)[1]))
        for letter, pair in zip(string.letters, readout, strict=True)
    ]
    parts = []
    for chosen in product(*choices):
        factor = 1.0
        for _, value in chosen:
            factor *= value
        if factor:
            parts.append((PauliString("".join(letter for letter, _ in chosen)), factor))
    return parts
