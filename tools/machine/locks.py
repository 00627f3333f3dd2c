"""Locks that the kernel lets go when their holder dies, however it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.machine.process import say


@dataclass
class Lock:
    """A lock file held by this process until release or death."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """Release the lock; the file stays, so that two waiters never lock different files of one name."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def try_lock(path: Path) -> Lock | None:
    """Take the lock; return None if a living process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return Lock(path, descriptor)


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold the lock, after a wait for another process that holds it, which is printed."""
    lock = try_lock(path)
    if lock is None:
        say(f"waiting for another process that is busy with {what} (lock {path})")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        lock = Lock(path, descriptor)
    try:
        yield
    finally:
        lock.release()
