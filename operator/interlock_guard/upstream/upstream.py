"""The base of the guard's two kinds of MCP client: on pipes (`stdio_upstream`) and over HTTP (`http_upstream`).

An upstream is the guard as the client of one server. It owns the ids of requests. No pending call survives the end of a
connection, and a call that was reported as failed is never sent again. An upstream decides nothing: messages that the
server sends on its own go to the call that they belong to, else to `UpstreamEvents`.
"""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

from interlock_contract.bundle import BundleLimits, digest_instructions
from interlock_contract.clock import monotonic
from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.upstream.dropped_messages import DroppedMessages
from interlock_guard.upstream.reconnect_pause import ReconnectPause
from interlock_guard.wire.jsonrpc import RpcNotification, RpcRequest, RpcResponse
from interlock_guard.wire.server_messages import own_id

CALL_SECONDS: Final = 600.0
"""How long a server may take for one call."""
HASTENED_SECONDS: Final = 10.0
"""How long a server may take for an answer after a line that may have been that answer, but cannot be read."""
ABSENT: Final = "is not there at the moment; nothing was sent to it"


@dataclass(frozen=True, slots=True)
class Interrupted:
    """No outcome yet: the waiter for the call has something else to do first."""


Outcome = RpcResponse | Deny | Interrupted
OnEvent = Callable[[RpcNotification | RpcRequest], None]


@dataclass(slots=True, eq=False)  # a call is itself and no other
class Call:
    """One request under way; its future gets the server's answer, or a `Deny` that says why none came.

    Attributes:
        on_event: Called with the server's messages that belong to this call.
        deadline: On the event loop's clock; infinite for a long-lived call, such as a subscription.
        late: The outcome that came while no waiter was there.
        overdue: The outcome at the deadline, if it is not that the server took too long.
    """

    id: int
    future: asyncio.Future[Outcome]
    on_event: OnEvent | None
    deadline: float
    late: Outcome | None = None
    overdue: Deny | None = None

    def resolve(self, outcome: Outcome) -> None:
        """Give the call its outcome; only the first one counts, and it is kept while no waiter is there."""
        if not self.future.done():
            self.future.set_result(outcome)
        elif self.late is None:
            self.late = outcome

    def interrupt(self) -> None:
        """Wake the waiter, while the call goes on; `renew` before waiting again."""
        if not self.future.done():
            self.future.set_result(Interrupted())

    def renew(self) -> None:
        """Let the call be waited for again, after an interruption or a wait that was cancelled."""
        self.future = asyncio.get_running_loop().create_future()
        if self.late is not None:
            self.future.set_result(self.late)


@dataclass(frozen=True)
class ServerInfo:
    """What a server said about itself when its connection began: by `initialize` or by `server/discover`."""

    version: str
    capabilities: Mapping[str, Any]
    instructions: str | None = None
    is_sessionless: bool = False

    @cached_property
    def instructions_digest(self) -> str:
        """The digest by which the instructions are pinned, computed once: each client that begins is offered them."""
        return digest_instructions(self.instructions)


class UpstreamEvents(Protocol):
    """Handles the messages of a server that belong to no call."""

    def client_capabilities(self, upstream: "Upstream") -> dict[str, Any]:
        """Return the client capabilities that the guard declares to this server."""

    def handle_connected(self, upstream: "Upstream") -> None:
        """Handle a connection that is ready: `upstream.server_info` is set."""

    def handle_disconnected(self, upstream: "Upstream") -> None:
        """Handle the end of a connection; its calls have their outcome."""

    def handle_dropped(self, upstream: "Upstream") -> None:
        """Handle that many messages of a server were dropped within a minute."""

    def handle_notification(self, upstream: "Upstream", notification: RpcNotification) -> None:
        """Handle a notification."""

    def handle_request(self, upstream: "Upstream", request: RpcRequest) -> None:
        """Handle a request, `ping` excepted; answer it with one `upstream.respond`."""


