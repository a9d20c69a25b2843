"""The gates that come with the package.

Conventions are TorchQuantum's and Qiskit's: angles in radians, rotations are `exp(-i t/2 G)`, the first wire is the
control and the most significant bit. Native costs are those of a short circuit of CX, SX, X and free RZ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from quantum.gates.pauli import pauli_basis
from quantum.gates.registry import QuantumGate, register
from quantum.gates.series import TrigonometricSeries


def _matrix(rows: Sequence[Sequence[complex]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.complex128)


_I, _X, _Y, _Z = pauli_basis(1)
_ZERO, _ONE = _matrix([[1, 0], [0, 0]]), _matrix([[0, 0], [0, 1]])


# -- Series ----------------------------------------------------------------------------------------------------------

_constant, _rotation = TrigonometricSeries.constant, TrigonometricSeries.rotation
_RY, _RZ = _rotation(_Y), _rotation(_Z)
_PHASE = TrigonometricSeries(1, {(0,): _ZERO, (2,): _ONE})
_ROT = _RZ.of(2, among=3) @ _RY.of(1, among=3) @ _RZ.of(0, among=3)
_U3 = _PHASE.of(1, among=3) @ _RY.of(0, among=3) @ _PHASE.of(2, among=3)


# -- The pool --------------------------------------------------------------------------------------------------------


_HADAMARD = (_X + _Z) / math.sqrt(2)
_SX = _matrix([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2
_T = _ZERO + (1 + 1j) / math.sqrt(2) * _ONE
_SWAP = _matrix([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
_ISWAP = _matrix([[1, 0, 0, 0], [0, 0, 1j, 0], [0, 1j, 0, 0], [0, 0, 0, 1]])

POOL: tuple[QuantumGate, ...] = (
    QuantumGate.of("I", _constant(_I), "id", 0, 0),
    QuantumGate.of("X", _constant(_X), "x", 0, 1),
    QuantumGate.of("Y", _constant(_Y), "y", 0, 1),
    QuantumGate.of("Z", _constant(_Z), "z", 0, 0),
    QuantumGate.of("H", _constant(_HADAMARD), "h", 0, 1),
    QuantumGate.of("S", _constant(_ZERO + 1j * _ONE), "s", 0, 0),
    QuantumGate.of("T", _constant(_T), "t", 0, 0),
    QuantumGate.of("SX", _constant(_SX), "sx", 0, 1),
    QuantumGate.of("RX", _rotation(_X), "rx", 0, 2),
    QuantumGate.of("RY", _RY, "ry", 0, 2),
    QuantumGate.of("RZ", _RZ, "rz", 0, 0),
    QuantumGate.of("P", _PHASE, "p", 0, 0),
    QuantumGate.of("U3", _U3, "u3", 0, 2),
    QuantumGate.of("Rot", _ROT, "rot", 0, 2),
    QuantumGate.of("CNOT", _constant(_X).controlled(), "cx", 1, 0),
    QuantumGate.of("CZ", _constant(_Z).controlled(), "cz", 1, 2),
    QuantumGate.of("CRX", _rotation(_X).controlled(), "crx", 2, 2),
    QuantumGate.of("CRY", _RY.controlled(), "cry", 2, 2),
    QuantumGate.of("CRZ", _RZ.controlled(), "crz", 2, 0),
    QuantumGate.of("CU3", _U3.controlled(), "cu3", 2, 2),
    QuantumGate.of("SWAP", _constant(_SWAP), "swap", 3, 0),
    QuantumGate.of("iSWAP", _constant(_ISWAP), "iswap", 2, 2),
    QuantumGate.of("RXX", _rotation(torch.kron(_X, _X)), "rxx", 2, 2),
    QuantumGate.of("RYY", _rotation(torch.kron(_Y, _Y)), "ryy", 2, 2),
    QuantumGate.of("RZZ", _rotation(torch.kron(_Z, _Z)), "rzz", 2, 0),
    QuantumGate.of("RZX", _rotation(torch.kron(_Z, _X)), "rzx", 2, 2),
)
"""Every gate of the package, registered when this module is imported."""

for _entry in POOL:
    register(_entry)
