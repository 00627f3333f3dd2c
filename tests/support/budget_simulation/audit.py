"""What an outsider sees: every version of each ledger, what was truly spent, and which promises that breaks."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

from interlock_contract.budget.leases import PERIODS, LedgerTerms
from interlock_contract.budget.ledger import Credit, Ledger, SliceKey
from interlock_contract.budget.windows import Period
from tests.support.budget_simulation.journal import Call
from tests.support.budget_simulation.rules import Violated

CLOCK_ERROR: Final = 2
"""Seconds by which a holder that goes by the API server's time may be wrong."""
GONE: Final = -1
WindowKey = tuple[str, Period, int]
"""A window: name of the ledger, length, start."""


@dataclass
class Audit:
    """The books of the simulation, which no holder reads."""

    true: Counter[WindowKey] = field(default_factory=Counter)
    """What was spent, without usage above reservations."""
    overruns: Counter[WindowKey] = field(default_factory=Counter)
    """Usage above reservations that a holder has seen."""
    lost: Counter[WindowKey] = field(default_factory=Counter)
    """The part of `overruns` that a holder took with it when it ended without warning."""
    expected: Counter[WindowKey] = field(default_factory=Counter)
    """What `spent` must be in the end: what holders charged, and what was closed."""
    closed: Counter[tuple[str, SliceKey]] = field(default_factory=Counter)
    """How often a slice with a key was closed: what was reserved before is not charged to a later one."""
    ceilings: dict[WindowKey, int] = field(default_factory=dict)
    """The highest limit that any writer had in a window."""
    credits: list[int] = field(default_factory=list)
    """The largest amount of each chain of credits that replaced each other while they were in force."""
    credit_until: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    starts: defaultdict[tuple[str, Period], list[int]] = field(default_factory=lambda: defaultdict(list))
    charged: Counter[tuple[str, SliceKey]] = field(default_factory=Counter)

    # Events

    def see_terms(self, name: str, ledger: Ledger, terms: LedgerTerms) -> None:
        """Note the limits that a writer has in the present windows."""
        for period in PERIODS:
            key = (name, period, ledger.window(period).start)
            limit = terms.limit(period)
            self.ceilings[key] = max(self.ceilings.get(key, 0), 10**15 if limit is None else limit)

    def see_credit(self, credit: Credit | None, now: int) -> None:
        """Note a new credit."""
        if credit is None:
            return
        if now < self.credit_until:
            self.credits[-1] = max(self.credits[-1], credit.amount)
        else:
            self.credits.append(credit.amount)
        self.credit_until = credit.until

    def see_reserve(self, name: str, ledger: Ledger, call: Call) -> None:
        """Note from which slice a request is reserved: one that was closed already pays for it without a charge."""
        key = call.keys[name]
        call.closings[name] = GONE if ledger.find(key) is None else self.closed[name, key]

    def see_forward(self, call: Call) -> None:
        """Note what a request costs from the moment that it is forwarded, without usage above its reservation."""
        for key in _windows_of(call):
            self.true[key] += min(call.true, call.worst)

    def see_charge(self, call: Call, nanos: int) -> None:
        """Note what a holder charges at the end of a request."""
        for name, key in call.keys.items():
            if call.closings[name] == self.closed[name, key]:
                self._expect(name, key, nanos)
        if nanos > call.worst:
            for window in _windows_of(call):
                self.overruns[window] += nanos - call.worst

    def see_loss(self, name: str, key: SliceKey, nanos: int) -> None:
        """Note that a holder ended without warning, and its usage above reservations was not settled yet."""
        self.lost[name, "day", key.day_start] += nanos
        self.lost[name, "month", key.month_start] += nanos

    def see_overrun(self, name: str, key: SliceKey, nanos: int) -> None:
        """Note usage above its reservation, of a slice that was closed."""
        self.expected[name, "day", key.day_start] += nanos
        self.expected[name, "month", key.month_start] += nanos

    def see_close(self, name: str, before: Ledger, after: Ledger, holder: str) -> None:
        """Note that the operator closes the slices of a holder.

        Raises:
            Violated: One of them stays.
        """
        for one in before.slices:
            if one.holder != holder:
                continue
            if after.find(one.key) is not None:
                raise Violated(f"(5) the slice {one.key} of {name} can be closed again")
            self._expect(name, one.key, one.amount + one.settled - self.charged[name, one.key])
            self.charged[name, one.key] = 0
            self.closed[name, one.key] += 1
            self.counts["closed"] += bool(one.amount)

    def _expect(self, name: str, key: SliceKey, nanos: int) -> None:
        self.charged[name, key] += nanos
        self.expected[name, "day", key.day_start] += nanos
        self.expected[name, "month", key.month_start] += nanos

    # Checks

    def check_write(self, name: str, before: Ledger, after: Ledger, now: int) -> None:
        """Check one version of a ledger against the one before.

        Raises:
            Violated: A promise is broken.
        """
        for period in PERIODS:
            self._check_reset(name, period, before, after, now)
            fallen = {one.start: one.spent for one in (before.window(period), *before.closed(period)) if one.end}
            for one in (after.window(period), *after.closed(period)):
                if one.spent < fallen.get(one.start, 0):
                    raise Violated(f"(4) spent of {name}'s {period} {one.start} fell to {one.spent}")
        self._check_bound(name, after)
        self.check_truth(name, after)

    def check_take(self, name: str, before: Ledger, after: Ledger, terms: LedgerTerms, need: int, now: int) -> None:
        """Check what a holder takes before it writes.

        Raises:
            Violated: It exceeds the limits that the holder knows, or crosses an alert line without need.
        """
        for period in PERIODS:
            limit, committed = terms.limit(period), after.committed(period)
            if limit is None or after.window(period).start != before.window(period).start:
                continue
            # What a credit paid before is allowed; it pays more only until its end.
            allowed = limit + before.window(period).credited
            allowed += sum(self.credits) if name == OWN and now < self.credit_until + CLOCK_ERROR else 0
            if committed > max(allowed, before.committed(period)):
                raise Violated(f"(1) {name} has {committed} of the {period} after a holder took what {limit} forbids")
            crossed = [
                line
                for line in (limit * percent // 100 for percent in terms.alert_percents)
                if before.committed(period) <= line < committed and line > before.window(period).spent
            ]
            if crossed and committed - before.committed(period) > need:
                raise Violated(f"a slice of {name} reaches across the alert line {crossed[0]} without need")

    def check_truth(self, name: str, ledger: Ledger) -> None:
        """Check that the ledger has at least what was truly spent, but for usage above reservations.

        Raises:
            Violated: It has less.
        """
        for period in PERIODS:
            for one in (ledger.window(period), *ledger.closed(period)):
                key: WindowKey = (name, period, one.start)
                committed = one.spent + _open(ledger, period, one.start)
                if self.true[key] > committed:
                    raise Violated(f"(2) {name} has {committed} of the {period}, {self.true[key]} were spent")

    def check_end(self, name: str, ledger: Ledger) -> None:
        """Check the books after all holders have settled or were closed.

        Raises:
            Violated: The ledger is below what was spent, or differs from what was charged and closed.
        """
        for period in PERIODS:
            for one in (ledger.window(period), *ledger.closed(period)):
                key: WindowKey = (name, period, one.start)
                if _open(ledger, period, one.start):
                    raise Violated(f"{name} has open slices in the end")
                true = self.true[key] + self.overruns[key] - self.lost[key]
                if one.spent < true:
                    raise Violated(f"(2) {name} has {one.spent} in the end, {true} were spent")
                if one.spent != self.expected[key]:
                    raise Violated(f"(B3) {name} has {one.spent}, {self.expected[key]} were charged and closed")

    def _check_reset(self, name: str, period: Period, before: Ledger, after: Ledger, now: int) -> None:
        old, new = before.window(period), after.window(period)
        if (old.start, old.end) == (new.start, new.end):
            return
        starts = self.starts[name, period]
        if new.start in starts:
            raise Violated(f"(B10) the {period} {new.start} of {name} began twice")
        starts.append(new.start)
        self.counts["resets"] += bool(old.end)
        if not new.start - CLOCK_ERROR <= now < new.end + CLOCK_ERROR:
            raise Violated(f"(B10) {name} has the {period} from {new.start} to {new.end} at {now}")
        if old.end and (new.start < old.end or after.closed(period)[0] != old):
            raise Violated(f"(B10) a {period} of {name} begins before the last one ended, or the last one is lost")

    def _check_bound(self, name: str, ledger: Ledger) -> None:
        beyond: Counter[Period] = Counter()
        for period in PERIODS:
            for one in (ledger.window(period), *ledger.closed(period)):
                key: WindowKey = (name, period, one.start)
                committed = one.spent + _open(ledger, period, one.start)
                beyond[period] += max(0, committed - self.ceilings.get(key, 0) - self.overruns[key])
        allowed = sum(self.credits) if name == OWN else 0
        if max(beyond.values()) > allowed:
            raise Violated(f"(1) {name} is {dict(beyond)} beyond its limits, credits allow {allowed}")


OWN: Final = "triage.staging"
TOTAL: Final = "support.total"


def paid_by_credit(ledger: Ledger, period: Period, now: int) -> int:
    """Return what credits pay of a present window at least: all that they can, or what certainly was spent of them."""
    credit, window = ledger.credit, ledger.window(period)
    if credit is not None and now < credit.until and credit.spent <= credit.amount:
        return window.credited + credit.amount - credit.spent
    return max(0, window.credited - (ledger.committed(period) - window.spent))


def _windows_of(call: Call) -> list[WindowKey]:
    days: list[WindowKey] = [(name, "day", key.day_start) for name, key in call.keys.items()]
    months: list[WindowKey] = [(name, "month", key.month_start) for name, key in call.keys.items()]
    return days + months


def _open(ledger: Ledger, period: Period, start: int) -> int:
    return sum(one.amount for one in ledger.slices if start == (one.day_start if period == "day" else one.month_start))
