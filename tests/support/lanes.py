"""Lanes: processes of one test run that use one cluster at a time, each for tests of its own.

The first process creates what is shared. The process that ends the last test removes it. The first process stays
responsible: it waits for the others before it ends. All state is in locks of the kernel, which end with their process.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO


def run_id() -> str:
    """Return what the processes of one run have in common (pytest-xdist's id), and no other run has."""
    return os.environ.get("PYTEST_XDIST_TESTRUNUID", f"pid-{os.getpid()}")


@dataclass
class Lanes:
    """What the processes of a run know of each other.

    Attributes:
        folder: Where their locks and notes lie.
    """

    folder: Path
    _membership: IO[bytes] | None = field(default=None, repr=False)

    @contextmanager
    def entering(self) -> Iterator[bool]:
        """Take part from now on, alone for as long as the context lasts; yield True to the first process.

        A process that fails in the context has made nothing: the next one is the first again.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._membership is None:
            self._membership = (self.folder / "members").open("wb")
            fcntl.flock(self._membership, fcntl.LOCK_SH)
        with self._alone("made"):
            is_first = not (self.folder / "made").exists()
            yield is_first
            (self.folder / "made").touch()

    def once(self, name: str, action: Callable[[], None]) -> None:
        """Do something that must be done once in a run; the other processes wait until it is done."""
        with self._alone(name):
            if not (self.folder / name).exists():
                action()
                (self.folder / name).touch()

    def note_end_of_test(self) -> int:
        """Count one more test that has ended; return how many have, in all processes."""
        with (self.folder / "ends").open("ab") as ends:
            fcntl.flock(ends, fcntl.LOCK_EX)
            ends.write(b".")
            return ends.tell()

    @property
    def is_taken_away(self) -> bool:
        """Whether a process has taken away what was shared."""
        return (self.folder / "taken-away").exists()

    def note_taken_away(self) -> None:
        """Let the others know."""
        (self.folder / "taken-away").touch()

    def leave(self) -> None:
        """Use it no longer."""
        if self._membership is not None:
            self._membership.close()
            self._membership = None

    def wait_for_others(self) -> None:
        """Wait until every other process has left, or has ended."""
        assert self._membership is None, "leave first"
        with self._alone("members", suffix=""):
            pass

    def forget(self) -> None:
        """Remove the notes, after the last process has left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _alone(self, name: str, suffix: str = ".lock") -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}{suffix}").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
