"""A file of a mounted Secret, ConfigMap or token, read again only when it has changed.

The kubelet replaces such files while their readers run, so a reader asks for the content at each use. Reading costs
about ten times as much as asking for the file's inode, time and size, and one reader reads at each call.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock_contract.clock import utc_now

_SETTLED_NS: Final = 100_000_000
"""Age of a file's last change, in nanoseconds, from which on two changes cannot have the same time."""


class FileTooLarge(OSError):  # noqa: N818 - says the state of a file
    """The file has more bytes than its reader accepts."""


@dataclass(frozen=True, slots=True)
class _Seen:
    content: bytes
    stamp: tuple[int, int, int, int]
    is_settled: bool


class MountedFile:
    """One file.

    A file system counts a change's time in steps of some milliseconds. Two changes within one step look alike:

        12:00:00.000  the file is written: `aaaa`    inode 7, time 12:00:00.000, 4 bytes
        12:00:00.001  the content is read
        12:00:00.002  the file is written: `bbbb`    inode 7, time 12:00:00.000, 4 bytes

    So a content that was read within 0.1 s of the file's last change is not trusted: the next use reads again.

    Args:
        path: The file. A symbolic link is followed at each use, as the kubelet swaps a link to its directory.
        max_bytes: The largest content that is read.
    """

    def __init__(self, path: Path, max_bytes: int = 1024 * 1024) -> None:
        self._path, self._max_bytes = os.fspath(path), max_bytes
        self._seen: _Seen | None = None

    def read(self) -> bytes:
        """Return the content as it is now.

        Raises:
            FileTooLarge: The file has more than `max_bytes`.
            OSError: The file cannot be read.
        """
        seen = self._seen
        if seen is not None and seen.is_settled and seen.stamp == _stamp(os.stat(self._path)):  # noqa: PTH116 - each use
            return seen.content
        self._seen = None
        with open(self._path, "rb", buffering=0) as opened:  # noqa: PTH123 - as above
            found = os.fstat(opened.fileno())
            content = opened.read(self._max_bytes + 1)
        if len(content) > self._max_bytes:
            raise FileTooLarge(f"{self._path} has more than {self._max_bytes} bytes")
        age = int(utc_now().timestamp() * 1e9) - found.st_mtime_ns
        self._seen = _Seen(content, _stamp(found), age > _SETTLED_NS)
        return content

    def forget(self) -> None:
        """Read the file at the next use, whether it has changed or not."""
        self._seen = None


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
