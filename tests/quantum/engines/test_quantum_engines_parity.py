"""A hundred random circuits on every engine, against TorchQuantum and Qiskit."""

import pytest
import torch

from quantum.bridge import require_torchquantum, run_circuit
from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.encoders import encoder
from quantum.engines import ChannelEngine, StatevectorEngine, TorchQuantumEngine
from quantum.gates import POOL
from quantum.measurements import pauli_vector
from quantum.program import CompiledCircuit, DataSlot, Program, Slot

BATCH = 3


@pytest.fixture(scope="module")
def others():
    """TorchQuantum imported, and Qiskit's state of one sample in our order of wires."""
    require_torchquantum()
    from qiskit import QuantumCircuit
    from qiskit.circuit import library
    from qiskit.quantum_info import Statevector

    names = {"P": "PhaseGate", "CNOT": "CXGate", "iSWAP": "iSwapGate", "SWAP": "SwapGate"}

    def state(circuit, weights, inputs):
        theirs = QuantumCircuit(circuit.n_wires)
        for operation in circuit.operations:
            angles = circuit.angle_values(operation, weights, inputs)
            if operation.gate == "Rot":
                for kind, angle in zip("zyz", angles, strict=True):
                    getattr(theirs, f"r{kind}")(angle, operation.wires[0])
                continue
            kind = getattr(library, names.get(operation.gate, f"{operation.gate}Gate"))
            theirs.append(kind(*angles), list(operation.wires))
        return torch.tensor(Statevector(theirs).reverse_qargs().data)

    return state


def compiled(circuit, weights, dtype=torch.float32):
    """A plain circuit as a program, and its parameters."""
    plain = CompiledCircuit.of(circuit)
    values = torch.tensor([*weights, *plain.constants], dtype=dtype)
    return plain.program, values[list(plain.sources)]


