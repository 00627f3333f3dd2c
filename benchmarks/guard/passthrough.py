"""The bare minimum between an HTTP client and a stdio server: bytes in, bytes out, in the order they came.

It reads no JSON, checks nothing, records nothing and believes every client; no proxy of messages can do less.
`python -m benchmarks.guard.passthrough PORT COMMAND...`
"""

import asyncio
import subprocess
import sys
from collections import deque
from typing import cast

import uvloop
from typing_extensions import override


class Server(asyncio.SubprocessProtocol):
    """The stdio server; answers go to the client that asked first."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Transport] = deque()
        self.stdin: asyncio.WriteTransport | None = None
        self._rest = b""

    @override
    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Pass whole lines on."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(line)
            self.waiting.popleft().write(head + line)


class Client(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, server: Server) -> None:
        self._server, self._rest = server, b""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to answer."""
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        """Pass whole bodies on."""
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            begin = self._rest.lower().index(b"content-length:") + 15
            length = int(self._rest[begin : self._rest.index(b"\r\n", begin)])
            if len(self._rest) < end + 4 + length:
                return
            body, self._rest = self._rest[end + 4 : end + 4 + length], self._rest[end + 4 + length :]
            assert self._transport is not None
            assert self._server.stdin is not None
            if b'"id"' in body:
                self._server.waiting.append(self._transport)
            else:
                self._transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            self._server.stdin.write(body + b"\n")


async def serve(port: int, command: list[str]) -> None:
    """Serve until ended."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.subprocess_exec(Server, *command, stdin=subprocess.PIPE, stderr=None)
    server.stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
    listener = await loop.create_server(lambda: Client(server), "127.0.0.1", port)
    await listener.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2:]))
