"""The spool: lines of this guard's chains on its own disk, until the collector holds them.

A line counts as stored once `write` has taken it: ending the process, however, loses nothing of it. Lines are not
synced to the medium one by one: that costs milliseconds each, against microseconds for the write, and a pod that loses
its node loses its volume with it. The collector is what outlives a node.

Files are segments of a bounded size, so that room is freed as the collector takes lines in. Their names sort in the
order in which they were written, across restarts.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock_contract.audit_chain import MAX_LINE, Line, LineInvalid, open_line

_NAME: Final = re.compile(r"(\d{6})-(\d{12})\.jsonl\Z")
_MODE: Final = 0o640


class SpoolRefused(Exception):  # noqa: N818 - says what happened to a line
    """The line was not stored; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """Bounds of a spool, all in bytes.

    Attributes:
        capacity: All lines on disk.
        reserve: What of the capacity writes and deletes may not use, so that reads go on for a while.
        segment: One file.
        memory: Lines that are held while the disk refuses them.
    """

    capacity: int = 64 * 1024 * 1024
    reserve: int = 16 * 1024 * 1024
    segment: int = 4 * 1024 * 1024
    memory: int = 1024 * 1024


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two lines: a file's name and an offset in it."""

    name: str = ""
    offset: int = 0


class Spool:
    """Holds lines in files of one folder.

    Args:
        folder: Made where it is missing.
        limits: Its bounds.
        keeps: Whether a full spool refuses lines until `release` frees room, as it must when a collector is to get them
            all. Otherwise the oldest lines make room for new ones.

    Raises:
        OSError: The folder cannot be made or read.
    """

    def __init__(self, folder: Path, limits: SpoolLimits, *, keeps: bool) -> None:
        self._folder, self._limits, self._keeps = folder, limits, keeps
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        found = sorted(path for path in folder.iterdir() if _NAME.match(path.name))
        self._generation = 1 + max((int(path.name[:6]) for path in found), default=0)
        self._segments = [segment for segment in map(_recover, found) if segment is not None]
        self.last = _last_line(self._segments[-1]) if self._segments else None
        """The last line that an earlier guard of this pod has left here, if it is sound."""
        self._active: int | None = None
        self._memory: list[bytes] = []
        self.used = sum(segment.size for segment in self._segments)
        """Bytes on disk."""
        self.held = 0
        """Bytes in memory, since the disk refuses them."""
        self.listener: Callable[[], None] = lambda: None
        """Called after each line."""

    def append(self, line: bytes, seq: int, *, is_vital: bool) -> None:
        """Store a line; it survives the end of the process when this returns, unless the disk refuses it.

        What the disk refuses is held in memory, as far as that goes, for lines that are not vital.

        Args:
            line: One line with its end.
            seq: Its number in its chain.
            is_vital: It stands for an action that must not happen unless the line is safe: it gets nothing of the
                reserve, and memory does not do.

        Raises:
            SpoolRefused: There is no room for it, or the disk refuses a vital one.
        """
        bound = self._limits.capacity - (self._limits.reserve if is_vital else 0)
        if not self._keeps:
            self._drop_oldest(self._limits.capacity - self.held - len(line))
        elif self.used + self.held + len(line) > bound:
            raise SpoolRefused("the spool is full")
        try:
            self.flush()
            self._write(line, seq)
        except OSError as error:
            why = f"the disk refuses it: {error.strerror}"
            if is_vital or self.held + len(line) > self._limits.memory:
                raise SpoolRefused(why) from None
            self._memory.append(line)
            self.held += len(line)
        self.listener()

    def flush(self) -> None:
        """Write what is held in memory.

        Raises:
            OSError: The disk still refuses it.
        """
        if self._memory:
            lines = b"".join(self._memory)
            self._write(lines, _seq_of(lines))
            self._memory.clear()
            self.held = 0

    def read(self, position: Position, size: int) -> tuple[bytes, Position]:
        """Return whole lines of one file from a position on, about `size` bytes, and the position behind them.

        Raises:
            OSError: The file cannot be read.
        """
        for segment in self._segments:
            name = segment.path.name
            offset = position.offset if name == position.name else 0
            if name < position.name or offset >= segment.size:
                continue
            with segment.path.open("rb") as file:
                file.seek(offset)
                lines = file.read(min(size, segment.size - offset))
                if not lines.endswith(b"\n"):
                    whole = lines.rfind(b"\n") + 1
                    lines = lines[:whole] if whole else lines + file.readline()
            return lines, Position(name, offset + len(lines))
        return b"", position

    def release(self, position: Position) -> None:
        """Delete the files that lie wholly before a position, but never the one that is being written."""
        while len(self._segments) > 1 and self._segments[0].path.name < position.name:
            self._remove_first()

    def first_of_chain(self, position: Position) -> Position:
        """Return where the lines begin that are still there of the chain that a position lies in."""
        names = (segment.path.name for segment in self._segments)
        return Position(next((name for name in names if name[:6] == chain_of(position)), position.name))

    def close(self) -> None:
        """Close the file that is being written."""
        if self._active is not None:
            os.close(self._active)
            self._active = None

    def _write(self, data: bytes, seq: int) -> None:
        segment = self._segments[-1] if self._active is not None else None
        if segment is None or segment.size >= self._limits.segment:
            segment = self._begin(seq)
        assert self._active is not None  # noqa: S101 - _begin has just opened it
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._active, data[written:], segment.size + written)
        except OSError:
            with suppress(OSError):  # half a line may stay behind; the next one is written over it
                os.ftruncate(self._active, segment.size)
            raise
        segment.size += len(data)
        self.used += len(data)

    def _begin(self, seq: int) -> _Segment:
        path = self._folder / f"{self._generation:06d}-{seq:012d}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _MODE)
        self.close()
        self._active = descriptor
        self._segments.append(_Segment(path, 0))
        return self._segments[-1]

    def _drop_oldest(self, bound: int) -> None:
        while len(self._segments) > 1 and self.used > bound:
            self._remove_first()

    def _remove_first(self) -> None:
        segment = self._segments.pop(0)
        self.used -= segment.size
        segment.path.unlink(missing_ok=True)


def chain_of(position: Position) -> str:
    """Return what tells the chains of one spool apart: each start of the guard writes files of its own."""
    return position.name[:6]


def _recover(path: Path) -> _Segment | None:
    """Cut off half a line: its write had not returned when its guard ended, so nothing was forwarded on it."""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - 2 * MAX_LINE))
        whole = file.read().rfind(b"\n") + 1
        whole += start if whole else 0
        if whole < size:
            file.truncate(whole)
    if whole:
        return _Segment(path, whole)
    path.unlink()
    return None


def _last_line(segment: _Segment) -> Line | None:
    try:
        return open_line(segment.path.read_bytes().splitlines()[-1])
    except LineInvalid:
        return None


def _seq_of(lines: bytes) -> int:
    return open_line(lines[: lines.index(b"\n")]).seq
