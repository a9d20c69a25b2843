"""The supercircuit: the engine's suite in its main forms, relaxations, costs, and what is refused."""

import itertools
import json
import math
import random

import pytest
import torch

from darts_hpo.costs import CostModel, Parameters
from darts_hpo.errors import ConfigError, DartsHPOError
from darts_hpo.relaxations import BinaryGates, GumbelSoftmax, ScoreFunction, Softmax
from darts_hpo.supernet import Gate, one_hot_gates
from darts_hpo.testing import SupernetConformance
from darts_hpo.testing.supernet import mixture_gates, path_gates, random_choices
from quantum.costs import LogInfidelity, NativeTwoQubitGates, TwoQubitGates
from quantum.encoders import encoder
from quantum.noise import DeviceNoise, UniformNoise
from quantum.supercircuit import Supercircuit

SMALL = {
    "n_inputs": 4,
    "n_outputs": 2,
    "n_wires": 3,
    "n_layers": 2,
    "one_qubit": ["I", "RX", "U3"],
    "encoder": "angle",
}
DATA = [operation.gate for operation in encoder("angle", 3, 4).operations]
NOISE = UniformNoise(0.01, 0.05, 0.02, readout=[0.02, 0.05])
EVERY_STAGE = ("search", "training", "evaluation")


def supercircuit(**settings):
    return Supercircuit(**{**SMALL, **settings})


class QuantumConformance(SupernetConformance):
    """Circuits have no floating-point operations worth counting, and their weights are angles in one vector."""

    input_shape = (4,)

    @pytest.fixture
    def example_input(self):
        """Enough samples that states outweigh the matrices of gates, as they do in a search."""
        return 3 * torch.rand(512, *self.input_shape, generator=torch.Generator().manual_seed(0))

    @pytest.mark.parametrize(
        "cost",
        [Parameters(), TwoQubitGates(), NativeTwoQubitGates("manila"), LogInfidelity(DeviceNoise("manila"))],
        ids=lambda cost: cost.name,
    )
    def test_cost_model_is_exact(self, supernet, cost):
        """Costs of circuits add up too."""
        super().test_cost_model_is_exact(supernet, cost)

    def test_derived_network_has_fresh_weights_unless_it_inherits(self, supernet):
        """All angles are drawn anew, also between two derivations; the same ones are inherited twice."""
        genotype = supernet.genotype(random_choices(supernet, 0))
        torch.manual_seed(1)  # the supernet's own angles were drawn with seed 0
        first, second = (supernet.derive(genotype).weights for _ in range(2))
        inherited, again = (supernet.derive(genotype, inherit_weights=True).weights for _ in range(2))
        assert len(first) > 0
        assert bool((first != second).all())
        assert bool((first != inherited).all())
        assert torch.equal(inherited, again)


class TestMacroChannel(QuantumConformance):
    build = staticmethod(supercircuit)


class TestMicro(QuantumConformance):
    build = staticmethod(lambda: supercircuit(style="micro", n_layers=3, reupload="search"))
    memory_ratio = 1.5  # gates are mixed as small matrices, but searched encodings as states


class TestLinearCombination(QuantumConformance):
    build = staticmethod(lambda: supercircuit(mixing="lcu", memory="recompute", topology="all"))


class TestSearchedEncoders(QuantumConformance):
    memory_ratio = 2.0
    build = staticmethod(
        lambda: supercircuit(encoder=["angle_ryz", "amplitude", "none"], reupload="search", head="linear", n_outputs=5)
    )


class TestSearchedEncodersOnAmplitudes(QuantumConformance):
    memory_ratio = 2.0
    build = staticmethod(lambda: supercircuit(encoder=["none", "angle"], reupload="search", mixing="lcu"))


class TestNoiseInTheSearch(QuantumConformance):
    build = staticmethod(lambda: supercircuit(noise=NOISE, noisy=EVERY_STAGE, reupload=True))


class TestOnADevice(QuantumConformance):
    build = staticmethod(
        lambda: supercircuit(noise=DeviceNoise("lima"), noisy=EVERY_STAGE, topology="device", head="scale", shots=100)
    )


