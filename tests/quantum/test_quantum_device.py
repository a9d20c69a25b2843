"""Calibration snapshots, routes and layouts."""

import itertools
import json
import math
import shutil
import statistics
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_hpo.errors import ConfigError, DataError
from quantum.noise import (
    Device,
    DeviceNoise,
    NoiseModel,
    PairCalibration,
    QubitCalibration,
    best_layout,
    device_names,
    load_device,
)
from quantum.noise.channels import average_gate_fidelity, depolarizing
from quantum.noise.layout import routed_gates

GOOD = QubitCalibration(1e-3, 35.0, 1e5, 8e4, 0.01, 0.02)

MEDIANS = {
    # device: (qubits, date, native, one-qubit error, two-qubit error of working pairs, readout error, T1 in us)
    "lima": (5, "2021-03-15", "cx", 3.3e-4, 9.1e-3, 2.6e-2, 60),
    "quito": (5, "2021-03-15", "cx", 1.6e-3, 3.6e-2, 4.4e-2, 60),
    "manila": (5, "2024-05-27", "cx", 3.5e-4, 1.0e-2, 2.2e-2, 145),
    "jakarta": (7, "2024-05-27", "cx", 2.8e-4, 9.0e-3, 2.5e-2, 118),
    "kolkata": (27, "2021-12-09", "cx", 2.0e-4, 7.5e-3, 9.6e-3, 111),
    "sherbrooke": (127, "2025-02-26", "ecr", 2.4e-4, 7.5e-3, 2.0e-2, 278),
    "torino": (133, "2025-02-26", "cz", 2.7e-4, 4.1e-3, 2.3e-2, 185),
    "fez": (156, "2025-02-26", "cz", 2.3e-4, 3.8e-3, 7.6e-3, 145),
    "boston": (156, "2026-04-17", "cz", 1.4e-4, 1.3e-3, 5.1e-3, 292),
}


def device(errors, qubits=None):
    """A device with pairs of the given errors."""
    n = 1 + max(itertools.chain.from_iterable(errors))
    return Device(
        name="mine",
        qubits=tuple(qubits or [GOOD] * n),
        pairs={pair: PairCalibration("cx", error, 300.0) for pair, error in errors.items()},
        directions=tuple(errors),
        basis_gates=("cx", "sx", "rz", "x"),
    )


@pytest.mark.parametrize("name", MEDIANS)
def test_medians_are_those_of_the_machine(name):
    n_qubits, date, native, one_qubit, two_qubit, readout, t1 = MEDIANS[name]
    machine = load_device(name)
    assert (machine.n_qubits, machine.date[:10]) == (n_qubits, date)
    assert {pair.gate for pair in machine.pairs.values()} == {native}
    assert statistics.median(q.error for q in machine.qubits) == pytest.approx(one_qubit, rel=0.04)
    working = [pair.error for pair in machine.pairs.values() if pair.error < 1]
    assert statistics.median(working) == pytest.approx(two_qubit, rel=0.03)
    misread = [(q.read_1_given_0 + q.read_0_given_1) / 2 for q in machine.qubits]
    assert statistics.median(misread) == pytest.approx(readout, rel=0.03)
    assert statistics.median(q.t1 for q in machine.qubits) / 1000 == pytest.approx(t1, rel=0.01)


@pytest.mark.parametrize("name", device_names())
def test_every_shipped_snapshot_can_be_read(name):
    machine = load_device(name)
    assert machine.n_qubits > 0
    assert all(q.error is not None and q.read_1_given_0 is not None for q in machine.qubits)
    assert all(0 <= first < second < machine.n_qubits for first, second in machine.pairs)


@pytest.mark.parametrize("name", ["manila", "fake_manila", "ibm_manila", "ibmq_manila", "FakeManilaV2", "Manila"])
def test_a_device_has_several_names(name):
    assert load_device(name).name == "manila"


def test_there_are_many_devices():
    assert len(device_names()) >= 60
    assert {"manila", "sherbrooke", "torino"} <= set(device_names())


def test_an_unknown_device_is_refused_with_the_nearest_names():
    with pytest.raises(ConfigError, match="Unknown device: 'manilla'. Did you mean 'manila'"):
        load_device("manilla")


def test_reading_a_device_does_not_import_the_package_that_ships_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "qiskit_ibm_runtime", raising=False)
    DeviceNoise("manila", n_wires=3).after("CNOT", [0, 1])
    assert "qiskit_ibm_runtime" not in sys.modules


# -- Files of one's own ----------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Manila's files in a folder, to be changed."""
    source = Path(load_device("manila").source).parent
    for file in source.glob("*.json"):
        shutil.copy(file, tmp_path / file.name.replace("manila", "mine"))
    return tmp_path


