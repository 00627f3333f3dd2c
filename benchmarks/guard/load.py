"""The load: connections that each send their next call as soon as the last one is answered."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from typing_extensions import override

TEXT = "x" * 400
"""A request of about 0.5 KB, and an answer of twice the text: about 0.9 KB."""


def initialize(request_id: int) -> bytes:
    """Return the request `initialize`."""
    info = {"name": "benchmark", "version": "1"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "initialize", "params": params}).encode()


INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


def call(request_id: int) -> bytes:
    """Return one call of the tool."""
    params = {"name": "echo", "arguments": {"text": TEXT}}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}).encode()


@dataclass
class Tally:
    """What a stretch of load has shown; times in seconds."""

    latencies: list[float] = field(default_factory=list)
    wrong: bytes | None = None

    def check(self, body: bytes) -> None:
        """Keep an answer that is not the echo: a proxy that refuses is not a fast one."""
        if TEXT.encode() not in body and self.wrong is None:
            self.wrong = body[:500]


class Caller(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive, one request at a time."""

    def __init__(self, host: str, path: str, first_id: int) -> None:
        self.headers: dict[str, str] = {}
        self._host, self._path = host, path
        self._id = first_id
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._on_answer: Callable[[bytes], None] = lambda _: None
        self._session = ""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write."""
        self._transport = cast("asyncio.Transport", transport)

    async def open_session(self) -> None:
        """Initialize the session."""
        await self._ask(initialize(self._id))
        self._session = self.headers.get("mcp-session-id", "")
        await self._ask(INITIALIZED)

    async def run(self, tally: Tally, count: int, until: float) -> None:
        """Call until so many answers or this time on the monotonic clock."""
        done = asyncio.get_running_loop().create_future()
        started = 0.0

        def send() -> None:
            nonlocal started
            self._id += 1
            started = time.perf_counter()
            self._write(call(self._id))

        def take(body: bytes) -> None:
            nonlocal count
            tally.latencies.append(time.perf_counter() - started)
            tally.check(body)
            count -= 1
            if count <= 0 or time.monotonic() >= until or tally.wrong is not None:
                done.set_result(None)
            else:
                send()

        self._on_answer = take
        send()
        await done

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    @override
    def data_received(self, data: bytes) -> None:
        """Take whole answers out of the stream."""
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            lines = self._rest[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            begin = end + 4
            if "chunked" in headers.get("transfer-encoding", ""):
                stop = self._rest.find(b"\r\n0\r\n\r\n", begin - 2)
                if stop < 0:
                    return
                after = stop + 7
            else:
                after = stop = begin + int(headers.get("content-length", "0"))
                if len(self._rest) < stop:
                    return
            body, self._rest = self._rest[begin:stop], self._rest[after:]
            self.headers = headers
            self._on_answer(body)

    async def _ask(self, body: bytes) -> bytes:
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._on_answer = answered.set_result
        self._write(body)
        return await asyncio.wait_for(answered, 30)

    def _write(self, body: bytes) -> None:
        session = f"Mcp-Session-Id: {self._session}\r\nMCP-Protocol-Version: 2025-06-18\r\n" if self._session else ""
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\n{session}Content-Length: {len(body)}\r\n\r\n"
        )
        assert self._transport is not None
        self._transport.write(head.encode() + body)


class PipeCaller(asyncio.SubprocessProtocol):
    """The server without anything between: its own pipes, several calls under way."""

    def __init__(self) -> None:
        self.stdin: asyncio.WriteTransport | None = None
        self._rest = b""
        self._started: dict[int, float] = {}
        self._on_line: Callable[[bytes], None] = lambda _: None
        self._id = 0

    async def open_session(self) -> None:
        """Initialize the session."""
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._on_line = answered.set_result
        self._write(initialize(0))
        await asyncio.wait_for(answered, 30)
        self._write(INITIALIZED)

    async def run(self, tally: Tally, count: int, until: float, width: int) -> None:
        """Call with so many under way until so many answers or this time."""
        done = asyncio.get_running_loop().create_future()

        def send() -> None:
            self._id += 1
            self._started[self._id] = time.perf_counter()
            self._write(call(self._id))

        def take(line: bytes) -> None:
            nonlocal count
            message: dict[str, Any] = json.loads(line)
            tally.latencies.append(time.perf_counter() - self._started.pop(message["id"]))
            tally.check(line)
            count -= 1
            if count > 0 and time.monotonic() < until:
                send()
            elif not self._started:
                done.set_result(None)

        self._on_line = take
        for _ in range(width):
            send()
        await done

    @override
    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take whole lines out of the stream."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line)

    def _write(self, body: bytes) -> None:
        assert self.stdin is not None
        self.stdin.write(body + b"\n")
