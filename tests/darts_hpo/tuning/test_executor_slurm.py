"""SLURM through submitit: its local executor, and a SLURM of three scripts that behaves as it is told."""

from __future__ import annotations

import os

import pytest
import submitit

from darts_hpo.errors import ConfigError
from darts_hpo.testing.executors import WorkerExecutorConformance, finish, make_job, returning
from darts_hpo.tuning.executors import supervise
from darts_hpo.tuning.executors.slurm import Slurm

# submitit's local jobs are processes that it never waits for.
pytestmark = pytest.mark.filterwarnings(
    "ignore:subprocess .* is still running:ResourceWarning",
    "ignore:Exception ignored in. <function Popen:pytest.PytestUnraisableExceptionWarning",
)


class TestSubmititOnThisMachine(WorkerExecutorConformance):
    def make(self):
        return Slurm(slots=2, cluster="local", timeout_min=5, grace=0.2, linger=1.0, settle_seconds=0.0)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder of SLURM's programs. ``run`` holds whether jobs start; ``state`` what sacct says of all."""
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = {
        "sbatch": 'for last; do :; done; cp "$last" "$HERE/script"; echo Submitted batch job 17\n'
        'if [ -e "$HERE/run" ]; then SLURM_JOB_ID=17 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=a '
        'SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0 setsid bash "$last" >/dev/null 2>&1 & fi',
        "srun": 'while [ "${1#-}" != "$1" ]; do [ "$1" = --output ] || [ "$1" = --error ] && shift; shift; done\n'
        'exec "$@"',
        "sacct": "printf 'JobID|State|NodeList\\n17|%s|a\\n' \"$(cat $HERE/state)\"",
        "scancel": 'echo "$@" >> "$HERE/cancelled"; echo CANCELLED > "$HERE/state"',
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/bash\nHERE={folder}\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "state").write_text("PENDING")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(submitit.SlurmJob, "watcher", type(submitit.SlurmJob.watcher)(delay_s=0))
    return folder


def cluster(**arguments):
    return Slurm(timeout_min=7, grace=0.2, settle_seconds=0.0, **arguments)


def test_a_job_of_the_queue_runs(slurm, tmp_path):
    (slurm / "run").touch()
    (slurm / "state").write_text("RUNNING")
    executor = cluster(partition="gpu", gpus_per_node=1, parameters={"slurm_account": "vision"})
    code = "import os\n" + returning("os.environ['SLURM_JOB_ID']")
    job = make_job(tmp_path / "0", code, trial=3)
    assert executor.submit(job) == {"job_id": "17", "cluster": "slurm"}
    assert finish(executor, job).returned == "17"
    script = (slurm / "script").read_text()
    for line in ("--partition=gpu", "--gpus-per-node=1", "--account=vision", "--time=7", "--job-name=trial-3"):
        assert line in script, script


def test_what_waits_in_the_queue_is_adopted_by_its_number_and_can_be_cancelled(slurm, tmp_path):
    """No file tells of it yet, and no lock: only the cluster knows."""
    job = make_job(tmp_path / "0", returning("1"))
    facts = cluster().submit(job)
    for known in (facts, None):
        later = cluster()
        assert later.adopt(job, known)
        assert later.poll(job) is None
    later.cancel(job)
    assert (slurm / "cancelled").read_text().split() == ["17"]
    assert finish(later, job).reason == "cancelled"
    assert supervise.may_not_run(job.directory, 1)


@pytest.mark.parametrize("state", ["TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"])
def test_the_clusters_own_word_is_the_reason(slurm, tmp_path, state):
    executor, job = cluster(), make_job(tmp_path / "0", returning("1"))
    executor.submit(job)
    assert executor.poll(job) is None
    (slurm / "state").write_text(state)
    outcome = finish(executor, job)
    assert outcome.status == "CRASHED"
    assert outcome.reason == f"vanished without an answer (the cluster says {state})"


def test_a_cluster_without_accounting_has_a_queue_to_look_at(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(Slurm, "squeue_seconds", 0.0)
    (slurm / "sacct").write_text("#!/bin/sh\nexit 1\n")
    (slurm / "squeue").write_text(
        f"#!/bin/sh\ncat {slurm}/queue && exit 0\necho 'Unable to contact slurm controller' >&2; exit 1\n"
    )
    (slurm / "squeue").chmod(0o755)
    executor, job = cluster(), make_job(tmp_path / "0", returning("1"))
    executor.submit(job)
    (slurm / "queue").write_text("17 gpu trial-0 R\n")
    assert executor.poll(job) is None
    (slurm / "queue").unlink()  # the controller does not answer
    assert executor.poll(job) is None
    (slurm / "queue").write_text("")
    assert finish(executor, job).reason.startswith("vanished")


def test_files_of_another_node_may_come_late(slurm, tmp_path):
    executor = Slurm(timeout_min=7, settle_seconds=30.0)
    job = make_job(tmp_path / "0", returning("1"))
    executor.submit(job)
    (slurm / "state").write_text("COMPLETED")
    assert executor.poll(job) is None
    (tmp_path / "0/result.json").write_text('{"attempt": 1, "status": "COMPLETED", "value": 2}')
    assert executor.poll(job).returned == 2


def test_the_time_limit_follows_the_trials(slurm, tmp_path):
    Slurm().submit(make_job(tmp_path / "0", returning("1"), timeout=3600.0))
    assert "--time=66" in (slurm / "script").read_text()
    with pytest.raises(ConfigError, match="SLURM wants a time limit"):
        Slurm().submit(make_job(tmp_path / "1", returning("1")))


def test_wrong_arguments_are_named(slurm, tmp_path):
    with pytest.raises(ConfigError, match="Unknown cluster: 'slrum'. Did you mean 'slurm'"):
        Slurm(cluster="slrum")
    with pytest.raises(ConfigError, match="slurm_nonsense"):
        cluster(parameters={"slurm_nonsense": 1}).submit(make_job(tmp_path / "0", returning("1")))
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpo' >&2\nexit 1\n")
    with pytest.raises(ConfigError, match="invalid partition specified: gpo"):
        cluster().submit(make_job(tmp_path / "0", returning("1")))
