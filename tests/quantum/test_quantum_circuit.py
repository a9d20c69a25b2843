"""Circuits as data."""

import json
import math

import pytest
import torch

from darts_hpo.errors import GenotypeError, SpaceError
from quantum.circuit import Circuit, Input, Operation, Weight

CIRCUIT = Circuit(
    3,
    (
        Operation("H", (0,)),
        Operation("RY", (1,), (Input(2, 0.5),)),
        Operation("CNOT", (0, 2)),
        Operation("I", (1,)),
        Operation("U3", (2,), (Weight(1), 0.25, Weight(0))),
        Operation("RZZ", (2, 1), (Weight(1),)),
    ),
)


def test_counts():
    assert (CIRCUIT.n_weights, CIRCUIT.n_inputs, CIRCUIT.n_two_qubit) == (2, 3, 2)
    assert CIRCUIT.depth == 4  # H, CNOT, U3, RZZ; the identity takes no time
    amplitudes = Circuit(3, CIRCUIT.operations, amplitude_input=True)
    assert amplitudes.n_inputs == 8
    empty = Circuit(2, ())
    assert (empty.n_weights, empty.n_inputs, empty.depth, empty.n_two_qubit) == (0, 0, 0, 0)


def test_angles_come_from_weights_inputs_and_constants():
    assert CIRCUIT.angle_values(CIRCUIT.operations[1], [], [0, 0, 3]) == [1.5]
    assert CIRCUIT.angle_values(CIRCUIT.operations[4], [7.0, 8.0]) == [8.0, 0.25, 7.0]


def test_json_round_trip_is_exact():
    constant = Circuit(1, (Operation("RX", (0,), (0.1 + 0.2,)), Operation("RY", (0,), (math.pi,))))
    for circuit in (CIRCUIT, constant, Circuit(3, CIRCUIT.operations, amplitude_input=True)):
        assert Circuit.from_json(json.loads(json.dumps(circuit.to_json()))) == circuit
        assert json.loads(str(circuit)) == circuit.to_json()


def test_the_unitary_by_hand():
    """A Bell pair on wires 0 and 2, wire 0 the most significant bit; U3(t, p, l) turns |0>."""
    bell = Circuit(3, (Operation("H", (0,)), Operation("CNOT", (0, 2)))).unitary()
    expected = torch.zeros(8, dtype=torch.complex128)
    expected[0b000] = expected[0b101] = math.sqrt(0.5)
    torch.testing.assert_close(bell[:, 0], expected)
    flipped = Circuit(2, (Operation("X", (0,)), Operation("CNOT", (1, 0)))).unitary()
    assert flipped[0b10, 0b00] == 1  # control 1 is off
    assert flipped[0b01, 0b01] == 1  # 01 -> 11 -> 01
    turned = Circuit(1, (Operation("U3", (0,), (Weight(0), Input(0, 2.0), 0.3)),)).unitary([0.8], [0.45])
    torch.testing.assert_close(turned[0, 0].real.item(), math.cos(0.4))
    torch.testing.assert_close(turned[1, 0].item(), math.sin(0.4) * complex(math.cos(0.9), math.sin(0.9)))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Operation("CNOTT", (0, 1)), SpaceError, "Did you mean 'CNOT'"),
        (lambda: Operation("CNOT", (0,)), GenotypeError, r"CNOT acts on 2 wires; it was given \[0\]"),
        (lambda: Operation("RX", (0,)), GenotypeError, "RX takes 1 angles; it was given 0"),
        (lambda: Operation("CZ", (1, 1)), GenotypeError, "the wire 1 twice"),
        (lambda: Operation("H", (-1,)), GenotypeError, "the wire -1; wires count from 0"),
        (lambda: Circuit(0, ()), GenotypeError, "at least one wire, not 0"),
        (lambda: Circuit(2, (Operation("H", (2,)),)), GenotypeError, "the wire 2, but the circuit has 2: expected 0"),
        (lambda: Circuit(1, (Operation("RX", (0,), (Weight(1),)),)), GenotypeError, r"uses the weights \[0\]"),
        (lambda: Circuit.from_json({"schema_version": 2}), GenotypeError, "schema_version 2; this program reads 1"),
        (lambda: Circuit.from_json({"schema_version": 1, "n_wires": 1}), GenotypeError, "lacks the key 'operations'"),
        (lambda: Circuit.from_json({**CIRCUIT.to_json(), "n_wires": "x"}), GenotypeError, "malformed"),
        (lambda: Circuit.from_json({**CIRCUIT.to_json(), "operations": 3}), GenotypeError, "malformed"),
    ],
)
def test_mistakes_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("angle", [float("nan"), float("inf"), "x", {"inpt": 0}, [1.0]])
def test_malformed_angles_are_refused(angle):
    data = CIRCUIT.to_json()
    data["operations"][1]["angles"] = [angle]
    with pytest.raises(GenotypeError):
        Circuit.from_json(data)
