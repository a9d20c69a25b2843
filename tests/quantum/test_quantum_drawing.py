"""Drawings: well-formed, complete, and nothing on top of anything else."""

from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ElementTree

import pytest

from darts_hpo.errors import GenotypeError
from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.drawing import draw
from quantum.gates import POOL

SVG = "{http://www.w3.org/2000/svg}"


def parse(text):
    return ElementTree.fromstring(text)


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def operations(root):
    """The groups of gates: those with a tooltip."""
    return [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]


def extent(group):
    """The rectangle that a gate covers: left, top, right, bottom."""
    xs, ys = [], []
    for shape in group.iter():
        kind = shape.tag.removeprefix(SVG)
        get = lambda name, shape=shape: float(shape.get(name))  # noqa: E731
        if kind == "rect":
            xs += [get("x"), get("x") + get("width")]
            ys += [get("y"), get("y") + get("height")]
        elif kind == "circle":
            xs += [get("cx") - get("r"), get("cx") + get("r")]
            ys += [get("cy") - get("r"), get("cy") + get("r")]
        elif kind == "line":
            xs += [get("x1"), get("x2")]
            ys += [get("y1"), get("y2")]
    return min(xs), min(ys), max(xs), max(ys)


def random_circuit(seed, n_wires, count):
    draw_from = random.Random(seed)
    found, weights = [], 0
    for _ in range(count):
        gate = draw_from.choice(POOL)
        angles = tuple(Weight(weights + i) for i in range(gate.n_parameters))
        weights += gate.n_parameters
        found.append(Operation(gate.name, tuple(draw_from.sample(range(n_wires), gate.n_wires)), angles))
    return Circuit(n_wires, tuple(found))


@pytest.mark.parametrize(("n_wires", "count"), [(2, 8), (4, 30), (8, 90)])
@pytest.mark.parametrize("bound", [True, False])
def test_gates_are_all_there_and_do_not_touch(n_wires, count, bound):
    circuit = random_circuit(count, n_wires, count)
    root = parse(draw(circuit, [-1.234567] * circuit.n_weights if bound else None))
    groups = operations(root)
    assert len(groups) == count
    places = [extent(group) for group in groups]
    width, height = float(root.get("width")), float(root.get("height"))
    for index, (left, top, right, bottom) in enumerate(places):
        assert 0 < left < right < width <= 980
        assert 0 < top < bottom < height
        for other in places[:index]:
            assert right < other[0] or other[2] < left or bottom < other[1] or other[3] < top


def test_order_on_a_wire_is_kept_from_left_to_right():
    circuit = random_circuit(3, 3, 12)
    groups = operations(parse(draw(circuit)))
    tooltips = [group.find(f"{SVG}title").text for group in groups]
    for wire in range(3):
        on_wire = [
            extent(group)[0]
            for group, tooltip in zip(groups, tooltips, strict=True)
            if str(wire) in tooltip.rpartition("wire")[2]
        ]
        assert on_wire == sorted(on_wire)


def test_gates_that_do_not_collide_share_a_column():
    circuit = Circuit(3, (Operation("H", (0,)), Operation("CNOT", (1, 2)), Operation("X", (0,)), Operation("H", (2,))))
    left = [round(sum(extent(group)[::2]) / 2, 1) for group in operations(parse(draw(circuit)))]
    assert left[0] == left[1] < left[2] == left[3]


def test_a_gate_under_a_control_line_waits():
    """The line from wire 0 to wire 2 crosses wire 1, so wire 1's gate has a column of its own."""
    circuit = Circuit(3, (Operation("CNOT", (0, 2)), Operation("H", (1,))))
    first, second = operations(parse(draw(circuit)))
    assert extent(first)[2] < extent(second)[0]


def test_angles_are_values_symbols_and_fractions_of_pi():
    circuit = Circuit(
        2,
        (
            Operation("RX", (0,), (Weight(0),)),
            Operation("RY", (0,), (Input(12),)),
            Operation("RZ", (1,), (Input(1, 2.0),)),
            Operation("P", (1,), (math.pi / 2,)),
            Operation("RX", (1,), (-3 * math.pi / 4,)),
            Operation("RX", (1,), (0.25,)),
            Operation("RY", (0,), (Input(3, -1.0),)),
            Operation("RY", (0,), (Weight(10),)),
            *(Operation("RY", (0,), (Weight(i),)) for i in range(1, 10)),
        ),
    )
    symbols = texts(parse(draw(circuit)))
    minus = "\N{MINUS SIGN}"
    for expected in ("θ₀", "θ₁₀", "x₁₂", "2 x₁", "π/2", f"{minus}3π/4", "0.25", f"{minus}x₃", "q₀", "q₁"):
        assert expected in symbols
    values = texts(parse(draw(circuit, [-1.23456, *[0.0123456] * 10])))
    assert f"{minus}1.23" in values
    assert "0.012" in values
    assert not any("θ" in value for value in values)


def test_the_first_wire_is_the_control():
    circuit = Circuit(2, (Operation("CNOT", (1, 0)), Operation("CRX", (1, 0), (0.1,))))
    cnot, crx = operations(parse(draw(circuit)))
    dot, ring = cnot.findall(f"{SVG}circle")
    assert float(dot.get("cy")) > float(ring.get("cy"))
    assert float(crx.find(f"{SVG}circle").get("cy")) > float(crx.find(f"{SVG}rect").get("y"))


def test_ising_gates_say_which_wire_has_which_pauli():
    (group,) = operations(parse(draw(Circuit(2, (Operation("RZX", (1, 0), (0.1,)),)))))
    marks = {element.text: float(element.get("y")) for element in group.iter(f"{SVG}text")}
    assert marks["X"] < marks["RZX"] < marks["Z"]


def test_a_title_is_escaped_and_accessible():
    root = parse(draw(Circuit(1, ()), title='<b>a & b</b> "q"'))
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.find(f"{SVG}title").text == '<b>a & b</b> "q"'
    assert '<b>a & b</b> "q"' in texts(root)
    untitled = parse(draw(Circuit(2, (Operation("H", (0,)),))))
    assert untitled.get("aria-label") == "Quantum circuit: 2 wires, 1 gate"


def test_ink_follows_the_page_and_nothing_is_loaded():
    text = draw(random_circuit(1, 3, 10))
    assert "currentColor" in text
    assert "prefers-color-scheme:dark" in text
    assert "#000000" not in text
    assert "href" not in text
    assert "<script" not in text


def test_amplitude_input_is_drawn_first():
    circuit = Circuit(2, (Operation("H", (1,)),), amplitude_input=True)
    first, second = operations(parse(draw(circuit)))
    assert "amplitude encoding" in first.find(f"{SVG}title").text
    assert extent(first)[2] < extent(second)[0]
    assert extent(first)[3] > extent(second)[1]


def test_long_circuits_continue_below_in_rows_of_like_length():
    circuit = Circuit(1, tuple(Operation("H", (0,)) for _ in range(40)))
    rows = {}
    for group in operations(parse(draw(circuit))):
        rows.setdefault(extent(group)[1], []).append(group)
    assert [len(groups) for groups in rows.values()] in ([14, 14, 12], [20, 20])


def test_another_number_of_weights_is_refused():
    with pytest.raises(GenotypeError, match="has 1 weights; it was given 3"):
        draw(Circuit(1, (Operation("RX", (0,), (Weight(0),)),)), [1.0, 2.0, 3.0])
