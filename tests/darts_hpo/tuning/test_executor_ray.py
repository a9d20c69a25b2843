"""Trials on a local Ray, which takes seconds to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from darts_hpo.errors import ConfigError
from darts_hpo.testing.executors import WorkerExecutorConformance, finish, make_job
from darts_hpo.tuning.executors.local import LocalProcesses

REPOSITORY = Path(__file__).parents[3]

pytestmark = pytest.mark.slow


def on_ray(slots=2, **arguments):
    """The executor; imported here, since collecting the tests should not wait for Ray."""
    from darts_hpo.tuning.executors.ray import Ray

    return Ray(slots, **arguments)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One Ray for all tests: executors that find it running do not end it."""
    with on_ray(slots=4, cpus=0.25):
        yield


class TestRay(WorkerExecutorConformance):
    def make(self):
        return on_ray(slots=2, cpus=0.25, grace=0.2, linger=1.0, settle_seconds=0.5)


def test_workers_outlive_the_process_that_submitted_them_and_its_ray(tmp_path):
    """Its files lead to them, and any executor of the machine takes them over."""
    waits = (
        "import os, time\ndef objective():\n"
        "    while not os.path.exists(directory + '/go'):\n        time.sleep(0.01)\n"
    )
    job = make_job(tmp_path, waits)
    program = f"""
import os
from pathlib import Path
from darts_hpo.tuning.executors.base import Job
from darts_hpo.tuning.executors.ray import Ray
executor = Ray(1)
executor.submit(Job(0, 1, Path({str(tmp_path)!r}), {job.command!r}))
while not Path({str(tmp_path / "worker.json")!r}).exists():
    pass
os.kill(os.getpid(), 9)
"""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, env=environment, check=False)
    for later in (on_ray(), LocalProcesses()):
        assert later.adopt(job, None)
        assert later.poll(job) is None
    (tmp_path / "go").touch()
    assert finish(later, job).status == "COMPLETED"


def test_what_waits_for_room_is_under_way_and_can_be_cancelled(tmp_path):
    """Ray has no room for a thousand processors; the files know nothing yet."""
    executor = on_ray(slots=1, cpus=1000.0)
    job = make_job(tmp_path, "def objective():\n    return 1\n")
    executor.submit(job)
    later = on_ray(slots=1, settle_seconds=0.0)
    assert later.adopt(job, None)
    assert later.poll(job) is None
    later.cancel(job)
    assert not on_ray(slots=1).adopt(job, None)


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="cpus=-1"):
        on_ray(slots=1, cpus=-1)