class TestWithoutData(QuantumConformance):
    """A Hamiltonian is measured; the circuit runs once, and what it is given counts for its length alone."""

    build = staticmethod(lambda: supercircuit(n_inputs=0, n_outputs=None, measurement={"ZZI": 0.5, "IXX": -1.0}))
    memory_ratio = 2.0  # one state, and the matrices of all gates

    def test_without_samples_there_is_one_output(self, supernet):
        outputs = supernet(torch.zeros(1, 0), mixture_gates(supernet))
        network = supernet.derive(supernet.genotype(supernet.reference_choices()))
        assert outputs.shape == network(torch.zeros(1, 0)).shape == (1, 1)


# -- The space -------------------------------------------------------------------------------------------------------


def test_macro_opens_every_slot_and_micro_those_of_one_layer():
    macro = supercircuit(topology="chain", reupload="search", encoder=["angle", "angle_rx"])
    per_layer = [*(f"wire{wire}" for wire in range(3)), "pair0_1", "pair1_2"]
    assert set(macro.space) == {
        "encoder",
        *(f"layer{layer}.{name}" for layer in range(2) for name in per_layer),
        "layer1.reupload",
    }
    micro = supercircuit(topology="chain", reupload="search", style="micro")
    assert set(micro.space) == {*(f"cell.{name}" for name in per_layer), "cell.reupload"}
    assert macro.space.categorical("layer1.reupload").options == ("none", "angle", "angle_rx")
    assert len(macro.weights) == 2 * (3 * 4 + 2 * 4)


def test_a_slot_with_one_candidate_is_no_choice():
    supernet = supercircuit(one_qubit=["U3"], two_qubit=["I", "CZ"], topology=[[0, 2]])
    assert list(supernet.space) == ["layer0.pair0_2", "layer1.pair0_2"]
    network = supernet.derive(supernet.genotype({"layer0.pair0_2": "CZ", "layer1.pair0_2": "I"}))
    assert [op.gate for op in network.circuit.operations] == [*DATA, *["U3"] * 3, "CZ", *["U3"] * 3]


def test_with_one_candidate_everywhere_nothing_is_searched():
    supernet = supercircuit(one_qubit=["U3"], two_qubit=["CZ"])
    assert len(supernet.space) == len(supernet.cost_units()) == 0
    network = supernet.derive(supernet.genotype({}), inherit_weights=True)
    x = torch.rand(3, 4)
    torch.testing.assert_close(network(x), supernet(x, {}), atol=2e-6, rtol=0)


def test_cells_are_repeated_with_angles_of_their_own():
    supernet = supercircuit(style="micro", topology="chain", reupload="search")
    choices = {**supernet.reference_choices(), "cell.wire0": "RX", "cell.pair0_1": "I", "cell.reupload": "none"}
    network = supernet.derive(supernet.genotype(choices), inherit_weights=True)
    body = network.circuit.operations[len(DATA) :]
    assert [(op.gate, op.wires) for op in body[: len(body) // 2]] == [
        (op.gate, op.wires) for op in body[len(body) // 2 :]
    ]
    assert network.circuit.n_weights == 2 * (1 + 3 + 3 + 3)
    assert len(set(network.weights.tolist())) == network.circuit.n_weights


def test_data_enter_again_before_every_further_layer():
    supernet = supercircuit(reupload=True, n_layers=3, one_qubit=["RX", "RY"], topology=[])
    network = supernet.derive(supernet.genotype(dict.fromkeys(supernet.space, "RX")))
    assert [op.gate for op in network.circuit.operations] == [
        *DATA,
        *["RX"] * 3,
        *DATA,
        *["RX"] * 3,
        *DATA,
        *["RX"] * 3,
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"wire": "U3", "pair": "CU3"}),
        ({"reference": {"two_qubit": "CZ"}}, {"wire": "U3", "pair": "CZ"}),
        ({"reference": {"one_qubit": "I"}}, {"wire": "I", "pair": "CU3"}),
        ({"one_qubit": ["I", "H", "T"], "two_qubit": ["I", "CNOT", "CZ"]}, {"wire": "H", "pair": "CNOT"}),
    ],
)
def test_the_reference_has_the_same_gates_in_all_slots(settings, expected):
    supernet = supercircuit(reupload="search", encoder=["angle_rx", "angle"], **settings)
    choices = supernet.reference_choices()
    assert choices["encoder"] == choices["layer1.reupload"] == "angle_rx"
    for name, option in choices.items():
        for kind, gate in expected.items():
            assert kind not in name or option == gate


