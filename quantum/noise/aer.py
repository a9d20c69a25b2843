"""The same noisy circuit for Qiskit Aer, to compare with or to go on there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from darts_hpo.errors import MissingDependencyError
from quantum.circuit import Circuit
from quantum.noise.model import NoiseModel


def to_aer(
    noise: NoiseModel, circuit: Circuit, weights: Sequence[float] = (), inputs: Sequence[float] = ()
) -> tuple[Any, Any]:
    """A circuit and a noise model for Qiskit Aer that together do what ours do.

    Aer attaches errors to names of instructions and knows few gates, so every gate is a matrix that is labelled with
    its name, and the errors belong to the labels. The circuit must reach Aer as it is, not transpiled to other gates.

    Args:
        noise: our model.
        circuit: starts in |0...0>; an amplitude encoding is left to the caller. Wire `i` is qubit `i`.
        weights: `n_weights` angles in radians.
        inputs: features of one sample.

    Returns:
        A ``qiskit.QuantumCircuit`` without measurements, and a ``qiskit_aer.noise.NoiseModel`` that has the readout
        errors too.

    Raises:
        MissingDependencyError: qiskit-aer is not installed.
        ConfigError: the noise model does not fit the circuit.
        DataError: the device's calibration lacks a rate that is needed.
    """
    try:
        from qiskit import QuantumCircuit
        from qiskit.quantum_info import PTM, Kraus
        from qiskit_aer.noise import NoiseModel as AerNoiseModel
        from qiskit_aer.noise import QuantumError, ReadoutError
    except ImportError as error:
        raise MissingDependencyError(
            f"Qiskit Aer cannot be imported ({error}). Type: pip install qiskit-aer."
        ) from None
    built, model = QuantumCircuit(circuit.n_wires), AerNoiseModel()
    for operation in circuit.operations:
        angles = torch.tensor(circuit.angle_values(operation, weights, inputs), dtype=torch.float64)
        # Qiskit takes the first qubit for the least significant bit of a matrix.
        built.unitary(operation.spec.matrix(angles).numpy(), operation.wires[::-1], label=operation.gate)
    for name, wires in sorted({(operation.gate, operation.wires) for operation in circuit.operations}):
        transfer = noise.after(name, wires)
        if transfer is not None:
            # Errors belong to the qubits in the instruction's order, which is the last wire first: then our order of
            # Paulis is Qiskit's.
            model.add_quantum_error(QuantumError(Kraus(PTM(transfer.numpy()))), [name], list(reversed(wires)))
    for wire in range(circuit.n_wires):
        one_given_zero, zero_given_one = noise.readout(wire)
        if one_given_zero or zero_given_one:
            table = [[1 - one_given_zero, one_given_zero], [zero_given_one, 1 - zero_given_one]]
            model.add_readout_error(ReadoutError(table), [wire])
    return built, model
