"""OpenQASM texts and circuit files, judged by Qiskit's own readers."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from darts_hpo.errors import ExportError
from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.drawing import draw
from quantum.export import spelling
from quantum.export.files import load_circuit, write_circuit_files
from quantum.export.qasm2 import to_qasm2
from quantum.export.qasm3 import to_qasm3
from quantum.gates import POOL, gate_named

ANGLES = [0.37, -1.9, 2.6]


@pytest.fixture(scope="module")
def qiskit():
    """Qiskit's readers, and the matrix of what they read with wire 0 as the most significant bit."""
    import qiskit.qasm2
    import qiskit.qasm3
    from qiskit.quantum_info import Operator

    def matrix(circuit):
        return torch.tensor(Operator(circuit.reverse_bits()).data)

    def loads2(text):
        strict = qiskit.qasm2.loads(text, strict=True)
        legacy = qiskit.qasm2.loads(
            text,
            include_path=qiskit.qasm2.LEGACY_INCLUDE_PATH,
            custom_instructions=qiskit.qasm2.LEGACY_CUSTOM_INSTRUCTIONS,
            custom_classical=qiskit.qasm2.LEGACY_CUSTOM_CLASSICAL,
        )
        return strict, qiskit.qasm2.loads(text), legacy

    return SimpleNamespace(matrix=matrix, loads2=loads2, loads3=qiskit.qasm3.loads)


def assert_same_up_to_phase(found, expected, tolerance=1e-9):
    overlap = (found.conj() * expected).sum() / len(expected)
    assert abs(abs(complex(overlap)) - 1) < tolerance
    torch.testing.assert_close(found * overlap / abs(overlap), expected, atol=tolerance, rtol=0)


def random_circuit(seed, *, data=False):
    """Gates of the whole pool on random wires in random order, constants and shared weights included."""
    draw_from = random.Random(seed)
    n_wires = draw_from.randint(3, 4)
    operations, count = [], 0
    for _ in range(14):
        gate = draw_from.choice(POOL)
        angles = []
        for _ in range(gate.n_parameters):
            kind = draw_from.random()
            if data and kind < 0.4:
                angles.append(Input(draw_from.randrange(5), draw_from.choice([1.0, -1.0, math.pi, 1e-5])))
            elif kind < 0.6:
                angles.append(draw_from.choice([math.pi / 2, -3e-7, 12.0]))
            else:
                angles.append(Weight(count))
                count += 1
        operations.append(Operation(gate.name, tuple(draw_from.sample(range(n_wires), gate.n_wires)), tuple(angles)))
    weights = [draw_from.uniform(-7, 7) for _ in range(count)]
    return Circuit(n_wires, tuple(operations)), weights, [draw_from.uniform(-2, 2) for _ in range(5)]


def alone(gate, wires, n_wires):
    return Circuit(n_wires, (Operation(gate.name, wires, tuple(Weight(i) for i in range(gate.n_parameters))),))


@pytest.mark.parametrize("gate", POOL, ids=lambda gate: gate.name)
def test_every_gate_is_read_back(qiskit, gate):
    """As a matrix, so that a wrong relative phase under control shows; first and last wire both ways round."""
    weights = ANGLES[: gate.n_parameters]
    for wires in ((0, 2), (2, 0)):
        circuit = alone(gate, wires[: gate.n_wires], 3)
        expected = circuit.unitary(weights)
        for read in (*qiskit.loads2(to_qasm2(circuit, weights)), qiskit.loads3(to_qasm3(circuit, weights))):
            assert_same_up_to_phase(qiskit.matrix(read), expected)


@pytest.mark.parametrize("seed", range(6))
def test_random_circuits_are_read_back(qiskit, seed):
    circuit, weights, inputs = random_circuit(seed, data=True)
    expected = circuit.unitary(weights, inputs)
    texts2, text3 = (
        to_qasm2(circuit, weights, inputs),
        to_qasm3(circuit, torch.tensor(weights, dtype=torch.float64), inputs),
    )
    for read in (*qiskit.loads2(texts2), qiskit.loads3(text3)):
        assert_same_up_to_phase(qiskit.matrix(read), expected)


@pytest.mark.parametrize("seed", range(6, 9))
def test_declared_inputs_can_be_bound_by_the_reader(qiskit, seed):
    circuit, weights, inputs = random_circuit(seed, data=True)
    read = qiskit.loads3(to_qasm3(circuit, weights))
    assert read.num_parameters > 0
    bound = read.assign_parameters({p: inputs[int(p.name.removeprefix("x_"))] for p in read.parameters})
    assert_same_up_to_phase(qiskit.matrix(bound), circuit.unitary(weights, inputs), tolerance=1e-7)


