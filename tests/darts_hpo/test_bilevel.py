"""Bilevel rules against closed forms, double backward, the real optimizer, and deliberately wrong rules."""

import math
import weakref
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from darts_hpo.bilevel import FirstOrder, SingleLevel, Unrolled
from darts_hpo.bilevel.unrolled import virtual_sgd_step
from darts_hpo.errors import ConfigError, TrainingError
from darts_hpo.relaxations import BinaryGates, GumbelSoftmax, ScoreFunction, Softmax
from darts_hpo.testing import BilevelRuleConformance, Quadratic, SmoothProblem
from darts_hpo.testing.problems import real_scale, real_step
from darts_hpo.testing.rule import (
    check_arch_step,
    check_diverged,
    check_hypergradient,
    check_step,
    check_weight_step,
)


class TestFirstOrder(BilevelRuleConformance):
    rule = FirstOrder


class TestSingleLevel(BilevelRuleConformance):
    rule = SingleLevel


class TestUnrolled(BilevelRuleConformance):
    rule = Unrolled


# -- closed forms --------------------------------------------------------------------------------------------


def two_groups(parameters, **common):
    """Each parameter in a group with its own learning rate, momentum and decay."""
    first, *rest = parameters
    groups = [
        {"params": [first], "lr": 0.2, "momentum": 0.9, "weight_decay": 0.0},
        {"params": rest, "lr": 0.03, "momentum": 0.5, "weight_decay": 0.1},
    ]
    return SGD(groups, lr=0.1, momentum=0.9, **common)


