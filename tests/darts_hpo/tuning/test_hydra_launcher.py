"""Hydra's launchers as an executor."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.answer import write_answer
from darts_hpo.tuning.executors.base import Job, Outcome
from darts_hpo.tuning.executors.hydra_launcher import HydraJob, HydraLauncher


def job(folder: Path, trial: int) -> HydraJob:
    return HydraJob(trial, 1, folder / str(trial), overrides=(f"x={trial}",))


def launched(status: JobStatus, value: object) -> JobReturn:
    job_return = JobReturn(status=status)
    job_return.return_value = value
    return job_return


def test_a_batch_starts_when_every_slot_has_a_job_or_no_more_come(tmp_path: Path):
    batches = []

    def launch(overrides, first):
        batches.append((overrides, first))
        return [launched(JobStatus.COMPLETED, float(first))] * len(overrides)

    executor = HydraLauncher(2)
    executor.connect(launch)
    jobs = [job(tmp_path, number) for number in range(3)]
    executor.submit(jobs[1])
    assert executor.poll(jobs[1]) is None  # more may come
    executor.submit(jobs[0])
    assert executor.poll(jobs[1]) == Outcome("COMPLETED", returned=0.0)
    assert executor.poll(jobs[0]) == Outcome("COMPLETED", returned=0.0)
    executor.submit(jobs[2])
    assert executor.poll(jobs[2]) is None
    assert executor.poll(jobs[2]) == Outcome("COMPLETED", returned=2.0)  # none has come since the last look
    assert batches == [([("x=0",), ("x=1",)], 0), ([("x=2",)], 2)]


def test_failures_are_told_apart(tmp_path: Path):
    answers = [launched(JobStatus.FAILED, ValueError("no data\nat all")), launched(JobStatus.COMPLETED, float("nan"))]
    executor = HydraLauncher(2)
    executor.connect(lambda overrides, first: answers)
    first, second = job(tmp_path, 0), job(tmp_path, 1)
    executor.submit(first)
    executor.submit(second)
    assert executor.poll(first) == Outcome("FAILED", reason="ValueError: no data at all")
    outcome = executor.poll(second)
    assert outcome is not None
    assert outcome.status == "COMPLETED"
    assert outcome.returned != outcome.returned


def test_a_launcher_that_fails_loses_no_answer(tmp_path: Path):
    def launch(overrides, first):
        write_answer(tmp_path / "0", 1, 0.5, seconds=3.0)
        raise RuntimeError("node lost")

    executor = HydraLauncher(2)
    executor.connect(launch)
    jobs = [job(tmp_path, 0), job(tmp_path, 1)]
    for one in jobs:
        executor.submit(one)
    assert executor.poll(jobs[0]) == Outcome("COMPLETED", returned=0.5, seconds=3.0)
    assert executor.poll(jobs[1]) == Outcome("CRASHED", reason="the launcher failed: RuntimeError: node lost")


def test_answers_left_before_a_crash_are_found(tmp_path: Path):
    write_answer(tmp_path / "0", 1, 0.5)
    executor = HydraLauncher()
    assert executor.adopt(job(tmp_path, 0), None)
    assert executor.poll(job(tmp_path, 0)) == Outcome("COMPLETED", returned=0.5)
    assert not executor.adopt(job(tmp_path, 1), None)


def test_a_cancelled_job_is_not_launched(tmp_path: Path):
    executor = HydraLauncher(2)
    executor.connect(lambda overrides, first: [launched(JobStatus.COMPLETED, 1.0)] * len(overrides))
    jobs = [job(tmp_path, 0), job(tmp_path, 1)]
    for one in jobs:
        executor.submit(one)
    executor.cancel(jobs[0])
    assert executor.poll(jobs[1]) is None
    assert executor.poll(jobs[1]) is not None


def test_the_seconds_that_slots_stood_idle(tmp_path: Path):
    def launch(overrides, first):
        write_answer(tmp_path / "0", 1, 0.5)
        os.utime(tmp_path / "0" / "result.json", (time.time(), time.time()))
        time.sleep(0.2)
        write_answer(tmp_path / "1", 1, 0.5)
        return [launched(JobStatus.COMPLETED, 0.5)] * 2

    executor = HydraLauncher(3)
    executor.connect(launch)
    jobs = [job(tmp_path, 0), job(tmp_path, 1)]
    for one in jobs:
        executor.submit(one)
    executor.poll(jobs[0])
    executor.poll(jobs[0])
    assert 0.35 < executor.idle_seconds < 1.0  # one slot empty, one waiting for the other


def test_only_a_sweep_can_use_it(tmp_path: Path):
    with pytest.raises(ConfigError, match="Only a Hydra sweep"):
        HydraLauncher().submit(Job(0, 1, tmp_path))
    with pytest.raises(ConfigError, match="slots=0"):
        HydraLauncher(0)
