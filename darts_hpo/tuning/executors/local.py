"""Runs trials as processes of this machine, each with its own device and a limit on its threads."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.executors import supervise
from darts_hpo.tuning.executors.base import Job
from darts_hpo.tuning.executors.supervised import AttemptKey, SupervisedExecutor, attempt_key, is_process

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_DEVICE_VARIABLE = "CUDA_VISIBLE_DEVICES"
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_PAUSE_SECONDS = 0.02

MOST_PER_PROCESSOR = 4
"""Trials per processor (or device) that are still started: those that mostly wait do well so."""

log = logging.getLogger(__name__)


class LocalProcesses(SupervisedExecutor):
    """Runs every trial as a process of its own, which lives on when this process is killed.

    Args:
        slots: trials at once. None: one for each device, or, without devices, as many as the processors of this
            process allow at ``threads`` each. Far more than that exhaust a machine's memory before they gain
            anything: above :data:`MOST_PER_PROCESSOR` times as many it is None, and said so.
        devices: what ``CUDA_VISIBLE_DEVICES`` says in each slot, for example ``["0", "1"]`` or ``["0,1", "2,3"]``;
            slots take turns where there are fewer devices. ``"auto"``: the devices this process may use, one for
            each slot. None: not set.
        threads: for the numerical libraries of each worker; None leaves them their own choice, which is every
            processor for every worker.
        environment: see :class:`~darts_hpo.tuning.executors.supervised.SupervisedExecutor`, as for ``grace``,
            ``linger`` and ``nice``.
        grace: seconds.
        linger: seconds.
        nice: 0 to 19.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(
        self,
        slots: int | None = 1,
        *,
        devices: Sequence[str | int] | Literal["auto"] | None = None,
        threads: int | None = 1,
        environment: Mapping[str, str] | None = None,
        grace: float = 10.0,
        linger: float = 60.0,
        nice: int = 0,
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads={threads}: expected at least 1, or null to leave libraries their choice.")
        if isinstance(devices, str) and devices != "auto":
            raise ConfigError(f"devices={devices!r}: expected 'auto', a list such as ['0', '1'], or null.")
        self.threads = threads
        self.devices = visible_devices() if devices == "auto" else tuple(str(device) for device in devices or ())
        room = len(self.devices) or max(1, _processors() // (threads or 1))
        if slots is not None and slots > MOST_PER_PROCESSOR * room:
            log.warning(
                "%d trials at once would exhaust this machine, which has room for %d: so many run. For more, take "
                "a cluster: hydra/sweeper/executor=slurm or ray.",
                slots,
                room,
            )
            slots = None
        if slots is None:
            slots = room
        super().__init__(slots, environment=environment, grace=grace, linger=linger, nice=nice)
        self._children: dict[AttemptKey, int] = {}
        self._adopted: dict[AttemptKey, Mapping[str, Any]] = {}
        self._taken: dict[AttemptKey, int] = {}

    def submit(self, job: Job) -> Mapping[str, Any]:
        """Start a job in a free slot and return at once.

        Where all slots are taken and a cancelled worker still ends in one, that is waited for.

        Raises:
            ConfigError: there is no command to run.
            RunDirectoryError: the trial's directory cannot be written.
            RuntimeError: every slot is taken: the caller does not count its jobs.
        """
        self._taken[attempt_key(job)] = self._free_slot()
        try:
            return super().submit(job)
        except BaseException:
            self._release(job)
            raise

    def worker_environment(self, job: Job) -> dict[str, str]:
        """Thread limits and device; the executor's environment overrides them, and the job's overrides that."""
        limits = {} if self.threads is None else dict.fromkeys(_THREAD_VARIABLES, str(self.threads))
        if self.devices:
            limits[_DEVICE_VARIABLE] = self.devices[self._taken[attempt_key(job)] % len(self.devices)]
        return {**limits, **super().worker_environment(job)}

    def _start(self, job: Job) -> Mapping[str, Any]:
        for attempt in list(self._children):
            self._process_lives(attempt)  # leaves no zombies
        command = self.supervisor_command(job)
        # Not subprocess: it wants every process to be waited for, and these outlive us.
        pid = os.posix_spawn(
            command[0],
            command,
            {**os.environ, **self.worker_environment(job)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(job.directory / supervise.LOG_FILE), _APPEND, 0o666),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,  # neither Ctrl-C nor the end of our terminal reaches it
        )
        self._children[attempt_key(job)] = pid
        slot = self._taken[attempt_key(job)]
        return {"pid": pid, "pid_start": supervise.process_start(pid), "slot": slot, "started": time.time()}

    def _take_over(self, job: Job, claim: Mapping[str, Any]) -> None:
        self._adopted[attempt_key(job)] = claim
        if "slot" in claim:
            self._taken[attempt_key(job)] = claim["slot"]

    def _under_way(self, job: Job) -> bool:
        return self._process_lives(attempt_key(job))

    def _release(self, job: Job) -> None:
        super()._release(job)
        self._taken.pop(attempt_key(job), None)
        self._adopted.pop(attempt_key(job), None)

    def _process_lives(self, attempt: AttemptKey) -> bool:
        if attempt in self._children:
            try:
                ended, _ = os.waitpid(self._children[attempt], os.WNOHANG)
            except ChildProcessError:
                ended = 1  # somebody else has waited for it
            if ended:
                del self._children[attempt]
            return not ended
        known = self._adopted.get(attempt, {})
        return is_process(known.get("pid", 0), known.get("pid_start"))

    def _free_slot(self) -> int:
        deadline = time.monotonic() + self.grace + self.margin_seconds
        while True:
            for attempt in [a for a in self._taken if not self._occupied(a)]:
                del self._taken[attempt]
            free = set(range(self.slots)) - set(self._taken.values())
            if free:
                return min(free)
            ending = any(supervise.may_not_run(directory, number) for directory, number in self._taken)
            if not ending or time.monotonic() > deadline:
                raise RuntimeError(f"All {self.slots} slots are taken.")
            time.sleep(_PAUSE_SECONDS)

    def _occupied(self, attempt: AttemptKey) -> bool:
        directory, number = attempt
        return supervise.lock_holder(directory) == number or self._process_lives(attempt)


def visible_devices() -> tuple[str, ...]:
    """The CUDA devices that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; empty where none."""
    if _DEVICE_VARIABLE in os.environ:
        return tuple(name.strip() for name in os.environ[_DEVICE_VARIABLE].split(",") if name.strip())
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    listed = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False).stdout
    return tuple(str(index) for index, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU ")))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
