"""The pool of quantum gates: an open registry of names, matrices, Pauli-transfer forms and costs.

A gate is written once, as a :class:`~quantum.gates.registry.QuantumGate`, and is then known to search spaces, engines,
noise models, costs and exporters. :func:`register` adds one from outside.
"""

from __future__ import annotations

from quantum.gates.pauli import MatrixOf, pauli_basis, transfer_of
from quantum.gates.pool import POOL
from quantum.gates.registry import QuantumGate, gate_named, gate_names, register
from quantum.gates.series import TrigonometricSeries

__all__ = [
    "POOL",
    "MatrixOf",
    "QuantumGate",
    "TrigonometricSeries",
    "gate_named",
    "gate_names",
    "pauli_basis",
    "register",
    "transfer_of",
]
