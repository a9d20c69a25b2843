"""Gates as trigonometric series of their angles.

Every gate of circuits that is in use, `exp(-i t/2 G)` with `G^2 = 1`, products of such gates and controlled ones, is
a finite sum `U(t) = sum_k exp(i k.t / 2) M_k` over vectors `k` of whole numbers. Written so, the matrices and the
Pauli-transfer matrices of any number of gates of many kinds come from sines and one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from darts_hpo.errors import SpaceError
from quantum.gates.constants import Constant
from quantum.gates.pauli import superoperator

_NEGLIGIBLE = 1e-14
_Frequency = tuple[int, ...]


class Waves:
    """Real functions of the angles, `sin(angles @ frequencies + offsets) @ table`.

    Args:
        n_parameters: number of angles, `P`.
        coefficients: for each vector `k`, of which one of `k` and `-k` is there, the real coefficients of
            `cos(k.angles / 2)` and of `sin(k.angles / 2)`, `N` each.

    Attributes:
        frequencies: `P x K`, float64.
        offsets: `K`, float64; a quarter turn where a wave is a cosine.
        table: `K x N`, float64.
    """

    def __init__(self, n_parameters: int, coefficients: Mapping[_Frequency, tuple[Tensor, Tensor]]) -> None:
        columns = [
            (frequency, offset, values)
            for frequency, pair in coefficients.items()
            for offset, values in zip((math.pi / 2, 0.0), pair, strict=True)
            if float(values.abs().max()) > _NEGLIGIBLE
        ]
        doubled = torch.tensor([frequency for frequency, _, _ in columns], dtype=torch.float64)
        self.frequencies = doubled.reshape(len(columns), n_parameters).T.contiguous() / 2
        self.offsets = torch.tensor([offset for _, offset, _ in columns], dtype=torch.float64)
        self.table = torch.stack([values for _, _, values in columns])
        self._frequencies, self._offsets, self._table = map(Constant, (self.frequencies, self.offsets, self.table))

    def __call__(self, angles: Tensor) -> Tensor:
        """The functions' values, `... x N`, at angles `... x P` in radians, float32 or float64."""
        phases = angles @ self._frequencies.like(angles) + self._offsets.like(angles)
        return phases.sin() @ self._table.like(angles)


