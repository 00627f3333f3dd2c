"""Guards at the ends of days: each day begins once, also without the operator and with clocks that change."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from interlock_guard.budget.budget import Budget
from interlock_guard.decision.decide import Deny, DenyReason
from tests.requirements import requirement
from tests.support.budget_bench import DAY_END, OWN, BudgetBench

CALL = 1_000_000
HOUR = 3600
BERLIN = "Europe/Berlin"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


async def spend(bench: BudgetBench, budget: Budget, amount: int = CALL) -> bool:
    """Spend an amount; return False where the budget is exhausted."""
    found = await budget.reserve(amount)
    if isinstance(found, Deny):
        assert found.reason is DenyReason.BUDGET_EXHAUSTED
        return False
    budget.settle(found, amount)
    return True


def day_starts(bench: BudgetBench) -> list[int]:
    """Return when the days of the ledger began, in the order in which they were first seen."""
    starts = (ledger.day.start for name, ledger in bench.store.history if name == OWN and ledger.day.end)
    return list(dict.fromkeys(starts))


@requirement("budget.one-reset", "budget.b10")
@pytest.mark.parametrize(
    ("midnight", "hours"),
    [("2026-03-28T23:00:00", 23), ("2026-10-24T22:00:00", 25)],
    ids=["to summer time", "to winter time"],
)
async def test_a_night_in_which_the_clocks_change_has_one_reset_and_a_day_of_its_length(
    bench: BudgetBench, midnight: str, hours: int
) -> None:
    begin = at(midnight)
    bench.limit(day=10 * CALL)
    bench.terms = replace(bench.terms, time_zone=BERLIN)
    bench.now = begin - HOUR
    guards = [await bench.start("pod-a"), await bench.start("pod-b")]
    passed = 0
    for half in range(2 * hours):  # of the day whose clocks change
        bench.now = begin + half * HOUR // 2
        passed += await spend(bench, guards[half % 2])
    assert passed == 10
    assert day_starts(bench) == [begin]
    bench.now = begin + hours * HOUR - 1
    assert not await spend(bench, guards[0])
    bench.now = begin + hours * HOUR
    assert await spend(bench, guards[0])
    assert day_starts(bench) == [begin, begin + hours * HOUR]
    await guards[0].finish(1)
    (closed,) = bench.store.ledger(OWN).days
    assert (closed.start, closed.end, closed.spent) == (begin, begin + hours * HOUR, 10 * CALL)


@requirement("budget.one-reset", "budget.b10")
@pytest.mark.parametrize("second", ["2016-12-31T23:59:59", "2017-01-01T00:00:00"])
async def test_a_leap_second_belongs_to_one_day(bench: BudgetBench, second: str) -> None:
    """Seconds since the epoch have no leap seconds: the one of 2016 is either of its neighbours, by the server."""
    midnight = at("2017-01-01T00:00:00")
    bench.limit(day=2 * CALL)
    bench.now = midnight - 10
    budget = await bench.start()
    assert await spend(bench, budget)
    bench.now = at(second)
    assert await spend(bench, budget)
    bench.now = midnight + 1
    assert await spend(bench, budget)
    assert day_starts(bench) == [midnight - 24 * HOUR, midnight]


@requirement("budget.one-reset", "budget.b10")
async def test_a_midnight_without_the_operator_gives_guards_their_new_day_and_keeps_the_alerts(
    bench: BudgetBench,
) -> None:
    """The bench has no operator: nothing but guards opens a day, closes one, or notes its alerts."""
    bench.limit(day=10 * CALL)
    guards = [await bench.start("pod-a"), await bench.start("pod-b")]
    for number in range(10):
        assert await spend(bench, guards[number % 2])
    assert not await spend(bench, guards[0])
    bench.now = DAY_END + 1
    for number in range(10):
        assert await spend(bench, guards[number % 2])
    assert not await spend(bench, guards[1])
    for guard in guards:
        await guard.finish(1)
    ledger = bench.store.ledger(OWN)
    assert day_starts(bench) == [DAY_END - 24 * HOUR, DAY_END]
    assert [one.spent for one in ledger.days] == [10 * CALL]
    assert ledger.day.spent == 10 * CALL
    assert {(one.percent, one.window_start) for one in ledger.alerts if one.period == "day"} >= {
        (50, DAY_END - 24 * HOUR),
        (80, DAY_END - 24 * HOUR),
    }


@requirement("budget.one-reset", "budget.b10")
async def test_a_guard_that_restarts_over_midnight_settles_its_calls_in_the_day_they_began(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    before = await bench.start()
    before.settle(await bench.reserved(before, 2 * CALL), CALL)
    await bench.reserved(before, 3 * CALL)  # under way when the guard is killed
    old = bench.store.ledger(OWN).present_key(before.holder)
    await bench.kill(before)
    bench.now = DAY_END + 1
    after = await bench.start()
    assert await spend(bench, after, 10 * CALL)
    await bench.until(lambda: bench.store.ledger(OWN).find(old) is None, "the slice of the first run is settled")
    await after.finish(1)
    ledger = bench.store.ledger(OWN)
    assert ([one.spent for one in ledger.days], ledger.day.spent) == ([4 * CALL], 10 * CALL)
    assert day_starts(bench) == [DAY_END - 24 * HOUR, DAY_END]


@requirement("budget.one-reset")
async def test_a_call_that_waits_over_midnight_gets_money_of_the_new_day(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    budget = await bench.start()
    assert await spend(bench, budget, 9 * CALL)

    def pass_midnight() -> None:
        bench.now = DAY_END + 1

    bench.store.before_update = pass_midnight  # while the guard asks for money of the day before
    assert await spend(bench, budget, 2 * CALL)
    assert bench.store.ledger(OWN).exhausted is None


@requirement("budget.exact")
async def test_after_midnight_a_month_gets_back_what_another_guard_did_not_use_of_the_day_before(
    bench: BudgetBench,
) -> None:
    bench.limit(day=10 * CALL, month=10 * CALL)
    first, second = await bench.start("pod-a"), await bench.start("pod-b")
    used = await bench.reserved(first, 9 * CALL)
    first.settle(used, CALL)  # the slice of the day that ends has 8 free calls, and nothing else of the month is free
    bench.now = DAY_END + 1
    assert await spend(bench, second, 9 * CALL)
    assert bench.store.ledger(OWN).committed("month") == 10 * CALL
