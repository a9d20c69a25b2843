"""The bridge: circuits run by TorchQuantum, modules for it, and what is said where it is missing."""

import copy
import importlib
import io
import math
import pickle
import random
import subprocess
import sys
from importlib import metadata

import pytest
import torch

from darts_hpo.errors import DataError, MissingDependencyError
from quantum.bridge import availability, require_torchquantum, run_circuit, to_torchquantum
from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.gates import POOL, QuantumGate, gate_named, register, transfer_of
from quantum.gates import registry as registry_module


@pytest.fixture(scope="module")
def tq():
    return require_torchquantum()


@pytest.fixture(scope="module")
def qiskit_state():
    """The state of a circuit from Qiskit, in our order."""
    from qiskit import QuantumCircuit
    from qiskit.circuit import library
    from qiskit.quantum_info import Statevector

    names = {"P": "PhaseGate", "CNOT": "CXGate", "iSWAP": "iSwapGate", "SWAP": "SwapGate"}

    def state(circuit, weights):
        theirs = QuantumCircuit(circuit.n_wires)
        for operation in circuit.operations:
            angles = circuit.angle_values(operation, weights)
            if operation.gate == "Rot":
                for kind, angle in zip("zyz", angles, strict=True):
                    getattr(theirs, f"r{kind}")(angle, operation.wires[0])
                continue
            kind = getattr(library, names.get(operation.gate, f"{operation.gate}Gate"))
            theirs.append(kind(*angles), list(operation.wires))
        return torch.tensor(Statevector(theirs).reverse_qargs().data)

    return state


def random_circuit(seed):
    """20 to 30 gates of all kinds on 3 to 8 wires, pairs in any order and at any distance, and its weights."""
    chance = random.Random(seed)
    n = 3 + seed % 6
    operations, count = [], 0
    for gate in [*chance.sample(POOL, 18), *chance.choices(POOL, k=12)]:
        wires = tuple(chance.sample(range(n), gate.n_wires))
        angles = tuple(Weight(count + i) for i in range(gate.n_parameters))
        count += gate.n_parameters
        operations.append(Operation(gate.name, wires, angles))
    return Circuit(n, tuple(operations)), [chance.uniform(-math.pi, math.pi) for _ in range(count)]


# -- Parity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", range(0, 100, 10))
def test_random_circuits_agree_with_torchquantum_and_qiskit(start, tq, qiskit_state):
    for seed in range(start, start + 10):
        circuit, weights = random_circuit(seed)
        ours = circuit.unitary(weights)[:, 0]
        theirs = run_circuit(circuit, torch.tensor(weights))
        assert theirs.shape == (2**circuit.n_wires, 1)
        assert theirs.dtype == torch.complex64
        assert float((theirs[:, 0] - ours).abs().max()) < 1e-5, seed
        overlap = torch.vdot(qiskit_state(circuit, weights), ours)
        # Global phases agree as well.
        assert float((overlap - 1).abs()) < 1e-12, seed


def test_the_random_circuits_reach_far_and_use_every_gate():
    operations = [op for seed in range(100) for op in random_circuit(seed)[0].operations]
    assert {op.gate for op in operations} == {gate.name for gate in POOL}
    distances = {op.wires[1] - op.wires[0] for op in operations if len(op.wires) == 2}
    assert distances == set(range(-7, 8)) - {0}
    assert {random_circuit(seed)[0].n_wires for seed in range(100)} == {3, 4, 5, 6, 7, 8}


ENCODED = Circuit(
    3,
    (
        Operation("RY", (0,), (Input(0),)),
        Operation("CRX", (0, 2), (Input(1, 0.5),)),
        Operation("U3", (2,), (Weight(0), 0.4, Input(1))),
        Operation("CU3", (2, 1), (Weight(1), Weight(0), -0.9)),
        Operation("H", (1,)),
    ),
)


