"""Watches over one worker, so that it outlives whoever started it and never ends unnoticed.

Run as a file, on whatever machine the worker runs on; it needs nothing but Python's standard library::

    python -I -S supervise.py DIRECTORY ATTEMPT [--timeout S] [--grace S] [--linger S] [--nice N] -- COMMAND ...

Files in the trial's directory, all of them by now or by then of several attempts, told apart by their number:

``attempt.json``
    The word of whoever submits: which attempt may run, and whether it was cancelled. A supervisor of another
    attempt ends its worker, or does not start it: that is how a cluster's queue is kept from running a trial twice.
``.worker.lock``
    Locked by the supervisor *and* the worker while either lives; holds the number of their attempt.
``worker.json``
    Who runs: process ids with start times, host, where this attempt's part of the log begins.
``worker.log``
    What workers print.
``exit.json``
    How the worker ended. Written last.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
CLAIM_FILE = "attempt.json"
LOCK_FILE = ".worker.lock"
WORKER_FILE = "worker.json"
EXIT_FILE = "exit.json"
LOG_FILE = "worker.log"
ANSWER_FILE = "result.json"

EXITED, TIMED_OUT, CANCELLED, LINGERED, TERMINATED, BLOCKED, NOT_STARTED = (
    "exited",  # by itself, or killed by somebody else
    "timed_out",
    "cancelled",
    "lingered",  # answered, but would not end
    "terminated",  # somebody other than the study sent SIGTERM, such as a cluster that needs the machine
    "blocked",  # never began: an earlier attempt could not be ended
    "not_started",  # the command cannot be run
)
"""The values of ``ending`` in ``exit.json``."""

_TICK_SECONDS = 1.0
_LOCK_PATIENCE_SECONDS = 60.0
_LOCK_RECORD_BYTES = 32
_OOM_MEMORY_TICKS = 10  # a large process takes seconds to die after the kernel has counted it as killed
_KIB_PER_MIB = 1024.0


# Files


def read_record(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is none or it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step.

    It is not forced to the disk: these records tell of processes, which do not survive a power failure either.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps({"schema_version": SCHEMA_VERSION, **record}, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def may_not_run(directory: Path, attempt: int) -> bool:
    """Whether an attempt was cancelled, or a later one has taken its place."""
    claim = read_record(directory / CLAIM_FILE)
    allowed = claim.get("attempt", attempt)
    return bool(allowed != attempt or claim.get("cancelled", False))


def lock_holder(directory: Path) -> int | None:
    """Number of the attempt whose supervisor or worker lives; None where neither does.

    0 where somebody holds the lock and has not said who it is. On a file system without locks always None.
    """
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, _LOCK_RECORD_BYTES, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else 0
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _acquire_lock(directory: Path, attempt: int) -> int | None:
    """Descriptor of the lock, or None: another attempt keeps it, or this one may no longer run."""
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # Somebody looks at it for an instant, or the attempt before is still being ended.
            if time.monotonic() > deadline or may_not_run(directory, attempt):
                os.close(descriptor)
                return None
            time.sleep(0.02)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
                raise
            break  # no locks here: the executor asks its cluster who lives
    os.pwrite(descriptor, f"{attempt}\n".ljust(_LOCK_RECORD_BYTES).encode(), 0)
    return descriptor


# Processes


def process_start(pid: int) -> str | None:
    """When a process started, in the kernel's own count; tells it from a later one of the same number.

    None where there is no such process, it is a zombie, or the system does not say.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def signal_group(group: int, number: int) -> None:
    """Send a signal to a process group; nothing where it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory: in this control group, or else on this machine."""
    files = [Path("/proc/vmstat")]
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                files.insert(0, Path("/sys/fs/cgroup") / line[3:].strip("/") / "memory.events")
    for path in files:
        with suppress(OSError, ValueError, IndexError):
            return int(path.read_text().partition("oom_kill ")[2].split()[0])
    return 0


class _Signals:
    """Turns signals into something to wait for. Workers start with the defaults, not with these."""

    def __init__(self) -> None:
        self.terminate = False
        self._reader, writer = os.pipe()
        for descriptor in (self._reader, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_terminate)

    def _on_terminate(self, *_: object) -> None:
        self.terminate = True

    def wait(self, seconds: float) -> None:
        """Sleep until a signal comes or the time is over."""
        if select.select([self._reader], [], [], max(0.0, seconds))[0]:
            with suppress(BlockingIOError):
                os.read(self._reader, 4096)


