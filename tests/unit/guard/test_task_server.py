"""The way in with a clock of its own: what takes too long, and what has changed while a task waited."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from interlock_contract.audit_chain import GuardId, open_line
from interlock_contract.bundle import AgentIdentity, Bundle, BundleTasks, digest, dump_bundle
from interlock_guard.audit.recorder import Recorder, Writer
from interlock_guard.audit.spool import Position, Spool, SpoolLimits
from interlock_guard.state import LiveState
from interlock_guard.tasks import exchange as task_exchange
from interlock_guard.tasks import inspection
from interlock_guard.tasks.agent_connector import AgentConnector
from interlock_guard.tasks.endpoint import TaskEndpoint
from interlock_guard.work_counter import WorkCounter
from interlock_http.own_pod import OwnPod


@dataclass
class Bench:
    """A way in to an agent that does not answer before it is told to, both in this process."""

    live: LiveState
    endpoint: TaskEndpoint
    spool: Spool
    work: WorkCounter
    port: int
    agent_port: int
    now: float = 0.0
    at_work: int = 0
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    """Lets the agent answer."""
    answer: bytes = b""

    def open(self, most: int = 1) -> None:
        bundle = Bundle(
            4, AgentIdentity("a", "n", "u"), "r", "s", "s", (), (), tasks=BundleTasks(self.agent_port, most)
        )
        text = dump_bundle(bundle)
        self.live.handle_agent({"metadata": {"uid": "u"}, "status": {"bundleDigests": [digest(text)]}})
        self.live.handle_bundle(text)
        self.live.set_unverified_reason("")

    async def send(self, text: bytes) -> tuple[int, Any]:
        """Send a request unchanged; return the status and the body of its answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"Content-Length"))
            return int(head.split()[1]), json.loads(await reader.readexactly(length))
        finally:
            await close(writer)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the condition sends no notification
                await asyncio.sleep(0)

    def records(self) -> list[Any]:
        lines = [open_line(line) for line in self.spool.read(Position(), 2**20)[0].splitlines()]
        return [line.fields for line in lines if line.kind == "task"]


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async def take(_: web.BaseRequest) -> web.Response:
        found.at_work += 1
        await found.go_on.wait()
        return web.Response(body=found.answer)

    agent = web.ServerRunner(web.Server(take, handler_cancellation=True), shutdown_timeout=0.05)
    await agent.setup()
    await web.TCPSite(agent, "127.0.0.1", 0).start()
    live = LiveState()
    live.handle_agent({"metadata": {"uid": "u"}})
    live.record_contact("agent", 0.0)
    live.record_contact("bundle", 0.0)
    spool = Spool(tmp_path, SpoolLimits(), keeps=True)
    output = os.open(os.devnull, os.O_WRONLY)
    recorder = Recorder(
        Writer("a", GuardId("n", "p", "0" * 16)), spool, lambda: datetime(2026, 3, 2, tzinfo=UTC), output
    )
    async with aiohttp.ClientSession(connector=AgentConnector(live, force_close=True)) as session:
        endpoint = TaskEndpoint(
            live=live,
            recorder=recorder,
            session=session,
            monotonic=lambda: found.now,
            host="127.0.0.1",
            own_pod=OwnPod(frozenset({"127.0.0.1"})),
        )
        live.reactions = (endpoint.follow,)
        await endpoint.runner.setup()
        await web.TCPSite(endpoint.runner, "127.0.0.1", 0).start()
        found = Bench(live, endpoint, spool, recorder.work, endpoint.runner.addresses[0][1], agent.addresses[0][1])
        found.open()
        yield found
        endpoint.end()
        await endpoint.runner.cleanup()
    await agent.cleanup()
    spool.close()
    os.close(output)


WHOLE = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
HALF = b"POST / HTTP/1.1\r\nHost: a\r\n%bContent-Length: 10\r\n\r\nhalf"


async def test_a_short_json_body_that_does_not_come_takes_no_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "BODY_SECONDS", 0.01)
    status, body = await bench.send(HALF % b"Content-Type: application/json\r\n")
    assert (status, body["error"]["data"]["reason"]) == (408, "BodyTimedOut")
    assert (bench.at_work, bench.records()) == (0, [])


async def test_any_other_body_that_stops_coming_ends_its_task(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_exchange, "IDLE_SECONDS", 0.01)
    status, body = await bench.send(HALF % b"")
    assert (status, body["error"]["data"]["reason"]) == (408, "BodyTimedOut")
    assert [one["outcome"] for one in bench.records()] == ["BodyTimedOut"]


