"""The calls and tokens of one minute, which holders share without passing the limits."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from interlock_contract.budget import rates
from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.ledger import Ledger, LedgerInvalid, dump_ledger, parse_ledger
from interlock_contract.budget.rates import (
    NOTHING,
    MinuteRate,
    RateAmounts,
    RateLimits,
    RateSlice,
    ask_rate,
    keep_rate,
    rate_room,
    rate_want,
    roll_minute,
    take_rate,
)
from tests.requirements import requirement
from tests.support.rate_schedule import RateBroken, RateRules, simulate_rates

NOON = 1_772_366_400
LIMITS = RateLimits(60, 10_000)
EVENTS = ("passed", "refused", "crashes", "lost answers")


@requirement("budget.rates")
@settings(max_examples=300, phases=[Phase.generate], deadline=None)
@given(st.integers(0, 2**32))
def test_no_schedule_passes_a_limit_or_refuses_a_call_for_which_there_is_room(seed: int) -> None:
    simulate_rates(seed)


def test_the_schedules_have_everything_that_can_happen() -> None:
    happened: Counter[str] = Counter()
    for seed in range(30):
        happened += simulate_rates(seed)
    assert not [event for event in EVENTS if not happened[event]]


def without_room(rate: MinuteRate, limits: RateLimits, holder: str, pod_uid: str, **amounts: Any) -> Any:
    """Grant whatever is wanted."""
    found = rate.find(holder)
    before = NOTHING if found is None else found.amounts
    return keep_rate(rate, holder, pod_uid, before.plus(amounts["want"])), amounts["want"]


def forgetful(rate: MinuteRate, now: int) -> MinuteRate:
    """Begin without slices whenever a clock is in another minute than the ledger."""
    start = now - now % 60
    return MinuteRate(start) if start != rate.start else rate


@pytest.mark.parametrize(
    "rules",
    [
        RateRules(take=without_room),
        RateRules(roll=forgetful),
        RateRules(roll=lambda _, now: MinuteRate(now - now % 60)),
        RateRules(waits_for_ledger=False),
        RateRules(keep=lambda rate, *_: rate),
    ],
    ids=["no bound", "minutes that come back", "slices that are forgotten", "use before the write", "nothing is kept"],
)
def test_a_rule_that_is_taken_out_is_noticed(rules: RateRules) -> None:
    def run_all() -> None:
        for seed in range(300):
            simulate_rates(seed, rules)

    with pytest.raises(RateBroken):
        run_all()


def take(rate: MinuteRate, holder: str, calls: int, limits: RateLimits = LIMITS) -> tuple[MinuteRate, RateAmounts]:
    need = RateAmounts(calls)
    return take_rate(rate, limits, holder, "pod", least=need, want=need)


def test_three_holders_share_one_limit() -> None:
    rate = roll_minute(MinuteRate(), NOON)
    for holder in "abc":
        rate, granted = take(rate, holder, 20)
        assert granted.calls == 20
    assert rate_room(rate, LIMITS).calls == 0
    assert take(rate, "a", 1) == (rate, NOTHING)


def test_a_call_that_does_not_fit_takes_no_part_of_the_rest() -> None:
    rate, _ = take(roll_minute(MinuteRate(), NOON), "a", 59)
    least = RateAmounts(1, 10_001)
    assert take_rate(rate, LIMITS, "b", "pod", least=least, want=least) == (rate, NOTHING)


def test_a_slice_counts_until_its_minute_ends_whatever_became_of_its_holder() -> None:
    rate, _ = take(roll_minute(MinuteRate(), NOON), "crashed", 60)
    assert take(roll_minute(rate, NOON + 59), "next", 1)[1] == NOTHING
    assert take(roll_minute(rate, NOON + 60), "next", 1)[1].calls == 1


def test_a_clock_that_is_behind_opens_no_former_minute() -> None:
    rate, _ = take(roll_minute(MinuteRate(), NOON), "a", 60)
    assert roll_minute(rate, NOON - 1) is rate
    assert roll_minute(rate, NOON - 3600) is rate


def test_what_is_not_limited_is_not_counted() -> None:
    only_calls, only_tokens = RateLimits(5), RateLimits(None, 100)
    assert only_calls.count(10**9) == RateAmounts(1, 0)
    assert only_tokens.count(70) == RateAmounts(0, 70)
    assert take(MinuteRate(NOON), "a", 10**6, only_tokens)[1].calls == 10**6


def test_a_lease_is_a_share_of_the_rest_and_smaller_where_others_wait() -> None:
    rate, need, busy = MinuteRate(NOON), RateAmounts(1), RateAmounts(600, 0)
    limits = RateLimits(640)
    assert rate_want(rate, limits, "a", need=need, use=NOTHING).calls == 20
    assert rate_want(rate, limits, "a", need=need, use=busy).calls == 320
    rate, _ = take(rate, "b", 320, limits)
    assert rate_want(rate, limits, "a", need=need, use=busy).calls == 80
    asking = ask_rate(rate, "b", "pod", RateAmounts(400), NOON)
    assert rate_want(asking, limits, "a", need=need, use=busy) == need


def test_a_busy_holder_uses_a_limit_with_few_writes() -> None:
    rate, limits, writes, granted = MinuteRate(NOON), RateLimits(600), 0, 0
    for used in range(600):
        if used == granted:
            want = rate_want(rate, limits, "a", need=RateAmounts(1), use=RateAmounts(600))
            rate, more = take_rate(rate, limits, "a", "pod", least=RateAmounts(1), want=want)
            writes, granted = writes + 1, granted + more.calls
    assert granted == 600
    assert writes <= 8


def test_a_question_is_kept_until_it_is_taken_back() -> None:
    rate = ask_rate(MinuteRate(NOON), "a", "pod", RateAmounts(3, 7), NOON + 5)
    assert rate.slices == (RateSlice("a", "pod", wanted_calls=3, wanted_tokens=7, asked_at=NOON + 5),)
    assert ask_rate(rate, "a", "pod", RateAmounts(3, 7), NOON + 5) is rate
    assert ask_rate(rate, "a", "pod", NOTHING, NOON + 6).slices[0].wanted == NOTHING
    assert ask_rate(rate, "b", "pod", NOTHING, NOON + 6) is rate


def test_more_holders_than_the_ledger_has_room_for_get_nothing() -> None:
    full = MinuteRate(NOON, tuple(RateSlice(str(number), "pod") for number in range(rates.MAX_RATE_SLICES)))
    assert take(full, "one too many", 1) == (full, NOTHING)
    assert ask_rate(full, "one too many", "pod", RateAmounts(1), NOON) is full
    assert take(full, "0", 1)[1].calls == 1


def test_the_minute_is_stored_in_the_ledger_and_read_again() -> None:
    rate = ask_rate(take(MinuteRate(NOON), "a", 5)[0], "b", "pod", RateAmounts(0, 9), NOON + 1)
    ledger = replace(Ledger(), rate=rate)
    document = dump_ledger(ledger)
    assert document["rate"]["start"] == "2026-03-01T12:00:00Z"
    assert parse_ledger(document) == ledger
    assert "rate" not in dump_ledger(Ledger())


def test_a_holder_with_two_slices_of_a_minute_is_no_ledger() -> None:
    rate = MinuteRate(NOON, (RateSlice("a", "pod", 1), RateSlice("a", "pod", 2)))
    with pytest.raises(LedgerInvalid, match=r"rate\.slices: a holder has two slices"):
        parse_ledger(dump_ledger(replace(Ledger(), rate=rate)))


def test_a_bundle_without_rate_limits_has_none() -> None:
    assert BundleBudget("triage.staging").rate_limits is None
