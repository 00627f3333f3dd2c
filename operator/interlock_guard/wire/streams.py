"""Server-sent events, taken apart as they arrive; no event is held in memory beyond its bound. No I/O.

The format is that of the HTML standard, "9.2.6 Interpreting an event stream": lines end in LF, CR or CRLF, an empty
line ends an event, and what follows the last empty line is no event.
"""

import re
from dataclasses import dataclass
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_EVENT_ID: Final = re.compile(rb"([!-~]([ -~]*[!-~])?)?\Z")
_MAX_ID: Final = 1024
_MAX_RETRY_DIGITS: Final = 9


class EventTooLarge(ValueError):  # noqa: N818 - says the state of a stream
    """One event is beyond the bound; the stream is of no use any more."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event.

    Attributes:
        data: Its data; empty for an event that only gives an id.
        name: Its type; `message` unless it says otherwise.
    """

    data: bytes
    name: str = "message"


class EventParser:
    """Collects chunks and hands out whole events.

    Attributes:
        last_id: The id by which the stream could be taken up again behind what was seen; empty without one.
        retry_seconds: How long the server wants its client to wait before it does; None without a word about it.
    """

    def __init__(self, max_event: int) -> None:
        self.last_id = ""
        self.retry_seconds: float | None = None
        self._max = max_event
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0  # of the line and the data together
        self._name = b""
        self._id = ""
        self._is_start = True
        self._had_return = False  # the last chunk ended in CR, so a LF that comes next is of the same line end
        self._is_blank = True

    def restart(self) -> None:
        """Begin another stream, which goes on after the last whole event: what was incomplete is forgotten."""
        self._line.clear()
        self._data.clear()
        self._size, self._name, self._id = 0, b"", self.last_id
        self._is_start, self._had_return = True, False

    @property
    def size(self) -> int:
        """Bytes of the incomplete event that are kept."""
        return self._size

    @property
    def is_blank(self) -> bool:
        """Whether nothing has come yet on any stream, not even a comment."""
        return self._is_blank

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Return the events that the chunk completes.

        Raises:
            EventTooLarge: An event is beyond the bound.
        """
        if self._had_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._had_return = False
        if not chunk:
            return []
        self._had_return, self._is_blank = chunk.endswith(b"\r"), False
        *whole, rest = _LINE_END.split(chunk)
        events = []
        for piece in whole:
            self._grow(piece)
            line = b"".join(self._line)
            self._line.clear()
            event = self._take_line(line)
            if event is not None:
                events.append(event)
        self._grow(rest)
        return events

    def _grow(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max:
            raise EventTooLarge(f"an event of more than {self._max} bytes")
        if piece:
            self._line.append(piece)

    def _take_line(self, line: bytes) -> ServerEvent | None:
        if self._is_start:
            self._is_start = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._finish()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            return None  # its size goes on counting
        self._size -= len(line)
        if field == b"event":
            self._name = value
        elif field == b"id" and len(value) <= _MAX_ID and _EVENT_ID.match(value):
            self._id = value.decode("ascii")  # it goes back as a header
        elif field == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
            self.retry_seconds = int(value) / 1000
        return None

    def _finish(self) -> ServerEvent | None:
        self.last_id = self._id  # only now: behind an event that was cut off nothing may be taken up
        data, name = b"\n".join(self._data), self._name
        has_data = bool(self._data)
        self._data.clear()
        self._size, self._name = 0, b""
        if not has_data:
            return None
        return ServerEvent(data, name.decode("utf-8", "replace") or "message")


_KEPT: Final = 256
_VERSION: Final = rb'"jsonrpc"\s*:\s*"2\.0"'
_ID: Final = rb'"id"\s*:\s*"?(\d{1,15})"?'
_OUTCOME: Final = rb'"(?:result|error)"\s*:'
_HEAD_ID: Final = re.compile(rb"\s*\{\s*(?:%b\s*,\s*)?%b\s*,\s*(?:%b\s*,\s*)?%b" % (_VERSION, _ID, _VERSION, _OUTCOME))
"""An answer that begins with its id."""
_HEAD: Final = re.compile(rb"\s*\{\s*(?:%b\s*,\s*)?%b" % (_VERSION, _OUTCOME))
_TAIL_ID: Final = re.compile(rb",\s*(?:%b\s*,\s*)?%b\s*(?:,\s*%b\s*)?\}\s*\Z" % (_VERSION, _ID, _VERSION))
"""An answer that ends with its id."""


Line = bytes | bytearray


_ANYWHERE: Final = re.compile(rb"%b\s*,\s*(?:%b\s*,\s*)?%b" % (_ID, _VERSION, _OUTCOME))
"""The id of an answer, directly before its result or error. That of a request is before its method."""


def named_ids(line: bytes | bytearray) -> set[int]:
    """Return the ids that a line names which cannot be read but has an answer's members at its beginning or end.

    The line may be the answer to one of these requests, as where a text stands before an answer:

        Connected.{"jsonrpc":"2.0","id":7,"result":{...}}

    A log may also quote an answer that is still to come.
    """
    head, tail = bytes(line[:_KEPT]), bytes(line[-_KEPT:])
    found = {int(match.group(1)) for part in (head, tail) for match in _ANYWHERE.finditer(part)}
    last = _TAIL_ID.search(tail)
    if last is not None and b'"method"' not in head:
        found.add(int(last.group(1)))
    return found


@dataclass(frozen=True, slots=True)
class Oversized:
    """A line that is not kept whole: its beginning and its end, enough to tell whose answer it was.

    `why` says what it is beyond, where that is not the bound of a line.
    """

    head: bytes
    tail: bytes
    why: str = ""

    def response_id(self) -> int | None:
        """Return the id of an answer where a serialiser puts it: right at the start, or as the object's last member."""
        match = _HEAD_ID.match(self.head)
        if match is None and _HEAD.match(self.head) is not None:
            match = _TAIL_ID.search(self.tail)
        return None if match is None else int(match.group(1))


