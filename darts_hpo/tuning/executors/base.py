"""What every executor does: start a trial, look whether it ended, end it, find it again after a crash."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darts_hpo.errors import ConfigError


@dataclass(frozen=True)
class Job:
    """One attempt to run one trial to one budget.

    Args:
        trial: its number.
        attempt: from 1; every submission of a trial has a new one. An answer of another attempt is none.
        directory: of the trial; shared with the worker. It and the files of earlier budgets may exist.
        command: program and arguments of the worker. It leaves ``result.json``.
        environment: variables to set for it beside those of this process.
        timeout: seconds after which it is killed and counts as failed; None waits for ever.
        function: called instead of the command by executors that stay in this process.

    Raises:
        ConfigError: the time-out is not above 0.
    """

    trial: int
    attempt: int
    directory: Path
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    function: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigError(f"timeout={self.timeout}: expected a number of seconds above 0.")


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Args:
        status: ``COMPLETED`` with what was returned, ``FAILED`` by an exception or time-out of its own, ``CRASHED``
            without a word (killed, out of memory, machine gone): only that is worth another attempt.
        returned: number, list of numbers or mapping, as the objective returned it.
        reason: of what is not COMPLETED, one line.
        seconds: of work, where known.
    """

    status: str
    returned: Any = None
    reason: str | None = None
    seconds: float | None = None


class Executor(ABC):
    """Runs jobs, at most :attr:`slots` at once. Leaving the context lets running workers live."""

    slots: int

    calls_functions: bool = False
    """Whether it calls ``job.function`` in this process; others run ``job.command``."""

    @abstractmethod
    def submit(self, job: Job) -> Mapping[str, Any]:
        """Start a job and return at once.

        Returns:
            Facts for the journal: process id and start time, or the cluster's job id. JSON, and what
            :meth:`adopt` is given after a crash.
        """

    @abstractmethod
    def poll(self, job: Job) -> Outcome | None:
        """How a job ended; None while it runs."""

    @abstractmethod
    def cancel(self, job: Job) -> None:
        """Kill a job and everything it started; harmless where it has ended."""

    @abstractmethod
    def adopt(self, job: Job, facts: Mapping[str, Any] | None) -> bool:
        """Take over a job that an earlier process submitted.

        Args:
            job: as it was submitted.
            facts: what :meth:`submit` returned; None where the crash came before they were written.

        Returns:
            Whether it still runs or has left an answer, so that :meth:`poll` will tell. False: it is gone.
        """

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exception: object) -> None:  # noqa: B027 - most hold nothing
        """Release what this process holds; workers live on."""
