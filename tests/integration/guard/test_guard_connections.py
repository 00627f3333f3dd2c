"""Floods of connections to the guard's ports: the real bounds, a real process."""

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from interlock_contract.listeners import LISTENERS, ListenerName
from tests.integration.guard.harness import Bench
from tests.requirements import requirement
from tests.support.bounds import TOLERANCE, limit, until
from tests.support.keys import AGENT_KEY

OPENED = 2000
PEERS = [f"127.0.0.{number}" for number in range(2, 10)]
MOST_MIB = 30


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def resident(bench: Bench) -> int:
    """Return the guard's resident memory, in MiB."""
    assert bench.guard.process is not None
    status = Path(f"/proc/{bench.guard.process.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS"))


async def open_many(port: int, peers: list[str], start: bytes) -> list[socket.socket]:
    held = []
    for number in range(OPENED):
        one = socket.socket()
        one.setblocking(False)  # noqa: FBT003 - the standard library's
        one.bind((peers[number % len(peers)], 0))
        with suppress(ConnectionError):
            async with limit(20, "the guard accepts"):
                await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))
                await asyncio.get_running_loop().sock_sendall(one, start)
        held.append(one)
    return held


def still_open(held: list[socket.socket]) -> int:
    count = 0
    for one in held:
        try:
            count += one.recv(1) != b""
        except BlockingIOError:
            count += 1
        except OSError:
            pass
    return count


@requirement("listeners.bounded", "listeners.probed-under-flood")
@pytest.mark.parametrize("name", [ListenerName.OBSERVE, ListenerName.AGENT, ListenerName.TASKS])
@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nX-Half: " + b"x" * 3000], ids=["idle", "half a head"])
async def test_a_flood_costs_little_and_probes_and_calls_are_answered(
    bench: Bench, name: ListenerName, start: bytes
) -> None:
    guard = bench.guard
    port = {
        ListenerName.OBSERVE: guard.observe_port,
        ListenerName.AGENT: guard.port,
        ListenerName.TASKS: guard.task_port,
    }[name]
    bounds, before = LISTENERS[name], resident(bench)

    held = await open_many(port, PEERS, start)
    try:
        assert await guard.probe("/healthz")
        assert await guard.probe("/readyz")
        assert (await bench.client.call("echo", region="eu")).reason is None

        async def within_bound() -> bool:
            return still_open(held) <= bounds.connections

        await until(within_bound, "the guard holds no more connections than its bound")
        assert resident(bench) - before < MOST_MIB
    finally:
        for one in held:
            one.close()


@requirement("listeners.bounded")
async def test_half_a_request_is_closed_after_the_seconds_of_the_table(bench: Bench) -> None:
    async def send_half(name: ListenerName, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nX-Half:")
        async with limit(TOLERANCE * LISTENERS[name].head_seconds, f"the port of {name} is closed"):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()

    await asyncio.gather(
        send_half(ListenerName.OBSERVE, bench.guard.observe_port), send_half(ListenerName.AGENT, bench.guard.port)
    )


KEYED = f"/{AGENT_KEY}/mcp/crm HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n".encode()
FIELD = b"X: " + b"x" * 4000 + b"\r\n"
CHUNKED = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "large heads": (b"GET /ready HTTP/1.1\r\nHost: a\r\n", FIELD * 25 + b"\r\n"),
    "pipelined requests": (b"", b"GET /x/mcp/crm HTTP/1.1\r\nHost: a\r\n\r\n"),
    "requests behind a stream": (
        b"GET " + KEYED + b"Accept: text/event-stream\r\n\r\n",
        b"GET /ready HTTP/1.1\r\nHost: a\r\n" + FIELD * 6 + b"\r\n",
    ),
    "an upgrade": (
        b"GET " + KEYED + b"Accept: text/event-stream\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        FIELD,
    ),
    "a tunnel": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", FIELD),
    "chunks of one byte": (b"POST " + KEYED + CHUNKED, b"1\r\n \r\n"),
    "a chunk's extension": (b"POST " + KEYED + CHUNKED + b"1;", FIELD[:-2]),
    "trailers": (b"POST " + KEYED + CHUNKED + b"2\r\n{}\r\n0\r\n", FIELD),
}
FLOODING = 300
ROUNDS = 15
"""Each offers the guard 30 MB, as much as its memory may grow by in all."""


@requirement("listeners.bounded")
@pytest.mark.parametrize("flood", FLOODS)
async def test_what_clients_send_and_do_not_read_costs_little_memory(bench: Bench, flood: str) -> None:
    first, more = FLOODS[flood]
    first = first.replace(b"%d", str(bench.guard.port).encode())
    more *= 100_000 // len(more)
    before = bench.guard.peak_memory()
    flooding = [socket.create_connection(("127.0.0.1", bench.guard.port)) for _ in range(FLOODING)]
    try:
        for one in flooding:
            with suppress(ConnectionError):
                one.sendall(first)
            one.setblocking(False)  # noqa: FBT003 - the standard library's
        for _ in range(ROUNDS):
            for one in flooding:
                with suppress(OSError):  # the guard does not read it now, or has closed it
                    one.send(more)
            assert await bench.guard.probe("/healthz")
        assert bench.guard.peak_memory() - before < MOST_MIB
    finally:
        for one in flooding:
            one.close()
