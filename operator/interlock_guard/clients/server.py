"""The agent's side: `/mcp/<source>`, MCP's streamable HTTP, in whichever era the body of a request is.

A request is read whole, told apart, decided on, recorded, and only then forwarded.
"""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from interlock_guard.clients.exchange import to_response
from interlock_guard.clients.gate import Gate, Inbound, Parts, unrecorded
from interlock_guard.clients.handshake import Handshake
from interlock_guard.clients.http_checks import HttpChecks
from interlock_guard.clients.interests import Interests
from interlock_guard.clients.replies import deny, refuse
from interlock_guard.clients.sessions import Sessions
from interlock_guard.clients.stateless import Stateless, is_stateless
from interlock_guard.decision.decide import Deny, Reason, check_cut, find_source
from interlock_guard.records.recorder import RecordFailed
from interlock_guard.wire.http_names import SESSION_HEADER
from interlock_guard.wire.jsonrpc import (
    INVALID_REQUEST,
    MAX_BODY,
    Message,
    MessageInvalid,
    Notification,
    Response,
    parse_message,
)
from interlock_guard.wire.jsonrpc import Request as RpcRequest

_SHUTDOWN_SECONDS: Final = 0.2


AddRoutes = Callable[[web.Application], None]


class Endpoint:
    """Answers the agent's requests.

    Args:
        parts: What the guard is made of.
        gate: What every message passes.
        sessions: The clients of the handshake era.
        interests: What clients want to hear.
        add_routes: Whatever else the agent finds at the same port.
    """

    def __init__(
        self, parts: Parts, gate: Gate, sessions: Sessions, interests: Interests, add_routes: AddRoutes
    ) -> None:
        self._live, self._broker = parts.live, parts.broker
        self._sessions, self._interests = sessions, interests
        self._checks = HttpChecks(parts.port, parts.host)
        self._gate = gate
        self._handshake = Handshake(self._gate, sessions, interests)
        self._stateless = Stateless(self._gate, interests)
        self.runner = self._build_runner(add_routes)
        parts.live.listeners.append(self._follow)

    def _build_runner(self, add_routes: AddRoutes) -> web.AppRunner:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_get("/ready", self._ready, allow_head=False)
        app.router.add_post("/mcp/{source}", self._post)
        app.router.add_get("/mcp/{source}", self._get, allow_head=False)
        app.router.add_delete("/mcp/{source}", self._delete)
        app.router.add_route("*", "/mcp/{source}", self._refuse_method)
        add_routes(app)
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
        self._broker.break_off()
        for session in self._sessions.all():
            session.break_off()
        self._interests.break_off()
        self._stateless.break_off()
        connections = [] if self.runner.server is None else self.runner.server.connections
        for connection in connections:
            transport = connection.transport
            if transport is not None and transport.get_write_buffer_size() > 0:
                transport.abort()

    async def _ready(self, http: web.Request) -> web.Response:
        """Say whether requests are decided on, to the gate of an agent's pod: it can reach no other port."""
        refused = self._checks.refuse_caller(http)
        if refused is not None:
            return refused
        denial = self._gate.check_open()
        return web.Response(text="ok\n") if denial is None else web.Response(status=503, text=f"{denial.reason}\n")

    async def _refuse_method(self, http: web.Request) -> web.Response:
        return self._checks.refuse_caller(http) or web.Response(status=405, headers={"Allow": "GET, POST, DELETE"})

    async def _get(self, http: web.Request) -> web.StreamResponse:
        refused = self._refuse_bodiless(http)
        if refused is not None:
            return refused
        try:
            return await self._handshake.take_stream(_inbound(http))
        except ConnectionError:
            return web.Response(status=400)  # nobody is left to read it

    async def _delete(self, http: web.Request) -> web.StreamResponse:
        return self._refuse_bodiless(http) or self._handshake.end_session(_inbound(http))

    def _refuse_bodiless(self, http: web.Request) -> web.Response | None:
        """Refuse what has no message: nothing of it is recorded, since nothing of it can reach a server."""
        refused = self._checks.refuse_caller(http) or self._checks.refuse_session(http)
        if refused is not None:
            return refused
        denial = self._refuse_source(http.match_info["source"])
        return self._refuse_ended(_inbound(http)) if denial is None else to_response(refuse(None, denial))

    def _refuse_ended(self, inbound: Inbound) -> web.Response | None:
        if inbound.session and self._sessions.has_ended(inbound.source, inbound.session):
            return web.Response(status=404, text="The session has ended.\n")
        return None

    def _refuse_source(self, source: str) -> Deny | None:
        denial = self._gate.check_open()
        if denial is None and find_source(self._live.bundle, source) is None:
            return Deny(Reason.UNKNOWN_SOURCE, "", "This agent has no such source.")
        return denial

    async def _post(self, http: web.Request) -> web.StreamResponse:
        refused = self._checks.refuse_caller(http) or self._checks.refuse_body(http)
        if refused is not None:
            return refused
        inbound = _inbound(http)
        message: Message | MessageInvalid
        try:
            message = parse_message(await http.read(), max_bytes=self._max_bytes(inbound.source))
        except MessageInvalid as error:
            message = error
        except web.HTTPRequestEntityTooLarge:
            message = MessageInvalid(INVALID_REQUEST, f"larger than {MAX_BODY} bytes")
        try:
            return await self._take(inbound, message)
        except ConnectionError:
            return web.Response(status=400)  # nobody is left to read it
        except RecordFailed as error:
            if isinstance(message, RpcRequest):
                return to_response(deny(message, unrecorded(error), to_stateless=is_stateless(message)))
            return to_response(refuse(getattr(message, "id", None), unrecorded(error)))

    def _max_bytes(self, source: str) -> int:
        served = find_source(self._live.bundle, source)
        return MAX_BODY if served is None else served.limits.request_bytes

    async def _take(self, inbound: Inbound, message: Message | MessageInvalid) -> web.StreamResponse:
        """Answer one message, or what was no message; a closed guard answers before it looks at what was asked."""
        denial = self._refuse_source(inbound.source)
        if denial is not None:
            return self._refuse(inbound, message, denial)
        try:
            if isinstance(message, MessageInvalid):
                raise message
            if isinstance(message, RpcRequest) and is_stateless(message):
                return await self._stateless.take_request(inbound, message)
            return self._refuse_ended(inbound) or await self._take_handshake(inbound, message)
        except MessageInvalid as error:
            return self._refuse(inbound, message, _bad_request(error), error.code)

    async def _take_handshake(self, inbound: Inbound, message: Message) -> web.StreamResponse:
        if isinstance(message, RpcRequest):
            return await self._handshake.take_request(inbound, message)
        if isinstance(message, Notification):
            return self._handshake.take_notification(inbound, message)
        return self._handshake.take_response(inbound, message)

    def _refuse(
        self, inbound: Inbound, message: Message | MessageInvalid, denial: Deny, code: int | None = None
    ) -> web.Response:
        self._gate.refuse(inbound.source, getattr(message, "method", ""), denial)
        request_id = None if isinstance(message, Response) else getattr(message, "id", None)
        return to_response(refuse(request_id, denial, code))


def _inbound(http: web.Request) -> Inbound:
    return Inbound(http, http.match_info["source"], http.headers.get(SESSION_HEADER, ""))


def _bad_request(error: MessageInvalid) -> Deny:
    return Deny(Reason.BAD_REQUEST, "", f"The message {error}.")
