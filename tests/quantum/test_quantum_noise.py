"""Channels against their definitions, models against qiskit-aer."""

import itertools
import math

import pytest
import torch

from darts_hpo.errors import ConfigError, SpaceError
from quantum.circuit import Circuit, Operation, Weight
from quantum.engines import ChannelEngine
from quantum.gates import gate_named, pauli_basis
from quantum.noise import DeviceNoise, NoiseModel, UniformNoise, channels, to_aer
from quantum.program import Program, Slot

PAULIS = pauli_basis(1)


def kraus(*operators):
    return torch.stack([torch.as_tensor(operator, dtype=torch.complex128) for operator in operators])


def from_definition(operators):
    """`Tr(P_i sum_k K P_j K^dagger) / d`, entry by entry."""
    dimension = operators.shape[-1]
    paulis = pauli_basis(dimension.bit_length() - 1)
    transfer = torch.zeros(dimension**2, dimension**2, dtype=torch.float64)
    for i, j in itertools.product(range(dimension**2), repeat=2):
        image = sum(k @ paulis[j] @ k.conj().T for k in operators)
        transfer[i, j] = (torch.trace(paulis[i] @ image) / dimension).real
    return transfer


def depolarizing_kraus(p, n):
    weights = torch.full((4**n,), p / 4**n, dtype=torch.float64)
    weights[0] += 1 - p
    return weights.sqrt()[:, None, None] * pauli_basis(n)


def relaxation_kraus(decay, phase):
    return kraus([[1, 0], [0, math.sqrt(1 - decay)]], [[0, math.sqrt(decay)], [0, 0]]), kraus(
        [[1, 0], [0, math.sqrt(1 - phase)]], [[0, 0], [0, math.sqrt(phase)]]
    )


CHANNELS = {
    "depolarizing": (channels.depolarizing(0.13), depolarizing_kraus(0.13, 1)),
    "depolarizing of two": (channels.depolarizing(0.3, 2), depolarizing_kraus(0.3, 2)),
    "amplitude damping": (channels.amplitude_damping(0.2), relaxation_kraus(0.2, 0)[0]),
    "phase damping": (channels.phase_damping(0.3), relaxation_kraus(0, 0.3)[1]),
    "bit flip": (channels.bit_flip(0.1), kraus(math.sqrt(0.9) * PAULIS[0], math.sqrt(0.1) * PAULIS[1])),
    "phase flip": (channels.phase_flip(0.1), kraus(math.sqrt(0.9) * PAULIS[0], math.sqrt(0.1) * PAULIS[3])),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_is_what_its_kraus_operators_do(name):
    closed_form, operators = CHANNELS[name]
    torch.testing.assert_close(closed_form, from_definition(operators), atol=1e-12, rtol=0)
    torch.testing.assert_close(closed_form, channels.kraus_channel(operators), atol=1e-12, rtol=0)


def test_thermal_relaxation_is_amplitude_damping_and_the_phase_damping_that_is_left():
    t1, t2, duration = 90.0, 60.0, 12.0
    decay = 1 - math.exp(-duration / t1)
    phase = 1 - math.exp(-2 * duration / t2 + duration / t1)
    amplitudes, phases = relaxation_kraus(decay, phase)
    expected = from_definition(phases) @ from_definition(amplitudes)
    torch.testing.assert_close(channels.thermal_relaxation(t1, t2, duration), expected, atol=1e-12, rtol=0)
    still = channels.thermal_relaxation(math.inf, math.inf, duration)
    assert torch.equal(still, torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize(
    "transfer",
    [
        channels.depolarizing(4 / 3),
        channels.depolarizing(16 / 15, 2),
        channels.amplitude_damping(1.0),
        channels.phase_damping(0.7),
        channels.thermal_relaxation(50.0, 100.0, 30.0),
        channels.thermal_relaxation(50.0, 20.0, 30.0, excited_population=0.1),
        torch.kron(channels.amplitude_damping(0.4), channels.phase_damping(0.2)) @ channels.depolarizing(0.5, 2),
    ],
)
def test_channels_are_completely_positive_and_preserve_the_trace(transfer):
    choi = channels.choi_matrix(transfer)
    assert torch.linalg.eigvalsh(choi).min() > -1e-12
    assert torch.trace(choi).real == pytest.approx(1.0)
    first_row = torch.zeros(len(transfer), dtype=torch.float64)
    first_row[0] = 1.0
    assert torch.equal(transfer[0], first_row)


def test_what_is_no_channel_has_a_choi_matrix_with_a_negative_eigenvalue():
    transposition = torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0], dtype=torch.float64))
    assert torch.linalg.eigvalsh(channels.choi_matrix(transposition)).min() == pytest.approx(-0.5)


