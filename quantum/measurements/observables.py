"""What is measured: Pauli strings and Hamiltonians, as objects and as plain data for configurations."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError

PAULI_LETTERS = "IXYZ"
"""A letter's place is its base-4 digit in the index of a Pauli vector."""

_SPARSE = re.compile(r"([IXYZ])(\d+)")


@dataclass(frozen=True)
class PauliString:
    """A product of Pauli matrices, one letter per wire; its values are +1 and -1.

    Args:
        letters: one of `I`, `X`, `Y`, `Z` per wire, wire 0 first, for example `ZIX`.

    Raises:
        ConfigError: no letter at all, or another letter.
    """

    letters: str

    def __post_init__(self) -> None:
        wrong = sorted(set(self.letters) - set(PAULI_LETTERS))
        if wrong or not self.letters:
            found = f" It has {', '.join(map(repr, wrong))}." if wrong else ""
            raise ConfigError(f"{self.letters!r} is no Pauli string: expected one of I, X, Y, Z per wire.{found}")

    @classmethod
    def parse(cls, text: str, n_wires: int) -> PauliString:
        """A Pauli string on a number of wires, from `ZIX` (a letter per wire) or from `Z0 X2` (letters with wires).

        Small letters mean the same.

        Raises:
            ConfigError: a letter is unknown, or wires are missing, repeated or outside.
        """
        if not any(character.isdigit() for character in text):
            string = cls(text.upper())
            if string.n_wires != n_wires:
                raise ConfigError(
                    f"The Pauli string {text!r} has {string.n_wires} letters, but there are {n_wires} wires: "
                    f"give one of I, X, Y, Z per wire, or letters with wires like 'Z0 X{max(n_wires - 1, 0)}'."
                )
            return string
        letters = ["I"] * n_wires
        seen: set[int] = set()
        for factor in text.split():
            match = _SPARSE.fullmatch(factor.upper())
            if match is None:
                raise ConfigError(f"{factor!r} in the Pauli string {text!r} is not a letter and a wire, like 'Z0'.")
            wire = int(match[2])
            if wire >= n_wires:
                raise ConfigError(f"The Pauli string {text!r} names wire {wire}; expected 0 to {n_wires - 1}.")
            if wire in seen:
                raise ConfigError(f"The Pauli string {text!r} names wire {wire} twice.")
            seen.add(wire)
            letters[wire] = match[1]
        return cls("".join(letters))

    @property
    def n_wires(self) -> int:
        """Number of letters."""
        return len(self.letters)

    @property
    def support(self) -> tuple[int, ...]:
        """Wires whose letter is not `I`."""
        return tuple(wire for wire, letter in enumerate(self.letters) if letter != "I")

    @property
    def flipped(self) -> tuple[int, ...]:
        """Wires with `X` or `Y`: those that the string flips. It is diagonal when there is none."""
        return tuple(wire for wire, letter in enumerate(self.letters) if letter in "XY")

    @property
    def signed(self) -> tuple[int, ...]:
        """Wires with `Z` or `Y`: those whose bit gives the sign."""
        return tuple(wire for wire, letter in enumerate(self.letters) if letter in "YZ")

    @property
    def pauli_index(self) -> int:
        """Row of a Pauli vector: the letters as base-4 digits, wire 0 most significant."""
        index = 0
        for letter in self.letters:
            index = 4 * index + PAULI_LETTERS.index(letter)
        return index

    @property
    def terms(self) -> tuple[tuple[PauliString, float], ...]:
        """The string itself with coefficient 1, so that strings and Hamiltonians read alike."""
        return ((self, 1.0),)

    @property
    def data(self) -> str:
        """The letters: the plain form for configurations."""
        return self.letters

    def matrix(self) -> Tensor:
        """The operator, `2**n x 2**n` complex128."""
        return _matrix(self)


