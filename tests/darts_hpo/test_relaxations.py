"""Relaxations: the suite, and what the two poles promise beyond it."""

import itertools
from functools import partial

import pytest
import torch
from torch import nn

from darts_hpo.bilevel import FirstOrder, Unrolled
from darts_hpo.relaxations import BinaryGates, GumbelSoftmax, ScoreFunction, Softmax
from darts_hpo.space import Categorical, Space
from darts_hpo.supernet import Gate, MixedOp
from darts_hpo.testing import RelaxationConformance, SmoothProblem, saved_tensor_bytes

OPTIONS = ("a", "b", "c", "d")
SPACE = Space({"choice": Categorical(OPTIONS)})


class TestSoftmax(RelaxationConformance):
    relaxation = Softmax


class TestTemperedSoftmax(RelaxationConformance):
    relaxation = partial(Softmax, temperature=2.0, final_temperature=0.2, annealing="linear")


class TestBinaryGates(RelaxationConformance):
    relaxation = BinaryGates


class TestHardGumbel(RelaxationConformance):
    relaxation = GumbelSoftmax


class TestSoftGumbel(RelaxationConformance):
    relaxation = partial(GumbelSoftmax, hard=False, draws=2)


class TestScoreFunction(RelaxationConformance):
    relaxation = ScoreFunction


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def one_choice(kind, logits=(0.3, -0.8, 1.1, 0.0)):
    relaxation = kind(SPACE).double()
    with torch.no_grad():
        next(relaxation.parameters()).copy_(torch.tensor(logits))
    return relaxation


def test_softmax_weights_are_equation_2_of_darts():
    relaxation = one_choice(Softmax)
    (logits,) = relaxation.parameters()
    gate = relaxation.sample("arch", generator())["choice"]
    exponentials = logits.detach().exp()
    torch.testing.assert_close(gate.weights.detach(), exponentials / exponentials.sum())
    assert gate.active == (0, 1, 2, 3)
    assert gate.weights.requires_grad


def test_options_that_are_no_strings_can_be_fixed():
    relaxation = Softmax(Space({"bits": Categorical((2, 4, 8))}), fixed={"bits": 4})
    assert relaxation.argmax() == {"bits": "4"}
    assert relaxation.sample("arch", generator())["bits"].active == (1,)


# -- binary gates: draws and the estimate --------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["weights", "arch"])
def test_draws_follow_the_softmax(phase):
    relaxation, source, draws = one_choice(BinaryGates), generator(7), 4000
    counts = torch.zeros(4, dtype=torch.float64)
    for _ in range(draws):
        gate = relaxation.sample(phase, source)["choice"]
        counts[gate.active[0]] += 1
    expected = relaxation.probabilities()["choice"] * draws
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 16.27  # the 0.999 quantile at 3 degrees of freedom


def test_gates_are_exactly_one_hot_with_the_log_probability_of_the_draw():
    # Rounding shows in single precision: 1 + p - p is not always 1.
    for seed in range(200):
        relaxation = BinaryGates(SPACE, init_std=3.0, generator=generator(seed))
        gate = relaxation.sample("arch", generator(seed))["choice"]
        (active,) = gate.active
        assert gate.weights.tolist() == [float(i == active) for i in range(4)]
        assert gate.probed == tuple(i for i in range(4) if i != active)
        torch.testing.assert_close(gate.log_prob.exp(), relaxation.probabilities()["choice"][active])


def test_evaluation_takes_the_most_probable():
    assert one_choice(BinaryGates).sample("eval", generator())["choice"].active == (2,)
    assert one_choice(BinaryGates, [0.0, 1.0, 1.0, 0.0]).sample("eval", generator())["choice"].active == (1,)


