"""Studies on a simulated clock: hours of many workers in seconds of one process.

:func:`simulate` drives anything that asks and tells, ours or another library's, over an objective that says how long it
would have taken. What the asking itself takes is measured and put on the clock, because a slow sampler keeps
workers waiting.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from darts_hpo.errors import ConfigError
from darts_hpo.space import Value
from darts_hpo.tuning.history import History
from darts_hpo.tuning.trial import TrialState

if TYPE_CHECKING:
    from darts_hpo.tuning.study import Study


class AskTell(Protocol):
    """What :func:`simulate` drives."""

    def ask(self, now: float) -> tuple[Hashable, Any, float | None] | None:
        """The next thing to run: key, point and budget; None where answers must come first, or nothing is left.

        A key that was told before and comes again with a larger budget is resumed.
        """

    def tell(self, key: Any, value: Any) -> None:
        """What the last run of a key was worth; None where it failed."""


class ReportingAskTell(AskTell, Protocol):
    """One that may end a run early."""

    def report(self, key: Any, step: int, value: float) -> bool:
        """Whether to go on. After False the run is over; it isn't told."""


@dataclass(frozen=True)
class Report:
    """An intermediate value.

    Args:
        seconds: after the start of its run.
        step: in the unit of budgets.
        value: finite.
    """

    seconds: float
    step: int
    value: float


@dataclass(frozen=True)
class Measurement:
    """What an objective says of one run.

    Args:
        value: anything :meth:`AskTell.tell` takes; None where the run fails.
        seconds: until it ends.
        reports: on the way, for those that may end it early; by rising seconds.
        reached: the budget it came to, where it failed on the way; None: all of it.
    """

    value: Any
    seconds: float
    reports: Sequence[Report] = ()
    reached: float | None = None


class Evaluate(Protocol):
    """An objective: a point, the budget to reach and the budget already behind it (0 if none)."""

    def __call__(
        self, point: Any, budget: float | None, previous: float, /
    ) -> Measurement | tuple[float | Mapping[str, float] | None, float]:
        """A measurement, or a value and the seconds it takes."""


@dataclass(frozen=True)
class Run:
    """One stretch of work on the simulated clock.

    Args:
        key: of the trial; several runs share it where it was promoted.
        point: of the trial.
        budget: it was to reach.
        previous: budget that it started from; 0 at the first run.
        asked: when asking began, in simulated seconds.
        started: when the answer was there and work began.
        finished: when it ended; None where the simulation ended first.
        value: as told; None where it failed or was not told.
        reached: the budget it came to: smaller than ``budget`` where it failed or was ended on the way.
        state: how it ended.
    """

    key: Hashable
    point: Any
    budget: float | None
    previous: float
    asked: float
    started: float
    finished: float | None = None
    value: Any = None
    reached: float | None = None
    state: Literal["running", "completed", "stopped", "failed"] = "running"

    @property
    def spent(self) -> float:
        """Units of budget that it took: 1 where there are no budgets."""
        return 1.0 if self.reached is None else max(self.reached - self.previous, 0.0)


@dataclass(frozen=True)
class Trace:
    """Everything that happened.

    Args:
        runs: in the order of asking.
        seconds: when the simulation ended.
        suggestion_seconds: one per call of ask that gave something to run, in order, as measured.
    """

    runs: tuple[Run, ...]
    seconds: float
    suggestion_seconds: tuple[float, ...] = ()

    @property
    def ended(self) -> tuple[Run, ...]:
        """Runs that ended, in the order of ending."""
        done = [run for run in self.runs if run.finished is not None]
        return tuple(sorted(done, key=lambda run: run.finished or 0.0))

    @property
    def spent(self) -> float:
        """Units of budget of all runs that ended."""
        return sum(run.spent for run in self.ended)

    def incumbents(
        self,
        *,
        maximize: bool = True,
        against: Literal["seconds", "budget", "runs"] = "seconds",
        score: Callable[[Run], float | None] = lambda run: run.value,
    ) -> list[tuple[float, float]]:
        """How the best value so far improved.

        Args:
            maximize: whether more is better.
            against: simulated seconds, units of budget spent so far, or number of runs ended.
            score: of a run; None leaves it out. It may look a run up in a table, to judge by something
                that the optimizer was not told.

        Returns:
            Position and best value at every improvement, in order.
        """
        steps: list[tuple[float, float]] = []
        spent = 0.0
        for count, run in enumerate(self.ended, start=1):
            spent += run.spent
            value = score(run)
            if value is None or not math.isfinite(value):
                continue
            if not steps or (value > steps[-1][1] if maximize else value < steps[-1][1]):
                assert run.finished is not None
                steps.append(({"seconds": run.finished, "budget": spent, "runs": float(count)}[against], value))
        return steps


