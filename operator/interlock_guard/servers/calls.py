"""The calls that are under way in one server: their ids, their deadlines, and what becomes of them."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final

from interlock_guard.decision.decide import Deny
from interlock_guard.servers.upstream import CALL_SECONDS, Call, OnEvent, unavailable
from interlock_guard.wire.jsonrpc import Notification, Response

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

    def report_progress(self, notification: Notification) -> None:
        """Tell a server's progress to the call that it belongs to, if there still is one."""
        call = self.get(notification.params.get("progressToken"))
        if call is not None and call.on_event is not None:
            call.on_event(notification)

    def resolve(self, call_id: Any, outcome: Response | Deny) -> bool:
        """Give a call its outcome; return whether there was one of that id."""
        call = self.take(call_id)
        if call is not None:
            call.resolve(outcome)
        return call is not None

    def resolve_all(self, outcome: Response | Deny) -> None:
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
