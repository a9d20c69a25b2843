"""Costs of circuits, counted by hand and compared with qiskit's compiler."""

import math

import pytest
from torch import nn

from darts_hpo.errors import ConfigError
from quantum.circuit import Circuit, Operation, Weight
from quantum.costs import (
    CircuitDepth,
    DeviceDepth,
    LogInfidelity,
    NativeTwoQubitGates,
    SuccessProbability,
    TwoQubitGates,
)
from quantum.noise import DeviceNoise, UniformNoise, load_device


class Network(nn.Module):
    def __init__(self, circuit, measured_wires=(), noise=None):
        super().__init__()
        self.circuit, self.measured_wires, self.noise = circuit, measured_wires, noise


CIRCUIT = Circuit(
    4,
    (
        Operation("H", (0,)),
        Operation("CNOT", (0, 1)),
        Operation("RZ", (1,), (Weight(0),)),
        Operation("CRX", (1, 2), (Weight(1),)),
        Operation("SWAP", (0, 3)),
        Operation("I", (2,)),
        Operation("RY", (2,), (Weight(2),)),
    ),
)
NETWORK = Network(CIRCUIT, (0, 2))
LINE = [0, 1, 2, 3]  # Manila is a line


def parts(circuit):
    return [Network(Circuit(circuit.n_wires, (_first_weights(op),))) for op in circuit.operations]


def _first_weights(operation):
    return Operation(operation.gate, operation.wires, tuple(Weight(i) for i in range(len(operation.angles))))


def test_two_qubit_gates_are_counted():
    assert TwoQubitGates().measure(NETWORK, ()) == 3


def test_native_gates_are_those_of_the_decompositions():
    assert NativeTwoQubitGates().measure(NETWORK, ()) == 1 + 2 + 3
    assert NativeTwoQubitGates().conditions() == {}


def test_native_gates_on_a_device_hold_those_of_routing():
    cost = NativeTwoQubitGates("manila", LINE)
    # The SWAP of wires 0 and 3 passes two more pairs, six native gates each.
    assert cost.measure(NETWORK, ()) == 1 + 2 + (3 + 12)
    assert cost.conditions()["device"] == "manila"
    assert cost.conditions()["layout"] == LINE


@pytest.mark.parametrize(
    "cost",
    [
        TwoQubitGates(),
        NativeTwoQubitGates(),
        NativeTwoQubitGates("lima"),
        LogInfidelity(UniformNoise(0.01, 0.02)),
        LogInfidelity(DeviceNoise("lima")),
    ],
)
def test_additive_costs_are_sums_over_operations(cost):
    assert cost.additive
    assert cost.decomposes
    whole = cost.measure(Network(CIRCUIT), ())
    assert sum(cost.measure(part, ()) for part in parts(CIRCUIT)) == pytest.approx(whole, rel=1e-12)
    assert whole > 0


@pytest.mark.parametrize(
    "cost", [CircuitDepth(), DeviceDepth("manila"), SuccessProbability(UniformNoise(0.1))], ids=lambda c: c.name
)
def test_what_is_no_sum_says_so(cost):
    assert not cost.additive
    assert not cost.decomposes


def test_the_success_probability_is_the_product_of_fidelities():
    noise = UniformNoise(one_qubit=0.02, two_qubit=0.04, readout=[0.1, 0.3])
    pulse, pair = 1 - 0.01, 1 - 0.03
    # Pulses: H 1, CRX 2, RY 2.  Native gates: 6.  Two wires are measured.
    expected = pulse**5 * pair**6 * 0.8**2
    assert SuccessProbability(noise).measure(NETWORK, ()) == pytest.approx(expected)
    assert LogInfidelity(noise).measure(NETWORK, ()) == pytest.approx(-math.log(expected))
    assert LogInfidelity(noise).measure(Network(CIRCUIT), ()) == pytest.approx(-math.log(pulse**5 * pair**6))


