"""What executors share whose workers run under a supervisor: everything that the trial's directory tells.

A subclass starts :func:`supervisor_command` somewhere and says, where it can, whether that is still under way.
The files that it leaves are described in :mod:`darts_hpo.tuning.executors.supervise`.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from darts_hpo.errors import ConfigError
from darts_hpo.runs.files import readable_errors
from darts_hpo.tuning.answer import ATTEMPT_VARIABLE, read_answer
from darts_hpo.tuning.executors import supervise
from darts_hpo.tuning.executors.base import Executor, Job, Outcome

_ESCAPE_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LOG_TAIL_BYTES = 8192
_LAST_WORDS_LENGTH = 300
_NO_LAST_WORDS = "Set the environment variable HYDRA_FULL_ERROR"
"""How Hydra's messages end; what went wrong stands before."""

AttemptKey: TypeAlias = tuple[Path, int]
"""Directory of a trial and number of an attempt."""


def attempt_key(job: Job) -> AttemptKey:
    """What an executor keeps a job's handle under."""
    return job.directory, job.attempt


class SupervisedExecutor(Executor):
    """Runs every job under a supervisor that outlives this process.

    Args:
        slots: how many jobs run at once.
        environment: variables for every worker; a job's own come on top.
        grace: seconds between asking a worker to end (SIGTERM) and ending it (SIGKILL).
        linger: seconds a worker may take to end after its answer; then it is ended, and the answer counts.
        nice: added to the niceness of workers.

    Raises:
        ConfigError: a number is out of its range.
    """

    settle_seconds = 0.0
    """How long files may take to become visible here after a worker ended. More than 0 on network file systems."""

    margin_seconds = 15.0
    """How much later than its supervisor a worker is ended from here: only where the supervisor is dead."""

    def __init__(
        self,
        slots: int,
        *,
        environment: Mapping[str, str] | None = None,
        grace: float = 10.0,
        linger: float = 60.0,
        nice: int = 0,
    ) -> None:
        if slots < 1:
            raise ConfigError(f"slots={slots}: expected at least 1.")
        for name, seconds in (("grace", grace), ("linger", linger)):
            if seconds < 0:
                raise ConfigError(f"{name}={seconds}: expected a number of seconds, at least 0.")
        self.slots = slots
        self.environment = {str(name): str(value) for name, value in (environment or {}).items()}
        self.grace, self.linger, self.nice = grace, linger, nice
        self._missing_since: dict[Path, float] = {}

    # For subclasses

    @abstractmethod
    def _start(self, job: Job) -> Mapping[str, Any]:
        """Start :meth:`supervisor_command` with :meth:`worker_environment` and return at once.

        Returns:
            What finds it again: JSON, kept in the claim and handed to :meth:`_take_over` after a crash.
        """

    def _take_over(self, job: Job, claim: Mapping[str, Any]) -> None:
        """A job of an earlier process is ours now."""

    def _under_way(self, job: Job) -> bool:
        """Whether the executor's own means say that the supervisor waits, starts or runs."""
        return False

    def _told(self, job: Job) -> str | None:
        """What the executor's own means say of a job that ended without a word."""
        return None

    def _release(self, job: Job) -> None:
        """The job has ended: drop what is kept of it."""
        self._missing_since.pop(job.directory, None)

    def supervisor_command(self, job: Job) -> list[str]:
        """What to run on the worker's machine. It needs this package's files there, and no third party's."""
        options = [f"--grace={self.grace}", f"--linger={self.linger}", f"--nice={self.nice}"]
        if job.timeout is not None:
            options.append(f"--timeout={job.timeout}")
        program = [sys.executable, "-I", "-S", str(Path(supervise.__file__).absolute())]
        return [*program, *options, str(job.directory.absolute()), str(job.attempt), "--", *job.command]

    def worker_environment(self, job: Job) -> dict[str, str]:
        """Variables that a worker gets beside those of its machine."""
        return {**self.environment, **job.environment, ATTEMPT_VARIABLE: str(job.attempt)}

    # The contract

    def submit(self, job: Job) -> Mapping[str, Any]:
        """Start a job and return at once.

        An earlier attempt that still lives is ended first; the new one waits for that by itself.

        Raises:
            ConfigError: there is no command to run.
            RunDirectoryError: the trial's directory cannot be written.
        """
        if not job.command:
            raise ConfigError(
                f"Trial {job.trial} has no command to run in another process. Give the executor commands, or use "
                "InProcess for functions."
            )
        with readable_errors(job.directory):
            job.directory.mkdir(parents=True, exist_ok=True)
            for name in (supervise.ANSWER_FILE, supervise.EXIT_FILE, supervise.WORKER_FILE):
                if _record(job, name):  # of a study whose journal was removed, and its trials not
                    (job.directory / name).unlink()
            claim = {"attempt": job.attempt, "cancelled": False}
            supervise.write_record(job.directory / supervise.CLAIM_FILE, claim)
            if supervise.lock_holder(job.directory) is not None:
                _end_worker(job.directory)
            facts = self._start(job)
            supervise.write_record(job.directory / supervise.CLAIM_FILE, {**claim, **facts})
        return facts

    def poll(self, job: Job) -> Outcome | None:
        """How a job ended; None while it runs, and while a worker that has answered still ends."""
        outcome = self._look(job)
        if outcome is not None:
            self._release(job)
        return outcome

    def cancel(self, job: Job) -> None:
        """Kill a job and everything it started; harmless where it has ended.

        Returns at once: the supervisor kills what does not end within ``grace`` seconds, even if this process is
        gone by then. A job that waits in a queue ends when its turn comes.
        """
        claim = _record(job, supervise.CLAIM_FILE)
        if claim:
            with readable_errors(job.directory):
                supervise.write_record(job.directory / supervise.CLAIM_FILE, {**claim, "cancelled": True})
            if supervise.lock_holder(job.directory) == job.attempt:
                _end_worker(job.directory)

    def adopt(self, job: Job, facts: Mapping[str, Any] | None) -> bool:
        """Take over a job that an earlier process submitted.

        Args:
            job: as it was submitted.
            facts: not needed; the trial's directory tells.

        Returns:
            Whether it runs or has ended in a way that counts. Where False, it cannot start any more either.
        """
        claim = _record(job, supervise.CLAIM_FILE)
        if not claim:
            return False
        self._take_over(job, claim)
        lives = self._lives(job)
        answer = read_answer(job.directory, job.attempt)
        answered = answer is not None and answer.status == "COMPLETED"
        ended = lives or answer is not None or bool(_record(job, supervise.EXIT_FILE))
        if answered or (ended and not claim.get("cancelled", False)):
            return True
        # It may be that its supervisor was started and has not come as far as its lock: it must not go on.
        self.cancel(job)
        self._release(job)
        return False

    # Inside

    def _lives(self, job: Job) -> bool:
        return supervise.lock_holder(job.directory) == job.attempt or self._under_way(job)

    def _look(self, job: Job) -> Outcome | None:
        # Liveness first: what is dead now has written all it ever will.
        lives = self._lives(job)
        answer = read_answer(job.directory, job.attempt)
        ended = _record(job, supervise.EXIT_FILE)
        if ended:
            return _outcome(job, answer, ended)
        if lives:
            self._missing_since.pop(job.directory, None)
            return self._without_supervisor(job, answer)
        if answer is not None:
            return answer
        since = self._missing_since.setdefault(job.directory, time.monotonic())
        if time.monotonic() - since < self.settle_seconds:
            return None
        if _record(job, supervise.CLAIM_FILE).get("cancelled", False):
            return Outcome("CRASHED", reason="cancelled")
        told = self._told(job)
        reason = f"vanished without an answer{f' ({told})' if told else ''}{_last_words(job)}"
        return Outcome("CRASHED", reason=reason)

    def _without_supervisor(self, job: Job, answer: Outcome | None) -> Outcome | None:
        """Do for a living worker what its supervisor should have done long ago, and does not because it is dead."""
        worker = _record(job, supervise.WORKER_FILE)
        if not worker:
            return None
        if _is_left_over(worker):
            _end_worker(job.directory)
        late = self.grace + self.margin_seconds
        if job.timeout is not None and time.time() - worker["started"] > job.timeout + late:
            self.cancel(job)
            return _timed_out(job)
        if answer is not None and answer.status != "CRASHED":
            answered = (job.directory / supervise.ANSWER_FILE).stat().st_mtime
            if time.time() - answered > self.linger + late:
                self.cancel(job)
                return answer
        return None


