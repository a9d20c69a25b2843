"""Plain networks: outputs by definition, evaluations in noise and from shots, and what a bundle needs."""

import copy
import json
import pickle

import pytest
import torch

from darts_hpo.errors import ConfigError, SpaceError
from darts_hpo.export.bundle import load_bundle, save_bundle
from quantum.circuit import Circuit, Input, Operation, Weight
from quantum.gates import pauli_basis
from quantum.measurements import PauliString, expectations, observables_from
from quantum.network import CircuitPart, QuantumNetwork
from quantum.noise import DeviceNoise, UniformNoise, to_aer

CIRCUIT = Circuit(
    3,
    (
        Operation("RY", (0,), (Input(0),)),
        Operation("RY", (1,), (Input(1, 2.0),)),
        Operation("H", (2,)),
        Operation("U3", (2,), (Weight(0), 0.3, Weight(1))),
        Operation("CNOT", (0, 2)),
        Operation("CRX", (2, 1), (Weight(2),)),
        Operation("RX", (0,), (Input(1),)),
        Operation("CZ", (1, 0)),
        Operation("RY", (1,), (0.1,)),
    ),
)
NO_DATA = Circuit(2, (Operation("RY", (0,), (Weight(0),)), Operation("CNOT", (0, 1))))
NOISE = UniformNoise(0.02, 0.08, 0.03, 0.02, readout=[0.03, 0.08])


def samples(dtype=torch.float32):
    return 3 * torch.rand(4, 2, dtype=dtype, generator=torch.Generator().manual_seed(1))


def exact_outputs(circuit, weights, x, measurement):
    """<psi| O |psi> from full matrices, float64."""
    rows = []
    for sample in x:
        state = circuit.unitary(weights.tolist(), sample.tolist())[:, 0]
        observables = observables_from(measurement, circuit.n_wires)
        rows.append([(state.conj() @ o.matrix() @ state).real for o in observables])
    return torch.tensor(rows)


# -- Outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measurement", ["z", "x", ["ZIX", "YYI", {"ZZZ": 0.5, "XII": -2.0}], "ZZI"])
def test_outputs_are_expectations(measurement):
    network = QuantumNetwork(CIRCUIT, measurement=measurement).double()
    x = samples(torch.float64)
    expected = exact_outputs(CIRCUIT, network.weights, x, measurement)
    torch.testing.assert_close(network(x), expected, atol=1e-12, rtol=0)  # constants in full precision, too


def test_heads():
    x = samples()
    plain = QuantumNetwork(CIRCUIT, n_outputs=2)
    scaled = QuantumNetwork(CIRCUIT, n_outputs=2, head="scale", head_scale=4.0)
    linear = QuantumNetwork(CIRCUIT, n_outputs=5, head="linear", head_scale=4.0)
    for network in (scaled, linear):
        network.load_state_dict({**network.state_dict(), "weights": plain.weights.detach()})
    every = QuantumNetwork(CIRCUIT)
    every.load_state_dict(plain.state_dict())
    assert torch.equal(plain(x), every(x)[:, :2])
    torch.testing.assert_close(scaled(x), 4 * plain(x))
    layer = linear.readoff.linear
    torch.testing.assert_close(linear(x), 4 * every(x) @ layer.weight.T + layer.bias)


def test_the_state_itself_may_be_the_output():
    x = samples()
    ideal = QuantumNetwork(CIRCUIT, measurement="state", noise=NOISE, head="scale", head_scale=4.0)
    state = ideal(x).detach()
    assert (state.shape, state.dtype) == ((4, 8), torch.complex64)
    for row, sample in zip(state, x, strict=True):
        exact = CIRCUIT.unitary(ideal.weights.tolist(), sample.tolist())[:, 0]
        assert float((row - exact).abs().max()) < 1e-6
    noisy = ideal.evaluations()["noisy"](x)
    assert (noisy.shape, noisy.dtype) == ((4, 64), torch.float32)
    assert ideal.measured_wires == (0, 1, 2)