class Upstream(ABC):
    """One source's server, through all of its connections.

    The base holds what both transports share: the accessors, the refusals and the table of calls in flight. A transport
    has `run` and five hooks: `_send_request`, `notify`, `respond`, `_cancel` and `_disconnect`.

    Attributes:
        source: Name of the source.
        limits: What the binding bounds; replaced at each change of the bundle.
        verified_version: The version of MCP that the server spoke when it was verified; empty if unknown.
        generation: Number of the server connection, from 1; 0 before the first.
        server_info: What the server said when this connection began; None while the server is not ready for calls.
        dropped: Its messages that meant nothing.
    """

    def __init__(self, source: str, listener: UpstreamEvents, log: Callable[[str], None]) -> None:
        self.source = source
        self.limits = BundleLimits()
        self.verified_version = ""
        self.generation = 0
        self.server_info: ServerInfo | None = None
        self._listener, self._log = listener, log
        self._loop = asyncio.get_running_loop()
        self.dropped = DroppedMessages(source, log, monotonic, lambda: listener.handle_dropped(self))
        self._open = asyncio.Event()
        self._calls = PendingCalls(source, self._cancel)
        self._reconnect_pause = ReconnectPause()

    @property
    def is_ready(self) -> bool:
        """Whether the server has answered the guard's first message."""
        return self.server_info is not None

    @property
    def in_flight(self) -> int:
        """Calls under way now, without long-lived ones."""
        return self._calls.in_flight

    def open(self) -> None:
        """Let connections begin: the agent was seen and is alive."""
        self._open.set()

    def close(self, denial: Deny) -> None:
        """End the connection immediately and begin no other until `open`; calls in flight get the denial."""
        self._open.clear()
        self._calls.resolve_all(denial)
        self._disconnect("the guard closed it")

    def retire(self, denial: Deny) -> None:
        """End the connection immediately and for good, since its source is gone or has another server."""
        self.close(denial)

    @abstractmethod
    async def run(self) -> None:
        """Serve connection after connection, until cancelled."""

    def refusal(self) -> Deny | None:
        """Return why no call can be started now, or None; a call without a server ends the pause before the next."""
        if self.server_info is None:
            self._reconnect_pause.want()
            return unavailable(self.source, self._absence())
        if self._calls.in_flight >= self.limits.in_flight or not self._has_room():
            return unavailable(self.source, "has too many calls under way; nothing was sent to it")
        return None

    def start(
        self,
        method: str,
        params: dict[str, Any],
        on_event: OnEvent | None = None,
        *,
        wants_progress: bool = False,
        lasts: bool = False,
    ) -> Call:
        """Send a request; only directly after `refusal` returned None. The answer is the call's future.

        Args:
            method: In the words of the server's protocol version.
            params: As they go out, `_meta` included but for the progress token, which is the upstream's own.
            on_event: Called with the server's messages that belong to this call. On pipes these are its progress alone,
                since a pipe does not say what a message belongs to. Over HTTP they are all of the answer's own stream.
            wants_progress: Whether the server is asked to report progress.
            lasts: Whether the call is long-lived, such as a subscription: it has no deadline and takes no place.
        """
        call = self._calls.add(on_event, lasts=lasts)
        if wants_progress:
            params = {**params, "_meta": {**params.get("_meta", {}), "progressToken": call.id}}
        self._send_request(call, method, params)
        return call

    def abandon(self, call: Call, why: str) -> None:
        """Give a call up: the server is told, and an answer that still comes is dropped."""
        self._calls.abandon(call, why)

    @abstractmethod
    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification, if the server is ready."""

    @abstractmethod
    def respond(self, response: RpcResponse) -> None:
        """Answer a request of the server's; an answer to an ended connection is dropped."""

    @abstractmethod
    def _send_request(self, call: Call, method: str, params: dict[str, Any]) -> None:
        """Send the request of a new call."""

    @abstractmethod
    def _cancel(self, call: Call, why: str) -> None:
        """Tell the server that a call was given up."""

    @abstractmethod
    def _disconnect(self, why: str) -> None:
        """End the connection immediately."""

    def _absence(self) -> str:
        """Return why the server is not ready."""
        return ABSENT

    def _has_room(self) -> bool:
        """Return True if the transport takes one more message."""
        return True

    def _too_large(self) -> Deny:
        """Return the outcome of a call whose answer is larger than the binding's bound."""
        return unavailable(self.source, f"answered with more than {self.limits.result_bytes} bytes")


