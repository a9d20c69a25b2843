"""Multi-task Bayesian optimization: budgets as tasks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from darts_hpo.errors import ConfigError
from darts_hpo.testing.budget_samplers import FRACTION, BudgetSamplerConformance, falling_loss, history_on_budgets
from darts_hpo.testing.samplers import ask
from darts_hpo.tuning import events
from darts_hpo.tuning.acquisitions.per_cost import (
    EntropySearch,
    GainPerCost,
    Gibbon,
    KnowledgeGradient,
    MaxValueEntropy,
)
from darts_hpo.tuning.objectives import Fidelity
from darts_hpo.tuning.samplers.multi_task import MultiTaskSampler
from darts_hpo.tuning.surrogates.cost_model import TaskCostModel

QUICK = EntropySearch(representers=20, samples=50, outcomes=4)


def quick_multi_task() -> MultiTaskSampler:
    """Small, for tests."""
    return MultiTaskSampler(QUICK, n_initial=4, candidates=24, fit_steps=12)


class TestMultiTask(BudgetSamplerConformance):
    """With entropy search."""

    build_sampler = quick_multi_task

    def test_a_budget_that_a_scheduler_gives_is_kept(self) -> None:
        """It needn't be a task's."""
        super().test_a_budget_that_a_scheduler_gives_is_kept()
        assert ask(quick_multi_task(), history_on_budgets(12), 0, budget=0.3).budget == 0.3


@pytest.mark.parametrize(
    "acquisition",
    [MaxValueEntropy(values=4, outcomes=16), Gibbon(values=4), KnowledgeGradient(representers=30, outcomes=25)],
    ids=["max_value_entropy", "gibbon", "knowledge_gradient"],
)
def test_other_acquisitions_work_with_answers_out(acquisition: GainPerCost) -> None:
    """Finite values."""
    history = history_on_budgets(12)
    for trial in history_on_budgets(3, seed=9):
        history = events.ask(history, trial.point, budget=trial.budget)
    suggestion = ask(MultiTaskSampler(acquisition, candidates=24, fit_steps=12), history, 0)
    assert math.isfinite(suggestion.labels["acquisition"])


def test_tasks_are_budgets_that_can_be_given() -> None:
    """Rounded to epochs, each once, the full one always there."""
    assert MultiTaskSampler().tasks(FRACTION).tolist() == [1 / 64, 1 / 16, 1 / 4, 1.0]
    assert MultiTaskSampler().tasks(Fidelity(1, 27)).tolist() == [1.0, 2.0, 7.0, 27.0]
    assert MultiTaskSampler(shares=[0.1]).tasks(Fidelity(5, 20)).tolist() == [5.0, 20.0]
    with pytest.raises(ConfigError, match="shares"):
        MultiTaskSampler(shares=[0.0, 1.0])


def test_the_nearest_task_is_found_on_the_logarithmic_scale() -> None:
    """Half way between 1/16 and 1/4 lies 1/8."""
    coordinate = MultiTaskSampler().coordinate(np.array([1 / 64, 0.12, 0.13, 0.6, 1.0]), FRACTION)
    assert coordinate.tolist() == [0, 1, 2, 3, 3]


def test_only_budgets_of_tasks_are_proposed() -> None:
    """In the design and by the model, after refinement too."""
    sampler = MultiTaskSampler(QUICK, candidates=24, fit_steps=12)
    tasks = sampler.tasks(FRACTION).tolist()
    assert [ask(sampler, history_on_budgets(n), 0).budget for n in range(4)] == tasks
    for seed in range(3):
        assert ask(sampler, history_on_budgets(12), seed).budget in tasks


def test_costs_of_tasks_are_looked_up() -> None:
    """By the index in the last column."""
    model = TaskCostModel(torch.tensor([1.0, 4.0, 16.0]))
    assert model(torch.tensor([[[0.3, 0.0]], [[0.9, 2.0]]])).flatten().tolist() == [1.0, 16.0]


def test_a_few_trials_find_a_good_point() -> None:
    """16 trials: the incumbent is within 0.05 of the optimum, at less than half the cost of 16 full ones."""
    sampler = MultiTaskSampler(QUICK, n_initial=4, candidates=48, fit_steps=20)
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
