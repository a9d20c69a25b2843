"""Ask and tell: a study proposes trials, is told what they are worth, and forgets nothing."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_hpo.errors import ConfigError, SpaceError
from darts_hpo.runs.files import readable_errors
from darts_hpo.runs.lock import DirectoryLock
from darts_hpo.space import Point, Space, Value
from darts_hpo.tuning import events
from darts_hpo.tuning.history import History
from darts_hpo.tuning.journal import FILE_NAME, Journal, Replay
from darts_hpo.tuning.objectives import Fidelity, Objective, OutcomeConstraint, read_values
from darts_hpo.tuning.samplers.base import Exhausted, Sampler
from darts_hpo.tuning.schedulers.base import Promote, Scheduler, Start
from darts_hpo.tuning.trial import REPLICATE, WARM_START, Trial, TrialState

if TYPE_CHECKING:
    from darts_hpo.tuning.executors.base import Executor
    from darts_hpo.tuning.recommendation import Recommendation

log = logging.getLogger(__name__)


class Study:
    """Tunes a space by asking a sampler and a scheduler, one trial at a time.

    With a directory, every event is in its journal before anything else happens: opened again, the study goes on
    where it was, trials that were running included. Use it as a context manager, or call :meth:`close`.

    Args:
        space: what is tuned.
        objectives: what every trial returns.
        sampler: proposes points; None takes the default (a Gaussian process with qLogNEI).
        scheduler: gives budgets; None runs every trial to its end.
        constraints: bounds on metrics of the finished trial.
        fidelity: range of budgets, where the scheduler or sampler gives any.
        n_trials: configurations in all, those of earlier invocations and failed ones included; None has no bound.
        total_budget: stops when the budgets given add up to this; None has no bound.
        warm_start: points to try first, for example the defaults that the study is to improve on.
        seed: of all suggestions.
        directory: holds ``journal.jsonl``; None keeps everything in memory.

    Raises:
        RunDirectoryError: another process uses the directory, or it belongs to another study.
        SpaceError: a warm-start point is not in the space.
        ConfigError: there is nothing to tune or nothing to tune for.

    Example:
        >>> from darts_hpo.space import Float, Space
        >>> from darts_hpo.tuning.samplers.random import RandomSampler
        >>> study = Study(Space({"x": Float(-1.0, 1.0)}), sampler=RandomSampler(), n_trials=3)
        >>> while (trial := study.ask()) is not None:
        ...     _ = study.tell(trial.number, -trial.point["x"] ** 2)
        >>> len(study.history.observations)
        3
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective] = (Objective(),),
        *,
        sampler: Sampler | None = None,
        scheduler: Scheduler | None = None,
        constraints: Sequence[OutcomeConstraint] = (),
        fidelity: Fidelity | None = None,
        n_trials: int | None = None,
        total_budget: float | None = None,
        warm_start: Iterable[Point] = (),
        seed: int = 0,
        directory: Path | str | None = None,
    ) -> None:
        _require_something_to_do(space, objectives, n_trials)
        self.sampler = _default_sampler(seed) if sampler is None else sampler
        self.scheduler = _default_scheduler() if scheduler is None else scheduler
        self.n_trials, self.total_budget, self.seed = n_trials, total_budget, seed
        self.warm_start = tuple(_checked(space, point) for point in warm_start)
        self.directory = None if directory is None else Path(directory)
        self._resources = ExitStack()
        self._journal: Journal | None = None
        history = History(space, tuple(objectives), (), tuple(constraints), fidelity)
        _require_working_together(history, self.scheduler)
        self._replay = Replay(history)
        if self.directory is not None:
            with readable_errors(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
            self._resources.enter_context(DirectoryLock(self.directory, _IN_USE).held())
            try:
                self._journal = Journal(self.directory / FILE_NAME)
                self._replay = self._journal.begin(history)
            except BaseException:
                self.close()
                raise
        self.exhausted = False
        """Whether the sampler has come to its end."""

    @classmethod
    def load(cls, directory: Path | str) -> History:
        """The history that a directory holds, to look at; the study may be running.

        Raises:
            RunDirectoryError: there is no journal, or it cannot be read.
        """
        return Journal(Path(directory) / FILE_NAME).read().history

    def close(self) -> None:
        """Give the directory free."""
        self._resources.close()

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def history(self) -> History:
        """Everything so far; immutable."""
        return self._replay.history

    @property
    def problems(self) -> list[str]:
        """Lines of the journal that could not be read."""
        return self._replay.problems

    # -- ask and tell -----------------------------------------------------------------------------------------------

    def ask(self) -> Trial | None:
        """The trial to run next: a new one, or an earlier one that is to run on to a larger budget.

        Returns:
            None where nothing can start now. While trials run, an answer may change that; else the study is over.
        """
        closed = self.exhausted or (self.n_trials is not None and len(self.history.proposals) >= self.n_trials)
        action = self.scheduler.next(replace(self.history, closed=closed))
        if action is None or not self._affordable():
            return None
        if isinstance(action, Promote):
            promoted = events.promote(self.history, action.trial, action.budget)
            self._replay.workers.pop(action.trial, None)
            return self._commit(promoted, "promote", action.trial, budget=action.budget)
        if closed:
            return None
        trial = self._ask_new(action)
        # A scheduler that waited for more of them may now have trials to promote.
        return self.ask() if trial is None else trial

    def _ask_new(self, action: Start) -> Trial | None:
        """A new trial; None where the sampler has come to its end."""
        proposed = len(self.history.proposals)
        labels, budget = dict(action.labels), action.budget
        if proposed < len(self.warm_start):
            point: Mapping[str, Value] = self.warm_start[proposed]
            source = WARM_START
        else:
            number = len(self.history)
            given = None if self.sampler.chooses_budget else budget
            try:
                suggestion = self.sampler.suggest(
                    self.history, seed=events.suggestion_seed(self.seed, number), budget=given
                )
            except Exhausted as end:
                log.info("The sampler has come to its end: %s", end)
                self.exhausted = True
                return None
            point = self.history.space.validate(suggestion.point)
            labels |= suggestion.labels
            budget = suggestion.budget if suggestion.budget is not None else budget
            source = self.sampler.name
        return self._asked(point, budget=budget, source=source, labels=labels)

    def replicate(self, number: int, seed: int) -> Trial:
        """A trial that repeats another on a seed of its own, to its full budget: it measures noise, and luck.

        Raises:
            ConfigError: there is no such trial.
        """
        fidelity = self.history.fidelity
        budget = None if fidelity is None else fidelity.maximum
        point = self.history.trials[number].point if 0 <= number < len(self.history) else {}
        return self._asked(point, budget=budget, source=REPLICATE, labels={}, replicate_of=number, seed=seed)

    def started(self, number: int) -> int:
        """A worker is about to be given the trial.

        Returns:
            The number of the attempt, from 1; every one is another.
        """
        begun = events.start(self.history, number)
        attempt = begun.trials[number].attempts
        self._commit(begun, "start", number, attempt=attempt, budget=begun.trials[number].budget)
        self._replay.workers[number] = None
        return attempt

    def worker(self, number: int, facts: Mapping[str, Any]) -> None:
        """Remember where the latest attempt runs, so that it is found again after a crash of this process."""
        self._commit(self.history, "worker", number, facts=dict(facts))
        self._replay.workers[number] = dict(facts)

    def under_way(self, number: int) -> bool:
        """Whether a worker was given the trial and has not answered, as far as this process knows."""
        return number in self._replay.workers

    def worker_of(self, number: int) -> Mapping[str, Any] | None:
        """What :meth:`worker` was told of the attempt under way."""
        return self._replay.workers.get(number)

    def report(self, number: int, step: int, value: float) -> bool:
        """An intermediate value of the first objective.

        Args:
            number: of the trial.
            step: in units of the budget, for example epochs done.
            value: a value that is not finite is left out.

        Returns:
            Whether the trial should go on; False asks to end it and tell its last value as ``STOPPED``.
        """
        if not math.isfinite(value):
            return True
        reported = events.report(self.history, number, step, value)
        self._commit(reported, "report", number, step=step, value=value)
        return self.scheduler.keeps(self.history.trials[number], self.history)

    def stop(self, number: int, reason: str) -> None:
        """Remember that a trial was asked to end early."""
        self._commit(self.history, "stop", number, reason=reason)
        self._replay.stopping[number] = reason

    def stopping(self, number: int) -> str | None:
        """Why a running trial was asked to end early; None where it was not."""
        return self._replay.stopping.get(number)

    def tell(
        self,
        number: int,
        returned: Any,
        *,
        state: TrialState = TrialState.COMPLETED,
        budget: float | None = None,
        seconds: float | None = None,
        reason: str | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> Trial:
        """What a trial is worth. A value that is not finite makes it a failed one.

        Args:
            number: of the trial.
            returned: a number, a sequence of them (one per objective), or a mapping of metric names to numbers.
            state: COMPLETED, or STOPPED where it was ended early.
            budget: at which the value was measured; the one it was asked for, unless it was ended early.
            seconds: it took since the budget before.
            reason: why it was ended early.
            record: what else is known of it, as JSON.

        Raises:
            ObjectiveError: what was returned is no value of the objectives; the trial goes on running.
            ConfigError: the trial is unknown or not running.
        """
        values = read_values(returned, self.history.objectives, self.history.constraints)
        needed = [*(o.name for o in self.history.objectives), *(c.name for c in self.history.constraints)]
        for name in needed:
            if not math.isfinite(values[name]):
                return self.fail(number, f"{name} is {values[name]}", record=record)
        facts: dict[str, Any] = {"seconds": seconds, "reason": reason, "record": dict(record or {})}
        told = events.tell(self.history, number, values, state=state, budget=budget, **facts)
        result = told.trials[number].results[-1]
        facts |= {"state": state.value, "values": dict(result.values), "budget": result.budget}
        trial = self._commit(told, "tell", number, **facts)
        self._replay.ended(number)
        return trial

    def fail(self, number: int, reason: str, record: Mapping[str, Any] | None = None) -> Trial:
        """A trial gave no value; it is recorded with its reason and counts.

        Raises:
            ConfigError: the trial is unknown or not running.
        """
        failed = events.fail(self.history, number, reason, record=record)
        trial = self._commit(failed, "fail", number, reason=reason, record=dict(record or {}))
        self._replay.ended(number)
        return trial

    # -- the whole loop -----------------------------------------------------------------------------------------------

    def run(
        self,
        function: Callable[..., Any],
        *,
        executor: Executor | None = None,
        timeout: float | None = None,
        retries: int = 0,
    ) -> Recommendation:
        """Ask, call and tell until the study is over.

        Args:
            function: called with the point as keywords (and ``budget=`` where the study has budgets); returns a
                number, a sequence or a mapping. Executors in other processes need it to be importable.
            executor: None calls it here, one trial after the other.
            timeout: seconds a trial may take; not enforceable in this process.
            retries: further attempts for a trial whose worker vanished without an answer.

        Returns:
            The answer, twice: best observed, and argmax of the posterior mean.
        """
        from darts_hpo.tuning.jobs import FunctionJobs
        from darts_hpo.tuning.loop import Loop, LoopSettings

        if executor is None:
            from darts_hpo.tuning.executors.in_process import InProcess

            executor = InProcess()
        settings = LoopSettings(retries=retries)
        with FunctionJobs(function, executor, self.directory, timeout) as jobs:
            Loop(self, executor, jobs, settings).run()
        return self.recommend()

    def recommend(self, *, model: bool = True) -> Recommendation:
        """The answer so far; see :mod:`darts_hpo.tuning.recommendation`.

        Args:
            model: also ask a surrogate, which imports PyTorch.
        """
        from darts_hpo.tuning.recommendation import recommend

        answer = recommend(self.history, model=model)
        if not self.sampler.chooses_budget:
            return answer
        return replace(answer, incumbent=self.sampler.incumbent(self.history))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _affordable(self) -> bool:
        if self.total_budget is None:
            return True
        resumes = self.history.fidelity is None or self.history.fidelity.resumes
        return given_budget(self.history, resumes=resumes) < self.total_budget

    def _asked(
        self,
        point: Mapping[str, Value],
        *,
        budget: float | None,
        source: str,
        labels: Mapping[str, Any],
        replicate_of: int | None = None,
        seed: int | None = None,
    ) -> Trial:
        facts: dict[str, Any] = {
            "budget": budget,
            "source": source,
            "labels": dict(labels),
            "replicate_of": replicate_of,
            "seed": seed,
        }
        return self._commit(events.ask(self.history, point, **facts), "ask", len(self.history), **facts)

    def _commit(self, history: History, event: str, number: int, **facts: Any) -> Trial:
        """Make an event true: on disk first, then here."""
        trial = history.trials[number]
        if self._journal is not None:
            self._journal.append(event, trial, **facts)
        self._replay.history = history
        return trial


_IN_USE = "Wait until that sweep ends, or give another directory (hydra.sweep.dir=DIRECTORY)."


def given_budget(history: History, *, resumes: bool) -> float:
    """Units of budget given to all trials so far; a trial that resumes pays for each unit once."""
    total = 0.0
    for trial in history:
        steps = {result.budget for result in trial.results if result.budget is not None}
        if trial.budget is not None:
            steps.add(trial.budget)
        total += (max(steps) if resumes else sum(steps)) if steps else 0.0
    return total


def _require_something_to_do(space: Space, objectives: Sequence[Objective], n_trials: int | None) -> None:
    if not len(space):
        raise ConfigError("There is nothing to tune: give parameters, for example 'lr=tag(log,interval(1e-4,1e-1))'.")
    names = [objective.name for objective in objectives]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"The objectives are {names}; expected at least one, each named once.")
    if n_trials is not None and n_trials < 1:
        raise ConfigError(f"n_trials={n_trials}: expected at least 1.")
    space.sample(random.Random(0))  # a space whose constraints nothing satisfies is refused before any trial


def _require_working_together(history: History, scheduler: Scheduler) -> None:
    """Refuse now what would end the study after its first trials."""
    scheduler.next(history)  # one that needs budgets says so
    if type(scheduler).keeps is not Scheduler.keeps and (len(history.objectives) > 1 or history.constraints):
        raise ConfigError(
            f"{type(scheduler).__name__} stops trials by one intermediate value; with several objectives or outcome "
            "constraints take a scheduler that does not, for example hydra/sweeper/scheduler=asha."
        )


def _checked(space: Space, point: Point) -> dict[str, Value]:
    try:
        return space.validate(point)
    except SpaceError as error:
        raise SpaceError(f"The warm-start point {dict(point)}: {error}") from None


def _default_sampler(seed: int) -> Sampler:
    from darts_hpo.tuning.samplers.gp import GPSampler

    return GPSampler(sobol_seed=seed)


def _default_scheduler() -> Scheduler:
    from darts_hpo.tuning.schedulers.full import FullBudget

    return FullBudget()
