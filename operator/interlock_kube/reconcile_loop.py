"""The work queue and the reconcile loop of every controller of ours, with one failure policy for all.

The queue has the semantics of `k8s.io/client-go/util/workqueue`, for which Python has no maintained library. A key is
in the queue at most once, and one worker at a time has it. A key that is added while a worker has it comes again.
Namespaces are served in turn, so that many or slow objects of one of them keep no object of another one waiting.

The failure policy: no failure of one object ends a worker, the process or the turn of another object. A failure is

1. logged, once for each cause in a row: with its trace where it is a defect of ours;
2. counted by kind and cause, see `LoopMetrics`;
3. shown on the object, where the controller does so;
4. retried with back-off.
"""

import asyncio
import logging
import math
import time
import traceback
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from interlock_kube.client import UNREACHABLE, ApiError

_log = logging.getLogger(__name__)

K = TypeVar("K", bound=Sequence[str])

BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds until the next attempt, by the number of failures in a row; the last one holds for all further failures."""


def share_of_a_namespace(workers: int) -> int:
    """Return how many of a queue's workers one namespace may have: a quarter, so that the others serve the rest."""
    return max(1, workers // 4)


class WorkQueue(Generic[K]):
    """A queue of keys for the workers of one event loop.

    An example with the keys a/1, a/2, a/3 and b/1, added in this order: the workers get a/1, b/1, a/2, a/3.

    Args:
        on_length: Called with the number of keys that wait, whenever it changes.
        namespace_of: Returns the namespace of a key; by default the first part of it.
        most_of_a_namespace: Most keys of one namespace that workers have at once.
    """

    def __init__(
        self,
        on_length: Callable[[int], object] = lambda _: None,
        *,
        namespace_of: Callable[[K], str] = lambda key: key[0],
        most_of_a_namespace: float = math.inf,
    ) -> None:
        self._on_length = on_length
        self._namespace_of = namespace_of
        self._most = most_of_a_namespace
        self._turns: asyncio.Queue[str] = asyncio.Queue()
        """The namespaces of which a worker may take a key, each at most once."""
        self._in_turn: set[str] = set()
        self._ready: dict[str, deque[K]] = {}
        """The keys that wait, by namespace."""
        self._taken: Counter[str] = Counter()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def add(self, key: K) -> None:
        """Enqueue a key; a key that waits already stays where it is."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.setdefault(self._namespace_of(key), deque()).append(key)
            self._offer(self._namespace_of(key))
            self._on_length(len(self._waiting))

    def add_after(self, key: K, seconds: float) -> None:
        """Enqueue a key after some seconds, in place of any earlier timer of the key."""
        self.cancel(key)
        self._timers[key] = asyncio.get_running_loop().call_later(max(0.0, seconds), self._due, key)

    def add_sooner(self, key: K, seconds: float) -> None:
        """Enqueue a key within some seconds; of a timer that runs already, the sooner end counts.

        So many changes cost one turn, and none waits for a timer of the reconcile before it.
        """
        timer = self._timers.get(key)
        if timer is None or timer.when() > asyncio.get_running_loop().time() + seconds:
            self.add_after(key, seconds)

    def cancel(self, key: K) -> None:
        """Stop the timer of a key, if there is one."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def get(self) -> K:
        """Return the next key; it belongs to the caller until `done`.

        A timer of the key stops: this turn is the one that it was set for.
        """
        namespace = await self._turns.get()
        self._in_turn.discard(namespace)
        key = self._ready[namespace].popleft()
        if not self._ready[namespace]:
            del self._ready[namespace]
        self._taken[namespace] += 1
        self._offer(namespace)
        self._waiting.discard(key)
        self._working.add(key)
        self._on_length(len(self._waiting))
        self.cancel(key)
        return key

    def done(self, key: K) -> None:
        """Give a key back; it is enqueued again if it was added meanwhile."""
        self._working.discard(key)
        namespace = self._namespace_of(key)
        self._taken[namespace] -= 1
        if not self._taken[namespace]:
            del self._taken[namespace]
        self._offer(namespace)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _offer(self, namespace: str) -> None:
        """Let the namespace have its turn, after those of the others, if a worker may take one of its keys."""
        is_free = self._taken[namespace] < self._most
        if is_free and namespace in self._ready and namespace not in self._in_turn:
            self._in_turn.add(namespace)
            self._turns.put_nowait(namespace)

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)


class Cause(StrEnum):
    """Classes of failures, as the metric counts them."""

    DEFECT = "defect"
    """An exception that no code expects: a defect of ours."""
    REFUSED = "refused"
    """The API server refused a request."""
    UNREACHABLE = "unreachable"
    """The API server did not answer."""
    TOO_COSTLY = "too-costly"
    """A computation for the object passed its bounds of time or memory."""


class TooCostly(Exception):  # noqa: N818 - says what is wrong with a computation
    """A computation for one object passed its bounds; the message says which one."""


class ReconcileRefused(Exception):  # noqa: N818 - it says what happened to a reconcile
    """A failure that the objects in the cluster cause: no defect, and no request needs to have failed."""


