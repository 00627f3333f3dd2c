"""An MCP server over HTTP with one habit of servers that users have, in this process."""

# mypy: disable-error-code="exhaustive-match"
# Each `match` has the habits that change something; the others fall through to what the server does without a habit.

import asyncio
import gzip
import json
import time
from collections import Counter
from typing import Any

from aiohttp import web

from tests.support.bounds import until
from tests.support.ports import free_port

TOOLS = ["echo", "slow", "progress", "refused", "typed", "hangs", "missing", "failed", "result", "null_id", "page"]
TOOLS += ["denied", "overloaded", "session_error", "foreign_id", "foreign_id_500", "nothing"]
SSE = "text/event-stream"
SLASHES = {
    "slash": (307, "/mcp/"),
    "slash_308": (308, "/mcp/"),
    "slash_of_a_gateway": (307, "http://127.0.0.1:8000/mcp/"),
}
"""Redirects to the path with a slash at its end, as web frameworks send them."""
LONGEST_SESSION = "s" * 8192
LOST_WITH_200 = {
    "lost_with_32001": (-32001, "Session not found"),
    "lost_with_32600": (-32600, "Invalid or expired session ID"),
    "lost_not_initialized": (-32002, "Server not initialized"),
}
"""Errors with HTTP 200 that gateways send for a session which they do not know."""
WITHOUT_SESSIONS = frozenset({"stateless", "stateless_get_404", "no_ping_stateless"})
SESSIONLESS = frozenset({"listen", "listen_ends", "listen_then_503", "listen_404", "listen_error"})
"""Habits of servers that speak the sessionless version, in which a stream is asked for by `subscriptions/listen`."""
STREAMS = {
    "sse": "event: message\ndata: {text}\n\n",
    "sse_no_event": "data: {text}\n\n",
    "sse_tight": "data:{text}\n\n",
    "sse_crlf": "event: message\r\ndata: {text}\r\n\r\n",
    "sse_cr": "event: message\rdata: {text}\r\r",
    "sse_comments": ": ping\n\n:\n\nevent: ping\ndata: {{}}\n\nevent: message\ndata: {text}\n\n: bye\n\n",
    "sse_primed": "id: a-1\nretry: 500\ndata:\n\nid: a-2\nevent: message\ndata: {text}\n\n",
    "sse_bom": "\ufeffevent: message\ndata: {text}\n\n",
    "sse_other_event": "event: response\ndata: {text}\n\nevent: ping\ndata: now\n\n",
    "sse_empty_event": "event:\ndata: {text}\n\n",
    "sse_stays_open": "data: {text}\n\n",
    "sse_cut": "data: {text}\n\n",
    "sse_unended": "data: {text}\n",
}


