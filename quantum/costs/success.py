"""How likely a circuit runs without an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from quantum.costs.base import CircuitCost, circuit_of
from quantum.noise.model import NoiseModel


class LogInfidelity(CircuitCost):
    """`-ln` of the estimated success probability: a sum over gates, so its mean over architectures is exact.

    The estimated success probability (Nishio et al., https://arxiv.org/abs/1903.10963; Tannu and Qureshi,
    https://arxiv.org/abs/1805.10224) is the product of the average fidelities of all native gates, those of routing
    included, and of the readout fidelities `1 - (e01 + e10) / 2` of the wires that are measured. A module says which
    these are by its ``measured_wires``; one without them, such as a part of a circuit, measures none.

    Args:
        noise: model of the noise; one of a device lays out the circuit's wires by itself.
    """

    name = "log_infidelity"
    unit = "nats"
    label = "-ln(success probability)"

    def __init__(self, noise: NoiseModel) -> None:
        self.noise = noise
        self._laid_out: dict[int, NoiseModel] = {}

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """The sum for the module's circuit and measured wires; the input does not matter.

        Raises:
            ConfigError: the module has no circuit, or the noise model does not fit it.
            DataError: the device's calibration lacks a rate that is needed.
        """
        del input_shape
        circuit = circuit_of(module)
        noise = self._laid_out.setdefault(circuit.n_wires, self.noise.for_wires(circuit.n_wires))
        gates = sum(noise.log_infidelity(operation.gate, operation.wires) for operation in circuit.operations)
        measured = getattr(module, "measured_wires", ())
        return gates + sum(-math.log1p(-sum(noise.readout(wire)) / 2) for wire in measured)

    def conditions(self) -> Mapping[str, Any]:
        """What the noise model was made from."""
        return {"noise": self.noise.to_data()}


class SuccessProbability(CircuitCost):
    """The estimated success probability itself, 0 to 1; larger is better. See :class:`LogInfidelity`.

    Args:
        noise: model of the noise; one of a device lays out the circuit's wires by itself.
    """

    name = "success_probability"
    unit = ""
    label = "Estimated success probability"
    additive = False
    decomposes = False

    def __init__(self, noise: NoiseModel) -> None:
        self._log_infidelity = LogInfidelity(noise)

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """The probability for the module's circuit and measured wires; the input does not matter.

        Raises:
            ConfigError: the module has no circuit, or the noise model does not fit it.
            DataError: the device's calibration lacks a rate that is needed.
        """
        return math.exp(-self._log_infidelity.measure(module, input_shape))

    def conditions(self) -> Mapping[str, Any]:
        """What the noise model was made from."""
        return self._log_infidelity.conditions()