def samples(dtype=torch.float32):
    return 2 * torch.randn(BATCH, 6, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("start", range(0, 100, 20))
def test_random_circuits_agree_with_torchquantum_and_qiskit(start, others, random_circuit):
    inputs = samples()
    for seed in range(start, start + 20):
        circuit, weights = random_circuit(seed)
        theirs = run_circuit(circuit, torch.tensor(weights), inputs)
        program, parameters = compiled(circuit, weights)
        for window in (2, 3, 5, 8):
            state = StatevectorEngine(window=window).run(program, parameters, inputs=inputs)
            assert (state.shape, state.dtype) == ((2**circuit.n_wires, BATCH), torch.complex64)
            assert float((state - theirs).abs().max()) < 1e-5, (seed, window)
        sample = seed % BATCH
        exact = others(circuit, weights, inputs[sample].tolist())
        assert float((state[:, sample] - exact).abs().max()) < 1e-5, seed


def test_the_random_circuits_reach_far_and_use_every_gate_and_source_of_angles(random_circuit):
    circuits = [random_circuit(seed)[0] for seed in range(100)]
    operations = [operation for circuit in circuits for operation in circuit.operations]
    assert {operation.gate for operation in operations} == {gate.name for gate in POOL}
    distances = {op.wires[1] - op.wires[0] for op in operations if len(op.wires) == 2}
    assert distances == set(range(-7, 8)) - {0}
    assert {circuit.n_wires for circuit in circuits} == {3, 4, 5, 6, 7, 8}
    assert {type(angle) for op in operations if len(op.wires) == 2 for angle in op.angles} == {Weight, Input, float}
    n_data_slots = [len(CompiledCircuit.of(circuit).program.data_slots) for circuit in circuits]
    assert min(n_data_slots) == 1
    assert max(n_data_slots) > 4


def test_float64_agrees_with_qiskit_to_rounding(others, random_circuit):
    inputs = samples(torch.float64)
    for seed in range(12):
        circuit, weights = random_circuit(seed)
        program, parameters = compiled(circuit, weights, torch.float64)
        state = StatevectorEngine(window=3).run(program, parameters, inputs=inputs)
        assert state.dtype == torch.complex128
        for sample, column in zip(inputs, state.T, strict=True):
            assert float((column - others(circuit, weights, sample.tolist())).abs().max()) < 1e-12, seed


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_pauli_vectors_are_those_of_the_amplitudes(dtype, tolerance, random_circuit):
    inputs = samples(dtype)
    for seed in (0, 1, 2, 6, 7, 8, 12, 13, 18, 19):
        circuit, weights = random_circuit(seed)
        program, parameters = compiled(circuit, weights, dtype)
        expected = pauli_vector(StatevectorEngine().run(program, parameters, inputs=inputs).to(torch.complex128))
        for window in (2, 3):
            vector = ChannelEngine(window=window).run(program, parameters, inputs=inputs)
            assert vector.dtype == dtype
            # In float32 the amplitudes that it is compared with are rounded too.
            assert float((vector - expected).abs().max()) < (4 * tolerance if dtype == torch.float32 else tolerance)


@pytest.mark.parametrize("engine", [StatevectorEngine(), StatevectorEngine(window=2), ChannelEngine()])
def test_amplitudes_as_inputs(engine, others):
    """Fewer features than amplitudes, not normalised, then gates that read the same features as angles."""
    operations = (Operation("CRY", (2, 0), (Weight(0),)), Operation("RX", (1,), (Input(2),)))
    circuit = Circuit(3, operations, amplitude_input=True)
    program, parameters = compiled(circuit, [0.8])
    inputs = samples()
    expected = run_circuit(circuit, torch.tensor([0.8]), inputs)
    found = engine.run(program, parameters, inputs=inputs)
    torch.testing.assert_close(found, expected if engine.local == 2 else pauli_vector(expected), atol=2e-6, rtol=0)


# -- TorchQuantum as an engine ---------------------------------------------------------------------------------------

OPEN = Program(
    4,
    (
        DataSlot((encoder("angle_ryzx", 4, 6), encoder("amplitude", 4, 6), None)),
        Slot((0,), ("I", "RX", "H", "U3")),
        Slot((1,), ("RY", "SX")),
        Slot((3, 1), ("I", "CNOT", "CU3", "iSWAP")),
        DataSlot((None, encoder("angle", 4, 6))),
        Slot((0, 1), ("RZX", "CZ")),
        Slot((2,), ("T",)),
        DataSlot((encoder("angle_rx", 4, 6),)),
        Slot((3, 0), ("CRX", "I")),
    ),
)


@pytest.mark.usefixtures("others")
def test_mixtures_of_gates_and_of_encodings_equal_those_of_states(random_weights):
    """Gates mixed before a state is touched, and states mixed gate by gate by TorchQuantum, with their gradients."""
    parameters, mixture, data = random_weights(OPEN, dtype=torch.float32)
    inputs = samples()
    results = []
    for engine in (TorchQuantumEngine(), StatevectorEngine(), StatevectorEngine(window=2)):
        leaves = [tensor.clone().requires_grad_() for tensor in (parameters, mixture, *data, inputs)]
        state = engine.run(OPEN, leaves[0], leaves[1], leaves[2:5], leaves[5])
        assert torch.allclose(state.abs().square().sum(0), torch.ones(BATCH))
        weights = torch.randn(state.shape, generator=torch.Generator().manual_seed(2))
        results.append([state.detach(), *torch.autograd.grad((weights * state.abs().square()).sum(), leaves)])
    for found in results[1:]:
        for ours, theirs in zip(found, results[0], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("others")
def test_one_hot_weights_are_the_plain_circuit_in_every_engine(one_hot, random_weights):
    parameters, _, _ = random_weights(OPEN, dtype=torch.float32)
    inputs = samples()
    for seed in range(8):
        choices, data_choices, mixture, data = one_hot(OPEN, seed)
        circuit, kept = OPEN.circuit(choices, data_choices)
        plain, own = compiled(circuit, parameters[kept].tolist())
        expected = StatevectorEngine().run(plain, own, inputs=inputs)
        for engine in (StatevectorEngine(), TorchQuantumEngine(), ChannelEngine()):
            found = engine.run(OPEN, parameters, mixture, data, inputs)
            wanted = expected if engine.local == 2 else pauli_vector(expected)
            torch.testing.assert_close(found, wanted.expand_as(found), atol=3e-6, rtol=0)
        reference = TorchQuantumEngine().run(plain, own, inputs=inputs)
        torch.testing.assert_close(reference, expected.expand_as(reference), atol=3e-6, rtol=0)


@pytest.mark.usefixtures("others")
def test_without_data_the_reference_runs_once():
    program = Program(2, (Slot((0,), ("H",)), Slot((0, 1), ("CNOT",))))
    state = TorchQuantumEngine().run(program, torch.zeros(0))
    torch.testing.assert_close(state[:, 0].abs(), torch.tensor([0.5, 0.0, 0.0, 0.5]).sqrt())
    assert state.shape == (4, 1)
