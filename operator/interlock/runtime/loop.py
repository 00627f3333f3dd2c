"""Which agents have to be looked at, and when: each at most once at a time, never lost, backing off on failure.

The semantics are those of `k8s.io/client-go/util/workqueue`, which Python has no kept library for: a key that is added
while it is worked on is worked on again afterwards.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from prometheus_client import Gauge

from interlock.telemetry import QUEUED

K = TypeVar("K", bound=Hashable)

BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)


class WorkQueue(Generic[K]):
    """A queue of keys for the workers of one event loop.

    Args:
        queued: What shows how many keys wait.
    """

    def __init__(self, queued: Gauge = QUEUED) -> None:
        self._queued = queued
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def add(self, key: K) -> None:
        """Ask for a look at the key; asking twice is asking once."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)
            self._queued.set(len(self._waiting))

    def add_after(self, key: K, seconds: float) -> None:
        """Ask for a look after some time, in place of any other time that was asked for before."""
        self.cancel(key)
        self._timers[key] = asyncio.get_running_loop().call_later(max(0.0, seconds), self._due, key)

    def add_within(self, key: K, seconds: float) -> None:
        """Ask for a look within some time, unless one was asked for already: many changes are one look."""
        if key not in self._timers:
            self.add_after(key, seconds)

    def cancel(self, key: K) -> None:
        """Forget the time that was asked for, if any."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def forget(self, key: K) -> None:
        """Forget times and failures of a key that is gone for good."""
        self.cancel(key)
        self._failures.pop(key, None)

    async def work(self, look: Callable[[K], Awaitable[bool]]) -> None:
        """Look at one key after the other, for ever.

        Args:
            look: Looks at a key; False asks for another try, later and later.
        """
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._working.add(key)
            self._queued.set(len(self._waiting))
            try:
                self._settle(key, succeeded=await look(key))
            finally:
                self._working.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _settle(self, key: K, *, succeeded: bool) -> None:
        if succeeded:
            self._failures.pop(key, None)
            return
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)
