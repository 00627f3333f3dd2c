"""What the guard asks of a source's server, whatever carries the messages: pipes (`stdio_upstream`) or HTTP.

An upstream is the guard as the client of one server. It owns ids and generations: nothing pending survives the end of a
generation, and a call that was reported as failed is never sent again. It decides nothing; what a server says of its
own accord goes to the call that it belongs to, else to the `Listener`.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from interlock_guard.bundle.document import Limits
from interlock_guard.decision.decide import Deny, Reason
from interlock_guard.wire.jsonrpc import Notification, Request, Response

CALL_SECONDS: Final = 600.0
"""How long a server may take for one call."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """No outcome yet: whoever waits for the call is wanted for something else."""


Outcome = Response | Deny | Interrupted
OnEvent = Callable[[Notification | Request], None]


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
class Hello:
    """What a server said about itself when its generation began: by `initialize` or by `server/discover`."""

    version: str
    capabilities: Mapping[str, Any]
    instructions: str | None = None
    is_stateless: bool = False


class Listener(Protocol):
    """Hears what a server says that belongs to no call."""

    def client_capabilities(self, upstream: "Upstream") -> dict[str, Any]:
        """Return the capabilities that this server may be told its client has."""

    def take_begin(self, upstream: "Upstream") -> None:
        """Hear that a generation is ready: `upstream.hello` is set."""

    def take_end(self, upstream: "Upstream") -> None:
        """Hear that a generation is over; its calls have got their outcome."""

    def take_notification(self, upstream: "Upstream", notification: Notification) -> None:
        """Hear a notification."""

    def take_request(self, upstream: "Upstream", request: Request) -> None:
        """Hear a request, `ping` excepted; it is owed one `upstream.respond`."""


class Upstream(Protocol):
    """One source's server, through all of its generations."""

    @property
    def source(self) -> str:
        """Name of the source."""

    limits: Limits
    """What the binding bounds; replaced at each change of the bundle."""

    @property
    def generation(self) -> int:
        """Which generation it is, from 1; 0 before the first."""

    @property
    def hello(self) -> Hello | None:
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

    def respond(self, response: Response) -> None:
        """Answer a request of the server's; what answers an ended generation is dropped."""


def unavailable(source: str, what: str) -> Deny:
    """Return the denial that says what is the matter with a source's server."""
    return Deny(Reason.SERVER_UNAVAILABLE, "", f"The server of {source!r} {what}.")
