"""Schedulers: the suite, published tables, and the decisions of hand-made histories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from darts_hpo.errors import ConfigError
from darts_hpo.space import Float, Space
from darts_hpo.testing import schedulers as suite
from darts_hpo.testing.schedulers import SchedulerConformance, run_study
from darts_hpo.tuning import events
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Fidelity, Objective, OutcomeConstraint
from darts_hpo.tuning.samplers.random import RandomSampler
from darts_hpo.tuning.schedulers.asha import ASHA, ASHAStopping
from darts_hpo.tuning.schedulers.base import Action, Promote, Scheduler, Start
from darts_hpo.tuning.schedulers.full import FullBudget
from darts_hpo.tuning.schedulers.hyperband import Hyperband, hyperband_brackets
from darts_hpo.tuning.schedulers.median import MedianStopping
from darts_hpo.tuning.schedulers.rungs import halvings, ranked, rung_budgets
from darts_hpo.tuning.schedulers.successive_halving import SuccessiveHalving
from darts_hpo.tuning.simulation import SimulatedStudy, Trace, simulate
from darts_hpo.tuning.study import Study
from darts_hpo.tuning.trial import TrialState

SPACE = Space({"x": Float(0.0, 1.0)})
FIDELITY = Fidelity(1, 9)
LOSS = Objective("loss", "minimize")


class TestFullBudget(SchedulerConformance):
    make = FullBudget
    needs_budgets = False


class TestSuccessiveHalving(SchedulerConformance):
    make = SuccessiveHalving


class TestSuccessiveHalvingWithFewTrials(SchedulerConformance):
    make = staticmethod(lambda: SuccessiveHalving(n=5, eta=2, iterations=None))


class TestHyperband(SchedulerConformance):
    make = Hyperband


class TestHyperbandOfICLR(SchedulerConformance):
    make = staticmethod(lambda: Hyperband(eta=2, table="iclr", iterations=1))


class TestASHA(SchedulerConformance):
    make = ASHA


class TestASHAStopping(SchedulerConformance):
    make = ASHAStopping


class TestMedianStopping(SchedulerConformance):
    make = MedianStopping
    needs_budgets = False


class TestMedianStoppingInHyperband(SchedulerConformance):
    make = staticmethod(lambda: MedianStopping(Hyperband()))


# -- tables ------------------------------------------------------------------------------------------------------------


def table(maximum: int, eta: int, name: str = "jmlr") -> list[list[tuple[int, float]]]:
    budgets = rung_budgets(Fidelity(1, maximum), eta, halvings(Fidelity(1, maximum), eta))
    return [list(zip(b.sizes, b.budgets, strict=True)) for b in hyperband_brackets(budgets, eta, name)]


def test_the_published_table_for_81() -> None:
    assert table(81, 3) == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    assert [[n for n, _ in bracket] for bracket in table(81, 3, "iclr")] == [
        [81, 27, 9, 3, 1],
        [27, 9, 3, 1],
        [9, 3, 1],
        [6, 2],
        [5],
    ]


def test_smaller_published_tables() -> None:
    assert [[n for n, _ in bracket] for bracket in table(27, 3)] == [[27, 9, 3, 1], [12, 4, 1], [6, 2], [4]]
    assert [[n for n, _ in bracket] for bracket in table(9, 3)] == [[9, 3, 1], [5, 1], [3]]


@pytest.mark.parametrize(
    ("minimum", "maximum", "eta", "expected"),
    [
        (1, 243, 3, 5),
        (1, 1000, 10, 3),
        (1, 242, 3, 4),
        (1, 1, 3, 0),
        (1 / 243, 1.0, 3, 5),
        (0.001, 1.0, 10, 3),
        (0.1, 0.9, 3, 2),
    ],
)
def test_the_number_of_rungs_is_exact(minimum: float, maximum: float, eta: int, expected: int) -> None:
    """A quotient of floating-point logarithms gives one too few for 243 and for 1000."""
    assert halvings(Fidelity(minimum, maximum, integer=False), eta) == expected
    assert len(table(243, 3)) == 6
    assert len(table(1000, 10)) == 4


def test_rungs_count_down_from_a_full_budget_that_is_no_power() -> None:
    assert rung_budgets(Fidelity(1, 51), 3, 3) == (2, 6, 17, 51)
    assert rung_budgets(Fidelity(1, 100), 3, 4) == (1, 4, 11, 33, 100)


def test_whole_budgets_of_neighbouring_rungs_differ() -> None:
    for maximum in range(1, 200):
        for eta in (2, 3, 4):
            fidelity = Fidelity(1, maximum)
            budgets = rung_budgets(fidelity, eta, halvings(fidelity, eta))
            assert len(set(budgets)) == len(budgets)
            assert (budgets[0] >= 1, budgets[-1]) == (True, maximum)


def simulated(scheduler: Scheduler, maximum: int, slots: int) -> tuple[SimulatedStudy, Trace]:
    fidelity = Fidelity(1, maximum)
    study = SimulatedStudy(Study(SPACE, (LOSS,), sampler=RandomSampler(), scheduler=scheduler, fidelity=fidelity))
    return study, simulate(study, lambda p, budget, before: (p["x"], (budget or 0) - before), slots=slots)


@pytest.mark.parametrize("slots", [1, 5, 40])
@pytest.mark.parametrize(
    ("maximum", "trials", "restarted", "resumed"), [(81, 143, 1902, 1581), (27, 49, 423, 357), (9, 17, 78, 69)]
)
def test_one_iteration_costs_what_was_published(
    maximum: int, trials: int, restarted: int, resumed: int, slots: int
) -> None:
    """Whatever runs at once: waiting for full rungs keeps the table, and slots begin the next bracket meanwhile."""
    study, trace = simulated(Hyperband(iterations=1), maximum, slots)
    assert len(study.history) == trials
    assert sum(run.budget or 0 for run in trace.runs) == restarted
    assert trace.spent == resumed
    rungs = Counter((trial.labels["bracket"], result.budget) for trial, result in study.history.observations)
    assert rungs == {(number, budget): n for number, bracket in enumerate(table(maximum, 3)) for n, budget in bracket}


def test_slots_are_not_idle_while_a_rung_waits() -> None:
    """27 trials of one epoch on 20 slots: the second round leaves 13 free, which begin the second bracket."""
    _, trace = simulated(Hyperband(iterations=1), 27, 20)
    assert sum(run.started <= 1.0 for run in trace.runs) == 40


def test_successive_halving_costs_what_was_published() -> None:
    study, trace = simulated(SuccessiveHalving(n=16, eta=2), 16, 4)
    assert Counter(result.budget for _, result in study.history.observations) == {1: 16, 2: 8, 4: 4, 8: 2, 16: 1}
    assert sum(run.budget or 0 for run in trace.runs) == 80


def test_successive_halving_leaves_out_rungs_it_has_too_few_trials_for() -> None:
    study, _ = simulated(SuccessiveHalving(n=5, eta=3), 81, 1)
    assert Counter(result.budget for _, result in study.history.observations) == {27: 5, 81: 1}


def test_rounds_are_repeated() -> None:
    study, _ = simulated(SuccessiveHalving(eta=3, iterations=3), 9, 4)
    assert Counter(trial.labels["bracket"] for trial in study.history) == {0: 9, 1: 9, 2: 9}


# -- histories made by hand --------------------------------------------------------------------------------------------


class Story:
    """A history that is told in short sentences."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.history = History(SPACE, (LOSS,), fidelity=FIDELITY)

    def next(self) -> Action | None:
        action = self.scheduler.next(self.history)
        if isinstance(action, Start):
            self.history = events.ask(self.history, {"x": 0.5}, budget=action.budget, labels=action.labels)
        elif isinstance(action, Promote):
            self.history = events.promote(self.history, action.trial, action.budget)
        return action

    def tell(self, number: int, loss: float | None) -> None:
        if loss is None:
            self.history = events.fail(self.history, number, "it was to be")
        else:
            self.history = events.tell(self.history, number, {"loss": loss})

    def report(self, number: int, step: int, loss: float) -> bool:
        self.history = events.report(self.history, number, step, loss)
        return self.scheduler.keeps(self.history.trials[number], self.history)

    def run(self, losses: Sequence[float | None]) -> None:
        """New trials, one after the other, told at once."""
        for loss in losses:
            assert isinstance(self.next(), Start)
            self.tell(len(self.history) - 1, loss)


