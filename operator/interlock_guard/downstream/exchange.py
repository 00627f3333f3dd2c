"""One request of a client on its way through the guard, from the start of its call to its answer."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Protocol

from aiohttp import web

from interlock_contract import mcp
from interlock_contract.mcp import EVENT_STREAM
from interlock_guard.audit.recorder import Caller
from interlock_guard.downstream.authorizer import ABANDONED, OpenRecord
from interlock_guard.downstream.event_stream import EventStream, accepts_events
from interlock_guard.downstream.replies import Reply, answer_cancelled
from interlock_guard.downstream.sessions import NO_ANSWER, Session
from interlock_guard.log import log
from interlock_guard.upstream.forward import Forward, progress_params
from interlock_guard.upstream.upstream import Call, Upstream
from interlock_guard.wire.jsonrpc import Id, RpcRequest, RpcResponse, dump_notification, dump_request
from interlock_kube.background import log_failure

MAX_SERVER_REQUESTS: Final = 256
"""Server requests for the client of one call: each one is recorded, and a server may withdraw it for the next one."""
_HOLD: Final = "hold"
_JSON_HEADERS: Final = {"Content-Type": "application/json"}


def to_response(reply: Reply, headers: dict[str, str] | None = None) -> web.Response:
    """Return a reply as an HTTP response."""
    response = web.Response(status=reply.status, body=reply.body, headers={**_JSON_HEADERS, **(headers or {})})
    if reply.hold is not None:
        response[_HOLD] = reply.hold  # until it is sent
    return response


@dataclass(slots=True)
class DownstreamClient:
    """The sender of a request. A sessionless client declares its capabilities with each request."""

    source: str
    session: Session | None
    capabilities: dict[str, Any]
    is_sessionless: bool = False
    requested_log_level: str | None = None

    @property
    def log_level(self) -> str | None:
        """The lowest level of the server's log messages that the client wants."""
        return self.requested_log_level if self.session is None else self.session.log_level

    def wants_log(self, level: Any) -> bool:
        """Return True if the client wants log messages of this level; a session that set no level wants all."""
        if level not in mcp.LOG_LEVELS:
            return False
        wanted = self.log_level
        if wanted is None:
            return not self.is_sessionless
        return mcp.LOG_LEVELS.index(level) >= mcp.LOG_LEVELS.index(wanted)


@dataclass(slots=True, eq=False)
class ServerInitiatedRequest:
    """A request of a server to a client in the middle of a call; `on_answer` must be called once."""

    method: str
    params: dict[str, Any]
    on_answer: Callable[[RpcResponse], None]


class ExchangeState(Enum):
    """How far a request has come."""

    RUNNING = auto()
    """The client waits for the answer, and may be sent messages before it."""
    HELD = auto()
    """The client was answered with requests of the server; the call waits for the client's repetition."""
    CANCELLED = auto()
    """The client has cancelled the request: it gets no answer."""
    ENDED = auto()
    """The answer was given, or the connection is gone."""


class ProtocolVersion(Protocol):
    """What differs between session-based and sessionless clients while a call is under way."""

    async def wait_for_reply(self, exchange: "Exchange") -> Reply:
        """Wait for the end of the call and return the reply; a server that needs input gets it from the client."""

    def put_server_request(self, exchange: "Exchange", request: ServerInitiatedRequest) -> None:
        """Put a server's request to the client of a call under way."""