def cause_of(error: Exception) -> Cause:
    """Return the class of a failure; one that was raised from that of a request has the same class."""
    if isinstance(error, TooCostly):
        return Cause.TOO_COSTLY
    if isinstance(error.__cause__, UNREACHABLE):
        return Cause.UNREACHABLE
    if isinstance(error, ApiError | ReconcileRefused) or isinstance(error.__cause__, ApiError):
        return Cause.REFUSED
    # Most OSErrors here are connections that failed; a file that cannot be read is as little of the object's doing.
    return Cause.UNREACHABLE if isinstance(error, UNREACHABLE) else Cause.DEFECT


def location_of(error: Exception) -> str:
    """Return file and line that raised an exception, such as `reconcile/agent.py:51`."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown"
    return f"{'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno}"


class LoopMetrics(Protocol):
    """Counts what loops do."""

    def turn(self, kind: str, *, is_ok: bool, seconds: float) -> None:
        """Count one reconcile of an object, and the seconds that it took."""

    def failure(self, kind: str, cause: Cause) -> None:
        """Count one failure."""


@dataclass(slots=True)
class _Failing:
    """The failures in a row of one object.

    Attributes:
        since: When the first of them was, by the monotonic clock.
        count: How many there were.
        known: Cause, exception, location and text of the last one.
    """

    since: float
    count: int = 0
    known: tuple[str, ...] = ()


class ReconcileLoop(Generic[K]):
    """Takes keys of one kind from the queue and reconciles them.

    Args:
        kind: The kind, such as `Agent`.
        queue: The queue.
        reconcile: Reconciles one object; returns in how many seconds to do so again, None where only an event is a
            reason for one.
        metrics: Counts turns and failures.
        show_failure: Shows a failure on the object; called at each failure. None where no object shows it.
        backoff: Seconds until the next attempt, by the number of failures in a row.
    """

    def __init__(
        self,
        kind: str,
        queue: WorkQueue[K],
        reconcile: Callable[[K], Awaitable[float | None]],
        *,
        metrics: LoopMetrics,
        show_failure: Callable[[K, Exception], Awaitable[None]] | None = None,
        backoff: Sequence[float] = BACKOFF_SECONDS,
    ) -> None:
        self._kind = kind
        self._queue = queue
        self._reconcile = reconcile
        self._metrics = metrics
        self._show_failure = show_failure
        self._backoff = backoff
        self._failing: dict[K, _Failing] = {}

    async def run(self) -> None:
        """Work as one worker, for ever."""
        while True:
            key = await self._queue.get()
            try:
                await self.turn(key)
            finally:
                self._queue.done(key)

    async def turn(self, key: K) -> bool:
        """Reconcile one object and set its next turn; return False after a failure."""
        started = time.monotonic()
        try:
            seconds = await self._reconcile(key)
        except Exception as error:  # noqa: BLE001 - the failure policy above
            self._metrics.turn(self._kind, is_ok=False, seconds=time.monotonic() - started)
            await self._handle_failure(key, error)
            return False
        self._metrics.turn(self._kind, is_ok=True, seconds=time.monotonic() - started)
        self.forget(key)
        if seconds is not None:
            self._queue.add_sooner(key, seconds)  # a change during the turn may have set a timer
        return True

    def failing(self, seconds: float, *, only_defects: bool = False) -> tuple[K, ...]:
        """Return the objects that have failed for so many seconds, all of them or those with a defect of ours."""
        now = time.monotonic()
        return tuple(
            key
            for key, failing in self._failing.items()
            if now - failing.since >= seconds and (not only_defects or failing.known[0] == Cause.DEFECT)
        )

    def forget(self, key: K) -> None:
        """Forget the failures of a key, so that its back-off starts from the beginning."""
        self._failing.pop(key, None)

    async def _handle_failure(self, key: K, error: Exception) -> None:
        cause, location = cause_of(error), location_of(error)
        self._metrics.failure(self._kind, cause)
        failing = self._failing.setdefault(key, _Failing(time.monotonic()))
        failing.count += 1
        known = cause, type(error).__name__, location, "" if cause is Cause.DEFECT else str(error)
        if failing.known != known:
            failing.known = known
            fields = {"kind": self._kind, "object": "/".join(key), "cause": cause, "error": str(error) or repr(error)}
            if cause is Cause.DEFECT:
                _log.error("reconcile failed because of a defect of Interlock", extra=fields, exc_info=error)
            else:
                _log.warning("reconcile failed", extra=fields)
        await self._show(key, error)
        self._queue.add_sooner(key, self._backoff[min(failing.count, len(self._backoff)) - 1])

    async def _show(self, key: K, error: Exception) -> None:
        """Show the failure; that this fails, too, is logged and changes nothing about the retry."""
        if self._show_failure is None:
            return
        try:
            await self._show_failure(key, error)
        except Exception as second:  # noqa: BLE001 - the failure policy above
            self._metrics.failure(self._kind, cause_of(second))
            fields = {"kind": self._kind, "object": "/".join(key), "error": str(second) or repr(second)}
            _log.warning("failure not shown on the object", extra=fields)
