"""An MCP server over HTTP that behaves as badly as a test says, in this process; it records all that reaches it."""

import asyncio
import gzip
import json
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web
from aiohttp.typedefs import Handler

ProtocolKind = Literal["session-based", "sessionless"]
Message = dict[str, Any]
SESSIONLESS = "2026-07-28"
LISTED = ["echo", "never", "slow", "bad", "progress", "resumed", "once", "ask", "hidden"]


@dataclass
class Seen:
    """One HTTP request as it arrived."""

    method: str
    headers: dict[str, str]
    message: Message

    @property
    def rpc(self) -> str:
        found: str = self.message.get("method", "")
        return found


class FakeHttpServer:
    """Serves one URL; `tools` are its tools' behaviours by name, to be changed and added to by a test."""

    def __init__(self, port: int, protocol: ProtocolKind = "session-based") -> None:
        self.port = port
        self.protocol = protocol
        self.seen: list[Seen] = []
        self.sessions: set[str] = set()
        self.given = 0
        """Sessions that were given out so far."""
        self.connections: set[asyncio.BaseTransport] = set()
        self.offers_stream = True
        self.on_lost = 404
        """The status for a session that is not known: MCP wants 404, and many servers answer 400."""
        self.reads = asyncio.Event()
        """While it is not set, bodies of requests are left where they are."""
        self.reads.set()
        self.unread = 0
        """Requests whose head is there and whose body waits for `reads`."""
        self.speaks = asyncio.Event()
        """Set once a client receives the server's own messages."""
        self.on_discover: Callable[[Message], web.Response] | None = None
        self.tools: dict[str, Callable[[web.Request, Message], Coroutine[Any, Any, web.StreamResponse]]] = {
            "echo": self.echo,
            "never": self.never,
        }
        self.on_resume: Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]] | None = None
        self.resumed: list[str] = []
        """Ids after which a client resumed a stream."""
        self._streams: list[web.StreamResponse] = []
        self._runner: web.AppRunner | None = None

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        app = web.Application(client_max_size=32 * 1024 * 1024, middlewares=[self._serve_until_stopped])
        app.router.add_post("/mcp", self._post)
        app.router.add_get("/mcp", self._get)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05, handler_cancellation=True)
        await self._runner.setup()
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # what is not read stays with the client
        taken.bind(("127.0.0.1", self.port))
        await web.SockSite(self._runner, taken, ssl_context=context).start()

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    @web.middleware
    async def _serve_until_stopped(self, http: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer no request after `stop`: aiohttp still serves clients whose TLS handshake was under way by then."""
        if self._runner is not None:
            return await handler(http)
        if http.transport is not None:
            http.transport.abort()
        return web.Response(status=503)

    def requests(self, rpc: str) -> list[Seen]:
        """Return what arrived of a JSON-RPC method."""
        return [one for one in self.seen if one.rpc == rpc]

    def executed(self) -> list[str]:
        """Return the names of the tools that were called, in order."""
        return [one.message["params"]["name"] for one in self.requests("tools/call")]

    def open_connections(self) -> int:
        return len([one for one in self.connections if not one.is_closing()])

    def lose_sessions(self) -> None:
        self.sessions.clear()

    async def say(self, message: Message) -> None:
        """Say something on the server's own stream."""
        for stream in self._streams:
            await stream.write(event({"jsonrpc": "2.0", **message}))

    async def echo(self, _http: web.Request, message: Message) -> web.StreamResponse:
        """Answer with what arrived as the call."""
        return result(message, {"content": [{"type": "text", "text": json.dumps({"params": message["params"]})}]})

    async def never(self, _http: web.Request, _message: Message) -> web.StreamResponse:
        await asyncio.sleep(600)
        raise AssertionError("no client waits so long")

    async def _post(self, http: web.Request) -> web.StreamResponse:
        self.unread += 1
        await self.reads.wait()
        message = json.loads(await http.read())
        self.unread -= 1
        self.seen.append(Seen("POST", dict(http.headers), message))
        if http.transport is not None:
            self.connections.add(http.transport)
        method = message.get("method")
        refused = self._refuse(http, method)
        if refused is not None:
            return refused
        if "id" not in message or method is None:
            return web.Response(status=202)
        if method == "tools/call":
            return await self.tools[message["params"]["name"]](http, message)
        answers = {"initialize": self._initialize, "server/discover": self._discover, "tools/list": self._list}
        return answers.get(method, self._refuse_method)(message)

    async def _get(self, http: web.Request) -> web.StreamResponse:
        self.seen.append(Seen("GET", dict(http.headers), {}))
        if http.transport is not None:
            self.connections.add(http.transport)
        refused = self._refuse(http, None)
        if refused is not None:
            return refused
        if "Last-Event-ID" in http.headers and self.on_resume is not None:
            self.resumed.append(http.headers["Last-Event-ID"])
            return await self.on_resume(http)
        if not self.offers_stream:
            return web.Response(status=405)
        stream = await a_stream(http)
        self._streams.append(stream)
        self.speaks.set()
        try:
            await asyncio.sleep(600)
        finally:
            self._streams.remove(stream)
        return stream

    def _refuse(self, http: web.Request, method: str | None) -> web.Response | None:
        if self.protocol == "sessionless" or method in {"initialize", "server/discover"}:
            return None
        session = http.headers.get("Mcp-Session-Id")
        return None if session in self.sessions else web.Response(status=self.on_lost if session else 400)

    def _list(self, message: Message) -> web.Response:
        return result(message, {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in LISTED]})

    def _refuse_method(self, message: Message) -> web.Response:
        return error(message, -32601, "Method not found", 404 if self.protocol == "sessionless" else 200)

    def _initialize(self, message: Message) -> web.Response:
        if self.protocol == "sessionless":
            return error(message, -32022, "Unsupported protocol version", 400, {"supported": [SESSIONLESS]})
        self.given += 1
        self.sessions.add(f"session-{self.given}")
        hello = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "fake"}}
        response = result(message, hello)
        response.headers["Mcp-Session-Id"] = f"session-{self.given}"
        return response

    def _discover(self, message: Message) -> web.Response:
        if self.on_discover is not None:
            return self.on_discover(message)
        if self.protocol == "session-based":
            return web.Response(status=400, text="Bad Request: Missing session ID")
        found = {"supportedVersions": [SESSIONLESS], "capabilities": {"tools": {}}, "resultType": "complete"}
        return result(message, found)


def result(message: Message, value: Any) -> web.Response:
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": value})


def error(message: Message, code: int, text: str, status: int = 200, data: Any = None) -> web.Response:
    found = {"code": code, "message": text, **({"data": data} if data is not None else {})}
    return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": found}, status=status)


def text(message: Message, value: str) -> Message:
    """Return the answer to a call as a message."""
    return {"jsonrpc": "2.0", "id": message["id"], "result": {"content": [{"type": "text", "text": value}]}}


def event(message: Message, event_id: str = "") -> bytes:
    line = f"id: {event_id}\n" if event_id else ""
    return f"{line}data: {json.dumps(message)}\n\n".encode()


async def a_stream(http: web.Request) -> web.StreamResponse:
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await stream.prepare(http)
    return stream


def bomb() -> web.Response:
    body = gzip.compress(b" " * 64 * 1024 * 1024)
    return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})
