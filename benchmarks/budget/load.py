"""The load: connections of an agent that each send their next call of a model as soon as the last one is answered."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Final, cast

from typing_extensions import override

from benchmarks.budget.provider import MODEL, OUTPUT_TOKENS

_PROMPT: Final = "x" * 300
ANSWER_SECONDS: Final = 120.0
"""Longest wait for one answer."""


def request_body(*, is_stream: bool = False, prompt: str = _PROMPT) -> bytes:
    """Return the body of a call whose cap is what the provider's answers have."""
    message = {"role": "user", "content": prompt}
    stream = {"stream": True} if is_stream else {}
    return json.dumps({"model": MODEL, "messages": [message], "max_tokens": OUTPUT_TOKENS, **stream}).encode()


@dataclass
class Tally:
    """What a stretch of load has shown, by HTTP status; times in seconds.

    Attributes:
        answers: Number of answers by status.
        latencies: From a request to the end of its answer, of those with status 200.
        first_bytes: From a request to the first byte behind the headers, of the same.
        pauses: The longest pause between two pieces of each answer.
        refused: The beginning of an answer with another status.
    """

    answers: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    refused: bytes = b""


class Caller(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive, one request at a time."""

    def __init__(self, host: str, path: str, key: str) -> None:
        self._host, self._path, self._key = host, path, key
        self._data = bytearray()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._first_at = self._last_at = self._pause = 0.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write."""
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, error: Exception | None) -> None:
        """End a call without an answer."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the connection ended"))

    @override
    def data_received(self, data: bytes) -> None:
        """Take the answer once it is whole."""
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        begin = end + 4
        if len(self._data) > begin and not self._first_at:
            self._first_at = self._last_at = time.perf_counter()
        if self._first_at:
            self._pause = max(self._pause, time.perf_counter() - self._last_at)
            self._last_at = time.perf_counter()
        head = bytes(self._data[:end]).lower()
        if b"transfer-encoding: chunked" in head:
            if not self._data.endswith(b"0\r\n\r\n"):
                return
        elif len(self._data) < begin + int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return
        answer, body = self._answer, bytes(self._data[begin:])
        self._answer = None
        self._data.clear()
        answer.set_result((int(head.split(b" ", 2)[1]), body))

    async def call(self, body: bytes, tally: Tally) -> None:
        """Send a request and note its answer."""
        assert self._transport is not None
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self._key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._answer, self._first_at = asyncio.get_running_loop().create_future(), 0.0
        self._pause = 0.0
        started = time.perf_counter()
        self._transport.write(head.encode() + body)
        status, answered = await asyncio.wait_for(self._answer, ANSWER_SECONDS)
        tally.answers[status] = tally.answers.get(status, 0) + 1
        if status == 200:
            tally.latencies.append(time.perf_counter() - started)
            tally.first_bytes.append(self._first_at - started)
            tally.pauses.append(self._pause)
        else:
            tally.refused = tally.refused or answered[:500]

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()


@dataclass(frozen=True)
class Way:
    """One way to the provider: a port, the path of chat completions, and the key that is shown."""

    port: int
    path: str
    key: str

    async def load(self, width: int, *, body: bytes, calls: int = 0, seconds: float = 0.0) -> Tally:
        """Put a load on with so many connections, each with so many calls or for so many seconds."""
        loop, tally = asyncio.get_running_loop(), Tally()
        made = [
            await loop.create_connection(
                lambda: Caller(f"127.0.0.1:{self.port}", self.path, self.key), "127.0.0.1", self.port
            )
            for _ in range(width)
        ]
        end = time.monotonic() + seconds

        async def run(caller: Caller) -> None:
            done = 0
            while done < calls if calls else time.monotonic() < end:
                await caller.call(body, tally)
                done += 1

        try:
            await asyncio.gather(*(run(caller) for _, caller in made))
        finally:
            for _, caller in made:
                caller.close()
        return tally
