"""Sessions of the session-based protocol: their streams, what a lost connection loses, and what their end ends."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.guard.harness import HEADERS, MCP_PATH, Answer, Bench
from tests.requirements import requirement
from tests.support.bounds import WAIT_SECONDS, limit, until, until_exactly

STREAM = {"Accept": "text/event-stream"}
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


@dataclass
class Event:
    """One server-sent event."""

    id: str
    message: dict[str, Any]


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """Read the events of a stream as they come, each within a bound."""
    number = ""
    while True:
        async with asyncio.timeout(WAIT_SECONDS):
            line = (await response.content.readline()).decode()
        if not line:
            return
        if line.startswith("id: "):
            number = line[4:].strip()
        if line.startswith("data: "):
            yield Event(number, json.loads(line[6:]))


async def session_of(bench: Bench) -> dict[str, str]:
    """Begin a session; return its header."""
    answer = await bench.client.request("initialize", HELLO)
    return {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"]}


@asynccontextmanager
async def two_steps(bench: Bench, session: dict[str, str], signal: Path) -> AsyncIterator[AsyncIterator[Event]]:
    """Call a tool that takes its second step once the signal file is there."""
    params = {"name": "two_steps", "arguments": {"signal": str(signal)}, "_meta": {"progressToken": "mine"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    async with bench.client.session.post(bench.client.url, data=body, headers={**HEADERS, **session}) as response:
        assert response.content_type == "text/event-stream"
        yield events(response)
        response.close()


async def in_flight(bench: Bench, count: int) -> None:
    async def reached() -> bool:
        return f'interlock_guard_calls_in_flight{{source="crm"}} {count}\n' in await bench.guard.metrics()

    await until(reached, f"{count} calls are in flight")


@requirement("guard.sessions")
async def test_a_stream_that_broke_in_the_middle_is_resumed_where_it_broke(bench: Bench, tmp_path: Path) -> None:
    session, signal = await session_of(bench), tmp_path / "signal"
    async with two_steps(bench, session, signal) as stream:
        first = await anext(stream)
        assert first.message["params"] == {"progressToken": "mine", "progress": 1}
        assert re.fullmatch(r"\d+-1", first.id)
    signal.touch()
    headers = {**STREAM, **session, "Last-Event-ID": first.id}
    async with bench.client.session.get(bench.client.url, headers=headers) as response:
        second, last = [event async for event in events(response)]
    assert second.message["params"] == {"progressToken": "mine", "progress": 2}
    assert last.message["result"]["content"][0]["text"] == "two steps are done"
    assert last.message["id"] == 1
    async with bench.client.session.get(bench.client.url, headers={**headers, "Last-Event-ID": second.id}) as response:
        assert [event.id for event in [event async for event in events(response)]] == [last.id]
    assert bench.executed_names() == ["two_steps"]


@requirement("guard.sessions")
async def test_no_other_session_gets_the_rest_of_a_stream(bench: Bench, tmp_path: Path) -> None:
    session, other, signal = await session_of(bench), await session_of(bench), tmp_path / "signal"
    async with two_steps(bench, session, signal) as stream:
        first = await anext(stream)
    signal.touch()
    for headers in (other, {"Mcp-Session-Id": "guessed"}):
        asked = {**STREAM, **headers, "Last-Event-ID": first.id}
        async with bench.client.session.get(bench.client.url, headers=asked) as response:
            assert response.status == 400


@pytest.mark.parametrize("last", ["", "x", "1", "1-", "-1", "1-1-1", "99-1", "0-99", "\u00b9-1", "9999999999999999-1"])
async def test_an_event_that_never_was_resumes_nothing(bench: Bench, last: str) -> None:
    headers = {**STREAM, **await session_of(bench), "Last-Event-ID": last}
    async with bench.client.session.get(bench.client.url, headers=headers) as response:
        assert response.status == 400


async def test_a_client_that_hangs_up_before_anything_was_said_ends_its_call(bench: Bench) -> None:
    session = await session_of(bench)
    params = {"name": "never", "arguments": {}, "_meta": {"progressToken": 1}}
    waiting = asyncio.create_task(bench.client.request("tools/call", params, session))
    await until_exactly(bench.executed_names, ["never"], "the server has the call")
    waiting.cancel()
    await in_flight(bench, 0)
    await until(lambda: bench.executed()[-1:] == [{"cancelled": "the client hung up"}], "the server is notified")


@requirement("guard.sessions")
async def test_the_end_of_a_session_ends_what_is_under_way_in_it_and_it_does_not_come_back(bench: Bench) -> None:
    session = await session_of(bench)
    waiting = asyncio.create_task(bench.client.request("tools/call", {"name": "never"}, session))
    await in_flight(bench, 1)
    async with bench.client.session.get(bench.client.url, headers={**STREAM, **session}) as standalone:
        async with bench.client.session.delete(bench.client.url, headers=session) as response:
            assert response.status == 204
        with pytest.raises(aiohttp.ClientPayloadError):
            await standalone.read()
    ended = await waiting
    assert (ended.status, ended.body, ended.headers["Content-Type"]) == (200, b"", "text/event-stream")
    await in_flight(bench, 0)
    assert (await bench.client.request("tools/list", {}, session)).status == 404
    async with bench.client.session.get(bench.client.url, headers={**STREAM, **session}) as response:
        assert response.status == 404
    assert (await bench.client.request("tools/list")).status == 200


async def cancel(bench: Bench, session: dict[str, str], request_id: int) -> None:
    params = {"requestId": request_id, "reason": "no more interest"}
    body = json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
    assert (await bench.client.post(body, session)).status == 202


async def cancelled(bench: Bench, accept: str) -> Answer:
    """Make a call that never ends, cancel it; return what its own request got as the answer."""
    session, params = await session_of(bench), {"name": "never", "arguments": {}}
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})
    waiting = asyncio.create_task(bench.client.post(body, {**session, "Accept": accept}))
    await in_flight(bench, 1)
    await cancel(bench, session, 7)
    await in_flight(bench, 0)
    notice = {"cancelled": "the client cancelled the request"}
    await until(lambda: bench.executed()[-1:] == [notice], "the server is notified")
    return await waiting


@requirement("guard.sessions")
async def test_a_request_that_its_client_has_cancelled_gets_no_message_any_more(bench: Bench) -> None:
    answer = await cancelled(bench, "application/json, text/event-stream")
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, "text/event-stream", b"")


async def test_a_client_that_reads_no_events_is_informed_of_its_own_cancellation(bench: Bench) -> None:
    assert (await cancelled(bench, "application/json")).body["error"]["code"] == -32800


@requirement("guard.sessions")
async def test_a_stream_of_a_cancelled_request_has_an_end(bench: Bench, tmp_path: Path) -> None:
    session = await session_of(bench)
    async with two_steps(bench, session, tmp_path / "signal") as stream:
        await anext(stream)
        await cancel(bench, session, 1)
        assert (await anext(stream)).message["error"]["code"] == -32800


async def test_a_stream_wants_a_session_and_a_client_that_reads_events(bench: Bench) -> None:
    for headers, status in ((STREAM, 400), ({**await session_of(bench), "Accept": "application/json"}, 406)):
        async with bench.client.session.get(bench.client.url, headers=headers) as response:
            assert response.status == status
    async with bench.client.session.delete(bench.client.url) as response:
        assert response.status == 400


async def test_a_session_that_this_guard_never_gave_out_is_taken_up(bench: Bench) -> None:
    session = {"Mcp-Session-Id": "from-a-guard-before-this-one"}
    assert (await bench.client.request("tools/list", {}, session)).status == 200
    async with bench.client.session.get(bench.client.url, headers={**STREAM, **session}) as response:
        assert response.status == 200
        response.close()


@requirement("guard.killed")
async def test_a_kill_closes_the_open_streams_of_both_protocol_versions(bench: Bench) -> None:
    session = await session_of(bench)
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    listen = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "subscriptions/listen",
        "params": {"notifications": {"toolsListChanged": True}, "_meta": meta},
    }
    sessionless = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    http, url = bench.client.session, bench.client.url
    async with (
        http.get(url, headers={**STREAM, **session}) as standalone,
        http.post(url, data=json.dumps(listen), headers={**HEADERS, **sessionless}) as listening,
    ):
        acknowledged = await anext(events(listening))
        assert acknowledged.message["method"] == "notifications/subscriptions/acknowledged"
        bench.api.kill("data leak")
        for stream in (standalone, listening):
            with pytest.raises(aiohttp.ClientPayloadError):
                async with asyncio.timeout(WAIT_SECONDS):
                    await stream.read()


async def test_a_response_to_an_unknown_server_request_goes_nowhere(bench: Bench) -> None:
    answer = '{"jsonrpc":"2.0","id":"interlock-1","result":{}}'
    for headers in ({}, await session_of(bench)):
        assert (await bench.client.post(answer, headers)).status == 400


async def test_a_hint_of_the_server_makes_a_decision_stricter(bench: Bench) -> None:
    async def is_denied() -> bool:
        return (await bench.client.call("hinted")).reason == "NotGrantedByBinding"

    await until(is_denied, "the guard has read the server's list")
    assert bench.guard.records()[-1]["operation"] == "delete"
    assert (await bench.client.call("echo")).reason is None


async def test_the_standalone_stream_opens_for_every_way_to_accept_it(bench: Bench) -> None:
    session = await session_of(bench)
    accepted = [
        "Accept: application/json\r\nAccept: text/event-stream",
        "Accept: */*",
        "Accept: TEXT/Event-Stream;q=0.5",
        "",
    ]
    refused = ["Accept: application/json", "Accept: text/event-stream;q=0, */*", "Accept: text/event-streams"]
    seen = [await status_of_stream(bench, session, one) for one in (*accepted, *refused)]
    assert seen == [200] * len(accepted) + [406] * len(refused)


async def status_of_stream(bench: Bench, session: dict[str, str], accept: str) -> int:
    """Ask for a session's own stream with these header lines; return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.port)
    lines = [
        f"GET {MCP_PATH} HTTP/1.1",
        f"Host: localhost:{bench.guard.port}",
        *(f"{k}: {v}" for k, v in session.items()),
    ]
    writer.write("\r\n".join([*lines, *([accept] if accept else []), "", ""]).encode())
    async with limit(WAIT_SECONDS, "the stream is answered"):
        status = int((await reader.readline()).split()[1])
    writer.close()
    return status


@pytest.mark.parametrize("accept", ["application/json\r\nAccept: text/event-stream", "*/*"])
async def test_progress_reaches_a_client_however_it_accepts_streams(bench: Bench, accept: str) -> None:
    params = {"name": "progress", "arguments": {}, "_meta": {"progressToken": "p"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.port)
    head = f"Host: localhost:{bench.guard.port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(f"POST {MCP_PATH} HTTP/1.1\r\n{head}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n{body}".encode())
    async with limit(WAIT_SECONDS, "the call is answered"):
        answer = await reader.read()
    writer.close()
    assert b"notifications/progress" in answer
