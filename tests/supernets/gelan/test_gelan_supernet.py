"""Searched networks: spaces, equality with derived networks, gradients of gates, costs."""

import itertools
import random

import pytest
import torch
from torch import nn

from darts_hpo.errors import ConfigError, GenotypeError, SpaceError
from darts_hpo.normalization import recalibrate_batchnorm
from darts_hpo.relaxations import Softmax
from darts_hpo.supernet import Gate, MixedOp, one_hot_gates
from supernets.gelan import BLOCK_OPTIONS, BlockOption, Description, GelanNetwork, GelanSupernet, load_description
from supernets.gelan.blocks import RepNCSPELAN4
from supernets.gelan.entangled import EntangledBlock
from supernets.gelan.options import TANGO_OPTIONS

MODES = ["none", "entangled"]
FOUR = ["3x3_relu", "3x3_silu", "5x5_relu", "5x5_silu"]
SMALL = {"t": 0.25, "s": 0.25, "m": 0.15, "c": 0.1, "base": 0.1, "e": 0.1}


def build(network="gelan-c", weight_sharing="none", width=None, **arguments):
    torch.manual_seed(0)
    width = SMALL[network.split("-")[1]] if width is None else width
    return GelanSupernet(network, 3, (3, 64, 64), weight_sharing=weight_sharing, width=width, **arguments)


