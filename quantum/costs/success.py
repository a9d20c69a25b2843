"""How likely a circuit runs without an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from darts_hpo.errors import ConfigError
from quantum.costs.base import CircuitCost, circuit_of
from quantum.costs.placement import Placement, Topology
from quantum.noise import NoiseModel


class LogInfidelity(CircuitCost):
    """`-ln` of the estimated success probability: a sum over gates, so its mean over architectures is exact.

    The estimated success probability (Nishio et al., https://arxiv.org/abs/1903.10963; Tannu and Qureshi,
    https://arxiv.org/abs/1805.10224) is the product of the average fidelities of all native gates, those of routing
    included, and of the readout fidelities `1 - (e01 + e10) / 2` of the wires that are measured. A module says which
    these are by its ``measured_wires``; one without them, such as a part of a circuit, measures none.

    Args:
        noise: model of the noise; None leaves the cost out. That of a device is laid out as the network's own noise
            where it is of the same device, else by itself.
        topology: that the wires are then laid out for, as in :func:`~quantum.topology.pairs_of`.

    Raises:
        ConfigError: the topology is unknown.
    """

    name = "log_infidelity"
    unit = "nats"
    label = "-ln(success probability)"

    def __init__(self, noise: NoiseModel | None, topology: Topology = "chain") -> None:
        self.placement = None if noise is None else Placement(noise, topology)

    def applies_to(self, network: nn.Module) -> bool:
        """Whether there is noise, and the network has a circuit."""
        return self.placement is not None and super().applies_to(network)

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """The sum for the module's circuit and measured wires; the input does not matter.

        Raises:
            ConfigError: there is no noise, the module has no circuit, or the noise model does not fit it.
            DataError: the device's calibration lacks a rate that is needed.
        """
        del input_shape
        circuit = circuit_of(module)
        if self.placement is None:
            raise ConfigError("The success probability needs a noise model; give the cost noise=...")
        noise = self.placement.of(module)
        gates = sum(noise.log_infidelity(operation.gate, operation.wires) for operation in circuit.operations)
        measured = getattr(module, "measured_wires", ())
        return gates + sum(-math.log1p(-sum(noise.readout(wire)) / 2) for wire in measured)

    def conditions(self) -> Mapping[str, Any]:
        """What the noise model was made from."""
        if self.placement is None:
            return {}
        return {"noise": self.placement.noise.to_data(), "topology": self.placement.topology}


class SuccessProbability(CircuitCost):
    """The estimated success probability itself, 0 to 1; larger is better. See :class:`LogInfidelity`.

    Args:
        noise: likewise.
        topology: likewise.

    Raises:
        ConfigError: the topology is unknown.
    """

    name = "success_probability"
    unit = ""
    label = "Estimated success probability"
    additive = False
    decomposes = False

    def __init__(self, noise: NoiseModel | None, topology: Topology = "chain") -> None:
        self._log_infidelity = LogInfidelity(noise, topology)

    def applies_to(self, network: nn.Module) -> bool:
        """Whether there is noise, and the network has a circuit."""
        return self._log_infidelity.applies_to(network)

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """The probability for the module's circuit and measured wires; the input does not matter.

        Raises:
            ConfigError: there is no noise, the module has no circuit, or the noise model does not fit it.
            DataError: the device's calibration lacks a rate that is needed.
        """
        return math.exp(-self._log_infidelity.measure(module, input_shape))

    def conditions(self) -> Mapping[str, Any]:
        """What the noise model was made from."""
        return self._log_infidelity.conditions()
