"""Every row of the table of listeners, enforced over sockets: small numbers stand in for those of the row."""

import asyncio
import gzip
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path

import pytest
from aiohttp import web

from interlock_contract.listeners import LISTENERS, Bounds, ListenerName
from interlock_http.listener import BodyRefused, BoundedListener, extend, read_body
from tests.requirements import requirement
from tests.support.bounds import limit, until

OPERATOR = Path(__file__).parents[3] / "operator"
ROWS = pytest.mark.parametrize("name", LISTENERS)
GET = b"GET /fast HTTP/1.1\r\nHost: a\r\n\r\n"
LONG = 60.0
"""Seconds that no test waits for."""
SOON = 0.2
PEERS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")

Open = Callable[..., Awaitable["Peer"]]


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: bytes = GET) -> int | None:
        """Send a request; return the status, None where the connection was closed instead."""
        with suppress(ConnectionError):
            self.writer.write(request)
            await self.writer.drain()
            return await self.status()
        return None

    async def status(self) -> int | None:
        async with limit(20, "the listener answers or closes"):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (ConnectionError, asyncio.IncompleteReadError):
                return None
            await self.reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            return int(head.split()[1])

    async def closed(self) -> None:
        """Wait until the listener closes the connection."""
        async with limit(20, "the listener answers or closes"):
            with suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def is_open(self) -> bool:
        return not self.reader.at_eof() and self.reader.exception() is None


