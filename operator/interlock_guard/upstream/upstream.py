"""What the guard asks of a source's server, whatever carries the messages: pipes (`stdio_upstream`) or HTTP.

An upstream is the guard as the client of one server. It owns ids and generations: nothing pending survives the end of a
generation, and a call that was reported as failed is never sent again. It decides nothing; what a server says of its
own accord goes to the call that it belongs to, else to the `Listener`.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from interlock_contract.bundle import BundleLimits
from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.wire.jsonrpc import RpcNotification, RpcRequest, RpcResponse

CALL_SECONDS: Final = 600.0
"""How long a server may take for one call."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """No outcome yet: whoever waits for the call is wanted for something else."""


Outcome = RpcResponse | Deny | Interrupted
OnEvent = Callable[[RpcNotification | RpcRequest], None]


@dataclass(slots=True, eq=False)  # a call is itself and no other
class Call:
    """One request under way; its future gets the server's answer, or a `Deny` that says why none came.

    `on_event` is told what the server says on the way of this very call. `deadline` is on the event loop's clock, and
    infinite for what is meant to last, such as a subscription.
    """

    id: int
    future: asyncio.Future[Outcome]
    on_event: OnEvent | None
    deadline: float
    late: Outcome | None = None

    def resolve(self, outcome: Outcome) -> None:
        """Give the call its outcome; the first one stands, and keeps where nobody waits at the moment."""
        if not self.future.done():
            self.future.set_result(outcome)
        elif self.late is None:
            self.late = outcome

    def interrupt(self) -> None:
        """Wake whoever waits for the call, which goes on; `renew` before waiting again."""
        if not self.future.done():
            self.future.set_result(Interrupted())

    def renew(self) -> None:
        """Make the call one that can be waited for again, after an interruption or a wait that was cancelled."""
        self.future = asyncio.get_running_loop().create_future()
        if self.late is not None:
            self.future.set_result(self.late)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server said about itself when its generation began: by `initialize` or by `server/discover`."""

    version: str
    capabilities: Mapping[str, Any]
    instructions: str | None = None
    is_stateless: bool = False


class UpstreamEvents(Protocol):
    """Hears what a server says that belongs to no call."""

    def client_capabilities(self, upstream: "Upstream") -> dict[str, Any]:
        """Return the capabilities that this server may be told its client has."""

    def take_begin(self, upstream: "Upstream") -> None:
        """Hear that a generation is ready: `upstream.hello` is set."""

    def take_end(self, upstream: "Upstream") -> None:
        """Hear that a generation is over; its calls have got their outcome."""

    def take_notification(self, upstream: "Upstream", notification: RpcNotification) -> None:
        """Hear a notification."""

    def take_request(self, upstream: "Upstream", request: RpcRequest) -> None:
        """Hear a request, `ping` excepted; it is owed one `upstream.respond`."""


class Upstream(Protocol):
    """One source's server, through all of its generations."""

    @property
    def source(self) -> str:
        """Name of the source."""

    limits: BundleLimits
    """What the binding bounds; replaced at each change of the bundle."""

    @property
    def generation(self) -> int:
        """Which generation it is, from 1; 0 before the first."""

    @property
    def hello(self) -> ServerInfo | None:
        """What the server said when this generation began; None while it is not ready for calls."""

    @property
    def is_ready(self) -> bool:
        """Whether the server has been greeted and has answered."""

    @property
    def in_flight(self) -> int:
        """Calls under way now, without those that are meant to last."""

    def open(self) -> None:
        """Let generations begin: the agent was seen and is alive."""

    def cut(self, denial: Deny) -> None:
        """End everything at once and begin nothing more until `open`; what is under way is answered with the denial."""

    async def run(self) -> None:
        """Serve generation after generation, until cancelled."""

    def refusal(self) -> Deny | None:
        """Return why no call can be started now, or None."""

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
            method: As the server's era knows it.
            params: As they go out, `_meta` included but for the progress token, which is the upstream's own.
            on_event: Told what the server says on the way of this call. Where the transport does not say which call a
                message belongs to, that is progress alone, and the rest goes to the listener.
            wants_progress: Whether the server is asked to report progress.
            lasts: Whether the call is meant to last, such as a subscription: it has no deadline and takes no place.
        """

    def abandon(self, call: Call, why: str) -> None:
        """Give a call up: its answer, should one come, is dropped, and the server is told."""

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification, if there is a server to hear it."""

    def respond(self, response: RpcResponse) -> None:
        """Answer a request of the server's; what answers an ended generation is dropped."""


def unavailable(source: str, what: str) -> Deny:
    """Return the denial that says what is the matter with a source's server."""
    return Deny(DenyReason.SERVER_UNAVAILABLE, "", f"The server of {source!r} {what}.")


_SWEEP_SECONDS: Final = 5.0


class PendingCalls:
    """Ids are never used twice, not even in another generation, so a late answer is nobody's."""

    def __init__(self, source: str, cancel: Callable[[Call, str], None]) -> None:
        """Begin without calls.

        Args:
            source: The server's source, for the texts.
            cancel: Tells the server that a call was given up.
        """
        self.in_flight = 0
        """Calls under way, without those that are meant to last."""
        self._source = source
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, Call] = {}
        self._first_id = self._next_id = 1
        self._sweeping = False

    def begin_generation(self) -> None:
        """Note that what was asked before now was asked of another server."""
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
        """Return the call of that id, which then is not under way any more."""
        call = self.get(call_id)
        if call is not None:
            del self._calls[call.id]
            if call.deadline != math.inf:
                self.in_flight -= 1
        return call

    def was_asked(self, call_id: Any) -> bool:
        """Say whether this generation's server was ever sent a request of that id."""
        return type(call_id) is int and self._first_id <= call_id < self._next_id

    def abandon(self, call: Call, why: str) -> None:
        """Give a call up, and have the server told; an answer that still comes is nobody's."""
        if self.take(call.id) is not None:
            self._cancel(call, why)

    def report_progress(self, notification: RpcNotification) -> None:
        """Tell a server's progress to the call that it belongs to, if there still is one."""
        call = self.get(notification.params.get("progressToken"))
        if call is not None and call.on_event is not None:
            call.on_event(notification)

    def resolve(self, call_id: Any, outcome: RpcResponse | Deny) -> bool:
        """Give a call its outcome; return whether there was one of that id."""
        call = self.take(call_id)
        if call is not None:
            call.resolve(outcome)
        return call is not None

    def resolve_all(self, outcome: RpcResponse | Deny) -> None:
        """Give everything that is under way the same outcome."""
        calls, self._calls, self.in_flight = self._calls, {}, 0
        for call in calls.values():
            call.resolve(outcome)

    def _sweep(self) -> None:
        now = self._loop.time()
        for call in [call for call in self._calls.values() if call.deadline < now]:
            self.abandon(call, "it took too long")
            call.resolve(unavailable(self._source, f"did not answer within {CALL_SECONDS:.0f} s"))
        self._sweeping = self.in_flight > 0
        if self._sweeping:
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)
