"""Moments of a stdio server's start: gone when its guard turns to it, or late after another one at the same pipe."""

import asyncio
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from interlock_guard.decision.decide import Deny
from interlock_guard.upstream import stdio_upstream
from interlock_guard.upstream import upstream as upstream_module
from interlock_guard.upstream.pipes import PipePair
from interlock_guard.upstream.stdio_upstream import StdioUpstream
from interlock_guard.wire.jsonrpc import RpcResponse
from tests.requirements import requirement
from tests.support.bounds import until

GENERATIONS = 3
SECONDS = 10.0


class EndingServer(PipePair):
    """Pipes whose server lets go of its input between the guard's opening it and the guard's first word."""

    async def open_writer(self, *, is_wanted: Callable[[], bool]) -> int | None:
        reader = os.open(self.directory / "in", os.O_RDONLY | os.O_NONBLOCK)
        try:
            return await super().open_writer(is_wanted=is_wanted)
        finally:
            os.close(reader)


class Listener:
    """Ignores every event."""

    def client_capabilities(self, _: Any) -> dict[str, Any]:
        return {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_server_that_is_gone_before_the_first_word_is_waited_for_again(run: Any, tmp_path: Path) -> None:
    async def main() -> list[str]:
        said: list[str] = []
        again = asyncio.Event()

        def log(message: str) -> None:
            said.append(message)
            if message.endswith(f"generation {GENERATIONS} begins"):
                again.set()

        upstream = StdioUpstream("crm", EndingServer(tmp_path / "crm"), Listener(), log)
        upstream.open()
        serving = asyncio.create_task(upstream.run())
        async with asyncio.timeout(SECONDS):
            await again.wait()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return said

    said = run(main())
    assert said[1] == "server of crm: generation 1 is over: it no longer reads"


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_the_end_of_a_server_from_before_the_guard_is_not_that_of_the_next_one(run: Any, tmp_path: Path) -> None:
    """A shell that waited at the pipe `in` of an earlier guard opens the pipe `out` of this one, and ends."""

    async def main() -> list[str]:
        said: list[str] = []
        pipes = PipePair(tmp_path / "crm")
        upstream = StdioUpstream("crm", pipes, Listener(), said.append)
        upstream.open()
        serving = asyncio.create_task(upstream.run())
        async with asyncio.timeout(SECONDS):
            os.close(await opened(pipes.directory / "out", os.O_WRONLY))  # the earlier one
            reader = await opened(pipes.directory / "in", os.O_RDONLY)
            request = json.loads(await line_of(reader))
            writer = await opened(pipes.directory / "out", os.O_WRONLY)
            error = {"code": -32601, "message": "unknown method"}
            os.write(writer, json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode() + b"\n")
            assert b"initialize" in await line_of(reader)
        so_far = [*said]
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        os.close(reader)
        os.close(writer)
        return so_far

    assert run(main()) == ["server of crm: generation 1 begins"]


@requirement("guard.first-message")
async def test_a_strict_server_that_starts_slowly_is_initialized_at_its_next_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its first process reads the probe only after the guard has given it up and sent `initialize`, and ends at it."""
    monkeypatch.setattr(stdio_upstream, "PROBE_SECONDS", 0.01)
    pipes = PipePair(tmp_path / "crm")
    said: list[str] = []
    upstream = StdioUpstream("crm", pipes, Listener(), said.append)
    upstream.open()
    serving = asyncio.create_task(upstream.run())
    async with asyncio.timeout(SECONDS):
        reader = await opened(pipes.directory / "in", os.O_RDONLY)
        writer = await opened(pipes.directory / "out", os.O_WRONLY)
        text = b""
        while text.count(b"\n") < 2:
            text += await line_of(reader)
        assert [json.loads(line)["method"] for line in text.splitlines()] == ["server/discover", "initialize"]
        os.close(reader)
        os.close(writer)
        await until(lambda: "generation 1 is over" in said[-1], "the guard has seen the end")
        reader = await opened(pipes.directory / "in", os.O_RDONLY)
        writer = await opened(pipes.directory / "out", os.O_WRONLY)
        assert json.loads(await line_of(reader))["method"] == "initialize"
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    os.close(reader)
    os.close(writer)


@requirement("guard.odd-messages")
@pytest.mark.parametrize(
    "line",
    [
        '\x1b[32mINFO\x1b[0m done{"jsonrpc":"2.0","id":1,"result":{}}',
        '{"jsonrpc":"2.0","method":"m"}{"jsonrpc":"2.0","id":"1","result":{}}',
        'INFO {"jsonrpc": "2.0", "result": {"content": [], "content": []}, "id": 1}',
        'INFO {"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"%s"}}' % ("x" * 5000),
    ],
)
async def test_a_call_whose_answer_may_stand_in_an_unreadable_line_is_failed_soon_unless_it_is_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    monkeypatch.setattr(upstream_module, "HASTENED_SECONDS", 0.0)
    monkeypatch.setattr(upstream_module, "_SWEEP_SECONDS", 0.01)
    upstream = StdioUpstream("crm", PipePair(tmp_path / "crm"), Listener(), lambda _: None)
    named, other = upstream.start("tools/call", {}), upstream.start("tools/call", {})
    upstream._take_line(line.encode())  # noqa: SLF001
    assert not named.future.done()
    async with asyncio.timeout(SECONDS):
        outcome = await named.future
    assert isinstance(outcome, Deny)
    assert "answered with what is no message" in outcome.message
    assert not other.future.done()
    assert upstream.dropped.count == 1

    monkeypatch.setattr(upstream_module, "HASTENED_SECONDS", 600.0)
    upstream._take_line(line.replace("1", "2").replace("2m", "1m").encode())  # noqa: SLF001 - a log quotes an answer
    upstream._take_line(b'{"jsonrpc":"2.0","id":2,"result":{"a":1}}')  # noqa: SLF001
    assert other.future.result() == RpcResponse(2, {"a": 1}, None)


@pytest.mark.parametrize(
    "line",
    [
        "INFO call 1",
        '{"id":1,"level":"info"',
        'INFO {"jsonrpc":"2.0","id":1,"method":"m"}',
        'INFO {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"error":"x"}}}',
        'INFO {"jsonrpc":"2.0","method":"tools/call","params":{"arguments":{"error":"x"}},"id":1}',
    ],
)
async def test_a_line_that_is_no_answer_hastens_no_call(tmp_path: Path, line: str) -> None:
    upstream = StdioUpstream("crm", PipePair(tmp_path / "crm"), Listener(), lambda _: None)
    call = upstream.start("tools/call", {})
    before = call.deadline
    upstream._take_line(line.encode())  # noqa: SLF001
    assert call.deadline == before


async def opened(path: Path, mode: int) -> int:
    """Return the end of a pipe, once the guard has its own one."""
    while True:
        try:
            return os.open(path, mode | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO  # noqa: PT017 - any other error is one of the test
        await asyncio.sleep(0)


async def line_of(reader: int) -> bytes:
    """Return the next line of the guard."""
    while True:
        try:
            if line := os.read(reader, 65536):
                return line
        except BlockingIOError:
            pass
        await asyncio.sleep(0)
