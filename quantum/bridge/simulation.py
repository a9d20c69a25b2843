"""Circuits simulated by TorchQuantum: the reference that other engines are compared with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darts_hpo.errors import DataError
from quantum.bridge.availability import require_torchquantum
from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.gates import POOL

_NAMED_ALIKE = frozenset(gate.name for gate in POOL)
"""Gates that TorchQuantum has too, under our name in lower case; it gets the matrix of any other."""
_UNBATCHED = frozenset({"CU3"})
"""Gates of which TorchQuantum 0.2 builds one matrix only; it gets ours where every sample has its own angles."""


def run_circuit(circuit: Circuit, weights: Tensor, inputs: Tensor | None = None) -> Tensor:
    """The state at the end of a circuit, computed by TorchQuantum gate after gate.

    Differentiable by the weights and the inputs. TorchQuantum knows complex64 only.

    Args:
        circuit: what is run.
        weights: `[n_weights]` angles in radians.
        inputs: samples `[B, F]`; None for a circuit that reads none, `B = 1`.

    Returns:
        complex64 `[2**n, B]`; wire 0 is the most significant bit of the first index.

    Raises:
        DataError: the inputs or weights do not fit the circuit, or a sample to be encoded in amplitudes is all zero.
        MissingDependencyError: TorchQuantum is absent or broken.
    """
    device = quantum_device(circuit, weights, inputs)
    apply_circuit(device, circuit, weights, inputs)
    states: Tensor = device.get_states_1d()
    return states.mT


def quantum_device(circuit: Circuit, weights: Tensor, inputs: Tensor | None = None) -> Any:
    """A new ``tq.QuantumDevice`` in the circuit's initial state, one state per sample.

    Args:
        circuit: gives the number of wires, and whether the samples are the amplitudes.
        weights: give the torch device.
        inputs: samples `[B, F]`, or None.

    Raises:
        DataError: as :func:`run_circuit`.
        MissingDependencyError: TorchQuantum is absent or broken.
    """
    tq = require_torchquantum()
    _check(circuit, weights, inputs)
    batch = 1 if inputs is None else len(inputs)
    device = tq.QuantumDevice(n_wires=circuit.n_wires, bsz=batch, device=weights.device)
    if circuit.amplitude_input and inputs is not None:
        amplitudes = inputs[:, : 2**circuit.n_wires]
        if not bool(amplitudes.abs().sum(dim=1).all()):
            raise DataError("Amplitude encoding was given a sample of zeros only, which is no state; leave it out.")
        tq.StateEncoder()(device, amplitudes)
    return device


def apply_circuit(device: Any, circuit: Circuit, weights: Tensor, inputs: Tensor | None = None) -> None:
    """Apply a circuit's gates to the states of a ``tq.QuantumDevice``.

    Args:
        device: of as many wires, with one state per sample.
        circuit: the gates.
        weights: `[n_weights]` angles in radians.
        inputs: samples `[B, F]`, or None.

    Raises:
        MissingDependencyError: TorchQuantum is absent or broken.
    """
    weights = weights.to(torch.float32)
    for operation in circuit.operations:
        apply_operation(device, operation, weights, inputs)


def apply_operation(device: Any, operation: Operation, weights: Tensor, inputs: Tensor | None = None) -> None:
    """Apply one gate to the states of a ``tq.QuantumDevice``.

    Args:
        device: has the operation's wires, and one state per sample.
        operation: the gate.
        weights: angles in radians, float32; the operation names those that it uses by their position.
        inputs: samples `[B, F]`, or None.

    Raises:
        MissingDependencyError: TorchQuantum is absent or broken.
    """
    functional = require_torchquantum().functional
    wires = list(operation.wires)
    angles = _angles(operation, weights, inputs)
    if operation.gate not in _NAMED_ALIKE or (operation.gate in _UNBATCHED and len(angles) > 1):
        functional.qubitunitaryfast(device, wires, params=operation.spec.matrix(angles))
    elif operation.angles:
        functional.func_name_dict[operation.gate.lower()](device, wires, params=angles)
    else:
        functional.func_name_dict[operation.gate.lower()](device, wires)


def _angles(operation: Operation, weights: Tensor, inputs: Tensor | None) -> Tensor:
    """Angles `[1 or B, P]` of an operation."""
    columns = []
    for angle in operation.angles:
        if isinstance(angle, Weight):
            columns.append(weights[angle.index].reshape(1))
        elif isinstance(angle, Input):
            assert inputs is not None  # _check has seen to it
            columns.append(inputs[:, angle.index].to(weights.dtype) * angle.scale)
        else:
            columns.append(weights.new_tensor([angle]))
    if not columns:
        return weights.new_zeros(1, 0)
    return torch.stack(torch.broadcast_tensors(*columns), dim=-1)


def _check(circuit: Circuit, weights: Tensor, inputs: Tensor | None) -> None:
    if weights.shape != (circuit.n_weights,):
        raise DataError(f"The circuit has {circuit.n_weights} weights; it was given the shape {list(weights.shape)}.")
    if inputs is None:
        if circuit.n_inputs:
            raise DataError(f"The circuit reads {circuit.n_inputs} features, but it was given no inputs.")
        return
    if inputs.ndim != 2:
        raise DataError(f"Inputs must be samples x features; they have the shape {list(inputs.shape)}.")
    features = inputs.shape[1]
    read = max((a.index + 1 for op in circuit.operations for a in op.angles if isinstance(a, Input)), default=0)
    if features < read:
        raise DataError(f"The circuit reads {read} features, but the inputs have {features}.")
    if circuit.amplitude_input and features > circuit.n_inputs:
        raise DataError(
            f"Amplitude encoding on {circuit.n_wires} wires holds {2**circuit.n_wires} features; "
            f"the inputs have {features}."
        )