async def test_an_agent_that_takes_too_long_is_a_504_and_a_failure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_exchange, "TASK_SECONDS", 0.01)
    status, body = await bench.send(WHOLE)
    assert (status, body["error"]["data"]["reason"]) == (504, "TimedOut")
    assert 'task_failures_total{kind="Task"} 1' in "\n".join(bench.endpoint.lines())
    assert (bench.work.counts.tasks, bench.work.counts.tasks_failed) == (1, 1)


async def test_gates_count_tasks_alone_and_no_looks(bench: Bench) -> None:
    bench.go_on.set()
    for method in (b"GET", b"POST"):
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        writer.write(method + b" / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        await close(writer)
    await bench.until(lambda: len(bench.records()) == 2)
    assert (bench.work.counts.tasks, bench.work.counts.tasks_failed) == (1, 0)


async def test_a_caller_that_does_not_read_its_answer_ends_its_task(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_exchange, "UNREAD_SECONDS", 0.5)
    bench.answer = bytes(64 * 1024 * 1024)
    bench.go_on.set()
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    try:
        writer.write(WHOLE)
        await bench.until(lambda: bool(bench.records()))
        assert [one["outcome"] for one in bench.records()] == ["Cancelled"]
        assert "interlock_guard_tasks_running 0" in bench.endpoint.lines()
        with suppress(ConnectionError):
            assert len(await reader.read()) < len(bench.answer)
    finally:
        await close(writer)


async def test_a_task_whose_turn_comes_when_the_guard_has_closed_is_not_passed_on(bench: Bench) -> None:
    first = asyncio.create_task(bench.send(WHOLE))
    await bench.until(lambda: bench.at_work == 1)
    second = asyncio.create_task(bench.send(WHOLE))
    await bench.until(lambda: "interlock_guard_tasks_waiting 1" in bench.endpoint.lines())
    bench.now = 31.0  # no contact with the API server for longer than the lease
    first.cancel()
    status, body = await second
    assert (status, body["error"]["data"]["reason"]) == (503, "StaleState")
    assert bench.at_work == 1
    await asyncio.gather(first, return_exceptions=True)


async def test_waiting_callers_are_answered_when_the_bundle_goes(bench: Bench) -> None:
    first = asyncio.create_task(bench.send(WHOLE))
    await bench.until(lambda: bench.at_work == 1)
    second = asyncio.create_task(bench.send(WHOLE))
    await bench.until(lambda: "interlock_guard_tasks_waiting 1" in bench.endpoint.lines())
    bench.live.handle_bundle(None)
    status, body = await second
    assert (status, body["error"]["data"]["reason"]) == (503, "NoBundle")
    assert not first.done()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_what_is_open_when_the_guard_ends_is_answered_and_recorded_as_that(bench: Bench) -> None:
    first = asyncio.create_task(bench.send(WHOLE))
    await bench.until(lambda: bench.at_work == 1)
    bench.endpoint.end()
    status, body = await first
    assert (status, body["error"]["data"]["reason"]) == (503, "GuardEnded")
    assert [one["outcome"] for one in bench.records()] == ["GuardEnded"]
    assert bench.work.counts.tasks == 0


async def test_a_body_that_turns_out_to_be_none_is_not_the_agents_fault(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_exchange, "IDLE_SECONDS", 0.5)
    _, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    try:
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await bench.until(lambda: bench.at_work == 1)
        writer.write(b"nonsense\r\n")
        await bench.until(lambda: bool(bench.records()))
    finally:
        await close(writer)
    assert bench.records()[0]["outcome"] == "BodyTimedOut"
    assert 'task_failures_total{kind="Task"} 0' in "\n".join(bench.endpoint.lines())


@pytest.mark.parametrize("part", ["to_agent", "to_caller"])
async def test_an_unexpected_error_of_the_guard_is_answered_logged_and_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("surprise")

    monkeypatch.setattr(task_exchange, part, fail)
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    try:
        writer.write(WHOLE)
        if part == "to_caller":
            await bench.until(lambda: bench.at_work == 1)
            bench.go_on.set()
        assert (await reader.readline()).split()[1] == b"500"
    finally:
        await close(writer)
    [failed] = caplog.records
    assert failed.exc_info is not None
    assert repr(failed.exc_info[1]) == "KeyError('surprise')"
    assert len(bench.records()) == 1
    assert "interlock_guard_tasks_running 0" in bench.endpoint.lines(), "its place is free again"