def simulate(
    optimizer: AskTell | ReportingAskTell,
    evaluate: Evaluate,
    *,
    slots: int = 1,
    runs: int | None = None,
    seconds: float | None = None,
    budget: float | None = None,
    synchronous: bool = False,
    resumes: bool = True,
    charge_suggestions: bool = False,
    timer: Callable[[], float] = time.process_time,
) -> Trace:
    """Run an optimizer on a simulated clock until a limit is reached or nothing is left to do.

    Args:
        optimizer: asks and tells.
        evaluate: the objective.
        slots: runs at once.
        runs: ask for no more than this many; those under way end and are told.
        seconds: the clock stops here; what runs then is neither told nor counted.
        budget: ask for no more once the runs asked for so far add up to this many units; those under way end.
        synchronous: fill all slots, then wait until all are free again, as Hydra's launchers do.
        resumes: whether a key that comes again goes on from its last budget, or from nothing.
        charge_suggestions: the clock goes on while the optimizer thinks, in ask and in tell, one call at a time.
            What ends meanwhile is told afterwards.
        timer: measures that. CPU time by default: a machine shared with others should not change results. Threads
            count double, so keep the optimizer to one.

    Returns:
        What happened.

    Raises:
        ConfigError: fewer than one slot, or an objective that takes negative or infinite time.
    """
    if slots < 1:
        raise ConfigError(f"A simulation with {slots} slots; expected at least 1.")
    clock = _Clock(optimizer, charge_suggestions, timer)
    simulation = _Simulation(clock, evaluate, resumes)
    end = math.inf if seconds is None else seconds
    batch = slots if synchronous else 1
    while True:
        simulation.deliver(end)
        if slots - simulation.busy >= batch and clock.now < end:
            # A launcher starts a batch at once, after all of it was asked for.
            asked: list[int] = []
            while len(asked) < batch and (runs is None or len(simulation.runs) < runs):
                if budget is not None and simulation.committed >= budget:
                    break
                index = simulation.ask()
                if index is None:
                    break
                asked.append(index)
            for index in asked:
                simulation.launch(index)
            if asked:
                continue
        upcoming = simulation.next_event
        if upcoming is None or upcoming > end:
            clock.now = clock.now if upcoming is None else end
            break
        clock.now = max(clock.now, upcoming)
    return Trace(tuple(simulation.runs), min(clock.now, end), tuple(clock.suggestions))


class _Clock:
    """The time now, and an optimizer whose thinking moves it."""

    def __init__(self, optimizer: Any, charge: bool, timer: Callable[[], float]) -> None:
        self.now = 0.0
        self.optimizer = optimizer
        self.suggestions: list[float] = []
        self._charge, self._timer = charge, timer

    def call(self, name: str, *arguments: Any) -> Any:
        begun = self._timer()
        answer = getattr(self.optimizer, name)(*arguments)
        took = self._timer() - begun
        if self._charge:
            self.now += took
        if name == "ask" and answer is not None:
            self.suggestions.append(took)
        return answer