def linear_options(width=3, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MixedOp(
            "choice",
            {
                "a": nn.Linear(width, width),
                "b": nn.Identity(),
                "c": nn.Sequential(nn.Linear(width, width), nn.Tanh()),
                "d": nn.Linear(width, width, bias=False),
            },
        ).double()


def logit_gradient(relaxation, mixed, x, loss, seed):
    (logits,) = relaxation.parameters()
    gate = relaxation.sample("arch", generator(seed))["choice"]
    (gradient,) = torch.autograd.grad(loss(mixed(x, gate)), [logits])
    return gradient, gate


def test_logit_gradients_are_equation_4_and_sum_to_zero():
    relaxation, mixed = one_choice(BinaryGates), linear_options()
    x = torch.randn(5, 3, dtype=torch.float64, generator=generator())
    seen = set()
    for seed in range(20):
        gradient, gate = logit_gradient(relaxation, mixed, x, lambda y: y.pow(3).sum(), seed)
        (active,) = gate.active
        seen.add(active)
        with torch.no_grad():
            outputs = torch.stack([option(x) for option in mixed.options.values()])
            by_output = 3 * outputs[active].square()  # d L / d y at the drawn path
            by_gate = (by_output * outputs).sum(dim=(1, 2))  # d L / d g_j = <d L / d y, o_j(x)>
            p = relaxation.probabilities()["choice"]
            formula = torch.stack([sum(by_gate[j] * p[j] * (float(i == j) - p[i]) for j in range(4)) for i in range(4)])
        torch.testing.assert_close(gradient, formula, rtol=1e-12, atol=1e-12)
        assert abs(float(gradient.sum())) < 1e-12 * float(gradient.abs().sum())
    assert seen == {0, 1, 2, 3}


def test_for_a_linear_loss_every_sample_gives_the_exact_gradient():
    """L = <c, y>: the estimate is d / d a of sum_j p_j L(o_j), whichever path was drawn."""
    relaxation, mixed = one_choice(BinaryGates), linear_options()
    (logits,) = relaxation.parameters()
    x = torch.randn(5, 3, dtype=torch.float64, generator=generator(1))
    c = torch.randn(5, 3, dtype=torch.float64, generator=generator(2))
    losses = torch.stack([(c * option(x)).sum() for option in mixed.options.values()]).detach()
    (exact,) = torch.autograd.grad((logits.softmax(0) * losses).sum(), [logits])
    for seed in range(20):
        gradient, _ = logit_gradient(relaxation, mixed, x, lambda y: (c * y).sum(), seed)
        torch.testing.assert_close(gradient, exact, rtol=1e-12, atol=1e-13)


def keep_every_output(mixed, x, gate):
    """The mode `full` of ProxylessNAS: all outputs kept, the inactive ones detached."""
    total = 0.0
    for position, option in enumerate(mixed.options.values()):
        output = option(x) if position in gate.active else option(x.detach()).detach()
        total = total + gate.weights[position] * output
    return total


def test_recomputing_equals_keeping_every_output():
    relaxation, mixed = one_choice(BinaryGates), linear_options()
    (logits,) = relaxation.parameters()
    x = torch.randn(5, 3, dtype=torch.float64, generator=generator(1), requires_grad=True)
    for seed in range(12):
        found, expected = [], []
        for run, gradients in ((mixed, found), (lambda x, g: keep_every_output(mixed, x, g), expected)):
            gate = relaxation.sample("arch", generator(seed))["choice"]
            output = run(x, gate)
            inputs = [logits, x, *mixed.parameters()]
            gradients.append(output.detach())
            gradients += torch.autograd.grad(output.square().sum(), inputs, allow_unused=True, materialize_grads=True)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


# -- binary gates: what is computed, and what is kept --------------------------------------------------------


class CallCounter:
    """Counts the forward calls of every option of every choice."""

    def __init__(self, network):
        self.calls = {}
        for name, choice in network.choices.items():
            for position, option in enumerate(choice.options.values()):
                option.register_forward_hook(lambda *_, key=(name, position): self.count(key))

    def count(self, key):
        self.calls[key] = self.calls.get(key, 0) + 1

    def of(self, step):
        self.calls = {}
        step()
        return self.calls


def drawn_positions(case):
    return {(name, gate.active[0]) for name, gate in case.of_kind("sample")[-1].detail.items()}


def test_weight_steps_call_the_active_option_once_and_no_other():
    smooth = SmoothProblem(BinaryGates)
    counter = CallCounter(smooth.network)
    for _ in range(10):
        calls = counter.of(lambda: smooth.case.problem.step_weights(smooth.case.train_batch))
        assert calls == dict.fromkeys(drawn_positions(smooth.case), 1)


def every_position(network):
    return itertools.product(network.choices, range(3))


def test_arch_steps_call_the_active_option_forward_and_the_others_once_backward():
    smooth = SmoothProblem(BinaryGates)
    case, counter = smooth.case, CallCounter(smooth.network)
    in_forward = {}
    loss = case.problem.loss

    def forward_then_look(batch, gates, memo):
        terms = loss(batch, gates, memo)
        in_forward.update(counter.calls)
        return terms

    case.problem.loss = forward_then_look
    for _ in range(5):
        in_forward.clear()
        calls = counter.of(lambda: FirstOrder().arch_step(case.problem, case.train_batch, case.arch_batch))
        assert in_forward == dict.fromkeys(drawn_positions(case), 1)
        assert calls == dict.fromkeys(every_position(smooth.network), 1)


def test_unrolled_runs_with_binary_gates_and_probes_only_where_logits_are_asked_for():
    """Four evaluations of the active path; the gradient of the weights alone probes nothing."""
    smooth = SmoothProblem(BinaryGates)
    case, counter = smooth.case, CallCounter(smooth.network)
    before = [a.detach().clone() for a in case.problem.logits]
    calls = counter.of(lambda: Unrolled().arch_step(case.problem, case.train_batch, case.arch_batch))
    active = drawn_positions(case)
    assert calls == {key: 4 if key in active else 3 for key in every_position(smooth.network)}
    assert not any(torch.equal(a, b) for a, b in zip(before, case.problem.logits, strict=True))
    for gradient in case.logit_gradients():
        assert abs(float(gradient.sum())) < 1e-6 * float(gradient.abs().sum())


def test_softmax_steps_call_every_option_once():
    smooth = SmoothProblem(Softmax)
    case, counter = smooth.case, CallCounter(smooth.network)
    once = dict.fromkeys(every_position(smooth.network), 1)
    assert counter.of(lambda: case.problem.step_weights(case.train_batch)) == once
    assert counter.of(lambda: FirstOrder().arch_step(case.problem, case.train_batch, case.arch_batch)) == once


def convolutions(depth=3, channels=8):
    def option(kernel, activation):
        return nn.Sequential(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(channels),
            activation,
        )

    options = {"a": (3, nn.SiLU()), "b": (5, nn.SiLU()), "c": (3, nn.ReLU()), "d": (1, nn.SiLU())}
    layers = nn.ModuleList(
        MixedOp("choice", {name: option(*arguments) for name, arguments in options.items()}) for _ in range(depth)
    )
    return layers, nn.Conv2d(channels, channels, 1)


def through(layers, head, x, gate):
    for layer in layers:
        x = layer(x, gate)
    return head(x)


def test_an_arch_step_keeps_the_memory_of_a_single_path():
    (layers, head), x = convolutions(), torch.randn(4, 8, 16, 16)
    probing, path = BinaryGates(SPACE), Gate.one_hot(4, 0)
    gate = next(g for g in (probing.sample("arch", generator(s))["choice"] for s in range(50)) if g.active == (0,))
    parameters = [*layers.parameters(), *head.parameters()]

    def saved(forward):
        return saved_tensor_bytes(forward, exclude=parameters)

    plain = saved(lambda: nn.Sequential(*(layer.option(0) for layer in layers), head)(x))
    single = saved(lambda: through(layers, head, x, path))
    probed = saved(lambda: through(layers, head, x, gate))
    mixture = saved(lambda: through(layers, head, x, Softmax(SPACE).sample("arch", generator())["choice"]))
    assert single == plain
    assert probed <= 1.1 * single
    assert mixture > 3 * single