def test_without_data_the_circuit_runs_once_and_counts_for_every_sample():
    network = QuantumNetwork(NO_DATA, measurement={"ZI": 1.0, "XX": 0.5})
    theta = network.weights[0]
    expected = theta.cos() + 0.5 * theta.sin()  # cos(t/2)|00> + sin(t/2)|11>
    torch.testing.assert_close(network(torch.zeros(1, 0)), expected.reshape(1, 1))
    torch.testing.assert_close(network(torch.zeros(5, 3)), expected.expand(5, 1))
    assert network.n_inputs == 0


def test_amplitudes_are_read_from_the_input():
    circuit = Circuit(2, (Operation("CNOT", (0, 1)),), amplitude_input=True)
    network = QuantumNetwork(circuit, measurement="state")
    x = torch.tensor([[0.0, 0.0, 3.0, 4.0]])
    torch.testing.assert_close(network(x).real, torch.tensor([[0.0, 0.0, 0.8, 0.6]]))


def test_measured_wires_are_those_of_the_observables():
    assert QuantumNetwork(CIRCUIT, measurement=["IIZ", "XIY"]).measured_wires == (0, 2)
    assert QuantumNetwork(CIRCUIT, n_outputs=2).measured_wires == (0, 1)


@pytest.mark.parametrize("settings", [{}, {"memory": "recompute"}, {"noise": NOISE, "noisy_training": True}])
def test_angles_learn_also_where_batches_come_from_inference_mode(settings):
    network = QuantumNetwork(CIRCUIT, **settings)
    x = samples()
    with torch.inference_mode():
        before = network(x)
        network(samples())  # an inference tensor, as validation makes them
    loss = network(x).square().sum()
    torch.testing.assert_close(loss, before.square().sum().clone())
    loss.backward()
    assert bool((network.weights.grad != 0).all())


