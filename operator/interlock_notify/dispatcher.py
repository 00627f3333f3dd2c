"""The dispatcher: it offers each alert of each ledger to each webhook, and posts with one worker per webhook.

The work is level-triggered: what must be posted is what the ledgers say and no webhook has taken. A webhook that is
slow or away has its own worker and its own queue, and delays no other one. Of a ledger, only the digests of its alerts
are kept: those that found no room in a queue are read again from the API server once there is some.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

from interlock_kube.background import explain, keep_running
from interlock_kube.resource_types import Key, key_of
from interlock_notify.alerts import Alert, read_alerts
from interlock_notify.delivery_queue import EXPIRY_SECONDS, MOST_PENDING, DeliveryQueue
from interlock_notify.record import Recorded, most_digests
from interlock_notify.sender import FailedAttempt

_log = logging.getLogger(__name__)

DELIVERED: Final = "Delivered"
FAILED: Final = "Failed"
EXPIRED: Final = "Expired"
"""Outcomes of attempts, as the metric has them."""
FAILING_SECONDS: Final = 300.0
"""Age of the oldest alert from which on a webhook that takes none is a problem, and not the weather."""
_EVER: Final = datetime.fromtimestamp(0, UTC)
_FORGET_EVERY: Final = 64
"""Deliveries after which the oldest ones are forgotten together: finding them takes a walk over all ledgers."""


class Sender(Protocol):
    """Posts to one webhook."""

    async def send(self, alert: Alert) -> FailedAttempt | None:
        """Post an alert once; return why the receiver has not taken it, None where it has."""

    def check(self) -> str | None:
        """Return why nothing could be posted, whatever the receiver says; None where something could."""


class Dispatcher:
    """Brings the alerts of ledgers to webhooks.

    Args:
        policy: Name of the AgentPolicy.
        senders: Of each webhook.
        random: Returns a number from 0 to 1.
        clock: Returns the time.
        monotonic: Returns seconds that never go back.
        on_done: Called with the name of a webhook and the digest of an alert that it is done with.
    """

    def __init__(
        self,
        policy: str,
        senders: Mapping[str, Sender],
        *,
        random: Callable[[], float],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        on_done: Callable[[str, str], object],
    ) -> None:
        self._policy, self._senders = policy, senders
        self._random, self._clock, self._monotonic, self._on_done = random, clock, monotonic, on_done
        self._named: dict[Key, tuple[str, ...]] = {}
        """Digests of the alerts that each ledger names and that are not too old to be posted."""
        self._unreadable: set[Key] = set()
        self._queues = {name: DeliveryQueue((), _EVER, random) for name in senders}
        self._wakes = {name: asyncio.Event() for name in senders}
        self._most = most_digests(len(senders))
        self.wants_ledgers = asyncio.Event()
        """Set while a queue has room for alerts that it had to leave out: all ledgers must be handled again."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """Attempts by webhook and outcome."""
        self.reasons = dict.fromkeys(senders, "")
        """Why the last attempt of each webhook failed; empty after a success."""

    def restore(self, recorded: Mapping[str, Recorded]) -> None:
        """Take over what was delivered before this process; called once, before the first ledger."""
        self._queues = {
            name: DeliveryQueue(recorded[name].digests, recorded[name].since, self._random) for name in self._senders
        }

    def note_delivered(self, recorded: Mapping[str, Recorded]) -> None:
        """Take over what another notifier has delivered meanwhile."""
        for name, queue in self._queues.items():
            queue.note_delivered(recorded[name].digests)

    @property
    def unreadable(self) -> int:
        """How many ledgers cannot be read."""
        return len(self._unreadable)

    def pending(self) -> dict[str, int]:
        """Return how many alerts wait for each webhook."""
        return {name: queue.pending for name, queue in self._queues.items()}

    def oldest_seconds(self) -> dict[str, float]:
        """Return the age in seconds of the oldest alert that waits for each webhook, 0 where none does."""
        oldest = {name: queue.oldest() for name, queue in self._queues.items()}
        return {name: 0.0 if alert is None else max(0.0, self._age(alert)) for name, alert in oldest.items()}

    def find_unusable(self) -> dict[str, str]:
        """Return the webhooks to which nothing can be posted, with the reason."""
        return {name: why for name, sender in self._senders.items() if (why := sender.check()) is not None}

    def find_problems(self) -> dict[str, str]:
        """Return the webhooks that take no alerts, with the reason, receivers that are away for minutes included."""
        ages = self.oldest_seconds()
        away = {name: why for name, why in self.reasons.items() if why and ages[name] > FAILING_SECONDS}
        return {**away, **self.find_unusable()}

    def handle_ledger(self, found: Mapping[str, Any]) -> None:
        """Handle that a ledger was listed, created or changed. One that cannot be read keeps no other waiting."""
        key = key_of(found)
        try:
            alerts = [one for one in read_alerts(found, self._policy) if self._age(one) <= EXPIRY_SECONDS]
        except Exception as error:  # noqa: BLE001 - guards write ledgers, and one of them may be hostile
            if key not in self._unreadable:
                _log.error("a ledger cannot be read", extra={"ledger": "/".join(key), "error": explain(error)})
            self._unreadable.add(key)
            return
        self._unreadable.discard(key)
        self._named[key] = tuple(alert.digest for alert in alerts)
        for name in self._senders:
            if sum(map(self._queues[name].offer, alerts)):
                self._wakes[name].set()

    def handle_deletion(self, key: Key) -> None:
        """Handle that a ledger exists no longer; its alerts that wait are posted all the same."""
        self._named.pop(key, None)
        self._unreadable.discard(key)

    async def run(self) -> None:
        """Post, for ever."""
        async with asyncio.TaskGroup() as group:
            for name in self._senders:
                group.create_task(keep_running(f"webhook {name}", partial(self._work, name), _log.error))

    async def _work(self, name: str) -> None:
        """Post the alerts of one webhook, one after the other, until cancelled."""
        queue, wake = self._queues[name], self._wakes[name]
        while True:
            wake.clear()
            alert = queue.next(self._monotonic())
            if alert is None:
                seconds = queue.seconds_until_next(self._monotonic())
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await wake.wait()
                continue
            await self._deliver(name, queue, alert)
            if queue.has_left_out and queue.pending <= MOST_PENDING // 2:
                queue.has_left_out = False
                self.wants_ledgers.set()

    async def _deliver(self, name: str, queue: DeliveryQueue, alert: Alert) -> None:
        """Make one attempt, and note its outcome."""
        noted = {"webhook": name, "alert": alert.id}
        if self._age(alert) > EXPIRY_SECONDS:
            queue.done(alert)
            self._note(name, queue, alert, EXPIRED)
            _log.error("an alert is given up: the webhook did not take it for three days", extra=noted)
            return
        failed = await self._senders[name].send(alert)
        if failed is None:
            queue.succeed(alert)
            self._note(name, queue, alert, DELIVERED)
            _log.info("alert delivered", extra=noted)
            self.reasons[name] = ""
            return
        queue.fail(alert, self._monotonic(), is_away=failed.is_away, retry_after=failed.retry_after)
        self.counts[name, FAILED] += 1
        if failed.reason != self.reasons[name]:
            _log.warning("alert not delivered yet", extra={**noted, "reason": failed.reason})
        self.reasons[name] = failed.reason

    def _note(self, name: str, queue: DeliveryQueue, alert: Alert, outcome: str) -> None:
        self.counts[name, outcome] += 1
        if queue.delivered > self._most + _FORGET_EVERY:
            queue.forget(frozenset(self._all_named()), self._most)
        self._on_done(name, alert.digest)

    def _all_named(self) -> Iterable[str]:
        return (digest for digests in self._named.values() for digest in digests)

    def _age(self, alert: Alert) -> float:
        return (self._clock() - alert.at).total_seconds()