def unavailable(source: str, what: str) -> Deny:
    """Return the denial that says why a source's server gave no answer."""
    return Deny(DenyReason.SERVER_UNAVAILABLE, "", f"The server of {source!r} {what}.")


_SWEEP_SECONDS: Final = 5.0


class PendingCalls:
    """The calls in flight of one upstream, by id.

    No id is used twice, not even for another connection, so a late answer matches no call:

        call 7 is sent to connection 1, which breaks: call 7 gets "the call may have been executed or not"
        call 8 is sent to connection 2
        an answer with the id 7 arrives on connection 2: `get` finds no call, `was_asked` is False
    """

    def __init__(self, source: str, cancel: Callable[[Call, str], None]) -> None:
        """Begin without calls.

        Args:
            source: The server's source, for the texts.
            cancel: Tells the server that a call was given up.
        """
        self.in_flight = 0
        """Calls under way, without long-lived ones."""
        self._source = source
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, Call] = {}
        self._first_id = self._next_id = 1
        self._sweeping = False

    def begin_generation(self) -> None:
        """Take note that earlier requests went to another connection."""
        self._first_id = self._next_id

    def add(self, on_event: OnEvent | None, *, lasts: bool = False) -> Call:
        """Return a new call, under way from now on."""
        deadline = math.inf if lasts else self._loop.time() + CALL_SECONDS
        call = Call(self._next_id, self._loop.create_future(), on_event, deadline)
        self._next_id += 1
        self._calls[call.id] = call
        if not lasts:
            self.in_flight += 1
            if not self._sweeping:
                self._sweeping = True
                self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        return call

    def get(self, call_id: Any) -> Call | None:
        """Return the call of that id that is under way."""
        return self._calls.get(call_id) if type(call_id) is int else None

    def take(self, call_id: Any) -> Call | None:
        """Return the call of that id, which is then no longer under way."""
        call = self.get(call_id)
        if call is not None:
            del self._calls[call.id]
            if call.deadline != math.inf:
                self.in_flight -= 1
        return call

    def was_asked(self, call_id: Any) -> bool:
        """Return True if a request of that id was sent on this connection."""
        return type(call_id) is int and self._first_id <= call_id < self._next_id

    def abandon(self, call: Call, why: str) -> None:
        """Give a call up and tell the server; an answer that still comes matches no call."""
        if self.take(call.id) is not None:
            self._cancel(call, why)

    def report_progress(self, notification: RpcNotification) -> None:
        """Pass a server's progress to the call that it belongs to, if that is still under way."""
        call = self.get(own_id(notification.params.get("progressToken")))
        if call is not None and call.on_event is not None:
            call.on_event(notification)

    def resolve(self, call_id: Any, outcome: RpcResponse | Deny) -> bool:
        """Give a call its outcome; return whether there was one of that id."""
        call = self.take(call_id)
        if call is not None:
            call.resolve(outcome)
        return call is not None

    def hasten(self, call_id: Any, overdue: Deny) -> None:
        """Bring a call's deadline forward, if it is under way; at the deadline it gets this outcome."""
        call = self.get(call_id)
        deadline = self._loop.time() + HASTENED_SECONDS
        if call is not None and deadline < call.deadline < math.inf:
            call.deadline, call.overdue = deadline, overdue

    def resolve_all(self, outcome: RpcResponse | Deny) -> None:
        """Give everything that is under way the same outcome."""
        calls, self._calls, self.in_flight = self._calls, {}, 0
        for call in calls.values():
            call.resolve(outcome)

    def _sweep(self) -> None:
        now = self._loop.time()
        for call in [call for call in self._calls.values() if call.deadline < now]:
            self.abandon(call, "it took too long")
            late = unavailable(self._source, f"did not answer within {CALL_SECONDS:.0f} s")
            call.resolve(call.overdue or late)
        self._sweeping = self.in_flight > 0
        if self._sweeping:
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)
