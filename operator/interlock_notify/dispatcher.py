"""The dispatcher: it offers each alert of each ledger to each webhook, and posts with one worker per webhook.

The work is level-triggered: what must be posted is what the ledgers say and no webhook has taken. A webhook that is
slow or away has its own worker and its own queue, and delays no other one.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

from interlock_kube.background import keep_running
from interlock_kube.resource_types import Key, key_of
from interlock_notify.alerts import Alert, read_alerts
from interlock_notify.delivery_queue import EXPIRY_SECONDS, MOST_PENDING, DeliveryQueue
from interlock_notify.record import MOST_DIGESTS
from interlock_notify.sender import FailedAttempt

_log = logging.getLogger(__name__)

DELIVERED: Final = "Delivered"
FAILED: Final = "Failed"
EXPIRED: Final = "Expired"
"""Outcomes of attempts, as the metric has them."""


class Sender(Protocol):
    """Posts to one webhook."""

    async def send(self, alert: Alert) -> FailedAttempt | None:
        """Post an alert once; return why the receiver has not taken it, None where it has."""


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
        self._ledgers: dict[Key, tuple[Alert, ...]] = {}
        self._queues = {name: DeliveryQueue((), random) for name in senders}
        self._wakes = {name: asyncio.Event() for name in senders}
        self.counts: Counter[tuple[str, str]] = Counter()
        """Attempts by webhook and outcome."""
        self.reasons = dict.fromkeys(senders, "")
        """Why the last attempt of each webhook failed; empty after a success."""

    def restore(self, delivered: Mapping[str, Iterable[str]]) -> None:
        """Take over what was delivered before this process; called once, before the first ledger."""
        self._queues = {name: DeliveryQueue(delivered.get(name, ()), self._random) for name in self._senders}

    def pending(self) -> dict[str, int]:
        """Return how many alerts wait for each webhook."""
        return {name: queue.pending for name, queue in self._queues.items()}

    def oldest_seconds(self) -> dict[str, float]:
        """Return the age in seconds of the oldest alert that waits for each webhook, 0 where none does."""
        oldest = {name: queue.oldest() for name, queue in self._queues.items()}
        return {name: 0.0 if alert is None else max(0.0, self._age(alert)) for name, alert in oldest.items()}

    def handle_ledger(self, found: Mapping[str, Any]) -> None:
        """Handle that a ledger was listed, created or changed."""
        self._ledgers[key_of(found)] = alerts = read_alerts(found, self._policy)
        for name in self._senders:
            self._offer(name, alerts)

    def handle_deletion(self, key: Key) -> None:
        """Handle that a ledger exists no longer; its alerts that wait are posted all the same."""
        self._ledgers.pop(key, None)

    async def run(self) -> None:
        """Post, for ever."""
        async with asyncio.TaskGroup() as group:
            for name in self._senders:
                group.create_task(keep_running(f"webhook {name}", partial(self._work, name), _log.error))

    def _offer(self, name: str, alerts: Iterable[Alert]) -> None:
        if sum(map(self._queues[name].offer, alerts)):
            self._wakes[name].set()

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
                self._offer(name, (alert for alerts in self._ledgers.values() for alert in alerts))

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
        queue.forget({one.digest for alerts in self._ledgers.values() for one in alerts}, MOST_DIGESTS)
        self._on_done(name, alert.digest)

    def _age(self, alert: Alert) -> float:
        return (self._clock() - alert.at).total_seconds()