@pytest.mark.parametrize(("n", "p"), [(1, 0.02), (2, 0.1)])
def test_gate_error_and_depolarizing_probability_are_converted_both_ways(n, p):
    dimension = 2**n
    error = 1 - channels.average_gate_fidelity(channels.depolarizing(p, n))
    assert error == pytest.approx(p * (dimension - 1) / dimension)
    assert channels.depolarizing_probability(error, n) == pytest.approx(p)


def test_depolarizing_fills_up_what_relaxation_leaves_of_a_gate_error():
    relaxation = channels.thermal_relaxation(100.0, 80.0, 1.0)
    p = channels.depolarizing_probability(0.02, 1, relaxation)
    assert 1 - channels.average_gate_fidelity(relaxation @ channels.depolarizing(p)) == pytest.approx(0.02)
    assert channels.depolarizing_probability(1e-4, 1, relaxation) == 0.0


def test_embedding_puts_a_channel_on_the_wires_named():
    one, other = channels.amplitude_damping(0.3), channels.phase_damping(0.4)
    identity = torch.eye(4, dtype=torch.float64)
    assert torch.equal(channels.embed(one, (1,), 2), torch.kron(identity, one))
    torch.testing.assert_close(channels.embed(torch.kron(one, other), (1, 0), 2), torch.kron(other, one))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: channels.depolarizing(1.5), "1.5 on 1 qubits is out of range: expected 0 to 1.33333"),
        (lambda: channels.depolarizing(-0.1, 2), "expected 0 to 1.06667"),
        (lambda: channels.amplitude_damping(1.1), "amplitude damping of 1.1 is out of range: expected 0 to 1"),
        (lambda: channels.thermal_relaxation(10.0, 21.0, 1.0), "expected T2 of at most 2 T1 = 20.0"),
        (lambda: channels.thermal_relaxation(0.0, 1.0, 1.0), "expected T1, T2 > 0"),
        (lambda: channels.kraus_channel(torch.eye(2)[None] / 2), "differs from 1 by 0.75"),
        (lambda: channels.kraus_channel(torch.eye(3)[None]), "d a power of two"),
        (lambda: UniformNoise(readout=0.7), "readout error 0.7 is out of range"),
        (lambda: UniformNoise(readout=[0.1, 0.2, 0.3]), "two such numbers"),
        (lambda: UniformNoise(per="gat"), "Did you mean 'gate'"),
        (lambda: NoiseModel.from_data({"kind": "devise"}), "Did you mean 'device'"),
        (lambda: NoiseModel.from_data({"kind": "uniform", "one_qbit": 0.1}), "one_qbit"),
    ],
)
def test_what_is_out_of_range_is_refused(make, words):
    with pytest.raises(ConfigError) as error:
        make()
    assert words in str(error.value)


# -- Uniform noise ---------------------------------------------------------------------------------------------------


def test_a_gate_is_charged_for_each_of_its_native_gates():
    noise = UniformNoise(one_qubit=0.01, two_qubit=0.04)
    torch.testing.assert_close(noise.after("SX", [3]), channels.depolarizing(0.01))
    torch.testing.assert_close(noise.after("RX", [0])[1, 1].item(), 0.99**2)
    torch.testing.assert_close(noise.after("CNOT", [0, 1]), channels.depolarizing(0.04, 2))
    swap = noise.after("SWAP", [1, 0]).diagonal()
    torch.testing.assert_close(swap, channels.depolarizing(0.04, 2).diagonal() ** 3)
    # CRX: two native gates, and two pulses, one on each wire.
    crx = noise.after("CRX", [0, 1]).diagonal()
    pulse = channels.depolarizing(0.01)
    torch.testing.assert_close(
        crx, channels.depolarizing(0.04, 2).diagonal() ** 2 * torch.kron(pulse, pulse).diagonal()
    )


@pytest.mark.parametrize("gate", ["I", "RZ", "P", "Z", "S", "T"])
def test_virtual_gates_and_empty_places_have_no_noise(gate):
    assert UniformNoise(one_qubit=0.1, two_qubit=0.1, amplitude_damping=0.1).after(gate, [0]) is None
    assert UniformNoise(one_qubit=0.1).log_infidelity(gate, [0]) == 0.0


def test_an_empty_place_on_two_wires_has_no_noise_either():
    assert UniformNoise(one_qubit=0.1, two_qubit=0.1, per="gate").after("I", [0, 1]) is None


