"""What every scheduler must fulfil: checkers of a study it ran, and the suite that a scheduler inherits.

The checkers raise :class:`AssertionError`. They are functions of their own so that a test can show that each of them
catches the defect it is there for.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest

from darts_hpo.errors import ConfigError
from darts_hpo.space import Float, Point, Space, Value
from darts_hpo.tuning import events
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective
from darts_hpo.tuning.samplers.random import RandomSampler
from darts_hpo.tuning.schedulers.base import Action, Promote, Scheduler, Start
from darts_hpo.tuning.simulation import Measurement, Report, SimulatedStudy, Trace, simulate
from darts_hpo.tuning.study import Study
from darts_hpo.tuning.trial import TrialState

SPACE = Space({"x": Float(0.0, 1.0), "speed": Float(0.5, 2.0)})
FIDELITY = Fidelity(1, 9)
TRIALS = 30


@dataclass(frozen=True)
class LearningCurves:
    """A loss that falls with every unit of budget towards ``(x - 0.3)^2``; ``speed`` scales the time of a unit.

    Args:
        fails: a run fails where this share of all numbers lies above a fixed number of its point and budget.
        sign: -1 turns the loss into a score.
    """

    fails: float = 0.0
    sign: int = 1

    def value(self, point: Point, step: float) -> float:
        """Loss or score at a step."""
        return self.sign * ((float(point["x"]) - 0.3) ** 2 + 1.0 / (1.0 + step))

    def __call__(self, point: Point, budget: float | None, previous: float) -> Measurement:
        """See :class:`~darts_hpo.tuning.simulation.Evaluate`."""
        last = FIDELITY.maximum if budget is None else budget
        unit = float(point["speed"])
        steps = range(int(previous) + 1, int(last) + 1)
        reports = [Report((step - previous) * unit, step, self.value(point, step)) for step in steps]
        failed = random.Random(f"{dict(point)} {last}").random() < self.fails
        return Measurement(None if failed else self.value(point, last), (last - previous) * unit, reports)


class RecordedStudy(SimulatedStudy):
    """A study that remembers every history that its scheduler was shown, with the answer.

    Attributes:
        asked: histories with the next action.
        judged: histories with the number of a trial that reported, and whether it was kept.
    """

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self.asked: list[tuple[History, Action | None]] = []
        self.judged: list[tuple[History, int, bool]] = []

    def ask(self, now: float = 0.0) -> tuple[int, dict[str, Value], float | None] | None:
        """See :class:`SimulatedStudy`."""
        self.asked.append((self.history, self.study.scheduler.next(self.history)))
        return super().ask(now)

    def report(self, key: int, step: int, value: float) -> bool:
        """See :class:`SimulatedStudy`."""
        shown = events.report(self.history, key, step, value)
        kept = super().report(key, step, value)
        self.judged.append((shown, key, kept))
        return kept


def run_study(
    scheduler: Scheduler,
    *,
    slots: int = 4,
    curves: LearningCurves | None = None,
    n_trials: int = TRIALS,
    fidelity: Fidelity | None = FIDELITY,
) -> tuple[RecordedStudy, Trace]:
    """A study on :class:`LearningCurves`, run to its end on the simulated clock."""
    curves = curves or LearningCurves()
    objective = Objective("loss", "minimize" if curves.sign > 0 else "maximize")
    study = RecordedStudy(
        Study(
            SPACE,
            (objective,),
            sampler=RandomSampler(),
            scheduler=scheduler,
            n_trials=n_trials,
            fidelity=fidelity,
        )
    )
    # Each trial has at most one run per budget: more runs than this and the scheduler goes round in circles.
    limit = n_trials * int(FIDELITY.maximum) + 1
    trace = simulate(study, curves, slots=slots, runs=limit)
    assert len(trace.runs) < limit, f"the study did not end within {limit} runs"
    return study, trace


def check_promotions(study: RecordedStudy) -> None:
    """A promoted trial completed a smaller budget and wasn't sent to that rung before; what failed or stopped stays."""
    sent: set[tuple[int, float]] = set()
    for history, action in study.asked:
        if not isinstance(action, Promote):
            continue
        trial = history.trials[action.trial]
        assert trial.state is TrialState.COMPLETED, f"trial {trial.number} was promoted while it is {trial.state}"
        assert trial.last is not None, f"trial {trial.number} was promoted without a result"
        assert trial.last.budget is not None
        assert action.budget > trial.last.budget, f"trial {trial.number} was promoted to a budget it has reached"
        assert (trial.number, action.budget) not in sent, f"trial {trial.number} was promoted twice to {action.budget}"
        sent.add((trial.number, action.budget))


def check_budgets(study: RecordedStudy) -> None:
    """Every budget can be given: within the study's range, whole where they must be, and None only without budgets."""
    for history, action in study.asked:
        if action is None:
            continue
        fidelity = history.fidelity
        if fidelity is None:
            assert action.budget is None, f"{action} gives a budget, but the study knows none"
            continue
        assert action.budget is not None, f"{action} gives no budget"
        assert fidelity.minimum <= action.budget <= fidelity.maximum, f"{action} leaves the range of budgets"
        assert action.budget == fidelity.rounded(action.budget), f"{action} gives a budget that must be rounded"