def soft_gates(space, requires_grad=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    gates = {}
    for name in space:
        n = len(space.categorical(name).options)
        weights = torch.softmax(torch.randn(n, generator=generator), 0).requires_grad_(requires_grad)
        gates[name] = Gate(weights, tuple(range(n)))
    return gates


def probed_gates(space, choices):
    gates = {}
    for name, gate in one_hot_gates(space, choices).items():
        others = tuple(p for p in range(len(gate.weights)) if p not in gate.active)
        gates[name] = Gate(gate.weights.requires_grad_(), gate.active, others)
    return gates


# -- spaces ---------------------------------------------------------------------------------------------------


def test_the_eight_options_in_their_published_order():
    assert TANGO_OPTIONS == (
        "3x3_relu", "3x3_leaky_relu", "3x3_mish", "3x3_silu",
        "5x5_relu", "5x5_leaky_relu", "5x5_mish", "5x5_silu",
    )  # fmt: skip


@pytest.mark.parametrize("weight_sharing", MODES)
@pytest.mark.parametrize(("network", "blocks"), [("gelan-t", 8), ("yolov9-t", 8), ("gelan-c", 8), ("gelan-e", 12)])
def test_size_of_the_deployed_space(weight_sharing, network, blocks):
    with torch.device("meta"):
        supernet = build(network, weight_sharing)
    assert supernet.space.size == supernet.genotype_space.size == 8**blocks
    assert not any(role.startswith("auxiliary") for role in supernet.roles)
    assert supernet.name == f"{network}/deployed"


def test_genotypes_do_not_depend_on_how_weights_are_shared():
    ours, theirs = build(weight_sharing="none"), build(weight_sharing="entangled")
    assert ours.genotype_space.id == theirs.genotype_space.id
    choices = theirs.space.sample(random.Random(3))
    genotype = theirs.genotype(choices)
    assert theirs.choices(genotype) == choices
    assert ours.genotype(ours.choices(genotype)) == genotype
    assert set(genotype.choices.values()) <= set(TANGO_OPTIONS)
    with pytest.raises(GenotypeError, match="belongs to the space"):
        build("yolov9-c", searched="tango").derive(genotype)


def test_genotype_describes_the_whole_network():
    supernet = build("yolov9-t", "entangled")
    genotype = supernet.genotype(supernet.reference_choices(), {"entropy": 0.5})
    assert genotype.to_json()["entropy"] == 0.5
    blocks = genotype.facts["network"]["blocks"]
    assert blocks["auxiliary.p4"] == {"kernel": 3, "activation": "silu"}
    assert len(blocks) == 10


@pytest.mark.parametrize("weight_sharing", MODES)
@pytest.mark.parametrize("network", ["yolov9-c", "yolov9-m", "yolov9-base"])
def test_tango_aliases(network, weight_sharing):
    with torch.device("meta"):
        supernet = build(network, weight_sharing, searched="tango")
    assert list(supernet.aliases) == [f"m_{i}" for i in (13, 16, 19, 22, 28, 31, 34, 37)]
    assert supernet.aliases["m_13"] == "neck.p4_up"
    assert supernet.aliases["m_37"] == "auxiliary.p5"
    factors = ("neck.p4.kernel", "neck.p4.act")
    assert supernet.resolve_choice("m_19") == (("neck.p4",) if weight_sharing == "none" else factors)
    assert supernet.resolve_choice("neck.p4") == supernet.resolve_choice("m_19")
    for option in ("5x5_mish", "6"):
        fixed = supernet.fixed_choices("m_19", option)
        assert fixed == (
            {"neck.p4": "5x5_mish"} if weight_sharing == "none" else dict(zip(factors, ("5x5", "mish"), strict=True))
        )
    with pytest.raises(SpaceError, match="Did you mean 'm_19"):
        supernet.resolve_choice("m_199")
    with pytest.raises(SpaceError, match="5x5_mish"):
        supernet.fixed_choices("m_19", "5x5_mich")
    assert supernet.tied == {}
    assert [unit.name for unit in supernet.cost_units()] == list(supernet.roles[:4])


def test_one_factor_of_an_entangled_choice_can_be_fixed():
    supernet = build(weight_sharing="entangled")
    assert supernet.fixed_choices("neck.p3.act", "mish") == {"neck.p3.act": "mish"}
    assert supernet.resolve_choice("neck.p3.kernel") == ("neck.p3.kernel",)
    with pytest.raises(SpaceError, match="mish"):
        supernet.fixed_choices("neck.p3.act", "mich")


def test_auxiliary_blocks_follow_their_twins():
    with torch.device("meta"):
        options = ["3x3_silu", "5x5_mish"]
        c, t, e = (build(name, options=options) for name in ("yolov9-c", "yolov9-t", "yolov9-e"))
        part = build("yolov9-c", options=options, searched=["backbone.p4", "auxiliary.p4", "backbone.p5"])
    assert c.tied == {f"auxiliary.p{i}": f"backbone.p{i}" for i in (2, 3, 4, 5)}
    assert t.tied == e.tied == {"auxiliary.p4": "neck.p4_up", "auxiliary.p3": "neck.p3"}
    assert part.tied == {"auxiliary.p5": "backbone.p5"}
    assert part.roles == ("backbone.p4", "backbone.p5", "auxiliary.p4")
    choices = dict(c.reference_choices()) | {"backbone.p5": "5x5_mish"}
    derived = c.derive(c.genotype(choices))
    assert derived.options["auxiliary.p5"] == derived.options["backbone.p5"] == BlockOption(5, "mish")


def test_a_twin_of_another_shape_stays_as_designed():
    data = load_description("yolov9-c").to_plain()
    next(entry for entry in data["auxiliary"] if entry["tag"] == "p5")["branch"] = 128
    with torch.device("meta"):
        supernet = GelanSupernet(Description.from_plain(data), 3, (3, 64, 64), options=FOUR)
    assert "auxiliary.p5" not in supernet.tied
    assert "auxiliary.p4" in supernet.tied


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"network": "yolov9-t", "searched": "tango"}, ConfigError, "yolov9-m, -c or -base"),
        ({"network": "gelan-c", "searched": "tango"}, ConfigError, "auxiliary branch"),
        ({"searched": "deploid"}, ConfigError, "Did you mean 'deployed'"),
        ({"searched": ["neck.p4x"]}, ConfigError, "Did you mean 'neck.p4"),
        ({"searched": []}, ConfigError, "empty"),
        ({"searched": ["neck.spp"]}, ConfigError, "searchable block"),
        ({"options": ["3x3_silu", "3x3_sillu"]}, ConfigError, "Did you mean '3x3_silu'"),
        ({"options": ["3x3_silu", "3x3_silu"]}, SpaceError, "once"),
        ({"options": ["3x3_silu", "5x5_mish"], "weight_sharing": "entangled"}, SpaceError, "3x3 mish, 5x5 silu"),
        ({"weight_sharing": "entangle"}, ConfigError, "entangled"),
        ({"searched": 5}, ConfigError, r"supernet\.searched=5: expected deployed, tango, none or a list of roles"),
        ({"searched": None}, ConfigError, r"supernet\.searched=None: expected"),
        ({"searched": ["neck.p4", 5]}, ConfigError, r"supernet\.searched=.*a list of roles"),
        ({"options": "3x3_silu"}, ConfigError, r"supernet\.options='3x3_silu': expected a list of names"),
        ({"options": 5}, ConfigError, r"supernet\.options=5: expected a list"),
        ({"network": 5, "width": 1.0}, ConfigError, r"supernet\.network=5: expected the name or path"),
    ],
)
def test_mistakes_are_named(arguments, error, message):
    with torch.device("meta"), pytest.raises(error, match=message):
        build(**arguments)