class _Simulation:
    """The runs and what is going to happen to them."""

    def __init__(self, clock: _Clock, evaluate: Evaluate, resumes: bool) -> None:
        self.clock, self.evaluate, self.resumes = clock, evaluate, resumes
        self.runs: list[Run] = []
        self.busy = 0
        self.committed = 0.0
        self._behind: dict[Hashable, float] = {}
        self._ended: set[int] = set()
        # Ties are settled by the order of scheduling, so that a simulation repeats exactly.
        self._heap: list[tuple[float, int, int, Report | Measurement]] = []
        self._scheduled = 0

    @property
    def next_event(self) -> float | None:
        while self._heap and self._heap[0][2] in self._ended:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def ask(self) -> int | None:
        """Index of a new run; None where there was nothing to run."""
        asked = self.clock.now
        answer = self.clock.call("ask", asked)
        if answer is None:
            return None
        key, point, budget = answer
        previous = self._behind.get(key, 0.0) if self.resumes else 0.0
        run = Run(key, point, budget, previous, asked, self.clock.now, reached=budget)
        self.runs.append(run)
        self.committed += run.spent
        return len(self.runs) - 1

    def launch(self, index: int) -> None:
        """Start work on a run now."""
        run = replace(self.runs[index], started=self.clock.now)
        measured = self.evaluate(run.point, run.budget, run.previous)
        if not isinstance(measured, Measurement):
            measured = Measurement(*measured)
        if not 0 <= measured.seconds < math.inf:
            raise ConfigError(f"The objective takes {measured.seconds} seconds; expected a finite time of at least 0.")
        self.runs[index] = run
        self.busy += 1
        if hasattr(self.clock.optimizer, "report"):
            for report in measured.reports:
                self._schedule(run.started + report.seconds, index, report)
        self._schedule(run.started + measured.seconds, index, measured)

    def deliver(self, end: float) -> None:
        """Tell the optimizer everything that has happened by now, but nothing after the end."""
        while (when := self.next_event) is not None and when <= min(self.clock.now, end):
            when, _, index, event = heapq.heappop(self._heap)
            run = self.runs[index]
            if isinstance(event, Measurement):
                state: Literal["completed", "failed"] = "failed" if event.value is None else "completed"
                reached = run.reached if event.reached is None else event.reached
                self._end(index, replace(run, finished=when, value=event.value, reached=reached, state=state))
                self.clock.call("tell", run.key, event.value)
            elif not self.clock.call("report", run.key, event.step, event.value):
                reached = float(event.step)
                self._end(index, replace(run, finished=when, value=event.value, reached=reached, state="stopped"))

    def _end(self, index: int, run: Run) -> None:
        self.committed += run.spent - self.runs[index].spent
        self.runs[index] = run
        if run.state != "failed" and run.reached is not None:
            self._behind[run.key] = run.reached
        self._ended.add(index)
        self.busy -= 1

    def _schedule(self, when: float, index: int, event: Report | Measurement) -> None:
        heapq.heappush(self._heap, (when, self._scheduled, index, event))
        self._scheduled += 1


class SimulatedStudy:
    """A study as something that asks and tells, so that :func:`simulate` can drive it.

    Args:
        study: in memory, unless its journal is wanted.

    Example:
        >>> from darts_hpo.space import Float, Space
        >>> from darts_hpo.tuning.samplers.random import RandomSampler
        >>> from darts_hpo.tuning.study import Study
        >>> study = SimulatedStudy(Study(Space({"x": Float(0.0, 1.0)}), sampler=RandomSampler(), n_trials=100))
        >>> trace = simulate(study, lambda point, budget, previous: (point["x"], 60.0), slots=40)
        >>> trace.seconds
        180.0
    """

    def __init__(self, study: Study) -> None:
        self.study = study

    @property
    def history(self) -> History:
        """Of the study."""
        return self.study.history

    def ask(self, now: float = 0.0) -> tuple[int, dict[str, Value], float | None] | None:
        """Number, point and budget of what to run next; None where there is nothing (yet)."""
        trial = self.study.ask()
        if trial is None:
            return None
        self.study.started(trial.number)
        return trial.number, dict(trial.point), trial.budget

    def tell(self, key: int, value: float | Sequence[float] | Mapping[str, float] | None) -> None:
        """The answer of a trial; None is a failure."""
        if value is None:
            self.study.fail(key, "no value")
        else:
            self.study.tell(key, value)

    def report(self, key: int, step: int, value: float) -> bool:
        """Take an intermediate value; whether the trial goes on. If not, it has ended with that value."""
        if self.study.report(key, step, value):
            return True
        reason = f"stopped by {type(self.study.scheduler).__name__} at step {step}"
        self.study.tell(key, value, state=TrialState.STOPPED, budget=float(step), reason=reason)
        return False
