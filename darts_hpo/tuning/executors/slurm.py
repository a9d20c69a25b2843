"""Runs trials as jobs of a SLURM cluster, through submitit."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from darts_hpo.errors import ConfigError, MissingDependencyError, unknown_name
from darts_hpo.tuning.answer import described
from darts_hpo.tuning.executors.base import Job
from darts_hpo.tuning.executors.supervised import AttemptKey, SupervisedExecutor, attempt_key, run_supervisor

try:
    import submitit
except ImportError as _error:
    raise MissingDependencyError(
        "The SLURM executor needs the package 'submitit', which is absent; try: pip install submitit"
    ) from _error

_FOLDER = "submitit"
_QUEUE_MINUTES = 5
_CLUSTERS = ("slurm", "local")
_UNKNOWN = "UNKNOWN"


class Slurm(SupervisedExecutor):
    """Runs every trial as one SLURM job; directories of trials lie on a file system that all nodes share.

    A job that ends without an answer (node lost, time limit, memory limit) is recognized by the cluster's own
    word, since locks of network file systems are not to be relied on. SLURM keeps what it ends for ``KillWait``
    seconds (30 by default): ``grace`` should stay below.

    Args:
        slots: jobs in the queue or running at once.
        timeout_min: SLURM's time limit in minutes. None: the trial's own time-out and a little more.
        cpus_per_task: for each trial.
        gpus_per_node: for each trial.
        mem_gb: for each trial; None leaves it to the cluster.
        partition: None leaves it to the cluster.
        parameters: whatever else ``submitit.AutoExecutor.update_parameters`` takes, for example
            ``{"slurm_account": "vision", "slurm_additional_parameters": {"qos": "long"}}``.
        cluster: ``slurm``, or ``local`` to try everything on this machine. None: SLURM where it is found.
        environment: see :class:`~darts_hpo.tuning.executors.supervised.SupervisedExecutor`, as for ``grace`` and
            ``linger``.
        grace: seconds.
        linger: seconds.
        settle_seconds: how long files may take to be seen here after a job ended on another node.

    Raises:
        ConfigError: a number is out of its range, or the cluster is neither.
        MissingDependencyError: submitit is not installed (when this module is imported).
    """

    squeue_seconds = 60.0
    """Between two questions about a job of which SLURM's accounting says nothing."""

    def __init__(
        self,
        slots: int = 40,
        *,
        timeout_min: int | None = None,
        cpus_per_task: int = 1,
        gpus_per_node: int = 0,
        mem_gb: float | None = None,
        partition: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        cluster: Literal["slurm", "local"] | None = None,
        environment: Mapping[str, str] | None = None,
        grace: float = 10.0,
        linger: float = 60.0,
        settle_seconds: float = 60.0,
    ) -> None:
        if cluster is not None and cluster not in _CLUSTERS:
            raise ConfigError(unknown_name("cluster", cluster, _CLUSTERS))
        super().__init__(slots, environment=environment, grace=grace, linger=linger)
        self.timeout_min, self.cluster, self.settle_seconds = timeout_min, cluster, settle_seconds
        self.parameters = {
            "cpus_per_task": cpus_per_task,
            "gpus_per_node": gpus_per_node,
            "mem_gb": mem_gb,
            "slurm_partition": partition,
            "stderr_to_stdout": True,
            **(parameters or {}),
        }
        self._jobs: dict[AttemptKey, submitit.Job[None]] = {}
        self._queue: dict[AttemptKey, tuple[float, bool]] = {}

    def cancel(self, job: Job) -> None:
        """Kill a job and everything it started, or take it out of the queue; harmless where it has ended."""
        super().cancel(job)
        handle = self._jobs.get(attempt_key(job))
        if isinstance(handle, submitit.SlurmJob):
            with suppress(OSError):  # no scancel here: the claim ends the job when its supervisor sees it
                handle.cancel(check=False)

    def _start(self, job: Job) -> Mapping[str, Any]:
        try:
            executor = submitit.AutoExecutor(job.directory.absolute() / _FOLDER, cluster=self.cluster)
            executor.update_parameters(name=f"trial-{job.trial}", timeout_min=self._time_limit(job), **self.parameters)
            handle = executor.submit(
                run_supervisor, self.supervisor_command(job), self.worker_environment(job), str(Path.cwd())
            )
        except (NameError, AssertionError, TypeError, RuntimeError, submitit.core.utils.FailedJobError) as error:
            raise ConfigError(f"submitit refuses trial {job.trial}: {described(error)}") from error
        self._jobs[attempt_key(job)] = handle
        return {"job_id": handle.job_id, "cluster": executor.cluster}

    def _take_over(self, job: Job, claim: Mapping[str, Any]) -> None:
        if claim.get("cluster") == "slurm":
            folder = job.directory.absolute() / _FOLDER
            self._jobs[attempt_key(job)] = submitit.SlurmJob(folder, claim["job_id"])

    def _under_way(self, job: Job) -> bool:
        handle = self._jobs.get(attempt_key(job))
        if handle is None or handle.done():
            return False
        # Without accounting sacct knows nothing, and a lost job would be waited for until the end of time.
        unknown = isinstance(handle, submitit.SlurmJob) and handle.state == _UNKNOWN
        return not unknown or self._in_queue(job, handle.job_id)

    def _in_queue(self, job: Job, job_id: str) -> bool:
        """Whether squeue lists a job; asked once in a while, since every question costs the cluster something."""
        asked, listed = self._queue.get(attempt_key(job), (-math.inf, True))
        if not listed or time.monotonic() - asked < self.squeue_seconds:
            return listed
        try:
            answer = subprocess.run(["squeue", "--noheader", "--jobs", job_id], capture_output=True, check=False)
            # It fails for a job that it has forgotten, and for want of an answer from the controller.
            listed = bool(answer.stdout.strip()) if answer.returncode == 0 else b"nvalid job id" not in answer.stderr
        except OSError:
            listed = True
        self._queue[attempt_key(job)] = (time.monotonic(), listed)
        return listed

    def _told(self, job: Job) -> str | None:
        handle = self._jobs.get(attempt_key(job))
        return None if handle is None else f"{self.cluster or 'the cluster'} says {handle.state}"

    def _release(self, job: Job) -> None:
        super()._release(job)
        self._jobs.pop(attempt_key(job), None)
        self._queue.pop(attempt_key(job), None)

    def _time_limit(self, job: Job) -> int:
        if self.timeout_min is not None:
            return self.timeout_min
        if job.timeout is None:
            raise ConfigError(
                "SLURM wants a time limit. Set the executor's timeout_min (minutes for one trial), or a time-out for "
                "trials."
            )
        return math.ceil((job.timeout + self.grace) / 60.0) + _QUEUE_MINUTES
