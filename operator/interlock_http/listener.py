"""The bounded listener: one TCP listener that holds the bounds of its row in `interlock_contract.listeners`.

aiohttp bounds what one request may be, but neither connections, nor those of one address, nor the time of a request's
head, nor what all connections keep. So a connection of ours stands in front of each connection of the HTTP stack and
knows four things: its peer, when its state began, whether a request is under way, and how many bytes it has brought
that are neither a request that was handled nor a body.

A listener that is full makes room instead of turning a new connection away: it closes the connection that waits
longest, first among those of the same peer. A flood of idle connections therefore ends itself, and a kubelet's probe
is answered. Only where every connection has a request under way is the new one closed.

A connection costs about 1 KiB until its first byte. The HTTP stack is built for it only then. It gets a connection's
bytes in small portions, and stops to read after a few of them, so that a connection with an unread body, a pipelined
request or an unread response keeps little.
"""
# The images of guard and collector have no `typing_extensions`, whose `override` `_Connection` would need.
# mypy: disable-error-code="explicit-override"

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from typing import Any, Final, cast

from aiohttp import StreamReader, web, web_protocol
from aiohttp.http_exceptions import HttpProcessingError

from interlock_contract.listeners import Bounds
from interlock_http.refused_head import HeadChecks, RefuseHead, refuse_in_text

_BACKLOG: Final = 512
_LEAST_PORTION: Final = 2 * 1024
_LARGEST_PORTION: Final = 8 * 1024
_FIELD_SIGNS: Final = len(b": \r\n")
_MOST_DROPPED: Final = 1024 * 1024
"""Bytes that are dropped after a head that was refused, so that its client reads the answer."""
_PORTIONS: Final = 4
"""Portions that a connection keeps: one that is not parsed, two of an unread body, one of an unread response."""

web_protocol.MAX_MSG_QUEUE_SIZE = 2
"""Requests that the HTTP stack keeps before they are handled. It has no option for that, and keeps 32.

With one, it would stop to read and begin again at each request.
"""

_SWEEPS: Final = 4
"""Sweeps in the shortest time of the row, so that no connection overstays by more than a fourth of it."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_BaseHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class BodyRefused(Exception):  # noqa: N818 - says what happened to a body
    """A body is too large, too slow, or one too many.

    Attributes:
        status: The HTTP status of the answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _too_large(most: int) -> BodyRefused:
    return BodyRefused(413, f"larger than {most} bytes")


def _is_ours(record: logging.LogRecord) -> bool:
    """Return False for the traceback of a stranger's malformed request, of which there may be any number."""
    strange = (HttpProcessingError, web.RequestPayloadError)
    return record.exc_info is None or not isinstance(record.exc_info[1], strange)


_LOGGER: Final = logging.getLogger("aiohttp.server.bounded")
_LOGGER.addFilter(_is_ours)


class _State(Enum):
    """What a connection does."""

    HEAD = "the head of a request is expected, or comes in"
    IDLE = "a response is complete, and no byte of the next request is there"
    REQUEST = "a request is under way"
    DRAIN = "the request was answered before all of its body came in, and the rest is dropped"


