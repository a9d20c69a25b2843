import itertools
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from darts_hpo.costs import Cost, CostModel, CostPenalty, CostTerm, Flops, Latency, Parameters, deployed
from darts_hpo.errors import ConfigError, SpaceError, TrainingError
from darts_hpo.space import Categorical, Space
from darts_hpo.supernet import CostUnit, Gate, Supernet, one_hot_gates

A, B, C = ("a0", "a1", "a2"), ("b0", "b1"), ("c0", "c1")


def _model(seed=0):
    """A term of two choices, one that shares a choice with it, and one alone."""
    generator = torch.Generator().manual_seed(seed)
    terms = (
        CostTerm("ab", {"a": A, "b": B}, torch.rand(3, 2, generator=generator)),
        CostTerm("bc", {"b": B, "c": C}, torch.rand(2, 2, generator=generator)),
        CostTerm("a", {"a": A}, torch.rand(3, generator=generator)),
    )
    return CostModel("latency", "ms", 1.25, terms, 3.0, {"threads": 1})


SPACE = Space({"a": Categorical(A), "b": Categorical(B), "c": Categorical(C)})


def _all_choices():
    return [dict(zip("abc", joint, strict=True)) for joint in itertools.product(A, B, C)]


# -- costs of one module -----------------------------------------------------------------------------


def test_parameters_by_hand():
    module = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=4))
    assert Parameters().measure(module, (3, 8, 8)) == 3 * 8 * 9 + 16 + (8 * 2 * 9 + 8)
    shared = nn.Linear(4, 4)
    assert Parameters().measure(nn.Sequential(shared, shared), (4,)) == 20


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 12), 3 * 8 * 9 * 120),
        (nn.Conv2d(4, 8, 5, stride=2, padding=2, groups=4), (4, 8, 8), 1 * 8 * 25 * 16),
        (nn.ConvTranspose2d(4, 2, 2, stride=2), (4, 5, 5), 4 * 2 * 4 * 25),
        (nn.Linear(6, 5), (6,), 30),
        (nn.Linear(6, 5, bias=False), (7, 6), 7 * 30),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)), (2, 4, 4), 2 * 4 * 16),
        (nn.Sequential(nn.BatchNorm2d(3), nn.SiLU(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2)), (3, 8, 8), 0),
        (nn.Identity(), (3, 8, 8), 0),
    ],
)
def test_flops_are_twice_the_multiply_accumulates(module, shape, macs):
    assert Flops().measure(module, shape) == pytest.approx(2 * macs / 1e9, rel=1e-12, abs=0)


class _LooksAtValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x) if float(x.sum()) == 0.0 else x


class _FunctionalConvolution(nn.Module):
    def forward(self, x):
        return nn.functional.conv2d(x, torch.ones(2, x.shape[1], 1, 1, device=x.device))


def test_flops_of_what_has_no_layers_or_looks_at_values():
    assert Flops().measure(_LooksAtValues(), (3,)) == pytest.approx(18 / 1e9)
    assert Flops().measure(_FunctionalConvolution(), (3, 4, 4)) == pytest.approx(2 * 2 * 3 * 16 / 1e9)