OPTIMIZERS = {
    "plain": partial(SGD, lr=0.1),
    "decay": partial(SGD, lr=0.1, weight_decay=0.05),
    "momentum": partial(SGD, lr=0.1, momentum=0.9),
    "dampening": partial(SGD, lr=0.1, momentum=0.9, dampening=0.3),
    "nesterov": partial(SGD, lr=0.1, momentum=0.9, nesterov=True),
    "everything": partial(SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
    "maximize": partial(SGD, lr=0.01, momentum=0.9, weight_decay=0.05, maximize=True),
    "groups": two_groups,
    "groups_nesterov": partial(two_groups, nesterov=True),
    "tensor_lr": lambda parameters: SGD(parameters, lr=torch.tensor(0.1, dtype=torch.float64), momentum=0.9),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
every_clip = pytest.mark.parametrize("clip_norm", [None, 0.5, 1e6], ids=["unclipped", "clipped", "clip_unreached"])
# Without a buffer torch starts the momentum at the first gradient, undampened; later steps differ.
every_history = pytest.mark.parametrize("earlier_steps", [0, 1, 3])


@every_history
@every_clip
@every_optimizer
def test_unrolled_is_the_closed_form(optimizer, clip_norm, earlier_steps):
    quadratic = Quadratic(optimizer, clip_norm=clip_norm)
    quadratic.train_weights(earlier_steps)
    check_hypergradient(Unrolled(), quadratic.case, [quadratic.unrolled()], relative=1e-9)


def test_the_closed_form_is_the_published_one():
    """nas.md 3.1: w' = w - xi (w - A a), d L_val / d a = xi A^T (w' - b)."""
    quadratic = Quadratic(partial(SGD, lr=0.25))
    w = torch.cat([p.detach() for p in quadratic.case.problem.weights])
    a, A, b = quadratic.case.problem.logits[0].detach(), quadratic._matrix, quadratic._target
    virtual = w - 0.25 * (w - A @ a)
    torch.testing.assert_close(quadratic.unrolled(), 0.25 * A.T @ (virtual - b), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-2, 1.0])
def test_on_a_quadratic_the_size_of_the_difference_does_not_matter(epsilon):
    quadratic = Quadratic()
    check_hypergradient(Unrolled(epsilon), quadratic.case, [quadratic.unrolled()], relative=1e-9)


@every_optimizer
def test_first_order_is_exactly_zero(optimizer):
    quadratic = Quadratic(optimizer)
    quadratic.train_weights(2)
    before = quadratic.case.problem.logits[0].detach().clone()
    check_hypergradient(FirstOrder(), quadratic.case, [quadratic.first_order()], relative=0.0)
    assert torch.equal(before, quadratic.case.problem.logits[0])


def test_single_level_is_the_closed_form():
    quadratic = Quadratic()
    quadratic.train_weights(2)
    check_hypergradient(SingleLevel(), quadratic.case, [quadratic.single_level()], relative=1e-12)


def test_a_virtual_step_that_ignores_momentum_is_caught(monkeypatch):
    def without_buffers(optimizer, weights, gradients, clip_norm=None):
        return virtual_sgd_step(SGD(weights, lr=0.1), weights, gradients, clip_norm)

    monkeypatch.setattr("darts_hpo.bilevel.unrolled.virtual_sgd_step", without_buffers)
    quadratic = Quadratic(OPTIMIZERS["momentum"])
    quadratic.train_weights(2)
    with pytest.raises(AssertionError, match="the gradient is off by"):
        check_hypergradient(Unrolled(), quadratic.case, [quadratic.unrolled()], relative=1e-9)


def test_no_direction_gives_the_direct_gradient():
    """A learning rate of zero: the second-order term vanishes, without a division by its norm."""
    quadratic = Quadratic(partial(SGD, lr=0.0))
    check_hypergradient(Unrolled(), quadratic.case, [quadratic.first_order()], relative=0.0)


# -- the virtual step ----------------------------------------------------------------------------------------


@every_history
@every_clip
@every_optimizer
def test_the_virtual_step_is_the_real_one(optimizer, clip_norm, earlier_steps):
    quadratic = Quadratic(optimizer, clip_norm=clip_norm)
    quadratic.train_weights(earlier_steps)
    problem = quadratic.case.problem
    weights = list(problem.weights)
    kept = [w.detach().clone() for w in weights]
    loss = problem.loss("train", problem.sample("weights"), None)["loss"]
    gradients = torch.autograd.grad(loss, weights)
    virtual = virtual_sgd_step(problem.weight_optimizer, weights, gradients, clip_norm)
    scales = real_scale(problem.weight_optimizer, weights, gradients, clip_norm)
    for step, scale in zip(virtual, scales, strict=True):
        torch.testing.assert_close(torch.full_like(scale, step.scale), scale, rtol=1e-12, atol=1e-14)
    assert all(torch.equal(a, b) for a, b in zip(kept, weights, strict=True))
    problem.step_weights("train")
    for step, weight in zip(virtual, weights, strict=True):
        torch.testing.assert_close(step.weight, weight.detach(), rtol=1e-14, atol=1e-15)


def test_a_weight_without_gradient_stays_in_the_virtual_step_as_in_the_real_one():
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    optimizer = SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.1)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    gradients = [None, torch.ones(3)]
    virtual = virtual_sgd_step(optimizer, weights, gradients, clip_norm=1.0)
    assert torch.equal(virtual[0].weight, weights[0])
    assert virtual[0].scale == 0.0
    torch.testing.assert_close([v.weight for v in virtual], real_step(optimizer, weights, gradients, 1.0))
    nothing = virtual_sgd_step(optimizer, weights, [None, None], clip_norm=1.0)
    assert [step.scale for step in nothing] == [0.0, 0.0]


def test_other_optimizers_are_refused():
    with pytest.raises(ConfigError, match=r"needs SGD.*not Adam.*bilevel=first_order"):
        Unrolled().arch_step(*arguments(Quadratic(partial(Adam, lr=0.1)).case))
    quadratic = Quadratic()
    stranger = SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(ConfigError, match="does not hold every weight"):
        Unrolled().arch_step(replace(quadratic.case.problem, weight_optimizer=stranger), "train", "arch")
    with pytest.raises(ConfigError, match=r"bilevel\.epsilon=0"):
        Unrolled(epsilon=0)