def check_pure(study: RecordedStudy, make: Callable[[], Scheduler]) -> None:
    """A scheduler made anew answers every history as the one that lived through it all: nothing is remembered."""
    for history, action in study.asked:
        assert make().next(history) == action, "a new scheduler decides otherwise: something is not in the history"
    for history, number, kept in study.judged:
        assert make().keeps(history.trials[number], history) == kept, "a new scheduler judges a trial otherwise"


def check_waits_only_for_answers(study: RecordedStudy) -> None:
    """While nothing runs, None means that the study is over: nothing is promoted or started afterwards."""
    over = False
    for history, action in study.asked:
        assert not over or action is None, "the scheduler had said that nothing is left, and goes on"
        over = over or (action is None and not history.running)


def check_nothing_is_left(study: RecordedStudy) -> None:
    """At the end nothing runs and no promotion is due."""
    assert not study.history.running, "the study ended while trials run"
    action = study.study.scheduler.next(study.history)
    assert not isinstance(action, Promote), f"the study ended, but {action} is due"
    if isinstance(action, Start):
        assert len(study.history) == study.study.n_trials, "the study ended, but a new trial could start"


class SchedulerConformance:
    """The suite of a scheduler. Inherit it and say how the scheduler is made.

    Example::

        class TestHyperband(SchedulerConformance):
            make = Hyperband

    Attributes:
        make: makes the scheduler; called often.
        needs_budgets: whether it refuses a study without budgets.
    """

    make: ClassVar[Callable[[], Scheduler]]
    needs_budgets: ClassVar[bool] = True

    @pytest.mark.parametrize("fails", [0.0, 0.35, 1.0], ids=["none_fails", "some_fail", "all_fail"])
    @pytest.mark.parametrize("slots", [1, 4, 40])
    def test_a_study_runs_to_its_end(self, slots: int, fails: float) -> None:
        """Budgets, promotions and waiting are in order, whatever fails and however many run at once."""
        study, _ = run_study(type(self).make(), slots=slots, curves=LearningCurves(fails))
        check_budgets(study)
        check_promotions(study)
        check_waits_only_for_answers(study)
        check_nothing_is_left(study)
        for trial in study.history:
            json.dumps(dict(trial.labels))

    @pytest.mark.parametrize("slots", [1, 7])
    def test_it_is_a_pure_function_of_the_history(self, slots: int) -> None:
        """See :func:`check_pure`: so a resumed study decides as the one that was interrupted would have."""
        make = type(self).make
        study, _ = run_study(make(), slots=slots, curves=LearningCurves(0.2))
        check_pure(study, make)

    def test_somebody_reaches_the_full_budget(self) -> None:
        """The final score of a study is one at the full budget."""
        study, _ = run_study(type(self).make())
        assert study.history.at(FIDELITY.maximum)

    def test_direction_is_only_a_sign(self) -> None:
        """A loss that is minimized and its negative that is maximized lead to the same study."""
        one, _ = run_study(type(self).make(), curves=LearningCurves())
        other, _ = run_study(type(self).make(), curves=LearningCurves(sign=-1))
        assert [action for _, action in one.asked] == [action for _, action in other.asked]

    def test_trials_of_others_do_not_disturb(self) -> None:
        """Trials told by hand, and those repeated on another seed, are neither promoted nor counted."""
        make = type(self).make
        study, _ = run_study(make(), n_trials=6, slots=1)
        history = study.history
        expected = make().next(history)
        for replicate_of in (None, 0):
            history = events.ask(
                history,
                {"x": 0.3, "speed": 1.0},
                budget=1.0,
                labels=history.trials[0].labels if replicate_of == 0 else {},
                replicate_of=replicate_of,
            )
            history = events.tell(history, len(history) - 1, {"loss": -1.0})
            assert make().next(history) == expected

    def test_the_best_goes_on(self) -> None:
        """A running trial that is better than every other one at each step is never stopped."""
        study, _ = run_study(type(self).make(), n_trials=12)
        history = events.ask(study.history, {"x": 0.3, "speed": 1.0}, budget=9.0, labels=study.history.trials[0].labels)
        number = len(history) - 1
        assert study.study.scheduler.keeps(history.trials[number], history)
        for step in range(1, 10):
            history = events.report(history, number, step, -1.0)
            assert study.study.scheduler.keeps(history.trials[number], history)

    def test_a_study_without_budgets(self) -> None:
        """It works, or is refused in one line that says what is missing."""
        make = type(self).make
        if self.needs_budgets:
            with pytest.raises(ConfigError, match="fidelity"):
                make().next(History(SPACE))
        else:
            study, _ = run_study(make(), fidelity=None)
            check_budgets(study)
            check_nothing_is_left(study)

    @pytest.mark.parametrize(
        "fidelity",
        [Fidelity(1, 1), Fidelity(2, 9), Fidelity(1, 8), Fidelity(0.1, 1.0, resumes=False, integer=False)],
        ids=["one_budget", "large_minimum", "no_power", "fractions"],
    )
    def test_odd_ranges_of_budgets(self, fidelity: Fidelity) -> None:
        """Budgets stay in order where there is one only, where the largest is no power, and where they are shares."""
        study, _ = run_study(type(self).make(), fidelity=fidelity)
        check_budgets(study)
        check_promotions(study)
        check_nothing_is_left(study)