def test_image_size_is_checked_at_once():
    with torch.device("meta"), pytest.raises(ConfigError, match="multiple of 32"):
        GelanSupernet("gelan-t", 3, (3, 100, 100))


# -- derived networks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_sharing", MODES)
@pytest.mark.parametrize(
    ("network", "searched"),
    [
        ("gelan-t", "deployed"),
        ("yolov9-t", "deployed"),
        ("yolov9-c", "deployed"),
        ("yolov9-c", "tango"),
        ("yolov9-m", "tango"),
        ("yolov9-e", "deployed"),
    ],
)
def test_derived_network_equals_the_supernet_at_one_hot_gates(network, searched, weight_sharing, randomize):
    arguments = {} if network == "gelan-t" else {"options": FOUR}
    supernet = randomize(build(network, weight_sharing, searched=searched, **arguments)).eval()
    choices = supernet.space.sample(random.Random(1))
    derived = supernet.derive(supernet.genotype(choices), inherit_weights=True)
    assert type(derived) is GelanNetwork
    assert not any(isinstance(module, (MixedOp, EntangledBlock)) for module in derived.modules())
    assert derived.has_auxiliary == network.startswith("yolov9")
    image = torch.rand(2, 3, 64, 64)
    gates = one_hot_gates(supernet.space, choices)
    with torch.no_grad():
        expected = supernet(image, gates)
        torch.testing.assert_close(derived.eval()(image), expected, rtol=1e-5, atol=1e-5)
        # Gates with all options active and weights that happen to be one-hot say the same.
        mixed = {n: Gate(g.weights.clone().requires_grad_(), tuple(range(len(g.weights)))) for n, g in gates.items()}
        torch.testing.assert_close(supernet(image, mixed), expected, rtol=1e-4, atol=1e-3)
    # In training mode too, the auxiliary head included (statistics of the batch).
    with torch.no_grad():
        ours, theirs = supernet.train()(image, gates), derived.train()(image)
        torch.testing.assert_close(ours.main.box_logits, theirs.main.box_logits, rtol=1e-4, atol=1e-4)
        if derived.has_auxiliary:
            torch.testing.assert_close(ours.auxiliary.class_logits, theirs.auxiliary.class_logits, rtol=1e-4, atol=1e-4)


def test_statistics_can_be_recalibrated_for_a_derived_network():
    supernet = build(weight_sharing="entangled")
    derived = supernet.derive(supernet.genotype(supernet.reference_choices()), inherit_weights=True)
    batches = [torch.rand(4, 3, 64, 64) for _ in range(2)]
    assert recalibrate_batchnorm(derived, derived, batches) == 2
    norm = derived.get_submodule("backbone.stem1.bn")
    with torch.no_grad():
        means = [derived.get_submodule("backbone.stem1.conv")(batch).mean((0, 2, 3)) for batch in batches]
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0))


def test_reference_is_the_network_as_designed():
    for mode in MODES:
        supernet = build("yolov9-t", mode, options=FOUR)
        derived = supernet.derive(supernet.genotype(supernet.reference_choices()))
        assert set(derived.options.values()) == {BlockOption(3, "silu")}
    assert set(build(options=["5x5_relu", "5x5_silu"]).reference_choices().values()) == {"5x5_relu"}


