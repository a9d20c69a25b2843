"""Executors of this machine, and the supervisor that every worker has."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from darts_hpo.errors import ConfigError, RunDirectoryError
from darts_hpo.testing.executors import (
    ExecutorConformance,
    WorkerExecutorConformance,
    finish,
    make_job,
    returning,
    wait_until,
)
from darts_hpo.tuning.executors import supervise
from darts_hpo.tuning.executors.base import Job
from darts_hpo.tuning.executors.in_process import InProcess
from darts_hpo.tuning.executors.local import LocalProcesses, visible_devices

REPOSITORY = Path(__file__).parents[3]

WAITS = """
import os, time
def objective():
    open(os.path.join(directory, "begun"), "w").close()
    while not os.path.exists(os.path.join(directory, "go")):
        time.sleep(0.01)
    return os.environ.get("CUDA_VISIBLE_DEVICES")
"""


class TestInProcess(ExecutorConformance):
    def make(self):
        return InProcess(slots=2)

    def test_what_it_cannot_do_is_refused(self, directory):
        with pytest.raises(ConfigError, match="cannot be enforced within one process"):
            self.make().submit(make_job(directory, returning("1"), timeout=5.0))
        with pytest.raises(ConfigError, match="Use LocalProcesses for commands"):
            self.make().submit(Job(0, 1, directory, ("true",)))
        with pytest.raises(ConfigError, match="at least 1"):
            InProcess(slots=0)

    def test_a_cancelled_job_is_never_called(self, directory):
        executor, called = self.make(), []
        job = Job(0, 1, directory, function=lambda: called.append(1))
        executor.submit(job)
        executor.cancel(job)
        assert executor.poll(job).reason == "cancelled"
        assert not called

    def test_the_user_may_leave_and_the_objective_may_not(self, directory):
        leaving = Job(0, 1, directory, function=lambda: sys.exit(3))
        assert self.make().poll(leaving).reason == "SystemExit: 3"

        def interrupted():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.make().poll(Job(0, 1, directory, environment={"OF_THE_JOB": "1"}, function=interrupted))
        assert "OF_THE_JOB" not in os.environ


class TestLocalProcesses(WorkerExecutorConformance):
    def make(self):
        return LocalProcesses(slots=2, grace=0.2, linger=1.0)


def test_forty_trials_do_not_exhaust_a_small_machine(caplog):
    """The slides' 40 at once, typed on a laptop."""
    assert LocalProcesses(40, devices=["0", "1"]).slots == 2
    assert "room for 2" in caplog.text
    assert LocalProcesses(8, devices=["0", "1"]).slots == 8


# -- surviving ---------------------------------------------------------------------------------------------------------


def submitting_process(directory: Path, after: str) -> subprocess.Popen[bytes]:
    """Another process that submits a job which waits, and then does something else."""
    command = make_job(directory, WAITS).command
    program = f"""
import os, signal, sys, time
from pathlib import Path
from darts_hpo.tuning.executors.base import Job
from darts_hpo.tuning.executors.local import LocalProcesses
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
executor = LocalProcesses(2, devices=["A", "B"])
executor.submit(Job(0, 1, Path({str(directory)!r}), {command!r}))
{after}
"""
    return subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, start_new_session=True)


@pytest.mark.parametrize("how", ["killed at once", "killed later", "interrupted"])
def test_workers_outlive_the_process_that_submitted_them(tmp_path, how):
    directory = tmp_path / "0"
    after = "os.kill(os.getpid(), 9)" if how == "killed at once" else "time.sleep(600)"
    with submitting_process(directory, after) as sweeper:
        wait_until((directory / "begun").exists, "the worker has begun")
        if how == "interrupted":
            os.killpg(sweeper.pid, signal.SIGINT)  # Ctrl-C, to everything that belongs to the terminal
        elif how == "killed later":
            os.killpg(sweeper.pid, signal.SIGKILL)
        sweeper.wait()
    job = make_job(directory, WAITS)
    later = LocalProcesses(2, devices=["A", "B"])
    assert later.adopt(job, None)
    assert later.poll(job) is None
    (directory / "go").touch()
    assert finish(later, job).returned == "A"


def test_a_supervisor_that_comes_too_late_starts_nothing(tmp_path):
    """Its attempt was given up after a crash, or another one was submitted meanwhile."""
    for number, claim in enumerate(({"attempt": 1, "cancelled": True}, {"attempt": 2, "cancelled": False})):
        directory = tmp_path / str(number)
        directory.mkdir()
        supervise.write_record(directory / supervise.CLAIM_FILE, claim)
        marker = directory / "began"
        subprocess.run([sys.executable, supervise.__file__, directory, "1", "--", "touch", marker], check=True)
        assert not marker.exists()
        assert supervise.read_record(directory / supervise.EXIT_FILE)["ending"] == "cancelled"


def test_what_is_not_adopted_cannot_start_any_more(tmp_path):
    """The crash came between the claim and the supervisor's first breath."""
    job = make_job(tmp_path, returning("1"))
    supervise.write_record(tmp_path / supervise.CLAIM_FILE, {"attempt": 1, "cancelled": False})
    assert not LocalProcesses().adopt(job, None)
    assert supervise.may_not_run(tmp_path, 1)


