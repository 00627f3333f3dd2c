"""A guard under load that a hostile agent or a hostile MCP server makes: it sees a kill, and fits its memory limit."""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from interlock_contract.bundle import BundleResource, dump_bundle, parse_bundle
from interlock_contract.clock import utc_now
from interlock_guard.wire.large_messages import MAX_REQUEST_NODES
from tests.integration.guard.conftest import TOOLS
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import (
    HEADERS,
    MCP_PATH,
    SCRIPTED,
    SOURCE,
    Answer,
    Bench,
    Client,
    Guard,
    StdioServer,
    a_bundle,
)
from tests.requirements import requirement
from tests.support.bounds import check_promise, limit, until
from tests.support.operator_process import queued_seconds

MEMORY_LIMIT = 128
"""MiB of the guard's container, as the operator sets it."""
BODY = 4 * 1024 * 1024 - 400
BODIES = 6
READS = 40
ROUNDS = 4
KILL_SECONDS = 0.1
ANSWER_SECONDS = 0.02
SESSIONS = 200
TALKING = Path(__file__).parent / "programs" / "talking_server.py"
MONSTER = Path(__file__).parent / "programs" / "monster_server.py"

ITEMS = {
    "integers": "1",
    "numbers": "9e-9",
    "lists": "[]",
    "objects": "{}",
    "lists of numbers": "[1e1]",
    "objects of numbers": '{"":1e1}',
    "escapes": '"\\u0041"',
    "long integers": "9" * 4300,
}


def a_call(tool: str, item: str, number: int, *, count: int | None = None) -> bytes:
    """Return a call whose arguments are a list of so many items, filled up with text to the largest body."""
    count = BODY // (len(item) + 1) if count is None else count
    items = ",".join([item] * count)
    start = f'{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"{tool}","arguments":{{'
    body = f'{start}"region":"eu","x":[{items}]'
    text = "a" * (BODY - len(body))
    return f'{body},"text":"{text}"}}}}}}'.encode()


def a_read(number: int) -> bytes:
    params = {"uri": f"crm://contacts/{number}"}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "resources/read", "params": params}).encode()


def a_readable_bundle() -> str:
    bundle = parse_bundle(a_bundle(TOOLS))
    source = replace(bundle.sources[0], resources=(BundleResource("crm://contacts/*", "read", "contacts"),))
    return dump_bundle(replace(bundle, sources=(source,)))


