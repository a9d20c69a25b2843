"""Runs trials on a Ray cluster, or on a local Ray that is started for the purpose."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darts_hpo.errors import ConfigError, MissingDependencyError
from darts_hpo.tuning.answer import described
from darts_hpo.tuning.executors.base import Job
from darts_hpo.tuning.executors.supervised import SupervisedExecutor, run_supervisor

try:
    import ray
except ImportError as _error:
    raise MissingDependencyError(
        "The Ray executor needs the package 'ray', which is absent; try: pip install ray"
    ) from _error

_NAMESPACE = "darts_hpo"
_LOCAL = "local"
_DEFAULTS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what later versions do; without it Ray warns at every start
    "RAY_USAGE_STATS_ENABLED": "0",
}


class _Watch:
    """Ray's side of one attempt: an actor, since only those may outlive the process that asked for them."""

    def run(self, command: Sequence[str], environment: Mapping[str, str], directory: str) -> None:
        run_supervisor(command, environment, directory)
        ray.actor.exit_actor()


class Ray(SupervisedExecutor):
    """Runs every trial as a detached actor of a Ray cluster that shares a file system.

    Workers live on when this process is killed. On a cluster their actors do too; a local Ray that was started here
    ends, but not the workers: they are found by the files in their directories.

    Args:
        slots: trials at once.
        address: of a cluster, as ``ray.init`` takes it (``auto`` finds one on this machine). None: the one that
            ``RAY_ADDRESS`` names, or else a local Ray with room for all slots.
        cpus: that each trial occupies, in Ray's count.
        gpus: that each trial occupies; may be a fraction. Ray chooses the devices.
        environment: see :class:`~darts_hpo.tuning.executors.supervised.SupervisedExecutor`, as for ``grace`` and
            ``linger``.
        grace: seconds.
        linger: seconds.
        settle_seconds: how long files may take to be seen here after a job ended on another node.

    Raises:
        ConfigError: a number is out of its range, or the cluster cannot be reached.
        MissingDependencyError: Ray is not installed (when this module is imported).
    """

    def __init__(
        self,
        slots: int,
        *,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        environment: Mapping[str, str] | None = None,
        grace: float = 10.0,
        linger: float = 60.0,
        settle_seconds: float = 5.0,
    ) -> None:
        super().__init__(slots, environment=environment, grace=grace, linger=linger)
        if cpus < 0 or gpus < 0:
            raise ConfigError(f"cpus={cpus}, gpus={gpus}: expected numbers of at least 0.")
        self.settle_seconds = settle_seconds
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            self._connect(address or os.environ.get("RAY_ADDRESS") or _LOCAL, cpus * slots)
        self._watch = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_Watch)

    @staticmethod
    def _connect(address: str, cpus: float) -> None:
        settings: dict[str, Any] = {}
        if address == _LOCAL:
            settings = {"num_cpus": max(math.ceil(cpus), os.cpu_count() or 1), "include_dashboard": False}
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        try:
            ray.init(
                address=address,
                namespace=_NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **settings,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"No Ray at address={address!r}: {described(error)}") from error

    def __exit__(self, *exception: object) -> None:
        """Leave Ray; workers live on."""
        if self._started_ray:
            ray.shutdown()

    def _start(self, job: Job) -> Mapping[str, Any]:
        name = _name(job)
        actor: Any = self._watch.options(name=name, namespace=_NAMESPACE, lifetime="detached").remote()
        actor.run.remote(self.supervisor_command(job), self.worker_environment(job), os.fspath(Path.cwd()))
        return {"actor": name}

    def _under_way(self, job: Job) -> bool:
        if not ray.is_initialized():
            return False
        try:
            ray.get_actor(_name(job), namespace=_NAMESPACE)
        except (ValueError, ConnectionError, ray.exceptions.RayError):  # no such actor, or no cluster any more
            return False
        return True


def _name(job: Job) -> str:
    return f"{job.directory.absolute()}:{job.attempt}"
