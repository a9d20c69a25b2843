"""Noise of the same strength everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch

from darts_hpo.errors import ConfigError, unknown_name
from quantum.gates import QuantumGate
from quantum.noise import channels
from quantum.noise.model import NativeError, NoiseModel, pulse_positions

Charge: TypeAlias = Literal["native", "gate"]


class UniformNoise(NoiseModel):
    """The same rates on all wires, every pair of which is coupled.

    After each native gate: depolarizing noise on its wires, then amplitude damping and phase damping on each.

    Args:
        one_qubit: depolarizing probability of a native pulse, 0 to 4/3, with Qiskit's meaning
            `rho -> (1 - p) rho + p 1 / d`. A calibration's gate error is `p / 2`.
        two_qubit: depolarizing probability of a native two-qubit gate, 0 to 16/15. A gate error is `3 p / 4`.
        amplitude_damping: probability to decay from 1 to 0 in a native gate, 0 to 1, on each of its wires.
        phase_damping: probability of phase damping in a native gate, 0 to 1, on each of its wires.
        readout: probability of a wrong reading, 0 to 0.5; or two of them, to read 1 where the qubit is 0, and to
            read 0 where it is 1.
        per: ``native`` charges a gate once per native gate that it takes; ``gate`` charges every gate but ``I``
            once, virtual ones included, as is common where no hardware is meant.

    Raises:
        ConfigError: a rate is out of range or `per` unknown.
    """

    kind = "uniform"

    def __init__(
        self,
        one_qubit: float = 0.0,
        two_qubit: float = 0.0,
        amplitude_damping: float = 0.0,
        phase_damping: float = 0.0,
        readout: float | Sequence[float] = 0.0,
        per: Charge = "native",
    ) -> None:
        super().__init__()
        if per not in ("native", "gate"):
            raise ConfigError(unknown_name("charge of noise", str(per), ("native", "gate")))
        both = [readout, readout] if isinstance(readout, (int, float)) else [*readout]
        if len(both) != 2 or not all(0 <= rate <= 0.5 for rate in both):
            raise ConfigError(f"The readout error {readout} is out of range: expected 0 to 0.5, or two such numbers.")
        self.one_qubit, self.two_qubit = float(one_qubit), float(two_qubit)
        self.amplitude_damping, self.phase_damping = float(amplitude_damping), float(phase_damping)
        self.per = per
        self._readout = (float(both[0]), float(both[1]))
        damping = channels.phase_damping(self.phase_damping) @ channels.amplitude_damping(self.amplitude_damping)
        self._pulse = damping @ channels.depolarizing(self.one_qubit)
        self._pair = torch.kron(damping, damping) @ channels.depolarizing(self.two_qubit, 2)

    def native_errors(self, gate: QuantumGate, wires: tuple[int, ...]) -> Sequence[NativeError]:
        """One channel per native gate, or one per gate."""
        del wires
        if self.per == "gate":
            return [NativeError((0,), self._pulse) if gate.n_wires == 1 else NativeError((0, 1), self._pair)]
        pair = [NativeError((0, 1), self._pair)] * gate.native_two_qubit
        return [*pair, *(NativeError((position,), self._pulse) for position in pulse_positions(gate))]

    def readout(self, wire: int) -> tuple[float, float]:
        """The two rates, equal for all wires."""
        del wire
        return self._readout

    def to_data(self) -> dict[str, Any]:
        """Plain containers."""
        return {
            "kind": self.kind,
            "one_qubit": self.one_qubit,
            "two_qubit": self.two_qubit,
            "amplitude_damping": self.amplitude_damping,
            "phase_damping": self.phase_damping,
            "readout": list(self._readout),
            "per": self.per,
        }