def test_collapse_indicators_count_empty_slots():
    supernet = supercircuit(topology="chain", n_layers=1, two_qubit=["I", "CNOT"])
    probabilities = {
        "layer0.wire0": [0.2, 0.5, 0.3],
        "layer0.wire1": [1.0, 0.0, 0.0],
        "layer0.wire2": [0.0, 0.5, 0.5],
        "layer0.pair0_1": [0.6, 0.4],
        "layer0.pair1_2": [0.2, 0.8],
    }
    found = supernet.collapse_indicators({name: torch.tensor(p) for name, p in probabilities.items()})
    assert found == {"empty_weight": pytest.approx(2.0 / 5), "empty_pairs": 0.5}
    assert supercircuit(one_qubit=["RX", "RY"], two_qubit=["CZ", "CNOT"]).collapse_indicators({}) == {}


# -- Without pairs ---------------------------------------------------------------------------------------------------

WITHOUT_PAIRS = {"topology": [], "measurement": ["XYZ", "YXX"]}


@pytest.mark.parametrize("settings", [{"mixing": "lcu"}, {"mixing": "channel"}, {"noise": NOISE, "noisy": EVERY_STAGE}])
@pytest.mark.parametrize("reupload", [False, True, "search"])
def test_layers_without_pairs_run_and_learn(settings, reupload):
    supernet = supercircuit(**WITHOUT_PAIRS, **settings, reupload=reupload)
    assert not any("pair" in name for name in supernet.space)
    x, choices = torch.rand(5, 4), random_choices(supernet, 2)
    network = supernet.derive(supernet.genotype(choices), inherit_weights=True)
    torch.testing.assert_close(network(x), supernet(x, path_gates(supernet, choices)), atol=2e-6, rtol=0)
    gates = mixture_gates(supernet)
    gradients = torch.autograd.grad(
        supernet(x, gates).square().sum(), [supernet.weights, *(gate.weights for gate in gates.values())]
    )
    assert all(bool(gradient.isfinite().all()) and bool((gradient != 0).any()) for gradient in gradients)


@pytest.mark.parametrize("mixing", ["lcu", "channel"])
@pytest.mark.parametrize("n_inputs", [0, 4])
def test_a_circuit_of_empty_slots_is_its_encoding(mixing, n_inputs):
    """All slots are empty: the expectations are those of the data's own state, |000> without any."""
    supernet = supercircuit(mixing=mixing, n_inputs=n_inputs, topology="chain", memory="recompute")
    choices = dict.fromkeys(supernet.space, "I")
    network = supernet.derive(supernet.genotype(choices), inherit_weights=True)
    x = torch.rand(6, n_inputs)
    assert network.circuit.n_weights == 0
    angles = torch.zeros(6, 2)
    if n_inputs:  # RY by feature i on wire i mod 3
        angles = torch.stack([x[:, 0] + x[:, 3], x[:, 1]], dim=1)
    for outputs in (network(x), supernet(x, path_gates(supernet, choices))):
        torch.testing.assert_close(outputs, angles.cos(), atol=2e-6, rtol=0)


def test_one_wire_has_no_pairs():
    supernet = supercircuit(n_wires=1, n_outputs=1, n_inputs=1)
    choices = {**supernet.reference_choices(), "layer0.wire0": "I", "layer1.wire0": "I"}
    network = supernet.derive(supernet.genotype(choices))
    x = torch.rand(3, 1)
    torch.testing.assert_close(network(x), x.cos())