def test_a_rung_waits_for_its_last_trial_and_then_promotes_the_best() -> None:
    story = Story(SuccessiveHalving())
    for _ in range(9):
        assert story.next() == Start(1.0, {"bracket": 0})
    for number in range(8):
        story.tell(number, 1.0 - number / 10)
        assert story.next() is None
    story.tell(8, 0.95)
    assert [story.next() for _ in range(4)] == [Promote(7, 3.0), Promote(6, 3.0), Promote(5, 3.0), None]
    story.tell(7, 0.5)
    story.tell(6, None)
    assert story.next() is None
    story.tell(5, 0.1)
    assert [story.next(), story.next()] == [Promote(5, 9.0), None]


def test_a_failed_trial_counts_as_finished_and_its_place_is_taken() -> None:
    story = Story(SuccessiveHalving())
    for _ in range(9):
        story.next()
    for number, loss in enumerate([None, None, 0.3, 0.2, None, None, None, None, None]):
        story.tell(number, loss)
    assert [story.next() for _ in range(3)] == [Promote(3, 3.0), Promote(2, 3.0), None]


def test_a_bracket_in_which_everything_failed_is_over() -> None:
    story = Story(SuccessiveHalving(iterations=2))
    story.run([None] * 9)
    assert story.next() == Start(1.0, {"bracket": 1})