class Supervisor:
    """Runs one attempt from its start to ``exit.json``.

    Args:
        directory: of the trial; exists.
        attempt: from 1.
        command: program and arguments.
        timeout: seconds after which the worker is ended; None for never.
        grace: seconds between asking it to end (SIGTERM) and ending it (SIGKILL).
        linger: seconds it may take to end after its answer.
    """

    def __init__(
        self,
        directory: Path,
        attempt: int,
        command: Sequence[str],
        *,
        timeout: float | None,
        grace: float,
        linger: float,
    ) -> None:
        self.directory, self.attempt, self.command = directory, attempt, list(command)
        self.timeout, self.grace, self.linger = timeout, grace, linger
        self._signals = _Signals()
        self._oom_kills = deque([_oom_kills()], maxlen=_OOM_MEMORY_TICKS)

    def run(self) -> None:
        """Start the worker, wait for its end and write it down.

        A process that the worker puts into a session of its own escapes, as it does from any batch system
        without control groups.
        """
        lock = _acquire_lock(self.directory, self.attempt)
        if lock is None or may_not_run(self.directory, self.attempt):
            cancelled = may_not_run(self.directory, self.attempt)
            self._write_exit(CANCELLED if cancelled else BLOCKED)
            return
        with (self.directory / LOG_FILE).open("ab") as worker_log:
            start, log_from = time.monotonic(), worker_log.tell()
            try:
                child = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=worker_log,
                    stderr=worker_log,
                    start_new_session=True,
                    pass_fds=(lock,),  # so that the lock tells of the worker where the supervisor was killed
                )
            except OSError as error:
                self._write_exit(NOT_STARTED, error=f"{self.command[0]!r} could not be started: {error.strerror}")
                return
        write_record(
            self.directory / WORKER_FILE,
            {
                "attempt": self.attempt,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "pid_start": process_start(os.getpid()),
                "child_pid": child.pid,
                "child_start": process_start(child.pid),
                "started": time.time(),
                "log_from": log_from,
            },
        )
        ending, status, usage = self._watch(child, start)
        code = os.waitstatus_to_exitcode(status)
        self._write_exit(
            ending,
            returncode=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            seconds=round(time.monotonic() - start, 3),
            peak_rss_mib=round(usage.ru_maxrss / _KIB_PER_MIB, 1),
            out_of_memory=ending == EXITED and code == -signal.SIGKILL and _oom_kills() > self._oom_kills[0],
        )

    def _watch(self, child: subprocess.Popen[bytes], start: float) -> tuple[str, int, resource.struct_rusage]:
        """Wait until the worker has ended, by itself or at our word; then end what it left behind."""
        ending, kill_at = EXITED, float("inf")
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            self._oom_kills.append(_oom_kills())
            now = time.monotonic()
            if ending == EXITED:
                ending = self._why_end(now - start)
                if ending != EXITED:
                    kill_at = now + self.grace
                    signal_group(child.pid, signal.SIGTERM)
            if now >= kill_at:
                signal_group(child.pid, signal.SIGKILL)
            next_event = min(kill_at if now < kill_at else now + _TICK_SECONDS, now + _TICK_SECONDS)
            if self.timeout is not None and ending == EXITED:
                next_event = min(next_event, start + self.timeout)
            self._signals.wait(next_event - now)
        child.returncode = os.waitstatus_to_exitcode(status)
        signal_group(child.pid, signal.SIGKILL)  # processes that the worker started and did not wait for
        return ending, status, usage

    def _why_end(self, seconds: float) -> str:
        if may_not_run(self.directory, self.attempt):
            return CANCELLED
        if self._signals.terminate:
            return TERMINATED
        if self.timeout is not None and seconds >= self.timeout:
            return TIMED_OUT
        return LINGERED if self._answer_age() > self.linger else EXITED

    def _answer_age(self) -> float:
        path = self.directory / ANSWER_FILE
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            return 0.0
        # An old file is read only when it may matter: answers of earlier attempts lie here too.
        return age if age > self.linger and read_record(path).get("attempt") == self.attempt else 0.0

    def _write_exit(self, ending: str, **facts: object) -> None:
        write_record(self.directory / EXIT_FILE, {"attempt": self.attempt, "ending": ending, **facts})


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module."""
    parser = argparse.ArgumentParser(description="Run one worker and write down how it ended.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("attempt", type=int)
    parser.add_argument("--timeout", type=float, default=None)
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--linger", type=float, default=60.0)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    if options.nice:
        os.nice(options.nice)
    Supervisor(
        options.directory,
        options.attempt,
        options.command,
        timeout=options.timeout,
        grace=options.grace,
        linger=options.linger,
    ).run()


if __name__ == "__main__":
    main(sys.argv[1:])
