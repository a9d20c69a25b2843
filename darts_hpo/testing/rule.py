"""What every bilevel rule must fulfil: checkers, and the suite that a rule inherits.

The checkers raise :class:`AssertionError`. They are functions of their own so that a test can show that each
of them catches the defect it is there for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from darts_hpo.bilevel.base import BilevelRule
from darts_hpo.errors import ConfigError, TrainingError
from darts_hpo.relaxations.base import Relaxation
from darts_hpo.relaxations.binary_gates import BinaryGates
from darts_hpo.relaxations.gumbel import GumbelSoftmax
from darts_hpo.relaxations.score_function import ScoreFunction
from darts_hpo.relaxations.softmax import Softmax
from darts_hpo.space import Space
from darts_hpo.testing.problems import BilevelCase, SmoothProblem, real_step

SEVERAL_DRAWS: Mapping[str, Callable[..., Relaxation]] = {
    "binary_gates": partial(BinaryGates, draws=3, weight_draws=2),
    "score_function": partial(ScoreFunction, draws=3, weight_draws=2),
}
"""Relaxations that draw several times for a step, with and without a gradient through the gates."""


def check_arch_step(rule: BilevelRule, case: BilevelCase) -> None:
    """An arch step moves the logits, once, and nothing else.

    Weights, their optimizer's state and running statistics are bit-equal afterwards and no gradient is left
    over. Gates are drawn as often as the problem says; where the train batch is evaluated repeatedly under one
    draw, all evaluations share a memo.
    """
    problem = case.problem
    weights, logits = _bits(problem.weights), _bits(problem.logits)
    statistics, state = _bits(case.network.buffers()), _optimizer_bits(case)
    case.events.clear()
    rule.arch_step(problem, case.train_batch, case.arch_batch)
    assert _same(weights, problem.weights), "an arch step moved the weights"
    assert _same(statistics, case.network.buffers()), "an arch step changed running statistics"
    assert _same(state, _optimizer_bits(case)), "an arch step changed the state of the weight optimizer"
    assert all(w.grad is None for w in problem.weights), "an arch step left gradients on the weights"
    assert all(a.grad is None for a in problem.logits), "an arch step left gradients on the logits"
    assert not _same(logits, problem.logits), "an arch step did not move the logits"
    assert len(case.of_kind("arch_step")) == 1, "an arch step must step the arch optimizer once"
    assert not case.of_kind("weight_step"), "an arch step must not step the weight optimizer"
    draws = case.of_kind("sample")
    wanted = ["arch"] * problem.draws
    assert [draw.phase for draw in draws] == wanted, f"an arch step draws gates {problem.draws} times, for 'arch'"
    evaluations = [event for event in case.of_kind("loss") if event.detail is case.train_batch]
    if len(evaluations) > problem.draws:
        assert evaluations[0].memo is not None, "repeated evaluations of a batch need a memo"
        assert len({id(event.memo) for event in evaluations}) == 1, "evaluations of a batch share one memo"
    if not rule.needs_arch_batch:
        _check_only_read(case, case.train_batch, "a rule that needs no arch batch")


def check_weight_step(rule: BilevelRule, case: BilevelCase) -> None:
    """A weight step is the real optimizer's on one train batch; logits are bit-equal afterwards.

    Its gradient is the mean over the problem's ``weight_draws``.
    """
    problem = case.problem
    weights, logits = _bits(problem.weights), _bits(problem.logits)
    statistics = _bits(case.network.buffers())
    state = problem.weight_optimizer.state_dict()["state"]
    before = {key: {k: _clone(v) for k, v in entry.items()} for key, entry in state.items()}
    case.events.clear()
    rule.step(problem, case.train_batch, case.arch_batch, update_logits=False)
    assert _same(logits, problem.logits), "a weight step moved the logits"
    assert all(a.grad is None for a in problem.logits), "a weight step left gradients on the logits"
    assert all(w.grad is None for w in problem.weights), "a weight step left gradients on the weights"
    _check_only_read(case, case.train_batch, "a weight step")
    assert len(case.of_kind("loss")) == problem.weight_draws, "a weight step evaluates the train batch once per draw"
    assert len(case.of_kind("weight_step")) == 1, "a weight step must step the weight optimizer once"
    assert not case.of_kind("arch_step"), "a weight step must not step the arch optimizer"
    if statistics:
        assert not _same(statistics, case.network.buffers()), "a weight step must update running statistics"

    # Put everything back and ask the real optimizer.
    moved, draws = _bits(problem.weights), [event.detail for event in case.of_kind("sample")]
    _assign(problem.weights, weights)
    optimizer_state = problem.weight_optimizer.state_dict()
    problem.weight_optimizer.load_state_dict({**optimizer_state, "state": before})
    with problem.frozen_statistics():
        loss = torch.stack([problem.loss(case.train_batch, gates, None)["loss"] for gates in draws]).mean()
        gradients = torch.autograd.grad(loss, list(problem.weights), allow_unused=True)
    expected = real_step(problem.weight_optimizer, problem.weights, gradients, problem.clip_norm)
    _assign(problem.weights, moved)
    problem.weight_optimizer.load_state_dict(optimizer_state)
    torch.testing.assert_close(moved, expected, rtol=1e-12, atol=1e-14)


def check_step(rule: BilevelRule, case: BilevelCase) -> None:
    """A coupled step: logits first, then weights, the weights on the train batch alone."""
    problem = case.problem
    case.events.clear()
    after_arch: list[list[Tensor]] = []
    handle = (
        None
        if problem.arch_optimizer is None
        else problem.arch_optimizer.register_step_post_hook(lambda *_: after_arch.append(_bits(problem.logits)))
    )
    report = rule.step(problem, case.train_batch, case.arch_batch)
    if handle is not None:
        handle.remove()
    steps = [event.kind for event in case.events if event.kind.endswith("_step")]
    assert steps == ["arch_step", "weight_step"], f"expected an arch step, then a weight step; got {steps}"
    assert _same(after_arch[0], problem.logits), "the weight step moved the logits"
    first = next(i for i, event in enumerate(case.events) if event.kind == "arch_step")
    later = [event for event in case.events[first:] if event.kind == "loss"]
    assert later, "the weight step evaluated nothing"
    assert all(event.detail is case.train_batch for event in later), "the weight step read the arch batch"
    if not rule.needs_arch_batch:
        _check_only_read(case, case.train_batch, "a rule that needs no arch batch")
    assert {"arch/loss", "train/loss"} <= report.keys(), f"the report lacks a loss: {sorted(report)}"


def check_hypergradient(rule: BilevelRule, case: BilevelCase, expected: Sequence[Tensor], *, relative: float) -> None:
    """The logits are stepped on the expected gradient.

    Args:
        rule: takes one arch step.
        case: the problem.
        expected: one gradient for each of the logits. Where all are zero, the rule's must be exactly so.
        relative: largest norm of the difference, in norms of ``expected``.
    """
    case.events.clear()
    rule.arch_step(case.problem, case.train_batch, case.arch_batch)
    found, wanted = _flat(case.logit_gradients()), _flat(expected)
    error, size = float((found - wanted).norm()), float(wanted.norm())
    assert error <= relative * size, f"the gradient is off by {error:.3g}, its norm is {size:.3g}"


def check_diverged(rule: BilevelRule, case: BilevelCase) -> None:
    """A loss that is no number raises :class:`~darts_hpo.errors.TrainingError` and moves nothing."""
    problem, loss = case.problem, case.problem.loss
    for update_logits in (True, False):
        weights, logits = _bits(problem.weights), _bits(problem.logits)
        problem.loss = lambda *a: {name: term * float("nan") for name, term in loss(*a).items()}
        try:
            with pytest.raises(TrainingError, match=r"diverged.*lr"):
                rule.step(problem, case.train_batch, case.arch_batch, update_logits=update_logits)
        finally:
            problem.loss = loss
        assert _same(weights, problem.weights), "a diverged step moved the weights"
        assert _same(logits, problem.logits), "a diverged step moved the logits"


class BilevelRuleConformance:
    """The suite of a bilevel rule. Inherit it and name the rule.

    Example::

        class TestFirstOrder(BilevelRuleConformance):
            rule = FirstOrder

    Attributes:
        rule: makes the rule.
    """

    rule: ClassVar[Callable[[], BilevelRule]]

    @pytest.fixture(params=[Softmax, BinaryGates, GumbelSoftmax], ids=["softmax", "binary_gates", "gumbel"])
    def relaxation(self, request: pytest.FixtureRequest) -> Callable[[Space], Relaxation]:
        """Every option at once, one path with the others probed, and one path with a soft gradient."""
        return request.param

    @pytest.fixture
    def case(self, relaxation: Callable[[Space], Relaxation]) -> BilevelCase:
        """A problem whose weight optimizer has momentum buffers and whose network has running statistics."""
        problem = SmoothProblem(relaxation, clip_norm=1.0)
        problem.train_weights(2)
        return problem.case

    def test_an_arch_step_moves_the_logits_alone(self, case: BilevelCase) -> None:
        """See :func:`check_arch_step`."""
        for _ in range(3):
            check_arch_step(type(self).rule(), case)

    def test_a_weight_step_moves_the_weights_alone(self, case: BilevelCase) -> None:
        """See :func:`check_weight_step`."""
        for _ in range(3):
            check_weight_step(type(self).rule(), case)

    def test_a_step_is_logits_then_weights(self, case: BilevelCase) -> None:
        """See :func:`check_step`."""
        for _ in range(3):
            check_step(type(self).rule(), case)

    def test_divergence_is_refused(self, case: BilevelCase) -> None:
        """See :func:`check_diverged`."""
        check_diverged(type(self).rule(), case)

    def test_the_hook_after_the_arch_step_is_called(self, case: BilevelCase) -> None:
        """The hook runs once, after the logits moved."""
        calls: list[int] = []
        case.problem.after_arch_step = lambda: calls.append(len(case.of_kind("arch_step")))
        case.events.clear()
        type(self).rule().step(case.problem, case.train_batch, case.arch_batch)
        assert calls == [1]

    def test_arch_terms_join_the_loss(self, case: BilevelCase) -> None:
        """Further terms are part of the arch loss and of its gradient, and of nothing else."""
        problem = case.problem
        problem.arch_terms = lambda loss: {"cost": sum(1e6 * a.sum() for a in problem.logits)}  # type: ignore[dict-item]
        report = type(self).rule().step(problem, case.train_batch, case.arch_batch)
        assert "arch/cost" in report
        assert "train/cost" not in report
        assert report["arch/loss"] == pytest.approx(report["arch/cost"], rel=1e-4)
        assert all(float(g.min()) > 9e5 for g in case.logit_gradients())

    @pytest.mark.parametrize("relaxation", SEVERAL_DRAWS.values(), ids=SEVERAL_DRAWS)
    def test_several_draws_are_used_or_refused(self, relaxation: Callable[..., Relaxation]) -> None:
        """Several draws, and gates without gradient, either fulfil what one draw does or are refused in one line."""
        problem = SmoothProblem(relaxation, clip_norm=1.0)
        problem.train_weights(2)
        rule, case, made = type(self).rule(), problem.case, problem.relaxation
        assert (case.problem.draws, case.problem.weight_draws) == (made.draws, made.weight_draws)
        try:
            rule.require_supported(made.draws, made.differentiable)
        except ConfigError:
            before = _bits([*case.problem.weights, *case.problem.logits])
            with pytest.raises(ConfigError, match=r"Use .*bilevel="):
                rule.arch_step(case.problem, case.train_batch, case.arch_batch)
            assert _same(before, [*case.problem.weights, *case.problem.logits]), "a refused step moved something"
        else:
            for check in (check_arch_step, check_weight_step, check_step):
                check(rule, case)

    def test_everything_fixed_trains_the_weights_alone(self, relaxation: Callable[..., Relaxation]) -> None:
        """Without logits a step is a weight step."""
        fixed = {"first": "deep", "second": "tanh"}
        problem = SmoothProblem(lambda space: relaxation(space, fixed=fixed))
        case = problem.case
        assert case.problem.arch_optimizer is None
        before = _bits(case.problem.weights)
        report = type(self).rule().step(case.problem, case.train_batch, case.arch_batch)
        assert not any(name.startswith("arch/") for name in report)
        assert not _same(before, case.problem.weights)


def _check_only_read(case: BilevelCase, batch: object, who: str) -> None:
    assert all(e.detail is batch for e in case.of_kind("loss")), f"{who} must not read another batch"


def _clone(value: object) -> object:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _bits(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _optimizer_bits(case: BilevelCase) -> list[Tensor]:
    state = case.problem.weight_optimizer.state_dict()["state"]
    return [value.detach().clone() for entry in state.values() for value in entry.values() if isinstance(value, Tensor)]


def _same(one: Iterable[Tensor], other: Iterable[Tensor]) -> bool:
    ones, others = list(one), list(other)
    return len(ones) == len(others) and all(torch.equal(a, b) for a, b in zip(ones, others, strict=True))


@torch.no_grad()
def _assign(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
