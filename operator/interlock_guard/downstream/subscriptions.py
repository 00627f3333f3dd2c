"""Subscriptions: the notifications that clients want from a server, and the server's state that follows from them.

Each server is asked once for what all of its clients together want. A session-based server gets one
`resources/subscribe` per URI and one log level. A sessionless server gets one `subscriptions/listen` with everything.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from interlock_contract import mcp
from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.downstream.event_stream import EventStream
from interlock_guard.downstream.sessions import Session, Sessions
from interlock_guard.log import log
from interlock_guard.upstream.forward import sessionless_meta
from interlock_guard.upstream.reconnect_pause import ReconnectPause
from interlock_guard.upstream.upstream import Call, Upstream
from interlock_guard.wire.jsonrpc import Id, RpcNotification, RpcRequest, RpcResponse, dump_notification
from interlock_kube.background import log_failure

MAX_URIS: Final = 1024
"""Subscriptions to resources of all clients: each change of one goes through all of them."""
MAX_CHARACTERS: Final = 256 * 1024
"""Characters of their URIs."""

OnNotification = Callable[[Upstream, RpcNotification], None]


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """A `subscriptions/listen` of a sessionless client; every message on its stream names it."""

    source: str
    id: Id
    honoured: dict[str, Any]
    stream: EventStream

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification on the stream."""
        meta = {mcp.SUBSCRIPTION_META: self.id}
        self.stream.put(dump_notification(method, {**params, "_meta": meta}))


@dataclass(slots=True)
class _ServerState:
    """What one connection to a server has been asked for.

    Attributes:
        upstream: The server.
        on_notification: Handles what a sessionless server sends on the subscription's stream.
        uris: The MCP resources that it was asked for.
        log_level: The level that it was asked for.
        listening: The `subscriptions/listen` under way.
        has_listened: Whether it has ever sent a message on such a stream.
        pause: The pause before the next `subscriptions/listen`.
        again: Sends the next one after the pause.
    """

    upstream: Upstream
    on_notification: OnNotification
    uris: frozenset[str] = frozenset()
    log_level: str | None = None
    listening: Call | None = None
    has_listened: bool = False
    pause: ReconnectPause = field(default_factory=ReconnectPause)
    again: asyncio.Task[None] | None = None


