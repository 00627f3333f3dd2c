"""A real guard process in front of MCP servers over HTTP that behave, misbehave, and end."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from msgspec.structs import replace

from interlock_contract.http_target import HttpTarget, TargetHeader
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.fake_http_server import (
    SESSIONLESS,
    FakeHttpServer,
    Message,
    ProtocolKind,
    a_stream,
    bomb,
    error,
    event,
    result,
    text,
)
from tests.integration.guard.harness import Answer, Client, Guard, a_bundle_over_http
from tests.requirements import requirement
from tests.support.bounds import until, until_count, until_exactly
from tests.support.certificates import an_authority
from tests.support.ports import free_port

TOOLS = ["echo", "never", "slow", "bad", "progress", "resumed", "once", "ask"]
CANARY = "canary-5b1e0c7d"
PROTOCOLS: list[ProtocolKind] = ["session-based", "sessionless"]


@dataclass
class HttpBench:
    """Guard, API server, an MCP server over HTTPS with an authority of its own, and a client."""

    api: FakeApiServer
    guard: Guard
    server: FakeHttpServer
    client: Client
    target: HttpTarget

    def bind(self, **edits: Any) -> None:
        """Change how the source is reached."""
        self.target = replace(self.target, **edits)
        self.api.set_bundle(a_bundle_over_http(TOOLS, self.target))

    async def ready(self) -> None:
        await self.guard.source_ready()

    async def refused(self, tool: str, words: str) -> Answer:
        """Call a tool whose answer must be the guard's word that the server did not give a usable one."""
        async with asyncio.timeout(20):
            answer = await self.client.call(tool)
        assert answer.status == 200
        assert answer.reason == "ServerUnavailable"
        assert words in answer.text, answer.text
        return answer


@pytest.fixture(params=PROTOCOLS)
async def bench(
    request: pytest.FixtureRequest, api: FakeApiServer, guard: Guard, tmp_path: Path
) -> AsyncIterator[HttpBench]:
    authority = an_authority()
    server = FakeHttpServer(free_port(), request.param)
    await server.start(authority.server_context(tmp_path, "localhost"))
    (guard.secrets / "0").write_text(f"Bearer {CANARY}\n")
    (guard.secrets / "ca").write_bytes(authority.pem)
    headers = (TargetHeader("Authorization", None, "0"), TargetHeader("X-Tenant", "blue", None))
    target = HttpTarget(f"https://localhost:{server.port}/mcp", "Public", headers, ca_file="ca")
    async with aiohttp.ClientSession() as session:
        found = HttpBench(api, guard, server, Client(session, guard.url), target)
        found.bind()
        await found.ready()
        yield found
    await server.stop()


session_based_only = pytest.mark.parametrize("bench", ["session-based"], indirect=True)
sessionless_only = pytest.mark.parametrize("bench", ["sessionless"], indirect=True)


@requirement("http.serves")
async def test_permitted_tools_are_listed_and_called_and_others_are_not(bench: HttpBench) -> None:
    listed = await bench.client.request("tools/list")
    assert [tool["name"] for tool in listed.body["result"]["tools"]] == TOOLS
    seen = json.loads((await bench.client.call("echo", name="Ada")).text)
    assert seen["params"]["arguments"] == {"name": "Ada"}
    assert (await bench.client.call("hidden")).reason == "ToolNotMapped"
    assert bench.server.executed() == ["echo"]


@requirement("http.credentials")
async def test_only_the_bindings_headers_and_those_of_mcp_reach_the_server(bench: HttpBench) -> None:
    hostile = {
        "Authorization": "Bearer of-the-agent",
        "Cookie": "session=of-the-agent",
        "X-Api-Key": "of-the-agent",
        "X-Tenant": "of-the-agent",
        "Forwarded": "for=of-the-agent",
        "Mcp-Session-Id": "of-the-agent",
        "Mcp-Param-Key": "of-the-agent",
        "Last-Event-ID": "of-the-agent",
        "User-Agent": "of-the-agent",
    }
    params = {"name": "echo", "arguments": {}, "_meta": {"token": "of-the-agent", "progressToken": "of-the-agent"}}
    answer = await bench.client.request("tools/call", params, hostile)
    assert answer.status == 200
    await bench.client.request("tools/list", {"_meta": {"token": "of-the-agent"}}, hostile)

    everything = json.dumps([(one.method, one.headers, one.message) for one in bench.server.seen])
    assert "of-the-agent" not in everything
    call = bench.server.requests("tools/call")[0]
    routing = {"Mcp-Method", "Mcp-Name"} if bench.server.protocol == "sessionless" else {"Mcp-Session-Id"}
    standard = {"Host", "Accept", "Accept-Encoding", "Content-Type", "Content-Length", "User-Agent"}
    assert set(call.headers) == standard | routing | {"Authorization", "X-Tenant", "MCP-Protocol-Version"}
    assert call.headers["Authorization"] == f"Bearer {CANARY}"
    assert call.headers["X-Tenant"] == "blue"


