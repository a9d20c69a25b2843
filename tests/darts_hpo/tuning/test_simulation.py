"""The simulated clock: who waits for whom, what thinking costs, and what is told when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from darts_hpo.errors import ConfigError
from darts_hpo.space import Float, Space
from darts_hpo.tuning.objectives import Fidelity
from darts_hpo.tuning.samplers.manual import ManualSampler
from darts_hpo.tuning.samplers.random import RandomSampler
from darts_hpo.tuning.schedulers.base import Action, Scheduler, Start
from darts_hpo.tuning.schedulers.full import FullBudget
from darts_hpo.tuning.schedulers.successive_halving import SuccessiveHalving
from darts_hpo.tuning.simulation import Measurement, Report, Run, SimulatedStudy, Trace, simulate
from darts_hpo.tuning.study import Study
from darts_hpo.tuning.trial import TrialState

SPACE = Space({"x": Float(0.0, 1.0)})


def in_memory(scheduler: Scheduler, **arguments: Any) -> SimulatedStudy:
    return SimulatedStudy(Study(SPACE, scheduler=scheduler, **{"sampler": RandomSampler(), **arguments}))


class Scripted:
    """Asks for runs of given lengths and remembers what it was told, and when it was asked."""

    def __init__(self, lengths: Sequence[float]) -> None:
        self.lengths = list(lengths)
        self.told: list[tuple[int, object]] = []
        self.asked_at: list[float] = []
        self.knew: list[int] = []

    def ask(self, now: float) -> tuple[int, float, None] | None:
        self.asked_at.append(now)
        self.knew.append(len(self.told))
        key = len(self.asked_at) - 1
        return (key, self.lengths[key], None) if key < len(self.lengths) else None

    def tell(self, key: int, value: object) -> None:
        self.told.append((key, value))


def length(point: float, budget: float | None, previous: float) -> tuple[float, float]:
    return point, point


class Ticks:
    """A timer by which every call takes as long as is said, whatever it does."""

    def __init__(self, durations: Sequence[float]) -> None:
        self.times: Iterator[float] = iter([t for i, d in enumerate(durations) for t in (100.0 * i, 100.0 * i + d)])

    def __call__(self) -> float:
        return next(self.times)


def spans(trace: Trace) -> list[tuple[float, float | None]]:
    return [(run.started, run.finished) for run in trace.runs]


def test_a_slot_that_gets_free_is_filled_at_once() -> None:
    trace = simulate(Scripted([3, 1, 1, 1]), length, slots=2)
    assert spans(trace) == [(0, 3), (0, 1), (1, 2), (2, 3)]
    assert trace.seconds == 3


def test_a_synchronous_batch_waits_for_its_slowest() -> None:
    optimizer = Scripted([3, 1, 1, 1, 5])
    trace = simulate(optimizer, length, slots=2, synchronous=True)
    assert spans(trace) == [(0, 3), (0, 1), (3, 4), (3, 4), (4, 9)]
    assert optimizer.knew[:5] == [0, 0, 2, 2, 4]


def test_thinking_moves_the_clock_one_suggestion_after_the_other() -> None:
    """Asking takes 2 s, telling 0: the second slot waits for the first one's suggestion."""
    optimizer = Scripted([3.0, 3.0, 3.0])
    ticks = Ticks([2, 2, 0, 2, 0, 0.0, 0, 0, 0, 0])
    trace = simulate(optimizer, length, slots=2, charge_suggestions=True, timer=ticks)
    assert spans(trace) == [(2, 5), (4, 7), (7, 10)]
    assert [run.asked for run in trace.runs] == [0, 2, 5]
    assert list(trace.suggestion_seconds) == [2, 2, 2]
    # What ended while it was thinking, at 7, is told after it has thought.
    assert optimizer.knew[2] == 1


def test_telling_moves_the_clock_too() -> None:
    trace = simulate(Scripted([1, 1]), length, charge_suggestions=True, timer=Ticks([0, 5, 0, 5, 0]))
    assert spans(trace) == [(0, 1), (6, 7)]


def test_batches_start_when_all_of_it_was_asked_for() -> None:
    trace = simulate(
        Scripted([1, 1]), length, slots=2, synchronous=True, charge_suggestions=True, timer=Ticks([2, 2, 0, 0, 0, 0])
    )
    assert spans(trace) == [(4, 5), (4, 5)]


def test_thinking_is_free_unless_charged() -> None:
    trace = simulate(Scripted([1, 1]), length, timer=Ticks([2] * 9))
    assert trace.seconds == 2
    assert trace.suggestion_seconds == (2, 2)


def test_limits() -> None:
    assert len(simulate(Scripted([1] * 9), length, slots=2, runs=5).runs) == 5
    optimizer = Scripted([1, 1, 1, 1])
    trace = simulate(optimizer, length, seconds=2.5)
    assert spans(trace) == [(0, 1), (1, 2), (2, None)]
    assert (len(optimizer.told), len(trace.ended), trace.seconds) == (2, 2, 2.5)
    assert len(simulate(Scripted([1] * 9), length, slots=2, budget=3).runs) == 3


