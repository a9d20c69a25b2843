"""What a sampler that chooses budgets itself must fulfil: the suite of samplers, and more."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest

from darts_hpo.errors import ConfigError
from darts_hpo.space import Float, Point, Space
from darts_hpo.testing.samplers import SPACES, SamplerConformance, ask
from darts_hpo.tuning import events
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective
from darts_hpo.tuning.samplers.base import Sampler, Suggestion
from darts_hpo.tuning.samplers.fidelity_aware import FidelityAwareSampler

FRACTION = Fidelity(1 / 64, 1.0, resumes=False, integer=False)
"""Shares of the data."""
EPOCHS = Fidelity(1, 27)
"""Whole epochs, resumed."""
UNIT = Space({"x": Float(0, 1), "y": Float(0, 1)})


def falling_loss(point: Point, share: float) -> float:
    """At least 0.1, where every float is 0.3 and the share is 1; larger at smaller shares."""
    floats = [value for value in point.values() if isinstance(value, float)]
    return 0.1 + sum((value - 0.3) ** 2 for value in floats) + 0.05 * (share**-0.5 - 1)


def history_on_budgets(n: int, *, space: Space = UNIT, fidelity: Fidelity = FRACTION, seed: int = 0) -> History:
    """Random trials of :func:`falling_loss`, at the full budget, a quarter, a sixteenth and a 64th in turn."""
    rng = random.Random(seed)
    history = History(space, (Objective("loss", "minimize"),), fidelity=fidelity)
    for number in range(n):
        point, budget = space.sample(rng), fidelity.rounded(fidelity.maximum * 4.0 ** -(number % 4))
        history = events.start(events.ask(history, point, budget=budget), number)
        values = {"loss": falling_loss(point, budget / fidelity.maximum)}
        history = events.tell(history, number, values, seconds=60 * budget)
    return history


class OnBudgets(Sampler):
    """Gives histories that know no budgets a range of them, and hides the chosen budget where it must not show.

    Args:
        inner: asked.
    """

    def __init__(self, inner: Sampler) -> None:
        self.inner = inner

    def suggest(self, history: History, *, seed: int, budget: float | None = None) -> Suggestion:
        """The answer of ``inner`` with budgets from 1 to 27 epochs."""
        suggestion = self.inner.suggest(replace(history, fidelity=history.fidelity or EPOCHS), seed=seed, budget=budget)
        return suggestion if history.fidelity else replace(suggestion, budget=None)


class BudgetSamplerConformance(SamplerConformance):
    """The suite. Inherit it and name the sampler as ``build_sampler``; keep its settings small.

    Attributes:
        build_sampler: makes the sampler, with at most 12 initial trials.
    """

    build_sampler: ClassVar[Callable[[], FidelityAwareSampler]]
    repeats: ClassVar[bool] = True
    several_objectives: ClassVar[bool] = False

    def make(self, space: Space) -> Sampler:
        """The sampler, for histories without budgets."""
        return OnBudgets(type(self).build_sampler())

    def test_nothing_is_proposed_twice_while_it_runs(self) -> None:  # type: ignore[override]
        """The same point at the same budget, that is."""
        sampler, seen = type(self).build_sampler(), set()
        history = history_on_budgets(0, space=SPACES["mixed"])
        for seed in range(10):
            suggestion = ask(sampler, history, seed)
            seen.add((suggestion.budget, repr(sorted(suggestion.point.items()))))
            history = events.ask(history, suggestion.point, budget=suggestion.budget)
        assert len(seen) == 10

    def test_a_budget_that_a_scheduler_gives_is_kept(self) -> None:
        """Only the point is chosen then, in the design and by the model."""
        for n in (0, 16):
            assert ask(type(self).build_sampler(), history_on_budgets(n), 0, budget=0.25).budget == 0.25

    def test_integer_budgets_are_whole_numbers(self) -> None:
        """Epochs."""
        for n in (0, 16):
            budget = ask(type(self).build_sampler(), history_on_budgets(n, fidelity=EPOCHS), 3).budget
            assert budget is not None
            assert budget.is_integer()

    def test_one_budget_is_enough(self) -> None:
        """Minimum and maximum may be equal."""
        suggestion = ask(type(self).build_sampler(), history_on_budgets(14, fidelity=Fidelity(5, 5)), 0)
        assert suggestion.budget == 5

    def test_answers_still_out_are_taken_into_account(self) -> None:
        """Valid, finite, and the same again with the same seed."""
        history = history_on_budgets(14)
        for trial in history_on_budgets(3, seed=5):
            history = events.ask(history, trial.point, budget=trial.budget)
        suggestion = ask(type(self).build_sampler(), history, 0)
        assert math.isfinite(suggestion.labels["acquisition"])
        assert suggestion == type(self).build_sampler().suggest(history, seed=0)

    def test_the_incumbent_is_near_the_best_at_the_full_budget(self) -> None:
        """Though losses at small budgets are larger. None where nothing was observed."""
        history = history_on_budgets(24)
        incumbent = type(self).build_sampler().incumbent(history)
        assert incumbent is not None
        ranked = sorted(falling_loss(trial.point, 1.0) for trial in history)
        assert falling_loss(incumbent.point, 1.0) <= ranked[4]
        assert type(self).build_sampler().incumbent(history_on_budgets(0)) is None

    def test_a_study_without_budgets_is_told_what_to_type(self) -> None:
        """And one with two objectives that one is expected."""
        with pytest.raises(ConfigError, match=r"budget\.minimum=.*budget\.maximum="):
            type(self).build_sampler().suggest(History(UNIT), seed=0)
        two = History(UNIT, (Objective("a"), Objective("b")), fidelity=FRACTION)
        with pytest.raises(ConfigError, match="one objective"):
            type(self).build_sampler().suggest(two, seed=0)
