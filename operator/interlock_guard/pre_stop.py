"""The preStop hook of the guard's pod: an answer that waits until the pod has nothing left to do.

A kubelet that deletes a pod, such as for an eviction, first calls the hook of each container and waits for the answer.
Only then it sends SIGTERM. The agent of a shared pod has the hook, and in the pod of a separate guard the guard and its
MCP servers have it. An example with a grace period of 30 s:

     0 s   Services no longer lead to the pod, and the kubelet calls the hook: one task is under way
     3 s   a node that has not learned it yet sends another task, which the agent gets
    14 s   both tasks have ended, and no other has come for 10 s: the hook is answered, and the kubelet sends SIGTERM

A kill ends the wait immediately. So does the end of the grace period, less the time that processes have for their end.

Anyone who reaches the port for probes can call the hook. Such a call waits as the kubelet's does, and has no effect but
that answers of the guard end their connections meanwhile. The number of calls that wait is bounded. The kubelet's calls
stay, however many addresses call: it has the address from which the first start-up probe came, before anyone knew the
pod's address.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from interlock_contract.drain_report import LEAST_DRAIN_SECONDS
from interlock_guard.decision.decide import check_terminated
from interlock_guard.state import LiveState
from interlock_http.listener import extend
from interlock_http.probes import respond_to_probe

MAX_WAITING: Final = 32
"""Calls that wait at the same time."""
OF_KUBELET: Final = 17
"""How many of the kubelet's calls stay in any case: one for each of up to 16 MCP servers, and one for the guard."""
PAUSE_SECONDS: Final = 0.1
"""How often the guard counts what is under way."""


@dataclass(slots=True, eq=False)
class _Call:
    peer: str
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class PreStop:
    """Answers the calls of the hook.

    Args:
        live: The Agent's state and its bundle.
        count: Returns what is under way.
        drains: Returns True while the bundle says that this guard is on its way out.
        last_request: Returns when the last request came, by the same clock; None before the first. Nodes that are slow
            to learn that a Service leads elsewhere show in nothing else.
        seconds: How long a call waits at most. None waits where this is not positive.
        monotonic: Seconds on a clock that never goes back.
    """

    def __init__(
        self,
        live: LiveState,
        *,
        count: Callable[[], int],
        drains: Callable[[], bool],
        last_request: Callable[[], float | None],
        seconds: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._live, self._count, self._drains, self._last_request = live, count, drains, last_request
        self._seconds, self._monotonic = seconds, monotonic
        self._calls: list[_Call] = []
        self._drains_since: float | None = None
        self._kubelet: str | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a call waits, so that the pod is probably about to end."""
        return bool(self._calls)

    def note_start_probe(self, peer: str | None) -> None:
        """Take the address from which the first start-up probe comes for the kubelet's."""
        self._kubelet = self._kubelet or peer

    def follow(self) -> None:
        """Answer all calls as soon as nothing may go on, and note since when the bundle says that the guard drains."""
        if not self._drains():
            self._drains_since = None
        elif self._drains_since is None:
            self._drains_since = self._monotonic()
        if check_terminated(self._live.bundle, self._live.state) is not None:
            for call in self._calls:
                call.ended.set()

    async def answer(self, http: web.Request) -> web.Response:
        """Answer a call of the hook once the pod may end."""
        if self._seconds > 0:
            extend(http, self._seconds)
            await self.wait(http.remote or "")
        return respond_to_probe(None)

    async def wait(self, peer: str) -> None:
        """Wait until the pod may end, or its time is over.

        Args:
            peer: The address of the caller.
        """
        since, call = self._monotonic(), _Call(peer)
        self._calls.append(call)
        self._make_room()
        try:
            while not (call.ended.is_set() or self._may_end(since)):
                left = since + self._seconds - self._monotonic()
                if left <= 0:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, PAUSE_SECONDS)):
                        await call.ended.wait()
        finally:
            self._calls.remove(call)

    def _may_end(self, since: float) -> bool:
        if check_terminated(self._live.bundle, self._live.state) is not None:
            return True
        began = since if self._drains_since is None else min(since, self._drains_since)
        quiet_since = max(began, self._last_request() or began)
        # Without a bundle the guard takes nothing new: the placement was deleted.
        has_drained = self._live.bundle is None or self._monotonic() - quiet_since >= LEAST_DRAIN_SECONDS
        return has_drained and self._count() == 0

    def _make_room(self) -> None:
        """Answer one call, where there are too many: of the peer with the most of them, and of equal ones the newest.

        So a flood ends itself, and none that comes late ends what waits. Calls that stay in any case do not count.
        """
        waiting = [call for call in self._calls if not call.ended.is_set()]
        if len(waiting) <= MAX_WAITING:
            return
        kept = [call for call in waiting if call.peer == self._kubelet][:OF_KUBELET]
        others = [call for call in waiting if call not in kept]
        count = Counter(call.peer for call in others)
        max(reversed(others), key=lambda call: count[call.peer]).ended.set()