class HabitServer:
    """Speaks a session-based version, with sessions unless its habit is to have none.

    Attributes:
        habit: What it does otherwise than others.
        counts: How often each method arrived.
        initialized_at: When each `initialize` arrived, in seconds.
        asked_at: When each `GET` arrived, in seconds.
        sessions: Those that it knows.
        deleted: Those that a client has ended.
        open_streams: The streams that are open.
        cookies: The header `Cookie` of each request, with the habit `sticky`.
        cookies_set: Number of the last cookie that was set.
    """

    def __init__(self, habit: str) -> None:
        self.habit, self.port = habit, free_port()
        self.counts: Counter[str] = Counter()
        self.initialized_at: list[float] = []
        self.asked_at: list[float] = []
        self.sessions: set[str] = set()
        self.deleted: list[str] = []
        self.open_streams: list[web.StreamResponse] = []
        self.cookies: list[str] = []
        self.cookies_set = 0
        self.release = asyncio.Event()
        """Lets `slow` answer."""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/mcp", self._serve)
        app.router.add_route("*", "/mcp/", self._serve)
        app.on_response_prepare.append(self._leave_out_type)
        app.on_response_prepare.append(self._set_cookie)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.05, handler_cancellation=True, max_field_size=16 * 1024
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _leave_out_type(self, _: web.Request, response: web.StreamResponse) -> None:
        if self.habit == "no_type":
            response.headers.pop("Content-Type", None)

    async def say(self, message: dict[str, Any]) -> None:
        """Say something on the streams that are open."""
        for stream in self.open_streams:
            await stream.write(b"event: message\ndata: %s\n\n" % json.dumps({"jsonrpc": "2.0", **message}).encode())

    async def _serve(self, http: web.Request) -> web.StreamResponse:  # noqa: C901, PLR0911, PLR0912 - a line a habit
        if http.method == "GET":
            return await self._get(http)
        if http.method == "DELETE":
            self.deleted.append(http.headers.get("Mcp-Session-Id", ""))
            if self.habit == "delete_silent":
                await asyncio.sleep(600)
            return web.Response(status=405 if self.habit == "delete_405" else 200)
        message = json.loads(await http.read())
        method, number = message.get("method"), message.get("id")
        self.counts[str(method)] += 1
        if self.habit == "redirects":
            return web.Response(status=307, headers={"Location": f"http://127.0.0.1:{self.port}/mcp/v2"})
        if self.habit in SLASHES and http.path == "/mcp":
            self.counts["redirected"] += 1
            status, location = SLASHES[self.habit]
            return web.Response(status=status, headers={"Location": location})
        if self.habit == "sticky" and not self._is_sticky(http):
            return web.Response(status=404, text="no such session on this replica")
        if self.habit == "unauthorized":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer resource_metadata="https://x/y"'})
        if method == "server/discover":
            return self._discover(number)
        if method == "initialize":
            return await self._initialize(http, number, message["params"]["protocolVersion"])
        if method == "notifications/initialized":
            return await self._take_initialized()
        if method == "subscriptions/listen":
            return await self._listen(http, number)
        session = http.headers.get("Mcp-Session-Id")
        if self.habit not in WITHOUT_SESSIONS | SESSIONLESS and session not in self.sessions:
            if self.habit in LOST_WITH_200 and number is not None:
                return error(number, *LOST_WITH_200[self.habit])
            return web.Response(status=self._lost_status() if session else 400)
        if self.habit == "loses_sessions":
            return web.Response(status=404)
        if number is None or method is None:
            return web.Response(status=202)
        if method == "tools/list":
            tools: list[Any] = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
            if self.habit == "nameless_tools":
                tools += [None, {}, {"name": None, "inputSchema": {}}]
            return await self._answer(http, number, {"tools": tools})
        if method == "tools/call":
            return await self._call(http, number, message["params"])
        if method == "ping" and not self.habit.startswith("no_ping"):
            return await self._answer(http, number, {})
        return self._refuse_method(number, method)

    def _is_sticky(self, http: web.Request) -> bool:
        """Return True if a load balancer brings the request to the replica that has its session."""
        self.cookies.append(http.headers.get("Cookie", ""))
        return "Mcp-Session-Id" not in http.headers or f"AWSALB={self.cookies_set}" in self.cookies[-1]

    async def _set_cookie(self, _: web.Request, response: web.StreamResponse) -> None:
        if self.habit == "sticky":
            self.cookies_set += 1
            response.headers.add(
                "Set-Cookie", f"AWSALB={self.cookies_set}; Expires=Sun, 06 Dec 2099 01:00:00 GMT; Path=/"
            )
            response.headers.add("Set-Cookie", "other=1; Max-Age=0")

    def _lost_status(self) -> int:
        return int(self.habit.removeprefix("lost_")) if self.habit.startswith("lost_") else 404

    def _refuse_method(self, number: Any, method: str) -> web.Response:
        """Answer what has no method here: the status differs from server to server."""
        if self.habit == "no_ping_null":
            return error(None, -32600, "Bad request", 400)
        if self.habit == "no_ping_page":
            return web.Response(status=404, text="Cannot POST /mcp")
        status = {"no_ping": 400, "no_ping_404": 404, "no_ping_stateless": 400}.get(self.habit, 200)
        return error(number, -32601, f"Method not found: {method}", status)

    async def _listen(self, http: web.Request, number: Any) -> web.StreamResponse:
        self.asked_at.append(time.monotonic())
        match self.habit:
            case "listen_404":
                return web.Response(status=404, text="Cannot POST /mcp")
            case "listen_error":
                return self._refuse_method(number, "subscriptions/listen")
            case "listen_then_503" if len(self.asked_at) == 2:
                return web.Response(status=503)
        response = web.StreamResponse(headers={"Content-Type": SSE})
        await response.prepare(http)
        acknowledged = {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {}}
        await response.write(f"data: {json.dumps(acknowledged)}\n\n".encode())
        if self.habit == "listen_ends" or (self.habit == "listen_then_503" and len(self.asked_at) == 1):
            return response
        return await self._hold_open(response)

    async def _hang(self, http: web.Request) -> web.StreamResponse:
        """Begin a page that never ends."""
        response = web.StreamResponse(status=500, headers={"Content-Type": "text/html"})
        await response.prepare(http)
        await response.write(b"<html>")
        return await self._hold_open(response)

    async def _hold_open(self, response: web.StreamResponse) -> web.StreamResponse:
        self.open_streams.append(response)
        try:
            await asyncio.sleep(600)
        finally:
            self.open_streams.remove(response)
        return response

    def _discover(self, number: Any) -> web.Response:  # noqa: PLR0911 - a line a habit
        if self.habit in SESSIONLESS:
            found = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}
            return web.json_response({"jsonrpc": "2.0", "id": number, "result": found})
        match self.habit:
            case "discover_html":
                return web.Response(text="<html>hello</html>", content_type="text/html")
            case "discover_202":
                return web.Response(status=202)
            case "discover_empty":
                return web.json_response({"jsonrpc": "2.0", "id": number, "result": {}})
            case "discover_server_error":
                return error("server-error", -32600, "Bad Request: Missing session ID", 400)
            case "discover_400" | "discover_404" | "discover_405" | "discover_500":
                return web.Response(status=int(self.habit[-3:]), text="oops")
        return error(number, -32601, "Method not found")

    async def _initialize(self, http: web.Request, number: Any, asked: str) -> web.StreamResponse:
        if self.habit == "one_version" and asked != "2025-06-18":
            return error(number, -32000, f"Unsupported protocol version {asked} (supported: 2025-06-18)", 400)
        self.initialized_at.append(time.monotonic())
        name = f"session-{len(self.initialized_at)}"
        name = {"long_session": LONGEST_SESSION, "too_long_session": f"{LONGEST_SESSION}s"}.get(self.habit, name)
        self.sessions.add(name)
        version = "1999-01-01" if self.habit == "unknown_version" else "2025-06-18"
        hello: dict[str, Any] = {
            "protocolVersion": version,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "f", "version": "1"},
        }
        headers = {} if self.habit in WITHOUT_SESSIONS else {"Mcp-Session-Id": name}
        if self.habit == "no_capabilities":
            del hello["capabilities"]
        if self.habit == "too_many" and len(self.initialized_at) == 1:
            return web.Response(status=429, headers={"Retry-After": "3"})
        if self.habit == "large_header":
            headers["X-Policy"] = "secret" * 4096
        return await self._answer(http, number, hello, headers)

    async def _take_initialized(self) -> web.Response:
        match self.habit:
            case "initialized_200":
                return web.json_response({})
            case "initialized_result":
                return web.json_response({"jsonrpc": "2.0", "id": None, "result": {}})
            case "initialized_body":
                return web.Response(status=202, text="Accepted")
            case "initialized_error":
                return error(None, -32601, "Method not found", 400)
            case "initialized_silent":
                await asyncio.sleep(600)
            case "initialized_204" | "initialized_401" | "initialized_404" | "initialized_500":
                return web.Response(status=int(self.habit[-3:]))
        return web.Response(status=202)

    async def _get(self, http: web.Request) -> web.StreamResponse:  # noqa: PLR0911 - a line a habit
        self.asked_at.append(time.monotonic())
        kind, _, word = self.habit.rpartition("get_")
        if kind in ("", "stateless_") and word.isdigit():
            return web.Response(status=int(word), text="Cannot GET /mcp")
        match self.habit:
            case "get_html":
                return web.Response(text="<html></html>", content_type="text/html")
            case "get_ends":
                return web.Response(body=b": hello\n\n", content_type=SSE)
            case "get_retry_0":
                return web.Response(body=b"retry: 0\n\n", content_type=SSE)
        if http.headers.get("Mcp-Session-Id") not in self.sessions | {None}:
            return web.Response(status=self._lost_status())
        if self.habit == "restarts" and len(self.asked_at) == 1:
            await until(lambda: self.counts["tools/list"] > 0, "the guard has listed the tools")
            self.sessions.clear()
            return web.Response(body=b": hello\n\n", content_type=SSE)
        if self.habit.startswith("then_") and len(self.asked_at) == 1:  # the stream breaks, as behind a balancer
            return web.Response(body=b": hello\n\n", content_type=SSE)
        if self.habit.startswith("then_") and len(self.asked_at) == 2:
            return web.Response(status=int(self.habit.removeprefix("then_")))
        if self.habit.startswith("first_") and len(self.asked_at) == 1:
            return web.Response(status=int(self.habit.removeprefix("first_")))
        response = web.StreamResponse(headers={"Content-Type": SSE})
        await response.prepare(http)
        return await self._hold_open(response)

    async def _call(  # noqa: C901, PLR0911, PLR0912 - a line a habit
        self, http: web.Request, number: Any, params: dict[str, Any]
    ) -> web.StreamResponse:
        """Execute a tool; several answer with a status that other servers have for what they do not execute."""
        found = {"content": [{"type": "text", "text": json.dumps(params.get("arguments"), ensure_ascii=False)}]}
        self.counts[params["name"]] += 1
        match params["name"]:
            case "slow":
                await self.release.wait()
            case "refused":
                return error(number, -32602, "Invalid arguments: name is required", 400)
            case "typed":
                return web.Response(status=400, text=error(number, -32602, "Invalid arguments: name is required").text)
            case "hangs":
                return await self._hang(http)
            case "missing":
                return error(number, -32001, "No such customer", 404)
            case "failed":
                return error(number, -32603, "x" * 100_000, 500)
            case "result":
                body = {"jsonrpc": "2.0", "id": number, "result": {**found, "isError": True}}
                return web.json_response(body, status=422)
            case "null_id":
                return error(None, -32000, "It failed half-way", 400)
            case "denied":
                return web.Response(status=403)
            case "nothing":
                return web.Response(status=202)
            case "foreign_id":
                return error("server-error", -32603, "It failed half-way")
            case "foreign_id_500":
                return error("server-error", -32603, "It failed half-way", 500)
            case "session_error":
                return error(number, -32000, "No browser session is open")
            case "overloaded":
                return web.Response(status=503, headers={"Retry-After": "17"})
            case "page":
                return web.Response(status=404, text="<html>No such customer</html>", content_type="text/html")
            case "progress":
                for step in range(2):
                    progress = {"progressToken": params["_meta"]["progressToken"], "progress": step}
                    await self.say({"method": "notifications/progress", "params": progress})
                await self.release.wait()
        return await self._answer(http, number, found)

    async def _answer(  # noqa: C901, PLR0912 - a line a habit
        self, http: web.Request, number: Any, result: Any, headers: dict[str, str] | None = None
    ) -> web.StreamResponse:
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "result": result}
        text, media_type, headers = json.dumps(message, ensure_ascii=False), "application/json", headers or {}
        match self.habit:
            case "charset":
                media_type = "application/json; charset=utf-8"
            case "capitals":
                media_type = "Application/JSON"
            case "text_plain":
                media_type = "text/plain; charset=utf-8"
            case "json_rpc":
                media_type = "application/vnd.example+json"
            case "html":
                media_type = "text/html; charset=UTF-8"
            case "page":
                text, media_type = "<html>hello</html>", "text/html"
            case "utf8_encoding":
                headers["Content-Encoding"] = "UTF-8"
            case "on_stream" | "on_stream_202" if "protocolVersion" not in result:
                await until(lambda: bool(self.open_streams), "the guard has opened the stream")
                await self.say(message)
                if self.habit == "on_stream_202":
                    return web.Response(status=202)
                text, media_type = "", SSE
            case "gzip":
                body = gzip.compress(text.encode())
                return web.Response(body=body, headers={"Content-Type": media_type, "Content-Encoding": "gzip"})
        if not self.habit.startswith("sse"):
            response = web.Response(body=text.encode(), headers={"Content-Type": media_type, **headers})
            if self.habit == "closes":
                response.force_close()
            return response
        stream = web.StreamResponse(headers={"Content-Type": f"{SSE}; charset=utf-8", **headers})
        await stream.prepare(http)
        lines = json.dumps(message, ensure_ascii=False, indent=1).split("\n")
        many = "".join(f"data: {line}\n" for line in lines) + "\n"
        body = (many if self.habit == "sse_many_lines" else STREAMS[self.habit].format(text=text)).encode()
        step = 7 if self.habit == "sse_cut" else len(body)  # in the middle of characters and of line ends
        for at in range(0, len(body), step):
            await stream.write(body[at : at + step])
        if self.habit == "sse_stays_open":
            await asyncio.sleep(600)
        await stream.write_eof()
        return stream


def error(number: Any, code: int, message: str, status: int = 200) -> web.Response:
    found = {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}
    return web.json_response(found, status=status)