def test_batches_of_inputs(tq):
    weights, inputs = torch.tensor([0.7, -0.2]), torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    states = run_circuit(ENCODED, weights, inputs)
    for sample, column in zip(inputs, states.mT, strict=True):
        expected = ENCODED.unitary(weights.tolist(), sample.tolist())[:, 0]
        assert float((column - expected).abs().max()) < 1e-6
    torch.testing.assert_close(run_circuit(ENCODED, weights, inputs[:1]), states[:, :1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_amplitudes_are_normalised_and_padded(dtype, tq):
    circuit = Circuit(3, (Operation("CRY", (2, 0), (Weight(0),)), Operation("iSWAP", (1, 2))), amplitude_input=True)
    inputs = torch.randn(4, 6, dtype=dtype, generator=torch.Generator().manual_seed(0))
    states = run_circuit(circuit, torch.tensor([0.7]), inputs)
    start = torch.nn.functional.pad(inputs / inputs.norm(dim=1, keepdim=True), (0, 2)).to(torch.complex128)
    expected = circuit.unitary([0.7]) @ start.mT
    assert float((states - expected).abs().max()) < 1e-6


def test_a_circuit_without_inputs_runs_once_per_sample(tq):
    circuit = Circuit(2, (Operation("RX", (1,), (Weight(0),)),))
    assert run_circuit(circuit, torch.tensor([0.7]), torch.zeros(3, 5)).shape == (4, 3)


def test_gradients_flow_to_weights_and_inputs(tq):
    weights = torch.tensor([0.7, -0.2], requires_grad=True)
    inputs = torch.tensor([[0.3, 0.5]], requires_grad=True)
    run_circuit(ENCODED, weights, inputs)[5].abs().square().sum().backward()
    step = 1e-4

    def probability(w, x):
        return abs(complex(ENCODED.unitary(w, x)[5, 0])) ** 2

    plus, minus = probability([0.7 + step, -0.2], [0.3, 0.5]), probability([0.7 - step, -0.2], [0.3, 0.5])
    assert float(weights.grad[0]) == pytest.approx((plus - minus) / (2 * step), abs=1e-5)
    plus, minus = probability([0.7, -0.2], [0.3, 0.5 + step]), probability([0.7, -0.2], [0.3, 0.5 - step])
    assert float(inputs.grad[0, 1]) == pytest.approx((plus - minus) / (2 * step), abs=1e-5)


def test_a_gate_of_ones_own(monkeypatch, tq):
    monkeypatch.setattr(registry_module, "_registry", dict(registry_module._registry))

    def matrix(angles):
        return gate_named("RXX").matrix(angles) @ gate_named("CZ").matrix(angles[..., :0])

    # TorchQuantum has a function named qft, with another meaning.
    register(QuantumGate("QFT", 2, 1, matrix, transfer_of(matrix), "mine", 3, 4))
    circuit = Circuit(3, (Operation("H", (0,)), Operation("QFT", (0, 2), (Input(0),)), Operation("X", (1,))))
    inputs = torch.tensor([[0.3], [1.2]])
    states = run_circuit(circuit, torch.zeros(0), inputs)
    for sample, column in zip(inputs.tolist(), states.mT, strict=True):
        assert float((column - circuit.unitary([], sample)[:, 0]).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("circuit", "weights", "inputs", "message"),
    [
        (ENCODED, [0.1], [[0.1, 0.2]], r"has 2 weights; it was given the shape \[1\]"),
        (ENCODED, [0.1, 0.2], None, "reads 2 features, but it was given no inputs"),
        (ENCODED, [0.1, 0.2], [[0.1]], "reads 2 features, but the inputs have 1"),
        (ENCODED, [0.1, 0.2], [0.1], "samples x features"),
        (Circuit(1, (), amplitude_input=True), [], [[0.1, 0.2, 0.3]], "1 wires holds 2 features; the inputs have 3"),
        (Circuit(1, (), amplitude_input=True), [], [[1.0, 0.0], [0.0, 0.0]], "zeros only"),
    ],
)
def test_what_does_not_fit_is_refused(circuit, weights, inputs, message, tq):
    with pytest.raises(DataError, match=message):
        run_circuit(circuit, torch.tensor(weights), None if inputs is None else torch.tensor(inputs))


# -- Modules ---------------------------------------------------------------------------------------------------------


def z_expectations(circuit, weights, inputs):
    rows = []
    for sample in inputs.tolist():
        probabilities = circuit.unitary(weights, sample)[:, 0].abs().square().reshape([2] * circuit.n_wires)
        marginals = [probabilities.movedim(wire, 0).flatten(1).sum(1) for wire in range(circuit.n_wires)]
        rows.append(torch.stack([marginal[0] - marginal[1] for marginal in marginals]))
    return torch.stack(rows).float()


INPUTS = torch.tensor([[0.3, -0.8], [1.1, 0.4], [-0.5, 2.0]])


def test_a_module_gives_z_on_every_wire(tq):
    module = to_torchquantum(ENCODED, [0.7, -0.2])
    assert isinstance(module, tq.QuantumModule)
    torch.testing.assert_close(module(INPUTS), z_expectations(ENCODED, [0.7, -0.2], INPUTS), atol=1e-6, rtol=0)
    assert tq.measurement.expval_joint_analytical(module.run(INPUTS), "ZZI").shape == (3,)


def test_a_module_copies_the_weights_it_starts_from(tq):
    weights = torch.tensor([0.7, -0.2])
    module = to_torchquantum(ENCODED, weights)
    weights.zero_()
    assert module.weights.tolist() == pytest.approx([0.7, -0.2])


def test_a_module_trains_and_its_state_dict_is_its_weights(tq):
    module = to_torchquantum(ENCODED, [0.7, -0.2])
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = module(INPUTS)[:, 2].mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    # A device kept after a forward pass would show here.
    assert set(module.state_dict()) == {"weights"}


def test_a_module_survives_saving_and_copying_after_a_forward_pass(tq):
    module = to_torchquantum(ENCODED, [0.7, -0.2])
    expected = module(INPUTS)
    expected.sum().backward()
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    other = to_torchquantum(ENCODED, [0.0, 0.0])
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for restored in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(restored(INPUTS), expected)
        assert restored.circuit == ENCODED


def test_a_module_of_a_circuit_without_inputs_or_weights(tq):
    circuit = Circuit(2, (Operation("X", (1,)),))
    assert to_torchquantum(circuit, [])().tolist() == [[1.0, -1.0]]
    assert to_torchquantum(Circuit(1, (), amplitude_input=True), [])(torch.tensor([[3.0, 4.0]])).tolist() == [
        [pytest.approx(-0.28)]
    ]


# -- Availability ----------------------------------------------------------------------------------------------------


def test_importing_the_package_does_not_import_torchquantum():
    program = (
        "import sys, quantum.bridge, quantum.gates, quantum.parameter_shift, quantum.bridge.modules\n"
        "print([name for name in ('torchquantum', 'qiskit', 'matplotlib', 'pennylane') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("installed", "error", "message"),
    [
        (
            {},
            ModuleNotFoundError("No module named 'torchquantum'", name="torchquantum"),
            r"^TorchQuantum is not installed. Type: pip install 'torchquantum-ng>=0.2,<0.3'$",
        ),
        (
            {"torchquantum": "0.1.8"},
            ModuleNotFoundError("No module named 'qiskit_ibm_runtime'", name="qiskit_ibm_runtime"),
            r"^torchquantum 0.1.8 cannot be imported: it needs 'qiskit_ibm_runtime', which is absent. .* no longer "
            r"maintained .* Type: pip uninstall -y torchquantum && pip install 'torchquantum-ng>=0.2,<0.3'$",
        ),
        (
            {"torchquantum": "0.1.8"},
            ModuleNotFoundError("No module named 'pkg_resources'", name="pkg_resources"),
            r"^torchquantum 0.1.8 cannot be imported: it needs 'pkg_resources', which is absent.* pip uninstall",
        ),
        (
            {"torchquantum": "0.1.8"},
            ImportError("cannot import name 'execute' from 'qiskit'"),
            r"^torchquantum 0.1.8 cannot be imported: it fails with .cannot import name 'execute'",
        ),
        (
            {"torchquantum": "0.1.8", "torchquantum-ng": "0.2.0"},
            ModuleNotFoundError("No module named 'pkg_resources'", name="pkg_resources"),
            r"both installed, in one folder.*pip uninstall -y torchquantum torchquantum-ng && pip install",
        ),
        (
            {"torchquantum-ng": "0.2.0"},
            ModuleNotFoundError("No module named 'torchpack'", name="torchpack"),
            r"^torchquantum-ng 0.2.0 cannot be imported: it needs 'torchpack', .* --force-reinstall$",
        ),
        ({}, AttributeError("no attribute 'x'"), r"of unknown origin cannot be imported: it fails with"),
    ],
)
def test_a_missing_or_broken_installation_is_named_with_the_remedy(installed, error, message, monkeypatch):
    def version(distribution):
        if distribution not in installed:
            raise metadata.PackageNotFoundError(distribution)
        return installed[distribution]

    def fail(name):
        assert name == "torchquantum"
        raise error

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MissingDependencyError, match=message):
        availability.require_torchquantum()