@requirement("http.credentials")
async def test_no_credential_of_the_server_is_found_where_the_agent_or_a_log_could_see_it(bench: HttpBench) -> None:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in CANARY)

    async def echoed(_: web.Request, message: Message) -> web.Response:
        return result(message, {"content": [{"type": "text", "text": f"you sent {CANARY}"}]})

    async def disguised(_: web.Request, message: Message) -> web.Response:
        whole = json.dumps(text(message, "X")).replace("X", escaped)
        return web.Response(body=whole, content_type="application/json")

    async def streamed(http: web.Request, message: Message) -> web.StreamResponse:
        stream = await a_stream(http)
        await stream.write(event(text(message, CANARY)))
        return stream

    async def refused(_: web.Request, __: Message) -> web.Response:
        return web.Response(status=401, text=f"no such token: {CANARY}")

    async def failed(_: web.Request, message: Message) -> web.Response:
        return error(message, -32000, f"no such token: {CANARY}", 403)

    async def header(_: web.Request, message: Message) -> web.Response:
        response = result(message, {"content": []})
        response.headers["X-Echo"] = CANARY
        return response

    async def redirect(_: web.Request, __: Message) -> web.Response:
        return web.Response(status=307, headers={"Location": f"https://evil.example.com/?token={CANARY}"})

    async def nested(_: web.Request, message: Message) -> web.Response:
        return result(message, {"content": [{"type": "text", "text": json.dumps({"token": escaped})}]})

    seen = []
    for answer in (echoed, disguised, streamed, refused, failed, header, redirect, nested):
        bench.server.tools["bad"] = answer
        found = await bench.client.call("bad")
        assert (found.reason == "ServerUnavailable") == (answer is not header), answer.__name__
        seen.append(json.dumps([found.status, found.body, found.headers]))
    stored = [path.read_text() for path in bench.guard.spool.iterdir()]
    assert "tools/call" in "".join(stored)
    seen += [*stored, (bench.guard.folder / "records").read_text(), await bench.guard.metrics()]
    assert CANARY not in "".join(seen)
    assert CANARY not in bench.guard.log()


@requirement("credentials.withheld")
async def test_a_credential_that_was_rotated_during_a_call_is_withheld_from_its_answer(bench: HttpBench) -> None:
    goes_on = asyncio.Event()

    async def echoed(_: web.Request, message: Message) -> web.Response:
        await goes_on.wait()
        return result(message, {"content": [{"type": "text", "text": f"you sent {CANARY}"}]})

    bench.server.tools["bad"] = echoed
    first = asyncio.create_task(bench.client.call("bad"))
    await until_count(lambda: len(bench.server.requests("tools/call")), 1, "the server has the call")
    (bench.guard.secrets / "0").write_text("Bearer another-token\n")
    assert (await bench.client.call("echo")).reason is None
    goes_on.set()
    assert (await first).reason == "ServerUnavailable"


@requirement("http.credentials")
async def test_a_rotated_secret_is_used_by_the_next_call_without_a_restart(bench: HttpBench) -> None:
    await bench.client.call("echo")
    (bench.guard.secrets / "0").write_text("Bearer another-token\n")
    await bench.client.call("echo")
    sent = [one.headers["Authorization"] for one in bench.server.requests("tools/call")]
    assert sent == [f"Bearer {CANARY}", "Bearer another-token"]
    (bench.guard.secrets / "0").unlink()
    await bench.refused("echo", "its credentials cannot be read; nothing was sent to it")


