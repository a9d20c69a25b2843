"""Multi-fidelity Bayesian optimization, and gain per cost."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from darts_hpo.errors import ConfigError
from darts_hpo.testing.budget_samplers import EPOCHS, BudgetSamplerConformance, falling_loss, history_on_budgets
from darts_hpo.testing.samplers import ask
from darts_hpo.tuning import events
from darts_hpo.tuning.acquisitions.per_cost import (
    EntropySearch,
    Gibbon,
    KnowledgeGradient,
    MaxValueEntropy,
    Question,
)
from darts_hpo.tuning.samplers.multi_fidelity import MultiFidelitySampler
from darts_hpo.tuning.surrogates.backend import botorch, numerics
from darts_hpo.tuning.surrogates.cost_model import affine_cost_model

QUICK = KnowledgeGradient(representers=30, outcomes=25)
ACQUISITIONS = {
    "knowledge_gradient": QUICK,
    "max_value_entropy": MaxValueEntropy(values=4, outcomes=16),
    "gibbon": Gibbon(values=4),
    "entropy_search": EntropySearch(representers=20, samples=50, outcomes=4),
}


def quick_multi_fidelity() -> MultiFidelitySampler:
    """Small, for tests."""
    return MultiFidelitySampler(QUICK, n_initial=4, candidates=24, fit_steps=12)


class TestMultiFidelity(BudgetSamplerConformance):
    """With the knowledge gradient."""

    build_sampler = quick_multi_fidelity


@pytest.mark.parametrize("name", ["max_value_entropy", "gibbon", "entropy_search"])
def test_other_acquisitions_work_with_answers_out(name: str) -> None:
    """Finite values."""
    history = history_on_budgets(12)
    for trial in history_on_budgets(3, seed=9):
        history = events.ask(history, trial.point, budget=trial.budget)
    suggestion = ask(MultiFidelitySampler(ACQUISITIONS[name], candidates=24, fit_steps=12), history, 0)
    assert math.isfinite(suggestion.labels["acquisition"])


def test_exponential_decay_models_epochs() -> None:
    """The other kernel; whole epochs come out. An unknown one is refused with the nearest name."""
    sampler = MultiFidelitySampler(QUICK, kernel="exponential_decay", candidates=24, fit_steps=12)
    budget = ask(sampler, history_on_budgets(12, fidelity=EPOCHS), 0).budget
    assert budget is not None
    assert budget.is_integer()
    with pytest.raises(ConfigError, match="exponential_decay"):
        MultiFidelitySampler(kernel="exponential")  # type: ignore[arg-type]


# -- gain per cost -----------------------------------------------------------------------------------------------


def line_question(fixed: float) -> Question:
    """A fitted multi-fidelity model over one parameter, with an affine cost."""
    rng = np.random.default_rng(0)
    x, share = rng.random(16), np.tile([1 / 16, 1 / 4, 1.0, 1 / 4], 4)
    y = -((x - 0.3) ** 2) * 4 + 0.2 * share
    rows = torch.as_tensor(np.column_stack([x, share]))
    model = botorch.models.SingleTaskMultiFidelityGP(
        rows, torch.as_tensor((y - y.mean()) / y.std())[:, None], data_fidelities=[1], outcome_transform=None
    )
    return Question(
        model=model.eval(),
        cost_model=affine_cost_model(1, fixed, 1 - fixed),
        pool=torch.linspace(0, 1, 21, dtype=torch.float64)[:, None],
        target=1.0,
        pending=torch.zeros(0, 2, dtype=torch.float64),
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("name", ["knowledge_gradient", "entropy_search"])
def test_gain_is_divided_by_the_cost(name: str) -> None:
    """Doubling both coefficients halves every score."""
    rows = torch.tensor([[0.1, 0.25], [0.5, 0.5], [0.9, 1.0]], dtype=torch.float64)
    with numerics(0):
        question = line_question(0.2)
        once = ACQUISITIONS[name].score(question)(rows)
        dear = replace(question, cost_model=affine_cost_model(1, 0.4, 1.6), generator=torch.Generator().manual_seed(0))
        assert torch.allclose(ACQUISITIONS[name].score(dear)(rows), once / 2)


def test_without_cost_the_full_budget_tells_most() -> None:
    """At equal cost an observation of the target itself has the largest knowledge gradient."""
    with numerics(0):
        question = replace(line_question(0.2), cost_model=affine_cost_model(1, 1.0, 0.0))
        shares = torch.tensor([1 / 16, 1 / 4, 1.0], dtype=torch.float64)
        rows = torch.stack([torch.full_like(shares, 0.35), shares], dim=1)
        score = KnowledgeGradient().score(question)(rows)
    assert int(score.argmax()) == 2


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_every_gain_falls_once_the_answer_is_expected(name: str) -> None:
    """An observation at the full budget, alone and with the same one running."""
    row = torch.tensor([[0.5, 1.0]], dtype=torch.float64)
    with numerics(0):
        question = line_question(0.2)
        alone = float(ACQUISITIONS[name].score(question)(row))
    with numerics(0):
        waiting = replace(line_question(0.2), pending=row.repeat(3, 1))
        assert float(ACQUISITIONS[name].score(waiting)(row)) < alone


# -- a study ----------------------------------------------------------------------------------------------------


def test_a_few_trials_find_a_good_point() -> None:
    """16 trials: the incumbent is within 0.05 of the optimum, at less than half the cost of 16 full ones."""
    sampler = MultiFidelitySampler(QUICK, candidates=48, fit_steps=40)
    history, spent = history_on_budgets(0), 0.0
    for number in range(16):
        suggestion = ask(sampler, history, events.suggestion_seed(1, number))
        assert suggestion.budget is not None
        history = events.start(events.ask(history, suggestion.point, budget=suggestion.budget), number)
        values = {"loss": falling_loss(suggestion.point, suggestion.budget)}
        history = events.tell(history, number, values, seconds=60 * suggestion.budget)
        spent += suggestion.budget
    incumbent = sampler.incumbent(history)
    assert incumbent is not None
    assert falling_loss(incumbent.point, 1.0) < 0.15
    assert spent < 8.0
