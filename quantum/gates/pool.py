"""The gates that come with the package.

Conventions are TorchQuantum's and Qiskit's: angles in radians, rotations are `exp(-i t/2 G)`, the first wire is the
control and the most significant bit. Native costs are those of a short circuit of CX, SX, X and free RZ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from quantum.gates.pauli import pauli_basis
from quantum.gates.registry import QuantumGate, register
from quantum.gates.series import MatrixSeries


def _matrix(rows: Sequence[Sequence[complex]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.complex128)


_I, _X, _Y, _Z = pauli_basis(1)
_ZERO, _RAISE, _LOWER, _ONE = (
    _matrix(rows) for rows in ([[1, 0], [0, 0]], [[0, 0], [1, 0]], [[0, 1], [0, 0]], [[0, 0], [0, 1]])
)


# -- Coefficients: functions of the angles ---------------------------------------------------------------------------


def _one(angles: Tensor) -> Tensor:
    return angles.new_ones((*angles.shape[:-1], 1))


def _phase(angles: Tensor) -> Tensor:
    """`1, cos t, sin t`."""
    return torch.cat([_one(angles), angles.cos(), angles.sin()], dim=-1)


def _half_angle(angles: Tensor) -> Tensor:
    """`cos t/2, sin t/2`."""
    half = angles / 2
    return torch.cat([half.cos(), half.sin()], dim=-1)


def _euler(angles: Tensor) -> Tensor:
    """The quaternion of RZ(w) RY(t) RZ(p) for angles (p, t, w)."""
    first, middle, last = (angles / 2).unbind(-1)
    total, difference = first + last, first - last
    cos, sin = middle.cos(), middle.sin()
    return torch.stack([cos * total.cos(), cos * total.sin(), sin * difference.cos(), sin * difference.sin()], dim=-1)


def _phased_euler(angles: Tensor) -> Tensor:
    """Real and imaginary parts of the entries of U3 for angles (theta, phi, lambda)."""
    theta, phi, lam = angles.unbind(-1)
    cos, sin, total = (theta / 2).cos(), (theta / 2).sin(), phi + lam
    return torch.stack(
        [cos, sin * lam.cos(), sin * lam.sin(), sin * phi.cos(), sin * phi.sin(), cos * total.cos(), cos * total.sin()],
        dim=-1,
    )


def _with_one(coefficients: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda angles: torch.cat([_one(angles), coefficients(angles)], dim=-1)


# -- Forms -----------------------------------------------------------------------------------------------------------


def _constant(matrix: Tensor) -> MatrixSeries:
    return MatrixSeries(_one, [matrix])


def _rotation(generator: Tensor) -> MatrixSeries:
    """`exp(-i t/2 G)` for a generator whose square is 1."""
    return MatrixSeries(_half_angle, [torch.eye(len(generator)), -1j * generator])


def _controlled(coefficients: Callable[[Tensor], Tensor], terms: Sequence[Tensor]) -> MatrixSeries:
    """The series of one-wire terms on the second wire while the first is 1."""
    return MatrixSeries(_with_one(coefficients), [torch.kron(_ZERO, _I), *(torch.kron(_ONE, term) for term in terms)])


def _controlled_rotation(generator: Tensor) -> MatrixSeries:
    return _controlled(_half_angle, [_I, -1j * generator])


_RZ = _rotation(_Z)
_ROT = MatrixSeries(_euler, [_I, -1j * _Z, -1j * _Y, -1j * _X])
_U3_TERMS = [_ZERO, -_LOWER, -1j * _LOWER, _RAISE, 1j * _RAISE, _ONE, 1j * _ONE]
# P and U3 are RZ and Rot times a global phase, which a transfer form does not have: those come from the smaller series.
_PHASE = MatrixSeries(_phase, [_ZERO, _ONE, 1j * _ONE])
_U3 = MatrixSeries(_phased_euler, _U3_TERMS)


def _u3_transfer(angles: Tensor) -> Tensor:
    """That of Rot(lambda, theta, phi)."""
    return _ROT.transfer(angles.roll(1, dims=-1))


# -- The pool --------------------------------------------------------------------------------------------------------


def _gate(name: str, n_parameters: int, form: MatrixSeries, qasm: str, two_qubit: int, pulses: int) -> QuantumGate:
    n_wires = form.size.bit_length() - 1
    return QuantumGate(name, n_wires, n_parameters, form.matrix, form.transfer, qasm, two_qubit, pulses)


_HADAMARD = (_X + _Z) / math.sqrt(2)
_SX = _matrix([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2
_T = _ZERO + (1 + 1j) / math.sqrt(2) * _ONE
_SWAP = _matrix([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
_ISWAP = _matrix([[1, 0, 0, 0], [0, 0, 1j, 0], [0, 1j, 0, 0], [0, 0, 0, 1]])

POOL: tuple[QuantumGate, ...] = (
    _gate("I", 0, _constant(_I), "id", 0, 0),
    _gate("X", 0, _constant(_X), "x", 0, 1),
    _gate("Y", 0, _constant(_Y), "y", 0, 1),
    _gate("Z", 0, _constant(_Z), "z", 0, 0),
    _gate("H", 0, _constant(_HADAMARD), "h", 0, 1),
    _gate("S", 0, _constant(_ZERO + 1j * _ONE), "s", 0, 0),
    _gate("T", 0, _constant(_T), "t", 0, 0),
    _gate("SX", 0, _constant(_SX), "sx", 0, 1),
    _gate("RX", 1, _rotation(_X), "rx", 0, 2),
    _gate("RY", 1, _rotation(_Y), "ry", 0, 2),
    _gate("RZ", 1, _RZ, "rz", 0, 0),
    QuantumGate("P", 1, 1, _PHASE.matrix, _RZ.transfer, "p", 0, 0),
    QuantumGate("U3", 1, 3, _U3.matrix, _u3_transfer, "u3", 0, 2),
    _gate("Rot", 3, _ROT, "rot", 0, 2),
    _gate("CNOT", 0, _constant(torch.kron(_ZERO, _I) + torch.kron(_ONE, _X)), "cx", 1, 0),
    _gate("CZ", 0, _constant(torch.kron(_ZERO, _I) + torch.kron(_ONE, _Z)), "cz", 1, 2),
    _gate("CRX", 1, _controlled_rotation(_X), "crx", 2, 2),
    _gate("CRY", 1, _controlled_rotation(_Y), "cry", 2, 2),
    _gate("CRZ", 1, _controlled_rotation(_Z), "crz", 2, 0),
    _gate("CU3", 3, _controlled(_phased_euler, _U3_TERMS), "cu3", 2, 2),
    _gate("SWAP", 0, _constant(_SWAP), "swap", 3, 0),
    _gate("iSWAP", 0, _constant(_ISWAP), "iswap", 2, 2),
    _gate("RXX", 1, _rotation(torch.kron(_X, _X)), "rxx", 2, 2),
    _gate("RYY", 1, _rotation(torch.kron(_Y, _Y)), "ryy", 2, 2),
    _gate("RZZ", 1, _rotation(torch.kron(_Z, _Z)), "rzz", 2, 0),
    _gate("RZX", 1, _rotation(torch.kron(_Z, _X)), "rzx", 2, 2),
)
"""Every gate of the package, registered when this module is imported."""

for _entry in POOL:
    register(_entry)