def test_equal_losses_are_ranked_by_number() -> None:
    story = Story(SuccessiveHalving())
    story.run([0.5] * 9)
    assert [story.next() for _ in range(3)] == [Promote(0, 3.0), Promote(1, 3.0), Promote(2, 3.0)]


def test_hyperband_finishes_earlier_brackets_first() -> None:
    story = Story(Hyperband())
    for _ in range(9 + 5):
        story.next()
    assert story.history.trials[-1].labels == {"bracket": 1}
    for number in range(14):
        story.tell(number, number / 100)
    assert story.next() == Promote(0, 3.0)


def test_asha_promotes_as_soon_as_one_is_in_the_best_third() -> None:
    """The rule worked out by hand, from the third answer on."""
    story = Story(ASHA())
    story.run([0.5, 0.4])
    assert story.next() == Start(1.0, {"bracket": 0})
    story.tell(2, 0.6)
    assert story.next() == Promote(1, 3.0)  # best of three
    assert story.next() == Start(1.0, {"bracket": 0})  # the third of three went on already
    story.tell(3, 0.3)
    assert story.next() == Promote(3, 3.0)  # floor(4 / 3) = 1: the best of four is another
    story.run([0.9])
    story.tell(1, 0.35)
    story.tell(3, 0.25)
    assert story.next() == Start(1.0, {"bracket": 0})  # two of the middle rung are too few
    story.tell(5, 0.2)
    assert story.next() == Promote(5, 3.0)  # floor(6 / 3) = 2: numbers 5 and 3, of which 3 went on
    story.run([0.9, 0.9, 0.28])  # the last of them is third of nine
    story.tell(5, 0.1)
    assert story.next() == Promote(5, 9.0)  # the rung on top comes first
    assert story.next() == Promote(8, 3.0)


def test_asha_counts_failures_but_never_promotes_them() -> None:
    story = Story(ASHA())
    story.run([None, None, 0.5])
    assert story.next() == Promote(2, 3.0)
    story.tell(2, None)
    assert isinstance(story.next(), Start)


def test_asha_never_waits() -> None:
    story = Story(ASHA())
    for _ in range(50):
        assert isinstance(story.next(), Start)


def test_brackets_of_asha_get_the_shares_of_hyperband() -> None:
    story = Story(ASHA(brackets=3))
    for _ in range(34):
        story.next()
    counts = Counter((trial.labels["bracket"], trial.budget) for trial in story.history)
    assert counts == {(0, 1.0): 18, (1, 3.0): 10, (2, 9.0): 6}


