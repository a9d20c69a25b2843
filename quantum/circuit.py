"""Circuits as plain data: what is exported, drawn, counted, transpiled and handed to other simulators."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from darts_hpo.errors import GenotypeError
from quantum.gates import QuantumGate, gate_named

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Weight:
    """An angle that is trained: an entry of the circuit's weights.

    Args:
        index: position in the weights.
    """

    index: int


@dataclass(frozen=True)
class Input:
    """An angle that is read from the data.

    Args:
        index: position in the sample's features.
        scale: the angle in radians is the feature times this.
    """

    index: int
    scale: float = 1.0


Angle: TypeAlias = Weight | Input | float
"""Where an angle comes from: a weight, a feature of the input, or a constant in radians."""


@dataclass(frozen=True)
class Operation:
    """A gate on some wires.

    Args:
        gate: name of a registered gate.
        wires: one per wire of the gate, the control first.
        angles: one per parameter of the gate.

    Raises:
        GenotypeError: the gate is unknown, a wire is negative or repeated, or the numbers do not fit the gate.
    """

    gate: str
    wires: tuple[int, ...]
    angles: tuple[Angle, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "wires", tuple(self.wires))
        object.__setattr__(self, "angles", tuple(self.angles))
        spec = gate_named(self.gate)
        if len(self.wires) != spec.n_wires:
            raise GenotypeError(f"{self.gate} acts on {spec.n_wires} wires; it was given {list(self.wires)}.")
        if len(self.angles) != spec.n_parameters:
            raise GenotypeError(f"{self.gate} takes {spec.n_parameters} angles; it was given {len(self.angles)}.")
        if len(set(self.wires)) != len(self.wires):
            raise GenotypeError(f"{self.gate} was given the wire {self.wires[0]} twice: {list(self.wires)}.")
        if min(self.wires) < 0:
            raise GenotypeError(f"{self.gate} was given the wire {min(self.wires)}; wires count from 0.")

    @property
    def spec(self) -> QuantumGate:
        """The registered gate."""
        return gate_named(self.gate)


@dataclass(frozen=True)
class Circuit:
    """Operations in order on wires that start in |0...0>, or in a state that the input gives.

    Wire 0 is the most significant bit of a state's index, as in TorchQuantum. (Qiskit counts the other way.)

    Args:
        n_wires: number of qubits, at least 1.
        operations: in order of time.
        amplitude_input: whether the initial state is the input itself, normalised and padded with zeros
            (amplitude encoding), and not |0...0>.

    Raises:
        GenotypeError: an operation uses a wire outside the circuit, or the weights' indices have gaps.
    """

    n_wires: int
    operations: tuple[Operation, ...]
    amplitude_input: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", tuple(self.operations))
        if self.n_wires < 1:
            raise GenotypeError(f"A circuit needs at least one wire, not {self.n_wires}.")
        for operation in self.operations:
            if max(operation.wires) >= self.n_wires:
                raise GenotypeError(
                    f"{operation.gate} was given the wire {max(operation.wires)}, but the circuit has {self.n_wires}: "
                    f"expected 0 to {self.n_wires - 1}."
                )
        used = {angle.index for operation in self.operations for angle in operation.angles if isinstance(angle, Weight)}
        if used and used != set(range(max(used) + 1)):
            gaps = sorted(set(range(max(used) + 1)) - used)
            raise GenotypeError(f"No operation uses the weights {gaps}; they must count up from 0 without gaps.")

    @property
    def n_weights(self) -> int:
        """Number of trained angles."""
        return 1 + max(
            (a.index for operation in self.operations for a in operation.angles if isinstance(a, Weight)), default=-1
        )

    @property
    def n_inputs(self) -> int:
        """Features that the circuit reads; with :attr:`amplitude_input`, `2 ** n_wires` amplitudes."""
        read = 1 + max(
            (a.index for operation in self.operations for a in operation.angles if isinstance(a, Input)), default=-1
        )
        return max(read, 2**self.n_wires) if self.amplitude_input else read

    @property
    def n_two_qubit(self) -> int:
        """Operations on two or more wires."""
        return sum(len(operation.wires) > 1 for operation in self.operations)

    @property
    def depth(self) -> int:
        """Layers of operations that can run at once, every wire connected to every other; ``I`` takes no time."""
        busy = [0] * self.n_wires
        for operation in self.operations:
            if operation.gate == "I":
                continue
            end = 1 + max(busy[wire] for wire in operation.wires)
            for wire in operation.wires:
                busy[wire] = end
        return max(busy)

    def angle_values(self, operation: Operation, weights: Sequence[float], inputs: Sequence[float] = ()) -> list[float]:
        """The angles of an operation in radians, for one sample."""
        values = []
        for angle in operation.angles:
            if isinstance(angle, Weight):
                values.append(float(weights[angle.index]))
            elif isinstance(angle, Input):
                values.append(float(inputs[angle.index]) * angle.scale)
            else:
                values.append(float(angle))
        return values

    def unitary(self, weights: Sequence[float] = (), inputs: Sequence[float] = ()) -> Tensor:
        """The circuit's matrix, `2**n x 2**n`, complex128: slow and plain, for tests and small circuits.

        Args:
            weights: `n_weights` angles in radians.
            inputs: `n_inputs` features.
        """
        n = self.n_wires
        total = torch.eye(2**n, dtype=torch.complex128).reshape([2] * n + [2**n])
        for operation in self.operations:
            angles = torch.tensor(self.angle_values(operation, weights, inputs), dtype=torch.float64)
            k = len(operation.wires)
            matrix = operation.spec.matrix(angles).to(torch.complex128).reshape([2] * (2 * k))
            total = torch.tensordot(matrix, total, dims=(list(range(k, 2 * k)), list(operation.wires)))
            total = total.movedim(list(range(k)), list(operation.wires))
        return total.reshape(2**n, 2**n)

    # -- JSON ----------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain containers that :meth:`from_json` reads back exactly."""
        return {
            "schema_version": SCHEMA_VERSION,
            "n_wires": self.n_wires,
            "amplitude_input": self.amplitude_input,
            "operations": [
                {"gate": op.gate, "wires": list(op.wires), "angles": [_angle_to_json(a) for a in op.angles]}
                for op in self.operations
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Circuit:
        """The circuit that :meth:`to_json` described.

        Raises:
            GenotypeError: a key is missing or malformed, or the schema is another.
        """
        if data.get("schema_version") != SCHEMA_VERSION:
            raise GenotypeError(
                f"The circuit has schema_version {data.get('schema_version')!r}; this program reads {SCHEMA_VERSION}."
            )
        try:
            operations = tuple(
                Operation(entry["gate"], tuple(entry["wires"]), tuple(_angle_from_json(a) for a in entry["angles"]))
                for entry in data["operations"]
            )
            return cls(int(data["n_wires"]), operations, bool(data["amplitude_input"]))
        except KeyError as error:
            raise GenotypeError(f"The circuit lacks the key {error}.") from None
        except (TypeError, ValueError) as error:
            raise GenotypeError(f"The circuit is malformed: {error}.") from None

    def __str__(self) -> str:
        """The circuit as canonical JSON text."""
        return json.dumps(self.to_json(), sort_keys=True)


def _angle_to_json(angle: Angle) -> Any:
    if isinstance(angle, Weight):
        return {"weight": angle.index}
    if isinstance(angle, Input):
        return {"input": angle.index, "scale": angle.scale}
    return float(angle)


def _angle_from_json(data: Any) -> Angle:
    if isinstance(data, Mapping):
        if "weight" in data:
            return Weight(int(data["weight"]))
        return Input(int(data["input"]), float(data.get("scale", 1.0)))
    value = float(data)
    if not math.isfinite(value):
        raise ValueError(f"an angle is {value}")
    return value