def change(folder, edit):
    file = folder / "props_mine.json"
    data = json.loads(file.read_text())
    edit(data)
    file.write_text(json.dumps(data))


def drop_qubit_rate(number, *names):
    def edit(data):
        data["qubits"][number] = [entry for entry in data["qubits"][number] if entry["name"] not in names]

    return edit


def null_gate_rate(gate, qubits, name):
    def edit(data):
        for entry in data["gates"]:
            if entry["gate"] == gate and sorted(entry["qubits"]) == qubits:
                next(p for p in entry["parameters"] if p["name"] == name)["value"] = None

    return edit


@pytest.mark.parametrize("given", ["", "props_mine.json"])
def test_a_folder_or_a_file_of_ones_own_is_read(files, given):
    own, shipped = load_device(files / given), load_device("manila")
    assert own.name == "mine"
    assert (own.qubits, own.pairs, own.basis_gates) == (shipped.qubits, shipped.pairs, shipped.basis_gates)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (drop_qubit_rate(3, "prob_meas1_prep0", "readout_error"), ["props_mine.json", "qubit 3", "prob_meas1_prep0"]),
        (null_gate_rate("sx", [2], "gate_error"), ["props_mine.json", "qubit 2", "gate_error"]),
        (null_gate_rate("cx", [1, 2], "gate_error"), ["props_mine.json", "the cx of qubits 1 and 2", "gate_error"]),
    ],
)
def test_a_calibration_without_a_needed_rate_names_file_qubit_and_rate(files, edit, words):
    change(files, edit)
    with pytest.raises(DataError) as error:
        DeviceNoise(files, n_wires=5).after("CNOT", [0, 1])
    assert all(word in str(error.value) for word in [*words, "layout=[...]"])
    # The same where the qubits are given; qubits that have their rates can be used.
    with pytest.raises(DataError, match="props_mine.json"):
        DeviceNoise(files, layout=[0, 1, 2, 3]).after("CNOT", [1, 2])
    assert len(DeviceNoise(files, n_wires=2).layout) == 2


def test_relaxation_needs_times_and_says_how_to_do_without(files):
    change(files, drop_qubit_rate(1, "T1"))
    change(files, null_gate_rate("cx", [2, 3], "gate_length"))
    noise = DeviceNoise(files, layout=[0, 1, 2, 3])
    assert noise.after("SX", [0]) is not None
    with pytest.raises(DataError, match=r"qubit 1 has no T1\. .*relaxation=false"):
        noise.after("SX", [1])
    with pytest.raises(DataError, match="the cx of qubits 2 and 3 has no gate_length"):
        noise.after("CNOT", [2, 3])
    assert DeviceNoise(files, layout=[0, 1, 2, 3], relaxation=False).after("CNOT", [1, 2]) is not None


def test_a_folder_without_a_calibration_does_not_hide_a_device_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lima").mkdir()
    assert load_device("lima").n_qubits == 5


def test_a_device_that_is_too_small_is_not_blamed_on_missing_rates(files):
    change(files, drop_qubit_rate(3, "prob_meas1_prep0", "readout_error"))
    with pytest.raises(ConfigError, match="no 6 connected qubits"):
        DeviceNoise(files, n_wires=6)


def test_one_readout_error_stands_for_both(files):
    change(files, drop_qubit_rate(0, "prob_meas1_prep0", "prob_meas0_prep1"))
    mean = sum(DeviceNoise("manila", layout=[0]).readout(0)) / 2
    assert DeviceNoise(files, layout=[0]).readout(0) == pytest.approx((mean, mean))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "conf_mine.json").unlink(), "conf_mine.json is not beside it"),
        (lambda f: (f / "props_mine.json").unlink(), "0 files are named props_"),
        (lambda f: (f / "props_mine.json").write_text("{"), "props_mine.json: it cannot be read as JSON"),
        (lambda f: (f / "props_mine.json").write_text("[]"), "expected a JSON object"),
        (lambda f: (f / "conf_mine.json").write_text("{}"), "the entry 'n_qubits' is missing"),
        (lambda f: change(f, lambda data: data["qubits"].pop()), "describes 4 qubits, but the device has 5"),
        (lambda f: change(f, lambda data: data["gates"][0].pop("qubits")), "malformed: KeyError('qubits')"),
        (lambda f: change(f, lambda data: data["qubits"][0][0].update(unit="years")), "T1 has the unit 'years'"),
    ],
)
def test_unreadable_files_are_named(files, spoil, words):
    spoil(files)
    with pytest.raises(DataError) as error:
        load_device(files)
    assert words in str(error.value)


def test_an_absent_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no such calibration"):
        load_device(tmp_path / "nowhere")


