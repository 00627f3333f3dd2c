r"""The screen of a provider's answer: what passes to the agent, and what is held back until it shows no key.

The agent gets the bytes of the provider, and nothing of a key. So the screen holds back what may be the beginning of a
key: of a stream of events the event that is not complete yet, of everything else the last bytes. An event:

    data: {"delta": "Zm9v   <- not complete, so nothing of it passes
    \/YmFy"}                 <- the key `Zm9v/YmFy` is complete: the answer ends here
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

from interlock_guard.budget.stream_usage import StreamUsage
from interlock_guard.upstream.credentials import SECRET_REACH, open_end
from interlock_guard.upstream.http_client import UpstreamError
from interlock_guard.wire.large_messages import SMALL, Pace
from interlock_guard.wire.streams import EventParser, EventTooLarge

MAX_EVENT: Final = 8 * 1024 * 1024
"""Largest event of a stream in bytes."""
_MAX_DELTA: Final = 64 * 1024
"""Largest event in bytes that is taken for a piece of a text."""
_MAX_TEXTS: Final = 256
_INDEXES: Final = ("index", "output_index", "content_index", "summary_index")
"""Members of an event that say which text its pieces belong to."""
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_BLANK_LINE: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
"""Two line ends. It begins with a sign, which the interpreter then skips to."""
_LONGEST_BLANK_LINE: Final = 4
_COMMENTS: Final = re.compile(rb"(?::[^\r\n]*\r?\n)+")
"""Lines of a stream that every client ignores, such as `: keep-alive`. They pass before the next event is complete."""
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "windows-1252"})
"""Encodings in which a key has the bytes of ASCII."""
_CHARSET: Final = re.compile(r"""(?<=;)\s*charset=("?)([A-Za-z0-9-]+)\1\s*(?=;|\Z)""", re.IGNORECASE)
"""A parameter of a media type that every reader takes for the same encoding."""

_Place = tuple[str | int, ...]


class KeyShown(UpstreamError):  # noqa: N818 - says what happened
    """The provider answered with a key that was sent to it, or in a way in which no key can be searched for."""

    def __init__(self, message: str = "answered with its own key, which is withheld") -> None:
        super().__init__(message, is_sent=True)


def check_media_types(media_types: Sequence[str]) -> None:
    """Refuse an answer whose text is, for some reader of its headers, in an encoding that is not searched.

    Clients differ in which one of several headers, or of several parameters, they read.

    Args:
        media_types: The values of all headers `Content-Type` of the answer.

    Raises:
        KeyShown: It is.
    """
    if len(set(media_types)) > 1:
        raise KeyShown("answered with several Content-Type headers, of which the guard does not know the right one")
    for media_type in media_types:
        stated = [found[2].lower() for found in _CHARSET.finditer(media_type)]
        if len(stated) > 1 or len(stated) != media_type.lower().count("charset") or not _CHARSETS.issuperset(stated):
            raise KeyShown(f"answered as {media_type[:64]!r}, in which the guard searches for no key")


def check_headers(headers: Mapping[str, str], shows_key: Callable[[str, str], bool]) -> None:
    """Refuse an answer with a key in the headers that pass.

    Raises:
        KeyShown: One is there.
    """
    if any(shows_key(name, value) for name, value in headers.items()):
        raise KeyShown


