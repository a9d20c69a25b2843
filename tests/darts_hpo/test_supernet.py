import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from darts_hpo.errors import SpaceError
from darts_hpo.normalization import frozen_batchnorm
from darts_hpo.space import Categorical, Float, Space
from darts_hpo.supernet import Gate, MixedOp, Supernet, one_hot_gates
from darts_hpo.testing.memory import saved_tensor_bytes

SPACE = Space({"a": Categorical(("x", "y", "z")), "b": Categorical(("x", "y"))})


def _mixed(dtype=torch.float64, normalized=False):
    """Four options of one shape, among them one without weights."""
    torch.manual_seed(0)
    options = {
        "three": nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.SiLU()),
        "five": nn.Sequential(nn.Conv2d(3, 3, 5, padding=2), nn.Tanh()),
        "pool": nn.MaxPool2d(3, 1, 1),
        "skip": nn.Identity(),
    }
    if normalized:
        options["normalized"] = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.SiLU())
    return MixedOp("a", options).to(dtype)


def _input(dtype=torch.float64):
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1)).to(dtype)


def _probed(n, active, dtype=torch.float64):
    weights = torch.zeros(n, dtype=dtype)
    weights[active] = 1.0
    return Gate(weights.requires_grad_(), (active,), tuple(i for i in range(n) if i != active))


# -- gates -------------------------------------------------------------------------------------------


def test_gate_kinds():
    weights = torch.ones(3)
    assert Gate(weights, (0, 1, 2)).kind == "mixture"
    assert Gate(weights, (0, 2)).kind == "mixture"
    assert Gate(weights, (1,)).kind == "path"
    assert Gate(weights, (1,), (0, 2)).kind == "probed_path"
    with pytest.raises(SpaceError, match="at least one active option"):
        Gate(weights, ())


def test_one_hot_gate():
    like = torch.zeros(1, dtype=torch.float64)
    gate = Gate.one_hot(4, 2, like)
    assert gate.weights.tolist() == [0, 0, 1, 0]
    assert gate.weights.dtype == torch.float64
    assert (gate.active, gate.probed, gate.log_prob) == ((2,), (), None)
    assert Gate.one_hot(2, 0).weights.dtype == torch.get_default_dtype()


def test_one_hot_gates_of_a_space():
    gates = one_hot_gates(SPACE, {"b": "y", "a": "z"})
    assert {name: gate.active for name, gate in gates.items()} == {"a": (2,), "b": (1,)}
    with pytest.raises(SpaceError, match="'b' has no value"):
        one_hot_gates(SPACE, {"a": "x"})
    with pytest.raises(SpaceError, match="Did you mean 'y'|Valid: x, y"):
        one_hot_gates(SPACE, {"a": "x", "b": "w"})
    with pytest.raises(SpaceError, match="expected a Categorical"):
        one_hot_gates(Space({"lr": Float(0.0, 1.0)}), {"lr": 0.5})


# -- mixed operations --------------------------------------------------------------------------------


@given(st.lists(st.floats(-2, 2), min_size=4, max_size=4), st.sets(st.integers(0, 3), min_size=2))
@settings(max_examples=25, deadline=None)
def test_a_mixture_is_the_weighted_sum_of_its_active_options(weights, active):
    mixed, x = _mixed(), _input()
    gate = Gate(torch.tensor(weights, dtype=torch.float64), tuple(sorted(active)))
    expected = sum(weights[i] * mixed.option(i)(x) for i in active)
    assert torch.allclose(mixed(x, gate), expected, rtol=1e-12, atol=1e-12)


def test_a_path_is_the_option_itself():
    mixed, x = _mixed(), _input()
    assert torch.equal(mixed(x, Gate.one_hot(4, 1)), mixed.option(1)(x))
    assert mixed(x, Gate.one_hot(4, 3)) is x  # not multiplied, not copied


