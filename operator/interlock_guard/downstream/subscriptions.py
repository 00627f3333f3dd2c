"""What the agent's clients want to hear from a server beside answers, and how the server is told so, in either era."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from interlock_contract import mcp
from interlock_guard.downstream.event_stream import EventStream
from interlock_guard.downstream.sessions import Session, Sessions
from interlock_guard.upstream.forward import sessionless_meta
from interlock_guard.upstream.upstream import Call, Upstream
from interlock_guard.wire.jsonrpc import Id, RpcNotification, RpcRequest, dump_notification


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """A `subscriptions/listen` of a client of the stateless era; everything on its stream names it."""

    source: str
    id: Id
    honoured: dict[str, Any]
    stream: EventStream

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """Say something on the stream."""
        meta = {mcp.SUBSCRIPTION_META: self.id}
        self.stream.put(dump_notification(method, {**params, "_meta": meta}))


@dataclass(slots=True)
class _Told:
    """What one generation of a server was told."""

    upstream: Upstream
    uris: frozenset[str] = frozenset()
    log_level: str | None = None
    listening: Call | None = None


class Subscriptions:
    """Sessions' and listeners' wishes, brought together for each server."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self.take_notification: Callable[[Upstream, RpcNotification], None] = _hear_nothing
        """Polices what a server says and passes on what may pass; the broker's."""
        self._listening: set[Subscription] = set()
        self._told: dict[str, _Told] = {}

    def add(self, listening: Subscription) -> None:
        """Note a client that listens."""
        self._listening.add(listening)
        self.follow(listening.source)

    def remove(self, listening: Subscription) -> None:
        """Note that it does not any more."""
        self._listening.discard(listening)
        self.follow(listening.source)

    def break_off(self) -> None:
        """Let go of every listener in the middle."""
        for listening in self._listening:
            listening.stream.break_off()

    def begin(self, upstream: Upstream) -> None:
        """Tell a server that has just begun what there is to be told."""
        told = self._told[upstream.source] = _Told(upstream)
        levels = [session.log_level for session in self._sessions.of(upstream.source) if session.log_level]
        if levels:
            self.raise_log_level(upstream, min(levels, key=mcp.LOG_LEVELS.index))
        if upstream.hello is not None and upstream.hello.is_stateless:
            self._listen(upstream, told)
        else:
            self.follow(upstream.source)

    def end(self, upstream: Upstream) -> None:
        """Forget what an ended generation was told."""
        self._told.pop(upstream.source, None)

    def raise_log_level(self, upstream: Upstream, level: str) -> None:
        """Have a server of the handshake era report what it logs from this level on, at least.

        It has one level for all of its clients; what a client did not ask for is kept from it.
        """
        told, hello = self._told.get(upstream.source), upstream.hello
        if told is None or hello is None or hello.is_stateless or "logging" not in hello.capabilities:
            return
        order = mcp.LOG_LEVELS.index
        if (told.log_level is None or order(level) < order(told.log_level)) and upstream.refusal() is None:
            told.log_level = level
            upstream.start(mcp.SET_LEVEL, {"level": level})

    def wanted(self, source: str) -> frozenset[str]:
        """Return the URIs that some client wants to hear of."""
        uris = {uri for session in self._sessions.of(source) for uri in session.subscriptions}
        for listening in self._listening:
            if listening.source == source:
                uris.update(listening.honoured.get("resourceSubscriptions", ()))
        return frozenset(uris)

    def follow(self, source: str) -> None:
        """Bring what a server was told in line with what its clients want to hear."""
        told = self._told.get(source)
        if told is None or told.upstream.hello is None:
            return
        upstream = told.upstream
        wanted = self.wanted(source)
        if wanted == told.uris:
            return
        if told.upstream.hello.is_stateless:
            self._listen(upstream, told)
            return
        for method, uris in ((mcp.SUBSCRIBE, wanted - told.uris), (mcp.UNSUBSCRIBE, told.uris - wanted)):
            for uri in sorted(uris):
                if upstream.refusal() is None:
                    upstream.start(method, {"uri": uri})
        told.uris = wanted

    def note_subscribed(self, source: str, uri: str) -> None:
        """Note that a server has been told of a URI by its client's own request."""
        told = self._told.get(source)
        if told is not None:
            told.uris |= {uri}

    def tell_list_changed(self, source: str, method: str) -> None:
        """Tell all clients that a list changed."""
        self.tell_sessions(source, dump_notification(method, {}))
        for listening in self._listening:
            if listening.source == source and listening.honoured.get(mcp.LISTS_CHANGED[method]):
                listening.tell(method, {})

    def tell_updated(self, source: str, uri: str) -> None:
        """Tell those that subscribed to a resource, or to what it is a part of, that it changed."""
        message = dump_notification(mcp.RESOURCE_UPDATED, {"uri": uri})
        for session in self._sessions.of(source):
            if _concerns(uri, session.subscriptions):
                session.standalone.put(message)
        for listening in self._listening:
            if listening.source == source and _concerns(uri, listening.honoured.get("resourceSubscriptions", ())):
                listening.tell(mcp.RESOURCE_UPDATED, {"uri": uri})

    def tell_log(self, source: str, level: Any, message: bytes, already: set[Session]) -> None:
        """Tell what a server logged to the sessions that want to hear it and have not on a request of theirs."""
        if level not in mcp.LOG_LEVELS:
            return
        for session in self._sessions.of(source):
            wanted = session.log_level
            hears = wanted is None or mcp.LOG_LEVELS.index(level) >= mcp.LOG_LEVELS.index(wanted)
            if hears and session not in already:
                session.standalone.put(message)

    def tell_sessions(self, source: str, message: bytes) -> None:
        """Tell all sessions of a source."""
        for session in self._sessions.of(source):
            session.standalone.put(message)

    def _listen(self, upstream: Upstream, told: _Told) -> None:
        """Ask a server of the stateless era for everything that somebody may want to hear, in one subscription."""
        if upstream.hello is None or upstream.refusal() is not None:
            return
        told.uris, before = self.wanted(upstream.source), told.listening
        asked: dict[str, Any] = dict.fromkeys(mcp.LISTS_CHANGED.values(), True)
        if told.uris:
            asked["resourceSubscriptions"] = sorted(told.uris)
        params = {"notifications": asked, "_meta": sessionless_meta(upstream.hello.version, {})}

        def take(event: RpcNotification | RpcRequest) -> None:
            self._take(upstream, event)

        told.listening = upstream.start(mcp.LISTEN, params, take, lasts=True)
        if before is not None:
            upstream.abandon(before, "another subscription takes its place")

    def _take(self, upstream: Upstream, event: RpcNotification | RpcRequest) -> None:
        """Hear what comes on a subscription's own stream, which only HTTP has."""
        if isinstance(event, RpcNotification):
            self.take_notification(upstream, event)


def _hear_nothing(_upstream: Upstream, _notification: RpcNotification) -> None:
    """Drop what is said before anybody polices it."""


def _concerns(uri: str, subscribed: Any) -> bool:
    return any(uri == one or uri.startswith(one.rstrip("/") + "/") for one in subscribed)