@dataclass(slots=True, eq=False)
class Exchange:
    """One request under way."""

    http: web.Request
    protocol: ProtocolVersion
    client: DownstreamClient
    message: RpcRequest
    forward: Forward
    caller: Caller
    """On whose behalf the request is made, as it says."""
    upstream: Upstream
    call: Call
    record: OpenRecord
    """The record of the decision on which `call` is under way."""
    pending: list[ServerInitiatedRequest] = field(default_factory=list)
    """Requests of the server that a sessionless client has not been given yet."""
    asked: int = 0
    """Requests of the server that the client was given, or will be."""
    state: ExchangeState = ExchangeState.RUNNING
    stream: EventStream | None = None
    _writer: asyncio.Task[web.StreamResponse] | None = None
    _sent: list[Id] = field(default_factory=list)
    """Ids of requests that a session's client was sent."""

    @property
    def accepts_events(self) -> bool:
        """Whether the client reads an event stream as the answer."""
        return accepts_events(self.http)

    def send(self, message: bytes, *, must_arrive: bool = False) -> None:
        """Send a message to the client before its answer; the first one makes the answer an event stream."""
        if self.state is not ExchangeState.RUNNING or not self.accepts_events:
            return
        if self.stream is None:
            session = self.client.session
            self.stream = EventStream() if session is None else session.open_stream()
            self._writer = asyncio.create_task(self.stream.serve(self.http))
            self._writer.add_done_callback(_log_unexpected)
        self.stream.put(message, must_arrive=must_arrive)

    def send_progress(self, params: dict[str, Any]) -> None:
        """Pass a server's progress on under the client's token, if the client asked for progress."""
        token = self.forward.progress_token
        if token is not None:
            self.send(dump_notification(mcp.PROGRESS, progress_params(params, token)))

    def find_obstacle(self, method: str, params: Mapping[str, Any]) -> str:
        """Return why the client cannot be given this server request now; empty if it can."""
        is_reachable = self.client.is_sessionless or (
            self.client.session is not None and self.accepts_events and self.state is ExchangeState.RUNNING
        )
        capability = mcp.SERVER_REQUESTS.get(method)
        if not is_reachable or self.forward.method not in mcp.MAY_ASK or capability not in self.client.capabilities:
            return f"The client whose request is under way does not offer {method}."
        undeclared = next((name for name in mcp.UNDECLARED[method] if params.get(name) is not None), None)
        if undeclared is not None:
            return f"The request has {undeclared}, for which no capability was declared."
        if self.asked >= MAX_SERVER_REQUESTS:
            return f"The server has sent {MAX_SERVER_REQUESTS} requests during this call."
        return ""

    def put_server_request(self, request: ServerInitiatedRequest) -> None:
        """Put a server's request to the client, in the way of its protocol version."""
        self.protocol.put_server_request(self, request)

    def send_request(self, session: Session, request: ServerInitiatedRequest) -> None:
        """Send a server's request to the session's client on this request's stream."""
        request_id = session.add_server_request(request.on_answer)
        self._sent.append(request_id)
        self.send(dump_request(request_id, request.method, request.params), must_arrive=True)

    def withdraw(self, request: ServerInitiatedRequest) -> None:
        """Take back a request that the server has cancelled."""
        self.pending = [one for one in self.pending if one is not request]
        session = self.client.session
        for request_id in self._sent if session is not None else ():
            if session is not None and session.server_requests.get(request_id) is request.on_answer:
                del session.server_requests[request_id]
                self.send(dump_notification(mcp.CANCELLED, {"requestId": request_id}), must_arrive=True)

    def hold(self) -> list[ServerInitiatedRequest]:
        """Keep the call for the client's repetition of the request; return the server's requests for the client."""
        pending, self.pending = self.pending, []
        self.call.renew()
        self.state = ExchangeState.HELD
        return pending

    def cancel(self, why: str) -> None:
        """End the request because its client does not want the answer any longer."""
        self.state = ExchangeState.CANCELLED
        self.record.complete(ABANDONED)
        self.upstream.abandon(self.call, why)
        self.call.resolve(answer_cancelled())
        self._drop_server_requests()

    def close(self) -> None:
        """Send the client nothing more but its answer, unless the call is held for a repetition."""
        if self.state is ExchangeState.HELD:
            return
        if self.state is ExchangeState.RUNNING:
            self.state = ExchangeState.ENDED
        self._drop_server_requests()

    def _drop_server_requests(self) -> None:
        session = self.client.session
        if session is not None:
            for request_id in self._sent:
                session.drop_server_request(request_id)
        for request in self.pending:
            request.on_answer(RpcResponse(None, None, NO_ANSWER))
        self.pending.clear()

    async def answer(self, reply: Reply) -> web.StreamResponse:
        """Give the answer: in one piece, or at the end of the stream if messages were sent before it.

        A client that has cancelled gets none: MCP's "Cancellation" wants no response, and the official Python client,
        once it is on its way out, fails on one. A stream that was begun needs its last event all the same, or the
        client would come back for it.

        Raises:
            ConnectionError: The client is gone.
        """
        self.close()
        if self.stream is None or self._writer is None:
            is_silent = self.state is ExchangeState.CANCELLED and self.accepts_events and not reply.closes
            return web.Response(headers={"Content-Type": EVENT_STREAM}) if is_silent else to_response(reply)
        self.finish_stream(reply)
        return await self._writer

    def finish_stream(self, reply: Reply) -> None:
        """Put the answer at the end of the stream, if there is one."""
        if self.stream is not None:
            if reply.closes:
                self.stream.abort()
            else:
                self.stream.put(reply.body, must_arrive=True, hold=reply.hold)
                self.stream.end()

    def disconnect(self) -> bool:
        """Note that the client's connection is gone; return True if the client may come back for the answer."""
        if self._writer is not None:
            self._writer.cancel()
        return self.client.session is not None and self.stream is not None and not self.stream.has_ended


def _log_unexpected(writer: asyncio.Task[web.StreamResponse]) -> None:
    """Read how the writer of a stream ended; a client that hangs up is no failure."""
    if not writer.cancelled() and not isinstance(writer.exception(), ConnectionError):
        log_failure(writer, log)
