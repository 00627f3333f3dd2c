"""The repair of a BudgetLedger that cannot be read. Pure.

No guard spends from such a ledger. The repair keeps what can be read. No repair gives money back: what cannot be read,
and may be money, counts as spent.

    two slices with one key                        the larger one is kept
    a slice of a later window                      its amount is spent
    a slice or a credit that cannot be read        it is removed, and the present day and month are spent whole
    a present window that cannot be read           it is spent whole, and ends with that of the calendar at the latest
    a closed window that cannot be read, or overlaps a later one, and all else that cannot be read: it is removed
"""

from typing import Any, Final, TypeVar

from msgspec.structs import replace

from interlock_contract.budget.leases import LedgerTerms
from interlock_contract.budget.ledger import (
    MAX_ALERTS,
    MAX_DAYS,
    MAX_MONTHS,
    MAX_SLICES,
    MAX_VELOCITY_ALERTS,
    BudgetAlert,
    Credit,
    Exhausted,
    Ledger,
    LedgerInvalid,
    LedgerWindow,
    RecentSpend,
    Slice,
    SliceKey,
    VelocityAlert,
    parse_part,
)
from interlock_contract.budget.money import MAX_MONEY, add_money
from interlock_contract.budget.rates import MinuteRate
from interlock_contract.budget.tokens_per_byte import MAX_TOKEN_ALERTS, MAX_TOKEN_MODELS, ModelTokens, TokenAlert
from interlock_contract.budget.windows import MAX_SECONDS, Period, first_window

Part = TypeVar("Part")
_KEPT: Final[dict[Period, int]] = {"day": MAX_DAYS, "month": MAX_MONTHS}


def repair_ledger(status: Any, terms: LedgerTerms, now: int) -> Ledger:
    """Return a ledger that can be read, in which no less is spent or in slices than in the given one.

    Args:
        status: The status that `parse_ledger` refuses. Where it is no object, all of it is spent.
        terms: The time zone and the length of days, for a window that cannot be read.
        now: Seconds since the epoch.
    """
    found = status if isinstance(status, dict) else dict.fromkeys(("day", "month"))
    day, days = _repair_windows(found, "day", terms, now)
    month, months = _repair_windows(found, "month", terms, now)
    slices, is_lost = _read_slices(found.get("slices", []))
    credit = _read(found.get("credit"), Credit)
    is_lost = is_lost or found is not status or (credit is None and found.get("credit") is not None)
    later = [one for one in slices.values() if one.day_start > day.start or one.month_start > month.start]
    spent = MAX_MONEY if is_lost else add_money(*(one.amount for one in later))
    rate = _read(found.get("rate"), MinuteRate) or MinuteRate()
    holders = {one.holder for one in rate.slices}
    tokens = {one.model: one for one in _read_all(found.get("tokens"), ModelTokens, MAX_TOKEN_MODELS)}
    return Ledger(
        replace(day, spent=add_money(day.spent, spent)),
        replace(month, spent=add_money(month.spent, spent)),
        slices=tuple(one for one in slices.values() if one not in later),
        credit=credit,
        days=days,
        months=months,
        alerts=_read_all(found.get("alerts"), BudgetAlert, MAX_ALERTS),
        exhausted=_read(found.get("exhausted"), Exhausted),
        recent=_read(found.get("recent"), RecentSpend),
        velocity_alerts=_read_all(found.get("velocityAlerts"), VelocityAlert, MAX_VELOCITY_ALERTS),
        tokens=tuple(tokens.values()),
        token_alerts=_read_all(found.get("tokenAlerts"), TokenAlert, MAX_TOKEN_ALERTS),
        rate=rate if len(holders) == len(rate.slices) else MinuteRate(),
    )


def _repair_windows(
    found: dict[str, Any], period: Period, terms: LedgerTerms, now: int
) -> tuple[LedgerWindow, tuple[LedgerWindow, ...]]:
    """Return the present window and the closed ones."""
    present = _read(found.get(period, {}), LedgerWindow)
    closed = _read_all(found.get(f"{period}s"), LedgerWindow, MAX_MONEY)
    if present is None or (not _is_sound(present, period) and (present != LedgerWindow() or closed)):
        present = _spent_whole(present, period, terms, now)
    kept: list[LedgerWindow] = []
    for window in closed:
        if _is_sound(window, period) and window.end <= (kept[-1] if kept else present).start:
            kept.append(window)
    return present, tuple(kept[: _KEPT[period]])


def _is_sound(window: LedgerWindow, period: Period) -> bool:
    return 0 < window.end - window.start <= MAX_SECONDS[period]


def _spent_whole(known: LedgerWindow | None, period: Period, terms: LedgerTerms, now: int) -> LedgerWindow:
    """Return a present window without any money. It ends as it did, if that is soon, else as the calendar's does."""
    calendar = first_window(period, now, terms.time_zone, terms.day_seconds)
    end = known.end if known is not None and now < known.end <= calendar.end else calendar.end
    return LedgerWindow(calendar.start, end, spent=MAX_MONEY)


def _read_slices(found: Any) -> tuple[dict[SliceKey, Slice], bool]:
    """Return the slices that can be read, the larger one of each key, and whether there are others."""
    listed = found if isinstance(found, list) else []
    read = [one for one in (_read(raw, Slice) for raw in listed[:MAX_SLICES]) if one is not None]
    kept: dict[SliceKey, Slice] = {}
    for one in read:
        if one.key not in kept or kept[one.key].amount < one.amount:
            kept[one.key] = one
    return kept, listed is not found or len(read) < len(listed)


def _read_all(found: Any, kind: type[Part], most: int) -> tuple[Part, ...]:
    """Return the items of a list that can be read, the last ones of too many."""
    read = [_read(raw, kind) for raw in found] if isinstance(found, list) else []
    return tuple(one for one in read if one is not None)[-most:]


def _read(found: Any, kind: type[Part]) -> Part | None:
    try:
        return None if found is None else parse_part(found, kind)
    except LedgerInvalid:
        return None
