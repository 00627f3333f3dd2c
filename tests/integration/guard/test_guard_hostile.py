"""P1: nothing of the corpus reaches a server that writes down every line it gets."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.corpus.mcp_hostile import BODIES, HEADED, requests
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import MCP_PATH, SOURCE, Client, Guard, StdioServer, a_bundle
from tests.requirements import requirement
from tests.support.bounds import WAIT_SECONDS

RECORDING = Path(__file__).parent / "programs" / "recording_server.py"
SMALLEST_CORPUS = 150
SILENCE_SECONDS = 0.5


@dataclass
class Recorded:
    """A guard in front of a recording server."""

    guard: Guard
    client: Client
    file: Path
    seen: int = field(default=0)

    @staticmethod
    def own_list(line: str) -> str:
        """Return the guard's own request for the server's tools, under the id of this line."""
        return json.dumps(
            {"jsonrpc": "2.0", "id": json.loads(line).get("id"), "method": "tools/list", "params": {}},
            separators=(",", ":"),
        )

    async def forwarded(self) -> list[str]:
        """Return what reached the server since the last check, up to a call of ours that must arrive."""
        answer = await self.client.call("echo", marker=True)
        assert answer.reason is None
        lines = [line for line in self.file.read_text().splitlines() if line != self.own_list(line)]
        new, self.seen = lines[self.seen :], len(lines)
        assert json.loads(new[-1])["params"]["arguments"] == {"marker": True}
        return new[:-1]


@pytest.fixture
async def recorded(api: FakeApiServer, guard: Guard, tmp_path: Path) -> AsyncIterator[Recorded]:
    api.set_bundle(a_bundle(["echo"], read_only=["drop"]))
    file = tmp_path / "received"
    server = StdioServer(guard.pipes / SOURCE, [sys.executable, str(RECORDING), str(file)])
    await guard.started()
    await server.start()
    await guard.source_ready()
    async with aiohttp.ClientSession() as session:
        bench = Recorded(guard, Client(session, guard.url), file)
        await bench.forwarded()  # initialize
        yield bench
    await server.kill()


def test_the_corpus_is_as_large_as_promised() -> None:
    corpus = [*BODIES.values(), *(repr(case) for case in HEADED.values()), *requests(1).values()]
    assert len({case if isinstance(case, bytes) else case.encode() for case in corpus}) > 2 * SMALLEST_CORPUS


@requirement("guard.hostile")
async def test_no_hostile_body_is_forwarded_and_each_is_refused_and_recorded(recorded: Recorded) -> None:
    got_through, before = [], denials(recorded.guard)
    for name, body in BODIES.items():
        answer = await recorded.client.post(body)
        is_refused = answer.status == 400 or answer.reason in {
            "MethodNotAllowed",
            "ToolNotMapped",
            "NotGrantedByBinding",
        }
        is_harmless = name == "method 'notifications/initialized'"  # with an id it is a request, and refused as one
        if await recorded.forwarded() or not (is_refused or is_harmless):
            got_through.append(name)
    assert got_through == []
    await recorded.guard.stop(signal.SIGTERM)  # which records the denials that only have a count so far
    assert denials(recorded.guard) - before == len(BODIES)


def denials(guard: Guard) -> int:
    """Return how many denials a guard has recorded, one by one and as a count."""
    return sum(int(line.get("count", 1)) for line in guard.lines() if line.get("decision") == "Deny")


@requirement("guard.hostile")
async def test_no_body_that_disagrees_with_its_headers_is_forwarded(recorded: Recorded) -> None:
    got_through = []
    for name, (body, headers) in HEADED.items():
        answer = await recorded.client.post(body, headers)
        if await recorded.forwarded() or not 400 <= answer.status < 500:
            got_through.append(name)
    assert got_through == []


@requirement("guard.hostile")
async def test_no_trick_of_http_gets_a_call_to_the_server(recorded: Recorded) -> None:
    got_through = []
    for name, data in requests(recorded.guard.port).items():
        statuses = await send(recorded.guard.port, data)
        if await recorded.forwarded() or not all(400 <= status < 600 for status in statuses):
            got_through.append((name, statuses))
    assert got_through == []


async def send(port: int, data: bytes, silence: float = SILENCE_SECONDS) -> list[int]:
    """Send the bytes; return the statuses of what comes back until there is silence or the guard hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = b""
    try:
        writer.write(data)
        await writer.drain()
        while chunk := await asyncio.wait_for(reader.read(65536), silence):
            answers += chunk
    except (ConnectionError, TimeoutError):
        pass  # refused in the middle, or nothing more to come
    finally:
        writer.close()
    lines = answers.split(b"\r\n")
    return [int(line.split()[1]) for line in lines if line.startswith(b"HTTP/1.")]


async def test_the_same_messages_without_what_makes_them_hostile_are_forwarded(recorded: Recorded) -> None:
    """The positive control: the well-formed neighbours of the corpus do reach the server."""
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}
    sessionless = {**message, "params": {**message["params"], "_meta": meta}}  # type: ignore[dict-item]
    agreed = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call"}
    assert (await recorded.client.post(json.dumps(message))).reason is None
    for name in ("echo", "=?base64?ZWNobw==?="):
        assert (await recorded.client.post(json.dumps(sessionless), {**agreed, "Mcp-Name": name})).reason is None
    text = json.dumps(message)
    lines = [f"POST {MCP_PATH} HTTP/1.1", f"Host: 127.0.0.1:{recorded.guard.port}", "Content-Type: application/json"]
    lines.append("Connection: close")
    for framing in (f"Content-Length: {len(text)}\r\n\r\n{text}", f"Transfer-Encoding: chunked\r\n\r\n{chunked(text)}"):
        assert await send(recorded.guard.port, ("\r\n".join([*lines, framing])).encode(), WAIT_SECONDS) == [200]
    assert len(await recorded.forwarded()) == 5


def chunked(text: str) -> str:
    return f"{len(text):x}\r\n{text}\r\n0\r\n\r\n"
