"""Each rule of ledgers and holders is taken out once, and the simulation notices that a promise is broken."""

from typing import Any

import pytest
from msgspec.structs import replace as changed

from interlock_contract.budget import leases
from interlock_contract.budget.leases import LedgerTerms
from interlock_contract.budget.ledger import Credit, Ledger, Slice, SliceKey
from tests.requirements import requirement
from tests.support.budget_simulation.rules import Rules, Violated
from tests.support.budget_simulation.schedule import replaced, simulate

MOST_SEEDS = 3000
"""Schedules within which a missing rule is noticed. Most are noticed in the first ten."""


HINTS = (406, 252, 44, 72)
"""Schedules that notice the rules that few schedules notice. They only save time."""


def first_violation(rules: Rules) -> str | None:
    for seed in (0, 1, *HINTS, *range(2, MOST_SEEDS)):
        try:
            simulate(seed, rules)
        except Violated as error:
            return str(error)
    return None


def take_without_slices(ledger: Ledger, terms: LedgerTerms, *args: Any, **more: Any) -> tuple[Ledger, int]:
    """The room is the limit without what is spent: open slices of others are forgotten."""
    ledger = leases.roll(ledger, terms, more["now"])
    alone, granted = leases.take(changed(ledger, slices=()), terms, *args, **more)
    one = alone.slices[0] if granted else None
    if one is None:
        return ledger, 0
    found = ledger.find(one.key)
    grown = changed(found, amount=found.amount + one.amount) if found else one
    return changed(alone, slices=(*(other for other in ledger.slices if other.key != one.key), grown)), granted


def take_without_month(ledger: Ledger, terms: LedgerTerms, *args: Any, **more: Any) -> tuple[Ledger, int]:
    return leases.take(ledger, LedgerTerms(terms.day, None, terms.time_zone), *args, **more)


def take_without_day(ledger: Ledger, terms: LedgerTerms, *args: Any, **more: Any) -> tuple[Ledger, int]:
    return leases.take(ledger, LedgerTerms(None, terms.month, terms.time_zone), *args, **more)


def take_by_former_limits(ledger: Ledger, terms: LedgerTerms, *args: Any, **more: Any) -> tuple[Ledger, int]:
    """A limit that was lowered does not hold: the smallest ones are never seen."""
    day = None if terms.day is None else max(terms.day, 250)
    return leases.take(ledger, LedgerTerms(day, terms.month, terms.time_zone), *args, **more)


def take_after_until(ledger: Ledger, *args: Any, **more: Any) -> tuple[Ledger, int]:
    """A credit is used after its end: it is replaced by one that lasts for ever."""
    if ledger.credit is not None:
        ledger = changed(ledger, credit=changed(ledger.credit, until=10**10))
    return leases.take(ledger, *args, **more)


def take_with_endless_credit(ledger: Ledger, *args: Any, **more: Any) -> tuple[Ledger, int]:
    if ledger.credit is not None:
        ledger = changed(ledger, credit=changed(ledger.credit, spent=0))
    return leases.take(ledger, *args, **more)


def take_twice_at_midnight(ledger: Ledger, terms: LedgerTerms, *args: Any, **more: Any) -> tuple[Ledger, int]:
    """A reset that only forgets what was spent, each time that it is called near the start of a day."""
    now = more["now"]
    ledger = leases.roll(ledger, terms, now)
    if now - ledger.day.start < 60:
        ledger = changed(ledger, day=changed(ledger.day, spent=0))
    return leases.take(ledger, terms, *args, **more)


def take_with_zone_at_once(ledger: Ledger, terms: LedgerTerms, *args: Any, **more: Any) -> tuple[Ledger, int]:
    """A new time zone holds at once: the present day is replaced by that of the zone."""
    fresh = leases.roll(Ledger(), terms, more["now"])
    if ledger.day.end and fresh.day.start != ledger.day.start:
        ledger = changed(ledger, day=fresh.day, days=(ledger.day, *ledger.days)[:35])
    return leases.take(ledger, terms, *args, **more)


def settle_again(ledger: Ledger, key: SliceKey, **more: Any) -> Ledger:
    """What was settled before is settled again."""
    one = ledger.find(key)
    if one is not None:
        ledger = changed(
            ledger, slices=tuple(changed(other, settled=0) if other.key == key else other for other in ledger.slices)
        )
    return leases.settle(ledger, key, **more)


