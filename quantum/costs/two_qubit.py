"""Numbers of two-qubit gates: they make most of a circuit's errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from darts_hpo.errors import ConfigError
from quantum.circuit import Operation
from quantum.costs.base import CircuitCost, circuit_of
from quantum.noise.layout import Placement, routed_gates


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
        return float(sum(len(op.wires) > 1 and op.gate != "I" for op in circuit_of(module).operations))


class NativeTwoQubitGates(CircuitCost):
    """CX, CZ or ECR gates that the circuit takes, each gate decomposed by itself and routed there and back.

    An upper bound of what a compiler needs, which may cancel gates of neighbours and leave wires where they were
    moved; unlike that, it is a sum over gates.

    Args:
        device: name, folder or file, as in :func:`~quantum.noise.calibration.load_device`; None couples every pair,
            so that nothing is routed.
        layout: the qubit of every wire; None takes the best for the circuit's number of wires.
        topology: that the layout is chosen for: ``chain``, ``ring``, ``all`` or ``device``.

    Raises:
        ConfigError: the device is unknown, or the layout does not fit it.
        DataError: the calibration cannot be read, or lacks a rate of the layout's qubits.
    """

    name = "native_two_qubit_gates"
    unit = "gates"
    label = "Native two-qubit gates"

    def __init__(
        self, device: str | Path | None = None, layout: Sequence[int] | None = None, topology: str = "chain"
    ) -> None:
        self.placement = None if device is None else Placement(device, layout, topology)

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """Number of native gates of the module's circuit; the input does not matter.

        Raises:
            ConfigError: the module has no circuit, or the layout has no qubit for a wire.
            DataError: the calibration lacks a rate that is needed.
        """
        del input_shape
        circuit = circuit_of(module)
        return float(sum(self._native(operation, circuit.n_wires) for operation in circuit.operations))

    def _native(self, operation: Operation, n_wires: int) -> int:
        count = operation.spec.native_two_qubit
        if self.placement is None or count == 0:
            return count
        if len(operation.wires) != 2:
            raise ConfigError(
                f"{operation.gate} acts on {len(operation.wires)} wires; only gates on two can be routed."
            )
        first, second = (self.placement.qubits(n_wires)[wire] for wire in operation.wires)
        return len(routed_gates(self.placement.device, first, second, count))

    def conditions(self) -> Mapping[str, Any]:
        """The device, the date of its calibration and the layout."""
        return {} if self.placement is None else self.placement.conditions()