# -- Costs on the device ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["ring", "chain", [[0, 1], [1, 2], [2, 3], [3, 0]]])
def test_costs_are_those_of_the_layout_that_the_noise_has(topology):
    noise = DeviceNoise("jakarta")
    supernet = supercircuit(n_wires=4, topology=topology, noise=noise)
    network = supernet.derive(supernet.genotype(supernet.reference_choices()))
    assert network.noise.layout == supernet.noise.layout
    for cost, given in (
        (LogInfidelity(noise), LogInfidelity(supernet.noise)),
        (NativeTwoQubitGates(noise=noise), NativeTwoQubitGates("jakarta", supernet.noise.layout)),
    ):
        assert cost.measure(network, (4,)) == given.measure(network, (4,)) > 0
        models = [CostModel.measure(supernet, each, (4,)) for each in (cost, given)]
        assert models[0].reference == models[1].reference
        tables = [[(term.name, term.table.tolist()) for term in model.terms] for model in models]
        assert tables[0] == tables[1]


# -- Mixing ----------------------------------------------------------------------------------------------------------


def test_the_channel_is_the_mean_over_derived_circuits():
    """All 2 * 3**3 circuits, searched data included, each with its probability; the linear combination is not that."""
    settings = {
        "n_wires": 2,
        "n_layers": 1,
        "topology": "chain",
        "two_qubit": ["I", "CRX", "CNOT"],
        "encoder": ["angle", "angle_ryz"],
        "measurement": ["ZI", "XX", "YZ"],
        "n_outputs": 3,
    }
    outputs = {}
    x = 3 * torch.rand(5, 4)
    for mixing in ("channel", "lcu"):
        supernet = supercircuit(mixing=mixing, **settings).double()
        supernet.load_state_dict({"weights": torch.linspace(-2, 2, len(supernet.weights), dtype=torch.float64)})
        gates = {
            name: Gate(gate.weights.detach().double(), gate.active) for name, gate in mixture_gates(supernet).items()
        }
        with torch.no_grad():
            outputs[mixing] = supernet(x, gates)
    total, n_circuits = torch.zeros(5, 3, dtype=torch.float64), 0
    space = supernet.space
    for options in itertools.product(*(space.categorical(name).options for name in space)):
        point = dict(zip(space, options, strict=True))
        probability = math.prod(float(gates[n].weights[space.categorical(n).index(o)]) for n, o in point.items())
        network = supernet.derive(supernet.genotype(point), inherit_weights=True).double()
        with torch.no_grad():
            total += probability * network(x)
        n_circuits += 1
    assert n_circuits == 54
    assert float((outputs["channel"] - total).abs().max()) < 1e-6
    assert float((outputs["lcu"] - total).abs().max()) > 0.05


