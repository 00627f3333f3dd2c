"""Clients of session-based protocol versions, as far as the guard remembers them: one session per client and source.

A session's id is a label and opens nothing. A restarted guard accepts an id that it never gave out, without the state
that the guard before it held. A session that its client has ended stays ended.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from interlock_contract.mcp import SERVER_REQUESTS
from interlock_guard.downstream.event_stream import EventStream
from interlock_guard.wire.jsonrpc import INVALID_REQUEST, Id, RpcResponse

MAX_SESSIONS: Final = 256
"""Sessions that are remembered at once; beyond it the one that was idle for longest is forgotten."""
_MAX_ENDED: Final = 1024
_MAX_FINISHED_STREAMS: Final = 4
NO_ANSWER: Final = {"code": INVALID_REQUEST, "message": "The client did not answer."}
"""The error that a server gets for a request that its client left without an answer."""

OnAnswer = Callable[[RpcResponse], None]


class Cancellable(Protocol):
    """A request under way, as its session knows it."""

    def cancel(self, why: str) -> None:
        """End the request without an answer."""


@dataclass(slots=True, eq=False)
class Session:
    """One client of one source."""

    source: str
    id: str
    capabilities: dict[str, Any] = field(default_factory=dict)
    """The capabilities that the client declared: what a server may request of it."""
    log_level: str | None = None
    subscriptions: set[str] = field(default_factory=set)
    requests: dict[Id, Cancellable] = field(default_factory=dict)
    """Its requests under way, by its own ids."""
    standalone: EventStream = field(default_factory=lambda: EventStream(0))
    """The stream of messages that belong to none of its requests; its `GET` reads it."""
    streams: dict[int, EventStream] = field(default_factory=dict)
    """The streams of its requests, by number, some of them finished."""
    server_requests: dict[Id, OnAnswer] = field(default_factory=dict)
    """Requests of servers that the client has not answered yet."""
    _last_number: int = 0

    def open_stream(self) -> EventStream:
        """Return a new stream for one of the session's requests."""
        finished = [number for number, stream in self.streams.items() if stream.has_ended]
        for number in finished[: len(finished) - _MAX_FINISHED_STREAMS + 1]:
            del self.streams[number]
        self._last_number += 1
        stream = self.streams[self._last_number] = EventStream(self._last_number)
        return stream

    def add_server_request(self, on_answer: OnAnswer) -> str:
        """Note a request to the client; return the id that it has there."""
        self._last_number += 1
        request_id = f"interlock-{self._last_number}"
        self.server_requests[request_id] = on_answer
        return request_id

    def drop_server_request(self, request_id: Id) -> None:
        """Tell the server that the client does not answer, unless it has."""
        on_answer = self.server_requests.pop(request_id, None)
        if on_answer is not None:
            on_answer(RpcResponse(None, None, NO_ANSWER))

    @property
    def is_idle(self) -> bool:
        """Whether no connection is open and no request under way."""
        attached = self.standalone.is_attached or any(stream.is_attached for stream in self.streams.values())
        return not self.requests and not attached

    def abort(self) -> None:
        """End every stream in the middle."""
        for stream in (self.standalone, *self.streams.values()):
            stream.abort()
        self.standalone = EventStream(0)
        self.streams.clear()
        for request_id in list(self.server_requests):
            self.drop_server_request(request_id)


class Sessions:
    """All sessions, the one that was used last at the end."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[tuple[str, str], Session] = OrderedDict()
        self._ended: OrderedDict[tuple[str, str], None] = OrderedDict()

    def begin(self, source: str, capabilities: dict[str, Any]) -> Session:
        """Return a new session. Of the capabilities it keeps the names that matter, since the rest may be large."""
        session = self.get_or_create(source, secrets.token_hex(16))
        session.capabilities = {name: {} for name in SERVER_REQUESTS.values() if name in capabilities}
        return session

    def has_ended(self, source: str, session_id: str) -> bool:
        """Return True if the client has ended the session of that id."""
        return (source, session_id) in self._ended

    def get_or_create(self, source: str, session_id: str) -> Session:
        """Return the session of that id, an empty one if it is not remembered."""
        key = source, session_id
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = Session(source, session_id)
            if len(self._sessions) > MAX_SESSIONS:
                self._forget_idle()
        self._sessions.move_to_end(key)
        return session

    def end(self, source: str, session_id: str) -> Session | None:
        """End a session; return it if it was remembered."""
        key = source, session_id
        self._ended[key] = None
        if len(self._ended) > _MAX_ENDED:
            self._ended.popitem(last=False)
        return self._sessions.pop(key, None)

    def of(self, source: str) -> Iterator[Session]:
        """Return the sessions of a source."""
        return (session for session in list(self._sessions.values()) if session.source == source)

    def all(self) -> list[Session]:
        """Return all sessions."""
        return list(self._sessions.values())

    def _forget_idle(self) -> None:
        idle = next((key for key, session in self._sessions.items() if session.is_idle), None)
        if idle is not None:
            del self._sessions[idle]
