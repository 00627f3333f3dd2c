"""Clients of the handshake era, as far as the guard remembers them: one session per client and source.

A session's id is a label and opens nothing. A guard that was restarted takes one up that it never gave out, without
what its predecessor knew of it; one that its client has ended stays ended.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from interlock_guard.downstream.event_stream import EventStream
from interlock_guard.wire.jsonrpc import INVALID_REQUEST, Id, RpcResponse

if TYPE_CHECKING:
    from interlock_guard.downstream.exchange import Exchange

MAX_SESSIONS: Final = 256
"""Sessions that are remembered at once; beyond it the one that was idle for longest is forgotten."""
_MAX_ENDED: Final = 1024
_MAX_FINISHED_STREAMS: Final = 4
NO_ANSWER: Final = {"code": INVALID_REQUEST, "message": "The client did not answer."}
"""The error that a server gets for a question that nobody answered."""

Answered = Callable[[RpcResponse], None]


@dataclass(slots=True, eq=False)
class Session:
    """One client of one source."""

    source: str
    id: str
    capabilities: dict[str, Any] = field(default_factory=dict)
    """What the client said that a server may ask of it."""
    log_level: str | None = None
    subscriptions: set[str] = field(default_factory=set)
    exchanges: dict[Id, "Exchange"] = field(default_factory=dict)
    """Its requests under way, by its own ids."""
    standalone: EventStream = field(default_factory=lambda: EventStream(0))
    """What belongs to none of its requests; its `GET` takes it."""
    streams: dict[int, EventStream] = field(default_factory=dict)
    """The streams of its requests, by number, some of them finished."""
    questions: dict[Id, Answered] = field(default_factory=dict)
    """What servers asked it and it has not answered yet."""
    _last_number: int = 0

    def open_stream(self) -> EventStream:
        """Return a new stream for one of the session's requests."""
        finished = [number for number, stream in self.streams.items() if stream.has_ended]
        for number in finished[: len(finished) - _MAX_FINISHED_STREAMS + 1]:
            del self.streams[number]
        self._last_number += 1
        stream = self.streams[self._last_number] = EventStream(self._last_number)
        return stream

    def ask(self, answered: Answered) -> str:
        """Note a question to the client; return its id."""
        self._last_number += 1
        question = f"interlock-{self._last_number}"
        self.questions[question] = answered
        return question

    def give_no_answer(self, number: Id) -> None:
        """Tell whoever asked that the client will not answer, if it has not."""
        answered = self.questions.pop(number, None)
        if answered is not None:
            answered(RpcResponse(None, None, NO_ANSWER))

    @property
    def is_idle(self) -> bool:
        """Whether nobody is connected and nothing is under way."""
        attached = self.standalone.is_attached or any(stream.is_attached for stream in self.streams.values())
        return not self.exchanges and not attached

    def break_off(self) -> None:
        """Let go of every stream in the middle."""
        for stream in (self.standalone, *self.streams.values()):
            stream.break_off()
        self.standalone = EventStream(0)
        self.streams.clear()
        for number in list(self.questions):
            self.give_no_answer(number)


class Sessions:
    """All sessions, the one that was used last at the end."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[tuple[str, str], Session] = OrderedDict()
        self._ended: OrderedDict[tuple[str, str], None] = OrderedDict()

    def begin(self, source: str, capabilities: dict[str, Any]) -> Session:
        """Return a new session."""
        session = self.take_up(source, secrets.token_hex(16))
        session.capabilities = capabilities
        return session

    def has_ended(self, source: str, session_id: str) -> bool:
        """Say whether the client has ended the session of that id."""
        return (source, session_id) in self._ended

    def take_up(self, source: str, session_id: str) -> Session:
        """Return the session of that id, one that knows nothing if it is not remembered."""
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
