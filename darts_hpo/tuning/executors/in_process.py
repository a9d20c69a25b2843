"""Calls the objective here: for tests, tables and objectives of a few lines."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.answer import described, plain
from darts_hpo.tuning.executors.base import Executor, Job, Outcome

log = logging.getLogger(__name__)


class InProcess(Executor):
    """Calls ``job.function`` in this process, one job after the other, when first asked how it ended.

    What an exception or a wrong value means is the same as in other executors. What kills the process kills the
    study too (which the same command continues), and state leaks from job to job.

    Args:
        slots: how many jobs may wait to be called: more than one only to see a sampler handle running trials.
    """

    calls_functions = True

    def __init__(self, slots: int = 1) -> None:
        if slots < 1:
            raise ConfigError(f"slots={slots}: expected at least 1.")
        self.slots = slots
        self._outcomes: dict[tuple[int, int], Outcome] = {}

    def submit(self, job: Job) -> Mapping[str, Any]:
        """Accept a job.

        Raises:
            ConfigError: there is no function to call, or a time-out, which nothing could enforce here.
        """
        if job.function is None:
            raise ConfigError(
                f"Trial {job.trial} is a command; this executor calls functions. Use LocalProcesses for commands."
            )
        if job.timeout is not None:
            raise ConfigError(
                f"A time-out of {job.timeout:g} s cannot be enforced within one process. Leave timeout unset, or use "
                "LocalProcesses."
            )
        return {"pid": os.getpid(), "started": time.time()}

    def poll(self, job: Job) -> Outcome:
        """Call the function, unless that was done already."""
        key = (job.trial, job.attempt)
        if key not in self._outcomes:
            self._outcomes[key] = self._call(job)
        return self._outcomes[key]

    def cancel(self, job: Job) -> None:
        """Keep a job from being called."""
        self._outcomes.setdefault((job.trial, job.attempt), Outcome("CRASHED", reason="cancelled"))

    def adopt(self, job: Job, facts: Mapping[str, Any] | None) -> bool:
        """Nothing outlives the process."""
        return False

    @staticmethod
    def _call(job: Job) -> Outcome:
        assert job.function is not None  # submit() has refused it
        start = time.monotonic()
        try:
            with _environment(job.environment):
                returned = plain(job.function())
        except (Exception, SystemExit) as error:  # everything but the user's Ctrl-C
            log.warning("Trial %d raised an exception.", job.trial, exc_info=True)  # it has no log of its own
            return Outcome("FAILED", reason=described(error), seconds=time.monotonic() - start)
        return Outcome("COMPLETED", returned=returned, seconds=time.monotonic() - start)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
