"""Exact ground-state energies, for comparison."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from darts_hpo.errors import ConfigError
from quantum.measurements import Hamiltonian, PauliString

MOST_WIRES = 12
"""Wires up to which Hamiltonians are diagonalized: 4096 basis states."""

_MOST_DENSE = 6


def ground_energy(hamiltonian: Hamiltonian) -> float:
    """The smallest eigenvalue.

    Args:
        hamiltonian: on at most :data:`MOST_WIRES` wires.

    Raises:
        ConfigError: there are more wires.
    """
    if hamiltonian.n_wires > MOST_WIRES:
        raise ConfigError(f"{hamiltonian.n_wires} wires: Hamiltonians are diagonalized up to {MOST_WIRES}.")
    if hamiltonian.n_wires <= _MOST_DENSE:
        return float(np.linalg.eigvalsh(hamiltonian.matrix().numpy())[0])

    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import eigsh

    states = np.arange(2**hamiltonian.n_wires)
    columns: dict[int, NDArray[np.complex128]] = {}
    for string, coefficient in hamiltonian.terms:
        flips, values = _action(string, states)
        columns[flips] = columns.get(flips, 0) + coefficient * values
    if set(columns) == {0}:  # diagonal
        return float(columns[0].real.min())
    rows = np.concatenate([states ^ flips for flips in columns])
    entries = np.concatenate(list(columns.values()))
    matrix = csc_matrix((entries, (rows, np.tile(states, len(columns)))), shape=(len(states),) * 2)
    if not entries.imag.any():
        matrix = matrix.real
    # A random start, and always the same one: a symmetric vector might be orthogonal to the ground state.
    start = np.random.default_rng(0).normal(size=len(states)).astype(matrix.dtype)
    return float(eigsh(matrix, k=1, which="SA", v0=start, return_eigenvectors=False)[0])


def _action(string: PauliString, states: NDArray[np.int64]) -> tuple[int, NDArray[np.complex128]]:
    """What a Pauli string does to basis states: the bits that it flips, and the factor of every state.

    Y is i X Z: it flips the bit, and its sign is that of Z.
    """
    last = string.n_wires - 1
    flips = sum(1 << (last - wire) for wire in string.flipped)
    values = np.full(len(states), 1j ** string.letters.count("Y"))
    for wire in string.signed:
        values *= 1 - 2 * ((states >> (last - wire)) & 1)
    return flips, values