async def test_a_bundle_that_names_another_server_is_obeyed_without_a_restart(bench: HttpBench) -> None:
    other = FakeHttpServer(free_port(), bench.server.protocol)
    await other.start()
    bench.bind(url=f"http://localhost:{other.port}/mcp", network="Private", ca_file=None, headers=())
    await until(lambda: bool(other.requests("server/discover")), "the other server is initialized")
    await bench.ready()
    assert json.loads((await bench.client.call("echo")).text)["params"]["arguments"] == {}
    assert (other.executed(), bench.server.executed()) == (["echo"], [])
    assert "Authorization" not in other.requests("tools/call")[0].headers
    await other.stop()


@pytest.mark.parametrize("bench", ["sessionless"], indirect=True)
async def test_a_server_that_failed_to_initialize_is_dialled_again(bench: HttpBench) -> None:
    other = FakeHttpServer(free_port(), "sessionless")
    other.on_discover = lambda _: web.Response(status=404)
    await other.start()
    bench.bind(url=f"http://localhost:{other.port}/mcp", network="Private", ca_file=None, headers=())
    await until(lambda: len(other.requests("initialize")) >= 2, "it is initialized again")
    assert len(other.connections) == 2
    other.on_discover = None
    await until(lambda: len(other.requests("tools/list")) > 0, "it is initialized at last, and lists its tools")
    await other.stop()


