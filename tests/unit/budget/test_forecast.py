"""The forecast of a day: what is spent, and the spend of the last three hours until the end of the day."""

import pytest

from interlock_contract.budget.forecast import forecast_day, next_forecast
from interlock_contract.budget.ledger import Ledger, LedgerWindow, RecentSpend
from interlock_contract.budget.money import NANOS
from interlock_contract.budget.velocity import STEP_SECONDS
from tests.requirements import requirement

HOUR = 3600
MIDNIGHT = 1_779_926_400
NOON = MIDNIGHT + 12 * HOUR
DAY = LedgerWindow(MIDNIGHT, MIDNIGHT + 24 * HOUR)


def ledger(*dollars: float, start: int = NOON - STEP_SECONDS, spent: float = 10, day: LedgerWindow = DAY) -> Ledger:
    """Return a ledger with such steps, the newest first."""
    steps = tuple(round(one * NANOS) for one in dollars)
    return Ledger(
        day=LedgerWindow(day.start, day.end, round(spent * NANOS)), recent=RecentSpend(start, steps) if steps else None
    )


def forecast(found: Ledger, now: int = NOON) -> float | None:
    nanos = forecast_day(found, now)
    return None if nanos is None else nanos / NANOS


@requirement("budget.forecast")
def test_the_spend_of_the_last_three_hours_goes_on_until_the_day_ends() -> None:
    assert forecast(ledger(*[0.2] * 18, *[9] * 100)) == 10 + 12 * 1.2


def test_an_agent_that_began_an_hour_ago_is_forecast_by_that_hour() -> None:
    assert forecast(ledger(*[0.2] * 6)) == 10 + 12 * 1.2


@pytest.mark.parametrize("found", [ledger(), ledger(*[9] * 5), Ledger(), Ledger(recent=RecentSpend(0, (1,)))])
def test_nothing_is_known_before_the_first_hour_or_without_a_day(found: Ledger) -> None:
    assert forecast(found) is None


@pytest.mark.parametrize("now", [MIDNIGHT - 1, MIDNIGHT + 24 * HOUR])
def test_a_day_that_is_not_the_present_one_has_no_forecast(now: int) -> None:
    assert forecast(ledger(*[1] * 100), now) is None


@requirement("budget.forecast")
def test_a_forecast_changes_with_full_steps_and_not_with_calls() -> None:
    before = ledger(*[0.2] * 18)
    after = ledger(3, *[0.2] * 18, start=NOON, spent=13)
    assert forecast(before, NOON) == forecast(after, NOON + 599) == 10 + 12 * 1.2
    assert forecast(after, NOON + 600) == pytest.approx(13 + (24 - 12 - 1 / 6) * (3 + 17 * 0.2) / 3)


def test_a_forecast_is_never_below_what_is_spent() -> None:
    assert forecast(ledger(50, *[0] * 18, start=NOON, spent=60)) == 60


def test_the_first_minute_of_a_day_is_forecast_by_the_evening_before() -> None:
    tomorrow = LedgerWindow(DAY.end, DAY.end + 24 * HOUR)
    found = ledger(*[0.2] * 18, start=DAY.end - STEP_SECONDS, spent=0, day=tomorrow)
    assert forecast(found, DAY.end + 5) == pytest.approx(24 * 1.2)


def test_a_day_that_begins_within_a_step_is_forecast_from_its_start() -> None:
    shifted = LedgerWindow(NOON + 300, NOON + 24 * HOUR)
    found = ledger(1, *[0.2] * 18, start=NOON, spent=0.5, day=shifted)
    assert forecast(found, NOON + 400) == pytest.approx(1.2 * (24 - 1 / 12))


@requirement("budget.forecast")
def test_an_agent_that_is_idle_for_three_hours_is_forecast_at_what_it_has_spent_and_needs_no_other_forecast() -> None:
    found = ledger(*[2] * 100)
    last = NOON - STEP_SECONDS
    assert next_forecast(found, NOON + 5) == NOON + STEP_SECONDS
    assert next_forecast(found, last + 3 * HOUR) == last + 3 * HOUR + STEP_SECONDS
    assert next_forecast(found, last + 3 * HOUR + STEP_SECONDS) is None
    assert forecast(found, last + 3 * HOUR + STEP_SECONDS) == 10
    assert next_forecast(ledger(), NOON) is None
    assert next_forecast(ledger(*[1] * 9, start=DAY.end - STEP_SECONDS), DAY.end) is None
