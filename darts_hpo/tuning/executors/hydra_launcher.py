"""Any launcher of Hydra as an executor: batch after batch, each as slow as its slowest trial."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.executors.base import Executor, Job, Outcome

log = logging.getLogger(__name__)

Launch: TypeAlias = Callable[[Sequence[Sequence[str]], int], Sequence[Any]]
"""From one list of overrides per job, and the number of the first job, to Hydra's ``JobReturn`` of each."""


@dataclass(frozen=True)
class HydraJob(Job):
    """A job that Hydra's launchers can run too.

    Args:
        overrides: of the application, the directory included.
    """

    overrides: tuple[str, ...] = ()


class HydraLauncher(Executor):
    """Runs trials through ``hydra/launcher``. Hydra waits for a whole batch: a slot that is done first stands idle.

    A batch starts when every slot has a job, or when no further job has come since the last look. Trials can't be
    stopped early, and their time-out is the launcher's affair.

    Args:
        slots: jobs in a batch.

    Raises:
        ConfigError: fewer than one slot.
    """

    def __init__(self, slots: int = 1) -> None:
        if slots < 1:
            raise ConfigError(f"slots={slots}: expected at least 1.")
        self.slots = slots
        self.idle_seconds = 0.0
        """Seconds that slots stood idle, waiting for the slowest of their batch; all batches together."""
        self._launch: Launch | None = None
        self._queue: list[HydraJob] = []
        self._looked_at: set[tuple[int, int]] = set()
        self._outcomes: dict[tuple[int, int], Outcome] = {}

    def connect(self, launch: Launch) -> None:
        """Say how a batch is launched; before the first job."""
        self._launch = launch

    def submit(self, job: Job) -> Mapping[str, Any]:
        """Put a job into the batch.

        Raises:
            ConfigError: it carries no overrides, or the executor is not connected to a launcher.
        """
        if not isinstance(job, HydraJob) or self._launch is None:
            raise ConfigError("Only a Hydra sweep can run trials through Hydra's launcher.")
        self._queue.append(job)
        self._looked_at.clear()
        return {}

    def poll(self, job: Job) -> Outcome | None:
        """How a job ended; launches the batch when it is complete, and then waits for all of it."""
        key = (job.trial, job.attempt)
        if key not in self._outcomes and (len(self._queue) >= self.slots or key in self._looked_at):
            self._run_batch()
        self._looked_at.add(key)
        return self._outcomes.get(key)

    def cancel(self, job: Job) -> None:
        """Take a job out of the batch; one that was launched cannot be ended."""
        self._queue = [queued for queued in self._queue if queued.trial != job.trial]

    def adopt(self, job: Job, facts: Mapping[str, Any] | None) -> bool:
        """Whether the job left its answer before its sweeper was killed; its process can't be found again."""
        from darts_hpo.tuning.answer import read_answer

        del facts
        outcome = read_answer(job.directory, job.attempt)
        if outcome is not None:
            self._outcomes[job.trial, job.attempt] = outcome
        return outcome is not None

    def _run_batch(self) -> None:
        batch, self._queue = sorted(self._queue, key=lambda job: job.trial), []
        assert self._launch is not None
        began = time.monotonic()
        try:
            returned: Sequence[Any] = self._launch([job.overrides for job in batch], batch[0].trial)
            ended = "the launcher returned nothing for it"
        except Exception as error:
            from darts_hpo.tuning.answer import described

            returned, ended = (), f"the launcher failed: {described(error)}"
            log.debug("The launcher failed.", exc_info=True)
        wall = time.monotonic() - began
        for position, job in enumerate(batch):
            job_return = returned[position] if position < len(returned) else None
            self._outcomes[job.trial, job.attempt] = _outcome(job, job_return, ended)
        idle = wall * (self.slots - len(batch)) + sum(min(_waited(job), wall) for job in batch)
        self.idle_seconds += idle
        share = 100 * idle / max(wall * self.slots, 1e-9)
        log.info(
            "A batch of %d took %.1f s; slots stood idle for %.1f s of it (%.0f %%).", len(batch), wall, idle, share
        )
        if self.idle_seconds == idle:
            log.info("Other executors than Hydra's launchers start a trial as soon as one ends.")


def _waited(job: HydraJob) -> float:
    """Seconds since a job left its answer."""
    from darts_hpo.tuning.answer import ANSWER_FILE

    try:
        return max(time.time() - (job.directory / ANSWER_FILE).stat().st_mtime, 0.0)
    except OSError:
        return 0.0


def _outcome(job: HydraJob, job_return: Any, ended: str) -> Outcome:
    """What Hydra says of a job; where it says nothing, what the job itself wrote."""
    from hydra.core.utils import JobStatus

    from darts_hpo.tuning.answer import described, plain, read_answer

    written = read_answer(job.directory, job.attempt)
    if job_return is None or job_return.status is JobStatus.UNKNOWN:
        return written or Outcome("CRASHED", reason=ended)
    seconds = None if written is None else written.seconds
    value = job_return._return_value  # the property would raise what a failed job raised
    if job_return.status is JobStatus.COMPLETED:
        return Outcome("COMPLETED", returned=plain(value), seconds=seconds)
    return Outcome("FAILED", reason=described(value), seconds=seconds)