class _Connection(asyncio.BufferedProtocol):
    """One connection, in front of that of the HTTP stack."""

    __slots__ = ("_listener", "body", "dropped", "head", "http", "peer", "pending", "since", "state", "transport")

    def __init__(self, listener: "BoundedListener") -> None:
        self._listener = listener
        self.transport: asyncio.Transport
        self.http: asyncio.Protocol | None = None
        self.peer = ""
        self.state, self.since = _State.HEAD, 0.0
        self.pending = 0
        """Bytes since the last request or the last byte of its body: of a head, of trailers, of pipelined requests."""
        self.head = 0
        """Bytes of the head of the request under way."""
        self.body: StreamReader | None = None
        """The body of the request under way, or of the last one."""
        self.dropped: int | None = None
        """Bytes that came after a head that was refused; None unless one was."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self.transport.set_write_buffer_limits(high=self._listener.portion)
        self._listener.admit(self)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the interface's
        return self._listener.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.transport.is_closing():
            return
        if self.dropped is not None:
            self.dropped += nbytes
            if self.dropped > _MOST_DROPPED:
                self.transport.abort()
            return
        if not self._listener.count(self, nbytes):
            return
        if self.http is None:
            self.http = self._listener.build_http(self)
            self.http.connection_made(self.transport)
        body = self.body
        before = 0 if body is None else body.total_bytes
        self.http.data_received(bytes(memoryview(self._listener.buffer)[:nbytes]))
        if body is not None and body.total_bytes != before:
            self._listener.discount(self)

    def eof_received(self) -> bool | None:
        return None if self.http is None else self.http.eof_received()

    def pause_writing(self) -> None:
        if self.http is not None:
            self.http.pause_writing()

    def resume_writing(self) -> None:
        if self.http is not None:
            self.http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        http, self.http = self.http, None
        if http is not None:
            http.connection_lost(exc)


class _Peer:
    """The connections of one address."""

    __slots__ = ("connections", "waiting")

    def __init__(self) -> None:
        self.connections = 0
        self.waiting: OrderedDict[_Connection, None] = OrderedDict()


class BoundedListener:
    """One TCP listener with an HTTP server.

    Args:
        bounds: The listener's row of the table.
        refuse_head: Builds the answer to a head that the HTTP stack cannot read, from a status and a sentence.
    """

    def __init__(self, bounds: Bounds, refuse_head: RefuseHead = refuse_in_text) -> None:
        self.bounds = bounds
        self._refuse_head = refuse_head
        share = bounds.bytes_in_flight // bounds.connections
        self.portion = min(max(share // _PORTIONS, _LEAST_PORTION), _LARGEST_PORTION)
        """Most bytes that are received, or sent, of a connection at a time."""
        self.buffer = bytearray(self.portion)
        """Receives the bytes of every connection, which are taken out immediately."""
        self.closed = 0
        """Connections that a bound has closed."""
        self.requested_at: float | None = None
        """When the head of the last request was read, by the loop's clock; None before the first."""
        self._peers: dict[str, _Peer] = {}
        self._connections: set[_Connection] = set()
        self._waiting: OrderedDict[_Connection, None] = OrderedDict()
        """Connections without a request under way; the one that waits longest is first."""
        self._by_protocol: dict[asyncio.Protocol, _Connection] = {}
        self._heads = self._bodies = 0
        self._runner: web.BaseRunner | None = None
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The TCP port, once the listener is open."""
        assert self._server is not None  # noqa: S101 - open() has run
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of heads, of pipelined requests and of bodies that are not handled yet."""
        return self._heads + self._bodies

    def build_app_runner(self, app: web.Application, **options: Any) -> web.AppRunner:
        """Return the HTTP server of an application, not started.

        Args:
            app: Its middlewares get one more, the outermost.
            options: More options of `web.AppRunner`.
        """

        @web.middleware
        async def track(request: web.Request, handler: _Handler) -> web.StreamResponse:
            with self._track(request):
                return await handler(request)

        app.middlewares.insert(0, track)
        self._runner = web.AppRunner(app, **self._options(options))
        return self._runner

    def build_server_runner(self, handler: _BaseHandler, **options: Any) -> web.ServerRunner:
        """Return an HTTP server that calls one handler for all requests, not started.

        Args:
            handler: Answers a request.
            options: More options of `web.ServerRunner` and `web.Server`.
        """

        async def track(request: web.BaseRequest) -> web.StreamResponse:
            with self._track(request):
                return await handler(request)

        shutdown = options.pop("shutdown_timeout", 0.1)
        self._runner = web.ServerRunner(web.Server(track, **self._options(options)), shutdown_timeout=shutdown)
        return self._runner

    async def open(self, address: str | None, port: int) -> None:
        """Start the HTTP server that was built, and listen.

        Args:
            address: An address of this machine; None for all of them.
            port: The TCP port; 0 takes a free one.
        """
        assert self._runner is not None  # noqa: S101 - one of the two methods above has run
        await self._runner.setup()
        build = cast("Callable[[], asyncio.Protocol]", lambda: _Connection(self))
        self._server = await asyncio.get_running_loop().create_server(build, address, port, backlog=_BACKLOG)

    async def close(self) -> None:
        """Stop to listen, and close every connection; requests under way have the runner's time to end."""
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()
        for connection in list(self._connections):
            connection.transport.abort()  # those without a byte, which the HTTP stack does not know
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def read_body(self, request: web.BaseRequest, max_bytes: int | None) -> bytearray:
        """Return a request's body; see the function `read_body`."""
        bounds, body, content = self.bounds, bytearray(), request.content
        most = max_bytes or bounds.body_bytes
        if (request.content_length or 0) > most:
            raise _too_large(most)
        self._take(request, body, content.read_nowait(), most)
        if content.at_eof():  # most bodies come whole, with their head
            return body
        try:
            async with asyncio.timeout(bounds.body_seconds):
                while chunk := await content.readany():
                    self._take(request, body, chunk, most)
        except TimeoutError:
            raise BodyRefused(408, f"not complete after {bounds.body_seconds:g} s") from None
        return body

    def _take(self, request: web.BaseRequest, body: bytearray, chunk: bytes, most: int) -> None:
        """Add a chunk to a body and count it.

        Raises:
            BodyRefused: The body is too large, or all bodies together are.
        """
        body += chunk
        if len(body) > most:
            raise _too_large(most)
        if self._bodies + len(chunk) > self.bounds.bytes_in_flight:
            raise BodyRefused(503, f"one too many: {self._bodies} bytes of bodies are under way")
        self._bodies += len(chunk)
        request[_HELD] = request.get(_HELD, 0) + len(chunk)

    def release_body(self, request: web.BaseRequest) -> None:
        """Count the bytes of a body no longer; see the function `release_body`."""
        self._bodies -= request.get(_HELD, 0)
        request[_HELD] = 0

    def extend(self, request: web.BaseRequest, seconds: float) -> None:
        """Give a request more time; see the function `extend`."""
        if connection := self._by_protocol.get(cast("asyncio.Protocol", request.protocol)):
            connection.since += seconds

    # What connections call

    def admit(self, connection: _Connection) -> None:
        """Count a new connection; close another one, or this one, where there are too many."""
        bounds = self.bounds
        peer = self._peers.setdefault(connection.peer, _Peer())
        connection.since = asyncio.get_running_loop().time()
        self._connections.add(connection)
        peer.connections += 1
        if peer.connections > bounds.connections_per_peer:
            self._cut(next(iter(peer.waiting), connection))
        elif len(self._connections) > bounds.connections:
            self._cut(next(iter(self._waiting), connection))
        if not connection.transport.is_closing():
            self._wait(connection, _State.HEAD)
        self._keep_sweeping()

    def count(self, connection: _Connection, size: int) -> bool:
        """Count bytes that a connection has brought; return False if it was closed.

        Where all of them are too many, the connection with most of them is closed.
        """
        if connection.state is _State.IDLE:
            self._wait(connection, _State.HEAD)
        connection.pending += size
        self._heads += size
        if connection.pending > self.bounds.head_bytes + self.portion:
            self._cut(connection)
        while self._heads > self.bounds.head_bytes_in_flight:
            self._cut(max(self._connections, key=lambda one: one.head + one.pending))
        return not connection.transport.is_closing()

    def discount(self, connection: _Connection) -> None:
        """Count the bytes of a connection no longer: they were part of a body."""
        self._heads -= connection.pending
        connection.pending = 0

    def _count_head(self, connection: _Connection, request: web.BaseRequest) -> None:
        """Divide the bytes that a connection has brought into the head of this request and what came after it."""
        head = sum(len(name) + len(value) + _FIELD_SIGNS for name, value in request.raw_headers)
        rest = connection.pending - head - request.content.total_bytes
        connection.head = head
        self._heads += head
        self.discount(connection)
        if rest > self.portion:  # less is the request line, signs between chunks, or spaces
            connection.pending = rest
            self._heads += rest

    def build_http(self, connection: _Connection) -> asyncio.Protocol:
        """Return the HTTP stack's protocol for a connection."""
        assert self._runner is not None  # noqa: S101 - no connection before open()
        server = cast("web.Server", self._runner.server)
        # As `web.Server` builds its protocol, which has no option for the class.
        protocol = HeadChecks(
            server,
            bounds=self.bounds,
            refuse_head=self._refuse_head,
            on_refused=partial(self._drop_rest, connection),
            loop=asyncio.get_running_loop(),
            **server._kwargs,  # noqa: SLF001
        )
        self._by_protocol[protocol] = connection
        return protocol

    def _drop_rest(self, connection: _Connection) -> None:
        """Drop what still comes of a connection whose head is refused, within bounds, until its client closes it."""
        self.discount(connection)
        connection.dropped = 0

    def forget(self, connection: _Connection) -> None:
        """Discount a connection that is gone."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._heads -= connection.head + connection.pending
        connection.head = connection.pending = 0
        self._stop_waiting(connection)
        if connection.http is not None:
            del self._by_protocol[connection.http]
        peer = self._peers[connection.peer]
        peer.connections -= 1
        if not peer.connections:
            del self._peers[connection.peer]

    @contextmanager
    def _track(self, request: web.BaseRequest) -> Iterator[None]:
        """Note that a request is under way."""
        connection = self._by_protocol.get(cast("asyncio.Protocol", request.protocol))
        self.requested_at = asyncio.get_running_loop().time()
        if connection is not None:
            self._stop_waiting(connection)
            self._count_head(connection, request)
            connection.body = request.content
            connection.state, connection.since = _State.REQUEST, self.requested_at
        request[_LISTENER] = self
        try:
            yield
        finally:
            self._bodies -= request.get(_HELD, 0)
            if connection is not None and connection in self._connections:
                self._heads -= connection.head
                connection.head = 0
                self._wait(connection, _State.IDLE if request.content.is_eof() else _State.DRAIN)

    def _wait(self, connection: _Connection, state: _State) -> None:
        connection.state, connection.since = state, asyncio.get_running_loop().time()
        for waiting in (self._waiting, self._peers[connection.peer].waiting):
            waiting[connection] = None
            waiting.move_to_end(connection)

    def _stop_waiting(self, connection: _Connection) -> None:
        self._waiting.pop(connection, None)
        self._peers[connection.peer].waiting.pop(connection, None)

    def _cut(self, connection: _Connection) -> None:
        self.closed += 1
        connection.transport.abort()
        connection.connection_lost(None)  # now: until the loop's next turn others may bring as much

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of aiohttp that hold a bound themselves, and those of the caller."""
        bounds = self.bounds
        return {
            "access_log": None,
            "auto_decompress": False,  # no peer of ours compresses a body
            "logger": _LOGGER,
            "max_headers": bounds.fields,
            "max_line_size": bounds.field_bytes,
            "max_field_size": bounds.field_bytes,
            "read_bufsize": self.portion,
            **options,
        }

    def _keep_sweeping(self) -> None:
        if self._sweeping is None and self._connections:
            bounds = self.bounds
            shortest = min(bounds.head_seconds, bounds.idle_seconds, bounds.request_seconds or bounds.idle_seconds)
            self._sweeping = asyncio.get_running_loop().call_later(shortest / _SWEEPS, self._sweep)

    def _sweep(self) -> None:
        """Close the connections whose time is over."""
        self._sweeping = None
        now, bounds = asyncio.get_running_loop().time(), self.bounds
        seconds = {
            _State.HEAD: bounds.head_seconds,
            _State.IDLE: bounds.idle_seconds,
            _State.REQUEST: bounds.request_seconds,
            _State.DRAIN: bounds.head_seconds,
        }
        for connection in list(self._connections):
            # A response that its client does not read is part of its request.
            is_writing = connection.transport.get_write_buffer_size() > 0
            most = seconds[_State.REQUEST if is_writing else connection.state]
            if most is not None and now - connection.since > most:
                self._cut(connection)
        self._keep_sweeping()


_HELD: Final = web.RequestKey("interlock_bytes_in_flight", int)
"""Key of a request for the bytes of its body that count."""
_LISTENER: Final = web.RequestKey("interlock_listener", BoundedListener)
"""Key of a request for its listener."""


async def read_body(request: web.BaseRequest, *, max_bytes: int | None = None) -> bytearray:
    """Return the body of a bounded listener's request. Its bytes count until the request is answered.

    Args:
        request: The request.
        max_bytes: Largest body, where it is not that of the listener's row.

    Raises:
        BodyRefused: The body is too large or too slow, or all bodies together are too large.
    """
    return await request[_LISTENER].read_body(request, max_bytes)


def release_body(request: web.BaseRequest) -> None:
    """Count the bytes of a request's body no longer: they are no longer kept."""
    request[_LISTENER].release_body(request)


def extend(request: web.BaseRequest, seconds: float) -> None:
    """Give a request of a bounded listener more time. The caller bounds how many requests have more.

    Args:
        request: A request under way.
        seconds: What is added to the seconds of the listener's row.
    """
    request[_LISTENER].extend(request, seconds)
