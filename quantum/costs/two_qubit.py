"""Numbers of two-qubit gates: they make most of a circuit's errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from darts_hpo.errors import ConfigError
from quantum.circuit import Operation
from quantum.costs.base import CircuitCost, circuit_of
from quantum.costs.placement import Topology, device_placement
from quantum.noise import DeviceNoise, NoiseModel
from quantum.noise.layout import routed_gates


class TwoQubitGates(CircuitCost):
    """Gates on two or more wires; ``I`` is none."""

    name = "two_qubit_gates"
    unit = "gates"
    label = "Two-qubit gates"

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """Number of such operations in the module's circuit; the input does not matter.

        Raises:
            ConfigError: the module has no circuit.
        """
        del input_shape
        return float(circuit_of(module).n_two_qubit)


class NativeTwoQubitGates(CircuitCost):
    """CX, CZ or ECR gates that the circuit takes, each gate decomposed by itself and routed there and back.

    An upper bound of what a compiler needs, which may cancel gates of neighbours and leave wires where they were
    moved; unlike that, it is a sum over gates.

    Args:
        device: name, folder or file, as in :func:`~quantum.noise.calibration.load_device`. Without it, and without the
            noise of one, every pair is coupled, so that nothing is routed.
        layout: the qubit of every wire, with `device`; None takes that of the network's own noise where it is of this
            device, else the best for the topology.
        topology: that the best layout is for, as in :func:`~quantum.topology.pairs_of`.
        noise: instead of `device`: the noise of the network.

    Raises:
        ConfigError: the device or the topology is unknown, the layout does not fit, or device and noise are both given.
        DataError: the calibration cannot be read, or lacks a rate of the layout's qubits.
    """

    name = "native_two_qubit_gates"
    unit = "gates"
    label = "Native two-qubit gates"

    def __init__(
        self,
        device: str | Path | None = None,
        layout: Sequence[int] | None = None,
        topology: Topology = "chain",
        noise: NoiseModel | None = None,
    ) -> None:
        self.placement = device_placement(noise, device, layout, topology)

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """Number of native gates of the module's circuit; the input does not matter.

        Raises:
            ConfigError: the module has no circuit, or the layout has no qubit for a wire.
            DataError: the calibration lacks a rate that is needed.
        """
        del input_shape
        circuit = circuit_of(module)
        if self.placement is None:
            return float(sum(operation.spec.native_two_qubit for operation in circuit.operations))
        noise = self.placement.of(module)
        return float(sum(_routed(operation, noise) for operation in circuit.operations))

    def conditions(self) -> Mapping[str, Any]:
        """The device, the date of its calibration and the layout."""
        return {} if self.placement is None else self.placement.conditions()


def _routed(operation: Operation, noise: DeviceNoise) -> int:
    count = operation.spec.native_two_qubit
    if count == 0:
        return 0
    if len(operation.wires) != 2:
        raise ConfigError(f"{operation.gate} acts on {len(operation.wires)} wires; only gates on two can be routed.")
    first, second = (noise.layout[wire] for wire in operation.wires)
    return len(routed_gates(noise.device, first, second, count))
