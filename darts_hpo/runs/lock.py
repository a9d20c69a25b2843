"""A directory that one process owns at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from darts_hpo.errors import RunDirectoryError
from darts_hpo.runs.files import readable_errors

_ATTEMPTS, _WAIT_SECONDS = 5, 0.05

_held: set[int] = set()


def _release_in_child() -> None:
    # A forked data-loading worker shares the lock; it would keep it for seconds after its parent was killed,
    # and the same command typed again would be refused.
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)


class DirectoryLock:
    """Ownership of a directory, by a lock that the system releases when the process ends in whatever way.

    Args:
        directory: which must exist when the lock is taken.
        advice: what to do instead of running twice; ends the message of a refusal.
    """

    def __init__(self, directory: Path, advice: str) -> None:
        self.directory, self.advice = directory, advice
        self.path = directory / ".lock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Own the directory while inside.

        Raises:
            RunDirectoryError: another process owns it; the message names it.
        """
        descriptor = self._acquire()
        _held.add(descriptor)
        try:
            with readable_errors(self.path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            _held.discard(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def owner(self) -> int | None:
        """Process id of the owner, if there is one now."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return self._written_owner()
        finally:
            os.close(descriptor)
        return None

    def _written_owner(self) -> int:
        try:
            return int(self.path.read_text())
        except (OSError, ValueError):
            return 0

    def _acquire(self) -> int:
        with readable_errors(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        for attempt in range(_ATTEMPTS):  # owner() holds a shared lock for an instant
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if attempt + 1 < _ATTEMPTS:
                    time.sleep(_WAIT_SECONDS)
            except OSError as error:
                os.close(descriptor)
                raise RunDirectoryError(
                    f"{self.directory} cannot be locked ({error.strerror}); choose a directory on a local disk."
                ) from error
        os.close(descriptor)
        raise RunDirectoryError(f"{self.directory} is in use by process {self._written_owner()}. {self.advice}")
