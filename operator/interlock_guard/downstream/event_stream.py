"""Event streams: messages to one client as server-sent events, kept for a while so that a stream can be resumed.

All streams share one budget of memory, since an MCP server decides how much it sends and the agent has many streams.
"""

import asyncio
import re
from collections import deque
from typing import Final
from weakref import WeakSet

from aiohttp import web

from interlock_contract.mcp import EVENT_STREAM
from interlock_guard.wire.large_messages import Hold, MemoryBudget

MAX_UNSENT: Final = 64
"""Unsent events of a client that reads slowly; beyond it progress and the like are dropped."""
_MAX_KEPT: Final = 128
_MAX_KEPT_BYTES: Final = 1024 * 1024
KEPT_BYTES: Final = 4 * 1024 * 1024
"""Memory for the events of all streams, but for answers, which have room of their own."""
_KEEP_ALIVE_SECONDS: Final = 30.0
_KEEP_ALIVE: Final = b": \n\n"
_KEPT: Final = MemoryBudget(KEPT_BYTES)
_HEADERS: Final = {"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"}
_MEDIA_RANGES: Final = (EVENT_STREAM, "text/*", "*/*")
"""What accepts a stream of events, the most specific first."""


def accepts_events(http: web.Request) -> bool:
    """Return True if the client of a request reads a stream of events (RFC 9110, section 12.5.1).

    `Accept` may come in several lines, with parameters and with wildcards: the most specific range decides, and `q=0`
    refuses. Without the header any answer is accepted. A `POST` is then answered with JSON all the same, since a client
    that simple may read nothing else.
    """
    lines = http.headers.getall("Accept", ())
    if not lines:
        return http.method == "GET"
    ranges = {}
    for item in ",".join(lines).lower().split(","):
        media_range, *parameters = (part.strip() for part in item.split(";"))
        ranges[media_range] = not any(_REFUSES.match(parameter) for parameter in parameters)
    return next((ranges[one] for one in _MEDIA_RANGES if one in ranges), False)


_REFUSES: Final = re.compile(r"q\s*=\s*0(\.0*)?\Z")


class EventStream:
    """One stream of one client. With a number its events have ids, `<number>-<position>`, and can be sent again."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self._events: deque[tuple[int, bytes, object]] = deque()
        self._bytes = 0
        self._last = self._sent = 0
        self._ended = self._broken = False
        self._wake = asyncio.Event()
        self._writer: object | None = None

    @property
    def is_attached(self) -> bool:
        """Whether a connection is taking the events."""
        return self._writer is not None

    @property
    def has_ended(self) -> bool:
        """True if no further events will come."""
        return self._ended

    def put(self, message: bytes, *, must_arrive: bool = False, hold: object = None) -> None:
        """Queue a message; one that need not arrive is dropped if too many are unsent.

        Args:
            message: The message.
            must_arrive: Whether it is kept, however many are unsent, and whatever memory they take.
            hold: Its part of the budget for large messages, which is kept with it.
        """
        is_full = self._last - self._sent >= MAX_UNSENT or self._bytes > _MAX_KEPT_BYTES
        if self._ended or (is_full and not must_arrive):
            return
        label = b"" if self.number is None else b"id: %d-%d\n" % (self.number, self._last + 1)
        event = b"%sevent: message\ndata: %s\n\n" % (label, message)
        if hold is None:
            hold = own = _KEPT.hold()
            if not _find_room(own, len(event)) and not must_arrive:
                return
        self._last += 1
        self._events.append((self._last, event, hold))
        self._bytes += len(event)
        _CHANGED.add(self)
        self._forget()
        self._wake.set()

    def shed(self) -> None:
        """Drop the events that no connection waits for: those that were sent, and, without a request, all of them."""
        is_idle = self.number == 0 and not self.is_attached
        while self._events and (is_idle or self._events[0][0] <= self._sent):
            self._drop_first()

    def end(self) -> None:
        """End the stream after the events that it has."""
        self._ended = True
        self._wake.set()

    def abort(self) -> None:
        """End the connection in the middle, and drop all events."""
        self._broken = True
        self._events.clear()
        self.end()

    def can_resume(self, after: int) -> bool:
        """Return True if every event after that position is still kept."""
        first = self._events[0][0] if self._events else self._last + 1
        return not self._broken and first - 1 <= after <= self._last

    async def serve(self, http: web.BaseRequest, after: int | None = None) -> web.StreamResponse:
        """Send the events, from the first unsent one or after a position, to the end; the newest connection takes all.

        Raises:
            ConnectionError: The client is gone.
        """
        writer = self._writer = object()
        if after is not None:
            self._sent = after
            _CHANGED.add(self)
        self._wake.set()  # the connection that served it until now lets go
        response = web.StreamResponse(headers=_HEADERS)
        try:
            await response.prepare(http)
            await self._send(response, writer)
            if self._broken and http.transport is not None:
                # Its status is sent already: an end in the middle is all that can still be said.
                http.transport.abort()
            else:
                await response.write_eof()
        finally:
            if self._writer is writer:
                self._writer = None
            _CHANGED.add(self)
        return response

    async def _send(self, response: web.StreamResponse, writer: object) -> None:
        while self._writer is writer:
            event = next((event for event in self._events if event[0] > self._sent), None)
            if event is not None:
                self._sent = event[0]
                _CHANGED.add(self)
                await response.write(event[1])
                self._forget()
            elif self._ended:
                return
            else:
                self._wake.clear()
                try:
                    async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    await response.write(_KEEP_ALIVE)

    def _forget(self) -> None:
        """Drop sent events that cannot be requested again, or that are too many to keep."""
        while self._events and self._events[0][0] <= self._sent:
            if self.number is not None and len(self._events) <= _MAX_KEPT and self._bytes <= _MAX_KEPT_BYTES:
                return
            self._drop_first()

    def _drop_first(self) -> None:
        self._bytes -= len(self._events.popleft()[1])


_CHANGED: Final[WeakSet[EventStream]] = WeakSet()
"""The streams that may have something to shed, since they got or sent an event, or lost a connection, since the last
time. A server that sends to a full budget thus costs a look at few streams, not one at all of them for each event."""


def _find_room(hold: Hold, size: int) -> bool:
    """Take room for an event; where there is none, first drop what no connection waits for."""
    if hold.try_resize(size):
        return True
    changed = list(_CHANGED)
    _CHANGED.clear()
    for stream in changed:
        stream.shed()
    return hold.try_resize(size)
