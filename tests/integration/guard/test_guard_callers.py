"""Who may use the agent's port and send tasks: an MCP server in the guard's pod tries both, and gets nothing."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from interlock_contract.bundle import BundleSource, BundleTasks, BundleTool, Grant, Pin, dump_bundle, parse_bundle
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import (
    HEADERS,
    MCP_PATH,
    SCRIPTED,
    SOURCE,
    Bench,
    Client,
    Guard,
    StdioServer,
    a_bundle,
    scripted_definition,
)
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.keys import AGENT_KEY
from tests.support.ports import free_port

EVIL = Path(__file__).parent / "programs" / "evil_server.py"
CALL = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {"region": "eu"}}}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
WRONG_KEYS = (AGENT_KEY[:-1], f"{AGENT_KEY}0", AGENT_KEY.upper(), "interlock-", "x" * 4096, "%00", "..")


def two_sources(task_port: int) -> str:
    """Return a bundle whose agent may use both servers, and takes tasks."""
    crm = parse_bundle(a_bundle(["echo"]))
    grants = (Grant("Binding", "b", ("weather",), (), ()), Grant("Matrix", "m", ("weather",), (), ()))
    pins = (Pin("weather", scripted_definition("weather")),)
    weather = BundleSource(
        "weather", "weather-b", "stdio", (BundleTool("weather", "read", "weather", ()),), grants, pins=pins
    )
    return dump_bundle(replace(crm, sources=(*crm.sources, weather), tasks=BundleTasks(task_port, 4)))


Tried = Callable[[Guard], list[dict[str, Any]]]


@asynccontextmanager
async def attacked(folder: Path, attempts: Tried, **environment: str) -> AsyncIterator[tuple[Guard, list[str]]]:
    """Run a guard with an honest and a hostile server; yield what the hostile one got when the agent called it."""
    api = FakeApiServer(free_port())
    api.set_agent()
    api.set_bundle(two_sources(free_port()))
    await api.start()
    guard = Guard(api, folder, more=environment, is_forked=False)
    await guard.start()
    await guard.started()
    honest = StdioServer(guard.pipes / SOURCE, [sys.executable, str(SCRIPTED), str(folder / "executed")])
    hostile = StdioServer(guard.pipes / "weather", [sys.executable, str(EVIL), json.dumps(attempts(guard))])
    try:
        for server, source in ((honest, SOURCE), (hostile, "weather")):
            await server.start()
            await until(lambda source=source: guard.probe(f"/ready/{source}"), f"{source} is ready")
        host = environment.get("INTERLOCK_HOST", "127.0.0.1")
        address = environment.get("INTERLOCK_LISTEN", "127.0.0.1")
        async with aiohttp.ClientSession() as session:
            client = Client(session, f"http://{address}:{guard.port}/{AGENT_KEY}/mcp/weather")
            body = {**CALL, "params": {"name": "weather", "arguments": {}}}
            answer = await client.post(json.dumps(body), {"Host": f"{host}:{guard.port}"})
        assert answer.reason is None, "the agent itself is served"
        yield guard, json.loads(answer.text)
    finally:
        await honest.kill()
        await hostile.kill()
        await guard.stop()
        await api.stop()


def check_nothing_came_of_it(guard: Guard, folder: Path) -> None:
    assert not (folder / "executed").exists()
    assert {(one["source"], one["tool"]) for one in guard.records()} == {("weather", "weather")}


@requirement("agent-key.proven")
async def test_in_a_shared_pod_a_server_without_the_key_gets_nothing(tmp_path: Path) -> None:
    def attempts(guard: Guard) -> list[dict[str, Any]]:
        base, host = f"http://127.0.0.1:{guard.port}", f"127.0.0.1:{guard.port}"
        paths = ["/mcp/crm", *(f"/{key}/mcp/crm" for key in WRONG_KEYS)]
        tried = [{"url": base + path, "host": host, "body": body} for path in paths for body in (LIST, CALL)]
        headers = {"Authorization": f"Bearer {AGENT_KEY}"}  # of an MCP request, the path counts alone
        tried.append({"url": f"{base}/mcp/crm", "host": host, "body": CALL, "headers": headers})
        return [{"source": "127.0.0.1", **one} for one in tried]

    async with attacked(tmp_path, attempts) as (guard, got):
        assert len(got) == 2 * (len(WRONG_KEYS) + 1) + 1
        assert {answer.partition(" ")[0] for answer in got} <= {"403", "404"}
        assert sum("AgentKeyRefused" in answer for answer in got) >= len(got) - 2, "but where a URL has no such path"
        check_nothing_came_of_it(guard, tmp_path)
        refused = [line for line in (await guard.metrics()).splitlines() if "callers_refused" in line and "Key" in line]
        assert int(refused[0].rsplit(" ", 1)[1]) >= len(got) - 2


@requirement("agent-key.own-pod")
@pytest.mark.parametrize("source", ["127.0.0.2", "127.0.0.3"])
async def test_a_guard_in_a_pod_of_its_own_refuses_its_pod_even_with_the_key(tmp_path: Path, source: str) -> None:
    def attempts(guard: Guard) -> list[dict[str, Any]]:
        url, host = f"http://127.0.0.2:{guard.port}{MCP_PATH}", f"guard:{guard.port}"
        return [{"url": url, "host": host, "source": source, "body": body} for body in (LIST, CALL)]

    more = {"INTERLOCK_LISTEN": "127.0.0.2", "INTERLOCK_HOST": "guard"}  # the agent calls from 127.0.0.1, as if remote
    async with attacked(tmp_path, attempts, **more) as (guard, got):
        assert [answer.partition(" ")[0] for answer in got] == ["403", "403"]
        assert all("OwnPod" in answer for answer in got)
        check_nothing_came_of_it(guard, tmp_path)


@requirement("agent-key.own-pod")
async def test_a_server_sends_no_task_to_the_agent(tmp_path: Path) -> None:
    def attempts(guard: Guard) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{guard.task_port}/"
        return [{"url": url, "host": "guard", "source": source, "body": CALL} for source in ("127.0.0.1", "127.0.0.9")]

    async with attacked(tmp_path, attempts, INTERLOCK_OWN_POD_EXEMPT="") as (guard, got):
        assert [answer.partition(" ")[0] for answer in got] == ["403", "403"]
        assert all("OwnPod" in answer for answer in got)
        assert guard.tasks() == []
        assert 'interlock_guard_task_refusals_total{reason="OwnPod"} 2' in await guard.metrics()


@requirement("agent-key.proven")
async def test_every_method_of_the_agents_port_needs_the_key_and_ready_needs_none(bench: Bench) -> None:
    base = f"http://127.0.0.1:{bench.guard.port}"
    async with bench.client.session.get(f"{base}/ready") as answer:
        assert answer.status == 200
    for key in ("", *WRONG_KEYS[:3]):
        for method in ("GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS"):
            path = f"/{key}/mcp/crm" if key else "/mcp/crm"
            async with bench.client.session.request(method, base + path, json=CALL) as answer:
                assert answer.status == 403, (method, key)
                assert "WWW-Authenticate" not in answer.headers
    assert bench.executed() == []


@requirement("agent-key.proven")
async def test_after_a_change_of_the_key_the_one_before_is_refused_at_the_next_request(
    bench: Bench, api: FakeApiServer
) -> None:
    assert (await bench.client.call("echo", region="eu")).reason is None
    changed = replace(parse_bundle(a_bundle(["echo"])), agent_key_digest="0" * 64)

    async def refused() -> bool:
        return (await bench.client.call("echo", region="eu")).status == 403

    api.set_bundle(dump_bundle(changed))
    await until(refused, "the key of before is refused")
    api.set_bundle(dump_bundle(replace(changed, agent_key_digest=None)))
    await asyncio.sleep(0)
    assert await refused()


@requirement("agent-key.proven")
async def test_a_key_that_changes_while_a_body_comes_in_is_compared_again(bench: Bench, api: FakeApiServer) -> None:
    body = json.dumps(CALL).encode()
    head = [f"POST {MCP_PATH} HTTP/1.1", f"Host: 127.0.0.1:{bench.guard.port}", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in HEADERS.items()]
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.port)
    writer.write("\r\n".join([*head, "", ""]).encode() + body[:-1])
    await writer.drain()

    async def refused() -> bool:
        return (await bench.client.call("echo", region="eu")).status == 403

    api.set_bundle(dump_bundle(replace(parse_bundle(a_bundle(["echo"])), agent_key_digest="0" * 64)))
    await until(refused, "the guard has the bundle with another key")
    executed = len(bench.executed())
    writer.write(body[-1:])
    assert b" 403 " in await reader.readline()
    writer.close()
    assert len(bench.executed()) == executed


@requirement("agent-key.secret")
async def test_the_key_is_in_no_log_record_or_metric(bench: Bench) -> None:
    await bench.client.call("echo", region="eu")
    await bench.client.call("no_such_tool")
    await bench.client.post("{", {"Host": "evil.example"})
    for raw in (
        f"GET {MCP_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{bench.guard.port}\r\nMcp-Session-Id: a\r\n\r\n",
        f"POST {MCP_PATH} HTTP/9.9\r\n\r\n",
        f"POST {MCP_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{bench.guard.port}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.port)
        writer.write(raw.encode())
        await reader.read(4096)  # the HTTP stack returns a malformed line to its sender
        writer.close()
    wrong = f"{AGENT_KEY}-wrong"
    await bench.client.post(json.dumps(CALL), url=f"http://127.0.0.1:{bench.guard.port}/{wrong}/mcp/crm")

    async def logged() -> bool:
        return "AgentKeyRefused" in bench.guard.log()

    await until(logged, "the refusal is in the log")
    texts = [bench.guard.log(), json.dumps(bench.guard.lines()), await bench.guard.metrics()]
    assert all(texts)
    assert not [text for text in texts if AGENT_KEY in text]


@requirement("agent-key.secret")
async def test_refusals_are_logged_once_a_minute_and_counted_each(bench: Bench) -> None:
    async def flood() -> None:
        for _ in range(50):
            url = f"http://127.0.0.1:{bench.guard.port}/interlock-x/mcp/crm"
            assert (await bench.client.post(json.dumps(CALL), url=url)).status == 403

    tasks: list[Awaitable[None]] = [flood() for _ in range(4)]
    await asyncio.gather(*tasks)
    assert 'interlock_guard_callers_refused_total{reason="AgentKeyRefused"} 200' in await bench.guard.metrics()
    assert bench.guard.log().count("AgentKeyRefused") <= 2, "two, if a minute ends meanwhile"
    assert bench.guard.records() == []