def test_charged_per_gate_every_gate_costs_the_same():
    noise = UniformNoise(one_qubit=0.01, two_qubit=0.04, per="gate")
    assert torch.equal(noise.after("RZ", [0]), noise.after("U3", [1]))
    assert torch.equal(noise.after("SWAP", [0, 1]), channels.depolarizing(0.04, 2))


def test_without_rates_there_is_no_noise():
    noise = UniformNoise()
    assert noise.after("U3", [0]) is None
    assert noise.after("SWAP", [0, 1]) is None
    assert noise.readout(5) == (0.0, 0.0)


def test_damping_acts_on_every_wire_of_a_gate():
    noise = UniformNoise(amplitude_damping=0.1, phase_damping=0.2)
    one = channels.phase_damping(0.2) @ channels.amplitude_damping(0.1)
    torch.testing.assert_close(noise.after("CNOT", [0, 1]), torch.kron(one, one))


def test_an_unknown_gate_is_refused_with_the_nearest_names():
    with pytest.raises(SpaceError, match="CNOT"):
        UniformNoise().after("CNOTT", [0, 1])


def test_the_infidelity_is_that_of_the_native_gates():
    noise = UniformNoise(one_qubit=0.01, two_qubit=0.04)
    pulses = gate_named("RXX").native_pulses
    expected = -2 * math.log(1 - 0.04 * 3 / 4) - pulses * math.log(1 - 0.01 / 2)
    assert noise.log_infidelity("RXX", [0, 1]) == pytest.approx(expected)


def test_noise_is_computed_once_per_gate_and_wires():
    noise = UniformNoise(one_qubit=0.01)
    assert noise.after("X", [0]) is noise.after("X", (0,))


@pytest.mark.parametrize(
    "noise",
    [
        UniformNoise(0.01, 0.02, 0.03, 0.04, [0.05, 0.06], "gate"),
        DeviceNoise("manila", n_wires=3, relaxation=False),
        DeviceNoise("manila", topology="ring"),
    ],
)
def test_models_are_read_back_from_plain_data(noise):
    again = NoiseModel.from_data(noise.to_data())
    assert again.to_data() == noise.to_data()
    noise, again = noise.for_wires(3), again.for_wires(3)
    assert torch.equal(again.after("CNOT", [0, 2]), noise.after("CNOT", [0, 2]))
    assert again.readout(1) == noise.readout(1)


# -- Qiskit Aer ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aer():
    import qiskit_aer

    return qiskit_aer


def transfer_from_qiskit(error):
    """Pauli-transfer matrix, in our order of wires, of a quantum error of qiskit-aer."""
    from qiskit.quantum_info import PTM, SuperOp

    transfer = torch.as_tensor(PTM(SuperOp(error)).data.real.copy())
    n = (len(transfer).bit_length() - 1) // 2
    order = [*reversed(range(n)), *reversed(range(n, 2 * n))]
    return transfer.reshape([4] * (2 * n)).permute(order).reshape(transfer.shape)


def test_channels_equal_those_of_aer(aer):
    errors = aer.noise
    pairs = [
        (channels.depolarizing(0.1), errors.depolarizing_error(0.1, 1)),
        (channels.depolarizing(0.2, 2), errors.depolarizing_error(0.2, 2)),
        (channels.amplitude_damping(0.3), errors.amplitude_damping_error(0.3)),
        (channels.phase_damping(0.3), errors.phase_damping_error(0.3)),
        (channels.bit_flip(0.2), errors.pauli_error([("X", 0.2), ("I", 0.8)])),
        (channels.phase_flip(0.2), errors.pauli_error([("Z", 0.2), ("I", 0.8)])),
        (channels.thermal_relaxation(50.0, 40.0, 3.0), errors.thermal_relaxation_error(50.0, 40.0, 3.0)),
        (channels.thermal_relaxation(50.0, 80.0, 3.0, 0.1), errors.thermal_relaxation_error(50.0, 80.0, 3.0, 0.1)),
    ]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, transfer_from_qiskit(theirs), atol=1e-9, rtol=0)