def test_a_new_option_is_one_entry_of_the_registry(randomize):
    BLOCK_OPTIONS.register("7x7_gelu", BlockOption(7, "gelu"))
    try:
        supernet = randomize(build(searched=["neck.p3"], options=["3x3_silu", "7x7_gelu"])).eval()
        derived = supernet.derive(supernet.genotype({"neck.p3": "7x7_gelu"}), inherit_weights=True).eval()
        image = torch.rand(1, 3, 64, 64)
        gates = one_hot_gates(supernet.space, {"neck.p3": "7x7_gelu"})
        torch.testing.assert_close(derived(image), supernet(image, gates), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(derived.fuse()(image), derived(image), rtol=1e-4, atol=1e-3)
        assert isinstance(derived.get_submodule("neck.p3.leave.act"), nn.GELU)
        with pytest.raises(ConfigError, match="already registered"):
            BLOCK_OPTIONS.register("7x7_gelu", BlockOption(7, "gelu"))
    finally:
        BLOCK_OPTIONS.unregister("7x7_gelu")


# -- gates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_sharing", MODES)
@pytest.mark.parametrize("kind", ["mixture", "probed_path"])
def test_main_loss_gives_auxiliary_choices_of_tango_exactly_no_gradient(weight_sharing, kind):
    supernet = build("yolov9-c", weight_sharing, searched="tango", options=FOUR)
    gates = (
        soft_gates(supernet.space) if kind == "mixture" else probed_gates(supernet.space, supernet.reference_choices())
    )
    output = supernet(torch.rand(2, 3, 64, 64), gates)
    loss = output.main.box_logits.square().mean() + output.main.class_logits.square().mean()
    auxiliary_loss = output.auxiliary.box_logits.square().mean()
    leaves = {name: gate.weights for name, gate in gates.items()}
    main = dict(
        zip(leaves, torch.autograd.grad(loss, leaves.values(), allow_unused=True, retain_graph=True), strict=True)
    )
    both = dict(zip(leaves, torch.autograd.grad(auxiliary_loss, leaves.values(), allow_unused=True), strict=True))
    for name in leaves:
        if name.startswith("auxiliary."):
            assert main[name] is None or not main[name].any()
            assert both[name].any()
        else:
            assert main[name].any()


def test_a_tied_choice_hears_the_auxiliary_loss():
    supernet = build("yolov9-c", options=["3x3_silu", "5x5_silu"], searched=["backbone.p5"])
    gates = soft_gates(supernet.space)
    supernet(torch.rand(2, 3, 64, 64), gates).auxiliary.box_logits[:, :64].square().mean().backward()
    tied = supernet.network.get_submodule("auxiliary.p5")
    assert gates["backbone.p5"].weights.grad.any()
    assert isinstance(tied, MixedOp)
    assert tied.choice == "backbone.p5"


@pytest.mark.parametrize("kind", ["path", "probed_path", "mixture"])
def test_which_options_are_called(kind):
    supernet = build(searched=["neck.p3", "neck.p5"], options=["3x3_relu", "3x3_silu", "5x5_silu"])
    calls = {}
    for role, (name, module) in itertools.product(supernet.roles, enumerate(supernet.options)):
        block = supernet.network.get_submodule(role).options[module]
        calls[role, name] = 0

        def count(*_, key=(role, name)):
            calls[key] += 1

        block.register_forward_hook(count)
    choices = dict.fromkeys(supernet.roles, "3x3_silu")
    gates = {
        "path": lambda: one_hot_gates(supernet.space, choices),
        "probed_path": lambda: probed_gates(supernet.space, choices),
        "mixture": lambda: soft_gates(supernet.space),
    }[kind]()
    output = supernet(torch.rand(1, 3, 64, 64), gates)
    forward = {key: int(kind == "mixture" or key[1] == 1) for key in calls}
    assert calls == forward
    output.main.box_logits.square().mean().backward()
    assert calls == dict.fromkeys(calls, 1) if kind != "path" else calls == forward


@pytest.mark.parametrize("weight_sharing", MODES)
def test_mixed_precision(weight_sharing):
    supernet = build(weight_sharing=weight_sharing, options=FOUR)
    gates = soft_gates(supernet.space)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = supernet(torch.rand(2, 3, 64, 64), gates)
        loss = output.main.box_logits.float().square().mean()
    loss.backward()
    assert output.main.anchors.dtype == torch.float32
    assert all(gate.weights.grad.isfinite().all() for gate in gates.values())
    assert all(p.grad.isfinite().all() for p in supernet.parameters() if p.grad is not None)


def test_the_supernet_has_no_parameters_that_are_not_trained():
    supernet = build("yolov9-t", options=FOUR)
    assert all(parameter.requires_grad for parameter in supernet.parameters())


def test_every_choice_needs_a_gate():
    supernet = build(weight_sharing="entangled", searched=["neck.p3"])
    gates = soft_gates(supernet.space)
    with pytest.raises(SpaceError, match=r"neck\.p3\.act"):
        supernet(torch.rand(1, 3, 64, 64), {"neck.p3.kernel": gates["neck.p3.kernel"]})
    gates["neck.p3.act"] = gates["neck.p3.kernel"]
    with pytest.raises(SpaceError, match="4 options but its gate has 2"):
        supernet(torch.rand(1, 3, 64, 64), gates)


# -- entangled blocks -----------------------------------------------------------------------------------------


def entangled_block(kernels=(3, 5), activations=("relu", "leaky_relu", "mish", "silu")):
    torch.manual_seed(0)
    return EntangledBlock(
        lambda o: RepNCSPELAN4(8, 8, hidden=8, branch=8, kernel=o.kernel, activation=o.activation), kernels, activations
    )


def test_gradients_of_an_entangled_block(randomize):
    # Smooth activations only: finite differences would step over the kinks of ReLU inside the block.
    block = randomize(entangled_block((3, 5, 7), ("mish", "silu", "gelu")).double())
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64, requires_grad=True)
    kernel = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64, requires_grad=True)
    activation = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64, requires_grad=True)
    for mode in (True, False):
        block.train(mode)
        assert torch.autograd.gradcheck(
            lambda x, k, a: block(x, Gate(k, (0, 1, 2)), Gate(a, (0, 1, 2))), (x, kernel, activation), fast_mode=True
        )