class _Caches(nn.Module):
    """Keeps something of the forward pass, as detection heads keep their anchors."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Dropout(0.5))
        self.cache = None

    def forward(self, x):
        self.cache = torch.zeros(1, device=x.device)
        return self.layer(x) + self.cache


@pytest.mark.parametrize("cost", [Parameters(), Flops(), Latency(warmup=1, repeats=2)], ids=lambda cost: cost.name)
def test_measuring_leaves_no_trace(cost):
    module = _Caches()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    ambient, threads = torch.get_rng_state(), torch.get_num_threads()
    assert cost.measure(module, (1, 4, 4)) >= 0
    assert torch.equal(torch.get_rng_state(), ambient)
    assert torch.get_num_threads() == threads
    assert module.training
    assert module.cache is None
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert all(value.device.type == "cpu" for value in module.state_dict().values())
    json.dumps(dict(cost.conditions()))


def test_latency_is_the_median_in_milliseconds(monkeypatch):
    ticks = iter([9.0, 0.0, 0.004, 0.0, 0.001, 0.0, 0.002])  # one warm-up, then 4, 1 and 2 ms
    monkeypatch.setattr("darts_hpo.costs.latency.time.perf_counter", lambda: next(ticks))
    assert Latency(warmup=1, repeats=3).measure(nn.Identity(), (1,)) == pytest.approx(2.0)


class _Witness(nn.Module):
    seen: list = []

    def forward(self, x):
        self.seen.append((tuple(x.shape), self.training, torch.is_inference_mode_enabled(), torch.get_num_threads()))
        return x


def test_latency_runs_one_input_in_inference_mode_with_its_threads():
    _Witness.seen.clear()
    latency = Latency(warmup=2, repeats=3, threads=1)
    latency.measure(_Witness(), (3, 5))
    assert _Witness.seen == 5 * [((1, 3, 5), False, True, 1)]
    assert latency.conditions()["threads"] == 1
    assert latency.conditions()["device"] == "cpu"


@pytest.mark.parametrize("arguments", [{"repeats": 0}, {"warmup": -1}, {"threads": 0}, {"device": "nonsense"}])
def test_impossible_latencies_are_refused(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        Latency(**arguments)


def test_deployed():
    class Fused(nn.Module):
        def deploy(self):
            return nn.Identity()

    plain = nn.Linear(2, 2)
    assert deployed(plain) is plain
    assert isinstance(deployed(Fused()), nn.Identity)


# -- the model ---------------------------------------------------------------------------------------


def test_expected_at_one_hot_equals_exact():
    model = _model()
    for choices in _all_choices():
        gates = one_hot_gates(SPACE, choices, torch.zeros((), dtype=torch.float64))
        assert float(model.expected(gates)) == pytest.approx(model.exact(choices), rel=1e-12)
        weights = {name: gate.weights for name, gate in gates.items()}
        assert float(model.expected(weights)) == pytest.approx(model.exact(choices), rel=1e-12)


def test_exact_by_hand():
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    model = CostModel("flops", "GFLOPs", 10.0, (CostTerm("ab", {"a": A, "b": B}, table),), 0.0)
    assert model.exact({"a": "a2", "b": "b0", "unrelated": "x"}) == 15.0


@given(st.lists(st.floats(-3, 3), min_size=7, max_size=7), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_expected_is_the_mean_over_all_architectures(logits, seed):
    model = _model(seed)
    logits = torch.tensor(logits, dtype=torch.float64)
    p = {"a": logits[:3].softmax(0), "b": logits[3:5].softmax(0), "c": logits[5:].softmax(0)}
    mean = sum(
        math.prod(float(p[name][SPACE.categorical(name).index(option)]) for name, option in choices.items())
        * model.exact(choices)
        for choices in _all_choices()
    )
    assert float(model.expected(p)) == pytest.approx(mean, rel=1e-12)


def test_gradient_of_the_logits_is_p_times_deviation():
    """d E / d a_i = p_i (lat_i - E) (nas.md 3.6, test d); here lat_i is E given option i."""
    model = _model()
    logits = {n: torch.randn(k, dtype=torch.float64, requires_grad=True) for n, k in (("a", 3), ("b", 2), ("c", 2))}
    expected = model.expected({name: a.softmax(0) for name, a in logits.items()})
    gradients = torch.autograd.grad(expected, list(logits.values()))
    p = {name: a.detach().softmax(0) for name, a in logits.items()}
    for (name, probability), gradient in zip(p.items(), gradients, strict=True):
        for i in range(len(probability)):
            given_i = model.expected({**p, name: torch.eye(len(probability), dtype=torch.float64)[i]})
            assert float(gradient[i]) == pytest.approx(float(probability[i] * (given_i - expected).detach()), abs=1e-12)
        assert abs(float(gradient.sum())) < 1e-12


def test_gates_and_tensors_keep_their_dtype():
    gates = {n: Gate(torch.full((k,), 1 / k), tuple(range(k))) for n, k in (("a", 3), ("b", 2), ("c", 2))}
    assert _model().expected(gates).dtype == torch.float32
    assert float(CostModel("p", "p", 4.0, (), 4.0).expected({})) == 4.0


def test_wrong_choices_are_named():
    model = _model()
    p = {name: torch.ones(len(options)) for name, options in (("a", A), ("b", B), ("c", C))}
    with pytest.raises(SpaceError, match="needs a gate for 'c'"):
        model.expected({"a": p["a"], "b": p["b"]})
    with pytest.raises(SpaceError, match="'b' has 2 options in the latency table but 3 weights"):
        model.expected({**p, "b": torch.ones(3)})
    with pytest.raises(SpaceError, match="needs an option for 'c'"):
        model.exact({"a": "a0", "b": "b0"})
    with pytest.raises(SpaceError, match="Unknown option of choice 'c': 'c3'"):
        model.exact({"a": "a0", "b": "b0", "c": "c3"})


def test_json_round_trip_is_exact():
    model = _model()
    restored = CostModel.from_json(json.loads(json.dumps(model.to_json())))
    assert restored.to_json() == model.to_json()
    assert [restored.exact(c) for c in _all_choices()] == [model.exact(c) for c in _all_choices()]
    assert (restored.name, restored.unit, restored.reference) == ("latency", "ms", 3.0)
    assert restored.conditions == {"threads": 1}


def test_malformed_tables_are_refused():
    good = _model().to_json()
    for key in ("terms", "fixed", "name"):
        with pytest.raises(SpaceError, match=f"lacks the key '{key}'"):
            CostModel.from_json({k: v for k, v in good.items() if k != key})
    with pytest.raises(SpaceError, match="schema_version 7"):
        CostModel.from_json({**good, "schema_version": 7})
    with pytest.raises(SpaceError, match="malformed"):
        CostModel.from_json({**good, "terms": [{**good["terms"][0], "table": [[1, 2], [3]]}]})
    with pytest.raises(SpaceError, match=r"has shape \(2,\); its options need \(3,\)"):
        CostTerm("a", {"a": A}, torch.zeros(2))
    with pytest.raises(SpaceError, match="not finite"):
        CostTerm("a", {"a": A}, torch.tensor([0.0, math.nan, 1.0]))


# -- measuring ---------------------------------------------------------------------------------------


class _Tiny(Supernet):
    """Two convolutions of searched size, a fixed one before them; the last two share a unit's structure."""

    name = "tiny"
    space = Space({"a": Categorical(("k1", "k3")), "b": Categorical(("k1", "k3"))})

    def __init__(self, overlap=False):
        super().__init__()
        self.overlap = overlap
        self.built = 0

    def _operation(self, option):
        size = int(option[1])
        return nn.Conv2d(4, 4, size, padding=size // 2)

    def forward(self, x, gates):
        raise NotImplementedError

    def derive(self, genotype, *, inherit_weights=False):
        choices = self.choices(genotype)
        return nn.Sequential(nn.Conv2d(1, 4, 3), *(self._operation(choices[name]) for name in self.space))

    def reference_choices(self):
        return {"a": "k3", "b": "k3"}

    def cost_units(self):
        def build(name):
            return lambda options: self._operation(options[name])

        units = [CostUnit(name, (name,), build(name), (4, 6, 6)) for name in self.space]
        return [*units, CostUnit("again", ("a",), build("a"), (4, 6, 6))] if self.overlap else units


class _Counted(Cost):
    name, unit = "counted", "calls"

    def __init__(self, additive, values=None):
        self.additive, self.values, self.calls = additive, values, 0

    def measure(self, module, input_shape):
        self.calls += 1
        return Parameters().measure(module, input_shape) if self.values is None else self.values(module)


def test_measured_model_is_exact_and_caches_equal_units():
    cost = _Counted(additive=True)
    supernet = _Tiny()
    state = torch.get_rng_state()
    model = CostModel.measure(supernet, cost, (1, 8, 8))
    assert torch.equal(state, torch.get_rng_state())
    assert cost.calls == 3  # k1, k3, the whole: both choices build the same modules
    k1, k3, stem = 4 * 4 + 4, 4 * 4 * 9 + 4, 9 * 4 + 4
    assert model.fixed == stem
    assert model.reference == stem + 2 * k3
    assert model.exact({"a": "k1", "b": "k3"}) == stem + k1 + k3
    assert model.terms[0].table.tolist() == [k1, k3]


def test_noise_below_zero_is_clamped_and_overlap_is_refused():
    def sum_exceeds_whole(module):
        return 5.0

    model = CostModel.measure(_Tiny(), _Counted(additive=False, values=sum_exceeds_whole), (1, 8, 8))
    assert model.fixed == 0.0
    assert model.reference == 5.0
    with pytest.raises(SpaceError, match="units of tiny cost .* but the whole network only"):
        CostModel.measure(_Tiny(overlap=True), _Counted(additive=True), (1, 8, 8))


def test_a_cost_of_whole_networks_has_no_table():
    cost = _Counted(additive=True)
    cost.decomposes = False
    with pytest.raises(ConfigError, match="'counted' is measured on whole networks only"):
        CostModel.measure(_Tiny(), cost, (1, 8, 8))
    assert cost.calls == 0


def test_tables_call_a_cost_by_its_label():
    class Depth(Cost):
        name, unit = "circuit_depth", ""

        def measure(self, module, input_shape):
            return 1.0

    class Probability(Depth):
        label = "Success probability"

    class Named(Depth):
        def __init__(self, device):
            self.label = f"Depth on {device}"

    class Timed(Depth):
        unit = "ns"

    assert [c.label for c in (Depth(), Probability(), Named("ring"), Timed())] == [
        "Circuit depth",
        "Success probability",
        "Depth on ring",
        "Circuit depth (ns)",
    ]
    assert [c.label for c in (Parameters(), Flops(), Latency())] == ["Parameters, deployed", "GFLOPs", "Latency (ms)"]
    assert Depth().applies_to(nn.Identity())


def test_stored_tables_belong_to_their_space():
    model = CostModel.measure(_Tiny(), Parameters(), (1, 8, 8))
    model.require_supernet(_Tiny())
    with pytest.raises(SpaceError, match=r"differs in again \(a\)\. Delete search/costs\.json"):
        model.require_supernet(_Tiny(overlap=True))

    class Renamed(_Tiny):
        space = Space({"a": Categorical(("k3", "k1")), "b": Categorical(("k1", "k3"))})

    with pytest.raises(SpaceError, match=r"differs in a \(a\)"):
        model.require_supernet(Renamed())


# -- the penalty -------------------------------------------------------------------------------------


def _flat(cost):
    """A model whose expected cost is ``cost``."""
    return CostModel("latency", "ms", cost, (), 4.0)


@pytest.mark.parametrize(
    ("form", "excess", "cost", "penalized"),
    [
        ("add", "linear", 6.0, 2.0 + 0.5 * 0.5),
        ("add", "linear", 2.0, 2.0 - 0.5 * 0.5),
        ("add", "positive", 6.0, 2.0 + 0.5 * 0.5),
        ("add", "positive", 2.0, 2.0),
        ("add", "absolute", 2.0, 2.0 + 0.5 * 0.5),
        ("mul", "linear", 6.0, 2.0 * 1.5**0.5),
        ("mul", "linear", 1.0, 2.0 * 0.25**0.5),
        ("mul", "positive", 1.0, 2.0),
        ("mul", "absolute", 2.0, 2.0 * 1.5**0.5),
    ],
)
def test_penalty_by_hand(form, excess, cost, penalized):
    penalty = CostPenalty(Latency(), 0.5, form=form, excess=excess)
    loss = torch.tensor(2.0)
    assert float(penalty(loss, _flat(cost), {})) == pytest.approx(penalized)
    assert float(penalty.term(loss, _flat(cost), {})) == pytest.approx(penalized - 2.0)


def test_a_factor_on_a_negative_loss_would_reward_the_cost_and_is_refused():
    loss, model = torch.tensor(-1.5), _flat(6.0)
    with pytest.raises(TrainingError, match=r"loss is -1\.5.*use penalty\.form=add"):
        CostPenalty(Latency(), 0.5, form="mul")(loss, model, {})
    assert float(CostPenalty(Latency(), 0.5)(loss, model, {})) > -1.5
    assert float(CostPenalty(Latency(), 0.5, form="mul")(torch.tensor(0.0), model, {})) == 0.0


def test_penalty_target_and_gradients():
    model = _model()
    logits = {n: torch.zeros(k, requires_grad=True) for n, k in (("a", 3), ("b", 2), ("c", 2))}
    p = {name: a.softmax(0) for name, a in logits.items()}
    loss = torch.tensor(2.0, requires_grad=True)
    term = CostPenalty(Latency(), 0.1, target=2.0).term(loss, model, p)
    actual = torch.autograd.grad(term, list(logits.values()), retain_graph=True)
    expected = torch.autograd.grad(model.expected(p), list(logits.values()), retain_graph=True)
    for a, b in zip(actual, expected, strict=True):
        assert torch.allclose(a, 0.1 / 2.0 * b, atol=1e-7)
    product = CostPenalty(Latency(), 0.5, form="mul").term(loss, model, p)
    (gradient,) = torch.autograd.grad(product, loss)
    ratio = float(model.expected(p).detach()) / model.reference
    assert float(gradient) == pytest.approx(ratio**0.5 - 1, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0}, "weight=-1"),
        ({"weight": math.nan}, "weight=nan"),
        ({"weight": 1.0, "target": 0.0}, "positive number of ms"),
        ({"weight": 1.0, "form": "plus"}, "form of a penalty: 'plus'"),
        ({"weight": 1.0, "excess": "positiv"}, "Did you mean 'positive'"),
    ],
)
def test_impossible_penalties_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        CostPenalty(Latency(), **arguments)


def test_a_free_reference_needs_a_target():
    with pytest.raises(ConfigError, match="give the penalty a target"):
        CostPenalty(Latency(), 1.0).term(torch.tensor(1.0), CostModel("latency", "ms", 0.0, (), 0.0), {})
