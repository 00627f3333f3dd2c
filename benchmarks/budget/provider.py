"""A provider of models that answers at once and counts the cost: `python -m benchmarks.budget.provider PORT`.

It speaks OpenAI's chat completions with as little work as possible, so that the time between is that of the proxy:

    POST /v1/chat/completions   the answer; with `stream`, EVENTS events, each sent alone, then the usage
    GET  /cost                  {"calls": 3, "nanodollars": 2250000}
    GET  /reset                 the same, and the counts begin again

A call is counted when it arrives, so one that a proxy gives up is counted too.
"""

import asyncio
import json
import sys
from typing import Final, cast

import uvloop
from typing_extensions import override

MODEL: Final = "gpt-4o-mini"
INPUT_TOKENS: Final = 100
OUTPUT_TOKENS: Final = 500
INPUT_NANODOLLARS: Final = 150
OUTPUT_NANODOLLARS: Final = 600
"""Of one token: $0.15 and $0.60 a million."""
CALL_NANODOLLARS: Final = INPUT_TOKENS * INPUT_NANODOLLARS + OUTPUT_TOKENS * OUTPUT_NANODOLLARS
EVENTS: Final = 100
EVENT_BYTES: Final = 200
PAUSE: Final = 0.001
"""Seconds between two events, so that each of them arrives alone."""

_USAGE: Final = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


def _json_answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _answer() -> bytes:
    message = {"role": "assistant", "content": "x" * 400}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return json.dumps(
        {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice], "usage": _USAGE}
    ).encode()


def _event(choices: list[object], **more: object) -> bytes:
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices, **more}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def _events() -> list[bytes]:
    def piece(text: str) -> bytes:
        return _event([{"index": 0, "delta": {"content": text}, "finish_reason": None}])

    texts = [piece("x" * (EVENT_BYTES - len(piece("")))) for _ in range(EVENTS)]
    end = _event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    return [*texts, end, _event([], usage=_USAGE), b"data: [DONE]\n\n"]


_ANSWER: Final = _json_answer(_answer())
_EVENTS: Final = [b"%x\r\n%s\r\n" % (len(event), event) for event in _events()]
_STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Provider(asyncio.Protocol):
    """One connection, one request at a time."""

    calls = 0

    def __init__(self) -> None:
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._streams: set[asyncio.Task[None]] = set()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write."""
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        """Take whole requests out of the stream."""
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head = self._rest[:end].lower()
            if b"transfer-encoding: chunked" in head:
                stop = self._rest.find(b"0\r\n\r\n", end)
                if stop < 0:
                    return
                after = stop + 5
            else:
                _, found, length = head.partition(b"content-length:")
                after = end + 4 + (int(length.split(b"\r\n", 1)[0]) if found else 0)
                if len(self._rest) < after:
                    return
            body, self._rest = self._rest[end + 4 : after], self._rest[after:]
            self._serve(head, body)

    def _serve(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if head.startswith(b"get"):
            counted = {"calls": Provider.calls, "nanodollars": Provider.calls * CALL_NANODOLLARS}
            if head.startswith(b"get /reset"):
                Provider.calls = 0
            self._transport.write(_json_answer(json.dumps(counted).encode()))
            return
        Provider.calls += 1
        if b'"stream": true' in body or b'"stream":true' in body:
            task = asyncio.create_task(self._stream(self._transport))
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
        else:
            self._transport.write(_ANSWER)

    async def _stream(self, transport: asyncio.Transport) -> None:
        transport.write(_STREAM_HEAD)
        for event in _EVENTS:
            transport.write(event)
            await asyncio.sleep(PAUSE)
        transport.write(b"0\r\n\r\n")


async def serve(port: int) -> None:
    """Serve until the process ends."""
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
