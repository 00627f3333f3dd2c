"""What is measured: the server itself, the bare pass-through, the guard and a peer, each with a server of its own."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from benchmarks.guard.echo_server import TOOL
from benchmarks.guard.load import Caller, PipeCaller, Tally
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import MCP_PATH, SOURCE, Guard, StdioServer, a_bundle
from tests.support.pins import LearntPins, pins_of
from tests.support.ports import free_port
from tools.machine.environments import installed_program

ROOT = Path(__file__).parents[2]
ECHO = [sys.executable, str(Path(__file__).parent / "echo_server.py")]
START_SECONDS = 30.0
UNLIMITED = float("inf")

Load = Callable[[int, int, float], Awaitable[Tally]]
"""Puts a load on: connections (or calls under way), calls a connection, seconds at most."""


@dataclass(frozen=True)
class Target:
    """One way to the server.

    Attributes:
        load: puts a load on it.
        pid: the process that is the way, 0 for the server itself.
        start_seconds: from its start to its first answered byte.
    """

    name: str
    load: Load
    pid: int = 0
    start_seconds: float = 0.0


@asynccontextmanager
async def direct() -> AsyncIterator[Target]:
    """The server's own pipes."""
    transport, caller = await asyncio.get_running_loop().subprocess_exec(
        PipeCaller, *ECHO, stdin=subprocess.PIPE, stderr=None
    )
    caller.stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
    await caller.open_session()

    async def load(width: int, calls: int, seconds: float) -> Tally:
        tally = Tally()
        await caller.run(tally, calls * width, time.monotonic() + seconds, width)
        return tally

    yield Target("direct", load)
    transport.close()


@asynccontextmanager
async def bare() -> AsyncIterator[Target]:
    """The pass-through that does nothing else."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.guard.passthrough", str(port), *ECHO]
    async with _process(command) as process:
        seconds = await _first_answer(port)
        yield Target("bare", _http_load(port, "/"), process.pid, seconds)


@asynccontextmanager
async def guard(folder: Path) -> AsyncIterator[Target]:
    """The guard as it is deployed, its API server a stand-in, its records into a file."""
    api = FakeApiServer(free_port())
    api.set_agent()
    api.pins = LearntPins(pins_of([TOOL]), ())
    api.set_bundle(a_bundle(["echo"]))
    await api.start()
    process = Guard(api, folder, is_forked=False)
    started = time.monotonic()
    starting = asyncio.create_task(process.start())
    await _first_answer(process.port)
    seconds = time.monotonic() - started
    await starting
    server = StdioServer(process.pipes / SOURCE, ECHO)
    try:
        await process.started()
        await server.start()
        await process.source_ready()
        assert process.process is not None
        yield Target("guard", _http_load(process.port, MCP_PATH), process.process.pid, seconds)
    finally:
        await process.stop()
        await server.kill()
        await api.stop()


@asynccontextmanager
async def peer() -> AsyncIterator[Target]:
    """mcp-proxy from PyPI, which offers a stdio server as streamable HTTP and decides nothing."""
    port = free_port()
    program = await asyncio.to_thread(installed_program, "mcp-proxy", "bench-peer.txt")
    command = [str(program), "--port", str(port), "--log-level", "ERROR", "--", *ECHO]
    async with _process(command) as process:
        seconds = await _first_answer(port)
        yield Target("mcp-proxy", _http_load(port, "/mcp"), process.pid, seconds)


def _http_load(port: int, path: str) -> Load:
    async def load(width: int, calls: int, seconds: float) -> Tally:
        loop, tally = asyncio.get_running_loop(), Tally()
        callers = []
        for number in range(width):
            build = partial(Caller, f"127.0.0.1:{port}", path, number * 1_000_000)
            _, caller = await loop.create_connection(build, "127.0.0.1", port)
            await caller.open_session()
            callers.append(caller)
        end = time.monotonic() + seconds
        await asyncio.gather(*(caller.run(tally, calls, end) for caller in callers))
        for caller in callers:
            caller.close()
        return tally

    return load


@asynccontextmanager
async def _process(command: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        async with asyncio.timeout(START_SECONDS):
            await process.wait()


async def _first_answer(port: int) -> float:
    """Return the seconds until a listener is there and answers a byte to what is no request of MCP."""
    started = time.monotonic()
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            if time.monotonic() - started > START_SECONDS:
                raise
            await asyncio.sleep(0.005)
            continue
        writer.write(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        await asyncio.wait_for(reader.read(1), START_SECONDS)
        writer.close()
        return time.monotonic() - started
