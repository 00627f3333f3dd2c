"""What the operator makes of a ledger that cannot be read."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from interlock.reconcile.ledger_repair import repair_ledger
from interlock_contract.budget.leases import PERIODS, LedgerTerms, room
from interlock_contract.budget.ledger import (
    Credit,
    Ledger,
    LedgerInvalid,
    LedgerWindow,
    Slice,
    dump_ledger,
    parse_ledger,
)
from interlock_contract.budget.money import MAX_MONEY
from interlock_contract.budget.rates import MinuteRate, RateSlice
from tests.requirements import requirement

START = 1_780_012_800  # 2026-05-29T00:00:00Z
DAY = 86_400
MONTH = START - 28 * DAY
NOW = START + 3600
TERMS = LedgerTerms(1000, 5000)
LEDGER = Ledger(
    LedgerWindow(START, START + DAY, 25, 5),
    LedgerWindow(MONTH, START + 3 * DAY, 40, 5),
    slices=(
        Slice("pod-a/1", "pod-a", 60, START, MONTH, START + 9, settled=25),
        Slice("pod-b/1", "pod-b", 7, START - DAY, MONTH, START + 9),
    ),
    credit=Credit(100, START + DAY, "launch", START + 5, 5, "maria@example.com"),
    days=(LedgerWindow(START - DAY, START, 15), LedgerWindow(START - 3 * DAY, START - 2 * DAY)),
    months=(LedgerWindow(MONTH - 30 * DAY, MONTH, 7),),
    rate=MinuteRate(START, (RateSlice("pod-a/1", "pod-a", 1),)),
)
JUNK: list[Any] = [-1, 1.5, "x", True, 2**60, {}, [], {"mood": 1}, [{}], "2026-02-30T00:00:00Z", "9999-01-01T00:00:00Z"]


def repaired(status: Any) -> Ledger:
    """Return what a repair writes, as guards read it."""
    with pytest.raises(LedgerInvalid):
        parse_ledger(status)
    return parse_ledger(dump_ledger(repair_ledger(status, TERMS, NOW)))


def damaged(**members: Any) -> dict[str, Any]:
    return {**dump_ledger(LEDGER), **members}


def spent(ledger: Ledger) -> tuple[int, int]:
    return ledger.day.spent, ledger.month.spent


@requirement("budget.ledger-repaired")
def test_of_two_slices_with_one_key_the_larger_one_is_kept() -> None:
    small, other = dump_ledger(LEDGER)["slices"]
    for slices in ([small, {**small, "amount": 90}, other], [{**small, "amount": 90}, small, other]):
        found = repaired(damaged(slices=slices))
        assert [one.amount for one in found.slices] == [90, 7]
        assert replace(found, slices=LEDGER.slices) == LEDGER


@requirement("budget.ledger-repaired")
def test_a_slice_of_a_later_window_is_spent() -> None:
    one = dump_ledger(LEDGER)["slices"][0]
    for start in ("dayStart", "monthStart"):
        found = repaired(damaged(slices=[{**one, start: "2026-05-30T00:00:00Z"}]))
        assert spent(found) == (85, 100)
        assert found.slices == ()


@requirement("budget.ledger-repaired")
@pytest.mark.parametrize(
    "status",
    [
        "too large",
        [],
        damaged(slices=[*dump_ledger(LEDGER)["slices"], {"holder": "pod-c/1"}]),
        damaged(slices={}),
        damaged(credit={"amount": 100}),
    ],
)
def test_what_is_lost_is_spent(status: Any) -> None:
    found = repaired(status)
    assert spent(found) == (MAX_MONEY, MAX_MONEY)
    assert room(found, TERMS, NOW) == 0
    assert (found.day.end, found.month.end) == (START + DAY, START + 3 * DAY)


@requirement("budget.ledger-repaired")
@pytest.mark.parametrize(
    "day",
    [
        {"start": "2026-05-29T00:00:00Z", "end": "9999-12-31T23:59:59Z"},
        {"start": "2026-05-29T00:00:00Z", "end": "2026-05-29T00:00:00Z", "spent": 3},
        {"start": "2026-05-29T00:00:00Z", "end": "2026-05-30T00:00:00Z", "spent": -1},
        {"end": "2026-05-30T00:00:00Z"},
        {},
        None,
        7,
    ],
)
def test_a_day_that_cannot_be_read_is_spent_whole_and_ends_with_the_calendar(day: Any) -> None:
    found = repaired(damaged(day=day))
    assert found.day == LedgerWindow(START, START + DAY, MAX_MONEY)
    assert found.month == LEDGER.month
    assert found.days == LEDGER.days


@requirement("budget.ledger-repaired")
def test_a_day_that_ends_sooner_than_that_of_the_calendar_keeps_its_end() -> None:
    found = repaired(damaged(day={"start": "2026-05-01T00:00:00Z", "end": "2026-05-29T02:00:00Z"}))
    assert found.day == LedgerWindow(START, START + 7200, MAX_MONEY)


@requirement("budget.ledger-repaired")
def test_what_is_no_money_is_removed() -> None:
    days = [{"start": "2026-05-28T00:00:00Z", "end": "2026-05-29T00:00:01Z"}, {}, *dump_ledger(LEDGER)["days"]]
    slices = dump_ledger(LEDGER)["rate"]["slices"] * 2
    rate = {"start": "2026-05-29T00:00:00Z", "slices": slices}
    found = repaired(damaged(days=days, rate=rate, alerts=[{"percent": 50}], exhausted=7, recent=[], mood=1))
    assert found == replace(LEDGER, rate=MinuteRate())


PATHS: list[tuple[str | int, ...]] = [
    (name,) for name in ("day", "month", "days", "months", "slices", "credit", "exhausted", "recent", "rate", "tokens")
]
PATHS += [("day", name) for name in ("start", "end", "spent", "credited")]
PATHS += [("month", name) for name in ("start", "end", "spent")]
PATHS += [("slices", n, name) for n in (0, 1) for name in ("holder", "amount", "dayStart", "monthStart", "settled")]
PATHS += [("days", 0, name) for name in ("start", "end", "spent")]
PATHS += [("credit", name) for name in ("amount", "until", "spent")]


@requirement("budget.ledger-repaired")
@given(st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(JUNK)), min_size=1, max_size=3))
def test_no_repair_gives_money_back(damages: list[tuple[tuple[str | int, ...], Any]]) -> None:
    status: Any = copy.deepcopy(dump_ledger(LEDGER))
    for path, junk in damages:
        inner: Any = status
        try:
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = copy.deepcopy(junk)
        except (TypeError, KeyError, IndexError):
            continue
    try:
        parse_ledger(status)
    except LedgerInvalid:
        found = repaired(status)
        for period in PERIODS:
            assert found.committed(period) >= LEDGER.committed(period)
        assert room(found, TERMS, NOW) <= room(LEDGER, TERMS, NOW)