def test_a_path_with_gradient_is_multiplied():
    mixed, x = _mixed(), _input()
    weights = torch.tensor([0.0, 0.5, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    out = mixed(x, Gate(weights, (1,)))
    assert torch.allclose(out, 0.5 * mixed.option(1)(x))
    (gradient,) = torch.autograd.grad(out.sum(), weights)
    assert gradient[1] == pytest.approx(mixed.option(1)(x).sum().item())
    assert gradient[[0, 2, 3]].tolist() == [0, 0, 0]


def test_mixed_op_refuses_nonsense():
    with pytest.raises(SpaceError, match="'a' has no options"):
        MixedOp("a", {})
    with pytest.raises(SpaceError, match="'a' has 4 options but its gate has 3"):
        _mixed()(_input(), Gate.one_hot(3, 0))


# -- probed paths: the backward pass of ProxylessNAS -------------------------------------------------


@pytest.mark.parametrize("active", range(4))
def test_probed_gradient_is_the_inner_product(active):
    """d L / d w_j = <d L / d y, o_j(x)> (nas.md 3.6)."""
    mixed, x = _mixed(), _input()
    gate = _probed(4, active)
    coefficients = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    out = mixed(x, gate)
    assert torch.equal(out, mixed.option(active)(x))
    (gradient,) = torch.autograd.grad((coefficients * out.sin()).sum(), gate.weights)
    upstream = coefficients * out.detach().cos()
    with torch.no_grad():
        expected = torch.stack([(upstream * mixed.option(j)(x)).sum() for j in range(4)])
    assert torch.allclose(gradient, expected, rtol=1e-12, atol=1e-12)


def test_a_linear_loss_gives_the_exact_gradient_of_the_expectation():
    """For L = <c, y> every draw's estimate is the gradient of sum_j p_j L(o_j) (nas.md 3.6, test a)."""
    mixed, x = _mixed(), _input()
    c = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    logits = torch.tensor([0.3, -0.2, 0.5, 0.0], dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        values = torch.stack([(c * mixed.option(j)(x)).sum() for j in range(4)])
    (expected,) = torch.autograd.grad((logits.softmax(0) * values).sum(), logits)
    for active in range(4):
        gate = _probed(4, active)
        (gate_gradient,) = torch.autograd.grad((c * mixed(x, gate)).sum(), gate.weights)
        p = logits.detach().softmax(0)
        estimate = p * (gate_gradient - (p * gate_gradient).sum())
        assert torch.allclose(estimate, expected, rtol=1e-10, atol=1e-12)
        assert abs(float(estimate.sum())) < 1e-12


@pytest.mark.parametrize("active", range(5))
def test_recomputing_equals_keeping_all_outputs(active):
    def gradients(keep_all):
        mixed, x = _mixed(normalized=True), _input().requires_grad_()
        gate = _probed(5, active)
        if keep_all:
            gate = Gate(gate.weights, tuple(range(5)))
        with frozen_batchnorm(mixed):
            mixed(x, gate).square().mean().backward()
        weights = {name: parameter.grad for name, parameter in mixed.named_parameters()}
        return gate.weights.grad, x.grad, weights

    (gate_kept, x_kept, weights_kept), (gate, x, weights) = gradients(True), gradients(False)
    assert torch.allclose(gate, gate_kept, rtol=1e-12, atol=1e-12)
    assert torch.allclose(x, x_kept, rtol=1e-12, atol=1e-12)
    for name, kept in weights_kept.items():
        if weights[name] is None:  # inactive: no gradient at all, so no momentum and no decay touches it
            assert bool((kept == 0).all())
        else:
            assert torch.allclose(weights[name], kept, rtol=1e-12, atol=1e-12)


def test_probing_leaves_frozen_statistics_alone():
    mixed = _mixed(normalized=True)
    before = {name: buffer.clone() for name, buffer in mixed.named_buffers()}
    with frozen_batchnorm(mixed):
        mixed(_input(), _probed(5, 0)).sum().backward()
    assert all(torch.equal(before[name], buffer) for name, buffer in mixed.named_buffers())
    mixed(_input(), _probed(5, 0)).sum().backward()  # without freezing, the recomputation would move them
    assert not all(torch.equal(before[name], buffer) for name, buffer in mixed.named_buffers())


def test_nothing_is_probed_where_no_weight_wants_a_gradient():
    mixed, x = _mixed(), _input()
    calls = []
    for position, option in enumerate(mixed.options.values()):
        option.register_forward_hook(lambda *_, position=position: calls.append(position))
    gate = Gate(torch.tensor([1.0, 0, 0, 0]), (0,), (1, 2, 3))
    mixed(x, gate).sum().backward()
    assert calls == [0]


def test_a_second_derivative_through_a_probe_is_refused():
    mixed, gate = _mixed(), _probed(4, 0)
    (gradient,) = torch.autograd.grad(
        mixed(_input(), gate).square().sum(), gate.weights, create_graph=True, retain_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("backward_inside", [False, True])
def test_probing_under_autocast_recomputes_in_the_same_precision(backward_inside):
    mixed, x = _mixed(torch.float32), _input(torch.float32)
    dtypes = {}
    for position, option in enumerate(mixed.options.values()):
        option.register_forward_hook(lambda *args, position=position: dtypes.update({position: args[2].dtype}))
    gate = _probed(4, 0, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = mixed(x, gate)
        loss = out.float().square().mean()
        if backward_inside:
            loss.backward()
            # Casts made while recomputing must not stay in the region's cache without a gradient.
            mixed.option(1)(x).float().sum().backward()
            assert all(parameter.grad is not None for parameter in mixed.option(1).parameters())
    if not backward_inside:
        loss.backward()
    assert (dtypes[0], dtypes[1]) == (torch.bfloat16, torch.bfloat16)
    assert gate.weights.grad.dtype == torch.float32

    exact, gate64 = _mixed(), _probed(4, 0)
    exact(_input(), gate64).square().mean().backward()
    assert torch.allclose(gate.weights.grad.double(), gate64.weights.grad, rtol=0.05, atol=5e-3)


def test_saved_bytes_are_those_of_one_path():
    mixed, x = _mixed(), _input().requires_grad_()
    own = list(mixed.parameters())
    single = saved_tensor_bytes(lambda: mixed(x, Gate.one_hot(4, 0)).square(), own)
    probed = saved_tensor_bytes(lambda: mixed(x, _probed(4, 0)).square(), own)
    kept = saved_tensor_bytes(lambda: mixed(x, Gate(_probed(4, 0).weights, (0, 1, 2, 3))).square(), own)
    assert probed <= 1.1 * single
    assert kept > 2 * single


def test_saved_bytes_by_hand():
    x = torch.rand(10, dtype=torch.float32, requires_grad=True)
    assert saved_tensor_bytes(lambda: x.exp()) == 40  # its result
    assert saved_tensor_bytes(lambda: x * x) == 40  # one storage, saved twice
    assert saved_tensor_bytes(lambda: x * x, [x]) == 0
    assert saved_tensor_bytes(lambda: x + x) == 0


# -- the protocol ------------------------------------------------------------------------------------


class _Tiny(Supernet):
    name = "tiny"
    gate_kinds = frozenset({"path"})
    space = SPACE

    def forward(self, x, gates):
        self.check_gates(gates)
        return x

    def derive(self, genotype, *, inherit_weights=False):
        self.choices(genotype)
        return nn.Identity()

    def reference_choices(self):
        return {"a": "x", "b": "y"}

    def cost_units(self):
        return []


def test_gates_are_checked():
    supernet, x = _Tiny(), torch.zeros(1)
    gates = one_hot_gates(SPACE, supernet.reference_choices())
    assert supernet(x, gates) is x
    with pytest.raises(SpaceError, match="'b' of tiny was given no gate"):
        supernet(x, {"a": gates["a"]})
    with pytest.raises(SpaceError, match="'b' of tiny has 2 options but its gate has 3"):
        supernet(x, {"a": gates["a"], "b": gates["a"]})
    for gate in (Gate(torch.ones(2), (0, 1)), Gate(torch.ones(2), (0,), (1,))):
        with pytest.raises(SpaceError, match=f"cannot run a gate of kind '{gate.kind}'.*supports path"):
            supernet(x, {"a": gates["a"], "b": gate})


def test_names_resolve_to_choices():
    assert _Tiny().resolve_choice("a") == ("a",)
    with pytest.raises(SpaceError, match="Unknown choice of tiny: 'c'"):
        _Tiny().resolve_choice("c")
    assert _Tiny().collapse_indicators({}) == {}


def test_a_space_without_files_and_pictures_of_its_own_hands_in_none(tmp_path):
    assert _Tiny().export_files(nn.Identity(), tmp_path) == {}
    assert not list(tmp_path.iterdir())
    assert list(_Tiny().figures(nn.Identity())) == []