def test_asha_stopping_judges_once_at_every_rung() -> None:
    story = Story(ASHAStopping())
    for _ in range(4):
        assert story.next() == Start(9.0, {"bracket": 0})
    assert story.report(0, 1, 0.5)  # the first on its rung
    assert not story.report(1, 1, 0.6)  # the worse of two
    assert story.report(2, 1, 0.4)
    assert story.report(0, 2, 9.9)  # between rungs nothing is judged
    assert story.report(2, 3, 0.4)
    assert not story.report(0, 3, 9.9)
    assert story.report(3, 4, 0.1)  # its first report comes late, and counts for the rung at 3
    assert story.report(2, 9, 5.0)  # at the full budget it is over anyway


def test_asha_stopping_compares_values_of_the_same_rung() -> None:
    story = Story(ASHAStopping())
    story.next(), story.next()
    assert story.report(0, 1, 0.5)
    assert story.report(0, 2, 0.1)
    assert story.report(1, 1, 0.4)  # worse than the other is now, better than it was


def test_asha_stopping_spends_less_than_full_budgets() -> None:
    study, trace = run_study(ASHAStopping(), n_trials=30, slots=4)
    stopped = [trial for trial in study.history if trial.state is TrialState.STOPPED]
    assert len(stopped) > 10
    assert {trial.budget for trial in stopped} <= {1.0, 3.0}
    assert trace.spent < 0.5 * 30 * 9


def test_the_median_rule_by_hand() -> None:
    """Running averages up to step 2 are 0.9, 0.7 and 0.4, their median 0.7."""
    story = Story(MedianStopping(minimum_trials=3, grace=2))
    for number, curve in enumerate([(1.0, 0.8, 0.1), (0.8, 0.6, 0.1), (0.5, 0.3, 0.1)]):
        story.next()
        for step, loss in enumerate(curve, start=1):
            assert story.report(number, step, loss)
        story.tell(number, curve[-1])
    for loss in (0.69, 0.7, 0.71):
        story.next()
        number = len(story.history) - 1
        assert story.report(number, 1, 5.0)  # within grace
        assert story.report(number, 2, loss) == (loss <= 0.7)
    # The best value so far counts, not the last.
    story.next()
    assert story.report(6, 1, 0.69)
    assert story.report(6, 2, 99.0)


def test_the_median_rule_needs_others_that_came_as_far() -> None:
    story = Story(MedianStopping(minimum_trials=2))
    for number in range(2):
        story.next()
        story.report(number, 1, 0.1)
        story.tell(number, 0.1)
    story.next()
    assert not story.report(2, 1, 0.5)
    assert story.report(2, 2, 0.5)


def test_the_scheduler_within_the_median_rule_stops_trials_too() -> None:
    story = Story(MedianStopping(ASHAStopping(), grace=100))
    story.next(), story.next()
    assert story.report(0, 1, 0.5)
    assert not story.report(1, 1, 0.6)


def test_the_median_rule_saves_epochs() -> None:
    _, plain = run_study(FullBudget())
    study, stopping = run_study(MedianStopping())
    assert stopping.spent < 0.9 * plain.spent
    assert any(trial.state is TrialState.STOPPED for trial in study.history)


# -- several objectives and constraints --------------------------------------------------------------------------------


def test_infeasible_trials_come_last() -> None:
    story = Story(SuccessiveHalving())
    story.history = replace(story.history, constraints=(OutcomeConstraint("params", "<=", 2.0),))
    for number, (loss, params) in enumerate([(0.1, 3.0), (0.5, 1.0), (0.4, 2.0)]):
        story.next()
        story.history = events.tell(story.history, number, {"loss": loss, "params": params})
    assert [trial.number for trial in ranked(story.history, story.history.trials, 1.0)] == [2, 1, 0]


