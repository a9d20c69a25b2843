"""What every executor must fulfil: the suites that an executor inherits."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from darts_hpo.tuning.executors.base import Executor, Job, Outcome
from darts_hpo.tuning.executors.supervise import process_start

PATIENCE_SECONDS = 60.0
"""How long a test waits for what must happen; only a failing one takes that long."""

_WORKER = """
import json, os, sys
directory, code = sys.argv[1:]
answer = {"attempt": int(os.environ["DARTS_HPO_ATTEMPT"]), "status": "COMPLETED"}
def leave():
    path = os.path.join(directory, "result.json")
    with open(path + ".partial", "w") as file:
        json.dump(answer, file)
    os.replace(path + ".partial", path)
scope = {"directory": directory, "answer": answer, "leave": leave}
try:
    exec(code, scope)
    answer["value"] = scope["objective"]()
except Exception as error:
    answer.update(status="FAILED", reason=f"{type(error).__name__}: {error}")
leave()
"""

_WAITS = """
import os, time
def objective():
    with open(os.path.join(directory, "begun"), "a") as file:
        file.write("x")
    while not os.path.exists(os.path.join(directory, "go")):
        time.sleep(0.01)
    return 7
"""
"""An objective that says that it began, and ends when it is told to."""

_WITH_GRANDCHILD = """
import os, subprocess, sys, time
def objective():
    sleeper = subprocess.Popen([sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)"])
    path = os.path.join(directory, "pids")
    with open(path + ".partial", "w") as file:
        file.write(f"{os.getpid()} {sleeper.pid}")
    os.replace(path + ".partial", path)
    time.sleep(600)
"""

_STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"

_ALONE = """
import fcntl, os, time
def objective():
    file = open(os.path.join(directory, "alone"), "a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        open(os.path.join(directory, "together"), "w").close()
    open(os.path.join(directory, f"begun-{answer['attempt']}"), "w").close()
    while answer["attempt"] == 1:
        time.sleep(0.01)
    return answer["attempt"]
"""
"""An objective whose first attempt never ends; two at once leave a file."""


def make_job(
    directory: Path,
    code: str,
    *,
    trial: int = 0,
    attempt: int = 1,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Job:
    """A job as a function and as a command, which executors may choose from.

    Args:
        directory: of the trial.
        code: defines ``objective()``; finds ``directory`` and, in a process of its own, ``answer`` (with its
            attempt) and ``leave()``, which writes the answer.
        trial: its number.
        attempt: from 1.
        environment: for the worker.
        timeout: seconds.
    """

    def function() -> Any:
        scope: dict[str, Any] = {"directory": str(directory)}
        exec(code, scope)
        return scope["objective"]()

    command = (sys.executable, "-S", "-E", "-c", _WORKER, str(directory), code)
    return Job(trial, attempt, directory, command, environment or {}, timeout, function)


def returning(expression: str) -> str:
    """Code of an objective that returns the value of an expression."""
    return f"def objective():\n    return {expression}\n"


def finish(executor: Executor, job: Job) -> Outcome:
    """Poll until a job has ended."""
    outcome: list[Outcome] = []

    def ended() -> bool:
        found = executor.poll(job)
        if found is not None:
            outcome.append(found)
        return found is not None

    wait_until(ended, f"trial {job.trial} ends")
    return outcome[0]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that must happen."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS:g} s and still not: {what}"
        time.sleep(0.01)


class ExecutorConformance:
    """The suite of an executor. Inherit it and make the executor.

    Example::

        class TestInProcess(ExecutorConformance):
            def make(self) -> InProcess:
                return InProcess(slots=2)
    """

    def make(self) -> Executor:
        """An executor of two slots; called again for one that stands for a later process."""
        raise NotImplementedError

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        """One that is left at the end."""
        with self.make() as executor:
            yield executor

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        """A trial's directory, not made yet, whose name is not kind to careless quoting."""
        return tmp_path / "größe 'x' $1" / "0"

    @pytest.mark.parametrize(
        ("expression", "returned"),
        [("0.5", 0.5), ("[1, 2.5]", [1, 2.5]), ("{'loss': 0.5, 'val.map50': 3}", {"loss": 0.5, "val.map50": 3})],
    )
    def test_what_the_objective_returns_arrives(
        self, executor: Executor, directory: Path, expression: str, returned: object
    ) -> None:
        """Numbers, lists and mappings; and asking again says the same."""
        job = make_job(directory, returning(expression))
        executor.submit(job)
        outcome = finish(executor, job)
        assert (outcome.status, outcome.returned, outcome.reason) == ("COMPLETED", returned, None)
        again = executor.poll(job)
        assert again is not None
        assert again.returned == returned
        executor.cancel(job)  # harmless
        assert finish(executor, job).status == "COMPLETED"

    def test_an_exception_is_a_failure_with_its_words(self, executor: Executor, directory: Path) -> None:
        """It is not worth another attempt, so it is not CRASHED."""
        job = make_job(directory, "def objective():\n    raise ValueError('lr is negative')\n")
        executor.submit(job)
        outcome = finish(executor, job)
        assert (outcome.status, outcome.reason) == ("FAILED", "ValueError: lr is negative")

    def test_submit_returns_at_once_with_facts_for_the_journal(self, executor: Executor, directory: Path) -> None:
        """The objective ends only when it is told to, after submit() has returned."""
        job = make_job(directory, _WAITS)
        directory.mkdir(parents=True)  # InProcess makes none
        facts = executor.submit(job)
        assert json.loads(json.dumps(dict(facts))) == dict(facts)
        (directory / "go").touch()
        assert finish(executor, job).returned == 7

    def test_the_environment_is_passed(self, executor: Executor, directory: Path) -> None:
        """A job's own variables reach the objective and nobody else."""
        code = "import os\n" + returning("os.environ['OF_THE_JOB']")
        job = make_job(directory, code, environment={"OF_THE_JOB": "ä b"})
        executor.submit(job)
        assert finish(executor, job).returned == "ä b"
        assert "OF_THE_JOB" not in os.environ

    def test_jobs_are_independent(self, executor: Executor, tmp_path: Path) -> None:
        """One fails, one returns; the second ends first."""
        first = make_job(tmp_path / "0", "def objective():\n    raise KeyError('no')\n")
        second = make_job(tmp_path / "1", returning("2"), trial=1)
        executor.submit(first)
        executor.submit(second)
        assert finish(executor, second).returned == 2
        assert finish(executor, first).status == "FAILED"

    def test_a_job_that_nobody_started_is_not_adopted(self, executor: Executor, directory: Path) -> None:
        """With facts or without."""
        job = make_job(directory, returning("1"))
        assert not executor.adopt(job, None)
        assert not executor.adopt(job, {"pid": os.getpid(), "pid_start": "1", "job_id": "1"})


class WorkerExecutorConformance(ExecutorConformance):
    """The suite of an executor whose workers are processes. They should get two seconds of grace, or less."""

    def test_a_killed_worker_has_crashed(self, executor: Executor, directory: Path) -> None:
        """The reason names the signal and what the worker said last."""
        code = "import os\ndef objective():\n    print('batch 17', flush=True)\n    os.kill(os.getpid(), 9)\n"
        job = make_job(directory, code)
        executor.submit(job)
        outcome = finish(executor, job)
        assert outcome.status == "CRASHED"
        assert outcome.reason == "killed by signal 9 (SIGKILL); its last words: batch 17"

    def test_a_worker_without_an_answer_has_crashed(self, executor: Executor, directory: Path) -> None:
        """Even if it says that all is well."""
        job = make_job(directory, "import os\ndef objective():\n    os._exit(0)\n")
        executor.submit(job)
        outcome = finish(executor, job)
        assert outcome.status == "CRASHED"
        assert outcome.reason == "ended with exit status 0 and without an answer"

    def test_an_answer_of_another_attempt_is_none(self, executor: Executor, directory: Path) -> None:
        """Neither an answer nor an end that lies there from before."""
        for name, facts in (
            ("result.json", {"status": "COMPLETED", "value": 1.0}),
            ("exit.json", {"ending": "timed_out", "returncode": None, "signal": 15}),
        ):
            directory.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(json.dumps({"attempt": 1, **facts}))
        for attempt in (2, 1):  # the first again: its study was begun anew where an old one had been
            job = make_job(directory, "import os\ndef objective():\n    os._exit(3)\n", attempt=attempt)
            executor.submit(job)
            outcome = finish(executor, job)
            assert (outcome.status, outcome.returned) == ("CRASHED", None)
            assert "exit status 3" in str(outcome.reason)

    def test_a_time_out_is_a_failure_and_ends_everything(self, executor: Executor, directory: Path) -> None:
        """Grandchildren too."""
        job = make_job(directory, _WITH_GRANDCHILD, timeout=1.0)
        executor.submit(job)
        outcome = finish(executor, job)
        assert (outcome.status, outcome.reason) == ("FAILED", "time-out after 1 s")
        assert _all_gone(directory)

    @pytest.mark.parametrize("prelude", ["", _STUBBORN], ids=["obedient", "stubborn"])
    def test_cancel_ends_everything(self, executor: Executor, directory: Path, prelude: str) -> None:
        """Grandchildren too, and a worker that ignores SIGTERM."""
        job = make_job(directory, prelude + _WITH_GRANDCHILD)
        executor.submit(job)
        wait_until((directory / "pids").exists, "the worker has begun")
        executor.cancel(job)
        executor.cancel(job)  # harmless
        outcome = finish(executor, job)
        assert (outcome.status, outcome.reason) == ("CRASHED", "cancelled")
        assert _all_gone(directory)
        assert not self.make().adopt(job, None), "a cancelled attempt must be started again"

    def test_a_later_process_takes_a_running_job_over(self, executor: Executor, directory: Path) -> None:
        """With the facts from the journal or, after an unlucky crash, without. It ran once."""
        job = make_job(directory, _WAITS)
        facts = executor.submit(job)
        wait_until((directory / "begun").exists, "the worker has begun")
        for known in (facts, None):
            later = self.make()
            assert later.adopt(job, known)
            assert later.poll(job) is None
        (directory / "go").touch()
        assert finish(later, job).returned == 7
        assert (directory / "begun").read_text() == "x"
        assert self.make().adopt(job, facts), "what has answered is taken over too"

    def test_a_killed_supervisor_costs_nothing(self, executor: Executor, directory: Path) -> None:
        """The worker lives on, is known to, and its answer counts."""
        job = make_job(directory, _WAITS)
        executor.submit(job)
        wait_until((directory / "begun").exists, "the worker has begun")
        _kill(directory, "pid")
        later = self.make()
        assert later.adopt(job, None)
        assert later.poll(job) is None
        (directory / "go").touch()
        assert finish(later, job).returned == 7

    def test_a_worker_without_supervisor_is_cancelled_too(self, executor: Executor, directory: Path) -> None:
        """Somebody has to do it."""
        job = make_job(directory, _WITH_GRANDCHILD)
        executor.submit(job)
        wait_until((directory / "pids").exists, "the worker has begun")
        _kill(directory, "pid")
        executor.cancel(job)
        assert finish(executor, job).reason == "cancelled"
        assert _all_gone(directory)

    def test_what_was_killed_altogether_is_gone(self, executor: Executor, directory: Path) -> None:
        """Supervisor and worker killed: whoever asks hears it, and a later process starts it again."""
        job = make_job(directory, _WAITS)
        executor.submit(job)
        wait_until((directory / "begun").exists, "the worker has begun")
        _kill(directory, "pid")
        _kill(directory, "child_pid")
        assert not self.make().adopt(job, None)
        outcome = finish(executor, job)
        assert outcome.status == "CRASHED"

    def test_a_trial_never_runs_twice(self, executor: Executor, directory: Path) -> None:
        """A new attempt ends the one before, and waits for its end."""
        jobs = [make_job(directory, _STUBBORN + _ALONE, attempt=attempt) for attempt in (1, 2)]
        executor.submit(jobs[0])
        wait_until((directory / "begun-1").exists, "the first attempt has begun")
        executor.submit(jobs[1])
        assert finish(executor, jobs[1]).returned == 2
        assert not (directory / "together").exists()
        assert not self.make().adopt(jobs[0], None)

    def test_a_worker_that_hangs_after_its_answer_is_ended(self, executor: Executor, directory: Path) -> None:
        """Its answer counts; ``linger`` is how long it may take, and the executors of the suite give it a second."""
        code = f"{_WITH_GRANDCHILD}\nanswer['value'] = 5\nleave()\n"
        job = make_job(directory, code)
        executor.submit(job)
        outcome = finish(executor, job)
        assert (outcome.status, outcome.returned) == ("COMPLETED", 5)
        assert _all_gone(directory)


def _kill(directory: Path, which: str) -> None:
    pid = json.loads((directory / "worker.json").read_text())[which]
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: process_start(pid) is None, f"process {pid} is gone")


def _all_gone(directory: Path) -> bool:
    pids = [int(pid) for pid in (directory / "pids").read_text().split()]
    wait_until(lambda: all(process_start(pid) is None for pid in pids), "every process is gone")
    return True