class AnswerScreen:
    """Passes the body of one answer on, without a key.

    Args:
        shows_key: Returns True for a text with a key in it.
        is_events: Whether the client may read the answer as a stream of events.
        usage: Reads the usage from the events of a call with a budget, and says which of them pass.
    """

    def __init__(
        self,
        shows_key: Callable[[bytes | bytearray], bool],
        *,
        is_events: bool,
        usage: StreamUsage | None = None,
    ) -> None:
        self._shows_key = shows_key
        self._held = bytearray()
        self._searched = b""  # the end of what was searched, as a key may go on in the next chunk
        self._events = EventParser(MAX_EVENT) if is_events else None
        self._texts: dict[_Place, str] = {}
        self._usage = usage

    @property
    def size(self) -> int:
        """Bytes that are held, and of events a second time: the parser copies an event when it is complete."""
        return len(self._held) * (1 if self._events is None else 2)

    def feed(self, chunk: bytes | bytearray) -> bytes:
        """Take a chunk and return what passes now.

        Raises:
            KeyShown: A key is in the answer.
        """
        if b"\0" in chunk:  # UTF-16 and UTF-32, which clients recognise by themselves; UTF-8 of JSON has none
            raise KeyShown("answered with a NUL byte, so in an encoding in which the guard searches for no key")
        text = self._searched + chunk
        if self._shows_key(text):
            raise KeyShown
        # No key has a line end, so none goes on in the next chunk from before the last one. An event that comes alone
        # ends with one, and then nothing is searched twice.
        self._searched = bytes(text[max(len(text) - SECRET_REACH, text.rfind(b"\n") + 1) :])
        before = len(self._held)
        self._held += chunk
        if self._events is None:
            # No key has a line end. Some providers send empty lines so that a client does not stop waiting.
            return self._release(max(len(self._held) - SECRET_REACH, self._held.rfind(b"\n") + 1))
        try:
            return self._take_events(self._events, before)
        except EventTooLarge as error:
            raise UpstreamError(f"answered with {error}", is_sent=True) from None

    async def feed_in_steps(self, part: bytes | bytearray) -> AsyncIterator[bytes]:
        """Take a part of the answer and yield what passes; it may hold thousands of events, each of them searched.

        Raises:
            KeyShown: A key is in the answer.
        """
        pace = Pace()
        for start in range(0, len(part), SMALL):
            yield self.feed(part[start : start + SMALL])
            await pace.pause()

    def finish(self) -> bytes:
        """Return the rest of an answer that is complete."""
        return self._release(len(self._held))

    def _release(self, end: int) -> bytes:
        passed = bytes(self._held[: max(0, end)])
        del self._held[: len(passed)]
        return passed

    def _take_events(self, parser: EventParser, before: int) -> bytes:
        """Search the events that are complete, and return what passes.

        Args:
            parser: Takes each event apart.
            before: How many bytes were held, and had no complete event in them.

        Raises:
            KeyShown: A key is in several events together.
            EventTooLarge: An event is beyond the bound.
        """
        passed, end = bytearray(), 0
        for found in _BLANK_LINE.finditer(self._held, max(0, before - _LONGEST_BLANK_LINE + 1)):
            block = bytes(self._held[end : found.end()])
            end = found.end()
            for event in parser.feed(block):  # none, or one
                data: bytes | None = event.data
                parsed = self._check_pieces(event.data)
                if self._usage is not None:
                    data = self._usage.take(parsed, event.data)
                if data is not event.data:
                    block = b"" if data is None else _replace_data(block, data)
            passed += block
        if len(self._held) - end > MAX_EVENT:
            raise EventTooLarge(f"an event of more than {MAX_EVENT} bytes")
        if (comments := _COMMENTS.match(self._held, end)) is not None:
            passed += comments.group()
            end = comments.end()
        del self._held[:end]
        return bytes(passed)

    def _check_pieces(self, data: bytes) -> Any:
        """Search the texts that the agent puts together from several events, and return the event as JSON.

        Two events that make one text:

            {"index": 0, "delta": {"text": "Zm9v"}}
            {"index": 0, "delta": {"text": "/YmFy"}}

        Raises:
            KeyShown: A key is in one.
        """
        if len(data) > _MAX_DELTA:
            return None
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            return None  # such as [DONE]; its bytes were searched
        texts, known = [], self._texts
        for place, piece in _strings(event):
            text = known.pop(place, "") + piece
            texts.append(text)
            if len(known) >= _MAX_TEXTS:
                del known[next(iter(known))]
            known[place] = open_end(text)
        if self._shows_key("\n".join(texts).encode("utf-8", "surrogatepass")):
            raise KeyShown
        return event


def _replace_data(block: bytes, data: bytes) -> bytes:
    """Return an event of a stream with other data, and its other lines as they were."""
    lines = [line for line in _LINE_END.split(block.removeprefix(_BYTE_ORDER_MARK)) if line]
    others = [line for line in lines if line.partition(b":")[0] != b"data"]
    return b"\n".join([*others, *(b"data: " + line for line in data.split(b"\n")), b"", b""])


def _strings(event: Any) -> list[tuple[_Place, str]]:
    """Return every string in an event, with the place of its text: names of members and indexes that members state."""
    found: list[tuple[_Place, str]] = []
    waiting: list[tuple[_Place, Any]] = [((), event)]
    while waiting:
        place, value = waiting.pop()
        kind = type(value)
        if kind is str:
            found.append((place, value))
        elif kind is list:
            waiting += [(place, item) for item in reversed(value)]
        elif kind is dict:
            for name in _INDEXES:
                if name in value and isinstance(value[name], int):
                    place = (*place, value[name])
            below: list[tuple[_Place, Any]] = []
            for name, item in value.items():
                kind = type(item)
                if kind is str:
                    found.append(((*place, name), item))
                elif kind is list or kind is dict:
                    below.append(((*place, name), item))
            waiting += reversed(below)
    return found
