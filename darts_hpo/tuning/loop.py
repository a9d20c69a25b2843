"""The asynchronous loop: a new trial starts when one ends, and nothing is lost when this process is killed."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from darts_hpo.errors import ConfigError, DartsHPOError, RunDirectoryError, RunStopped
from darts_hpo.runs.files import write_text
from darts_hpo.tuning.executors.base import Executor, Job, Outcome
from darts_hpo.tuning.objectives import ObjectiveError
from darts_hpo.tuning.progress import Progress
from darts_hpo.tuning.recommendation import top
from darts_hpo.tuning.schedulers.base import Scheduler
from darts_hpo.tuning.study import Study
from darts_hpo.tuning.trial import WARM_START, Trial, TrialState

log = logging.getLogger(__name__)

JobMaker: TypeAlias = Callable[[Trial, int], Job]
"""From a trial and the number of the attempt to what an executor runs."""

STOP_FILE = "STOP"


class TooManyFailures(DartsHPOError):  # noqa: N818 - the name says what happened
    """Trial after trial failed: going on would only fail more."""


@dataclass(frozen=True)
class LoopSettings:
    """How the loop behaves.

    Args:
        retries: further attempts where a worker vanished without an answer (killed, out of memory).
        failures_in_a_row: after so many failed trials with no success between, the study ends with an error.
        poll_seconds: pause between two looks at the workers.
        replicate_top: at the end, this many of the best trials are repeated (and the first warm-start point, which
            they are to improve on),
        replicate_seeds: each on every one of these seeds.
        record: facts to keep of a trial that ended, given the trial and its directory.
        progress: where intermediate values are found.
        on_answer: called after every trial that ended, in whatever way.

    Raises:
        ConfigError: a number is out of range.
    """

    retries: int = 1
    failures_in_a_row: int = 10
    poll_seconds: float = 0.5
    replicate_top: int = 0
    replicate_seeds: tuple[int, ...] = ()
    record: Callable[[Trial, Path], Mapping[str, Any]] | None = None
    progress: Progress = field(default_factory=Progress)
    on_answer: Callable[[Trial], None] | None = None

    def __post_init__(self) -> None:
        least = {"retries": 0, "failures_in_a_row": 1, "poll_seconds": 0, "replicate_top": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"{name}={getattr(self, name)}: expected a number of at least {bound}.")


class Loop:
    """Keeps every slot of an executor busy until the study is over.

    Args:
        study: opened by the caller.
        executor: runs the trials.
        make_job: what it is given.
        settings: see there.
    """

    def __init__(self, study: Study, executor: Executor, make_job: JobMaker, settings: LoopSettings) -> None:
        self.study, self.executor, self.make_job, self.settings = study, executor, make_job, settings
        self._active: dict[int, Job] = {}
        self._waiting: deque[Trial] = deque()
        self._vanished: dict[int, int] = {}
        self._failures_in_a_row = 0
        self._watches = type(study.scheduler).keeps is not Scheduler.keeps

    def run(self) -> None:
        """Continue what an earlier process left, then ask, run and tell until nothing is left.

        Raises:
            RunStopped: a file named STOP lies in the study's directory; trials that ran have ended first.
            TooManyFailures: see :class:`LoopSettings`.
            ObjectiveError: the objective returns something that is no value; every trial would.
            KeyboardInterrupt: workers are killed first; the same command continues them. So they are before any
                other mistake of the user's ends the study.
        """
        self._clear_stop(self.study.directory)
        try:
            with self.executor:
                self._recover()
                self._until_idle(self.study.ask)
                self._until_idle(self._next_replicate)
        except RunDirectoryError:
            raise  # the disk is full: workers may go on, the same command takes them over
        except (KeyboardInterrupt, DartsHPOError):
            for job in self._active.values():
                self.executor.cancel(job)
            raise

    def _until_idle(self, ask: Callable[[], Trial | None]) -> None:
        while True:
            moved = self._collect()
            stop = self._stop_requested()
            if not stop:
                moved |= self._fill(ask)
            if stop and not self._active:
                raise RunStopped("STOP was found in the study's directory. The same command continues.")
            if moved:
                continue
            if not self._active:
                return
            time.sleep(self.settings.poll_seconds)

    # -- starting -----------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Workers that an earlier process started are adopted where they live, and started again where not."""
        for trial in self.study.history.running:
            if self.study.under_way(trial.number):
                job = self.make_job(trial, trial.attempts)
                if self.executor.adopt(job, self.study.worker_of(trial.number)):
                    log.info("Trial %d still runs or has answered: it is taken over.", trial.number)
                    self._active[trial.number] = job
                    self._ask_to_stop(trial.number, job)
                    continue
                log.info("Trial %d was interrupted: it continues from what it saved.", trial.number)
            self._waiting.append(trial)

    def _fill(self, ask: Callable[[], Trial | None]) -> bool:
        moved = False
        while len(self._active) < self.executor.slots:
            trial = self._waiting.popleft() if self._waiting else ask()
            if trial is None:
                break
            self._submit(trial)
            moved = True
            # A suggestion takes its time: look at the workers before the next.
            if self._collect():
                break
        return moved

    def _submit(self, trial: Trial) -> None:
        attempt = self.study.started(trial.number)
        job = self.make_job(self.study.history.trials[trial.number], attempt)
        self._clear_stop(job.directory)
        self._ask_to_stop(trial.number, job)
        # From here on it counts as active: should the journal refuse the next line, it can still be cancelled.
        self._active[trial.number] = job
        self.study.worker(trial.number, self.executor.submit(job))
        if attempt == 1:
            log.info("Trial %d starts%s: %s", trial.number, _to_budget(trial), _shown(trial))

    def _next_replicate(self) -> Trial | None:
        """The next repetition of one of the best trials, on a seed that it has not had."""
        history, settings = self.study.history, self.settings
        if not settings.replicate_top or not settings.replicate_seeds:
            return None
        done = {(t.replicate_of, t.seed) for t in history if t.replicate_of is not None}
        baseline = [t.number for t in history.proposals if t.source == WARM_START and t.results][:1]
        best = [trial.number for trial in top(history, settings.replicate_top + len(baseline))]
        chosen = list(dict.fromkeys([*baseline, *best]))[: settings.replicate_top + len(baseline)]
        for seed in settings.replicate_seeds:
            for number in chosen:
                if (number, seed) not in done:
                    return self.study.replicate(number, seed)
        return None

    # -- ending -------------------------------------------------------------------------------------------------------

    def _collect(self) -> bool:
        """Look at every worker once."""
        moved = False
        for number, job in list(self._active.items()):
            if self._watches:
                self._watch(number, job)
            outcome = self.executor.poll(job)
            if outcome is None:
                continue
            moved = True
            del self._active[number]
            self._answer(number, job, outcome)
        return moved

    def _watch(self, number: int, job: Job) -> None:
        """Pass intermediate values on, and ask the trial to end where the scheduler says so."""
        known = self.study.history.trials[number].reports
        for step, value in self.settings.progress.read(job.directory):
            if step in known or self.study.stopping(number):
                continue
            if not self.study.report(number, step, value):
                reason = f"{type(self.study.scheduler).__name__} ended it at step {step} with {value:.6g}"
                self.study.stop(number, reason)
                self._ask_to_stop(number, job)

    def _ask_to_stop(self, number: int, job: Job) -> None:
        """Leave the file that asks a trial to end, where that was decided; also after a crash in between."""
        if reason := self.study.stopping(number):
            write_text(job.directory / STOP_FILE, f"{reason}\n")

    def _answer(self, number: int, job: Job, outcome: Outcome) -> None:
        study = self.study
        trial = study.history.trials[number]
        record = self.settings.record(trial, job.directory) if self.settings.record else {}
        stopped = study.stopping(number)
        if outcome.status == "COMPLETED":
            try:
                ended = study.tell(number, outcome.returned, seconds=outcome.seconds, record=record)
            except ObjectiveError as error:  # recorded, so that the mended objective is not judged by this answer
                study.fail(number, str(error), record=record)
                raise
        elif stopped and trial.reports and len(study.history.objectives) == 1 and not study.history.constraints:
            step, value = max(trial.reports.items())
            ended = study.tell(
                number,
                value,
                state=TrialState.STOPPED,
                budget=float(step),
                seconds=outcome.seconds,
                reason=stopped,
                record=record,
            )
        elif outcome.status == "CRASHED" and self._vanished.get(number, 0) < self.settings.retries:
            self._vanished[number] = self._vanished.get(number, 0) + 1
            log.warning("Trial %d: %s; it is started again.", number, outcome.reason)
            self._waiting.append(trial)
            return
        else:
            ended = study.fail(number, outcome.reason or "no reason was given", record=record)
        self._say(ended)
        if self.settings.on_answer is not None:
            self.settings.on_answer(ended)
        self._count_failure(ended)

    def _count_failure(self, ended: Trial) -> None:
        self._failures_in_a_row = self._failures_in_a_row + 1 if ended.state is TrialState.FAILED else 0
        if self._failures_in_a_row >= self.settings.failures_in_a_row:
            raise TooManyFailures(
                f"{self._failures_in_a_row} trials in a row have failed, the last (trial {ended.number}) because "
                f"{ended.reason}. Mend the cause and run the same command again; it goes on with new trials."
            )

    def _say(self, trial: Trial) -> None:
        if trial.state is TrialState.FAILED:
            log.warning("Trial %d failed: %s", trial.number, trial.reason)
            return
        result = trial.results[-1]
        values = ", ".join(f"{o.name} {result.values[o.name]:.6g}" for o in self.study.history.objectives)
        best = self.study.history.best()
        incumbent = "" if best is None else f" (best: trial {best[0].number})"
        log.info("Trial %d %s%s: %s%s", trial.number, trial.state.lower(), _to_budget(trial), values, incumbent)

    # -- stopping -----------------------------------------------------------------------------------------------------

    def _stop_requested(self) -> bool:
        directory = self.study.directory
        return directory is not None and (directory / STOP_FILE).exists()

    @staticmethod
    def _clear_stop(directory: Path | None) -> None:
        """Forget an earlier request to stop: this was started on purpose."""
        if directory is not None:
            (directory / STOP_FILE).unlink(missing_ok=True)


def _shown(trial: Trial) -> str:
    values = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in trial.point.values())
    return ", ".join(f"{name}={value}" for name, value in zip(trial.point, values, strict=True))


def _to_budget(trial: Trial) -> str:
    return "" if trial.budget is None else f" (budget {trial.budget:g})"
