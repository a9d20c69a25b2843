"""Programs: what engines run, and circuits as programs."""

import itertools

import pytest
import torch

from darts_hpo.errors import SpaceError
from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.encoders import encoder
from quantum.engines import StatevectorEngine
from quantum.gates import QuantumGate, gate_named, register, transfer_of
from quantum.gates import registry as registry_module
from quantum.program import CompiledCircuit, DataSlot, Encoding, Program, Slot

AMPLITUDE = Encoding("amplitude", amplitude=True)
PROGRAM = Program(
    2,
    (
        DataSlot((encoder("angle", 2, 2), AMPLITUDE, None)),
        Slot((0,), ("I", "U3", "RX")),
        Slot((0, 1), ("CRX", "I", "CU3")),
        DataSlot((None, encoder("angle_rx", 2, 2))),
        Slot((1,), ("RY",)),
    ),
)


def test_angles_belong_to_candidates():
    assert [slot.n_parameters for slot in PROGRAM.slots] == [4, 4, 1]
    assert PROGRAM.n_parameters == 9
    assert len(PROGRAM.data_slots) == 2


def test_the_circuit_of_a_choice_keeps_the_angles_of_what_was_chosen():
    circuit, kept = PROGRAM.circuit([1, 2, 0], [0, 1])
    assert [op.gate for op in circuit.operations] == ["RY", "RY", "U3", "CU3", "RX", "RX", "RY"]
    assert kept == [0, 1, 2, 5, 6, 7, 8]
    assert circuit.n_weights == 7
    assert circuit.operations[3].angles == (Weight(3), Weight(4), Weight(5))
    empty, kept = PROGRAM.circuit([0, 1, 0], [1, 0])
    assert [op.gate for op in empty.operations] == ["RY"]
    assert empty.amplitude_input
    assert kept == [8]


def test_every_choice_of_a_program_is_its_circuit():
    """By the program at one-hot weights, and by the circuit compiled again."""
    engine, inputs = StatevectorEngine(), torch.rand(3, 2, dtype=torch.float64)
    parameters = torch.rand(9, dtype=torch.float64)
    for choices in itertools.product(range(3), range(3), [0], range(3), range(2)):
        slots, data = choices[:3], choices[3:]
        circuit, kept = PROGRAM.circuit(slots, data)
        compiled = CompiledCircuit.of(circuit)
        own = parameters[kept][list(compiled.sources)]
        state = engine.run(compiled.program, own, inputs=inputs)
        mixture = torch.cat([torch.eye(n)[c] for n, c in zip((3, 3, 1), slots, strict=True)])
        weights = [torch.eye(n)[c] for n, c in zip((3, 2), data, strict=True)]
        torch.testing.assert_close(state, engine.run(PROGRAM, parameters, mixture, weights, inputs))


def test_a_circuit_becomes_encodings_and_slots():
    """What precedes the first data on single wires joins them; data in the middle stay in the middle."""
    circuit = Circuit(
        2,
        (
            Operation("H", (0,)),
            Operation("RX", (1,), (0.4,)),
            Operation("RY", (0,), (Input(0),)),
            Operation("RX", (1,), (0.7,)),
            Operation("RZ", (0,), (Weight(0),)),
            Operation("CRX", (0, 1), (Input(1),)),
            Operation("RY", (1,), (Input(0),)),
            Operation("U3", (1,), (Weight(1), 0.5, Weight(0))),
        ),
    )
    compiled = CompiledCircuit.of(circuit)
    first, rx, rz, middle, u3 = compiled.program.elements
    assert [op.gate for op in first.options[0].operations] == ["H", "RX", "RY"]
    assert (rx, rz) == (Slot((1,), ("RX",)), Slot((0,), ("RZ",)))
    assert [op.gate for op in middle.options[0].operations] == ["CRX", "RY"]
    assert u3 == Slot((1,), ("U3",))
    assert compiled.constants == (0.7, 0.5)
    assert compiled.sources == (2, 0, 1, 3, 0)
    weights, inputs = [0.3, -1.0], torch.rand(3, 2, dtype=torch.float64)
    parameters = torch.tensor([*weights, *compiled.constants], dtype=torch.float64)[list(compiled.sources)]
    state = StatevectorEngine().run(compiled.program, parameters, inputs=inputs)
    for sample, column in zip(inputs, state.T, strict=True):
        torch.testing.assert_close(column, circuit.unitary(weights, sample.tolist())[:, 0])


def test_a_circuit_without_data_has_slots_only():
    compiled = CompiledCircuit.of(Circuit(1, (Operation("H", (0,)), Operation("I", (0,)))))
    assert compiled.program.elements == (Slot((0,), ("H",)), Slot((0,), ("I",)))
    assert (compiled.sources, compiled.constants) == ((), ())


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry_module, "_registry", dict(registry_module._registry))


@pytest.mark.usefixtures("own_registry")
def test_a_gate_of_ones_own_runs_in_every_form():
    """Registered once, it is known to slots, circuits and engines."""

    def matrix(angles):
        return gate_named("RX").matrix(2 * angles)

    register(QuantumGate("DoubleRX", 1, 1, matrix, transfer_of(matrix), "rx2", 0, 2))
    program = Program(1, (Slot((0,), ("DoubleRX", "H")),))
    angles = torch.tensor([0.4], dtype=torch.float64)
    state = StatevectorEngine().run(program, angles, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(state, gate_named("RX").matrix(2 * angles)[:, :1])


@pytest.mark.usefixtures("own_registry")
def test_gates_on_three_wires_are_refused_as_slots():
    def matrix(angles):
        kind = torch.complex128 if angles.dtype == torch.float64 else torch.complex64
        return torch.eye(8, dtype=kind).expand(*angles.shape[:-1], 8, 8)

    register(QuantumGate("Nothing3", 3, 0, matrix, transfer_of(matrix), "id3", 0, 0))
    with pytest.raises(SpaceError, match="engines run gates on one wire or on two"):
        CompiledCircuit.of(Circuit(3, (Operation("Nothing3", (0, 1, 2)),)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Slot((0,), ()), r"slot on wires \[0\] has no candidate"),
        (lambda: Slot((0,), ("CNOT",)), r"CNOT acts on 2 wires, but its slot on \[0\]"),
        (lambda: Slot((0, 1), ("I", "RX")), r"RX acts on 1 wires, but its slot on \[0, 1\]"),
        (lambda: Slot((0,), ("RXY",)), "Unknown gate: 'RXY'. Did you mean 'RY' or 'RX'"),
        (lambda: Slot((1, 1), ("CNOT",)), r"has the wires \[1, 1\]"),
        (lambda: Slot((), ("I",)), r"has the wires \[\]"),
        (lambda: Program(2, (Slot((2,), ("H",)),)), r"A slot uses the wires \[2\], but there are 2: expected 0 to 1"),
        (lambda: Program(2, (Slot((-1,), ("H",)),)), "expected 0 to 1"),
        (lambda: Program(2, (DataSlot((encoder("angle", 3, 3),)),)), "The encoding 'angle' uses the wires"),
        (lambda: Program(0, ()), "at least one wire, not 0"),
        (lambda: Program(1, (Slot((0,), ("H",)), DataSlot((AMPLITUDE,)))), "it can only come first"),
        (lambda: Program(1, (DataSlot((None,)), DataSlot((None, AMPLITUDE)))), "it can only come first"),
        (
            lambda: CompiledCircuit.of(Circuit(1, (Operation("U3", (0,), (Weight(0), Input(0), 0.1)),))),
            "has trained angles and angles from data; write it as two operations",
        ),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(SpaceError, match=words):
        make()
