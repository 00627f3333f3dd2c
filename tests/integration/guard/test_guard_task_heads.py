"""Large and malformed heads of tasks and of agents' answers, in front of a real guard process."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Guard
from tests.integration.guard.tasking import TaskAgent, TaskBench, a_bundle_with_tasks
from tests.requirements import requirement
from tests.support.bounds import limit, until

LARGE = "token-" + "x" * 60_000
TOO_LARGE = "token-" + "x" * 70_000
OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


@dataclass
class ScriptedAgent:
    """An agent that answers each request with the bytes that a test says."""

    answer: str = f"{OK}\r\nhi"
    heads: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer.encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.fixture
async def bench(api: FakeApiServer, agent: ScriptedAgent, tmp_path: Path) -> AsyncIterator[TaskBench]:
    server = await asyncio.start_server(agent.serve, "127.0.0.1", 0, limit=256 * 1024)
    api.set_bundle(a_bundle_with_tasks(server.sockets[0].getsockname()[1]))
    guard = Guard(api, tmp_path)
    await guard.start()
    await until(lambda: guard.probe("/readyz"), "the guard is open")
    async with aiohttp.ClientSession(max_field_size=256 * 1024) as session:
        yield TaskBench(api, guard, TaskAgent(), session)
    await guard.stop()
    server.close()


async def ask(port: int, head: str) -> bytes:
    """Send the head of a request; return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode())
    async with limit(30, "the request is answered"):
        answer = await reader.read()
    writer.close()
    return answer


@requirement("tasks.heads")
async def test_headers_of_60_kb_pass_both_ways(bench: TaskBench, agent: ScriptedAgent) -> None:
    agent.answer = f"{OK}X-Long: {LARGE}\r\n\r\nhi"
    async with bench.session.get(bench.url("/task"), headers={"Authorization": LARGE}) as response:
        assert (response.status, response.headers["X-Long"], await response.read()) == (200, LARGE, b"hi")
    assert f"Authorization: {LARGE}".encode() in agent.heads[0]


@requirement("tasks.heads")
async def test_120_headers_of_gateways_pass_both_ways(bench: TaskBench, agent: ScriptedAgent) -> None:
    many = {f"X-Gateway-{number}": "1" for number in range(120)}
    agent.answer = OK + "".join(f"{name}: {value}\r\n" for name, value in many.items()) + "\r\nhi"
    async with bench.session.get(bench.url("/task"), headers=many) as response:
        assert (response.status, await response.read()) == (200, b"hi")
        assert many.keys() <= response.headers.keys()
    assert all(f"{name}: 1".encode() in agent.heads[0] for name in many)


@requirement("tasks.heads")
@pytest.mark.parametrize(
    "head",
    [
        f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {TOO_LARGE}\r\n\r\n",
        f"GET /{TOO_LARGE} HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["field", "request line"],
)
async def test_a_caller_is_told_which_bound_its_head_exceeds(bench: TaskBench, agent: ScriptedAgent, head: str) -> None:
    answer = await ask(bench.guard.task_port, head)
    start, _, body = answer.partition(b"\r\n\r\n")
    assert b" 431 " in start.split(b"\r\n")[0]
    error = json.loads(body)["error"]
    assert error["data"]["reason"] == "BadRequest"
    assert error["message"] == "The request line or a header field has more than 65536 bytes."
    assert b"token-" not in answer
    assert agent.heads == []
    assert await bench.figure('task_refusals_total{reason="BadRequest"}') == 1


async def test_a_malformed_head_of_a_caller_is_refused_in_json(bench: TaskBench) -> None:
    answer = await ask(bench.guard.task_port, "GET / HTTP/1.1\r\nHost: a\r\nNo colon: token-1\r\nnothing\r\n\r\n")
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["data"]["reason"] == "BadRequest"
    assert b"token-" not in answer


async def test_a_head_on_the_agents_port_that_is_too_large_is_not_repeated(bench: TaskBench) -> None:
    answer = await ask(bench.guard.port, f"GET / HTTP/1.1\r\nHost: a\r\nX-Key: {'token-' * 2000}\r\n\r\n")
    assert b" 431 " in answer.split(b"\r\n")[0]
    assert b"more than 8190 bytes" in answer
    assert b"token-" not in answer


@requirement("tasks.heads")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (f"{OK}X-Long: {TOO_LARGE}\r\n\r\nhi", "has a header field of more than 65536 bytes"),
        (
            OK + "".join(f"X-{n}: {LARGE}\r\n" for n in range(4)) + "\r\nhi",
            "has header fields of more than 131072 bytes",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "is not well-formed HTTP/1.1"),
        (OK + "".join(f"X-{n}: 1\r\n" for n in range(200)) + "\r\nhi", "is not well-formed HTTP/1.1"),
    ],
    ids=["field", "head", "no HTTP", "fields"],
)
async def test_the_reason_is_told_for_an_answer_that_cannot_pass(
    bench: TaskBench, agent: ScriptedAgent, answer: str, words: str
) -> None:
    agent.answer = answer
    status, body = await bench.post("/task")
    assert (status, body["error"]["data"]["reason"]) == (502, "BadAnswer")
    assert words in body["error"]["message"]
    assert "token-" not in json.dumps(body) + bench.guard.log()
    assert await bench.outcomes(1) == ["BadAnswer"]
    assert await bench.figure('task_failures_total{kind="Task"}') == 1
