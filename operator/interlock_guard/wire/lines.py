"""A byte stream from a server, cut into lines; no line is held in memory beyond its bound."""

import re
from dataclasses import dataclass
from typing import Final

_KEPT: Final = 256
_HEAD_ID: Final = re.compile(rb'\{"jsonrpc": ?"2\.0", ?"id": ?(\d{1,15}),')
_TAIL_ID: Final = re.compile(rb'"id": ?(\d{1,15})\}\r?\Z')


@dataclass(frozen=True, slots=True)
class Oversized:
    """A line beyond the bound: its beginning and its end, enough to tell whose answer it was."""

    head: bytes
    tail: bytes

    def response_id(self) -> int | None:
        """Return the id where a serialiser puts it: right at the start, or as the last member of the object."""
        match = _HEAD_ID.match(self.head) or _TAIL_ID.search(self.tail)
        return None if match is None else int(match.group(1))


class LineBuffer:
    """Collects chunks and hands out whole lines, without their ends."""

    def __init__(self, max_line: int) -> None:
        self._max = max_line
        self._parts: list[bytes] = []
        self._size = 0
        self._head: bytes | None = None  # set while the rest of an oversized line is being skipped
        self._tail = b""

    def feed(self, chunk: bytes) -> list[bytes | Oversized]:
        """Return the lines that the chunk completes."""
        lines: list[bytes | Oversized] = []
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._append(chunk[start:end])
            lines.append(self._take())
            start = end + 1
        if start < len(chunk):
            self._append(chunk[start:])
        return lines

    def _append(self, part: bytes) -> None:
        if self._head is not None:
            self._tail = (self._tail + part)[-_KEPT:]
            return
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._max:
            joined = b"".join(self._parts)
            self._head, self._tail = joined[:_KEPT], joined[-_KEPT:]
            self._parts.clear()

    def _take(self) -> bytes | Oversized:
        line: bytes | Oversized
        if self._head is not None:
            line = Oversized(self._head, self._tail)
        else:
            line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size, self._head, self._tail = 0, None, b""
        return line