class Shot:
    """A request that is on its way to the guard except for its last byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, last: bytes) -> None:
        self._reader, self._writer, self._last = reader, writer, last

    @classmethod
    async def load(cls, guard: Guard, body: bytes) -> "Shot":
        reader, writer = await asyncio.open_connection("127.0.0.1", guard.port)
        head = [f"POST {MCP_PATH} HTTP/1.1", f"Host: 127.0.0.1:{guard.port}", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in HEADERS.items()]
        writer.write("\r\n".join([*head, "", ""]).encode() + body[:-1])
        # Not drained: the guard reads one such body at a time, and the others would wait here for their refusal.
        return cls(reader, writer, body[-1:])

    def fire(self) -> None:
        self._writer.write(self._last)

    async def answer(self) -> bytes:
        """Return the beginning of the answer; empty where the connection was cut."""
        try:
            return await self._reader.read(4096)
        except ConnectionError:
            return b""
        finally:
            self._writer.close()


@pytest.fixture
async def guard(api: FakeApiServer, tmp_path: Path) -> AsyncIterator[Guard]:
    """A guard that was started from nothing, as in a pod: its memory is its own."""
    api.set_bundle(a_readable_bundle())
    process = Guard(api, tmp_path, is_forked=False)
    await process.start()
    yield process
    await process.stop()


async def is_killed(guard: Guard) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{guard.port}/ready") as response:
        return response.status == 503 and "Killed" in await response.text()


async def refusal_seconds(guard: Guard) -> float:
    """Kill the agent; return how long the guard took to say so, without the time in which it waited for a processor."""
    assert isinstance(guard.api, FakeApiServer)
    assert guard.process is not None
    pids = guard.process.pid, os.getpid()
    guard.api.kill("INC-1")
    killed, queued = time.monotonic(), sum(map(queued_seconds, pids))
    await until(lambda: is_killed(guard), "the guard answers that its agent is killed")
    return time.monotonic() - killed - (sum(map(queued_seconds, pids)) - queued)


def check_memory(guard: Guard) -> None:
    peak = guard.peak_memory()
    assert peak <= MEMORY_LIMIT, f"{peak} MiB"


@requirement("guard.load")
@pytest.mark.parametrize("tool", ["echo", "no_such_tool"])
async def test_nothing_is_forwarded_long_after_a_kill_while_large_bodies_of_numbers_come_in(
    bench: Bench, tool: str
) -> None:
    last_forwards = []
    for turn in range(ROUNDS):
        # As many values as a message may have, so that nothing is refused for its size.
        bodies = [a_call(tool, "9e-9", number, count=MAX_REQUEST_NODES - 100) for number in range(BODIES)]
        big = await asyncio.gather(*(Shot.load(bench.guard, body) for body in bodies))
        small = await asyncio.gather(*(Shot.load(bench.guard, a_read(1000 * turn + n)) for n in range(READS)))
        await asyncio.sleep(0.3)  # the guard reads as much of the bodies as it has room for
        for shot in [*big, *small[: READS // 2]]:
            shot.fire()
        await asyncio.sleep(0.05 * turn)
        bench.api.kill("INC-1")
        killed = utc_now().timestamp()
        for shot in small[READS // 2 :]:
            shot.fire()
        await until(lambda: is_killed(bench.guard), "the guard answers that its agent is killed")
        async with limit(30, "the requests are answered"):
            await asyncio.gather(*(shot.answer() for shot in [*big, *small]))
        reads = [entry["at"] - killed for entry in bench.executed() if "read" in entry]
        last_forwards.append(max([0.0, *reads]))
        bench.api.set_agent(annotations={"interlock.dev/kill-switch": "off"})
        await until(lambda: bench.guard.probe("/readyz"), "the guard is open again")
        await bench.server.wait()  # it ended with its input
        await bench.server.start()
        await bench.guard.source_ready()
        bench.executed_file.unlink(missing_ok=True)
    check_memory(bench.guard)
    check_promise(max(last_forwards), KILL_SECONDS, f"from a kill to the last forward, with 6 bodies for {tool}")


@requirement("guard.load")
@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS.keys())
async def test_a_body_of_many_values_is_refused_by_name_and_fits_the_memory(bench: Bench, item: str) -> None:
    answer = await bench.client.post(a_call("echo", item, 1))
    assert answer.status == 400
    text = answer.body["error"]["message"]
    assert f"more than {MAX_REQUEST_NODES} values and keys" in text or ("not JSON" in text and len(item) > 640)
    assert bench.executed() == []
    check_memory(bench.guard)


@requirement("guard.load")
async def test_bodies_of_the_largest_size_at_once_are_each_served_or_refused_by_name(bench: Bench) -> None:
    async with limit(60, "all are answered"):
        answers: list[Answer] = await asyncio.gather(
            *(bench.client.post(a_call("echo", "1", number, count=30_000)) for number in range(12))
        )
    for answer in answers:
        told = json.dumps(answer.body["error"]["data"]) if "error" in answer.body else ""
        assert not told or "no room in memory" in told or "bytes of bodies are under way" in told
    assert any("result" in answer.body for answer in answers)
    check_memory(bench.guard)


@requirement("guard.load")
@pytest.mark.parametrize("count", [2, *(pytest.param(count, marks=pytest.mark.nightly) for count in (1, 4))])
async def test_results_of_the_largest_size_at_once_are_each_served_or_refused_by_name(bench: Bench, count: int) -> None:
    size = 16 * 1024 * 1024 - 4096
    async with limit(60, "all are answered"):
        answers = await asyncio.gather(*(bench.client.call("large", bytes=size) for _ in range(count)))
    lengths = [len(answer.text) for answer in answers if answer.reason is None]
    assert lengths
    assert set(lengths) == {size}
    assert all("no room in memory" in answer.text for answer in answers if answer.reason is not None)
    check_memory(bench.guard)


@requirement("guard.load")
@pytest.mark.parametrize(
    ("item", "size", "refusal"),
    [
        ("9e-9", 15 * 1024 * 1024, "more than 131072 values and keys"),
        ('"%s"' % ("a" * 1000), 15 * 1024 * 1024, "its list has more than 4194304 bytes"),
    ],
)
async def test_a_servers_huge_list_is_refused_by_name_and_holds_nothing_up(
    guard: Guard, item: str, size: int, refusal: str
) -> None:
    await guard.started()
    server = StdioServer(guard.pipes / SOURCE, [sys.executable, str(MONSTER), item, str(size)])
    await server.start()
    try:
        await until(lambda: guard.log().count(refusal) > 2, lambda: f"the list is refused: {guard.log()[-2000:]}")
        slowest = 0.0
        for _ in range(40):
            since = time.monotonic()
            assert await guard.probe("/healthz")
            slowest = max(slowest, time.monotonic() - since)
            await asyncio.sleep(0.05)
        check_promise(await refusal_seconds(guard), 1.0, "from a kill to the guard's refusal, with a huge list")
    finally:
        await server.kill()
    check_promise(slowest, 0.5, "slowest probe while a server lists 15 MiB again and again")
    check_memory(guard)


@requirement("guard.load")
async def test_messages_for_sessions_that_read_none_fit_the_memory(guard: Guard) -> None:
    await guard.started()
    server = StdioServer(guard.pipes / SOURCE, [sys.executable, str(TALKING)])
    await server.start()
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    try:
        await guard.source_ready()
        async with aiohttp.ClientSession() as session:
            client = Client(session, guard.url)
            opened = [await client.request("initialize", params) for _ in range(SESSIONS)]
            stream = {"Mcp-Session-Id": opened[-1].headers["Mcp-Session-Id"], "Accept": "text/event-stream"}
            async with limit(60, "the messages are sent"), session.get(guard.url, headers=stream) as events:
                for _ in range(4):
                    assert len(await events.content.readexactly(1024 * 1024)) > 0
            assert (await client.call("echo", region="eu")).reason is None
        check_memory(guard)
    finally:
        await server.kill()


@requirement("guard.load")
@pytest.mark.parametrize("flood", ["short", "garbage", "halves"])
async def test_a_flood_of_messages_for_many_sessions_holds_up_no_kill(guard: Guard, flood: str) -> None:
    await guard.started()
    server = StdioServer(guard.pipes / SOURCE, [sys.executable, str(TALKING), flood])
    await server.start()
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    try:
        await guard.source_ready()
        async with aiohttp.ClientSession() as session:
            client, seconds = Client(session, guard.url), list[float]()
            for _ in range(SESSIONS + 50):
                asked = time.monotonic()
                await client.request("initialize", params)
                seconds.append(time.monotonic() - asked)
        check_promise(
            statistics.median(seconds[-50:]),
            ANSWER_SECONDS,
            f"median answer of the guard in a flood of lines ({flood})",
        )
        what = f"from a kill to the guard's refusal, in a flood of lines ({flood})"
        check_promise(await refusal_seconds(guard), KILL_SECONDS, what)
    finally:
        await server.kill()


@requirement("guard.load")
async def test_a_reader_of_standard_output_that_stops_holds_up_no_kill(api: FakeApiServer, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    guard = Guard(api, tmp_path, output=writing)
    await guard.start()
    await guard.started()
    server = StdioServer(guard.pipes / SOURCE, [sys.executable, str(SCRIPTED), str(tmp_path / "executed")])
    await server.start()
    try:
        await guard.source_ready()
        async with aiohttp.ClientSession() as session:
            client = Client(session, guard.url)

            async def is_refused() -> bool:
                answers = await asyncio.gather(*(client.call("echo", region="eu") for _ in range(50)))
                return any(answer.reason == "AuditUnavailable" for answer in answers)

            await until(is_refused, "a call is refused, since its record cannot be written")
            check_promise(
                await refusal_seconds(guard), 1.0, "from a kill to the guard's refusal, with no reader of stdout"
            )
    finally:
        await server.kill()
        await guard.stop()
        os.close(reading)
        os.close(writing)
