"""Gumbel-softmax: the law of its draws, exactly one-hot values, and the soft sample's gradient."""

import pytest
import torch
from torch import nn

from darts_hpo.relaxations import GumbelSoftmax
from darts_hpo.space import Categorical, Space
from darts_hpo.supernet import MixedOp

SPACE = Space({"choice": Categorical(("a", "b", "c", "d"))})
LOGITS = torch.tensor([0.3, -0.8, 1.1, 0.0], dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gumbel(**settings):
    relaxation = GumbelSoftmax(SPACE, **settings).double()
    with torch.no_grad():
        next(relaxation.parameters()).copy_(LOGITS)
    return relaxation


def soft_sample(logits, temperature, seed):
    """Jang et al., equation 2, written out."""
    noise = -torch.empty(4, dtype=torch.float64).exponential_(generator=generator(seed)).log()
    weights = ((logits.softmax(0).log() + noise) / temperature).exp()
    return weights / weights.sum()


@pytest.mark.parametrize("temperature", [0.05, 1.0, 10.0])
@pytest.mark.parametrize(("phase", "hard"), [("weights", True), ("arch", True), ("arch", False)])
def test_draws_follow_the_softmax_at_every_temperature(phase, hard, temperature):
    relaxation, source, draws = gumbel(temperature=temperature, hard=hard), generator(5), 4000
    counts = torch.zeros(4, dtype=torch.float64)
    for _ in range(draws):
        counts[relaxation.sample(phase, source)["choice"].weights.argmax()] += 1
    expected = LOGITS.softmax(0) * draws
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.27  # the 0.999 quantile at 3 degrees of freedom


def test_hard_gates_are_exactly_one_hot_with_the_log_probability_of_the_draw():
    # Rounding shows in single precision: 1 + p - p is not always 1.
    for seed in range(200):
        relaxation = GumbelSoftmax(SPACE, init_std=3.0, temperature=0.7, generator=generator(seed))
        gate = relaxation.sample("arch", generator(seed))["choice"]
        (active,) = gate.active
        assert gate.weights.tolist() == [float(i == active) for i in range(4)]
        assert gate.probed == ()
        torch.testing.assert_close(gate.log_prob.exp(), relaxation.probabilities()["choice"][active])


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_the_gradient_is_the_soft_samples_jacobian(temperature, hard):
    """d s_i / d a_j = s_i (delta_ij - s_j) / temperature, for the whole weight vector, drawn or not."""
    relaxation = gumbel(temperature=temperature, hard=hard)
    (logits,) = relaxation.parameters()
    for seed in range(8):
        s = soft_sample(LOGITS, temperature, seed)
        weights = relaxation.sample("arch", generator(seed))["choice"].weights
        jacobian = torch.stack([torch.autograd.grad(w, logits, retain_graph=True)[0] for w in weights])
        torch.testing.assert_close(jacobian, (torch.diag(s) - torch.outer(s, s)) / temperature, rtol=1e-9, atol=1e-12)
        assert int(weights.argmax()) == int(s.argmax())
        if not hard:
            torch.testing.assert_close(weights.detach(), s, rtol=1e-9, atol=1e-12)


def test_soft_samples_approach_the_hard_ones_as_the_temperature_falls():
    for seed in range(20):
        soft = gumbel(hard=False, temperature=1e-4).sample("weights", generator(seed))["choice"]
        hard = gumbel(hard=True, temperature=10.0).sample("weights", generator(seed))["choice"]
        torch.testing.assert_close(soft.weights, hard.weights, rtol=0, atol=1e-3)


def test_the_kind_of_gate_is_the_instances():
    assert set(gumbel(hard=True).kinds.values()) == {"path"}
    assert set(gumbel(hard=False).kinds.values()) == {"mixture"}


def test_evaluation_leaves_the_noise_out():
    assert gumbel().sample("eval", generator())["choice"].active == (2,)
    soft = gumbel(hard=False, temperature=2.0).sample("eval", generator())["choice"]
    torch.testing.assert_close(soft.weights, (LOGITS / 2.0).softmax(0))


def test_in_a_mixed_op_only_the_drawn_entry_is_differentiated_as_in_gdas():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mixed = MixedOp("choice", {name: nn.Linear(3, 3) for name in "abcd"}).double()
    x = torch.randn(5, 3, dtype=torch.float64, generator=generator(1))
    relaxation = gumbel(temperature=0.7)
    (logits,) = relaxation.parameters()
    for seed in range(8):
        gate = relaxation.sample("arch", generator(seed))["choice"]
        (active,) = gate.active
        y, output = mixed(x, gate), mixed.option(active)(x).detach()
        assert torch.equal(y, output)
        (gradient,) = torch.autograd.grad(y.square().sum(), logits)
        s = soft_sample(LOGITS, 0.7, seed)
        by_entry = (2 * output * output).sum()  # <d L / d y, o_active>
        expected = by_entry * s[active] * (torch.eye(4, dtype=torch.float64)[active] - s) / 0.7
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
        assert bool((gradient != 0).all())


def test_the_temperature_follows_progress():
    relaxation = gumbel(hard=False, temperature=4.0, final_temperature=0.25)
    relaxation.set_progress(0.5)
    found = relaxation.sample("weights", generator(3))["choice"].weights
    torch.testing.assert_close(found, soft_sample(LOGITS, 1.0, 3))
    # What is reported is the law of the draws, which no temperature changes.
    torch.testing.assert_close(relaxation.probabilities()["choice"], LOGITS.softmax(0))
