"""The changes of a ledger: each a pure function that returns the ledger to write, or the same object if none is needed.

A holder takes a slice, spends from it, and settles. The promises, which hold whatever is lost, crashes or runs twice:

1. What is spent or in open slices never grows past the limit, but for usage of a request above its own reservation.
2. What was truly spent is at most what the ledger says: a slice is in the ledger before money is spent from it.
3. Once other holders have returned what they have not reserved, no request is refused for which there is room.
4. What is spent of a window never falls.
5. A slice is closed once: closing removes it.
6. Whatever is charged, the ledger can be written and read: amounts stop at `MAX_MONEY`, and never wrap.

A credit pays what is committed beyond the limits of day and month. `credited` of a window is that excess. Returned
money lowers the excess first, so a credit is used only while the limit is used up.

Worked example: limit 50, credit 100. Holder A takes 40 and B takes 30, of which 20 exceed the limit: `credited` is 20.
A returns 15. The commitment is 55, so `credited` becomes 5. The room is 95, all of it from the credit.

What a credit paid of settled money it has paid for ever. What it paid of open slices comes back as soon as it has ended
or is overdrawn, and counts no longer (`allowed`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from interlock_contract.budget.ledger import (
    MAX_ALERTS,
    MAX_DAYS,
    MAX_MONTHS,
    MAX_POD_SLICES,
    MAX_SLICES,
    BudgetAlert,
    Credit,
    Exhausted,
    Ledger,
    LedgerWindow,
    Slice,
    SliceKey,
    start_of,
)
from interlock_contract.budget.money import MAX_LIMIT, MAX_MONEY, add_money
from interlock_contract.budget.velocity import add_recent
from interlock_contract.budget.windows import Period, first_window, next_window

PERIODS: Final[tuple[Period, ...]] = ("day", "month")
OVERSIZE: Final = 2
"""A call whose worst case is more than this part of a limit exhausts no budget by being refused."""
_NEAR: Final = 20
"""A budget with less than this part left is exhausted by whatever is refused."""


@dataclass(frozen=True, slots=True)
class LedgerTerms:
    """What bounds one ledger: limits in nano-dollars (None is no limit), the time zone of its windows, and its alerts.

    `day_seconds` is the length of days in tests and examples, else None. The total of a policy has no credit.
    """

    day: int | None
    month: int | None
    time_zone: str = "UTC"
    alert_percents: tuple[int, ...] = (50, 80)
    day_seconds: int | None = None
    is_total: bool = False

    def limit(self, period: Period) -> int | None:
        """Return the limit of a period."""
        return self.day if period == "day" else self.month


def roll(ledger: Ledger, terms: LedgerTerms, now: int) -> Ledger:
    """Close the windows that have ended and open those of `now`. Slices stay with the window that they were taken in.

    A new ledger gets the calendar's windows. An alert that is due is recorded before its window closes. A clock that is
    before the present window changes nothing.
    """
    for period in PERIODS:
        present = ledger.window(period)
        if now >= present.end:
            ledger = _open_next(record_alerts(ledger, terms, now), terms, period, now)
    return ledger


def room(ledger: Ledger, terms: LedgerTerms, now: int) -> int:
    """Return what may be taken now: nano-dollars, 0 if there is nothing. Windows that have ended are not rolled.

    There is nothing while open slices exceed the limits and the credit: they come back first.
    """
    left = min(base for _, base in _base_rooms(ledger, terms, now)) + credit_left(ledger, terms, now)
    return max(0, min(left, *(MAX_MONEY - ledger.committed(period) for period in PERIODS)))


def allowed(ledger: Ledger, terms: LedgerTerms, period: Period, now: int) -> int | None:
    """Return what may be committed in the present window without more of the credit; None is no limit."""
    limit, credited = terms.limit(period), ledger.window(period).credited
    credit = None if terms.is_total else ledger.credit
    if limit is None or credit is None:  # what no credit pays raises no limit
        return limit
    in_slices = min(credited, _credit_in_slices(ledger, period))
    overdraft = max(0, credit.spent - credit.amount) if now < credit.until else in_slices
    return limit + credited - min(in_slices, overdraft)


def reachable_room(ledger: Ledger, terms: LedgerTerms, holder: str, now: int) -> int:
    """Return what could be taken if all slices came back, but for the holder's own one of the present windows.

    Slices of ended days count as well: they block the month until their holders return them.
    """
    kept = ledger.present_key(holder)
    returned: dict[tuple[int, int], int] = {}
    for one in ledger.slices:
        if one.key != kept:
            window = (one.day_start, one.month_start)
            returned[window] = returned.get(window, 0) + one.amount
    for window, nanos in returned.items():
        ledger = _give_back(ledger, SliceKey(holder, *window), nanos)
    own = tuple(one for one in ledger.slices if one.key == kept)
    return room(replace(ledger, slices=own), terms, now)


def exhausts(ledger: Ledger, terms: LedgerTerms, period: Period, refused: int, now: int, *, unsettled: int = 0) -> bool:
    """Return True if a refused call means that the budget of a period is exhausted.

    Not if the call is too large, and not if it would fit once the calls under way have cost less than reserved.

    Args:
        ledger: The ledger.
        terms: Its limits.
        period: Day or month.
        refused: The worst case of the call in nano-dollars.
        now: Seconds since the epoch, of the API server.
        unsettled: What a holder has spent and not yet settled.
    """
    limit, most = terms.limit(period), allowed(ledger, terms, period, now)
    if limit is None or most is None:
        return False
    left = most + credit_left(ledger, terms, now) - ledger.window(period).spent - unsettled
    return left < refused and (refused * OVERSIZE <= limit or left * _NEAR <= limit)


def credit_left(ledger: Ledger, terms: LedgerTerms, now: int) -> int:
    """Return what is left of a credit that is in force, in nano-dollars. A total has none."""
    credit = None if terms.is_total else ledger.credit
    return max(0, credit.amount - credit.spent) if credit is not None and now < credit.until else 0


def take(
    ledger: Ledger, terms: LedgerTerms, holder: str, pod_uid: str, *, least: int, want: int, now: int
) -> tuple[Ledger, int]:
    """Grow a holder's slice of the present windows.

    The money may be spent only after the ledger was written. A write whose answer was lost must be read again: the
    slice in the ledger is what the holder has.

    Args:
        ledger: The ledger; windows that have ended are rolled first.
        terms: Its limits.
        holder: `<pod uid>/<start of the process in ms>`.
        pod_uid: UID of its pod.
        least: What the request needs in addition to the present slice. Nothing is granted where there is less room.
        want: What the holder would like, see `slice_size`.
        now: Seconds since the epoch, of the API server.

    Returns:
        The ledger to write, and what was granted: 0, or from `least` to `want`.
    """
    ledger = roll(ledger, terms, now)
    granted = min(max(least, want), room(ledger, terms, now))
    key = ledger.present_key(holder)
    found = ledger.find(key)
    if granted < least or granted <= 0 or (found is None and not _has_place(ledger, pod_uid)):
        return ledger, 0
    base = min(base for _, base in _base_rooms(ledger, terms, now))
    beyond = granted - min(granted, max(0, base))
    if beyond and ledger.credit is not None:
        ledger = replace(
            ledger,
            day=replace(ledger.day, credited=add_money(ledger.day.credited, beyond)),
            month=replace(ledger.month, credited=add_money(ledger.month.credited, beyond)),
            credit=replace(ledger.credit, spent=add_money(ledger.credit.spent, beyond)),
        )
    one = found or Slice(holder, pod_uid, 0, key.day_start, key.month_start, now)
    return _put(ledger, replace(one, amount=one.amount + granted, wanted=0, renewed_at=now)), granted


def settle(ledger: Ledger, key: SliceKey, *, charged: int, reserved: int, spare: int | None = None, now: int) -> Ledger:
    """Move what a slice has spent to the day and the month in which it was taken, and return money that is not needed.

    Settling again with the same `charged` moves nothing. A slice that is gone was closed: nothing is moved, because all
    of it counts as spent. What was spent beyond it is charged by `open_empty` and another slice.

    Args:
        ledger: The ledger.
        key: Which slice.
        charged: All that was charged to this slice since it was taken, settled before or not.
        reserved: What its requests under way may still cost. It stays in the slice.
        spare: What the holder keeps in addition; None keeps all that is left.
        now: Seconds since the epoch, of the API server.
    """
    one = ledger.find(key)
    if one is None:
        return ledger
    moved = max(0, add_money(charged) - one.settled)
    left = max(0, one.amount - moved - reserved)
    amount = min(reserved + (left if spare is None else min(spare, left)), one.amount)
    if not moved and amount == one.amount:
        return ledger
    ledger = add_recent(_add_spent(ledger, key, moved), moved, now)
    ledger = _give_back(ledger, key, one.amount - moved - amount)
    return _put(ledger, replace(one, amount=amount, settled=one.settled + moved, renewed_at=now))


def settle_former(ledger: Ledger, holder: str, charged: Mapping[SliceKey, int], now: int) -> Ledger:
    """End the slices of a former process from its journal: what it has not charged is returned.

    Args:
        ledger: The ledger.
        holder: The former process. Where it left no journal, use `close_holder`.
        charged: All that the journal charges to each slice, with requests that had not ended at their whole
            reservation. A slice that the journal does not name was never spent from.
        now: Seconds since the epoch, of the API server.
    """
    for one in _slices_of(ledger, holder):
        ledger = settle(ledger, one.key, charged=charged.get(one.key, one.settled), reserved=0, spare=0, now=now)
        ledger = _drop(ledger, one.key)
    return ledger


def close_holder(ledger: Ledger, holder: str) -> Ledger:
    """Count all open slices of a holder as spent, and remove them: its pod is gone, or it was silent for too long.

    Nothing comes back, because no one knows what the holder spent. A second call finds no slice.
    """
    for one in _slices_of(ledger, holder):
        ledger = _drop(_add_spent(ledger, one.key, one.amount), one.key)
    return ledger


def open_empty(ledger: Ledger, key: SliceKey, pod_uid: str, *, settled: int, now: int) -> Ledger:
    """Add a slice without money, so that a holder can charge what no slice of these windows can pay any longer.

    It is for usage above its reservation, of a slice that was closed, or that was empty and left with its window. Since
    `settle` moves a cumulative amount, a write whose answer was lost charges nothing twice.

    Args:
        ledger: The ledger. Where it has no place, or has the slice, it is returned as it is.
        key: The slice to add.
        pod_uid: UID of the holder's pod.
        settled: How much of the holder's cumulative charge the ledger has already.
        now: Seconds since the epoch, of the API server.
    """
    if ledger.find(key) is not None or not _has_place(ledger, pod_uid):
        return ledger
    return _put(ledger, Slice(key.holder, pod_uid, 0, key.day_start, key.month_start, now, settled))


def write_wanted(ledger: Ledger, terms: LedgerTerms, holder: str, pod_uid: str, want: int, now: int) -> Ledger:
    """Say what a holder lacks, so that the others return what they have not reserved; 0 takes it back."""
    ledger, want = roll(ledger, terms, now), add_money(want)
    key = ledger.present_key(holder)
    found = ledger.find(key)
    if (found.wanted if found else 0) == want or (found is None and not _has_place(ledger, pod_uid)):
        return ledger
    one = found or Slice(holder, pod_uid, 0, key.day_start, key.month_start, now)
    return _put(ledger, replace(one, wanted=want, renewed_at=now))


def must_return(ledger: Ledger, terms: LedgerTerms, holder: str, now: int) -> bool:
    """Return True if a holder must return what it has not reserved: another one lacks money, or a limit fell."""
    present = (ledger.day.start, ledger.month.start)
    wanted = any(
        one.wanted and one.holder != holder and (one.day_start, one.month_start) == present for one in ledger.slices
    )
    return wanted or excess(ledger, terms, now) > 0


def excess(ledger: Ledger, terms: LedgerTerms, now: int) -> int:
    """Return how much open slices exceed the limits and the credit: a limit was lowered, or a credit has ended.

    What was spent cannot be returned, so a window that is overspent has at most its open slices in excess.
    """
    found = 0
    for period in PERIODS:
        most = allowed(ledger, terms, period, now)
        if most is not None:
            most = max(most + credit_left(ledger, terms, now), ledger.window(period).spent)
            found = max(found, ledger.committed(period) - most)
    return found


def set_credit(ledger: Ledger, credit: Credit | None, now: int) -> Ledger:
    """Replace the credit; None withdraws it.

    What was committed on a credit that is still in force counts against the next one. After its end, only what can
    still come back from its open slices does.

    Args:
        ledger: The ledger.
        credit: The new credit. Its `spent` and `given_at` are set here.
        now: Seconds since the epoch, of the API server.
    """
    old = ledger.credit
    if credit is None:
        if old is None or (not old.amount and old.id is None):
            return ledger
        return replace(ledger, credit=replace(old, amount=0, id=None))
    if old is not None and (old.id, old.amount, old.until, old.reason) == (
        *(credit.id, credit.amount, credit.until, credit.reason),
    ):
        return ledger
    # As slices are returned that an ended credit paid, `spent` of this one falls. So it counts here first.
    spent = old.spent if old is not None and now < old.until else add_money(_credit_in_slices(ledger))
    exhausted = None if credit.amount else ledger.exhausted
    return replace(ledger, credit=replace(credit, spent=spent, given_at=now), exhausted=exhausted)


def record_alerts(ledger: Ledger, terms: LedgerTerms, now: int) -> Ledger:
    """Record each alert percentage that the spend of a present window has reached, once per window.

    Percentages are those of the limit, without a credit.
    """
    due = [
        BudgetAlert(percent, period, window.start, now, window.spent, limit)
        for period in PERIODS
        for window, limit in [(ledger.window(period), terms.limit(period))]
        for percent in sorted(terms.alert_percents)
        if limit is not None and window.spent and window.spent * 100 >= limit * percent
    ]
    known = {(one.percent, one.period, one.window_start) for one in ledger.alerts}
    fresh = tuple(one for one in due if (one.percent, one.period, one.window_start) not in known)
    return replace(ledger, alerts=(*ledger.alerts, *fresh)[-MAX_ALERTS:]) if fresh else ledger


def mark_exhausted(ledger: Ledger, terms: LedgerTerms, holder: str, refused: int, now: int) -> Ledger:
    """Record that a request was refused for lack of money, unless there is room for it by now.

    Args:
        ledger: The ledger.
        terms: Its limits.
        holder: Who refused.
        refused: The worst case of the request in nano-dollars.
        now: Seconds since the epoch, of the API server.
    """
    old = ledger.exhausted
    if (old is not None and old.refused <= refused) or room(ledger, terms, now) >= refused:
        return ledger
    period, _ = min(_base_rooms(ledger, terms, now), key=lambda one: one[1])
    return replace(ledger, exhausted=Exhausted(old.at if old else now, period, min(refused, MAX_LIMIT), holder))


def clear_exhausted(ledger: Ledger, terms: LedgerTerms, now: int) -> Ledger:
    """Remove the record of a refusal once there is room for the request that was refused."""
    if ledger.exhausted is None or room(ledger, terms, now) < ledger.exhausted.refused:
        return ledger
    return replace(ledger, exhausted=None)


def _open_next(ledger: Ledger, terms: LedgerTerms, period: Period, now: int) -> Ledger:
    ended = ledger.window(period)
    if ended.end:
        following = next_window(period, ended.end, now, terms.time_zone, terms.day_seconds)
    else:
        following = first_window(period, now, terms.time_zone, terms.day_seconds)
    window = LedgerWindow(following.start, following.end)
    closed = (ended, *ledger.closed(period)) if ended.end else ()
    exhausted = ledger.exhausted
    if exhausted is not None and exhausted.period == period:
        exhausted = None
    # An empty slice only says how much it has settled. Its holder asks for that until the next window has ended.
    slices = tuple(one for one in ledger.slices if one.amount or one.key == ledger.present_key(one.holder))
    if period == "day":
        return replace(ledger, day=window, days=closed[:MAX_DAYS], slices=slices, exhausted=exhausted)
    return replace(ledger, month=window, months=closed[:MAX_MONTHS], slices=slices, exhausted=exhausted)


def _base_rooms(ledger: Ledger, terms: LedgerTerms, now: int) -> list[tuple[Period, int]]:
    """Return what each limit leaves without a credit; negative where more is committed than a lowered limit allows."""
    return [
        (period, (MAX_MONEY if most is None else most) - ledger.committed(period))
        for period in PERIODS
        for most in [allowed(ledger, terms, period, now)]
    ]


def _credit_in_slices(ledger: Ledger, period: Period | None = None) -> int:
    """Return how much of what credits paid is in open slices: of the present day or month, or of all windows."""
    open_by_day: dict[int, int] = {}
    for one in ledger.slices:
        if period is None or start_of(one, period) == ledger.window(period).start:
            open_by_day[one.day_start] = open_by_day.get(one.day_start, 0) + one.amount
    return sum(min(one.credited, open_by_day.get(one.start, 0)) for one in (ledger.day, *ledger.days))


def _has_place(ledger: Ledger, pod_uid: str) -> bool:
    """Return True if the ledger has a place for one more slice of a pod."""
    of_pod = sum(one.pod_uid == pod_uid for one in ledger.slices)
    return len(ledger.slices) < MAX_SLICES and of_pod < MAX_POD_SLICES


def _slices_of(ledger: Ledger, holder: str) -> Iterator[Slice]:
    return iter([one for one in ledger.slices if one.holder == holder])


def _put(ledger: Ledger, one: Slice) -> Ledger:
    if ledger.find(one.key) is None:
        return replace(ledger, slices=(*ledger.slices, one))
    return replace(ledger, slices=tuple(one if other.key == one.key else other for other in ledger.slices))


def _drop(ledger: Ledger, key: SliceKey) -> Ledger:
    return replace(ledger, slices=tuple(one for one in ledger.slices if one.key != key))


def _add_spent(ledger: Ledger, key: SliceKey, nanos: int) -> Ledger:
    """Add to the day and the month of a slice, present or closed. Windows that are no longer kept are left out."""
    if nanos <= 0:
        return ledger
    return _change_windows(ledger, key, nanos, 0)


def _give_back(ledger: Ledger, key: SliceKey, nanos: int) -> Ledger:
    """Lower what a credit pays in the windows of a slice, by as much of the returned money as it paid there.

    Where one of the two windows is no longer kept, nothing comes back to the credit.
    """
    days, months = (ledger.day, *ledger.days), (ledger.month, *ledger.months)
    paid = [window.credited for window in days if window.start == key.day_start]
    paid += [window.credited for window in months if window.start == key.month_start]
    freed = min(nanos, *paid) if len(paid) == len(PERIODS) else 0
    if freed <= 0:
        return ledger
    ledger = _change_windows(ledger, key, 0, freed)
    credit = ledger.credit
    return ledger if credit is None else replace(ledger, credit=replace(credit, spent=max(0, credit.spent - freed)))


def _change_windows(ledger: Ledger, key: SliceKey, spent: int, freed: int) -> Ledger:
    def change(window: LedgerWindow, start: int) -> LedgerWindow:
        if window.start != start:
            return window
        return replace(window, spent=add_money(window.spent, spent), credited=window.credited - freed)

    return replace(
        ledger,
        day=change(ledger.day, key.day_start),
        month=change(ledger.month, key.month_start),
        days=tuple(change(window, key.day_start) for window in ledger.days),
        months=tuple(change(window, key.month_start) for window in ledger.months),
    )