def test_the_reference_engine_computes_the_same():
    """TorchQuantum: forward and gradients, with the same weights; its derived networks run on it too."""
    settings = {"mixing": "lcu", "encoder": ["angle", "amplitude"], "reupload": "search"}
    fused, reference = (supercircuit(**settings, engine=engine) for engine in ("fused", "torchquantum"))
    reference.load_state_dict(fused.state_dict())
    x, gates = torch.rand(6, 4), mixture_gates(fused)
    results = []
    for supernet in (fused, reference):
        out = supernet(x, gates)
        wanted = [supernet.weights, *(gate.weights for gate in gates.values())]
        results.append([out, *torch.autograd.grad(out.square().sum(), wanted)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    genotype = fused.genotype(fused.reference_choices())
    networks = [supernet.derive(genotype, inherit_weights=True) for supernet in (fused, reference)]
    assert networks[1].config()["engine"] == "torchquantum"
    torch.testing.assert_close(networks[0](x), networks[1](x), atol=2e-6, rtol=0)


def test_data_that_no_gate_reads_still_give_an_output_per_sample():
    supernet = supercircuit(encoder=["none", "angle"])
    choices = {**supernet.reference_choices(), "encoder": "none"}
    x = torch.rand(7, 4)
    network = supernet.derive(supernet.genotype(choices), inherit_weights=True)
    assert network(x).shape == supernet(x, one_hot_gates(supernet.space, choices)).shape == (7, 2)


def test_noise_of_a_search_shows_in_the_search_only_where_it_is_asked_for():
    x, settings = torch.rand(3, 4), {"noise": NOISE}
    circuits = {noisy: supercircuit(noisy=noisy, **settings) for noisy in (("evaluation",), ("search",), EVERY_STAGE)}
    weights = next(iter(circuits.values())).weights.detach()
    outputs = {}
    for noisy, supernet in circuits.items():
        supernet.load_state_dict({"weights": weights})
        gates = path_gates(supernet, supernet.reference_choices())
        network = supernet.derive(supernet.genotype(supernet.reference_choices()), inherit_weights=True)
        outputs[noisy] = supernet(x, gates).detach(), network(x).detach()
        assert (network.noise is None) == (noisy == ("search",))
    searched, derived = outputs["evaluation",]
    torch.testing.assert_close(searched, derived, atol=1e-5, rtol=0)
    assert float((outputs["search",][0] - derived).abs().max()) > 0.01
    torch.testing.assert_close(outputs["search",][1], derived, atol=1e-5, rtol=0)
    torch.testing.assert_close(outputs[EVERY_STAGE][0], outputs["search",][0])
    torch.testing.assert_close(outputs[EVERY_STAGE][1], outputs["search",][0], atol=1e-5, rtol=0)


# -- Relaxations -----------------------------------------------------------------------------------------------------

RELAXATIONS = {
    "softmax": Softmax,
    "gumbel, hard": GumbelSoftmax,
    "gumbel, soft": lambda space, **kw: GumbelSoftmax(space, hard=False, **kw),
    "binary gates": BinaryGates,
    "score function": lambda space, **kw: ScoreFunction(space, draws=64, **kw),  # every option is drawn
}


@pytest.mark.parametrize("mixing", ["channel", "lcu"])
@pytest.mark.parametrize("name", RELAXATIONS)
def test_every_relaxation_runs_and_reaches_every_logit(name, mixing):
    # All wires count, in all directions: no gate at the end is without effect.
    supernet = supercircuit(mixing=mixing, reupload="search", measurement=["XYZ", "YXX"])
    generator = torch.Generator().manual_seed(0)
    relaxation = RELAXATIONS[name](supernet.space, init_std=0.3, generator=generator)
    x, target = 3 * torch.rand(8, 4), torch.rand(8, 2)
    for phase in ("weights", "eval"):
        loss = (supernet(x, relaxation.sample(phase, generator)) - target).square().mean()
        (gradient,) = torch.autograd.grad(loss, supernet.weights)
        assert bool(gradient.isfinite().all())
        assert bool((gradient != 0).any())
    draws = [relaxation.sample("arch", generator) for _ in range(relaxation.draws)]
    losses = [(supernet(x, gates) - target).square().mean() for gates in draws]
    surrogate = relaxation.surrogate_loss(draws, losses)
    total = torch.stack(losses).mean() if surrogate is None else surrogate
    total.backward()
    for choice, logits in relaxation.logits.items():
        assert bool(logits.grad.isfinite().all())
        assert bool((logits.grad != 0).all()), choice


def test_hard_gumbel_gates_learn_from_options_that_were_not_drawn():
    """The state is linear in the gate's whole weight vector, so that every entry has a derivative (QuantumDARTS)."""
    supernet = supercircuit()
    gates = path_gates(supernet, random_choices(supernet, 1), requires_grad=True)
    outputs = supernet(3 * torch.rand(8, 4), gates)
    for name, gradient in zip(
        gates, torch.autograd.grad(outputs.square().sum(), [g.weights for g in gates.values()]), strict=True
    ):
        # I may equal a gate on a wire that nothing entangles, so not all of them need differ; none is cut off.
        assert int((gradient != 0).sum()) > 1, name


# -- Costs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["macro", "micro"])
def test_the_expected_cost_is_the_mean_over_circuits(style):
    supernet = supercircuit(style=style, topology="chain", n_layers=1, n_wires=2, reupload=False)
    model = CostModel.measure(supernet, TwoQubitGates(), (4,))
    gates = mixture_gates(supernet)
    pair = gates["cell.pair0_1" if style == "micro" else "layer0.pair0_1"].weights
    expected = model.expected(gates)
    assert float(expected.detach()) == pytest.approx(float(1 - pair[0].detach()))
    (gradient,) = torch.autograd.grad(expected, pair)
    assert gradient.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert model.fixed == 0
    assert model.reference == 1


def test_the_readout_is_a_fixed_cost():
    cost = LogInfidelity(DeviceNoise("manila"))
    model = CostModel.measure(supercircuit(measurement=["ZII", "IZI"]), cost, (4,))
    laid_out = DeviceNoise("manila").for_wires(3)
    readout = sum(-math.log1p(-sum(laid_out.readout(wire)) / 2) for wire in (0, 1))
    encoding = sum(laid_out.log_infidelity(op.gate, op.wires) for op in encoder("angle", 3, 4).operations)
    assert model.fixed == pytest.approx(readout + encoding)


# -- Files -----------------------------------------------------------------------------------------------------------


def test_files_and_figures_of_a_found_circuit(tmp_path):
    from quantum.export.files import load_circuit

    supernet = supercircuit(n_inputs=0, measurement={"ZZI": 1.0}, n_outputs=None)
    network = supernet.derive(supernet.genotype(random_choices(supernet, 3))).eval()
    record = supernet.export_files(network, tmp_path)
    assert json.loads(json.dumps(record)) == record
    assert {path.name for path in tmp_path.iterdir()} == set(record["circuit"].values())
    assert load_circuit(tmp_path / "circuit.json") == (network.circuit, network.weights.tolist())
    (figure,) = supernet.figures(network)
    assert figure.svg == (tmp_path / "circuit.svg").read_text()
    assert f"depth {network.circuit.depth}" in figure.caption
    assert json.loads((tmp_path / "circuit.json").read_text())["facts"] == network.readoff.facts()


def test_files_of_a_circuit_that_reads_data_say_which(tmp_path):
    supernet = supercircuit(head="scale", head_scale=4.0)
    network = supernet.derive(supernet.genotype(supernet.reference_choices())).eval()
    supernet.export_files(network, tmp_path)
    facts = json.loads((tmp_path / "circuit.json").read_text())["facts"]
    assert facts == {"measurement": ["ZII", "IZI"], "head": "scale", "head_scale": 4.0, "n_outputs": 2}
    remark = "// The features are bound to one sample: x_0 = 0.0, x_1 = 0.0, x_2 = 0.0, x_3 = 0.0."
    assert remark in (tmp_path / "circuit.qasm").read_text().splitlines()
    assert remark not in (tmp_path / "circuit_qasm3.qasm").read_text()


# -- Mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"style": "makro"}, "Unknown supernet.style: 'makro'. Did you mean 'macro'"),
        ({"mixing": "chanel"}, "Unknown supernet.mixing: 'chanel'. Did you mean 'channel'"),
        ({"noisy": ["serch"]}, "Unknown supernet.noisy: 'serch'. Did you mean 'search'"),
        ({"n_wires": 0}, "n_wires=0, n_layers=2: expected at least 1 of each"),
        ({"n_layers": 0}, "n_layers=0: expected at least 1"),
        ({"one_qubit": []}, "expected at least one gate and none twice"),
        ({"one_qubit": ["RX", "RX"]}, "expected at least one gate and none twice"),
        ({"one_qubit": ["RX", "CNOT"]}, "one_qubit holds CNOT, which acts on 2 wires; expected gates on 1"),
        ({"two_qubit": ["I", "H"]}, "two_qubit holds H, which acts on 1 wires; expected gates on 2"),
        ({"two_qubit": ["CNOTT"]}, "Did you mean 'CNOT'"),
        ({"topology": "star"}, "Unknown topology: 'star'"),
        ({"topology": "device"}, "topology=device needs the noise of a device"),
        ({"topology": [[0, 7]]}, "wires count from 0 to 2"),
        ({"encoder": "angel"}, "Unknown encoder: 'angel'. Did you mean 'angle'"),
        ({"encoder": "angel", "n_inputs": 0}, "Unknown encoder: 'angel'. Did you mean 'angle'"),
        ({"n_wires": 40, "mixing": "lcu", "n_layers": 1}, "states of 40 wires takes"),
        ({"n_wires": 41, "mixing": "lcu", "n_layers": 1}, "fits in no memory"),
        ({"encoder": "4x4_ryzxy"}, "it takes exactly 16 features on at least 4 wires"),
        ({"encoder": "none"}, "The task has 4 features, but supernet.encoder=.* encodes none"),
        ({"encoder": []}, "encodes none"),
        ({"reupload": "serach"}, "Unknown supernet.reupload: 'serach'. Did you mean 'search'"),
        ({"reupload": True, "encoder": "amplitude"}, "amplitude encoding sets the initial state"),
        ({"reupload": True, "n_inputs": 0}, "the task has no data that could enter"),
        ({"mixing": "lcu", "noise": NOISE, "noisy": ["search"]}, "lcu runs on amplitudes, which noise leaves"),
        ({"n_wires": 7}, r"up to 6 wires and was given 7.*supernet\.mixing=lcu"),
        ({"n_wires": 7, "mixing": "lcu", "noise": NOISE}, r"up to 6 wires.*raise supernet\.channel_max_wires"),
        ({"engine": "torchquantum"}, "simulates amplitudes, and supernet.mixing=channel mixes density"),
        ({"engine": "tq", "mixing": "lcu"}, "Unknown supernet.engine: 'tq'"),
        ({"engine": "torchquantum", "mixing": "lcu", "memory": "recompute"}, "use supernet.memory=store with it"),
        ({"memory": "less"}, "Unknown use of memory: 'less'"),
        ({"measurement": "w"}, "'W'"),
        ({"measurement": ["ZZ"]}, "ZZ"),
        ({"measurement": {"ZZI": 1.0}, "head": "scale"}, "head=scale would change the expectation of the Hamiltonian"),
        ({"n_outputs": 4}, "3 observables cannot give 4 outputs; use supernet.head=linear"),
        ({"n_outputs": 0}, "n_outputs=0: expected at least 1"),
        ({"head": "lin"}, "Unknown supernet.head: 'lin'. Did you mean 'linear'"),
        ({"head_scale": 0.0}, "head_scale=0.0: expected a number above 0"),
        ({"shots": 0}, "shots=0: expected at least 1"),
        ({"init_range": -1.0}, "init_range=-1.0: expected a number of at least 0"),
        ({"init_range": math.nan}, "init_range=nan"),
        ({"reference": {"three_qubit": "U3"}}, "Unknown supernet.reference: 'three_qubit'"),
        ({"reference": {"one_qubit": "RZ"}}, "Unknown gate in supernet.reference.one_qubit: 'RZ'"),
        ({"noise": DeviceNoise("manila", n_wires=2)}, "laid out for 2 wires, the circuit has 3"),
        ({"noise": DeviceNoise("manila"), "n_wires": 6}, "manila"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, words):
    with pytest.raises(DartsHPOError, match=words):
        supercircuit(**settings)


def test_more_wires_are_no_problem_on_amplitudes():
    supernet = supercircuit(n_wires=9, mixing="lcu", topology="chain", n_layers=1)
    assert supernet(torch.rand(2, 4), mixture_gates(supernet)).shape == (2, 2)
    with pytest.raises(ConfigError):
        supercircuit(n_wires=9, mixing="lcu", noise=NOISE, noisy=["search"])


def test_drawing_a_supercircuit_takes_no_more_randomness_than_its_angles():
    """Settings are tried on a network that is thrown away."""
    torch.manual_seed(3)
    weights = supercircuit().weights
    torch.manual_seed(3)
    assert torch.equal(weights, math.pi * (2 * torch.rand(len(weights)) - 1))


def test_random_genotypes_have_circuits_on_the_topology():
    supernet = supercircuit(topology=[[2, 0]])
    for seed in range(5):
        point = supernet.space.sample(random.Random(seed))
        circuit = supernet.derive(supernet.genotype({k: str(v) for k, v in point.items()})).circuit
        assert {op.wires for op in circuit.operations if len(op.wires) == 2} <= {(2, 0)}