class Served:
    def __init__(self, listener: BoundedListener) -> None:
        self.listener = listener
        self.go_on = asyncio.Event()
        self.under_way = 0
        self._opened: list[Peer] = []

    async def open(self, peer: str = PEERS[0]) -> Peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port, local_addr=(peer, 0))
        found = Peer(reader, writer)
        self._opened.append(found)
        return found

    async def hold(self, peer: str = PEERS[0], path: str = "slow") -> Peer:
        """Return a connection with a request under way."""
        found, before = await self.open(peer), self.under_way
        found.send(f"GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await until(lambda: self.under_way > before, "the listener has seen it")
        return found

    async def fast(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def slow(self, _: web.Request) -> web.Response:
        self.under_way += 1
        await self.go_on.wait()
        return web.Response(text="ok")

    async def long(self, http: web.Request) -> web.Response:
        extend(http, LONG)
        return await self.slow(http)

    async def limits(self, http: web.Request) -> web.Response:
        assert http.transport is not None
        return web.Response(status=200 if http.transport.get_write_buffer_limits()[1] <= 8192 else 500)

    async def broken(self, _: web.Request) -> web.Response:
        self.under_way += 1
        await self.go_on.wait()
        raise web.RequestPayloadError("400, message: the sender's fault")

    async def flood(self, http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)
        while True:
            await response.write(bytes(1024 * 1024))

    async def burst(self, http: web.Request) -> web.StreamResponse:
        """Return while most of the response waits in the connection."""
        response = web.StreamResponse()
        await response.prepare(http)
        assert http.transport is not None
        http.transport.write(bytes(32 * 1024 * 1024))
        return response

    async def read(self, http: web.Request) -> web.Response:
        try:
            body = await read_body(http)
        except BodyRefused as refusal:
            return web.Response(status=refusal.status, text=str(refusal))
        if http.query.get("wait"):
            self.under_way += 1
            await self.go_on.wait()
        return web.Response(text=str(len(body)))

    def close(self) -> None:
        self.go_on.set()
        for peer in self._opened:
            peer.writer.transport.abort()


@asynccontextmanager
async def served(bounds: Bounds) -> AsyncIterator[Served]:
    listener = BoundedListener(bounds)
    found = Served(listener)
    app = web.Application()
    app.router.add_route("*", "/fast", found.fast)
    app.router.add_get("/limits", found.limits)
    app.router.add_route("*", "/slow", found.slow)
    app.router.add_get("/long", found.long)
    app.router.add_post("/broken", found.broken)
    app.router.add_get("/flood", found.flood)
    app.router.add_get("/burst", found.burst)
    app.router.add_post("/read", found.read)
    listener.build_app_runner(app, shutdown_timeout=0.05)
    await listener.open("127.0.0.1", 0)
    try:
        yield found
    finally:
        found.close()
        await listener.close()


def small(name: ListenerName, **changes: float) -> Bounds:
    """Return a row with numbers that a test reaches; its times are out of reach unless a test changes them."""
    row = LISTENERS[name]
    numbers = {
        "connections": 9,
        "connections_per_peer": 4,
        "head_seconds": LONG,
        "idle_seconds": LONG,
        "request_seconds": None if row.request_seconds is None else LONG,
        "head_bytes_in_flight": 20_000,
        "body_bytes": 1000,
        "bytes_in_flight": 20_000,
    }
    return replace(row, **{**numbers, **changes})  # type: ignore[arg-type]


@requirement("listeners.bounded")
@ROWS
async def test_one_peer_holds_no_more_connections_than_its_share(name: ListenerName) -> None:
    async with served(small(name)) as found:
        held = [await found.hold() for _ in range(4)]

        assert await (await found.open()).ask() is None
        assert all(one.is_open() for one in held)
        assert await (await found.open(PEERS[1])).ask() == 200


@requirement("listeners.bounded")
@ROWS
async def test_all_peers_together_hold_no_more_connections_than_the_bound(name: ListenerName) -> None:
    async with served(small(name)) as found:
        held = [await found.hold(peer) for peer in PEERS[:3] for _ in range(3)]

        assert await (await found.open(PEERS[3])).ask() is None
        assert found.listener.connections == 9
        assert all(one.is_open() for one in held)


@requirement("listeners.probed-under-flood")
@ROWS
async def test_a_connection_that_waits_longest_makes_room_for_a_new_one(name: ListenerName) -> None:
    async with served(small(name)) as found:
        oldest = await found.open(PEERS[0])
        await until(lambda: found.listener.connections == 1, "the listener has seen it")
        idle = [await found.open(peer) for peer in PEERS[1:3] for _ in range(4)]
        await until(lambda: found.listener.connections == 9, "the listener has seen it")

        new = await found.open(PEERS[3])

        assert await new.ask() == 200
        await oldest.closed()
        assert all(one.is_open() for one in idle)
        assert found.listener.connections == 9


@requirement("listeners.probed-under-flood")
@ROWS
async def test_a_flood_of_idle_connections_of_one_peer_leaves_room_for_itself_and_for_others(
    name: ListenerName,
) -> None:
    async with served(small(name)) as found:
        for count in range(100):
            await found.open()
            if count % 10 == 0:
                assert await (await found.open(PEERS[1])).ask() == 200
                assert await (await found.open()).ask() == 200
            assert found.listener.connections <= 9


@requirement("listeners.bounded")
@ROWS
@pytest.mark.parametrize("start", [b"", b"GET /fast HTTP/1.1\r\nHost: a\r\nX-Half: "])
async def test_a_head_that_does_not_end_is_cut(name: ListenerName, start: bytes) -> None:
    async with served(small(name, head_seconds=SOON)) as found:
        peer = await found.open()
        peer.send(start)

        await peer.closed()
        await until(lambda: found.listener.connections == 0, "the listener has seen it")
        assert found.listener.bytes_in_flight == 0


@requirement("listeners.bounded")
@ROWS
async def test_a_head_that_trickles_is_cut(name: ListenerName) -> None:
    async with served(small(name, head_seconds=SOON)) as found:
        peer = await found.open()
        assert await peer.ask() == 200
        async with limit(20, "the listener answers or closes"):
            while peer.is_open():
                peer.send(b"G")
                await asyncio.sleep(SOON / 10)


@requirement("listeners.bounded")
@ROWS
async def test_an_idle_connection_is_closed(name: ListenerName) -> None:
    async with served(small(name, idle_seconds=SOON)) as found:
        peer = await found.open()
        assert await peer.ask() == 200

        await peer.closed()
        assert found.listener.closed == 1


@requirement("listeners.bounded")
@ROWS
async def test_a_request_ends_in_time_where_the_row_says_so(name: ListenerName) -> None:
    bounds = small(name) if LISTENERS[name].request_seconds is None else small(name, request_seconds=SOON)
    async with served(bounds) as found:
        peer = await found.hold()
        if bounds.request_seconds is not None:
            await peer.closed()
            return
        found.go_on.set()
        assert await peer.status() == 200


async def test_a_request_may_be_given_more_time() -> None:
    async with served(small(ListenerName.OBSERVE, request_seconds=SOON)) as found:
        extended, other = await found.hold(path="long"), await found.hold(PEERS[1])
        await other.closed()
        await asyncio.sleep(3 * SOON)  # in which the listener has closed all that it would close
        assert extended.is_open()
        found.go_on.set()
        assert await extended.status() == 200
        assert await extended.ask() == 200, "the time of the next request is that of the row"


@requirement("listeners.bounded")
@pytest.mark.parametrize("path", ["flood", "burst"])
async def test_a_response_that_its_client_does_not_read_is_part_of_its_request(path: str) -> None:
    async with served(small(ListenerName.TELEMETRY, request_seconds=SOON)) as found:
        slow = socket.create_connection(("127.0.0.1", found.listener.port))
        slow.sendall(f"GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await until(lambda: found.listener.connections == 1, "the listener has seen it")

        await until(lambda: found.listener.connections == 0, "the listener has seen it")
        slow.close()


@requirement("listeners.bounded")
@ROWS
async def test_a_body_is_read_up_to_the_bound(name: ListenerName) -> None:
    async with served(small(name)) as found:
        peer = await found.open()

        assert await peer.ask(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)) == 200
        assert found.listener.bytes_in_flight == 0
        assert await peer.ask(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n" + bytes(1001)) == 413
        chunked = b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert await (await found.open()).ask(chunked + b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n") == 413


@requirement("listeners.bounded")
@ROWS
async def test_a_body_that_does_not_come_is_given_up(name: ListenerName) -> None:
    async with served(small(name, body_seconds=SOON)) as found:
        peer = await found.open()

        assert await peer.ask(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234") == 408
        assert found.listener.bytes_in_flight == 0


@requirement("listeners.bounded")
@ROWS
async def test_bodies_under_way_are_bounded_together(name: ListenerName) -> None:
    async with served(small(name, bytes_in_flight=2500)) as found:
        post = b"POST /read?wait=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)
        held = [await found.open() for _ in range(2)]
        for peer in held:
            peer.send(post)
        await until(lambda: found.under_way == 2, "the listener has seen it")

        assert await (await found.open()).ask(post) == 503
        assert await (await found.open(PEERS[1])).ask() == 200  # a request without a body needs no room
        found.go_on.set()
        assert [await peer.status() for peer in held] == [200, 200]
        assert await (await found.open()).ask(post) == 200


@requirement("listeners.bounded")
@ROWS
async def test_incomplete_heads_are_bounded_together_and_the_longest_goes_first(name: ListenerName) -> None:
    async with served(small(name, connections=99, connections_per_peer=99)) as found:
        start = b"GET /fast HTTP/1.1\r\nHost: a\r\nX: "
        short = await found.open()
        short.send(start)
        long = [await found.open() for _ in range(6)]
        for peer in long:
            peer.send(start + b"x" * 4000)

        await until(lambda: found.listener.closed > 0, "the listener has seen it")
        assert found.listener.bytes_in_flight <= 20_000
        assert await short.ask(b"y\r\n\r\n") == 200


@requirement("listeners.bounded")
@ROWS
@pytest.mark.parametrize("kind", ["fields", "field"])
async def test_a_head_with_too_many_or_too_long_fields_is_refused(name: ListenerName, kind: str) -> None:
    bounds = small(name, head_bytes_in_flight=4_000_000)
    async with served(bounds) as found:
        many = b"".join(b"X-%d: 1\r\n" % number for number in range(bounds.fields + 1))
        long = b"X: " + b"x" * (bounds.field_bytes + 1) + b"\r\n"
        head = b"GET /fast HTTP/1.1\r\nHost: a\r\n" + (many if kind == "fields" else long) + b"\r\n"

        assert await (await found.open()).ask(head) in {400, 431}


@requirement("listeners.bounded")
@ROWS
@pytest.mark.parametrize("ends", ["by its bytes", "in time"])
async def test_what_follows_a_refused_head_is_dropped_within_bounds(name: ListenerName, ends: str) -> None:
    """The client reads the answer, though it has sent more than the listener took."""
    seconds = {"head_seconds": SOON * 5} if ends == "in time" else {}
    async with served(small(name, head_bytes_in_flight=4_000_000, **seconds)) as found:
        head = b"GET /fast HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (found.listener.bounds.field_bytes + 1)
        peer = await found.open()
        assert await peer.ask(head + b"y" * 20_000) == 431
        assert found.listener.bytes_in_flight == 0
        if ends == "by its bytes":
            peer.send(b"y" * 4_000_000)
        await peer.closed()
        await until(lambda: found.listener.connections == 0, "the connection is gone")


@requirement("listeners.bounded")
@ROWS
async def test_a_head_of_the_largest_size_passes_and_a_larger_one_is_cut(name: ListenerName) -> None:
    bounds = small(name, head_bytes_in_flight=4_000_000)
    async with served(bounds) as found:
        field = b"X: " + b"x" * max(1000, bounds.head_bytes // 40) + b"\r\n"  # not too many of them
        start = b"GET /fast HTTP/1.1\r\nHost: a\r\n"
        largest = start + field * ((bounds.head_bytes - len(start)) // len(field)) + b"\r\n"
        assert await (await found.open()).ask(largest) == 200
        body = b"Content-Length: 100000\r\n\r\n" + bytes(100_000)
        assert await (await found.open()).ask(b"POST /fast" + largest[9:-2] + body) == 200

        larger = await found.open()
        larger.send(start + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 3000) for n in range(bounds.fields - 2)) + b"\r\n")
        await larger.closed()
        assert found.listener.bytes_in_flight == 0


BEHIND = {
    "pipelined requests": (b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", GET[:-2] + b"X: " + b"x" * 1000 + b"\r\n\r\n"),
    "a pipelined head": (b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + GET[:-2], b"X: " + b"x" * 1000 + b"\r\n"),
    "an upgrade": (b"GET /slow HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", b"x" * 1000),
    "trailers": (
        b"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
        b"X: " + b"x" * 1000 + b"\r\n",
    ),
    "a chunk's extension": (
        b"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"x" * 1000,
    ),
}


@requirement("listeners.bounded")
@ROWS
@pytest.mark.parametrize("kind", BEHIND)
async def test_what_comes_behind_a_request_under_way_is_not_read_or_cut(name: ListenerName, kind: str) -> None:
    bounds = small(name, head_bytes_in_flight=4_000_000)
    received = 0

    def count(connection: object, size: int) -> bool:
        nonlocal received
        received += size
        return counted(connection, size)  # type: ignore[arg-type]

    async with served(bounds) as found:
        counted, found.listener.count = found.listener.count, count  # type: ignore[method-assign]
        first, more = BEHIND[kind]
        peer = socket.create_connection(("127.0.0.1", found.listener.port))
        peer.setblocking(False)  # noqa: FBT003 - the standard library's
        peer.sendall(first)
        await until(lambda: found.under_way == 1, "the listener has seen it")
        for _ in range(200):
            with suppress(OSError):
                peer.send(more * (8000 // len(more)))
            await asyncio.sleep(0)
        most = 0 if kind == "pipelined requests" else bounds.head_bytes  # whole requests stay with their sender
        assert received <= most + 4 * found.listener.portion
        peer.close()


@requirement("listeners.bounded")
@ROWS
async def test_heads_of_requests_under_way_are_bounded_together(name: ListenerName) -> None:
    async with served(small(name, connections=99, connections_per_peer=99)) as found:
        head = b"GET /slow HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 4000 + b"\r\n\r\n"
        held = [await found.open() for _ in range(4)]
        for peer in held:
            peer.send(head)
        await until(lambda: found.under_way == 4, "the listener has seen it")
        assert 16_000 < found.listener.bytes_in_flight <= 20_000

        held.append(await found.open())
        held[-1].send(head)
        await until(lambda: found.listener.closed == 1, "the listener has seen it")
        assert await (await found.open()).ask() == 200
        found.go_on.set()
        assert Counter([await peer.status() for peer in held]) == {200: 4, None: 1}
        assert found.listener.bytes_in_flight == 0


@requirement("listeners.bounded")
@ROWS
async def test_little_of_a_response_waits_for_a_client_that_does_not_read(name: ListenerName) -> None:
    async with served(small(name)) as found:
        assert await (await found.open()).ask(GET.replace(b"fast", b"limits")) == 200


@requirement("listeners.bounded")
@ROWS
async def test_a_body_that_is_not_read_waits_with_its_sender(name: ListenerName) -> None:
    async with served(small(name)) as found:
        peer = await found.open()
        peer.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n")
        await until(lambda: found.under_way == 1, "the listener has seen it")
        received = 0

        def count(connection: object, size: int) -> bool:
            nonlocal received
            received += size
            return counted(connection, size)  # type: ignore[arg-type]

        counted, found.listener.count = found.listener.count, count  # type: ignore[method-assign]
        for _ in range(90):
            peer.send(bytes(10_000))
            await asyncio.sleep(0)
        await until(lambda: received > found.listener.portion, "a part was received")
        await asyncio.sleep(0)
        assert received <= 4 * found.listener.portion
        found.go_on.set()
        assert await peer.status() == 200
        assert await peer.ask() == 200  # the rest was dropped
        assert received > 900_000


@ROWS
async def test_a_request_that_came_with_the_end_of_a_body_is_answered(name: ListenerName) -> None:
    async with served(small(name)) as found:
        peer = await found.open()
        for length in (b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
            peer.send(b"POST /read?wait=1 HTTP/1.1\r\nHost: a\r\n" + length)
            await until(lambda: found.listener.bytes_in_flight > 0, "the listener has seen it")
            found.go_on.set()
            peer.send((b"123456789" if length.startswith(b"C") else b"9\r\n123456789\r\n0\r\n\r\n") + GET + GET)
            assert [await peer.status() for _ in range(3)] == [200, 200, 200]


@requirement("listeners.bounded")
@ROWS
async def test_a_compressed_body_stays_compressed(name: ListenerName) -> None:
    async with served(small(name)) as found:
        bomb = gzip.compress(bytes(500_000))
        head = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        assert await (await found.open()).ask(head % len(bomb) + bomb) == 200


async def test_a_body_that_breaks_off_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with served(small(ListenerName.OBSERVE)) as found:
        peer = await found.open()
        peer.send(b"POST /broken HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        await until(lambda: found.under_way == 1, "the listener has seen it")
        found.go_on.set()
        assert await peer.status() in {400, 500, None}
    assert caplog.text == ""


async def test_a_refused_body_is_dropped_and_does_not_count() -> None:
    async with served(small(ListenerName.AGENT, body_bytes=10)) as found:
        peer = await found.open()

        head = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n"
        assert await peer.ask(head + bytes(2_000_000)) == 413
        assert await peer.ask() == 200


async def test_closing_ends_connections_without_a_request() -> None:
    listener = BoundedListener(small(ListenerName.OBSERVE))
    listener.build_app_runner(web.Application(), shutdown_timeout=0.05)
    await listener.open("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    await until(lambda: listener.connections == 1, "the connection is accepted")

    await listener.close()

    await Peer(reader, writer).closed()
    writer.close()


def test_rows_hold_what_they_promise() -> None:
    for bounds in LISTENERS.values():
        assert 0 < bounds.connections_per_peer < bounds.connections
        assert bounds.body_bytes <= bounds.bytes_in_flight or bounds is LISTENERS[ListenerName.TASKS]


@requirement("listeners.bounded")
def test_no_program_opens_a_listener_of_its_own() -> None:
    words = ("TCPSite", "SockSite", "create_server(", "start_server(", "make_server(", "HTTPServer(", "run_app(")
    found = {
        str(path.relative_to(OPERATOR))
        for path in OPERATOR.rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in words)
    }

    assert found == {"interlock_http/listener.py"}


LABELS = {
    "connections": "open connections",
    "connections_per_peer": "open connections of one address",
    "head_seconds": "seconds for the head of a request",
    "idle_seconds": "seconds between two requests",
    "request_seconds": "seconds for a request with its response",
    "body_seconds": "seconds for a body that is read whole",
    "fields": "header fields",
    "field_bytes": "bytes of a header field",
    "body_bytes": "bytes of a body",
    "head_bytes": "bytes of a head",
    "head_bytes_in_flight": "bytes of heads in flight",
    "bytes_in_flight": "bytes of bodies in flight",
}


def test_the_page_has_the_numbers_of_the_table() -> None:
    page = (OPERATOR.parent / "docs" / "reference" / "listeners.md").read_text(encoding="utf-8")

    assert "| bound | " + " | ".join(f"`{name}`" for name in LISTENERS) + " |\n" in page
    assert set(LABELS) == {field.name for field in fields(Bounds)}
    for field, label in LABELS.items():
        values = [getattr(bounds, field) for bounds in LISTENERS.values()]
        assert f"| {label} | " + " | ".join("none" if one is None else str(one) for one in values) + " |\n" in page