def test_what_failed_early_leaves_its_budget_to_others() -> None:
    trace = simulate(Scripted([1] * 9), lambda p, b, q: Measurement(None, 1.0, reached=0.25), budget=1)
    assert (len(trace.runs), trace.spent) == (4, 1.0)


@pytest.mark.parametrize(("slots", "seconds"), [(0, 1.0), (1, -1.0), (1, float("inf"))])
def test_what_cannot_be_simulated(slots: int, seconds: float) -> None:
    with pytest.raises(ConfigError, match="slots|seconds"):
        simulate(Scripted([1]), lambda p, b, q: (0.0, seconds), slots=slots)


def test_simulations_repeat_exactly() -> None:
    def traced() -> Trace:
        study = in_memory(SuccessiveHalving(), fidelity=Fidelity(1, 27))
        return simulate(study, lambda p, b, q: (p["x"], 1.0), slots=5, timer=lambda: 0.0)

    assert traced() == traced()


def test_a_resumed_run_begins_where_the_last_one_ended() -> None:
    seen: list[tuple[float | None, float]] = []

    def objective(point: dict[str, float], budget: float | None, previous: float) -> tuple[float, float]:
        seen.append((budget, previous))
        return point["x"], (budget or 0) - previous

    for resumes in (True, False):
        seen.clear()
        study = in_memory(SuccessiveHalving(), fidelity=Fidelity(1, 9))
        trace = simulate(study, objective, resumes=resumes)
        assert seen == [(1, 0)] * 9 + [(3, 1 * resumes)] * 3 + [(9, 3 * resumes)]
        assert trace.spent == (9 + 3 * 2 + 6 if resumes else 9 + 9 + 9)


def test_a_failure_is_told_as_none_and_costs_what_it_took() -> None:
    optimizer = Scripted([1, 2])
    trace = simulate(optimizer, lambda p, b, q: Measurement(None, p, reached=0.25))
    assert optimizer.told == [(0, None), (1, None)]
    assert [run.state for run in trace.runs] == ["failed", "failed"]
    assert trace.spent == 0.5


class _StopsAt(FullBudget):
    def __init__(self, step: int) -> None:
        self.step = step

    def keeps(self, trial: object, history: object) -> bool:
        return max(trial.reports) < self.step  # type: ignore[attr-defined]


def test_a_report_can_end_a_run() -> None:
    study = in_memory(_StopsAt(2), n_trials=2, fidelity=Fidelity(1, 5))

    def curve(point: object, budget: float | None, previous: float) -> Measurement:
        return Measurement(5.0, 5.0, [Report(float(s), s, float(s)) for s in range(1, 6)])

    trace = simulate(study, curve)
    assert spans(trace) == [(0, 2), (2, 4)]
    assert [(run.state, run.value, run.reached) for run in trace.runs] == [("stopped", 2.0, 2.0)] * 2
    assert trace.spent == 4
    for trial in study.history:
        assert (trial.state, trial.reports) == (TrialState.STOPPED, {1: 1.0, 2: 2.0})
        assert study.history.gain(trial.results[0]) == 2.0


def test_values_that_are_not_finite_are_failures() -> None:
    study = in_memory(FullBudget(), n_trials=3)
    answers = iter([float("nan"), None, {"value": 1.0}])
    simulate(study, lambda p, b, q: (next(answers), 1.0))
    assert [trial.state for trial in study.history] == [TrialState.FAILED, TrialState.FAILED, TrialState.COMPLETED]


def test_a_sampler_that_runs_dry_ends_the_study() -> None:
    points = [{"x": 0.1}, {"x": 0.2}]
    study = in_memory(FullBudget(), sampler=ManualSampler(points), n_trials=9)
    trace = simulate(study, lambda p, b, q: (p["x"], 1.0), slots=4)
    assert [run.point for run in trace.runs] == points
    assert not study.history.running


def test_labels_and_source_are_kept() -> None:
    class Labels(Scheduler):
        def next(self, history: object) -> Action | None:
            return Start(2.0, {"bracket": 7})

    study = in_memory(Labels(), n_trials=1, fidelity=Fidelity(1, 3))
    simulate(study, lambda p, b, q: (0.0, 1.0))
    (trial,) = study.history.trials
    assert (trial.labels, trial.source, trial.budget, trial.attempts) == ({"bracket": 7}, "random", 2.0, 1)


def test_incumbents_against_time_budget_and_runs() -> None:
    def run(finished: float | None, value: float | None, reached: float) -> Run:
        return Run(0, None, reached, 0.0, 0.0, 0.0, finished, value, reached, "completed")

    trace = Trace((run(5, 1.0, 2), run(1, 3.0, 4), run(2, None, 1), run(9, 0.5, 3), run(None, -9.0, 1)), 9.0)
    assert trace.incumbents(maximize=False) == [(1, 3.0), (5, 1.0), (9, 0.5)]
    assert trace.incumbents(maximize=False, against="budget") == [(4, 3.0), (7, 1.0), (10, 0.5)]
    assert trace.incumbents(maximize=False, against="runs") == [(1, 3.0), (3, 1.0), (4, 0.5)]
    assert trace.incumbents() == [(1, 3.0)]
    assert trace.incumbents(score=lambda r: None if r.reached == 4 else r.value) == [(5, 1.0)]
