"""Unitaries that a circuit is to be found for: `2**n x 2**n`, complex128, wire 0 the most significant bit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from quantum.circuit import Circuit, Operation
from quantum.gates import gate_named

CLIFFORD_T = ("H", "S", "T", "CNOT")


def toffoli() -> Tensor:
    """Flips wire 2 if wires 0 and 1 are 1."""
    return _permutation([0, 1, 2, 3, 4, 5, 7, 6])


def fredkin() -> Tensor:
    """Exchanges wires 1 and 2 if wire 0 is 1."""
    return _permutation([0, 1, 2, 3, 4, 6, 5, 7])


def quantum_fourier_transform(n_wires: int) -> Tensor:
    """Entry `(y, x)` is `exp(2 pi i x y / 2**n) / sqrt(2**n)`.

    Raises:
        ConfigError: there is no wire.
    """
    if n_wires < 1:
        raise ConfigError(f"n_wires={n_wires}: expected at least 1.")
    size = 2**n_wires
    index = torch.arange(size, dtype=torch.float64)
    phases = 2 * math.pi * torch.remainder(torch.outer(index, index), size) / size
    return torch.polar(torch.full((size, size), 1 / math.sqrt(size), dtype=torch.float64), phases)


def random_circuit(n_wires: int, n_gates: int, gates: Sequence[str], seed: int = 0) -> Tensor:
    """The unitary of a hidden circuit: gates of a pool at random, on random wires, with random angles.

    Args:
        n_wires: number of qubits.
        n_gates: number of gates.
        gates: names of registered gates, all equally likely.
        seed: of the circuit, not of the run: every run of a study is after the same unitary.

    Raises:
        ConfigError: a number is out of range, or no gate is given.
        SpaceError: a gate is unknown.
    """
    return hidden_circuit(n_wires, n_gates, gates, seed).unitary()


def clifford_t(n_wires: int, n_gates: int, seed: int = 0) -> Tensor:
    """The unitary of a random circuit of H, S, T and CNOT; see :func:`random_circuit`."""
    return random_circuit(n_wires, n_gates, CLIFFORD_T if n_wires > 1 else CLIFFORD_T[:-1], seed)


def hidden_circuit(n_wires: int, n_gates: int, gates: Sequence[str], seed: int = 0) -> Circuit:
    """The circuit behind :func:`random_circuit`."""
    widest = max((gate_named(name).n_wires for name in gates), default=0)
    if not gates or n_gates < 1:
        raise ConfigError(f"A hidden circuit of {n_gates} gates out of {list(gates)}: expected at least one of each.")
    if n_wires < widest:
        raise ConfigError(f"n_wires={n_wires}: the gates {list(gates)} act on up to {widest} wires.")
    rng = np.random.default_rng(seed)
    operations = []
    for name in rng.choice(np.asarray(gates, dtype=str), size=n_gates).tolist():
        gate = gate_named(name)
        wires = rng.permutation(n_wires)[: gate.n_wires].tolist()
        operations.append(Operation(name, tuple(wires), tuple(rng.uniform(-math.pi, math.pi, gate.n_parameters))))
    return Circuit(n_wires, tuple(operations))


def _permutation(images: Sequence[int]) -> Tensor:
    return torch.eye(len(images), dtype=torch.complex128)[list(images)]