def _record(job: Job, name: str) -> dict[str, Any]:
    """A record of this attempt; empty where there is none, or it is another attempt's."""
    record = supervise.read_record(job.directory / name)
    return record if record.get("attempt") == job.attempt else {}


def _end_worker(directory: Path) -> None:
    """Hurry the supervisor, or kill the worker where the supervisor is dead. On another host the claim has to do."""
    worker = supervise.read_record(directory / supervise.WORKER_FILE)
    if worker.get("host") != socket.gethostname():
        return
    if is_process(worker["pid"], worker["pid_start"]):
        os.kill(worker["pid"], signal.SIGTERM)
    elif supervise.process_start(worker["child_pid"]) in (None, worker["child_start"]):
        # While any of its processes is left, the group's number is given to nobody else.
        supervise.signal_group(worker["child_pid"], signal.SIGKILL)


def _is_left_over(worker: Mapping[str, Any]) -> bool:
    """Whether supervisor and worker were killed, and what still lives was started by the worker."""
    return (
        worker["host"] == socket.gethostname()
        and worker["child_start"] is not None
        and not is_process(worker["pid"], worker["pid_start"])
        and not is_process(worker["child_pid"], worker["child_start"])
    )


def is_process(pid: int, start: str | None) -> bool:
    """Whether a process of this machine lives and is the one meant, not a later one of the same number."""
    return start is not None and supervise.process_start(pid) == start