def test_several_objectives_are_ranked_by_fronts() -> None:
    story = Story(SuccessiveHalving())
    story.history = replace(story.history, objectives=(LOSS, Objective("score")))
    for number, (loss, score) in enumerate([(0.2, 0.1), (0.1, 0.5), (0.3, 0.9), (0.4, 0.4)]):
        story.next()
        story.history = events.tell(story.history, number, {"loss": loss, "score": score})
    assert [trial.number for trial in ranked(story.history, story.history.trials, 1.0)] == [1, 2, 0, 3]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hyperband(eta=1), "eta=1"),
        (lambda: ASHA(eta=2.5), "eta=2.5"),  # type: ignore[arg-type]
        (lambda: Hyperband(table="jmrl"), "Did you mean 'jmlr'"),
        (lambda: Hyperband(iterations=0), "iterations=0"),
        (lambda: SuccessiveHalving(n=0), "n=0"),
        (lambda: ASHA(brackets=0), "brackets=0"),
        (lambda: MedianStopping(minimum_trials=0), "minimum_trials=0"),
        (lambda: MedianStopping(grace=-1), "grace=-1"),
        (lambda: ASHA(brackets=9).next(History(SPACE, fidelity=FIDELITY)), "only 3 with eta=3"),
    ],
)
def test_settings_that_make_no_sense(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=message):
        make()


# -- the checkers catch what they are there for ------------------------------------------------------------------------


class _Broken(Scheduler):
    """Does what it is told to, whatever the history."""

    def __init__(self, *actions: Action | None) -> None:
        self.actions = list(actions)

    def next(self, history: History) -> Action | None:
        return self.actions[0]


def recorded(*steps: tuple[History, Action | None]) -> suite.RecordedStudy:
    study, _ = run_study(FullBudget(), n_trials=2)
    study.asked = list(steps)
    return study


def completed(budget: float = 1.0) -> History:
    history = events.ask(History(SPACE, (LOSS,), fidelity=FIDELITY), {"x": 0.5}, budget=budget)
    return events.tell(history, 0, {"loss": 0.0})


def test_the_checkers_catch_bad_promotions() -> None:
    running = events.ask(History(SPACE, (LOSS,), fidelity=FIDELITY), {"x": 0.5}, budget=1.0)
    for steps, message in (
        ([(running, Promote(0, 3.0))], "while it is RUNNING"),
        ([(events.fail(running, 0, "why"), Promote(0, 3.0))], "while it is FAILED"),
        ([(completed(3.0), Promote(0, 3.0))], "has reached"),
        ([(completed(), Promote(0, 3.0))] * 2, "promoted twice"),
    ):
        with pytest.raises(AssertionError, match=message):
            suite.check_promotions(recorded(*steps))


def test_the_checkers_catch_bad_budgets() -> None:
    for action, message in ((Start(10.0), "range"), (Start(1.5), "rounded"), (Start(), "no budget")):
        with pytest.raises(AssertionError, match=message):
            suite.check_budgets(recorded((completed(), action)))
    with pytest.raises(AssertionError, match="knows none"):
        suite.check_budgets(recorded((History(SPACE), Start(1.0))))


def test_the_checkers_catch_memory() -> None:
    with pytest.raises(AssertionError, match="not in the history"):
        suite.check_pure(recorded((completed(), Start(9.0))), lambda: _Broken(Start(1.0)))


def test_the_checkers_catch_a_scheduler_that_gives_up_or_leaves_work() -> None:
    with pytest.raises(AssertionError, match="and goes on"):
        suite.check_waits_only_for_answers(recorded((completed(), None), (completed(), Start(9.0))))
    study, _ = run_study(FullBudget(), n_trials=2)
    study.study.scheduler = _Broken(Promote(0, 9.0))
    with pytest.raises(AssertionError, match="is due"):
        suite.check_nothing_is_left(study)
    study.study.scheduler, study.study.n_trials = _Broken(Start(9.0)), 3
    with pytest.raises(AssertionError, match="could start"):
        suite.check_nothing_is_left(study)


def test_the_suite_catches_a_scheduler_that_goes_round_in_ever_smaller_steps() -> None:
    class Creeps(FullBudget):
        def next(self, history: History) -> Action | None:
            last = history.trials[0].last if history.trials else None
            return Start(1.0) if last is None or last.budget is None else Promote(0, last.budget + 0.01)

    with pytest.raises(AssertionError, match="did not end"):
        run_study(Creeps(), n_trials=1, slots=1)