def test_the_success_probability_on_a_device_is_that_of_its_calibration():
    manila = load_device("manila")
    circuit = Circuit(2, (Operation("SX", (0,)), Operation("CNOT", (0, 1))))
    noise = DeviceNoise("manila", layout=[1, 2])
    q, pair = manila.qubits[1], manila.pairs[1, 2]
    readout = 1 - (q.read_1_given_0 + q.read_0_given_1) / 2
    expected = (1 - q.error) * (1 - pair.error) * readout
    assert SuccessProbability(noise).measure(Network(circuit, (0,)), ()) == pytest.approx(expected, rel=1e-6)
    assert SuccessProbability(noise).conditions()["noise"]["device"] == "manila"


def test_an_empty_circuit_costs_nothing():
    empty = Network(Circuit(3, ()))
    costs = [TwoQubitGates(), NativeTwoQubitGates("manila"), CircuitDepth(), LogInfidelity(DeviceNoise("manila"))]
    assert [cost.measure(empty, ()) for cost in costs] == [0, 0, 0, 0]
    assert SuccessProbability(DeviceNoise("manila")).measure(empty, ()) == 1


def test_depth_counts_layers_and_not_identities():
    # H; CNOT; RZ beside SWAP; CRX; RY.
    assert CircuitDepth().measure(NETWORK, ()) == 5


def test_depth_on_a_device_is_that_of_qiskits_compiler():
    cost = DeviceDepth("manila", LINE)
    pair = Circuit(4, (Operation("CNOT", (0, 1)),))
    far = Circuit(4, (Operation("CNOT", (0, 3)),))
    assert cost.measure(Network(Circuit(4, ())), ()) == 0
    near = cost.measure(Network(pair), ())
    assert 1 <= near <= 7  # a matrix is synthesised: the native gate, and pulses about it at most
    assert cost.measure(Network(far), ()) > near
    assert cost.measure(NETWORK, ()) == DeviceDepth("manila", LINE).measure(NETWORK, ())
    assert cost.label == "Depth on manila"


def test_depth_does_not_depend_on_where_training_left_the_angles():
    trained = Circuit(2, (Operation("CRX", (0, 1), (Weight(0),)),))
    constant = Circuit(2, (Operation("CRX", (0, 1), (0.0,)),))
    cost = DeviceDepth("manila", [0, 1])
    assert cost.measure(Network(trained), ()) == cost.measure(Network(constant), ()) > 1


@pytest.mark.parametrize("name", ["sherbrooke", "torino", "almaden"])
def test_depth_on_devices_of_other_native_gates(name):
    assert DeviceDepth(name).measure(NETWORK, ()) > 5


@pytest.mark.parametrize("cost", [TwoQubitGates(), CircuitDepth(), LogInfidelity(UniformNoise())])
def test_a_module_without_a_circuit_is_refused(cost):
    linear = nn.Linear(2, 2)
    assert not cost.applies_to(linear)
    assert cost.applies_to(NETWORK)
    with pytest.raises(ConfigError, match="Linear has no circuit"):
        cost.measure(linear, (2,))


def test_a_layout_for_other_wires_is_refused():
    with pytest.raises(ConfigError, match="laid out for 2 wires, the circuit has 4"):
        NativeTwoQubitGates("manila", [0, 1]).measure(NETWORK, ())


# -- Where the wires are ----------------------------------------------------------------------------------------------


JAKARTA = DeviceNoise("jakarta")
RING = JAKARTA.for_wires(4, "ring")
ROUND = Circuit(4, tuple(Operation("CNOT", (wire, (wire + 1) % 4)) for wire in range(4)))


def test_a_ring_lies_elsewhere_than_a_chain_on_jakarta():
    assert RING.layout != JAKARTA.for_wires(4).layout


