"""The velocity of a spend: what a ledger keeps of the last day, and when ten minutes are an alert."""

import pytest
from msgspec import structs

from interlock_contract.budget.leases import LedgerTerms, close_holder, roll, settle, settle_former, take
from interlock_contract.budget.ledger import (
    MAX_STEPS,
    MAX_VELOCITY_ALERTS,
    Ledger,
    RecentSpend,
    dump_ledger,
    parse_ledger,
)
from interlock_contract.budget.money import MAX_MONEY, NANOS
from interlock_contract.budget.velocity import STEP_SECONDS, VelocityTerms, add_recent, median, record_velocity
from tests.requirements import requirement

START = 1_780_000_200  # a full ten minutes
NOW = START + 250
TERMS = VelocityTerms()
HOUR = 3600


def spent(*dollars: float, start: int = START) -> Ledger:
    """Return a ledger with such steps, the newest first."""
    return Ledger(recent=RecentSpend(start, tuple(int(one * NANOS) for one in dollars)))


def is_alert(ledger: Ledger, terms: VelocityTerms = TERMS) -> bool:
    return bool(record_velocity(ledger, terms, NOW).velocity_alerts)


# What is kept


def test_what_is_settled_within_ten_minutes_is_one_step() -> None:
    ledger = add_recent(add_recent(Ledger(), 3, START), 4, START + STEP_SECONDS - 1)
    assert ledger.recent == RecentSpend(START, (7,))


def test_ten_minutes_without_spend_are_steps_of_zero() -> None:
    ledger = add_recent(add_recent(Ledger(), 3, START), 4, START + 3 * STEP_SECONDS)
    assert ledger.recent == RecentSpend(START + 3 * STEP_SECONDS, (4, 0, 0, 3))


@pytest.mark.parametrize("passed", [MAX_STEPS - 1, MAX_STEPS, 10**6])
def test_no_more_than_a_day_and_the_newest_step_are_kept(passed: int) -> None:
    ledger = add_recent(add_recent(Ledger(), 3, START), 4, START + passed * STEP_SECONDS)
    assert ledger.recent is not None
    assert len(ledger.recent.spent) == MAX_STEPS
    assert sum(ledger.recent.spent) == (7 if passed < MAX_STEPS else 4)


def test_a_clock_that_went_back_counts_to_the_newest_step() -> None:
    ledger = add_recent(add_recent(Ledger(), 3, START), 4, START - HOUR)
    assert ledger.recent == RecentSpend(START, (7,))


def test_nothing_settled_changes_nothing() -> None:
    ledger = Ledger()
    assert add_recent(ledger, 0, START) is ledger


def test_a_step_is_an_amount_that_every_reader_keeps_exactly() -> None:
    ledger = add_recent(add_recent(Ledger(), MAX_MONEY, START), MAX_MONEY, START)
    assert parse_ledger(dump_ledger(ledger)).recent == RecentSpend(START, (MAX_MONEY,))


@requirement("budget.velocity")
def test_guards_write_the_step_with_the_settlement_and_once() -> None:
    terms = LedgerTerms(100, None)
    ledger, _ = take(roll(Ledger(), terms, NOW), terms, "a/1", "a", least=60, want=60, now=NOW)
    assert ledger.recent is None
    key = ledger.present_key("a/1")
    ledger = settle(ledger, key, charged=10, reserved=0, now=NOW)
    ledger = settle(ledger, key, charged=10, reserved=0, now=NOW + 5)
    ledger = settle(ledger, key, charged=15, reserved=0, now=NOW + STEP_SECONDS)
    assert ledger.recent == RecentSpend(START + STEP_SECONDS, (5, 10))
    ledger = settle_former(ledger, "a/1", {key: 17}, NOW + STEP_SECONDS)
    assert ledger.recent == RecentSpend(START + STEP_SECONDS, (7, 10))


def test_a_closed_slice_is_in_no_step() -> None:
    terms = LedgerTerms(100, None)
    ledger, _ = take(Ledger(), terms, "a/1", "a", least=60, want=60, now=NOW)
    assert close_holder(ledger, "a/1").recent is None


# When it is an alert


@pytest.mark.parametrize(("amounts", "middle"), [((), 0), ((3,), 3), ((1, 9, 2), 2), ((1, 2, 4, 9), 3), ((1, 2), 1)])
def test_the_median_is_the_middle_rounded_down(amounts: tuple[int, ...], middle: int) -> None:
    assert median(amounts) == middle


@requirement("budget.velocity")
def test_ten_minutes_above_five_times_the_median_and_a_dollar_are_an_alert_with_both_amounts() -> None:
    (alert,) = record_velocity(spent(10.01, *[2] * 144), TERMS, NOW).velocity_alerts
    assert (alert.window_start, alert.at, alert.spent, alert.median) == (START, NOW, 10_010_000_000, 2 * NANOS)


@requirement("budget.velocity")
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((10, *[2] * 144), id="not above five times the median"),
        pytest.param((1, *[0] * 144), id="not above a dollar"),
        pytest.param((50, *[0] * 5), id="the spend is younger than an hour"),
        pytest.param((0, 50, *[0] * 143), id="an earlier step"),
        pytest.param((50, *[0] * 71, *[10] * 73), id="half of the day is as busy"),
    ],
)
def test_other_ten_minutes_are_no_alert(steps: tuple[float, ...]) -> None:
    assert not is_alert(spent(*steps))


@requirement("budget.velocity")
def test_factor_and_minimum_are_settable() -> None:
    ledger = spent(3, *[1] * 144)
    assert not is_alert(ledger)
    assert is_alert(ledger, VelocityTerms(factor=2))
    assert not is_alert(ledger, VelocityTerms(factor=2, minimum=3 * NANOS))


def test_an_idle_day_makes_the_minimum_alone_count() -> None:
    assert is_alert(spent(1.01, *[0] * 144))
    assert is_alert(spent(50, *[0] * 73, *[10] * 71))


@requirement("budget.velocity")
def test_a_spend_that_stays_high_is_one_alert_an_hour() -> None:
    ledger = record_velocity(spent(10, *[1] * 144), TERMS, NOW)
    assert record_velocity(ledger, TERMS, NOW + 1) is ledger
    for step in range(1, 13):
        ledger = add_recent(ledger, 10 * NANOS, NOW + step * STEP_SECONDS)
        ledger = record_velocity(ledger, TERMS, NOW + step * STEP_SECONDS)
    assert [one.window_start - START for one in ledger.velocity_alerts] == [0, HOUR, 2 * HOUR]


def test_the_last_alerts_are_kept() -> None:
    ledger = spent(10, *[1] * 144)
    for hour in range(MAX_VELOCITY_ALERTS + 5):
        recent = RecentSpend(START + hour * HOUR, (10 * NANOS, *[0] * 20))
        ledger = record_velocity(structs.replace(ledger, recent=recent), TERMS, NOW)
    assert len(ledger.velocity_alerts) == MAX_VELOCITY_ALERTS
    assert ledger.velocity_alerts[-1].window_start == START + (MAX_VELOCITY_ALERTS + 4) * HOUR
    assert parse_ledger(dump_ledger(ledger)) == ledger