class Subscriptions:
    """The wishes of sessions and of sessionless subscriptions, brought together for each server."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._subscriptions: set[Subscription] = set()
        self._servers: dict[str, _ServerState] = {}

    def add(self, subscription: Subscription) -> None:
        """Note a new subscription."""
        self._subscriptions.add(subscription)
        self.update(subscription.source)

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription that has ended."""
        self._subscriptions.discard(subscription)
        self.update(subscription.source)

    def abort(self) -> None:
        """End every subscription's stream in the middle."""
        for subscription in self._subscriptions:
            subscription.stream.abort()

    def begin(self, upstream: Upstream, on_notification: OnNotification) -> None:
        """Ask a server that has just become ready for what its clients want.

        Args:
            upstream: The server.
            on_notification: Handles what a sessionless server sends on the subscription's stream.
        """
        server = self._servers[upstream.source] = _ServerState(upstream, on_notification)
        levels = [session.log_level for session in self._sessions.of(upstream.source) if session.log_level]
        if levels:
            self.raise_log_level(upstream, min(levels, key=mcp.LOG_LEVELS.index))
        if upstream.server_info is not None and upstream.server_info.is_sessionless:
            self._listen(server)  # even without URIs: a sessionless server reports changed lists only to subscribers
        else:
            self.update(upstream.source)

    def end(self, upstream: Upstream) -> None:
        """Forget what a connection that has ended was asked for."""
        server = self._servers.pop(upstream.source, None)
        if server is not None and server.again is not None:
            server.again.cancel()

    def raise_log_level(self, upstream: Upstream, level: str) -> None:
        """Make a session-based server send log messages of this level and above.

        Such a server has one level for all of the guard's clients, so it only ever becomes more verbose: after
        `warning` and `debug` it is `debug`. Each client is sent only the levels that it wants.
        """
        server, info = self._servers.get(upstream.source), upstream.server_info
        if server is None or info is None or info.is_sessionless or "logging" not in info.capabilities:
            return
        order = mcp.LOG_LEVELS.index
        if (server.log_level is None or order(level) < order(server.log_level)) and upstream.refusal() is None:
            server.log_level = level
            upstream.start(mcp.SET_LEVEL, {"level": level})

    def wanted_uris(self, source: str) -> frozenset[str]:
        """Return the URIs of resources whose changes some client wants."""
        uris = {uri for session in self._sessions.of(source) for uri in session.subscriptions}
        for subscription in self._subscriptions:
            if subscription.source == source:
                uris.update(subscription.honoured.get("resourceSubscriptions", ()))
        return frozenset(uris)

    def find_excess(self, uris: Collection[str], of: Session | None = None) -> Deny | None:
        """Return the denial of further subscriptions for which there is no room.

        Idle sessions lose theirs to make room, first the one that was used least recently.

        Args:
            uris: The URIs to subscribe to.
            of: The session that subscribes to them; None for a sessionless client.
        """
        kept = [uri for session in self._sessions.all() for uri in session.subscriptions]
        for subscription in self._subscriptions:
            kept += subscription.honoured.get("resourceSubscriptions", ())
        count, size = len(kept) + len(uris), sum(map(len, kept)) + sum(map(len, uris))
        emptied: set[str] = set()
        for session in self._sessions.all():
            if count <= MAX_URIS and size <= MAX_CHARACTERS:
                break
            if session is not of and session.subscriptions and session.is_idle:
                count -= len(session.subscriptions)
                size -= sum(map(len, session.subscriptions))
                session.subscriptions.clear()
                emptied.add(session.source)
        for source in emptied:
            self.update(source)
        if count <= MAX_URIS and size <= MAX_CHARACTERS:
            return None
        message = (
            f"The clients of this guard may subscribe to {MAX_URIS} MCP resources, whose URIs have {MAX_CHARACTERS} "
            "characters together. Unsubscribe from others first."
        )
        return Deny(DenyReason.BAD_REQUEST, "", message)

    def update(self, source: str) -> None:
        """Bring a server's subscriptions in line with what its clients want now.

        Example: the server has {a, b}, clients want {b, c}. A session-based server gets subscribe(c) and
        unsubscribe(a). A sessionless one gets a new listen(b, c), and the listen(a, b) is abandoned after it.
        """
        server = self._servers.get(source)
        if server is None or server.upstream.server_info is None:
            return
        upstream, wanted = server.upstream, self.wanted_uris(source)
        if wanted == server.uris:
            return
        if server.upstream.server_info.is_sessionless:
            self._listen(server)
            return
        for method, uris in ((mcp.SUBSCRIBE, wanted - server.uris), (mcp.UNSUBSCRIBE, server.uris - wanted)):
            for uri in sorted(uris):
                if upstream.refusal() is None:
                    upstream.start(method, {"uri": uri})
        server.uris = wanted

    def note_subscribed(self, source: str, uri: str) -> None:
        """Note that a client's own request has subscribed to a URI at the server."""
        server = self._servers.get(source)
        if server is not None:
            server.uris |= {uri}

    def notify_list_changed(self, source: str, method: str) -> None:
        """Notify all clients of a changed list."""
        self.notify_sessions(source, dump_notification(method, {}))
        for subscription in self._subscriptions:
            if subscription.source == source and subscription.honoured.get(mcp.LISTS_CHANGED[method]):
                subscription.notify(method, {})

    def notify_updated(self, source: str, uri: str) -> None:
        """Notify the clients that subscribed to a changed resource, or to a parent of it."""
        message = dump_notification(mcp.RESOURCE_UPDATED, {"uri": uri})
        for session in self._sessions.of(source):
            if _covers(session.subscriptions, uri):
                session.standalone.put(message)
        for subscription in self._subscriptions:
            if subscription.source == source and _covers(subscription.honoured.get("resourceSubscriptions", ()), uri):
                subscription.notify(mcp.RESOURCE_UPDATED, {"uri": uri})

    def notify_log(self, source: str, level: Any, message: bytes, already: set[Session]) -> None:
        """Send a log message to the sessions that want its level, except those that already have it."""
        if level not in mcp.LOG_LEVELS:
            return
        for session in self._sessions.of(source):
            wanted = session.log_level
            wants = wanted is None or mcp.LOG_LEVELS.index(level) >= mcp.LOG_LEVELS.index(wanted)
            if wants and session not in already:
                session.standalone.put(message)

    def notify_sessions(self, source: str, message: bytes) -> None:
        """Send a message to all sessions of a source."""
        for session in self._sessions.of(source):
            session.standalone.put(message)

    def _listen(self, server: _ServerState) -> None:
        """Subscribe at a sessionless server to everything that a client may want, in one `subscriptions/listen`."""
        upstream = server.upstream
        if upstream.server_info is None or upstream.refusal() is not None:
            return
        server.uris, before = self.wanted_uris(upstream.source), server.listening
        asked: dict[str, Any] = dict.fromkeys(mcp.LISTS_CHANGED.values(), True)
        if server.uris:
            asked["resourceSubscriptions"] = sorted(server.uris)
        params = {"notifications": asked, "_meta": sessionless_meta(upstream.server_info.version, {})}

        def handle(message: RpcNotification | RpcRequest) -> None:
            server.has_listened = True
            if isinstance(message, RpcNotification):
                server.on_notification(upstream, message)

        # The new one starts before the old one ends, so that no change falls between the two.
        began_at = asyncio.get_running_loop().time()
        call = server.listening = upstream.start(mcp.LISTEN, params, handle, lasts=True)
        call.future.add_done_callback(lambda _: self._note_ended(server, call, began_at))
        if before is not None:
            upstream.abandon(before, "another subscription takes its place")

    def _note_ended(self, server: _ServerState, call: Call, began_at: float) -> None:
        """Listen again after a subscription that ended by itself, unless the server has never taken one."""
        source = server.upstream.source
        if self._servers.get(source) is not server or server.listening is not call or call.future.cancelled():
            return
        server.listening, outcome = None, call.future.result()
        if isinstance(outcome, RpcResponse) and outcome.error is not None and not server.has_listened:
            return  # it offers no subscriptions
        log(f"server of {source}: the stream of its own messages has ended; asked for again")
        server.pause.note_end(asyncio.get_running_loop().time() - began_at)
        if server.again is not None:
            server.again.cancel()  # it still waits if a client's subscription was sooner
        server.again = asyncio.create_task(self._listen_again(server))
        server.again.add_done_callback(lambda task: None if task.cancelled() else log_failure(task, log))

    async def _listen_again(self, server: _ServerState) -> None:
        """Listen after the pause; `end` cancels this. A client's new subscription may have been sooner."""
        await server.pause.wait()
        while server.listening is None:
            self._listen(server)
            if server.listening is None:  # there was no room for it
                server.pause.note_end(0.0)
                await server.pause.wait()


def _covers(subscribed: Any, uri: str) -> bool:
    """Return True if a URI is one of those subscribed to, or lies below one: `a://b/c` lies below `a://b`."""
    return any(uri == one or uri.startswith(one.rstrip("/") + "/") for one in subscribed)