def test_the_system_may_end_a_worker_and_it_is_worth_another_attempt(tmp_path):
    """A cluster sends SIGTERM; what the worker answers to that is not why it failed."""
    code = f"""{WAITS}
import signal
def told(*_):
    raise RuntimeError("SIGTERM")
signal.signal(signal.SIGTERM, told)
"""
    executor, job = LocalProcesses(), make_job(tmp_path, code)
    facts = executor.submit(job)
    wait_until((tmp_path / "begun").exists, "the worker has begun")
    os.kill(facts["pid"], signal.SIGTERM)
    outcome = finish(executor, job)
    assert outcome.status == "CRASHED"
    assert outcome.reason.startswith("told to end by the system")
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "FAILED"


# -- slots -------------------------------------------------------------------------------------------------------------


def test_each_slot_has_its_device_and_an_adopted_job_keeps_it(tmp_path):
    executor = LocalProcesses(slots=3, devices=["A", 1])
    jobs = [make_job(tmp_path / str(number), WAITS, trial=number) for number in range(5)]
    for job in jobs[:3]:
        executor.submit(job)
    with pytest.raises(RuntimeError, match="All 3 slots are taken"):
        executor.submit(jobs[3])
    later = LocalProcesses(slots=3, devices=["A", 1])
    for job in jobs[1:3]:
        assert later.adopt(job, None)
    (tmp_path / "0/go").touch()
    assert finish(executor, jobs[0]).returned == "A"
    later.submit(jobs[3])
    for job in jobs[1:4]:
        (job.directory / "go").touch()
    assert [finish(later, job).returned for job in jobs[1:4]] == ["1", "A", "A"]
    assert later.submit(jobs[4])["slot"] == 0
    later.cancel(jobs[4])
    finish(later, jobs[4])


