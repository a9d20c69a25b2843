"""Noise of a real machine."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from quantum.gates import QuantumGate
from quantum.noise.calibration import device_reference, load_device
from quantum.noise.channels import depolarizing, depolarizing_probability, thermal_relaxation
from quantum.noise.layout import best_layout, routed_gates
from quantum.noise.model import NativeError, NoiseModel, pulse_positions


class DeviceNoise(NoiseModel):
    """The rates of a real machine at the time of one calibration.

    Every native gate relaxes its qubits for its duration (T1, T2; T2 is cut to 2 T1 where the estimate exceeds it),
    and depolarizes them by as much as the calibrated gate error leaves: the convention of Qiskit Aer's noise models
    of devices at temperature 0. Wires whose qubits are not coupled are swapped together and back; see
    :func:`~quantum.noise.layout.routed_gates`. The channel of each native gate on the way, made from the rates of the
    pair where it runs, acts on the two wires of the logical gate.

    Args:
        device: name, folder or file, as in :func:`~quantum.noise.calibration.load_device`.
        layout: the qubit of every wire; None takes the best for the number of wires and the topology.
        n_wires: number of wires; None, with no layout, leaves it to :meth:`for_wires`.
        topology: the layout is chosen for: ``chain``, ``ring``, ``all`` or ``device``; None leaves it to
            :meth:`for_wires`.
        relaxation: False leaves T1, T2 and durations aside: all of the gate error is depolarizing.

    Raises:
        ConfigError: the device is unknown, or the layout does not fit it.
        DataError: the calibration cannot be read, or lacks a rate of the layout's qubits.
    """

    kind = "device"

    def __init__(
        self,
        device: str | Path,
        layout: Sequence[int] | None = None,
        n_wires: int | None = None,
        topology: str | None = None,
        relaxation: bool = True,
    ) -> None:
        super().__init__()
        # From another folder a relative path would find nothing.
        self.device, self._given = load_device(device), device_reference(device)
        self.topology, self.relaxation = topology, relaxation
        self._layout: tuple[int, ...] | None = None
        if layout is not None:
            if n_wires is not None and n_wires != len(layout):
                raise ConfigError(f"The layout {list(layout)} has {len(layout)} qubits, but n_wires={n_wires}.")
            self._layout = self.device.require_layout(layout)
        elif n_wires is not None:
            self._layout = best_layout(self.device, n_wires, topology or "chain")

    @property
    def laid_out(self) -> bool:
        """Whether the qubit of every wire is known."""
        return self._layout is not None

    @property
    def layout(self) -> tuple[int, ...]:
        """The qubit of every wire.

        Raises:
            ConfigError: the number of wires is not known yet.
        """
        if self._layout is None:
            raise ConfigError(
                f"The noise of {self.device.name} does not know its wires yet; "
                "give it n_wires=... or layout=[...], or call for_wires(n_wires)."
            )
        return self._layout

    @property
    def coupled_wires(self) -> tuple[tuple[int, int], ...]:
        """Pairs of wires that the device couples, the smaller first."""
        return self.device.coupled_wires(self.layout)

    def for_wires(self, n_wires: int, topology: str = "chain") -> DeviceNoise:
        """The model with a layout for so many wires; itself where it has one.

        Args:
            n_wires: wires of the circuit.
            topology: which wires its gates join; the constructor's goes first.

        Raises:
            ConfigError: the layout is for another number of wires, or the device has no room.
            DataError: the calibration lacks the rates for a layout.
        """
        if self._layout is None:
            return self._on(best_layout(self.device, n_wires, self.topology or topology))
        if len(self._layout) != n_wires:
            raise ConfigError(
                f"The noise of {self.device.name} is laid out for {len(self._layout)} wires, the circuit has {n_wires}."
            )
        return self

    def placed_as(self, other: DeviceNoise) -> DeviceNoise:
        """The model with the layout of another one of the same device; itself where it has a layout.

        Raises:
            ConfigError: the other one has no layout yet.
        """
        return self if self._layout is not None else self._on(other.layout)

    def native_errors(self, gate: QuantumGate, wires: tuple[int, ...]) -> Sequence[NativeError]:
        """Errors of the native gates, those of routing included."""
        qubits = [self._qubit(wire) for wire in wires]
        errors = [NativeError((p,), self._pulse_error(qubits[p])) for p in pulse_positions(gate)]
        if gate.native_two_qubit == 0:
            return errors
        native = routed_gates(self.device, qubits[0], qubits[1], gate.native_two_qubit)
        return [*(NativeError((0, 1), self._pair_error(pair)) for pair, _ in native), *errors]

    def readout(self, wire: int) -> tuple[float, float]:
        """The rates of the wire's qubit."""
        qubit = self._qubit(wire)
        return self.device.rate(qubit, "read_1_given_0"), self.device.rate(qubit, "read_0_given_1")

    def to_data(self) -> dict[str, Any]:
        """Plain containers; the device by name or absolute path, not its rates."""
        return {
            "kind": self.kind,
            "device": self._given,
            "layout": None if self._layout is None else list(self._layout),
            "topology": self.topology,
            "relaxation": self.relaxation,
        }

    def _on(self, layout: tuple[int, ...]) -> DeviceNoise:
        laid_out = copy.copy(self)
        laid_out._layout, laid_out._after = layout, {}
        return laid_out

    def _qubit(self, wire: int) -> int:
        if not 0 <= wire < len(self.layout):
            raise ConfigError(
                f"Wire {wire} has no qubit in the layout {list(self.layout)}: expected 0 to {len(self.layout) - 1}."
            )
        return self.layout[wire]

    def _pulse_error(self, qubit: int) -> Tensor:
        error = self.device.rate(qubit, "error")
        if not self.relaxation:
            return depolarizing(depolarizing_probability(error, 1))
        relaxation = self._relaxation(qubit, self.device.rate(qubit, "duration"))
        return relaxation @ depolarizing(depolarizing_probability(error, 1, relaxation))

    def _pair_error(self, pair: tuple[int, int]) -> Tensor:
        error = self.device.pair_rate(pair, "error")
        if not self.relaxation:
            return depolarizing(depolarizing_probability(error, 2), 2)
        duration = self.device.pair_rate(pair, "duration")
        relaxation = torch.kron(self._relaxation(pair[0], duration), self._relaxation(pair[1], duration))
        return relaxation @ depolarizing(depolarizing_probability(error, 2, relaxation), 2)

    def _relaxation(self, qubit: int, duration: float) -> Tensor:
        t1, t2 = self.device.rate(qubit, "t1"), self.device.rate(qubit, "t2")
        return thermal_relaxation(t1, min(t2, 2 * t1), duration)
