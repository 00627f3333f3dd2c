"""An egress proxy of the tests: it tunnels what it is told to by name, and notes all that it was told."""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """A proxy that knows a few names.

    Attributes:
        port: Its port on the loopback interface.
        names: Host to the port on the loopback interface that it leads to.
        tls: Its certificate; None for plain HTTP.
        refusal: The status line with which it answers instead of making a tunnel.
        heads: The requests that came, as they came.
        tunnels: Tunnels that are open.
    """

    port: int
    names: dict[str, int]
    tls: ssl.SSLContext | None = None
    refusal: str = ""
    heads: list[str] = field(default_factory=list)
    tunnels: int = 0
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)

    async def stop(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            host, _, _port = head.split(" ")[1].rpartition(":")
            if self.refusal or not head.startswith("CONNECT ") or host not in self.names:
                writer.write(f"HTTP/1.1 {self.refusal or '404 Not Found'}\r\nContent-Length: 0\r\n\r\n".encode())
                return
            there, back = await asyncio.open_connection("127.0.0.1", self.names[host])
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self.tunnels += 1
            try:
                await asyncio.gather(pass_on(reader, back), pass_on(there, writer))
            finally:
                self.tunnels -= 1
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # one side is gone
        finally:
            writer.close()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side ends."""
    with suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    writer.close()
