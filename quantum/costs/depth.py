"""How long circuits take, in layers of gates."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from darts_hpo.errors import ConfigError, MissingDependencyError
from quantum.circuit import Circuit
from quantum.costs.base import CircuitCost, circuit_of
from quantum.costs.placement import Topology, device_placement
from quantum.noise import NoiseModel

# An irrational step visits angles at which no gate of the pool is simpler than it is in general.
_ANGLE_STEP = 2.399963  # the golden angle


class CircuitDepth(CircuitCost):
    """Layers of logical gates that can run at once, every wire connected to every other; ``I`` takes no time."""

    name = "circuit_depth"
    unit = "layers"
    label = "Depth"
    additive = False
    decomposes = False

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """Depth of the module's circuit; the input does not matter.

        Raises:
            ConfigError: the module has no circuit.
        """
        del input_shape
        return float(circuit_of(module).depth)


class DeviceDepth(CircuitCost):
    """Layers of native gates after Qiskit's compiler has fitted the circuit to a device's couplings and gates.

    Qiskit's `depth()` of the transpiled circuit, virtual RZ gates included, at optimization level 1 with a fixed
    seed. Angles are set to fixed values in general position, so that the depth belongs to the structure and not to
    what training happened to find. Broken pairs of the device are not used.

    Args:
        device: name, folder or file, as in :func:`~quantum.noise.calibration.load_device`.
        layout: the qubit of every wire, with `device`; None takes that of the network's own noise where it is of this
            device, else the best for the topology.
        topology: that the best layout is for, as in :func:`~quantum.topology.pairs_of`.
        seed: of the compiler's heuristics.
        noise: instead of `device`: the noise of the network. The cost is left out where it is none of a device.

    Raises:
        ConfigError: the device or the topology is unknown, the layout does not fit, or device and noise are both given.
        DataError: the calibration cannot be read, or lacks a rate of the layout's qubits.
    """

    name = "device_depth"
    unit = "layers"
    additive = False
    decomposes = False

    def __init__(
        self,
        device: str | Path | None = None,
        layout: Sequence[int] | None = None,
        topology: Topology = "chain",
        seed: int = 0,
        noise: NoiseModel | None = None,
    ) -> None:
        self.placement, self.seed = device_placement(noise, device, layout, topology), seed
        self.label = "Depth on a device"
        if self.placement is not None:
            self.label = f"Depth on {self.placement.noise.device.name}"

    def applies_to(self, network: nn.Module) -> bool:
        """Whether there is a device, and the network has a circuit."""
        return self.placement is not None and super().applies_to(network)

    def measure(self, module: nn.Module, input_shape: tuple[int, ...]) -> float:
        """Depth of the module's compiled circuit; the input does not matter.

        Raises:
            ConfigError: there is no device, the module has no circuit, or the layout is for other wires.
            DataError: the calibration lacks a rate that is needed.
            MissingDependencyError: Qiskit is not installed.
        """
        del input_shape
        circuit = circuit_of(module)
        if self.placement is None:
            raise ConfigError("The depth on a device needs one: give the cost device=..., or the noise of a device.")
        noise = self.placement.of(module)
        device = noise.device
        working = [list(pair) for pair in device.directions if tuple(sorted(pair)) in device.usable_pairs]
        if not working and circuit.n_wires > 1:
            raise ConfigError(f"{device.name} has no working pair of qubits for a circuit of {circuit.n_wires} wires.")
        return float(_compiled_depth(circuit, noise.layout, working, device.basis_gates, self.seed))

    def conditions(self) -> Mapping[str, Any]:
        """The device, the date of its calibration, the layout and the compiler."""
        if self.placement is None:
            return {}
        return {**self.placement.conditions(), "optimization_level": 1, "seed": self.seed}


def _compiled_depth(
    circuit: Circuit, layout: tuple[int, ...], couplings: list[list[int]], basis_gates: Sequence[str], seed: int
) -> int:
    try:
        from qiskit import QuantumCircuit, transpile
    except ImportError as error:
        raise MissingDependencyError(f"Qiskit cannot be imported ({error}). Type: pip install qiskit.") from None
    plain = QuantumCircuit(circuit.n_wires)
    angles = (_ANGLE_STEP * number for number in itertools.count(1))
    for operation in circuit.operations:
        if operation.gate == "I":
            continue
        values = list(itertools.islice(angles, operation.spec.n_parameters))
        matrix = operation.spec.matrix(torch.tensor(values, dtype=torch.float64))
        # Qiskit takes the first qubit for the least significant bit of the matrix.
        plain.unitary(matrix.numpy(), list(reversed(operation.wires)))
    with _quiet("qiskit"):
        compiled = transpile(
            plain,
            basis_gates=list(basis_gates),
            coupling_map=couplings or None,
            initial_layout=list(layout),
            optimization_level=1,
            seed_transpiler=seed,
        )
    return int(compiled.depth())


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """A logger without its remarks for the while: the compiler reports every one of its passes."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