def test_a_cancelled_worker_is_waited_for_before_its_slot_is_used(tmp_path):
    executor = LocalProcesses(slots=1, grace=0.3)
    stubborn = make_job(tmp_path / "0", f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{WAITS}")
    executor.submit(stubborn)
    wait_until((tmp_path / "0/begun").exists, "the worker has begun")
    executor.cancel(stubborn)
    following = make_job(tmp_path / "1", returning("1"), trial=1)
    executor.submit(following)
    assert supervise.lock_holder(tmp_path / "0") is None
    assert finish(executor, following).returned == 1


def test_supervisors_are_no_zombies(tmp_path):
    executor = LocalProcesses()
    for number in range(3):
        job = make_job(tmp_path / str(number), returning("1"))
        pid = executor.submit(job)["pid"]
        finish(executor, job)
        wait_until(lambda pid=pid: supervise.process_start(pid) is None, "the supervisor has ended")
    assert not any(
        Path(f"/proc/{json.loads((tmp_path / n / 'worker.json').read_text())['pid']}").exists() for n in "01"
    )


def test_threads_environment_and_niceness(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("INHERITED", "yes")
    code = "import os\n" + returning(
        "[os.environ.get(name) for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'INHERITED', 'GIVEN')] + [os.nice(0)]"
    )

    def answer(number, executor, **environment):
        job = make_job(tmp_path / str(number), code, environment=environment)
        executor.submit(job)
        return finish(executor, job).returned

    niceness = os.nice(0)
    assert answer(0, LocalProcesses(threads=2)) == ["2", "2", "yes", None, niceness]
    assert answer(1, LocalProcesses(threads=None))[0] == "7"
    executor = LocalProcesses(environment={"GIVEN": 1, "OMP_NUM_THREADS": 3}, nice=1)
    assert answer(2, executor) == ["3", "1", "yes", "1", niceness + 1]
    assert answer(3, executor, GIVEN="job")[3] == "job"


def test_how_many_slots_there_are_when_nobody_says(monkeypatch, tmp_path):
    assert LocalProcesses(slots=None, devices=["0", "1", "2"]).slots == 3
    assert LocalProcesses(slots=None, threads=10**6).slots == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-5")
    assert visible_devices() == ("2", "GPU-5")
    assert LocalProcesses(slots=None, devices="auto").slots == 2
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: H100 (UUID: GPU-1)'\necho 'GPU 1: H100 (UUID: GPU-2)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_devices() == ("0", "1")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert visible_devices() == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slots": 0}, "slots=0"),
        ({"threads": 0}, "threads=0"),
        ({"devices": "0"}, "expected 'auto', a list"),
        ({"grace": -1.0}, "grace=-1.0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        LocalProcesses(**arguments)


# -- what is said of a failure -----------------------------------------------------------------------------------------


def last_words(directory: Path, printed: str, attempt: int = 1) -> str:
    executor = LocalProcesses()
    job = make_job(
        directory, f"import os\ndef objective():\n    os.write(2, {printed!r})\n    os._exit(1)\n", attempt=attempt
    )
    executor.submit(job)
    return finish(executor, job).reason.partition("its last words: ")[2]


def test_the_last_words_are_the_last_line_that_says_something(tmp_path):
    assert last_words(tmp_path / "0", b"Epoch 1\rEpoch 2\r\x1b[31mout of luck\x1b[0m  \n\n") == "out of luck"
    hydra = (
        b"Key 'lr' is not in struct\n\nSet the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.\n"
    )
    assert last_words(tmp_path / "1", hydra) == "Key 'lr' is not in struct"
    assert last_words(tmp_path / "2", b"\xff" + b"x" * 500) == "\N{REPLACEMENT CHARACTER}" + "x" * 299 + "..."
    assert last_words(tmp_path / "0", b"", attempt=2) == ""
    assert "out of luck" in (tmp_path / "0/worker.log").read_text()


def test_a_command_that_cannot_be_started_is_no_crash(tmp_path):
    """Another attempt would not help."""
    executor, job = LocalProcesses(), Job(0, 1, tmp_path, ("no-such-program", "x"))
    executor.submit(job)
    outcome = finish(executor, job)
    assert (outcome.status, outcome.reason) == (
        "FAILED",
        "'no-such-program' could not be started: No such file or directory",
    )


def test_out_of_memory_is_only_said_on_evidence(tmp_path):
    """The kernel's count of killed processes, replaced by a file, must have grown as the worker died."""
    count = tmp_path / "count"
    program = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("supervise", {supervise.__file__!r})
supervise = importlib.util.module_from_spec(spec)
spec.loader.exec_module(supervise)
supervise._oom_kills = lambda: int(open({str(count)!r}).read())
supervise.main(sys.argv[1:])
"""
    for attempt, counted in ((1, 4), (2, 5)):
        count.write_text("4")
        supervise.write_record(tmp_path / supervise.CLAIM_FILE, {"attempt": attempt})
        count.with_name("next").write_text(str(counted))
        # Replaced, not written anew: the supervisor may read it at any moment.
        dying = f"import os; os.replace({str(count.with_name('next'))!r}, {str(count)!r}); os.kill(os.getpid(), 9)"
        worker = [sys.executable, "-S", "-E", "-c", dying]
        subprocess.run([sys.executable, "-c", program, tmp_path, str(attempt), "--", *worker], check=True)
        outcome = LocalProcesses().poll(make_job(tmp_path, "", attempt=attempt))
        assert ("out of memory" in outcome.reason) == (counted > 4), outcome.reason
    assert supervise._oom_kills() >= 0


def test_what_a_worker_used_is_written_down(tmp_path):
    executor = LocalProcesses()
    job = make_job(tmp_path, "x = bytearray(64 * 2**20)\nx[::4096] = b'1' * len(x[::4096])\n" + returning("1"))
    executor.submit(job)
    outcome = finish(executor, job)
    ended = json.loads((tmp_path / "exit.json").read_text())
    assert (ended["ending"], ended["returncode"], ended["signal"]) == ("exited", 0, None)
    assert 64 < ended["peak_rss_mib"] < 200
    assert outcome.seconds == ended["seconds"] > 0


def test_a_damaged_answer_is_a_crash(tmp_path):
    code = "import os\ndef objective():\n    open(directory + '/result.json', 'w').write('{')\n    os._exit(0)\n"
    executor, job = LocalProcesses(), make_job(tmp_path, code)
    executor.submit(job)
    assert finish(executor, job).status == "CRASHED"


def test_a_directory_that_cannot_be_made_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="a file is where a directory should be"):
        LocalProcesses().submit(make_job(tmp_path / "file/0", returning("1")))
    with pytest.raises(ConfigError, match="InProcess for functions"):
        LocalProcesses().submit(Job(0, 1, tmp_path / "0", function=lambda: 1))


# -- the supervisor stands alone ---------------------------------------------------------------------------------------


def test_the_supervisor_needs_the_standard_library_alone(tmp_path):
    """It may run where our dependencies, or even this package, are not found."""
    copy = tmp_path / "supervise.py"
    copy.write_text(Path(supervise.__file__).read_text())
    command = [sys.executable, "-I", "-S", copy, tmp_path, "1", "--", "true"]
    subprocess.run(command, check=True, env={})
    assert supervise.read_record(tmp_path / supervise.EXIT_FILE)["returncode"] == 0


def test_heavy_packages_stay_outside():
    program = (
        "import sys, darts_hpo.tuning.executors.local, darts_hpo.tuning.executors.in_process, darts_hpo.tuning.call\n"
        "print(sorted({'torch', 'numpy', 'ray', 'submitit', 'hydra'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert found.strip() == "[]"


@pytest.mark.parametrize(("module", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_cluster_package_is_named(module, package, monkeypatch):
    from darts_hpo.errors import MissingDependencyError

    monkeypatch.setitem(sys.modules, package, None)
    name = f"darts_hpo.tuning.executors.{module}"
    spec = importlib.util.find_spec(name)
    with pytest.raises(MissingDependencyError, match=f"pip install {package}"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