def cut_short(line: Line, why: str = "") -> Oversized:
    """Return a whole line as one that is not kept."""
    return Oversized(bytes(line[:_KEPT]), bytes(line[-_KEPT:]), why)


class LineBuffer:
    """Collects chunks and hands out whole lines, without their ends."""

    def __init__(self, max_line: int) -> None:
        self._max = max_line
        self._line = bytearray()  # grows in place: a list of parts would be there twice while it is joined
        self._head: bytes | None = None  # set while the rest of an oversized line is being skipped
        self._tail = b""
        self._why = ""

    @property
    def size(self) -> int:
        """Bytes of the incomplete line that are kept."""
        return len(self._line)

    def feed(self, chunk: bytes) -> list[Line | Oversized]:
        """Return the lines that the chunk completes."""
        lines: list[Line | Oversized] = []
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            lines.append(self._take(chunk[start:end]))
            start = end + 1
        if start < len(chunk):
            self._append(chunk[start:])
        return lines

    def give_up(self, why: str = "") -> None:
        """Keep nothing of the incomplete line but its beginning and its end: it becomes `Oversized`."""
        if self._head is None:
            given_up = cut_short(self._line)
            self._head, self._tail, self._why = given_up.head, given_up.tail, why
            self._line = bytearray()

    def _append(self, part: bytes) -> None:
        if self._head is not None:
            self._tail = (self._tail + part)[-_KEPT:]
            return
        self._line += part
        if len(self._line) > self._max:
            self.give_up()

    def _take(self, last: bytes) -> Line | Oversized:
        if not self._line and self._head is None and len(last) <= self._max:
            return last
        self._append(last)
        line: Line | Oversized = self._line if self._head is None else Oversized(self._head, self._tail, self._why)
        self._line, self._head, self._tail, self._why = bytearray(), None, b"", ""
        return line