def settle_within_slice(ledger: Ledger, key: SliceKey, **more: Any) -> Ledger:
    """Usage above the slice is left out."""
    one = ledger.find(key)
    if one is not None:
        more["charged"] = min(more["charged"], one.amount + one.settled)
    return leases.settle(ledger, key, **more)


def settle_without_reserved(ledger: Ledger, key: SliceKey, **more: Any) -> Ledger:
    """Reserved money is returned too."""
    return leases.settle(ledger, key, **{**more, "reserved": 0})


def settle_into_present_day(ledger: Ledger, key: SliceKey, **more: Any) -> Ledger:
    """A reservation across midnight is charged to the day in which it ends."""
    settled = leases.settle(ledger, key, **more)
    moved = sum(window.spent for window in settled.days) - sum(window.spent for window in ledger.days)
    return (
        settled
        if not moved
        else changed(settled, day=changed(settled.day, spent=settled.day.spent + moved), days=ledger.days)
    )


def settle_day_alone(ledger: Ledger, key: SliceKey, **more: Any) -> Ledger:
    settled = leases.settle(ledger, key, **more)
    return settled if settled is ledger else changed(settled, month=ledger.month, months=ledger.months)


def close_and_return(ledger: Ledger, holder: str) -> Ledger:
    """What a dead holder had comes back."""
    return changed(ledger, slices=tuple(one for one in ledger.slices if one.holder != holder))


def close_and_keep(ledger: Ledger, holder: str) -> Ledger:
    """The slice stays, so that it is closed each time."""
    kept: tuple[Slice, ...] = tuple(one for one in ledger.slices if one.holder == holder)
    closed = leases.close_holder(ledger, holder)
    return closed if closed is ledger else changed(closed, slices=(*closed.slices, *kept))


def close_by_settled(ledger: Ledger, holder: str) -> Ledger:
    """Only half of the open slice counts as spent."""
    halved = tuple(changed(one, amount=one.amount // 2) if one.holder == holder else one for one in ledger.slices)
    return leases.close_holder(changed(ledger, slices=halved), holder)


def set_fresh_credit(ledger: Ledger, credit: Credit | None, now: int) -> Ledger:
    """What was spent of the former credit does not count."""
    following = leases.set_credit(ledger, credit, now)
    if following is ledger or following.credit is None:
        return following
    return changed(following, credit=changed(following.credit, spent=0))


def want_more(ledger: Ledger, terms: LedgerTerms, holder: str, *, need: int, **more: Any) -> int:
    """Slices reach across alert lines."""
    return need * 3


MUTANTS = {
    "nothing is reserved": replaced(reserves=False),
    "a grant counts before it was written": replaced(waits_for_ledger=False),
    "a lost answer counts as a write": replaced(reads_again=False),
    "the journal is written after the forward": replaced(journals_first=False),
    "a restart ignores the journal": replaced(reads_journal=False),
    "the day is that of the holder's clock": replaced(uses_server_time=False),
    "the total is not asked": replaced(needs_total=False),
    "a closed holder goes on under its name": replaced(renames_itself=False),
    "others return nothing": replaced(must_return=lambda *_: False),
    "slices ignore alert lines": replaced(slice_want=want_more),
    "slices of others are forgotten": replaced(take=take_without_slices),
    "the month does not bound": replaced(take=take_without_month),
    "the day does not bound": replaced(take=take_without_day),
    "a lower limit does not hold": replaced(take=take_by_former_limits),
    "a credit has no end": replaced(take=take_after_until),
    "a credit has no bottom": replaced(take=take_with_endless_credit),
    "a day begins twice": replaced(take=take_twice_at_midnight),
    "a new zone holds at once": replaced(take=take_with_zone_at_once),
    "settling again charges again": replaced(settle=settle_again),
    "usage above a slice is left out": replaced(settle=settle_within_slice),
    "reserved money is returned": replaced(settle=settle_without_reserved),
    "the new day pays for the old one": replaced(settle=settle_into_present_day),
    "the month is not charged": replaced(settle=settle_day_alone),
    "a dead holder's money comes back": replaced(close_holder=close_and_return),
    "a slice is closed twice": replaced(close_holder=close_and_keep),
    "half of a dead holder's money comes back": replaced(close_holder=close_by_settled),
    "a new credit starts from zero": replaced(set_credit=set_fresh_credit),
}


@requirement("budget.rules")
@pytest.mark.parametrize("rules", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_missing_rule_is_noticed(rules: Rules) -> None:
    assert first_violation(rules) is not None