def test_the_texts_word_for_word():
    circuit = Circuit(
        2,
        (
            Operation("RY", (0,), (Input(3, 2.0),)),
            Operation("RZ", (1,), (Input(0),)),
            Operation("CRX", (1, 0), (Weight(0),)),
            Operation("SX", (1,)),
            Operation("P", (0,), (1e-05,)),
            Operation("CRX", (0, 1), (Weight(0),)),
        ),
    )
    header = (
        "// Written by darts-hpo. Wire i of the circuit is q[i]; wire 0 is the most significant bit of a state's index."
    )
    assert to_qasm2(circuit, [0.1], [1.0, 0.0, 0.0, 0.25], measure=True).splitlines() == [
        header,
        "// The features are bound to one sample: x_0 = 1.0, x_3 = 0.25.",
        "OPENQASM 2.0;",
        'include "qelib1.inc";',
        "gate darts_crx(theta) c, t { h t; crz(theta) c, t; h t; }",
        "gate darts_sx a { sdg a; h a; sdg a; }",
        "qreg q[2];",
        "creg c[2];",
        "ry(0.5) q[0];",
        "rz(1.0) q[1];",
        "darts_crx(0.1) q[1], q[0];",
        "darts_sx q[1];",
        "u1(1.0e-05) q[0];",
        "darts_crx(0.1) q[0], q[1];",
        "measure q[0] -> c[0];",
        "measure q[1] -> c[1];",
    ]
    assert to_qasm3(circuit, [0.1], measure=True).splitlines() == [
        header,
        "OPENQASM 3.0;",
        'include "stdgates.inc";',
        "input float[64] x_0;",
        "input float[64] x_3;",
        "qubit[2] q;",
        "bit[2] c;",
        "ry(2.0 * x_3) q[0];",
        "rz(x_0) q[1];",
        "crx(0.1) q[1], q[0];",
        "sx q[1];",
        "p(1.0e-05) q[0];",
        "crx(0.1) q[0], q[1];",
        "c = measure q;",
    ]


def test_measurements_are_read(qiskit):
    circuit = Circuit(2, (Operation("X", (0,)),))
    for read in (
        *qiskit.loads2(to_qasm2(circuit, [], measure=True)),
        qiskit.loads3(to_qasm3(circuit, [], measure=True)),
    ):
        pairs = {
            (read.find_bit(i.qubits[0]).index, read.find_bit(i.clbits[0]).index)
            for i in read.data
            if i.operation.name == "measure"
        }
        assert pairs == {(0, 0), (1, 1)}


def test_numbers_keep_all_their_digits():
    circuit = Circuit(1, (Operation("RX", (0,), (Weight(0),)),))
    for value in (1 / 3, -2.2250738585072014e-308, 123456789.123456789, torch.tensor(0.1).item(), 1e22):
        text = to_qasm2(circuit, [value]).rpartition("rx(")[2].partition(")")[0]
        assert float(text) == value
        assert "." in text


def test_amplitude_encoding_is_said_and_the_rest_is_written(qiskit):
    circuit = Circuit(2, (Operation("CNOT", (0, 1)),), amplitude_input=True)
    for text in (to_qasm2(circuit, []), to_qasm3(circuit, [])):
        assert "NOT THE WHOLE CIRCUIT" in text
        assert "padded with zeros to 4 amplitudes" in text
    assert_same_up_to_phase(qiskit.matrix(qiskit.loads2(to_qasm2(circuit, []))[0]), circuit.unitary())


# -- Gates from outside ----------------------------------------------------------------------------------------------


@pytest.fixture
def own_gate(monkeypatch):
    """Registers a gate for one test."""
    import quantum.gates.registry as registry

    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    monkeypatch.setattr(spelling, "_definitions", dict(spelling._definitions))

    def add(base, **changes):
        return registry.register(replace(gate_named(base), **changes))

    return add


def test_a_users_gate_is_written_by_its_qasm_name(qiskit, own_gate):
    gate = own_gate("Y", name="MyY", qasm="y")
    circuit = alone(gate, (1,), 2)
    assert_same_up_to_phase(qiskit.matrix(qiskit.loads2(to_qasm2(circuit, []))[0]), circuit.unitary())


def test_a_users_gate_without_a_name_is_refused_and_can_be_defined(qiskit, own_gate):
    gate = own_gate("RZX", name="CrossResonance", qasm="")
    circuit = alone(gate, (1, 0), 2)
    with pytest.raises(ExportError, match="CrossResonance has no OpenQASM name.*define\\('CrossResonance'"):
        to_qasm2(circuit, [0.3])
    body = ("h b", "cx a, b", "rz(t) b", "cx a, b", "h b")
    spelling.define("CrossResonance", spelling.Definition("cross_resonance", ("t",), ("a", "b"), body))
    expected = circuit.unitary([0.3])
    for read in (*qiskit.loads2(to_qasm2(circuit, [0.3])), qiskit.loads3(to_qasm3(circuit, [0.3]))):
        assert_same_up_to_phase(qiskit.matrix(read), expected)