def _timed_out(job: Job) -> Outcome:
    return Outcome("FAILED", reason=f"time-out after {job.timeout:g} s", seconds=job.timeout)


def _outcome(job: Job, answer: Outcome | None, ended: Mapping[str, Any]) -> Outcome:
    """What an answer, or none, and the supervisor's last word mean together."""
    ending, seconds = ended["ending"], ended.get("seconds")
    if answer is not None and answer.seconds is None:
        answer = replace(answer, seconds=seconds)
    if answer is not None and answer.status == "COMPLETED":
        return answer
    # What a worker answers to the signal that ends it is not why it failed.
    if ending == supervise.TIMED_OUT:
        return _timed_out(job)
    if ending == supervise.CANCELLED:
        return Outcome("CRASHED", reason="cancelled", seconds=seconds)
    if ending == supervise.TERMINATED:
        return Outcome("CRASHED", reason=f"told to end by the system (SIGTERM){_last_words(job)}", seconds=seconds)
    if ending == supervise.BLOCKED:
        return Outcome("CRASHED", reason="an earlier attempt of this trial still runs and could not be ended")
    if ending == supervise.NOT_STARTED:
        return Outcome("FAILED", reason=ended["error"])
    if answer is not None:
        return answer
    number = ended["signal"]
    if number is None:
        reason = f"ended with exit status {ended['returncode']} and without an answer"
    else:
        reason = f"killed by signal {number} ({_signal_name(number)})"
        if ended.get("out_of_memory"):
            reason += ", probably out of memory"
    return Outcome("CRASHED", reason=f"{reason}{_last_words(job)}", seconds=seconds)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _last_words(job: Job) -> str:
    """The last line that says something in this attempt's part of the log, as the end of a sentence."""
    worker = supervise.read_record(job.directory / supervise.WORKER_FILE)
    if worker.get("attempt") != job.attempt:
        return ""
    for line in _last_lines(job.directory / supervise.LOG_FILE, worker["log_from"]):
        shown = line if len(line) <= _LAST_WORDS_LENGTH else f"{line[:_LAST_WORDS_LENGTH]}..."
        return f"; its last words: {shown}"
    return ""


def _last_lines(path: Path, start: int) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - _LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return
    for line in reversed(_ESCAPE_SEQUENCES.sub("", text).splitlines()):  # a carriage return ends a line too
        if line.strip() and _NO_LAST_WORDS not in line:
            yield line.strip()


def run_supervisor(command: Sequence[str], environment: Mapping[str, str], directory: str) -> None:
    """Run a supervisor to its end, on whatever machine this is called.

    Args:
        command: :meth:`SupervisedExecutor.supervisor_command`.
        environment: variables to set beside those of this machine.
        directory: working directory of the worker.
    """
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait()
    except BaseException:  # told to end: so is the worker
        process.terminate()
        process.wait()
        raise
