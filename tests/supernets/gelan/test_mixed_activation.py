import pytest
import torch
import torch.nn.functional as F

from darts_hpo.errors import ConfigError
from supernets.gelan import mixed_activation
from supernets.gelan.mixed_activation import MixedActivation, mix_sigmoid_family


def reference(x, weights):
    terms = (F.relu(x), F.leaky_relu(x, 0.1), F.silu(x), F.mish(x))
    return sum(weight * term for weight, term in zip(weights, terms, strict=True))


@pytest.fixture
def weights():
    return torch.tensor([0.3, -0.2, 0.4, 0.7], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("wants_weights", [True, False])
def test_gradients_in_double_precision(weights, wants_weights):
    torch.manual_seed(0)
    x = (4 * torch.randn(2, 3, 4, 5, dtype=torch.float64)).requires_grad_()
    weights = weights.detach().requires_grad_(wants_weights)
    assert torch.autograd.gradcheck(mix_sigmoid_family, (x, weights))


def test_values_and_gradients_equal_the_four_activations(weights):
    x = torch.linspace(-30, 30, 4001, dtype=torch.float64, requires_grad=True)
    grad = torch.cos(x.detach())
    ours, theirs = mix_sigmoid_family(x, weights), reference(x, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    for a, b in zip(
        torch.autograd.grad(ours, (x, weights), grad), torch.autograd.grad(theirs, (x, weights), grad), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("wants_weights", [True, False])
def test_stable_everywhere_in_single_precision(position, wants_weights):
    x = torch.cat([torch.linspace(-1e4, 1e4, 2001), torch.linspace(-20, 20, 2001)]).requires_grad_()
    weights = F.one_hot(torch.tensor(position), 4).float().requires_grad_(wants_weights)
    out = mix_sigmoid_family(x, weights)
    out.sum().backward()
    double = x.detach().double().requires_grad_()
    expected = reference(double, weights.detach().double())
    expected.sum().backward()
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(x.grad.double(), double.grad, rtol=1e-5, atol=3e-6)
    if wants_weights:
        assert weights.grad.isfinite().all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("wants_weights", [True, False])
def test_in_pieces_and_any_layout(monkeypatch, weights, memory_format, wants_weights):
    monkeypatch.setattr(mixed_activation, "_CHUNK", 100)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    weights = weights.detach().requires_grad_(wants_weights)
    grad = torch.randn(2, 3, 7, 9, dtype=torch.float64)  # another layout than x where that is channels-last
    inputs = (x, weights) if wants_weights else (x,)
    ours = torch.autograd.grad(mix_sigmoid_family(x, weights), inputs, grad)
    theirs = torch.autograd.grad(reference(x, weights), inputs, grad)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("wants_weights", [True, False])
def test_keeps_one_tensor_of_the_inputs_size(wants_weights):
    x, weights = torch.randn(1000, requires_grad=True), torch.rand(4, requires_grad=wants_weights)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        mix_sigmoid_family(x, weights)
    assert sum(kept) == 1004


def test_half_precision_in_and_out():
    x = torch.linspace(-20, 20, 101).bfloat16().requires_grad_()
    out = mix_sigmoid_family(x, torch.full((4,), 0.25, requires_grad=True))
    out.float().sum().backward()
    assert out.dtype == x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), reference(x.detach().float(), [0.25] * 4), rtol=1e-2, atol=1e-2)


def test_module_takes_any_order_and_other_activations():
    module = MixedActivation(["gelu", "mish", "relu"])
    x, weights = torch.randn(50), torch.tensor([0.2, 0.5, 0.3])
    expected = 0.2 * F.gelu(x) + 0.5 * F.mish(x) + 0.3 * F.relu(x)
    torch.testing.assert_close(module(x, weights), expected)
    torch.testing.assert_close(module(x, 1), F.mish(x))
    torch.testing.assert_close(MixedActivation(["gelu"])(x, torch.ones(1)), F.gelu(x))
    with pytest.raises(ConfigError, match="Did you mean 'mish'"):
        MixedActivation(["mich"])
