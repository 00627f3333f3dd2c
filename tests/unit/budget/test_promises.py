"""What a budget promises, in random schedules of holders that crash, lose answers and race."""

from collections import Counter

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from interlock_contract.budget.leases import LedgerTerms
from interlock_contract.budget.ledger import Ledger
from tests.requirements import requirement
from tests.support.budget_simulation.audit import OWN
from tests.support.budget_simulation.holder import Holder
from tests.support.budget_simulation.rules import Rules
from tests.support.budget_simulation.schedule import Schedule, simulate

EVENTS = (
    *("forwarded", "refused", "unavailable", "closed", "crashes", "lost pods", "revisions", "partitions"),
    *("lost answers", "resets", "credits", "terms", "alerts"),
)
HOUR = 3600
SEEDS = st.integers(0, 2**32)


@requirement("budget.schedules", "budget.b4")
@settings(max_examples=300, phases=[Phase.generate], deadline=None)
@given(SEEDS)
def test_no_schedule_breaks_a_promise(seed: int) -> None:
    simulate(seed)


def test_the_schedules_have_everything_that_can_happen() -> None:
    happened: Counter[str] = Counter()
    for seed in range(30):
        happened += simulate(seed)
    assert not [event for event in EVENTS if not happened[event]]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@settings(max_examples=50_000, phases=[Phase.generate], deadline=None)
@given(SEEDS)
def test_no_schedule_of_many_breaks_a_promise(seed: int) -> None:
    simulate(seed)


def own_ledger(schedule: Schedule) -> Ledger:
    return schedule.api.read(OWN)[1]


@requirement("budget.exact", "budget.b1", "budget.b2")
@pytest.mark.parametrize("fits", [0, 1, 7, 100, 256])
@pytest.mark.parametrize("holders", [1, 3])
def test_b1_of_256_parallel_requests_exactly_those_that_fit_are_forwarded(fits: int, holders: int) -> None:
    schedule = Schedule(fits, Rules(), own=LedgerTerms(10 * fits, None), pods=holders)
    for _ in range(256):
        schedule.begin(10, 10)
    schedule.drain()
    assert schedule.audit.counts["forwarded"] == fits
    assert schedule.audit.counts["refused"] == 256 - fits
    schedule.finish()
    assert own_ledger(schedule).day.spent == 10 * fits


@requirement("budget.crash", "budget.b8")
@pytest.mark.parametrize("seed", range(5))
def test_b8_after_50_kills_the_ledger_has_what_was_spent_and_at_most_what_was_under_way_in_addition(seed: int) -> None:
    schedule = Schedule(seed, Rules(), own=LedgerTerms(5_000, None), pods=3)
    under_way = 0
    for _ in range(50):
        for _ in range(4):
            schedule.begin(20, schedule.random.choice((5, 20)))
        for _ in range(schedule.random.randint(1, 60)):
            schedule.step()
            schedule._resolve_some()  # noqa: SLF001 - the requests that wait
        schedule.end_call()
        under_way += 20 * sum(len(holder.under_way) for holder in schedule.holders)
        schedule.crash()
        if schedule.random.random() < 0.5:
            while schedule.former:  # a pod has few slices, so a guard ends those of its former runs first
                schedule.recover()
    schedule.finish()
    spent = own_ledger(schedule).day.spent
    true = schedule.audit.true[OWN, "day", own_ledger(schedule).day.start]
    assert true <= spent <= min(5_000, true + under_way)
    assert true > 1_000


@requirement("budget.b3")
@pytest.mark.parametrize("seed", range(5))
def test_b3_without_a_crash_the_ledger_is_equal_to_what_was_spent(seed: int) -> None:
    schedule = Schedule(seed, Rules(), own=LedgerTerms(2_000, None), pods=3)
    for _ in range(100):
        schedule.begin(20, schedule.random.choice((0, 5, 20)))
    schedule.drain()
    for holder in schedule.holders:
        for call in list(holder.under_way):
            holder.end(call, call.true)
    schedule.finish()
    assert own_ledger(schedule).day.spent == schedule.audit.true[OWN, "day", own_ledger(schedule).day.start]


def two_holders(limit: int, skews: tuple[int, int] = (0, 0)) -> tuple[Schedule, Holder, Holder]:
    schedule = Schedule(1, Rules(), own=LedgerTerms(limit, None), pods=2)
    for holder, skew in zip(schedule.holders, skews, strict=True):
        holder.skew = skew
    return schedule, *schedule.holders


@requirement("budget.exact")
def test_of_two_that_race_for_the_last_cent_one_gets_it() -> None:
    schedule, one, other = two_holders(10)
    one.read(OWN)
    other.read(OWN)  # both have seen the same version, in which the money is free
    assert one.take(OWN, 10)
    assert not other.take(OWN, 10)
    assert own_ledger(schedule).committed("day") == 10


@requirement("budget.one-reset", "budget.b10")
def test_b10_clocks_that_are_an_hour_off_change_no_day() -> None:
    schedule, slow, fast = two_holders(100, (-HOUR, HOUR))
    slow.take(OWN, 10)
    midnight = own_ledger(schedule).day.end
    days = []
    for now in (midnight - HOUR, midnight - 60, midnight + 60, midnight + HOUR, midnight + 2 * HOUR):
        schedule.api.now = now
        for holder in (fast, slow):
            holder.read(OWN)
            holder.take(OWN, holder.free(OWN) + 1)
            days.append(own_ledger(schedule).day.start)
    assert days == [midnight - 24 * HOUR] * 4 + [midnight] * 6
    assert schedule.audit.starts[OWN, "day"] == [midnight - 24 * HOUR, midnight]


@requirement("budget.one-reset", "budget.b10")
def test_b10_a_midnight_that_no_one_sees_resets_when_the_first_holder_returns() -> None:
    schedule, one, _ = two_holders(100)
    one.take(OWN, 100)
    one.settle(OWN, 0)
    former = own_ledger(schedule).day
    schedule.api.now += 3 * 24 * HOUR
    one.read(OWN)
    assert one.take(OWN, 100)
    present = own_ledger(schedule)
    assert present.days == (former,)
    assert present.day.start <= schedule.api.now < present.day.end