@dataclass(frozen=True, init=False)
class Hamiltonian:
    """A real combination of Pauli strings.

    Args:
        terms: coefficient per string, all strings of one length, for example `{"ZZI": 0.5, "IIX": -1.0}`.

    Raises:
        ConfigError: there is no term, the lengths differ, or a coefficient is not a finite number.
    """

    terms: tuple[tuple[PauliString, float], ...]

    def __init__(self, terms: Mapping[str, float]) -> None:
        object.__setattr__(self, "terms", tuple((PauliString(s), _coefficient(s, c)) for s, c in terms.items()))
        if not self.terms:
            raise ConfigError("A Hamiltonian needs at least one term, for example {'ZZ': 1.0}.")
        lengths = sorted({string.n_wires for string, _ in self.terms})
        if len(lengths) > 1:
            raise ConfigError(f"The strings of a Hamiltonian have {lengths} letters; expected one length for all.")

    @classmethod
    def parse(cls, terms: Mapping[str, float], n_wires: int) -> Hamiltonian:
        """A Hamiltonian on a number of wires; strings as :meth:`PauliString.parse` reads them, equal ones are added.

        Raises:
            ConfigError: a string or a coefficient is malformed.
        """
        total: dict[str, float] = {}
        for text, value in terms.items():
            letters = PauliString.parse(_text(text), n_wires).letters
            total[letters] = total.get(letters, 0.0) + _coefficient(text, value)
        return cls(total)

    # Observables are keys of the cache of measurement plans, looked up in every forward pass.
    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    def __hash__(self) -> int:
        return self._hash

    @property
    def n_wires(self) -> int:
        """Letters of each string."""
        return self.terms[0][0].n_wires

    @property
    def data(self) -> dict[str, float]:
        """Coefficient per string: the plain form for configurations."""
        return {string.letters: coefficient for string, coefficient in self.terms}

    def matrix(self) -> Tensor:
        """The operator, `2**n x 2**n` complex128, for example for exact diagonalisation."""
        return _matrix(self)


Observable: TypeAlias = PauliString | Hamiltonian
"""Both have `n_wires`, `terms` (strings with coefficients), `data` and `matrix()`."""


def on_every_wire(letter: str, n_wires: int) -> tuple[PauliString, ...]:
    """One Pauli matrix on each wire in turn, wire 0 first."""
    return tuple(PauliString("I" * wire + letter + "I" * (n_wires - wire - 1)) for wire in range(n_wires))


def observables_from(data: object, n_wires: int) -> tuple[Observable, ...]:
    """Observables from plain data.

    Args:
        data: `z`, `x` or `y` for that Pauli matrix on every wire; one Pauli string; a mapping from Pauli strings to
            coefficients for one Hamiltonian; or a list of strings and mappings. Strings are `ZIX` or `Z0 X2`.
        n_wires: number of qubits.

    Returns:
        One observable per output of the measurement.

    Raises:
        ConfigError: the data is malformed or does not fit the wires.
    """
    if isinstance(data, str):
        if len(data) == 1 and data.upper() in "XYZ":
            return on_every_wire(data.upper(), n_wires)
        return (PauliString.parse(data, n_wires),)
    if isinstance(data, Mapping):
        return (Hamiltonian.parse(data, n_wires),)
    if isinstance(data, Sequence) and data:
        return tuple(_observable(entry, n_wires) for entry in data)
    raise ConfigError(
        f"{data!r} is no measurement: expected 'z', 'x' or 'y' (every wire), a Pauli string like {'Z' * n_wires!r}, "
        "a mapping from strings to coefficients, or a list of these."
    )


def observables_data(observables: Sequence[Observable]) -> list[str | dict[str, float]]:
    """Plain data that :func:`observables_from` reads back."""
    return [observable.data for observable in observables]


def _observable(entry: object, n_wires: int) -> Observable:
    if isinstance(entry, PauliString | Hamiltonian):
        return entry
    if isinstance(entry, Mapping):
        return Hamiltonian.parse(entry, n_wires)
    return PauliString.parse(_text(entry), n_wires)


def _text(value: object) -> str:
    # YAML reads a bare Y as a letter in version 1.2 and as true in version 1.1.
    if not isinstance(value, str):
        raise ConfigError(f"{value!r} is no Pauli string: expected text like 'ZIX' or 'Z0 X2', in quotes.")
    return value


def _coefficient(string: object, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"The coefficient of {string!r} is {value!r}; expected a finite real number.")
    return float(value)


def _matrix(observable: Observable) -> Tensor:
    n = observable.n_wires
    basis = torch.arange(2**n)
    total = torch.zeros(2**n, 2**n, dtype=torch.complex128)
    for string, coefficient in observable.terms:
        flips = sum(1 << (n - 1 - wire) for wire in string.flipped)
        values = torch.full((2**n,), coefficient * 1j ** string.letters.count("Y"), dtype=torch.complex128)
        for wire in string.signed:
            values = values * (1 - 2 * ((basis >> (n - 1 - wire)) & 1))
        total[basis ^ flips, basis] += values
    return total