class TrigonometricSeries:
    """`U(angles) = sum_k exp(i k.angles / 2) M_k`.

    Args:
        n_parameters: number of angles, `P`.
        terms: the complex matrices `M_k`, `d x d` with `d = 2**n`, by their vectors `k` of `P` whole numbers.

    Raises:
        SpaceError: a vector has another length, or matrices differ in shape or are not square.
    """

    def __init__(self, n_parameters: int, terms: Mapping[_Frequency, Tensor]) -> None:
        if any(len(frequency) != n_parameters for frequency in terms):
            raise SpaceError(f"A trigonometric series of {n_parameters} angles has the frequencies {sorted(terms)}.")
        shapes = {tuple(term.shape) for term in terms.values()}
        sizes = {size for shape in shapes for size in shape}
        if len(shapes) != 1 or len(sizes) != 1 or len(next(iter(shapes))) != 2:
            raise SpaceError(
                f"The matrices of a trigonometric series have the shapes {sorted(shapes)}; expected one, square."
            )
        self.n_parameters, self.size = n_parameters, sizes.pop()
        self._terms = {frequency: term.detach().cpu().to(torch.complex128) for frequency, term in terms.items()}

    # -- how series are made --------------------------------------------------------------------------------------

    @classmethod
    def constant(cls, matrix: Tensor) -> TrigonometricSeries:
        """A matrix without angles."""
        return cls(0, {(): matrix})

    @classmethod
    def rotation(cls, generator: Tensor) -> TrigonometricSeries:
        """`exp(-i t/2 G)` for a generator whose square is 1, `cos(t/2) - i sin(t/2) G`.

        Raises:
            SpaceError: its square is not 1.
        """
        identity = torch.eye(len(generator), dtype=generator.dtype)
        if not torch.allclose(generator @ generator, identity):
            raise SpaceError("The generator of a rotation has a square that is not 1, as products of Paulis have.")
        return cls(1, {(-1,): (identity + generator) / 2, (1,): (identity - generator) / 2})

    def of(self, *positions: int, among: int) -> TrigonometricSeries:
        """The same matrices as a function of more angles.

        Args:
            positions: of its own angles; several may be the same one.
            among: so many angles.

        Raises:
            SpaceError: there is not one position in range for each of its angles.
        """
        if len(positions) != self.n_parameters or not all(0 <= position < among for position in positions):
            raise SpaceError(
                f"A series of {self.n_parameters} angles was given the positions {list(positions)} among {among}; "
                f"expected {self.n_parameters} of 0 to {among - 1}."
            )
        terms: dict[_Frequency, Tensor] = {}
        for frequency, term in self._terms.items():
            placed = [0] * among
            for position, entry in zip(positions, frequency, strict=True):
                placed[position] += entry
            terms[tuple(placed)] = terms.get(tuple(placed), 0) + term
        return TrigonometricSeries(among, terms)

    def __matmul__(self, other: TrigonometricSeries) -> TrigonometricSeries:
        """The product of matrices that depend on the same angles.

        Raises:
            SpaceError: they are of other sizes, or do not have the same number of angles.
        """
        if (self.size, self.n_parameters) != (other.size, other.n_parameters):
            raise SpaceError(
                f"A series of {self.size} rows and {self.n_parameters} angles cannot be multiplied by one of "
                f"{other.size} and {other.n_parameters}; "
                "use of(POSITION, among=NUMBER) to make both depend on the same angles."
            )
        terms: dict[_Frequency, Tensor] = {}
        for left, first in self._terms.items():
            for right, second in other._terms.items():
                frequency = tuple(a + b for a, b in zip(left, right, strict=True))
                terms[frequency] = terms.get(frequency, 0) + first @ second
        return TrigonometricSeries(self.n_parameters, terms)

    def controlled(self) -> TrigonometricSeries:
        """The matrix on the wires behind a first one, while that one is 1."""
        on, off = torch.tensor([0.0, 1.0]).diag(), torch.tensor([1.0, 0.0]).diag()
        terms = {frequency: torch.kron(on.to(term), term) for frequency, term in self._terms.items()}
        zero = (0,) * self.n_parameters
        rest = torch.kron(off, torch.eye(self.size)).to(torch.complex128)
        return TrigonometricSeries(self.n_parameters, terms | {zero: terms.get(zero, 0) + rest})

    # -- numbers --------------------------------------------------------------------------------------------------

    @cached_property
    def matrix_waves(self) -> Waves:
        """The entries of the matrix, row after row, as pairs of real and imaginary part."""
        parts = {frequency: term.flatten() for frequency, term in self._terms.items()}
        pairs = _cosines_and_sines(parts)
        return Waves(self.n_parameters, {k: (_pairs_of_reals(c), _pairs_of_reals(s)) for k, (c, s) in pairs})

    @cached_property
    def transfer_waves(self) -> Waves:
        """The entries of the Pauli-transfer matrix, row after row."""
        parts: dict[_Frequency, Tensor] = {}
        for left, first in self._terms.items():
            for right, second in self._terms.items():
                frequency = tuple(a - b for a, b in zip(left, right, strict=True))
                parts[frequency] = parts.get(frequency, 0) + superoperator(first, second).flatten()
        return Waves(self.n_parameters, {k: (c.real, s.real) for k, (c, s) in _cosines_and_sines(parts)})

    def matrix(self, angles: Tensor) -> Tensor:
        """The matrices.

        Args:
            angles: `[..., P]` in radians, float32 or float64.

        Returns:
            `[..., d, d]`, complex64 or complex128; a new tensor at every call.
        """
        return torch.view_as_complex(self.matrix_waves(angles).unflatten(-1, (self.size, self.size, 2)))

    def transfer(self, angles: Tensor) -> Tensor:
        """The Pauli-transfer matrices.

        Args:
            angles: `[..., P]` in radians, float32 or float64.

        Returns:
            `[..., d*d, d*d]` in the precision of the angles; a new tensor at every call.
        """
        return self.transfer_waves(angles).unflatten(-1, (self.size**2, self.size**2))


def _cosines_and_sines(parts: Mapping[_Frequency, Tensor]) -> Iterator[tuple[_Frequency, tuple[Tensor, Tensor]]]:
    """`sum_k exp(ik) A_k` as `sum cos(k) (A_k + A_-k) + sin(k) i (A_k - A_-k)` over one of `k` and `-k` each."""
    for frequency in sorted({max(k, tuple(-entry for entry in k)) for k in parts}):
        zero = torch.zeros_like(next(iter(parts.values())))
        opposite = tuple(-entry for entry in frequency)
        here, there = parts.get(frequency, zero), parts.get(opposite, zero)
        yield frequency, (here, zero) if opposite == frequency else (here + there, 1j * (here - there))


def _pairs_of_reals(part: Tensor) -> Tensor:
    return torch.view_as_real(part).flatten()