def test_device_noise_of_native_gates_equals_aers_model_of_the_same_device(aer):
    """Their model reads the same files through qiskit-ibm-runtime; SX and CX are native on Manila."""
    from qiskit_aer.noise.device import basic_device_gate_errors
    from qiskit_ibm_runtime.fake_provider import FakeManilaV2

    theirs = {
        (name, tuple(qubits)): error
        for name, qubits, error in basic_device_gate_errors(target=FakeManilaV2().target)
        if name in ("sx", "cx")
    }
    noise = DeviceNoise("manila", layout=[0, 1, 2, 3, 4])
    for qubit in range(5):
        expected = transfer_from_qiskit(theirs["sx", (qubit,)])
        torch.testing.assert_close(noise.after("SX", [qubit]), expected, atol=1e-9, rtol=0)
    for pair in [(0, 1), (1, 2), (2, 3), (3, 4)]:
        # The two directions differ in duration; ours is the faster one.
        expected = [transfer_from_qiskit(theirs["cx", p]) for p in (pair, pair[::-1])]
        expected[1] = expected[1].reshape(4, 4, 4, 4).permute(1, 0, 3, 2).reshape(16, 16)
        ours = noise.after("CNOT", pair)
        assert min(float((ours - e).abs().max()) for e in expected) < 1e-9


NOISE = [
    UniformNoise(one_qubit=0.01, two_qubit=0.05, amplitude_damping=0.02, phase_damping=0.03, readout=[0.02, 0.06]),
    DeviceNoise("lima", n_wires=4),
    DeviceNoise("quito", layout=[0, 2, 4, 3]),
]
CIRCUIT = Circuit(
    4,
    (
        Operation("H", (0,)),
        Operation("U3", (1,), (Weight(0), Weight(1), Weight(2))),
        Operation("CNOT", (0, 1)),
        Operation("RY", (2,), (Weight(3),)),
        Operation("CRX", (3, 0), (Weight(4),)),
        Operation("RXX", (1, 3), (Weight(5),)),
        Operation("T", (2,)),
        Operation("SX", (2,)),
        Operation("CU3", (2, 1), (Weight(6), Weight(7), Weight(8))),
        Operation("CZ", (3, 2)),
        Operation("SWAP", (2, 0)),
        Operation("RZX", (1, 2), (Weight(9),)),
        Operation("X", (3,)),
    ),
)
WEIGHTS = [0.3, -1.1, 2.0, 0.7, 1.9, -0.4, 0.9, 1.3, -2.2, 0.6]


def pauli_vector(circuit, weights, noise):
    """The final state of a noisy circuit as a Pauli vector, one full matrix after the other."""
    n = circuit.n_wires
    wire = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    vector = wire
    for _ in range(n - 1):
        vector = torch.kron(vector, wire)
    for operation in circuit.operations:
        angles = torch.tensor(circuit.angle_values(operation, weights), dtype=torch.float64)
        vector = channels.embed(operation.spec.transfer(angles), operation.wires, n) @ vector
        after = noise.after(operation.gate, operation.wires)
        if after is not None:
            vector = channels.embed(after, operation.wires, n) @ vector
    return vector


def by_engine(circuit, weights, noise):
    program = Program(circuit.n_wires, tuple(Slot(op.wires, (op.gate,)) for op in circuit.operations))
    return ChannelEngine(noise=noise).run(program, torch.tensor(weights, dtype=torch.float64))[:, 0]


@pytest.mark.parametrize("noise", NOISE, ids=["uniform", "lima", "quito"])
@pytest.mark.parametrize("simulate", [pauli_vector, by_engine])
def test_a_noisy_circuit_equals_the_density_matrix_of_aer(aer, noise, simulate):
    circuit, theirs = to_aer(noise, CIRCUIT, WEIGHTS)
    circuit.save_density_matrix()
    simulator = aer.AerSimulator(method="density_matrix", noise_model=theirs)
    density = torch.as_tensor(simulator.run(circuit).result().data()["density_matrix"].data)
    n = CIRCUIT.n_wires
    density = density.reshape([2] * (2 * n)).permute([*reversed(range(n)), *reversed(range(n, 2 * n))])
    expected = torch.einsum("pab,ba->p", pauli_basis(n), density.reshape(2**n, 2**n)).real
    torch.testing.assert_close(simulate(CIRCUIT, WEIGHTS, noise), expected, atol=1e-6, rtol=0)
    pure = pauli_vector(CIRCUIT, WEIGHTS, UniformNoise())
    assert (pure - expected).abs().max() > 0.02  # the noise is no rounding error


def test_readout_errors_reach_aer(aer):
    _, theirs = to_aer(UniformNoise(readout=[0.1, 0.3]), Circuit(2, (Operation("X", (0,)),)))
    errors = theirs.to_dict(serializable=True)["errors"]
    assert [error["type"] for error in errors] == ["roerror", "roerror"]
    torch.testing.assert_close(torch.tensor(errors[0]["probabilities"]), torch.tensor([[0.9, 0.1], [0.3, 0.7]]))
