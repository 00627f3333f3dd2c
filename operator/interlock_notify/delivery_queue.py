"""The queue of one webhook: which alert is posted next, and when. No I/O, and time is an argument.

Each alert has a back-off of its own, so that one that its receiver does not take keeps no other waiting. A receiver
that answers nothing, or asks for a pause, is left alone with all of them. An example, with pauses before their jitter:

    0 s   alert a: HTTP 400                -> a again at 1 s
    0 s   alert b: HTTP 200                -> b is delivered
    1 s   alert a: the connection breaks   -> nothing is posted until 2 s, a again at 3 s
    3 s   alert a: HTTP 200                -> a is delivered

Ledgers take turns, and none of them fills the queue: an agent that raises a hundred alerts delays those of another by
one post each.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from interlock_notify.alerts import Alert

MOST_PENDING: Final = 1024
"""Alerts that wait for one webhook. Further ones stay in their ledgers until there is room."""
MOST_OF_LEDGER: Final = 128
"""Alerts of one ledger that wait for one webhook: more than a ledger has of its present day and month."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 300.0
"""Seconds of the first and of the longest pause of the back-off, which doubles in between."""
LONGEST_ASKED: Final = 3600.0
"""Most seconds that a receiver can ask for with Retry-After."""
EXPIRY_SECONDS: Final = 72 * 3600.0
"""Age in seconds at which an alert is given up: the receiver was away for three days."""
_MOST_DOUBLINGS: Final = 16
_JITTER: Final = 0.2
"""Part of a pause by which it is longer at most, so that webhooks that failed together are not tried together."""


@dataclass(slots=True)
class _Pending:
    alert: Alert
    failures: int = 0
    due_at: float = 0.0


class DeliveryQueue:
    """The alerts that one webhook has not taken yet.

    Args:
        delivered: Digests of alerts that it has taken; in the order of their delivery.
        since: When the webhook appeared. Alerts from before are not for it.
        random: Returns a number from 0 to 1.
    """

    def __init__(self, delivered: Iterable[str], since: datetime, random: Callable[[], float]) -> None:
        self._delivered = dict.fromkeys(delivered)
        self._since, self._random = since, random
        self._pending: dict[str, dict[str, _Pending]] = {}
        """What waits, by ledger and digest. The ledger whose turn is next comes first."""
        self._failures, self._resumes_at = 0, 0.0
        self.has_left_out = False
        """Whether an alert was offered for which there was no room."""

    @property
    def pending(self) -> int:
        """How many alerts wait."""
        return sum(map(len, self._pending.values()))

    def oldest(self) -> Alert | None:
        """Return the oldest alert that waits."""
        return min((one.alert for one in self._all()), key=lambda alert: alert.at, default=None)

    def offer(self, alert: Alert) -> bool:
        """Take an alert unless it is done or waits already; return True if it is new.

        In a full queue, the ledger with the most alerts leaves its last one to a ledger with fewer.
        """
        own = self._pending.get(alert.ledger, {})
        if alert.at < self._since or alert.digest in self._delivered or alert.digest in own:
            return False
        if len(own) >= MOST_OF_LEDGER:
            self.has_left_out = True
            return False
        if self.pending >= MOST_PENDING:
            self.has_left_out = True
            largest = max(self._pending.values(), key=len)
            if len(largest) <= len(own) + 1:
                return False
            largest.popitem()
        self._pending.setdefault(alert.ledger, {})[alert.digest] = _Pending(alert)
        return True

    def next(self, now: float) -> Alert | None:
        """Return the alert to post at this monotonic time, None where none is due; the turn passes to other ledgers."""
        if now < self._resumes_at:
            return None
        for ledger, waiting in self._pending.items():
            due = (one for one in waiting.values() if one.due_at <= now)
            found = min(due, key=lambda one: one.due_at, default=None)
            if found is not None:
                self._pending[ledger] = self._pending.pop(ledger)
                return found.alert
        return None

    def seconds_until_next(self, now: float) -> float | None:
        """Return how many seconds from now an alert is due, None where none waits."""
        first = min((one.due_at for one in self._all()), default=None)
        return None if first is None else max(0.0, first - now, self._resumes_at - now)

    def done(self, alert: Alert) -> None:
        """Note that an alert is delivered, or given up."""
        self._drop(alert.ledger, alert.digest)
        self._delivered[alert.digest] = None

    def note_delivered(self, digests: Iterable[str]) -> None:
        """Note what another notifier has delivered."""
        self._delivered.update(dict.fromkeys(digests))
        for ledger, waiting in list(self._pending.items()):
            for digest in [one for one in waiting if one in self._delivered]:
                self._drop(ledger, digest)

    def succeed(self, alert: Alert) -> None:
        """Note that the receiver took an alert."""
        self._failures, self._resumes_at = 0, 0.0
        self.done(alert)

    def fail(self, alert: Alert, now: float, *, is_away: bool, retry_after: float | None) -> None:
        """Note that an attempt failed.

        Args:
            alert: The alert.
            now: The monotonic time.
            is_away: Whether the receiver would take no other alert either: it gave no answer, or asked for a pause.
            retry_after: Seconds that it asked for; None where it did not.
        """
        asked = min(retry_after or 0.0, LONGEST_ASKED)
        if is_away:
            self._failures += 1
            self._resumes_at = now + max(asked, self._pause(self._failures))
        if (pending := self._pending.get(alert.ledger, {}).get(alert.digest)) is not None:
            pending.failures += 1
            pending.due_at = max(self._resumes_at if is_away else 0.0, now + max(asked, self._pause(pending.failures)))

    @property
    def delivered(self) -> int:
        """How many deliveries are known."""
        return len(self._delivered)

    def forget(self, named: Collection[str], most: int) -> None:
        """Forget the oldest deliveries beyond so many, unless a ledger still names their alerts.

        Args:
            named: The digests of all alerts of all ledgers.
            most: How many are kept in any case.
        """
        surplus = len(self._delivered) - most
        for digest in [one for one in self._delivered if one not in named][: max(0, surplus)]:
            del self._delivered[digest]

    def _all(self) -> Iterator[_Pending]:
        return (one for waiting in self._pending.values() for one in waiting.values())

    def _drop(self, ledger: str, digest: str) -> None:
        waiting = self._pending.get(ledger, {})
        waiting.pop(digest, None)
        if not waiting:
            self._pending.pop(ledger, None)

    def _pause(self, failures: int) -> float:
        pause: float = min(FIRST_PAUSE * 2 ** min(failures - 1, _MOST_DOUBLINGS), LONGEST_PAUSE)
        return pause * (1 + _JITTER * self._random())


def read_retry_after(value: str) -> float | None:
    """Return the seconds that a header Retry-After asks for; None where it is none, or a date.

    A date counts on the clock of the receiver, and receivers of webhooks send seconds (RFC 9110, section 10.2.3).
    """
    text = value.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= len("86400000") else None