def test_mixed_kernel_is_the_mixture_of_convolutions(randomize):
    block = randomize(entangled_block()).eval()
    name, layer = next((n, m) for n, m in block.named_modules() if type(m).__name__ == "NestedConv2d")
    assert name.endswith("rep.spatial.conv")
    x, weights = torch.randn(2, 4, 9, 9), torch.tensor([0.3, 0.6])
    with block.mixture.of(weights, 0):
        mixed = layer(x)
    with block.mixture.of(0, 0):
        small = layer(x)
    with block.mixture.of(1, 0):
        large = layer(x)
    assert layer.crop(0).shape[-1] == 3
    torch.testing.assert_close(mixed, 0.3 * small + 0.6 * large, rtol=1e-4, atol=1e-5)


def test_probed_path_is_the_derivative_of_the_mixture_at_one_hot_weights(randomize):
    block = randomize(entangled_block().double()).eval()
    x = torch.randn(1, 8, 6, 6, dtype=torch.float64)
    kernel, activation = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 0.0, 1.0, 0.0]).double()
    probing = (
        Gate(kernel.clone().requires_grad_(), (0,), (1,)),
        Gate(activation.clone().requires_grad_(), (2,), (0, 1, 3)),
    )
    mixture = Gate(kernel.clone().requires_grad_(), (0, 1)), Gate(activation.clone().requires_grad_(), (0, 1, 2, 3))
    plain = block(x, Gate(kernel, (0,)), Gate(activation, (2,)))
    results = []
    for gates in (probing, mixture):
        out = block(x, *gates)
        torch.testing.assert_close(out, plain)
        results.append(torch.autograd.grad(out.square().sum(), [gate.weights for gate in gates]))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours.all()


def test_inactive_weights_do_not_count():
    block = entangled_block().eval()
    x = torch.randn(1, 8, 6, 6)
    kernel = Gate.one_hot(2, 1)
    two = Gate(torch.tensor([0.5, 0.5, 9.0, 9.0], requires_grad=True), (0, 1))
    same = Gate(torch.tensor([0.5, 0.5, 0.0, 0.0], requires_grad=True), (0, 1, 2, 3))
    torch.testing.assert_close(block(x, kernel, two), block(x, kernel, same))


