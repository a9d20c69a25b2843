"""Hamiltonians as mappings of Pauli strings to coefficients: two named ones, those of a user and those in files.

The letter at position `i` of a string acts on wire `i`; wire 0 is the most significant bit of a basis state's index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from darts_hpo.errors import ConfigError, DataError
from quantum.measurements import Hamiltonian


def hamiltonian_of(terms: Mapping[str, float] | str, n_wires: int | None = None) -> Hamiltonian:
    """A Hamiltonian as a configuration gives it.

    Args:
        terms: Pauli strings and coefficients, ``{ZZ: 1.0, XI: 0.5}``, or the path of a JSON file of them.
        n_wires: number of qubits; needed for strings such as ``Z0 X2``, else that of the letters.

    Raises:
        ConfigError: there is no term, or one is malformed.
        DataError: the file cannot be read or holds something else.
    """
    if isinstance(terms, str):
        terms = _read(Path(terms).expanduser())
    if not isinstance(terms, Mapping):
        raise ConfigError(f"{terms!r} is no Hamiltonian: expected Pauli strings with coefficients, like {{'ZZ': 1.0}}.")
    return Hamiltonian(terms) if n_wires is None else Hamiltonian.parse(terms, n_wires)


def _read(path: Path) -> Mapping[str, float]:
    try:
        terms = json.loads(path.read_text())
    except OSError as error:
        raise DataError(f"The Hamiltonian {path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}.") from None
    if not isinstance(terms, dict):
        raise DataError(f'{path} holds no object of Pauli strings and coefficients such as {{"ZZ": 1.0, "XI": 0.5}}.')
    return terms


def h2() -> dict[str, float]:
    """Molecular hydrogen on two qubits, electronic energy in hartree; ground state -1.85727503.

    The terms are those of TorchQuantum's own tests. About 0.72 hartree of nuclear repulsion are to be added for the
    molecule's energy.
    """
    return {
        "II": -1.052373245772859,
        "IZ": 0.39793742484318045,
        "ZI": -0.39793742484318045,
        "ZZ": -0.01128010425623538,
        "XX": 0.18093119978423156,
    }


def transverse_field_ising(
    n_wires: int, coupling: float = 1.0, field: float = 1.0, periodic: bool = False
) -> dict[str, float]:
    """Ising chain in a transverse field, `-J sum Z_i Z_(i+1) - h sum X_i`.

    Args:
        n_wires: spins; at least 2, in a periodic chain 3.
        coupling: `J`.
        field: `h`; with `h = J` the infinite chain is critical.
        periodic: couple the last spin to the first one.

    Raises:
        ConfigError: there are too few spins.
    """
    least = 3 if periodic else 2
    if n_wires < least:
        raise ConfigError(f"n_wires={n_wires}: {'a periodic' if periodic else 'an open'} chain has at least {least}.")
    bonds = [(i, i + 1) for i in range(n_wires - 1)] + ([(0, n_wires - 1)] if periodic else [])
    return {pauli_string(n_wires, bond, "Z"): -coupling for bond in bonds} | {
        pauli_string(n_wires, (i,), "X"): -field for i in range(n_wires)
    }


def pauli_string(n_wires: int, wires: tuple[int, ...], letter: str) -> str:
    """The string with one letter on some wires and I elsewhere."""
    return "".join(letter if wire in wires else "I" for wire in range(n_wires))