# -- Routes ----------------------------------------------------------------------------------------------------------


def test_a_route_has_fewest_hops_and_then_least_error():
    square = device({(0, 1): 0.01, (1, 3): 0.01, (0, 2): 0.02, (2, 3): 0.001, (3, 4): 0.01})
    assert square.route(0, 3) == (0, 1, 3)
    assert square.route(3, 0) == (3, 1, 0)
    assert square.route(4, 2) == (4, 3, 2)


def test_broken_gates_and_qubits_are_avoided():
    broken = device({(0, 1): 1.0, (1, 2): 0.01, (2, 3): 0.01, (0, 3): 0.01})
    assert broken.route(0, 1) == (0, 3, 2, 1)
    assert (0, 1) not in [tuple(sorted(p)) for p in itertools.pairwise(best_layout(broken, 4))]
    dead = QubitCalibration(1.0, 35.0, 1e5, 8e4, 0.01, 0.02)
    line = device({(0, 1): 0.01, (1, 2): 0.01}, [GOOD, dead, GOOD])
    with pytest.raises(ConfigError, match="No working pairs of mine connect the qubits 0 and 2"):
        line.route(0, 2)
    with pytest.raises(ConfigError, match="qubit 1 of mine was out of order"):
        line.require_layout([0, 1])


def test_routing_swaps_there_and_back_and_meets_on_the_worst_pair():
    line = device({(0, 1): 0.01, (1, 2): 0.03, (2, 3): 0.02})
    pairs = [pair for pair, _ in routed_gates(line, 0, 3, 2)]
    there = [(0, 1)] * 3 + [(2, 3)] * 3
    assert pairs == [*there, (1, 2), (1, 2), *reversed(there)]
    back = [pair[::-1] for pair, _ in routed_gates(line, 3, 0, 2)]
    assert sorted(back) == sorted(pairs)
    assert [pair for pair, _ in routed_gates(line, 1, 0, 3)] == [(1, 0)] * 3


def test_uncoupled_wires_pay_for_every_native_gate_of_the_route():
    noise = DeviceNoise("manila", layout=[0, 1, 2, 3, 4], relaxation=False)
    machine = load_device("manila")
    errors = [machine.pairs[pair].error for pair in ((0, 1), (1, 2), (2, 3))]
    worst = max(errors)
    expected = -sum(math.log1p(-e) * (1 if e == worst else 6) for e in errors)
    assert noise.log_infidelity("CNOT", [3, 0]) == pytest.approx(expected)
    shrink = math.prod((1 - 4 / 3 * e) ** (1 if e == worst else 6) for e in errors)
    torch.testing.assert_close(noise.after("CNOT", [0, 3]), depolarizing(1 - shrink, 2))


def test_native_gates_have_the_calibrated_error():
    """Also with relaxation: depolarizing makes up the rest."""
    machine, noise = load_device("sherbrooke"), DeviceNoise("sherbrooke", n_wires=4)
    for wires in ([0, 1], [2, 1], [2, 3]):
        pair = tuple(sorted(noise.layout[wire] for wire in wires))
        fidelity = average_gate_fidelity(noise.after("CNOT", wires))
        assert 1 - fidelity == pytest.approx(machine.pairs[pair].error, rel=1e-9)
        assert noise.log_infidelity("CNOT", wires) == pytest.approx(-math.log(fidelity))


# -- Layouts ---------------------------------------------------------------------------------------------------------


def total_error(machine, layout, closed):
    """What :func:`best_layout` minimises, written down again."""
    pairs = [*itertools.pairwise(layout)] + ([(layout[-1], layout[0])] if closed else [])
    qubits = [machine.qubits[q] for q in layout]
    total = -sum(math.log(1 - q.error) + math.log(1 - (q.read_1_given_0 + q.read_0_given_1) / 2) for q in qubits)
    return total + sum(cost for pair in pairs for _, cost in routed_gates(machine, *pair, 1))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_layout_is_the_best_of_all(data):
    n = data.draw(st.integers(4, 7))
    rate = st.floats(1e-4, 0.1)
    edges = {(data.draw(st.integers(0, b - 1)), b): data.draw(rate) for b in range(1, n)}
    for pair in itertools.combinations(range(n), 2):
        if pair not in edges and data.draw(st.integers(0, 3)) == 0:
            edges[pair] = data.draw(rate)
    qubits = [QubitCalibration(data.draw(rate), 35.0, 1e5, 8e4, data.draw(rate), 0.02) for _ in range(n)]
    machine, n_wires = device(edges, qubits), data.draw(st.integers(1, 4))
    topology = data.draw(st.sampled_from(["chain", "ring"]))
    closed = topology == "ring" and n_wires > 2

    def coupled(layout):
        return all(b in machine.neighbours[a] for a, b in itertools.pairwise(layout))

    def grown(layout):
        return all(any(b in machine.neighbours[a] for a in layout[:i]) for i, b in enumerate(layout) if i)

    everything = list(itertools.permutations(range(n), n_wires))
    candidates = [p for p in everything if coupled(p)] or [p for p in everything if grown(p)]
    found = best_layout(machine, n_wires, topology)
    least = min(total_error(machine, layout, closed) for layout in candidates)
    assert total_error(machine, found, closed) == pytest.approx(least, abs=1e-10)
    assert found == best_layout(machine, n_wires, topology)


