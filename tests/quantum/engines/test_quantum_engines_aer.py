"""Noisy circuits on real devices: the channel engine against Qiskit Aer's density matrices."""

import pytest
import torch

from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.encoders import encoder
from quantum.engines import ChannelEngine
from quantum.gates import pauli_basis
from quantum.measurements import probabilities
from quantum.noise import DeviceNoise, UniformNoise, to_aer
from quantum.program import CompiledCircuit


@pytest.fixture(scope="module")
def aer():
    """The density matrix of one sample in our order of wires, and the readout errors that Aer would apply."""
    import qiskit_aer

    def run(noise, circuit, weights, inputs):
        theirs, model = to_aer(noise, circuit, weights, inputs)
        theirs.save_density_matrix()
        simulator = qiskit_aer.AerSimulator(method="density_matrix", noise_model=model)
        n = circuit.n_wires
        density = torch.as_tensor(simulator.run(theirs).result().data()["density_matrix"].data)
        density = density.reshape([2] * (2 * n)).permute([*reversed(range(n)), *reversed(range(n, 2 * n))])
        tables = {
            error["gate_qubits"][0][0]: torch.tensor(error["probabilities"], dtype=torch.float64)
            for error in model.to_dict(serializable=True)["errors"]
            if error["type"] == "roerror"
        }
        return density.reshape(2**n, 2**n), tables

    return run


def encoded_circuit(n_wires):
    """Noisy encodings first and in the middle, of one wire and of two, and pairs that the device does not couple."""
    return Circuit(
        n_wires,
        (
            *encoder("angle_ryzx", n_wires, 2 * n_wires).operations,
            Operation("U3", (0,), (Weight(0), Weight(1), Weight(2))),
            Operation("CNOT", (0, n_wires - 1)),
            Operation("CRX", (1, 0), (Input(1, 0.5),)),
            Operation("SX", (1,)),
            Operation("RY", (n_wires - 1,), (Input(0),)),
            Operation("RZX", (n_wires - 1, 1), (Weight(3),)),
            Operation("H", (0,)),
            Operation("CU3", (1, 0), (Weight(4), 0.3, Weight(0))),
        ),
    )


@pytest.mark.parametrize(
    ("noise", "n_wires"),
    [
        (DeviceNoise("manila"), 4),
        (DeviceNoise("lima", topology="ring"), 3),
        (DeviceNoise("torino"), 4),
        (UniformNoise(0.01, 0.05, 0.02, 0.03, [0.02, 0.07], per="gate"), 3),
    ],
    ids=["manila", "lima", "torino", "uniform"],
)
def test_noisy_circuits_with_data_equal_aer(aer, noise, n_wires):
    noise, circuit = noise.for_wires(n_wires), encoded_circuit(n_wires)
    weights = [0.3, -1.1, 2.0, 0.7, 1.9]
    inputs = torch.rand(2, circuit.n_inputs, dtype=torch.float64) * 3
    plain = CompiledCircuit.of(circuit)
    parameters = torch.tensor([*weights, *plain.constants], dtype=torch.float64)[list(plain.sources)]
    vectors = ChannelEngine(noise=noise).run(plain.program, parameters, inputs=inputs)
    ideal = ChannelEngine().run(plain.program, parameters, inputs=inputs)
    readout = [noise.readout(wire) for wire in range(n_wires)]
    for place, sample in enumerate(inputs):
        density, tables = aer(noise, circuit, weights, sample.tolist())
        expected = torch.einsum("pab,ba->p", pauli_basis(n_wires), density).real
        assert float((vectors[:, place] - expected).abs().max()) < 1e-9
        assert float((ideal[:, place] - expected).abs().max()) > 1e-2
        # Probabilities of what is read: each wire's table of P(read | is), applied to the diagonal.
        read = density.diagonal().real.reshape([2] * n_wires)
        for wire in range(n_wires):
            read = torch.tensordot(read, tables[wire], dims=([wire], [0])).movedim(-1, wire)
        ours = probabilities(vectors[:, place : place + 1], readout=readout)[0]
        assert float((ours - read.reshape(-1)).abs().max()) < 1e-9
