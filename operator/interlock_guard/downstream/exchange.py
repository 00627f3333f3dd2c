"""One request of a client on its way through the guard: what it became, and how to speak to its client meanwhile."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from interlock_contract import mcp
from interlock_contract.mcp import EVENT_STREAM
from interlock_guard.audit.caller import Caller, read_caller
from interlock_guard.downstream.event_stream import EventStream
from interlock_guard.downstream.outcomes import OpenRecord
from interlock_guard.downstream.replies import Reply
from interlock_guard.downstream.sessions import NO_ANSWER, Session
from interlock_guard.upstream.forward import Forward, progress_params
from interlock_guard.upstream.upstream import Call, Upstream
from interlock_guard.wire.jsonrpc import Id, RpcNotification, RpcRequest, RpcResponse, dump_notification, dump_request

_JSON_HEADERS: Final = {"Content-Type": "application/json"}


def to_response(reply: Reply, headers: dict[str, str] | None = None) -> web.Response:
    """Return a reply as an HTTP response."""
    return web.Response(status=reply.status, body=reply.body, headers={**_JSON_HEADERS, **(headers or {})})


@dataclass(frozen=True, slots=True)
class DownstreamClient:
    """Who asks. In the stateless era it has no session, and each request says what it is capable of."""

    source: str
    session: Session | None
    capabilities: dict[str, Any]
    is_stateless: bool = False
    asked_log_level: str | None = None

    @property
    def log_level(self) -> str | None:
        """From which level on the client wants to hear what the server logs."""
        return self.asked_log_level if self.session is None else self.session.log_level

    def wants_log(self, level: Any) -> bool:
        """Say whether the client wants to hear of something logged; a session that never said hears all."""
        if level not in mcp.LOG_LEVELS:
            return False
        wanted = self.log_level
        if wanted is None:
            return not self.is_stateless
        return mcp.LOG_LEVELS.index(level) >= mcp.LOG_LEVELS.index(wanted)


@dataclass(frozen=True, slots=True)
class ServerInitiatedRequest:
    """What a server asks a client in the middle of a request; `answered` is owed one call."""

    method: str
    params: dict[str, Any]
    answered: Callable[[RpcResponse], None]


@dataclass(slots=True, eq=False)
class Exchange:
    """One request under way, from its decision to its answer."""

    http: web.Request
    client: DownstreamClient
    message: RpcRequest
    forward: Forward
    upstream: Upstream
    on_event: Callable[["Exchange", RpcNotification | RpcRequest], None]
    call: Call = field(init=False)
    record: OpenRecord = field(init=False)
    """The record of the decision on which `call` is under way."""
    questions: list[ServerInitiatedRequest] = field(default_factory=list)
    """What the server asks, not yet put to a client of the stateless era."""
    stream: EventStream | None = None
    is_over: bool = False
    is_unwanted: bool = False
    """Whether its client has cancelled it."""
    is_held: bool = False
    """Whether it has been answered with questions and waits for its repetition."""
    _writer: asyncio.Task[web.StreamResponse] | None = None
    _asked: list[Id] = field(default_factory=list)

    @property
    def caller(self) -> Caller:
        """On whose behalf the request is made, as it says."""
        return read_caller(self.message.params.get("_meta"), self.http.headers)

    @property
    def accepts_events(self) -> bool:
        """Whether the client reads an event stream as the answer."""
        return EVENT_STREAM in self.http.headers.get("Accept", "")

    def take_event(self, event: RpcNotification | RpcRequest) -> None:
        """Hear what the server says on the way of this call."""
        self.on_event(self, event)

    def tell(self, message: bytes, *, must_arrive: bool = False) -> None:
        """Say something to the client before its answer; the first time this makes the answer an event stream."""
        if self.is_over or not self.accepts_events:
            return
        if self.stream is None:
            session = self.client.session
            self.stream = EventStream() if session is None else session.open_stream()
            self._writer = asyncio.create_task(self.stream.serve(self.http))
            self._writer.add_done_callback(_note_end)
        self.stream.put(message, must_arrive=must_arrive)

    def report_progress(self, params: dict[str, Any]) -> None:
        """Pass a server's progress on, if the client asked for it, under the client's token."""
        token = self.forward.progress_token
        if token is not None:
            self.tell(dump_notification(mcp.PROGRESS, progress_params(params, token)))

    def can_ask(self, method: str) -> bool:
        """Say whether the client could be asked this, now."""
        if self.forward.method not in mcp.MAY_ASK or mcp.SERVER_REQUESTS[method] not in self.client.capabilities:
            return False
        if self.client.is_stateless:
            return True
        return self.client.session is not None and self.accepts_events and not self.is_over

    def ask(self, question: ServerInitiatedRequest) -> None:
        """Put a question to the client: at once, or as this request's answer in the stateless era."""
        session = self.client.session
        if session is None:
            self.questions.append(question)
            self.call.interrupt()
            return
        number = session.ask(question.answered)
        self._asked.append(number)
        self.tell(dump_request(number, question.method, question.params), must_arrive=True)

    def withdraw(self, question: ServerInitiatedRequest) -> None:
        """Take a question back that the server does not ask any more."""
        session = self.client.session
        if session is None:
            self.questions = [one for one in self.questions if one is not question]
            return
        for number in self._asked:
            if session.questions.get(number) is question.answered:
                del session.questions[number]
                self.tell(dump_notification(mcp.CANCELLED, {"requestId": number}), must_arrive=True)

    def close(self) -> None:
        """Note that the answer has been given or is not wanted any more; nothing is said to the client after it."""
        self.is_over = True
        if self.is_held:
            return
        session = self.client.session
        if session is not None:
            for number in self._asked:
                session.give_no_answer(number)
        for question in self.questions:
            question.answered(RpcResponse(None, None, NO_ANSWER))
        self.questions.clear()

    async def answer(self, reply: Reply) -> web.StreamResponse:
        """Give the answer: in one piece, or at the end of the stream if something was said before it.

        Nothing is said to a client that has cancelled: MCP's "Cancellation" wants no response, and the official Python
        client, once it is on its way out, fails on one. A stream that was begun needs its last event all the same, or
        the client would come back for it.

        Raises:
            ConnectionError: The client is gone.
        """
        self.close()
        if self.stream is None or self._writer is None:
            is_silent = self.is_unwanted and self.accepts_events and not reply.closes
            return web.Response(headers={"Content-Type": EVENT_STREAM}) if is_silent else to_response(reply)
        self.conclude(reply)
        return await self._writer

    def conclude(self, reply: Reply) -> None:
        """Put the answer at the end of the stream, for whoever takes it."""
        if self.stream is not None:
            if reply.closes:
                self.stream.break_off()
            else:
                self.stream.put(reply.body, must_arrive=True)
                self.stream.end()

    def hang_up(self) -> bool:
        """Note that the client's connection is gone; return whether it may come back for the answer."""
        if self._writer is not None:
            self._writer.cancel()
        return self.client.session is not None and self.stream is not None and not self.stream.has_ended


def _note_end(writer: asyncio.Task[web.StreamResponse]) -> None:
    """Look at the outcome, so that a connection that broke is no error of the event loop's."""
    if not writer.cancelled():
        writer.exception()
