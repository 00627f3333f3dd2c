"""The agent's side: `POST /mcp/<source>`, MCP's streamable HTTP of the handshake era.

Sessions are labels: they keep the request ids of several clients apart and open nothing, so a guard that was restarted
knows them all. A request is read whole, decided on, recorded, and only then forwarded; between the decision and the
forward nothing is awaited, so that no kill can come between.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from aiohttp import web

from interlock_guard import mcp
from interlock_guard.decide import Allow, Decision, Deny, Reason, Request, check_cut, check_open, decide, find_source
from interlock_guard.http_checks import SESSION_HEADER, VERSION_HEADER, HttpChecks
from interlock_guard.jsonrpc import (
    INVALID_REQUEST,
    MAX_BODY,
    Id,
    Message,
    MessageInvalid,
    Notification,
    dump_result,
    parse_message,
)
from interlock_guard.jsonrpc import Request as RpcRequest
from interlock_guard.records import Recorder, RecordFailed
from interlock_guard.relay import EVENT_STREAM, ProgressQueue, Relay, Waiting, to_response
from interlock_guard.replies import Reply, answer_cancelled, deny, refuse, refuse_version
from interlock_guard.sources import Sources
from interlock_guard.state import LiveState
from interlock_guard.upstream import Call, Upstream

_SHUTDOWN_SECONDS: Final = 0.2
_NOT_SPOKEN: Final = Deny(Reason.METHOD_NOT_ALLOWED, "", "The guard does not let this method pass.")
_NO_SERVER: Final = Deny(Reason.SERVER_UNAVAILABLE, "", "This source has no server at the moment.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the endpoint is made of; `monotonic` is the clock of the state."""

    live: LiveState
    sources: Sources
    recorder: Recorder
    monotonic: Callable[[], float]
    port: int


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One message of one client: its HTTP request, its source and its session."""

    http: web.Request
    source: str
    session: str


class Endpoint:
    """Answers the agent's requests."""

    def __init__(self, parts: Parts) -> None:
        self._live, self._sources, self._recorder = parts.live, parts.sources, parts.recorder
        self._monotonic = parts.monotonic
        self._checks = HttpChecks(parts.port)
        self._relay = Relay(parts.live)
        self._cancellable: dict[tuple[str, str, Id], tuple[Upstream, Call]] = {}
        self.runner = self._build_runner()
        parts.live.listeners.append(self._follow)

    def _build_runner(self) -> web.AppRunner:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/mcp/{source}", self._post)
        app.router.add_route("*", "/mcp/{source}", self._refuse_method)
        return web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,  # a client that hangs up ends its call
            auto_decompress=False,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )

    def _follow(self) -> None:
        """Once nothing may go out any more, close at once what is still going out.

        Calls and streams that wait for a server need nothing here: the sources have answered them with the denial.
        """
        if check_cut(self._live.bundle, self._live.state) is None:
            return
        connections = [] if self.runner.server is None else self.runner.server.connections
        for connection in connections:
            transport = connection.transport
            if transport is not None and transport.get_write_buffer_size() > 0:
                transport.abort()

    async def _refuse_method(self, http: web.Request) -> web.Response:
        return self._checks.refuse_caller(http) or web.Response(status=405, headers={"Allow": "POST"})

    async def _post(self, http: web.Request) -> web.StreamResponse:
        refused = self._checks.refuse_caller(http) or self._checks.refuse_body(http)
        if refused is not None:
            return refused
        exchange = _Exchange(http, http.match_info["source"], http.headers.get(SESSION_HEADER, ""))
        message: Message | MessageInvalid
        try:
            message = parse_message(await http.read())
        except MessageInvalid as error:
            message = error
        except web.HTTPRequestEntityTooLarge:
            message = MessageInvalid(INVALID_REQUEST, f"larger than {MAX_BODY} bytes")
        try:
            return await self._take(exchange, message)
        except RecordFailed as error:
            denial = Deny(Reason.SERVER_UNAVAILABLE, "", f"The guard {error}.")
            return to_response(refuse(getattr(message, "id", None), denial))

    async def _take(self, exchange: _Exchange, message: Message | MessageInvalid) -> web.StreamResponse:
        """Answer one message, or what was no message; a closed guard answers before it looks at what was asked."""
        method, request_id = getattr(message, "method", ""), getattr(message, "id", None)
        denial = check_open(self._live.bundle, self._live.state, self._monotonic())
        code = None
        if denial is None and find_source(self._live.bundle, exchange.source) is None:
            denial = Deny(Reason.UNKNOWN_SOURCE, "", "This agent has no such source.")
        if denial is None and isinstance(message, MessageInvalid):
            denial, code = _bad_request(message), message.code
        if denial is not None:
            self._record(Request(exchange.source, method), denial)
            return to_response(refuse(request_id, denial, code))
        if isinstance(message, RpcRequest):
            return await self._take_request(exchange, message)
        if isinstance(message, Notification):
            return self._take_notification(exchange, message)
        denial = _bad_request(MessageInvalid(INVALID_REQUEST, "answers a request that the guard never made"))
        self._record(Request(exchange.source, ""), denial)
        return to_response(refuse(None, denial))

    async def _take_request(self, exchange: _Exchange, message: RpcRequest) -> web.StreamResponse:
        requested = mcp.stateless_version(message)
        if requested is not None:
            denial = _bad_request(
                MessageInvalid(mcp.UNSUPPORTED_VERSION, "is of a protocol version that is not spoken")
            )
            self._record(Request(exchange.source, message.method), denial)
            return to_response(refuse_version(message.id, requested))
        try:
            _check_version_header(exchange.http, message)
            if message.method == "initialize":
                headers = {SESSION_HEADER: secrets.token_hex(16)}
                return to_response(Reply(200, dump_result(message.id, mcp.answer_initialize(message))), headers)
            if message.method == "ping":
                return to_response(Reply(200, dump_result(message.id, {})))
            forward = mcp.read_forward(message)
        except MessageInvalid as error:
            denial = _bad_request(error)
            self._record(Request(exchange.source, message.method), denial)
            return to_response(refuse(message.id, denial, error.code))
        return await self._decide_and_forward(exchange, message, forward)

    async def _decide_and_forward(
        self, exchange: _Exchange, message: RpcRequest, forward: mcp.Forward
    ) -> web.StreamResponse:
        request = Request(exchange.source, forward.method, forward.tool, forward.params.get("arguments"))
        decision: Decision = _NOT_SPOKEN
        if forward.method in mcp.SPOKEN:
            decision = decide(self._live.bundle, self._live.state, request, self._monotonic())
        upstream = self._sources.get(exchange.source)
        if isinstance(decision, Allow):
            unavailable = _NO_SERVER if upstream is None else upstream.refusal()
            if unavailable is not None:
                decision = replace(unavailable, tool=decision.tool)
        self._record(request, decision)
        if isinstance(decision, Deny) or upstream is None:
            return to_response(deny(message, decision if isinstance(decision, Deny) else _NO_SERVER))
        # From the decision to here nothing was awaited, so it still holds; the record is written.
        token = forward.progress_token
        wants_progress = token is not None and EVENT_STREAM in exchange.http.headers.get("Accept", "")
        progress = ProgressQueue(token) if token is not None and wants_progress else None
        on_event = None if progress is None else progress.put
        call = upstream.start(forward.method, forward.params, on_event, wants_progress=progress is not None)
        key = (exchange.source, exchange.session, message.id)
        self._cancellable[key] = upstream, call
        try:
            return await self._relay.wait(Waiting(exchange.http, exchange.source, message, upstream, call), progress)
        finally:
            if self._cancellable.get(key) == (upstream, call):
                del self._cancellable[key]

    def _take_notification(self, exchange: _Exchange, message: Notification) -> web.Response:
        if message.method not in mcp.ACCEPTED_NOTIFICATIONS:
            denial = Deny(Reason.METHOD_NOT_ALLOWED, "", "The guard does not let this notification pass.")
            self._record(Request(exchange.source, message.method), denial)
            return web.Response(status=400)
        if message.method == "notifications/cancelled" and exchange.session:
            self._cancel(exchange, message.params.get("requestId"))
        return web.Response(status=202)

    def _cancel(self, exchange: _Exchange, request_id: Any) -> None:
        """Give up the client's own call; without a session nobody can say whose call an id means."""
        found = self._cancellable.get((exchange.source, exchange.session, request_id)) if _is_id(request_id) else None
        if found is not None:
            upstream, call = found
            upstream.abandon(call, "the client cancelled the request")
            if not call.future.done():
                call.future.set_result(answer_cancelled())

    def _record(self, request: Request, decision: Decision) -> None:
        self._recorder.record(self._live.bundle, request, decision)


def _bad_request(error: MessageInvalid) -> Deny:
    return Deny(Reason.BAD_REQUEST, "", f"The message {error}.")


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _check_version_header(http: web.Request, message: RpcRequest) -> None:
    version = http.headers.get(VERSION_HEADER)
    if version is not None and version not in mcp.HANDSHAKE_VERSIONS:
        raise MessageInvalid(INVALID_REQUEST, f"comes with an unsupported {VERSION_HEADER} header", message.id)