def test_single_path_costs_no_larger_kernel_and_no_mixture():
    block = entangled_block()
    used = []
    for module in block.modules():
        if isinstance(module, (nn.ReLU, nn.LeakyReLU, nn.Mish, nn.SiLU)):
            module.register_forward_hook(lambda m, i, o: used.append(type(m)))
    x = torch.randn(1, 8, 6, 6, requires_grad=True)
    shapes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: shapes.append(t.shape) or t, lambda t: t):
        block(x, Gate.one_hot(2, 0), Gate.one_hot(4, 2))
    assert set(used) == {nn.Mish}
    assert max(shape[-1] for shape in shapes if len(shape) == 4 and shape[0] in (4, 8)) <= 6
    assert not any(shape[-2:] == (5, 5) for shape in shapes)


def test_an_entangled_block_has_the_parameters_of_its_largest_option():
    largest = RepNCSPELAN4(8, 8, hidden=8, branch=8, kernel=5)
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert count(entangled_block()) == count(largest)


# -- costs and health -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_sharing", MODES)
def test_cost_units_are_the_blocks_of_the_deployed_network(weight_sharing):
    supernet = build("yolov9-t", weight_sharing, options=FOUR)
    choices = supernet.space.sample(random.Random(5))
    deployed = supernet.derive(supernet.genotype(choices)).deploy()
    units = supernet.cost_units()
    assert [unit.name for unit in units] == list(supernet.roles)
    assert sorted(itertools.chain(*(unit.choices for unit in units))) == sorted(supernet.space)
    inputs = {}
    for unit in units:
        module = unit.build({name: choices[name] for name in unit.choices})
        theirs = deployed.get_submodule(unit.name)
        assert {k: v.shape for k, v in module.state_dict().items()} == {
            k: v.shape for k, v in theirs.state_dict().items()
        }
        theirs.register_forward_hook(lambda m, i, o, name=unit.name: inputs.__setitem__(name, tuple(i[0].shape[1:])))
    deployed(torch.rand(1, 3, 64, 64))
    assert inputs == {unit.name: unit.input_shape for unit in units}


def test_published_cost_of_a_block():
    with torch.device("meta"):
        supernet = GelanSupernet("yolov9-c", 80, (3, 640, 640), searched="tango", options=["3x3_silu", "5x5_silu"])
        unit = supernet.cost_units()[0]
        sizes = [sum(p.numel() for p in unit.build({"neck.p4_up": o}).parameters()) for o in supernet.options]
    assert sizes == [3_083_264, 6_228_992]
    assert unit.input_shape == (1024, 40, 40)


@pytest.mark.parametrize("weight_sharing", MODES)
def test_indicators(weight_sharing):
    supernet = build(weight_sharing=weight_sharing, searched=["neck.p3", "neck.p5"])
    if weight_sharing == "none":
        small, large = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 0]), torch.tensor([0.0, 0, 0.2, 0, 0, 0, 0, 0.8])
        probabilities = {"neck.p3": small, "neck.p5": large}
    else:
        silu = torch.tensor([0.0, 0.0, 0.0, 1.0])
        probabilities = {
            "neck.p3.kernel": torch.tensor([1.0, 0.0]), "neck.p3.act": silu,
            "neck.p5.kernel": torch.tensor([0.2, 0.8]), "neck.p5.act": silu,
        }  # fmt: skip
    indicators = supernet.collapse_indicators(probabilities)
    assert indicators == {"largest_kernel_share": pytest.approx(0.4), "option_agreement": 0.5}
    assert supernet.collapse_indicators({}) == {}


@pytest.mark.parametrize("weight_sharing", ["none", "entangled"])
def test_probabilities_of_joint_options(weight_sharing: str):
    supernet = GelanSupernet("gelan-t", 3, (3, 64, 64), weight_sharing=weight_sharing, width=0.25)
    relaxation = Softmax(supernet.space, init_std=1.0)
    joint = supernet.genotype_probabilities(relaxation.probabilities())
    genotype = supernet.genotype(relaxation.argmax())
    assert set(joint) == set(genotype.choices)
    for role, probabilities in joint.items():
        assert sum(probabilities.values()) == pytest.approx(1.0)
        assert max(probabilities, key=probabilities.__getitem__) == genotype.choices[role]