def test_names_that_do_not_fit_are_refused(own_gate):
    own_gate("RX", name="Odd", qasm="crz")
    own_gate("RX", name="Typo", qasm="rxs")
    own_gate("RX", name="Defined", qasm="")
    spelling.define("Defined", spelling.Definition("defined", (), ("a",), ("x a",)))
    for name, message in (
        ("Odd", "'crz', which takes 1 angles and 2 wires"),
        ("Typo", "Did you mean 'rx'"),
        ("Defined", "does not fit Defined, which has 1 angles and 1 wires"),
    ):
        with pytest.raises(ExportError, match=message):
            to_qasm3(Circuit(1, (Operation(name, (0,), (0.1,)),)), [])
    with pytest.raises(ExportError, match="'Q' is no OpenQASM name"):
        spelling.Definition("fine", (), ("Q",), ())
    with pytest.raises(ExportError, match="phi, lambda, are not in alphabetical order"):
        spelling.Definition("fine", ("phi", "lambda"), ("a",), ())


def test_wrong_numbers_are_refused():
    circuit = Circuit(1, (Operation("RX", (0,), (Weight(0),)), Operation("RX", (0,), (Input(1),))))
    with pytest.raises(ExportError, match="has 1 weights; it was given 2"):
        to_qasm2(circuit, [0.1, 0.2], [0.0, 0.0])
    with pytest.raises(ExportError, match="Weight 0 of the circuit is nan"):
        to_qasm3(circuit, [math.nan])
    with pytest.raises(ExportError, match="reads 2 features; the sample has 1"):
        to_qasm3(circuit, [0.1], [0.0])
    with pytest.raises(ExportError, match="An angle of the circuit is inf"):
        to_qasm2(circuit, [0.1], [0.0, math.inf])
    with pytest.raises(ExportError, match="no variables.*to_qasm3"):
        to_qasm2(circuit, [0.1])


# -- Files -----------------------------------------------------------------------------------------------------------


def test_files_are_written_and_loaded_exactly(tmp_path):
    circuit, weights, inputs = random_circuit(11, data=True)
    names = write_circuit_files(tmp_path / "new", circuit, weights, {"accuracy": 0.84, "task": "digits"}, inputs=inputs)
    assert names == {
        "json": "circuit.json",
        "drawing": "circuit.svg",
        "qasm2": "circuit.qasm",
        "qasm3": "circuit_qasm3.qasm",
    }
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(names.values())
    assert load_circuit(tmp_path / "new" / names["json"]) == (circuit, weights)
    facts = json.loads((tmp_path / "new" / names["json"]).read_text())["facts"]
    assert facts == {"accuracy": 0.84, "task": "digits"}
    assert (tmp_path / "new" / names["qasm2"]).read_text() == to_qasm2(circuit, weights, inputs)
    assert (tmp_path / "new" / names["qasm3"]).read_text() == to_qasm3(circuit, weights)
    assert (tmp_path / "new" / names["drawing"]).read_text() == draw(circuit, weights)


def test_without_a_sample_a_circuit_that_reads_data_has_no_qasm2(tmp_path):
    circuit = Circuit(1, (Operation("RX", (0,), (Input(0),)),))
    assert "qasm2" not in write_circuit_files(tmp_path, circuit, [], {})
    assert not (tmp_path / "circuit.qasm").exists()


def test_weights_of_a_network_survive(tmp_path):
    circuit = Circuit(1, (Operation("RX", (0,), (Weight(0),)),))
    weights = torch.nn.Parameter(torch.tensor([0.1]))
    write_circuit_files(tmp_path, circuit, weights, {"loss": math.nan})
    _, loaded = load_circuit(tmp_path / "circuit.json")
    assert torch.equal(torch.tensor(loaded), weights)


def test_a_refused_circuit_leaves_no_file(tmp_path):
    circuit = Circuit(1, (Operation("RX", (0,), (Weight(0),)),))
    with pytest.raises(ExportError):
        write_circuit_files(tmp_path, circuit, [math.inf], {})
    assert not list(tmp_path.iterdir())


GOOD = {"format": "darts-hpo circuit", "weights": [], "facts": {}, "circuit": Circuit(1, ()).to_json()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "holds no circuit"),
        ('{"schema_version": 1, "choices": {}}', "holds no circuit"),
        (json.dumps({**GOOD, "weights": None}), "lacks its circuit or its weights"),
        (json.dumps({**GOOD, "weights": ["a"]}), "is damaged"),
        (json.dumps({**GOOD, "weights": [0.5]}), "has 0 weights; it was given 1"),
        (json.dumps({**GOOD, "circuit": {**GOOD["circuit"], "schema_version": 9}}), "this program reads 1"),
        (json.dumps({**GOOD, "circuit": {**GOOD["circuit"], "operations": [7]}}), "is damaged"),
        (
            json.dumps(
                {**GOOD, "circuit": {**GOOD["circuit"], "operations": [{"gate": "CNOOT", "wires": [], "angles": []}]}}
            ),
            "Did you mean 'CNOT'",
        ),
    ],
)
def test_foreign_and_damaged_files_are_named(tmp_path, text, message):
    path = tmp_path / "circuit.json"
    path.write_text(text)
    with pytest.raises(ExportError, match=message) as error:
        load_circuit(path)
    assert str(path) in str(error.value)
    assert "export the circuit again" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ExportError, match="cannot be read: No such file"):
        load_circuit(tmp_path / "none.json")