def test_autocast_changes_nothing():
    network = QuantumNetwork(CIRCUIT, head="scale", head_scale=4.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(samples())
    assert torch.equal(outputs, network(samples()))


# -- Evaluations -----------------------------------------------------------------------------------------------------


def test_which_evaluations_a_network_offers():
    assert set(QuantumNetwork(CIRCUIT).evaluations()) == set()
    assert set(QuantumNetwork(CIRCUIT, noise=NOISE).evaluations()) == {"noisy"}
    assert set(QuantumNetwork(CIRCUIT, noise=NOISE, noisy_training=True).evaluations()) == {"noisy"}
    assert set(QuantumNetwork(CIRCUIT, shots=10, noise=NOISE).evaluations()) == {"noisy", "shots"}
    assert set(QuantumNetwork(CIRCUIT, shots=10, measurement="state").evaluations()) == set()


@pytest.fixture(scope="module")
def aer():
    """Expectations of one sample on a noisy device: Aer's density matrix, and its tables of the readout."""
    import qiskit_aer

    def run(noise, circuit, weights, inputs, strings):
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
        values = []
        identity, _, _, z = pauli_basis(1).real
        for letters in strings:
            # What a wire's reading is worth: +1 or -1 with the probabilities of its table.
            worth = torch.ones(1, dtype=torch.float64)
            for wire, letter in enumerate(letters):
                read = tables[wire] @ z.diagonal() if letter == "Z" else identity.diagonal()
                worth = torch.kron(worth, read)
            values.append(float(density.reshape(2**n, 2**n).diagonal().real @ worth))
        return values

    return run


@pytest.mark.parametrize("noise", [NOISE, DeviceNoise("quito")], ids=["uniform", "quito"])
def test_noisy_outputs_equal_aer_readout_included(aer, noise):
    strings = ["ZII", "IZI", "IIZ", "ZZI", "ZZZ"]
    network = QuantumNetwork(CIRCUIT, noise=noise, measurement=strings).double()
    trained = QuantumNetwork(CIRCUIT, noise=noise, noisy_training=True, measurement=strings).double()
    trained.load_state_dict(network.state_dict())
    x = samples(torch.float64)
    found = network.evaluations()["noisy"](x).detach()
    expected = torch.tensor(
        [aer(network.noise, CIRCUIT, network.weights.tolist(), sample.tolist(), strings) for sample in x]
    )
    torch.testing.assert_close(found, expected.double(), atol=1e-6, rtol=0)
    assert float((network(x).detach() - found).abs().max()) > 0.02
    torch.testing.assert_close(trained(x).detach(), found)
    assert torch.equal(trained.eval()(x), network(x))
    assert torch.equal(trained.evaluations()["noisy"](x).detach(), found)


@pytest.mark.parametrize("noise", [None, NOISE])
def test_shots_are_repeatable_and_scatter_around_the_exact_values(noise):
    """A mean of n outcomes +1 and -1 has the variance (1 - <P>^2) / n."""
    n = 4000
    network = QuantumNetwork(CIRCUIT, shots=n, noise=noise, measurement=["ZII", "IXI", "ZIY"])
    other = QuantumNetwork(CIRCUIT, shots=n, noise=noise, shot_seed=1, measurement=["ZII", "IXI", "ZIY"])
    other.load_state_dict(network.state_dict())
    x = samples()
    draws, exact = (
        network.evaluations()["shots"](x),
        (network(x) if noise is None else network.noisy_outputs(x)).detach(),
    )
    assert torch.equal(draws, network.evaluations()["shots"](x))
    assert not torch.equal(draws, other.evaluations()["shots"](x))
    deviations = (draws - exact) / ((1 - exact.square()) / n).sqrt()
    assert 0.3 < float(deviations.square().mean()) < 3
    assert float(deviations.abs().max()) < 4.5
    assert not draws.requires_grad


def test_shots_of_a_circuit_without_data_are_drawn_for_every_sample():
    network = QuantumNetwork(NO_DATA, shots=50)
    torch.nn.init.constant_(network.weights, 1.0)
    draws = network.evaluations()["shots"](torch.zeros(40, 0))
    assert draws.shape == (40, 2)
    assert len(draws[:, 0].unique()) > 1


def test_batches_are_measured_independently_of_each_other():
    """Other samples get other draws; the order of asking does not matter."""
    network = QuantumNetwork(NO_DATA, shots=50)
    torch.nn.init.constant_(network.weights, 1.0)
    first, second = torch.zeros(40, 1), torch.ones(40, 1)  # the circuit reads none of it: one distribution
    draws = network.shot_outputs(first)
    assert not torch.equal(network.shot_outputs(second), draws)
    assert torch.equal(network.shot_outputs(first.clone()), draws)
    for kind in (torch.float64, torch.bfloat16, torch.complex64):
        assert network.shot_outputs(first.to(kind)).shape == (40, 2)


# -- Bundles ---------------------------------------------------------------------------------------------------------

SETTINGS = [
    {},
    {"measurement": ["ZIX", {"ZZZ": 0.5}], "head": "linear", "n_outputs": 7, "head_scale": 2.0},
    {"measurement": {"ZZI": 0.5}, "memory": "recompute", "init_range": 0.1},
    {"measurement": (PauliString("XII"), *observables_from([{"ZII": 2.0}], 3)), "shots": 20, "shot_seed": 4},
    {"noise": NOISE, "noisy_training": True, "measurement": "x", "channel_max_wires": 4},
    {"noise": DeviceNoise("lima", topology="ring"), "shots": 30, "engine": "torchquantum"},
    {"measurement": "state"},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_network_is_rebuilt_from_its_configuration_by_a_bundle(settings, tmp_path):
    network = QuantumNetwork(CIRCUIT, **settings).eval()
    config = json.loads(json.dumps(network.config()))
    save_bundle(
        tmp_path / "bundle.pt",
        network_target="quantum.network.QuantumNetwork.from_config",
        network_config=config,
        state_dict=network.state_dict(),
        genotype={},
    )
    rebuilt = load_bundle(tmp_path / "bundle.pt").network  # torch.load(weights_only=True)
    assert rebuilt.config() == config
    if settings.get("engine") != "torchquantum":  # whose import takes seconds
        assert torch.equal(rebuilt(samples()), network(samples()))
    for name, evaluate in network.evaluations().items():
        assert torch.equal(rebuilt.evaluations()[name](samples()), evaluate(samples()))


def test_copies_are_independent_and_survive_a_process():
    network = QuantumNetwork(CIRCUIT, noise=NOISE, shots=5)
    x = samples()
    expected = network(x), network.noisy_outputs(x)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(x), expected[0])
        assert torch.equal(other.noisy_outputs(x), expected[1])
        with torch.no_grad():
            other.weights.zero_()
    assert torch.equal(network(x), expected[0])


def test_a_part_of_a_circuit_has_its_angles_and_does_nothing():
    part = CircuitPart(CIRCUIT)
    assert part.weights.shape == (3,)
    x = torch.rand(2)
    assert part(x) is x
    assert repr(part) != repr(CircuitPart(NO_DATA))
    assert repr(part) == repr(CircuitPart(CIRCUIT))


def test_facts_say_what_makes_outputs_of_a_state():
    network = QuantumNetwork(CIRCUIT, head="linear", n_outputs=2, head_scale=3.0, measurement=["ZII", {"IXX": 0.5}])
    facts = json.loads(json.dumps(network.readoff.facts()))
    x = samples()
    observables = observables_from(facts["measurement"], 3)
    values = facts["head_scale"] * expectations(network.state(x), observables, 3)
    outputs = values @ torch.tensor(facts["linear_weight"]).T + torch.tensor(facts["linear_bias"])
    torch.testing.assert_close(outputs, network(x))
    assert (facts["head"], facts["n_outputs"]) == ("linear", 2)
    assert QuantumNetwork(CIRCUIT, n_outputs=2).readoff.facts() == {
        "measurement": ["ZII", "IZI"],
        "head": "none",
        "head_scale": 1.0,
        "n_outputs": 2,
    }
    assert QuantumNetwork(CIRCUIT, measurement="state").readoff.facts()["measurement"] == "state"


# -- Mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"head": "skale"}, ConfigError, "Unknown supernet.head: 'skale'. Did you mean 'scale'"),
        ({"head_scale": -1.0}, ConfigError, "head_scale=-1.0: expected a number above 0"),
        ({"head_scale": float("inf")}, ConfigError, "head_scale=inf"),
        ({"n_outputs": 4}, ConfigError, "3 observables cannot give 4 outputs"),
        ({"n_outputs": 0, "head": "linear"}, ConfigError, "n_outputs=0: expected at least 1"),
        ({"measurement": {"ZII": 1.0}, "head": "linear"}, ConfigError, "head=linear would change the expectation"),
        ({"measurement": "q"}, ConfigError, "'Q'"),
        ({"measurement": ["ZZ"]}, ConfigError, "ZZ"),
        ({"noisy_training": True}, ConfigError, "Training in noise needs a noise model"),
        ({"shots": 0}, ConfigError, "shots=0: expected at least 1, or null"),
        ({"init_range": -0.5}, ConfigError, "init_range=-0.5"),
        ({"engine": "qiskit"}, ConfigError, "Unknown supernet.engine: 'qiskit'"),
        ({"memory": "none"}, ConfigError, "Unknown use of memory: 'none'"),
        ({"noise": NOISE, "channel_max_wires": 2}, SpaceError, "up to 2 wires and was given 3"),
        ({"noise": DeviceNoise("lima", n_wires=4)}, ConfigError, "laid out for 4 wires, the circuit has 3"),
    ],
)
def test_mistakes_are_named(settings, error, words):
    with pytest.raises(error, match=words):
        QuantumNetwork(CIRCUIT, **settings)
