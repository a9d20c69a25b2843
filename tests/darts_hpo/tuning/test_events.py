"""Events of a study: what each does to the history, and what cannot follow."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

import pytest

from darts_hpo.errors import ConfigError
from darts_hpo.space import Float, Space
from darts_hpo.tuning import events
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective, OutcomeConstraint
from darts_hpo.tuning.trial import Trial, TrialState

SPACE = Space({"x": Float(0.0, 1.0)})
EMPTY = History(SPACE, (Objective("loss", "minimize"),), fidelity=Fidelity(1, 9))


def asked(n: int = 1, budget: float | None = 1.0) -> History:
    history = EMPTY
    for _ in range(n):
        history = events.ask(history, {"x": 0.5}, budget=budget)
    return history


def test_a_life_of_a_trial() -> None:
    labels = {"bracket": 2}
    history = events.ask(EMPTY, {"x": 0.25}, budget=3.0, source="random", labels=labels, seed=7)
    assert history.trials[0] == Trial(0, {"x": 0.25}, budget=3.0, source="random", labels=labels, seed=7)
    history = events.start(history, 0)
    history = events.report(history, 0, 1, 0.9)
    history = events.report(history, 0, 1, 0.8)
    history = events.tell(history, 0, {"loss": 0.5}, seconds=12.0, record={"genotype": "a"})
    history = events.promote(history, 0, 9.0)
    assert history.trials[0].state is TrialState.RUNNING
    history = events.start(history, 0)
    history = events.tell(history, 0, {"loss": 0.4}, record={"entropy": 1.0})
    (trial,) = history.trials
    assert trial.state is TrialState.COMPLETED
    assert [(r.values["loss"], r.budget, r.order, r.seconds) for r in trial.results] == [
        (0.5, 3.0, 0, 12.0),
        (0.4, 9.0, 1, None),
    ]
    assert (trial.attempts, trial.reports, trial.record) == (2, {1: 0.8}, {"genotype": "a", "entropy": 1.0})


def test_results_are_counted_over_the_whole_study() -> None:
    history = asked(3)
    for number in (2, 0, 1):
        history = events.tell(history, number, {"loss": float(number)})
    assert [trial.number for trial, _ in history.observations] == [2, 0, 1]


def test_a_stopped_trial_counts_at_the_budget_it_reached() -> None:
    history = events.tell(asked(budget=9.0), 0, {"loss": 0.5}, budget=4.0, state=TrialState.STOPPED, reason="median")
    (trial,) = history.trials
    assert (trial.state, trial.budget, trial.reason) == (TrialState.STOPPED, 4.0, "median")
    assert history.at(4.0)


def test_a_failed_trial_keeps_what_it_had() -> None:
    history = events.promote(events.tell(asked(), 0, {"loss": 0.5}), 0, 3.0)
    history = events.fail(history, 0, "out of memory", record={"host": "a"})
    (trial,) = history.trials
    assert (trial.state, trial.reason, len(trial.results), trial.budget) == (
        TrialState.FAILED,
        "out of memory",
        1,
        3.0,
    )


def test_metrics_nobody_asked_for_may_be_missing_or_infinite() -> None:
    history = events.tell(asked(), 0, {"loss": 0.5, "latency": math.inf, "params": 3.0})
    assert history.trials[0].results[0].values == {"loss": 0.5, "params": 3.0}


def test_events_leave_their_argument_as_it_was() -> None:
    labels = {"bracket": 0}
    history = events.ask(EMPTY, {"x": 0.5}, labels=labels)
    labels["bracket"] = 1
    for later in (
        events.start(history, 0),
        events.report(history, 0, 1, 0.5),
        events.tell(history, 0, {"loss": 0.1}),
        events.fail(history, 0, "why"),
    ):
        assert later.trials[0] != history.trials[0]
    assert history.trials[0] == Trial(0, {"x": 0.5}, labels={"bracket": 0})
    assert len(EMPTY) == 0


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (lambda: events.start(EMPTY, 0), "There is no trial 0"),
        (lambda: events.start(asked(), -1), "There is no trial -1"),
        (lambda: events.ask(EMPTY, {"x": 0.5}, replicate_of=3), "There is no trial 3"),
        (lambda: events.promote(asked(), 0, 3.0), "is RUNNING; only a COMPLETED"),
        (lambda: events.promote(events.tell(asked(), 0, {"loss": 0.1}), 0, 1.0), "has reached budget 1.0"),
        (lambda: events.promote(events.tell(asked(budget=None), 0, {"loss": 0.1}), 0, 1.0), "budget None"),
        (lambda: events.report(asked(), 0, 1, math.nan), "reports nan"),
        (lambda: events.tell(asked(), 0, {"loss": math.inf}), "loss=inf"),
        (lambda: events.tell(asked(), 0, {"los": 0.1}), "Did you mean 'los'"),
        (lambda: events.tell(asked(), 0, {"loss": 0.1}, state=TrialState.FAILED), "COMPLETED, STOPPED"),
        (lambda: events.tell(events.tell(asked(), 0, {"loss": 0.1}), 0, {"loss": 0.1}), "is COMPLETED"),
        (lambda: events.fail(events.fail(asked(), 0, "a"), 0, "b"), "is FAILED"),
    ],
)
def test_events_that_cannot_follow(event: Callable[[], History], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        event()


def test_no_budget_is_answered_twice() -> None:
    history = events.promote(events.tell(asked(), 0, {"loss": 0.1}), 0, 3.0)
    with pytest.raises(ConfigError, match="before"):
        events.tell(history, 0, {"loss": 0.1}, budget=1.0)


def test_a_constrained_metric_is_needed() -> None:
    bound = (OutcomeConstraint("params", "<=", 1.0),)
    history = events.ask(History(SPACE, constraints=bound), {"x": 0.5})
    with pytest.raises(ConfigError, match="params"):
        events.tell(history, 0, {"value": 0.5})


def test_seeds_of_suggestions_differ_and_repeat() -> None:
    seeds = {(seed, number): events.suggestion_seed(seed, number) for seed in range(20) for number in range(50)}
    assert len(set(seeds.values())) == len(seeds)
    assert all(0 <= value < 2**31 for value in seeds.values())
    assert seeds[3, 4] == events.suggestion_seed(3, 4)


def test_a_thousand_trials_take_no_time() -> None:
    begun = time.process_time()
    history = EMPTY
    rng = random.Random(0)
    for number in range(1000):
        history = events.start(events.ask(history, {"x": rng.random()}, budget=1.0), number)
        for step in range(5):
            history = events.report(history, number, step, rng.random())
        history = events.tell(history, number, {"loss": rng.random()})
    assert len(history.observations) == 1000
    assert time.process_time() - begun < 2.0