@requirement("http.ssrf")
async def test_a_guard_as_it_is_in_a_pod_does_not_dial_loopback(
    api: FakeApiServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = FakeHttpServer(free_port())
    await server.start()
    target = HttpTarget(f"http://localhost:{server.port}/mcp", "Private", (), ca_file=None)
    api.set_bundle(a_bundle_over_http(TOOLS, target))
    guard = Guard(api, tmp_path, may_dial_loopback=False)
    await guard.start()
    await until(lambda: "may not be dialled: it is loopback" in guard.log(), "the refusal is in the log")
    async with aiohttp.ClientSession() as session:
        answer = await Client(session, guard.url).call("echo")
    assert answer.reason == "ServerUnavailable"
    assert "its address is none that its binding allows; nothing was sent to it" in answer.text
    assert "127.0.0.1" not in answer.text
    assert server.seen == []
    await guard.stop()
    await server.stop()


# Answers of every kind


async def test_an_error_of_the_server_is_passed_on(bench: HttpBench) -> None:
    async def failed(_: web.Request, message: Message) -> web.Response:
        return error(message, -32602, "no such contact", 400)

    bench.server.tools["bad"] = failed
    answer = await bench.client.call("bad")
    assert answer.body["error"] == {"code": -32602, "message": "no such contact"}


async def test_an_answer_on_a_stream_and_progress_before_it_are_passed_on(bench: HttpBench) -> None:
    async def progress(http: web.Request, message: Message) -> web.StreamResponse:
        token = message["params"]["_meta"]["progressToken"]
        stream = await a_stream(http)
        for step in (1, 2):
            said = {"progressToken": token, "progress": step, "more": "not for the agent"}
            await stream.write(event({"jsonrpc": "2.0", "method": "notifications/progress", "params": said}))
        await stream.write(b": ping\r\n\r\n" + event(text(message, "done")))
        return stream

    bench.server.tools["progress"] = progress
    answer = await bench.client.request("tools/call", {"name": "progress", "_meta": {"progressToken": "mine"}})
    said = [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    assert [one["params"] for one in said[:2]] == [{"progressToken": "mine", "progress": step} for step in (1, 2)]
    assert said[2]["result"]["content"][0]["text"] == "done"


async def raw(body: str) -> web.Response:
    return web.Response(body=io.BytesIO(body.encode()), content_type="application/json")


def envelope(message: Message, **edits: Any) -> str:
    return json.dumps({**text(message, "x"), **edits})


UNUSABLE: dict[str, tuple[Any, str]] = {
    "no JSON": (lambda _: raw("<html>"), "answered with what is no message"),
    "nothing": (lambda _: raw(""), "answered with nothing; the call may have been executed or not"),
    "a batch without the answer": (lambda m: raw(f"[{envelope(m, id=10**9)},7]"), "answered something else"),
    "a batch of no messages": (lambda _: raw("[7,[]]"), "answered with what is no message"),
    "a key twice": (
        lambda m: raw(envelope(m).replace('"result"', '"id": 1, "result"')),
        "answered with what is no message",
    ),
    "too deep": (lambda m: raw(envelope(m, result={"a": json.loads("[" * 70 + "]" * 70)})), "is no message"),
    "another id": (lambda m: raw(envelope(m, id=10**9)), "answered something else than it was asked"),
    "a request": (lambda _: raw('{"jsonrpc":"2.0","id":1,"method":"ping"}'), "answered something else"),
    "no id": (lambda m: raw(envelope(m, id=None)), "answered something else"),
    "too large": (lambda m: raw(envelope(m, result={"a": "x" * 17 * 1024 * 1024})), "more than 16777216 bytes"),
    "a gzip bomb": (lambda _: asyncio.sleep(0, bomb()), "answered with a compressed body"),
    "text": (lambda _: asyncio.sleep(0, web.Response(text="{}")), "answered with what is no message"),
    "page": (
        lambda _: asyncio.sleep(0, web.Response(text="{}", content_type="text/html")),
        "answered with neither JSON nor a stream",
    ),
    "accepted": (lambda _: asyncio.sleep(0, web.Response(status=202)), "answered with nothing"),
    "unauthorized": (lambda _: asyncio.sleep(0, web.Response(status=401)), "does not accept the guard's credentials"),
    "an error page": (lambda _: asyncio.sleep(0, web.Response(status=502, text="<p>")), "with an error (HTTP 502)"),
    "a redirect": (
        lambda _: asyncio.sleep(0, web.Response(status=307, headers={"Location": "http://127.0.0.1/"})),
        "answered with a redirect (HTTP 307), which the guard does not follow",
    ),
}


@pytest.mark.parametrize(("answer", "words"), UNUSABLE.values(), ids=UNUSABLE)
async def test_an_unusable_answer_becomes_an_error_that_says_what_it_was(
    bench: HttpBench, answer: Any, words: str
) -> None:
    async def bad(_: web.Request, message: Message) -> Any:
        return await answer(message)

    bench.server.tools["bad"] = bad
    await bench.refused("bad", words)
    assert bench.server.executed() == ["bad"], "it was sent once"
    assert json.loads((await bench.client.call("echo")).text), "the source goes on"


async def test_an_answer_on_a_stream_that_is_too_large_or_foreign_is_refused(bench: HttpBench) -> None:
    async def large(http: web.Request, message: Message) -> web.StreamResponse:
        stream = await a_stream(http)
        await stream.write(event(text(message, "x" * 17 * 1024 * 1024)))
        return stream

    async def foreign(http: web.Request, message: Message) -> web.StreamResponse:
        stream = await a_stream(http)
        await stream.write(event({**text(message, "x"), "id": 10**9}))
        return stream

    bench.server.tools["bad"] = large
    await bench.refused("bad", "an event of more than 16777216 bytes")
    bench.server.tools["bad"] = foreign
    await bench.refused("bad", "ended its answer half-way")


async def test_a_stream_that_ends_without_the_answer_is_an_error(bench: HttpBench) -> None:
    async def half(http: web.Request, _: Message) -> web.StreamResponse:
        stream = await a_stream(http)
        await stream.write(b"data: {")
        return stream

    bench.server.tools["bad"] = half
    await bench.refused("bad", "ended its answer half-way; the call may have been executed or not")
    assert bench.server.executed() == ["bad"]


@session_based_only
async def test_a_stream_that_can_be_taken_up_again_is_and_the_call_is_not_repeated(bench: HttpBench) -> None:
    waiting: dict[str, Message] = {}

    async def resumed(http: web.Request, message: Message) -> web.StreamResponse:
        waiting["call"] = message
        stream = await a_stream(http)
        await stream.write(b'id: 7\nretry: 10\ndata:\n\nid: 8\ndata: {"jsonrpc"')  # and breaks off there
        return stream

    async def get(http: web.Request) -> web.StreamResponse:
        stream = await a_stream(http)
        await stream.write(event(text(waiting["call"], "taken up"), "8"))
        return stream

    bench.server.tools["resumed"] = resumed
    bench.server.on_resume = get
    assert (await bench.client.call("resumed")).text == "taken up"
    assert bench.server.executed() == ["resumed"]
    assert bench.server.resumed == ["7"]


# Lives and ends


@session_based_only
@requirement("http.once")
@pytest.mark.parametrize(("status", "words"), [(404, "was not executed"), (400, "may have been executed or not")])
async def test_a_lost_session_is_reported_and_recreated_and_nothing_is_executed_twice(
    bench: HttpBench, status: int, words: str
) -> None:
    bench.server.on_lost = status
    await until(bench.server.speaks.is_set, "the guard listens")
    waits = asyncio.create_task(bench.client.call("never"))
    await until_exactly(bench.server.executed, ["never"], "the call is under way")
    bench.server.lose_sessions()
    lost = await bench.refused("echo", f"has lost the session; the call {words}")
    assert "may have been executed or not" in (await waits).text
    assert lost.reason == "ServerUnavailable"
    await until(lambda: bench.server.given == 2, "a new session is there")
    await bench.ready()
    assert (await bench.client.call("echo")).reason is None
    assert bench.server.executed() == ["never", "echo", "echo"], "the middle one is what the server refused"


@sessionless_only
@requirement("http.once")
async def test_a_server_that_has_become_session_based_is_initialized_again(bench: HttpBench) -> None:
    assert (await bench.client.call("echo")).reason is None
    bench.server.protocol = "session-based"
    await bench.refused("echo", "has lost the session; the call may have been executed or not")
    await until(lambda: bench.server.given == 1, "a session is there")
    await bench.ready()
    assert (await bench.client.call("echo")).reason is None
    assert bench.server.executed() == ["echo"] * 3, "the middle one is what the server refused"


async def test_a_request_that_a_server_refuses_ends_no_connection(bench: HttpBench) -> None:
    async def dislikes(_: web.Request, message: Message) -> web.Response:
        return error(message, -32602, "not like this", 400)

    bench.server.tools["bad"] = dislikes
    for _ in range(2):
        assert "not like this" in str((await bench.client.call("bad")).body)
    assert bench.guard.log().count(" begins") == 1


@requirement("http.once")
async def test_a_server_that_ends_in_mid_call_gets_the_call_once(bench: HttpBench) -> None:
    async def dies(http: web.Request, _: Message) -> web.Response:
        assert http.transport is not None
        http.transport.abort()
        return web.Response()

    bench.server.tools["once"] = dies
    await bench.client.call("echo")  # so that there is a connection to be used again
    await bench.refused("once", "broke the connection off; the call may have been executed or not")
    assert bench.server.executed() == ["echo", "once"]


async def test_a_server_that_comes_back_is_taken_up_again(bench: HttpBench) -> None:
    port, protocol = bench.server.port, bench.server.protocol
    await bench.server.stop()
    answer = await bench.client.call("echo")
    assert answer.reason == "ServerUnavailable"
    again = FakeHttpServer(port, protocol)
    bench.bind(url=f"http://localhost:{port}/mcp", network="Private", ca_file=None)
    await until(lambda: "ConnectionRefusedError" in bench.guard.log(), "the guard has noticed")
    await again.start()
    await until(
        lambda: bool(again.requests("server/discover")), "the guard has the new bundle, and speaks to the server"
    )
    await bench.ready()
    assert (await bench.client.call("echo")).reason is None
    await again.stop()


async def test_a_cancelled_call_ends_at_the_server(bench: HttpBench) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request, __: Message) -> web.Response:
        started.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()
        return web.Response()

    bench.server.tools["slow"] = slow
    task = asyncio.create_task(bench.client.call("slow"))
    await asyncio.wait_for(started.wait(), 20)
    task.cancel()
    await asyncio.wait_for(ended.wait(), 20)
    call = bench.server.requests("tools/call")[0].message
    if bench.server.protocol == "session-based":
        await until(lambda: bool(bench.server.requests("notifications/cancelled")), "the server is notified")
        cancelled = bench.server.requests("notifications/cancelled")[0].message["params"]
        assert cancelled == {"requestId": call["id"], "reason": "the client hung up"}
    else:
        assert bench.server.requests("notifications/cancelled") == [], "to hang up is to cancel"


@requirement("guard.killed")
async def test_a_kill_breaks_every_connection_at_once_and_nothing_more_arrives(bench: HttpBench) -> None:
    calls = [asyncio.create_task(bench.client.call("never")) for _ in range(8)]
    await until_count(lambda: len(bench.server.executed()), 8, "the calls are under way")
    assert bench.server.open_connections() >= 8
    bench.api.kill("stop")
    for answer in await asyncio.gather(*calls):
        assert (answer.status, answer.reason) == (503, "Killed")
    await until(lambda: bench.server.open_connections() == 0, "every connection is closed")
    count = len(bench.server.seen)
    assert (await bench.client.call("echo")).reason == "Killed"
    assert len(bench.server.seen) == count, "not even a cancellation is sent"
    bench.api.kill("off")
    await bench.ready()
    assert (await bench.client.call("echo")).reason is None


@requirement("guard.killed")
async def test_what_has_not_left_the_guard_at_a_kill_never_does(bench: HttpBench) -> None:
    bench.server.reads.clear()
    call = asyncio.create_task(bench.client.call("echo", text="x" * 4_000_000))
    await until(lambda: bench.server.unread > 0, "the call is on its way, and the server does not read it")
    bench.api.kill("stop")
    assert (await call).reason == "Killed"
    bench.server.reads.set()
    bench.api.kill("off")
    await bench.ready()
    await bench.client.call("echo", text="short")
    texts = [one.message["params"]["arguments"]["text"] for one in bench.server.requests("tools/call")]
    assert texts == ["short"]


@session_based_only
async def test_what_the_server_says_of_its_own_accord_is_answered_or_ends_at_the_guard(bench: HttpBench) -> None:
    await until(bench.server.speaks.is_set, "the guard listens")
    await bench.server.say({"id": "s1", "method": "ping"})
    await bench.server.say({"id": "s2", "method": "sampling/createMessage", "params": {"messages": []}})
    await bench.server.say({"method": "notifications/message", "params": {"level": "info", "data": "hello"}})

    def answers() -> dict[Any, Message]:
        return {one.message["id"]: one.message for one in bench.server.seen if one.message.get("id") in {"s1", "s2"}}

    await until_count(lambda: len(answers()), 2, "both are answered")
    assert answers()["s1"]["result"] == {}
    assert answers()["s2"]["error"]["code"] == -32601


@session_based_only
async def test_a_server_without_a_stream_of_its_own_is_no_error(bench: HttpBench) -> None:
    bench.server.offers_stream = False
    bench.server.lose_sessions()
    await bench.client.call("echo")
    await until(lambda: bench.server.given == 2, "a new session is there")
    await bench.ready()
    assert (await bench.client.call("echo")).reason is None


async def test_at_most_64_calls_are_under_way(bench: HttpBench) -> None:
    async def idle() -> bool:
        return 'calls_in_flight{source="crm"} 0' in await bench.guard.metrics()

    await until(lambda: bool(bench.server.requests("tools/list")), "the guard has asked for the tools itself")
    await until(idle, "and has been answered")
    calls = [asyncio.create_task(bench.client.call("never")) for _ in range(64)]
    await until_count(lambda: len(bench.server.executed()), 64, "the calls are under way")
    await bench.refused("echo", "has too many calls under way; nothing was sent to it")
    assert "echo" not in bench.server.executed()
    for call in calls:
        call.cancel()


async def test_the_protocol_version_is_the_servers_own(bench: HttpBench) -> None:
    await bench.client.call("echo")
    call = bench.server.requests("tools/call")[0]
    if bench.server.protocol == "sessionless":
        assert (call.headers["MCP-Protocol-Version"], call.headers["Mcp-Method"]) == (SESSIONLESS, "tools/call")
        assert call.headers["Mcp-Name"] == "echo"
        meta = call.message["params"]["_meta"]
        assert meta["io.modelcontextprotocol/protocolVersion"] == SESSIONLESS
        assert meta["io.modelcontextprotocol/clientInfo"]["name"] == "interlock-guard"
        assert bench.server.requests("initialize") == []
    else:
        assert (call.headers["MCP-Protocol-Version"], call.headers["Mcp-Session-Id"]) == ("2025-11-25", "session-1")
        assert "_meta" not in call.message["params"]