@pytest.mark.parametrize(
    ("unplaced", "on_ring"),
    [
        (LogInfidelity(JAKARTA), LogInfidelity(RING)),
        (SuccessProbability(JAKARTA), SuccessProbability(RING)),
        (DeviceDepth(noise=JAKARTA), DeviceDepth("jakarta", RING.layout)),
        (NativeTwoQubitGates(noise=JAKARTA), NativeTwoQubitGates("jakarta", RING.layout)),
    ],
    ids=lambda cost: cost.name,
)
def test_costs_take_the_layout_of_the_networks_noise(unplaced, on_ring):
    expected = on_ring.measure(Network(ROUND, (0, 3)), ())
    assert unplaced.measure(Network(ROUND, (0, 3), noise=RING), ()) == expected
    # A network in the noise of another device says nothing about this one.
    elsewhere = Network(ROUND, (0, 3), noise=DeviceNoise("lima", n_wires=4))
    assert unplaced.measure(elsewhere, ()) == unplaced.measure(Network(ROUND, (0, 3)), ())


def test_the_cost_of_another_layout_is_another():
    chain, ring = (SuccessProbability(JAKARTA, topology).measure(Network(ROUND), ()) for topology in ("chain", "ring"))
    assert ring == SuccessProbability(RING).measure(Network(ROUND), ())
    assert ring != chain


@pytest.mark.parametrize(
    ("make", "name"),
    [(LogInfidelity, "ring"), (SuccessProbability, "ring")]
    + [
        (lambda noise, topology, kind=kind: kind(noise=noise, topology=topology), "ring")
        for kind in (DeviceDepth, NativeTwoQubitGates)
    ],
)
def test_without_noise_of_their_own_networks_lie_where_the_topology_puts_them(make, name):
    expected = make(RING, "chain").measure(Network(ROUND), ())
    assert make(JAKARTA, name).measure(Network(ROUND), ()) == expected
    assert make(JAKARTA, [[0, 1]]).measure(Network(ROUND), ()) == make(JAKARTA, "chain").measure(Network(ROUND), ())
    with pytest.raises(ConfigError, match="Unknown topology: 'rign'. Did you mean 'ring'"):
        make(JAKARTA, "rign")


def test_a_layout_of_the_costs_own_goes_first():
    cost = NativeTwoQubitGates("jakarta", [0, 1, 2, 3])
    assert cost.measure(Network(ROUND, noise=RING), ()) == cost.measure(Network(ROUND), ())


def test_costs_that_need_a_device_or_noise_are_left_out_without():
    assert not DeviceDepth(noise=None).applies_to(NETWORK)
    assert not DeviceDepth(noise=UniformNoise(0.1)).applies_to(NETWORK)
    assert not SuccessProbability(None).applies_to(NETWORK)
    assert not LogInfidelity(None).applies_to(NETWORK)
    assert SuccessProbability(UniformNoise(0.1)).applies_to(NETWORK)  # it has a success probability without a device
    assert DeviceDepth(noise=JAKARTA).applies_to(NETWORK)
    assert NativeTwoQubitGates(noise=None).measure(NETWORK, ()) == NativeTwoQubitGates().measure(NETWORK, ())
    assert [cost.conditions() for cost in (DeviceDepth(), LogInfidelity(None), SuccessProbability(None))] == [{}] * 3
    for cost, words in ((DeviceDepth(), "depth on a device needs one"), (LogInfidelity(None), "needs a noise model")):
        with pytest.raises(ConfigError, match=words):
            cost.measure(NETWORK, ())


def test_a_device_and_a_noise_model_are_not_both_given():
    with pytest.raises(ConfigError, match="both a device and a noise model"):
        DeviceDepth("manila", noise=JAKARTA)
    with pytest.raises(ConfigError, match="a layout without its device"):
        NativeTwoQubitGates(layout=[0, 1], noise=JAKARTA)


def test_names_and_labels_differ():
    noise = UniformNoise(0.01)
    costs = [
        TwoQubitGates(),
        NativeTwoQubitGates(),
        CircuitDepth(),
        DeviceDepth("manila"),
        LogInfidelity(noise),
        SuccessProbability(noise),
    ]
    assert len({cost.name for cost in costs}) == len({cost.label for cost in costs}) == len(costs)
    assert all(isinstance(cost.label, str) and cost.label for cost in costs)
