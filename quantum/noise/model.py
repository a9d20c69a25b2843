"""What goes wrong after each gate and at the measurement: the interface."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError, unknown_name
from quantum.gates import QuantumGate, gate_named
from quantum.noise.channels import average_gate_fidelity, embed


@dataclass(frozen=True, eq=False)
class NativeError:
    """The error of one native gate.

    Args:
        positions: which of the logical gate's wires it acts on, counted from 0.
        transfer: Pauli-transfer matrix, `4**k x 4**k` float64 for `k` positions.
    """

    positions: tuple[int, ...]
    transfer: Tensor


class NoiseModel(ABC):
    """Noise that follows gates, and errors of readout.

    A logical gate is run as native gates: two-qubit gates such as CX, CZ or ECR, and pulses such as SX. Rotations
    about Z and gates like them are changes of reference frame: they take no time and have no error. Every native
    gate brings one error channel.

    The approximation: the channels of all native gates of a logical gate act one after the other *behind* the ideal
    logical gate, and on its own wires, also where routing passes over others. Depolarizing noise on all of a gate's
    wires commutes with what follows on them, so for it this is exact. Errors of single pulses inside a two-qubit gate,
    and relaxation, would be turned by what follows: their strength is kept, their direction is not. Idle wires do not
    decay.
    """

    kind: ClassVar[str]
    """Name in plain data; subclasses that set it can be read back by :meth:`from_data`."""
    _kinds: ClassVar[dict[str, type[NoiseModel]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in cls.__dict__:
            NoiseModel._kinds[cls.kind] = cls

    def __init__(self) -> None:
        self._after: dict[tuple[str, tuple[int, ...]], Tensor | None] = {}

    @abstractmethod
    def native_errors(self, gate: QuantumGate, wires: tuple[int, ...]) -> Sequence[NativeError]:
        """Errors of a logical gate's native gates, in order of time; never asked for the identity.

        Args:
            gate: on one wire or two.
            wires: that it acts on.
        """

    @abstractmethod
    def readout(self, wire: int) -> tuple[float, float]:
        """Errors of measuring a wire: the probability to read 1 where it is 0, and to read 0 where it is 1."""

    @abstractmethod
    def to_data(self) -> dict[str, Any]:
        """Plain containers that :meth:`from_data` reads back; ``kind`` and the constructor's arguments."""

    def for_wires(self, n_wires: int, topology: str = "chain") -> NoiseModel:
        """The model for a circuit of so many wires: itself, where it does not depend on that.

        Args:
            n_wires: wires of the circuit.
            topology: which wires its gates join, as in :func:`~quantum.noise.layout.best_layout`.
        """
        del n_wires, topology
        return self

    def after(self, gate: str, wires: Sequence[int]) -> Tensor | None:
        """The noise that follows a gate.

        Args:
            gate: name of a registered gate on one wire or two.
            wires: that it acts on, in its order.

        Returns:
            Pauli-transfer matrix, `4**k x 4**k` float64 for `k` wires, not to be modified; None where there is none:
            for ``I``, for virtual gates, and where all rates are 0.

        Raises:
            SpaceError: the gate is unknown.
            ConfigError: it acts on more than two wires.
            DataError: the device's calibration lacks a rate that is needed.
        """
        key = (gate, tuple(wires))
        if key not in self._after:
            errors = self._errors(*key)
            total = torch.eye(4 ** len(key[1]), dtype=torch.float64)
            for error in errors:
                total = embed(error.transfer, error.positions, len(key[1])) @ total
            self._after[key] = None if torch.equal(total, torch.eye(len(total), dtype=total.dtype)) else total
        return self._after[key]

    def log_infidelity(self, gate: str, wires: Sequence[int]) -> float:
        """`-ln` of the product of the native gates' average fidelities; 0 for ``I`` and virtual gates.

        Args:
            gate: name of a registered gate on one wire or two.
            wires: that it acts on, in its order.

        Raises:
            SpaceError: the gate is unknown.
            ConfigError: it acts on more than two wires.
            DataError: the device's calibration lacks a rate that is needed.
        """
        return sum(-math.log(average_gate_fidelity(e.transfer)) for e in self._errors(gate, tuple(wires)))

    def _errors(self, name: str, wires: tuple[int, ...]) -> Sequence[NativeError]:
        gate = gate_named(name)
        if name == "I":  # an empty place, on however many wires
            return ()
        if gate.n_wires > 2:
            raise ConfigError(f"{name} acts on {gate.n_wires} wires; noise is known for gates on one or two.")
        return self.native_errors(gate, wires)

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> NoiseModel:
        """The model that :meth:`to_data` described.

        Raises:
            ConfigError: the kind is unknown, or an argument is.
        """
        arguments = dict(data)
        kind = str(arguments.pop("kind", None))
        if kind not in NoiseModel._kinds:
            raise ConfigError(unknown_name("kind of noise", kind, NoiseModel._kinds))
        try:
            return NoiseModel._kinds[kind](**arguments)
        except TypeError as error:
            raise ConfigError(f"Noise of kind {kind!r}: {error}.") from None


def pulse_positions(gate: QuantumGate) -> tuple[int, ...]:
    """Which of a gate's wires its native pulses act on: the last wire first, then turn by turn."""
    wires = range(gate.n_wires - 1, -1, -1)
    return tuple(itertools.islice(itertools.cycle(wires), gate.native_pulses))