def test_other_ways_of_drawing_are_refused_with_what_to_use():
    with pytest.raises(ConfigError, match=r"one draw.*not relaxation\.draws=2\. Use relaxation\.draws=1, or bilevel="):
        Unrolled().arch_step(*arguments(SmoothProblem(partial(BinaryGates, draws=2)).case))
    with pytest.raises(ConfigError, match=r"carry no gradient.*Use bilevel=first_order, or relaxation=gumbel"):
        Unrolled().arch_step(*arguments(SmoothProblem(ScoreFunction).case))


# -- a smooth network ----------------------------------------------------------------------------------------


def cosine(found, expected):
    return torch.nn.functional.cosine_similarity(flat(found), flat(expected), dim=0).item()


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def relative_error(found, expected):
    return float((flat(found) - flat(expected)).norm() / flat(expected).norm())


@pytest.mark.parametrize("clip_norm", [None, 0.1], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("optimizer", ["plain", "everything", "groups"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_unrolled_is_double_backward(optimizer, clip_norm, seed):
    smooth = SmoothProblem(Softmax, OPTIMIZERS[optimizer], batchnorm=False, clip_norm=clip_norm, seed=seed)
    smooth.train_weights(2)
    expected = smooth.unrolled()
    assert relative_error(smooth.first_order(), expected) > 5e-3  # there is a second order to get right
    _, found = Unrolled().hypergradient(*arguments(smooth.case))
    assert cosine(found, expected) > 0.999
    assert relative_error(found, expected) < 1e-3
    check_hypergradient(Unrolled(), smooth.case, expected, relative=1e-3)


@pytest.mark.parametrize("batchnorm", [False, True], ids=["plain", "batchnorm"])
def test_the_difference_converges_quadratically(batchnorm):
    """What is left of the error is the central difference's own, O(epsilon^2): nothing else is wrong."""
    smooth = SmoothProblem(Softmax, OPTIMIZERS["everything"], batchnorm=batchnorm)
    smooth.train_weights(2)
    expected = smooth.unrolled()
    coarse, fine = (
        relative_error(Unrolled(epsilon).hypergradient(*arguments(smooth.case))[1], expected)
        for epsilon in (1e-2, 1e-3)
    )
    assert fine < 1e-4
    assert coarse / fine == pytest.approx(100, rel=0.1)


def test_clipping_is_active_in_these_problems():
    smooth = SmoothProblem(Softmax, batchnorm=False)
    gates = smooth.case.problem.sample("weights")
    loss = smooth.case.problem.loss(smooth.case.train_batch, gates, None)["loss"]
    assert flat(torch.autograd.grad(loss, smooth.case.problem.weights)).norm() > 0.1


def test_first_order_on_the_network():
    smooth = SmoothProblem(Softmax)
    check_hypergradient(FirstOrder(), smooth.case, smooth.first_order(), relative=1e-12)


@pytest.mark.parametrize("relaxation", [Softmax, BinaryGates])
def test_one_hypergradient_draws_once_decides_once_and_asks_four_losses(relaxation):
    smooth = SmoothProblem(relaxation)
    case = smooth.case
    Unrolled().hypergradient(*arguments(case))
    assert len(case.of_kind("sample")) == 1
    losses = case.of_kind("loss")
    assert [event.detail is case.train_batch for event in losses] == [True, False, True, True]
    memos = [event.memo for event in losses if event.detail is case.train_batch]
    assert memos[0] is memos[1] is memos[2]
    assert losses[1].memo is None
    assert smooth.decisions == 2  # the train batch's, and the arch batch's at the virtual weights
    drawn = case.of_kind("sample")[0].detail
    for event in losses:
        assert {name: gate.active for name, gate in event.gates.items()} == {n: g.active for n, g in drawn.items()}


def test_statistics_stay_frozen_in_a_hypergradient():
    smooth = SmoothProblem(BinaryGates)
    smooth.train_weights(1)
    before = {name: value.clone() for name, value in smooth.network.named_buffers()}
    assert any(name.endswith("num_batches_tracked") and value == 1 for name, value in before.items())
    for _ in range(5):
        Unrolled().hypergradient(*arguments(smooth.case))
    assert all(torch.equal(before[name], value) for name, value in smooth.network.named_buffers())


def test_weights_are_restored_when_the_arch_loss_diverges():
    smooth = SmoothProblem(Softmax)
    case, loss = smooth.case, smooth.case.problem.loss
    before = [w.detach().clone() for w in case.problem.weights]

    def diverging(batch, gates, memo):
        terms = loss(batch, gates, memo)
        return {k: v * math.inf for k, v in terms.items()} if batch is case.arch_batch else terms

    with pytest.raises(TrainingError, match="The arch loss became inf"):
        Unrolled().arch_step(replace(case.problem, loss=diverging), case.train_batch, case.arch_batch)
    assert all(torch.equal(a, b) for a, b in zip(before, case.problem.weights, strict=True))


def test_a_gradient_that_is_no_number_never_reaches_the_logits():
    smooth = SmoothProblem(Softmax)
    problem, loss = smooth.case.problem, smooth.case.problem.loss

    def kinked(batch, gates, memo):
        """Finite, with the infinite slope of a square root at zero."""
        terms = loss(batch, gates, memo)
        return {"loss": terms["loss"] + (terms["error"] - terms["error"].detach()).sqrt()}

    before = [a.detach().clone() for a in problem.logits]
    with pytest.raises(TrainingError, match="gradient of the architecture logits is not finite"):
        FirstOrder().arch_step(replace(problem, loss=kinked), *arguments(smooth.case)[1:])
    assert all(torch.equal(a, b) for a, b in zip(before, problem.logits, strict=True))


def test_weights_of_inactive_options_move_not_at_all():
    """Their gradient is None: neither momentum nor weight decay touches them (as in ProxylessNAS)."""
    smooth = SmoothProblem(BinaryGates, OPTIMIZERS["everything"])
    smooth.train_weights(20)
    problem, case = smooth.case.problem, smooth.case
    assert all(problem.weight_optimizer.state[w].get("momentum_buffer") is not None for w in problem.weights)
    case.events.clear()
    options = {
        (name, i): [w.detach().clone() for w in choice.option(i).parameters()]
        for name, choice in smooth.network.choices.items()
        for i in range(3)
    }
    problem.step_weights(case.train_batch)
    (draw,) = case.of_kind("sample")
    for (name, i), before in options.items():
        moved = any(
            not torch.equal(a, b)
            for a, b in zip(before, smooth.network.choices[name].option(i).parameters(), strict=True)
        )
        assert moved == (bool(before) and i in draw.detail[name].active)


def test_a_weight_step_drops_gradients_that_reach_the_logits():
    """Even gates that lead back to the logits, or logits that a loss reads directly, leave nothing behind."""
    smooth = SmoothProblem(Softmax)
    problem = smooth.case.problem
    problem.step_weights(smooth.case.train_batch, problem.sample("arch"))
    assert all(a.grad is None for a in problem.logits)


def test_the_logits_gradients_are_reduced_before_the_step():
    smooth = SmoothProblem(Softmax)

    def reduce(logits):
        for parameter in logits:
            parameter.grad.mul_(2.0)

    expected = [2.0 * g for g in smooth.first_order()]
    smooth.case.problem.reduce_logit_gradients = reduce
    check_hypergradient(FirstOrder(), smooth.case, expected, relative=1e-12)


# -- several draws -------------------------------------------------------------------------------------------


def frozen(relaxation, **settings):
    """A problem whose steps move nothing, so that draws of one generator can be compared."""
    smooth = SmoothProblem(partial(relaxation, **settings), partial(SGD, lr=0.0))
    smooth.case.problem.arch_optimizer.param_groups[0]["lr"] = 0.0
    return smooth


def mean_of(gradients):
    return [torch.stack(list(parts)).mean(dim=0) for parts in zip(*gradients, strict=True)]


@pytest.mark.parametrize("rule", [FirstOrder, SingleLevel])
@pytest.mark.parametrize("relaxation", [BinaryGates, GumbelSoftmax, partial(GumbelSoftmax, hard=False)])
def test_several_draws_give_the_mean_of_their_gradients_and_losses(rule, relaxation):
    single, several = frozen(relaxation), frozen(relaxation, draws=4)
    gradients, losses = [], []
    for _ in range(4):
        losses.append(rule().arch_step(*arguments(single.case))["loss"])
        gradients.append(single.case.logit_gradients())
    terms = rule().arch_step(*arguments(several.case))
    torch.testing.assert_close(terms["loss"], torch.stack(losses).mean())
    torch.testing.assert_close(several.case.logit_gradients(), mean_of(gradients), rtol=1e-12, atol=1e-14)
    assert len({float(loss) for loss in losses}) > 1, "the draws must differ for this to mean something"


def test_several_draws_of_a_weight_step_give_the_mean_of_their_gradients():
    """An option that was drawn once in two gets half of its gradient, one that was never drawn none at all."""
    single, several = frozen(BinaryGates), frozen(BinaryGates, weight_draws=2)
    gradients = []
    for _ in range(2):
        single.case.problem.step_weights(single.case.train_batch)
        gradients.append(single.case.of_kind("weight_step")[-1].detail)
    several.case.problem.step_weights(several.case.train_batch)
    found = several.case.of_kind("weight_step")[-1].detail
    assert any(one is None for one in gradients[0])
    for one, other, mean in zip(*gradients, found, strict=True):
        if one is None and other is None:
            assert mean is None
        else:
            half = sum(g / 2 for g in (one, other) if g is not None)
            torch.testing.assert_close(mean, half, rtol=1e-12, atol=1e-14)


def test_further_terms_count_once_and_see_the_mean_loss():
    several = frozen(BinaryGates, draws=3)
    problem, seen = several.case.problem, []

    def terms_of(loss):
        seen.append(float(loss.detach()))
        return {"penalty": loss * 0.5, "regularizer": sum(a.square().sum() for a in problem.logits)}

    plain = frozen(BinaryGates, draws=3)
    bare = FirstOrder().arch_step(*arguments(plain.case))
    problem.arch_terms = terms_of
    terms = FirstOrder().arch_step(*arguments(several.case))
    assert seen == [float(bare["loss"])]
    regularizer = sum(float(a.detach().square().sum()) for a in problem.logits)
    assert float(terms["loss"]) == pytest.approx(1.5 * float(bare["loss"]) + regularizer, rel=1e-12)
    expected = [
        1.5 * g + 2 * a.detach() for g, a in zip(plain.case.logit_gradients(), plain.case.problem.logits, strict=True)
    ]
    torch.testing.assert_close(several.case.logit_gradients(), expected, rtol=1e-12, atol=1e-14)


def test_the_graph_of_one_draw_is_gone_before_the_next():
    smooth = SmoothProblem(partial(BinaryGates, draws=4))
    hidden, alive = [], []
    loss = smooth.case.problem.loss

    def watching(*passed):
        alive.append([reference() is not None for reference in hidden])
        return loss(*passed)

    smooth.network.stem.register_forward_hook(lambda module, inputs, output: hidden.append(weakref.ref(output)))
    smooth.case.problem.loss = watching
    FirstOrder().arch_step(*arguments(smooth.case))
    assert alive == [[], [False], [False, False], [False, False, False]]


# -- each checker catches the defect it is there for ---------------------------------------------------------


def arguments(case):
    return case.problem, case.train_batch, case.arch_batch


def numbers(arch, train):
    return {"arch/loss": float(arch["loss"].detach()), "train/loss": float(train["loss"].detach())}


class ThroughTheWeights(FirstOrder):
    """Runs backward() on the arch loss and never clears the weights' gradients."""

    def arch_step(self, problem, train_batch, arch_batch):
        with problem.frozen_statistics():
            terms = problem.arch_loss(arch_batch, problem.sample("arch"))
            terms["loss"].backward()
        problem.step_logits([a.grad for a in problem.logits])
        return terms


class StatisticsNotFrozen(Unrolled):
    def arch_step(self, problem, train_batch, arch_batch):
        return super().arch_step(replace(problem, frozen_statistics=nullcontext), train_batch, arch_batch)


class StatisticsNotFrozenFirstOrder(FirstOrder):
    def arch_step(self, problem, train_batch, arch_batch):
        return super().arch_step(replace(problem, frozen_statistics=nullcontext), train_batch, arch_batch)


class RestoredByArithmetic(Unrolled):
    """Shifts the weights there and back instead of keeping a copy."""

    def arch_step(self, problem, train_batch, arch_batch):
        terms = super().arch_step(problem, train_batch, arch_batch)
        with torch.no_grad():
            for weight in problem.weights:
                weight.add_(0.1).sub_(0.2).add_(0.1)
        return terms


class AnotherDrawEachTime(Unrolled):
    def arch_step(self, problem, train_batch, arch_batch):
        redraw = replace(problem, loss=lambda b, g, m: problem.loss(b, problem.sample("arch"), m))
        return super().arch_step(redraw, train_batch, arch_batch)


class DecidedAnewEachTime(Unrolled):
    def arch_step(self, problem, train_batch, arch_batch):
        forgetful = replace(problem, loss=lambda b, g, m: problem.loss(b, g, {}))
        return super().arch_step(forgetful, train_batch, arch_batch)


class MovesTheWeights(FirstOrder):
    """Takes the virtual step for real."""

    def arch_step(self, problem, train_batch, arch_batch):
        problem.step_weights(train_batch)
        return super().arch_step(problem, train_batch, arch_batch)


class NeverMovesTheLogits(FirstOrder):
    def arch_step(self, problem, train_batch, arch_batch):
        with problem.frozen_statistics():
            return problem.arch_loss(arch_batch, problem.sample("arch"))


class ReadsTheArchBatchUndeclared(FirstOrder):
    needs_arch_batch = False


class ArchBatchInWeightStep(FirstOrder):
    def step(self, problem, train_batch, arch_batch, *, update_logits=True):
        if update_logits:
            terms = self.arch_step(problem, train_batch, arch_batch)
        both = problem.step_weights(arch_batch)
        return numbers(terms, both) if update_logits else {}


class WeightsFirst(FirstOrder):
    def step(self, problem, train_batch, arch_batch, *, update_logits=True):
        train = problem.step_weights(train_batch)
        arch = self.arch_step(problem, train_batch, arch_batch) if update_logits else train
        return numbers(arch, train)


class LogitsInTheWeightStep(FirstOrder):
    """One backward for both: the train batch moves the logits too."""

    def step(self, problem, train_batch, arch_batch, *, update_logits=True):
        report = super().step(problem, train_batch, arch_batch, update_logits=update_logits)
        with torch.no_grad():
            for logits in problem.logits:
                logits.add_(1e-9)
        return report


class LogitGradientsLeft(FirstOrder):
    def step(self, problem, train_batch, arch_batch, *, update_logits=True):
        report = super().step(problem, train_batch, arch_batch, update_logits=update_logits)
        with problem.frozen_statistics():
            problem.loss(train_batch, problem.sample("arch"), None)["loss"].backward(inputs=list(problem.logits))
        return report


class WeightsMovedTwice(FirstOrder):
    def step(self, problem, train_batch, arch_batch, *, update_logits=True):
        report = super().step(problem, train_batch, arch_batch, update_logits=update_logits)
        with torch.no_grad():
            problem.weights[0].add_(1e-6)
        return report


class StatisticsFrozenInWeightStep(FirstOrder):
    def step(self, problem, train_batch, arch_batch, *, update_logits=True):
        with problem.frozen_statistics():
            return super().step(problem, train_batch, arch_batch, update_logits=update_logits)


@pytest.mark.parametrize(
    ("rule", "check", "caught"),
    [
        (ThroughTheWeights, check_arch_step, "left gradients on the weights"),
        (StatisticsNotFrozen, check_arch_step, "changed running statistics"),
        (StatisticsNotFrozenFirstOrder, check_arch_step, "changed running statistics"),
        (RestoredByArithmetic, check_arch_step, "moved the weights"),
        (MovesTheWeights, check_arch_step, "moved the weights"),
        (AnotherDrawEachTime, check_arch_step, "draws gates 1 times"),
        (DecidedAnewEachTime, check_arch_step, "share one memo"),
        (NeverMovesTheLogits, check_arch_step, "did not move the logits"),
        (ReadsTheArchBatchUndeclared, check_arch_step, "must not read another batch"),
        (ArchBatchInWeightStep, check_weight_step, "must not read another batch"),
        (ArchBatchInWeightStep, check_step, "the weight step read the arch batch"),
        (WeightsFirst, check_step, "expected an arch step, then a weight step"),
        (LogitsInTheWeightStep, check_weight_step, "moved the logits"),
        (LogitsInTheWeightStep, check_step, "the weight step moved the logits"),
        (LogitGradientsLeft, check_weight_step, "left gradients on the logits"),
        (WeightsMovedTwice, check_weight_step, "not close"),
        (StatisticsFrozenInWeightStep, check_weight_step, "must update running statistics"),
    ],
)
@pytest.mark.parametrize("relaxation", [Softmax, BinaryGates])
def test_a_defective_rule_is_caught(rule, check, caught, relaxation):
    smooth = SmoothProblem(relaxation, clip_norm=1.0)
    smooth.train_weights(2)
    with pytest.raises(AssertionError, match=caught):
        check(rule(), smooth.case)


class DrawsOnce(FirstOrder):
    """Takes no notice of how often the problem says to draw."""

    def arch_step(self, problem, train_batch, arch_batch):
        return super().arch_step(replace(problem, draws=1), train_batch, arch_batch)

    def step(self, problem, train_batch, arch_batch, *, update_logits=True):
        return super().step(replace(problem, weight_draws=1), train_batch, arch_batch, update_logits=update_logits)


@pytest.mark.parametrize(
    ("check", "caught"),
    [(check_arch_step, "draws gates 3 times"), (check_weight_step, "evaluates the train batch once per draw")],
)
def test_a_rule_that_ignores_the_number_of_draws_is_caught(check, caught):
    smooth = SmoothProblem(partial(BinaryGates, draws=3, weight_draws=2))
    with pytest.raises(AssertionError, match=caught):
        check(DrawsOnce(), smooth.case)


def test_deciding_anew_would_change_the_gradient():
    smooth = SmoothProblem(Softmax)
    expected = smooth.unrolled()
    with pytest.raises(AssertionError, match="the gradient is off by"):
        check_hypergradient(DecidedAnewEachTime(), smooth.case, expected, relative=1e-3)


def test_stepping_on_a_diverged_loss_is_caught(monkeypatch):
    monkeypatch.setattr("darts_hpo.bilevel.base.require_finite", lambda loss, which: None)
    monkeypatch.setattr("darts_hpo.bilevel.base._require_finite_gradients", lambda parameters: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_diverged(FirstOrder(), SmoothProblem(Softmax).case)
