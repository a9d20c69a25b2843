"""The score function against exact enumeration: two choices of three options, a table of nine losses."""

import itertools

import pytest
import torch
from torch import nn
from torch.optim import SGD

from darts_hpo.bilevel import BilevelProblem, FirstOrder
from darts_hpo.errors import ConfigError
from darts_hpo.normalization import frozen_batchnorm
from darts_hpo.relaxations import ScoreFunction
from darts_hpo.space import Categorical, Space
from darts_hpo.testing import SmoothProblem, saved_tensor_bytes

SPACE = Space({"first": Categorical(("a", "b", "c")), "second": Categorical(("d", "e", "f"))})
ARCHITECTURES = list(itertools.product(range(3), range(3)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Table:
    """A score function whose draws are dictated, over a network that is a table of losses."""

    def __init__(self, monkeypatch, draws):
        self.relaxation = ScoreFunction(SPACE, init_std=0.8, draws=draws, generator=generator(2)).double()
        self.logits = list(self.relaxation.parameters())
        self.losses = 3.0 + torch.randn(3, 3, dtype=torch.float64, generator=generator(1))
        self.dictated = []
        monkeypatch.setattr(
            "darts_hpo.relaxations.score_function.drawn_position", lambda p, generator: self.dictated.pop(0)
        )

    def probability(self, architecture):
        first, second = (logits.detach().softmax(0) for logits in self.logits)
        return first[architecture[0]] * second[architecture[1]]

    def expected_loss(self):
        first, second = (logits.softmax(0) for logits in self.logits)
        return (torch.outer(first, second) * self.losses).sum()

    def exact(self):
        return flat(torch.autograd.grad(self.expected_loss(), self.logits))

    def every_draw(self):
        """Each sequence of draws, with its probability."""
        for architectures in itertools.product(ARCHITECTURES, repeat=self.relaxation.draws):
            probability = torch.stack([self.probability(a) for a in architectures]).prod()
            yield architectures, probability

    def drawn(self, architectures):
        self.dictated = [position for architecture in architectures for position in architecture]
        return [self.relaxation.sample("arch", generator()) for _ in architectures]

    def estimate(self, architectures):
        losses = [self.losses[a] for a in architectures]
        return flat(torch.autograd.grad(self.relaxation.surrogate_loss(self.drawn(architectures), losses), self.logits))

    def with_baseline(self, architectures, baseline):
        """The estimate with a baseline that is given as a function of all losses, written out."""
        losses = torch.stack([self.losses[a] for a in architectures])
        scores = torch.stack([self.score(a) for a in architectures])
        return ((losses - baseline(losses))[:, None] * scores).mean(0)

    def score(self, architecture):
        """d log p / d a = one-hot less the probabilities."""
        return torch.cat(
            [
                torch.eye(3, dtype=torch.float64)[position] - logits.detach().softmax(0)
                for position, logits in zip(architecture, self.logits, strict=True)
            ]
        )


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def moments(table, estimate):
    """Exact mean and total variance of an estimator over all draws."""
    found = [(probability, estimate(architectures)) for architectures, probability in table.every_draw()]
    mean = sum(probability * value for probability, value in found)
    return mean, float(sum(probability * (value - mean).square().sum() for probability, value in found))


@pytest.mark.parametrize("draws", [2, 3])
def test_the_estimate_is_unbiased(monkeypatch, draws):
    table = Table(monkeypatch, draws)
    mean, _ = moments(table, table.estimate)
    torch.testing.assert_close(mean, table.exact(), rtol=1e-12, atol=1e-13)


def test_the_baseline_of_a_draw_is_the_mean_of_the_others(monkeypatch):
    table = Table(monkeypatch, 3)
    for architectures, _ in list(table.every_draw())[::37]:
        found = table.estimate(architectures)
        others = table.with_baseline(architectures, lambda losses: (losses.sum() - losses) / 2)
        torch.testing.assert_close(found, others, rtol=1e-12, atol=1e-13)
        # The mean over all draws, the baseline of DQAS, is the same estimate at two thirds of its length.
        all_draws = table.with_baseline(architectures, lambda losses: losses.mean())
        torch.testing.assert_close(all_draws, found * 2 / 3, rtol=1e-12, atol=1e-13)


def test_the_baseline_takes_most_of_the_variance(monkeypatch):
    table = Table(monkeypatch, 2)
    _, with_baseline = moments(table, table.estimate)
    plain_mean, without = moments(table, lambda a: table.with_baseline(a, lambda losses: 0.0))
    torch.testing.assert_close(plain_mean, table.exact(), rtol=1e-12, atol=1e-13)
    assert with_baseline < 0.25 * without


def test_more_draws_have_less_variance(monkeypatch):
    variances = []
    for draws in (2, 3):
        with monkeypatch.context() as patch:
            table = Table(patch, draws)
            variances.append(moments(table, table.estimate)[1])
    assert variances[1] < variances[0]


def test_gates_are_one_hot_without_gradient_and_know_their_log_probability():
    relaxation = ScoreFunction(SPACE, init_std=1.0, generator=generator()).double()
    for seed in range(20):
        for name, gate in relaxation.sample("arch", generator(seed)).items():
            (active,) = gate.active
            assert gate.weights.tolist() == [float(i == active) for i in range(3)]
            assert not gate.weights.requires_grad
            assert gate.log_prob.requires_grad
            torch.testing.assert_close(gate.log_prob.detach().exp(), relaxation.probabilities()[name][active])


def test_draws_follow_the_softmax():
    relaxation, source, draws = ScoreFunction(SPACE, init_std=1.0, generator=generator()).double(), generator(7), 3000
    counts = torch.zeros(3, 3, dtype=torch.float64)
    for _ in range(draws):
        first, second = relaxation.sample("arch", source).values()
        counts[first.active[0], second.active[0]] += 1
    expected = torch.outer(*relaxation.probabilities().values()) * draws
    assert float(((counts - expected) ** 2 / expected).sum()) < 26.12  # the 0.999 quantile at 8 degrees of freedom


def test_a_fixed_choice_adds_nothing_to_the_log_probability():
    relaxation = ScoreFunction(SPACE, fixed={"first": "b"}, draws=2).double()
    draws = [relaxation.sample("arch", generator(seed)) for seed in (0, 1)]
    losses = [torch.tensor(value, dtype=torch.float64) for value in (1.0, 3.0)]
    (gradient,) = torch.autograd.grad(relaxation.surrogate_loss(draws, losses), list(relaxation.parameters()))
    p = relaxation.probabilities()["second"]
    one, other = (torch.eye(3, dtype=torch.float64)[gates["second"].active[0]] - p for gates in draws)
    torch.testing.assert_close(gradient, (-2.0 * one + 2.0 * other) / 2)


def test_a_single_draw_is_refused():
    with pytest.raises(ConfigError, match=r"relaxation\.draws=1: .*at least 2"):
        ScoreFunction(SPACE, draws=1)


# -- in a step -----------------------------------------------------------------------------------------------------


def test_a_step_is_unbiased_with_a_cost_that_multiplies_the_loss(monkeypatch):
    """E[L] * c(a): the product rule, the score function for the one factor and the exact gradient for the other."""
    table, gradients = Table(monkeypatch, 2), []

    def cost():
        return 1.0 + sum((p * torch.arange(3)).sum() for p in table.relaxation.distributions().values())

    def loss(batch, gates, memo):
        return {"loss": table.losses[tuple(gate.active[0] for gate in gates.values())]}

    problem = BilevelProblem(
        weights=[],
        logits=table.logits,
        weight_optimizer=SGD([nn.Parameter(torch.zeros(1))], lr=0.1),
        arch_optimizer=SGD(table.logits, lr=0.0),
        sample=lambda phase: table.relaxation.sample(phase, generator()),
        loss=loss,
        frozen_statistics=lambda: frozen_batchnorm(nn.Module()),
        draws=2,
        surrogate=table.relaxation.surrogate_loss,
        arch_terms=lambda mean: {"penalty": mean * (cost() - 1.0)},
        reduce_logit_gradients=lambda logits: gradients.append(flat([p.grad for p in logits])),
    )
    mean_gradient, mean_loss = 0.0, 0.0
    for architectures, probability in table.every_draw():
        table.dictated = [position for architecture in architectures for position in architecture]
        terms = FirstOrder().arch_step(problem, None, None)
        mean_gradient = mean_gradient + probability * gradients.pop()
        mean_loss = mean_loss + probability * terms["loss"]
    exact = table.expected_loss() * cost()
    torch.testing.assert_close(mean_loss, exact.detach(), rtol=1e-12, atol=1e-13)
    expected = flat(torch.autograd.grad(exact, table.logits))
    torch.testing.assert_close(mean_gradient, expected, rtol=1e-12, atol=1e-13)


def test_nothing_of_the_network_is_kept_for_a_step_of_the_logits():
    smooth = SmoothProblem(ScoreFunction)
    case, enabled = smooth.case, []
    loss = case.problem.loss

    def watching(*arguments):
        enabled.append(torch.is_grad_enabled())
        return loss(*arguments)

    case.problem.loss = watching
    kept = saved_tensor_bytes(lambda: FirstOrder().arch_step(case.problem, case.train_batch, case.arch_batch))
    assert enabled == [False] * 8
    one_vector = 3 * 8  # bytes of what a softmax over three options keeps
    assert kept < 3 * one_vector * 2 * 8  # at most three of them for each choice and draw
    case.problem.step_weights(case.train_batch)
    assert enabled[8:] == [True]