@pytest.mark.parametrize("name", ["sherbrooke", "boston", "nighthawk"])
def test_a_chain_on_a_large_device_is_coupled(name):
    noise = DeviceNoise(name, n_wires=6)
    assert {(wire, wire + 1) for wire in range(5)} <= set(noise.coupled_wires)


def test_a_ring_is_closed_where_the_device_can():
    grid = DeviceNoise("nighthawk", n_wires=4, topology="ring")
    assert (0, 3) in grid.coupled_wires
    assert (0, 3) not in DeviceNoise("manila", n_wires=4, topology="ring").coupled_wires


def test_a_device_in_the_shape_of_a_t_carries_five_wires():
    assert sorted(best_layout(load_device("lima"), 5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DeviceNoise("manila", n_wires=6), "no 6 connected qubits that work: of 5 qubits 5 do"),
        (lambda: DeviceNoise("manila", n_wires=0), "at least one wire"),
        (lambda: DeviceNoise("manila", n_wires=3, topology="rng"), "Did you mean 'ring'"),
        (lambda: DeviceNoise("manila", layout=[0, 5]), "uses the qubit 5, but manila has 5: expected 0 to 4"),
        (lambda: DeviceNoise("manila", layout=[0, 0]), "uses a qubit twice"),
        (lambda: DeviceNoise("manila", layout=[0, 1], n_wires=3), "has 2 qubits, but n_wires=3"),
        (lambda: DeviceNoise("manila", layout=[0, 1]).for_wires(3), "laid out for 2 wires, the circuit has 3"),
        (lambda: DeviceNoise("manila", layout=[0, 1]).after("X", [2]), "Wire 2 has no qubit in the layout"),
        (lambda: DeviceNoise("manila").after("X", [0]), "call for_wires"),
        (lambda: DeviceNoise("kyoto", n_wires=3), "of 144 pairs 0"),
    ],
)
def test_layouts_that_do_not_fit_are_refused(make, words):
    with pytest.raises(ConfigError) as error:
        make()
    assert words in str(error.value)


def test_a_model_without_wires_is_laid_out_later():
    noise = DeviceNoise("manila")
    bound = noise.for_wires(3, "ring")
    assert bound.layout == DeviceNoise("manila", n_wires=3, topology="ring").layout
    assert bound.for_wires(3) is bound
    with pytest.raises(ConfigError):
        _ = noise.layout


def test_noise_of_files_of_ones_own_is_found_again_from_any_folder(files, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(files.parent)
    data = DeviceNoise(f"./{files.name}", n_wires=3).to_data()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert NoiseModel.from_data(data).to_data() == data
    assert Path(data["device"]) == files.resolve()
    assert DeviceNoise("manila").to_data()["device"] == "manila"


@pytest.mark.parametrize(
    ("edit", "settings"),
    [
        # A layout needs errors alone; times are asked for by the gates.
        (null_gate_rate("sx", [0], "gate_length"), {"one_qubit": ["I", "RX"]}),
        (drop_qubit_rate(0, "T1"), {"one_qubit": ["I", "RX"]}),
        (null_gate_rate("cx", [1, 2], "gate_length"), {"two_qubit": ["I", "CZ"]}),
        (drop_qubit_rate(0, "T2"), {"one_qubit": ["I"], "topology": [], "encoder": "angle_rx", "n_inputs": 3}),
    ],
)
def test_a_rate_that_a_search_needs_is_missed_before_it(files, edit, settings):
    from quantum.supercircuit import Supercircuit

    few = {"n_wires": 3, "n_layers": 1, "one_qubit": ["I"], "two_qubit": ["I"], "topology": "chain", **settings}
    noise = DeviceNoise(files, layout=[0, 1, 2])
    Supercircuit(**few, noise=noise)
    change(files, edit)
    noise = DeviceNoise(files, layout=[0, 1, 2])
    with pytest.raises(DataError, match="props_mine.json"):
        Supercircuit(**few, noise=noise)
    Supercircuit(**few, noise=noise, noisy=[])  # which never asks
