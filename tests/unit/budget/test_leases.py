from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from interlock_contract.budget.leases import (
    LedgerTerms,
    clear_exhausted,
    close_holder,
    excess,
    mark_exhausted,
    must_return,
    open_empty,
    reachable_room,
    record_alerts,
    roll,
    room,
    set_credit,
    settle,
    settle_former,
    take,
    write_wanted,
)
from interlock_contract.budget.ledger import (
    MAX_ALERTS,
    MAX_POD_SLICES,
    MAX_SLICES,
    Credit,
    Ledger,
    Slice,
    dump_ledger,
    parse_ledger,
)
from interlock_contract.budget.money import MAX_LIMIT, MAX_MONEY
from tests.requirements import requirement

NOW = 1_780_000_000  # 2026-05-28T20:26:40Z
DAY = 86_400
TERMS = LedgerTerms(100, 1000)
A, B = "pod-a/1", "pod-b/1"
NEW = roll(Ledger(), TERMS, NOW)


def grow(ledger: Ledger, holder: str, amount: int, terms: LedgerTerms = TERMS, now: int = NOW) -> Ledger:
    ledger, granted = take(ledger, terms, holder, holder.partition("/")[0], least=amount, want=amount, now=now)
    assert granted == amount
    return ledger


def refused(ledger: Ledger, holder: str, amount: int, terms: LedgerTerms = TERMS, now: int = NOW) -> bool:
    _, granted = take(ledger, terms, holder, "pod", least=amount, want=amount, now=now)
    return granted == 0


def charge(ledger: Ledger, holder: str, charged: int, reserved: int = 0, spare: int | None = None) -> Ledger:
    return settle(ledger, ledger.present_key(holder), charged=charged, reserved=reserved, spare=spare, now=NOW)


def a_credit(amount: int, until: int = NOW + DAY, reason: str = "launch") -> Credit:
    return Credit(amount, until, reason, NOW)


# Take


def test_two_holders_never_have_more_than_the_limit() -> None:
    ledger = grow(grow(NEW, A, 60), B, 40)
    assert room(ledger, TERMS, NOW) == 0
    assert refused(ledger, A, 1)


def test_the_last_nano_dollar_goes_to_one_of_two() -> None:
    ledger = grow(NEW, A, 99)
    assert refused(grow(ledger, B, 1), A, 1)
    assert refused(grow(ledger, A, 1), B, 1)


def test_a_request_that_does_not_fit_gets_nothing_and_a_larger_wish_what_is_left() -> None:
    ledger = grow(NEW, A, 60)
    assert refused(ledger, B, 41)
    _, granted = take(ledger, TERMS, B, "pod-b", least=10, want=90, now=NOW)
    assert granted == 40


def test_the_month_bounds_the_day() -> None:
    assert refused(NEW, A, 51, LedgerTerms(100, 50))
    assert refused(NEW, A, 51, LedgerTerms(50, 100))


def test_what_was_spent_is_not_granted_again() -> None:
    ledger = charge(grow(NEW, A, 60), A, 60)
    assert ledger.day.spent == ledger.month.spent == 60
    assert refused(ledger, A, 41)


def test_without_limits_only_the_largest_number_bounds() -> None:
    free = LedgerTerms(None, None)
    assert room(NEW, free, NOW) == MAX_MONEY
    ledger = charge(grow(NEW, A, MAX_MONEY, free), A, MAX_MONEY)
    assert refused(ledger, A, 1, free)
    assert charge(ledger, A, MAX_MONEY + 5).day.spent == MAX_MONEY


def test_a_request_that_costs_nothing_takes_nothing() -> None:
    assert take(NEW, TERMS, A, "pod-a", least=0, want=0, now=NOW) == (NEW, 0)


def test_a_full_ledger_grants_no_further_holder() -> None:
    crowd = tuple(Slice(f"pod-{n}/1", "pod", 0, NEW.day.start, NEW.month.start, NOW) for n in range(MAX_SLICES))
    full = structs.replace(NEW, slices=crowd)
    assert refused(full, A, 1)
    assert write_wanted(full, TERMS, A, "pod-a", 1, NOW) is full
    grow(full, "pod-7/1", 1)


# Settle


def test_settling_twice_moves_the_money_once() -> None:
    ledger = charge(grow(NEW, A, 60), A, 25)
    assert charge(ledger, A, 25) is ledger
    assert charge(ledger, A, 20) is ledger


def test_day_and_month_move_in_one_value() -> None:
    ledger = charge(grow(NEW, A, 60), A, 25, reserved=10, spare=5)
    assert (ledger.day.spent, ledger.month.spent) == (25, 25)
    assert [one.amount for one in ledger.slices] == [15]


def test_what_is_not_kept_is_free_for_others() -> None:
    ledger = charge(grow(NEW, A, 100), A, 0, reserved=30, spare=0)
    grow(ledger, B, 70)
    assert refused(ledger, B, 71)


def test_a_slice_never_grows_by_settling() -> None:
    ledger = charge(grow(NEW, A, 20), A, 0, reserved=50, spare=50)
    assert [one.amount for one in ledger.slices] == [20]
    assert charge(ledger, A, 0, reserved=0, spare=50) is ledger


def test_usage_above_a_reservation_is_charged_whole_and_other_requests_keep_theirs() -> None:
    ledger = charge(grow(NEW, A, 100), A, 130, reserved=20)
    assert (ledger.day.spent, ledger.slices[0].amount) == (130, 20)
    assert refused(ledger, B, 1)


def test_an_empty_slice_remembers_what_it_settled() -> None:
    ledger = charge(grow(NEW, A, 60), A, 25, spare=0)
    assert (ledger.slices[0].amount, ledger.slices[0].settled) == (0, 25)
    assert charge(ledger, A, 25) is ledger
    again = charge(grow(ledger, A, 10), A, 35)
    assert again.day.spent == 35


def test_a_slice_of_another_window_or_holder_is_not_touched() -> None:
    ledger = grow(NEW, A, 60)
    assert charge(ledger, B, 25) is ledger


# Close


@requirement("budget.closed-once")
def test_a_holder_is_closed_once_and_nothing_comes_back() -> None:
    ledger = close_holder(grow(charge(grow(NEW, A, 60), A, 10), B, 5), A)
    assert (ledger.day.spent, ledger.month.spent) == (60, 60)
    assert [one.holder for one in ledger.slices] == [B]
    assert close_holder(ledger, A) is ledger
    assert charge(ledger, A, 60) is ledger
    assert settle_former(ledger, A, {}, NOW) is ledger


@requirement("budget.crash")
def test_a_journal_returns_what_was_not_charged() -> None:
    ledger = charge(grow(NEW, A, 60), A, 10)
    ended = settle_former(ledger, A, {ledger.present_key(A): 35}, NOW)
    assert (ended.day.spent, ended.slices) == (35, ())


def test_a_slice_that_the_journal_does_not_name_was_never_spent_from() -> None:
    ended = settle_former(grow(NEW, A, 60), A, {}, NOW)
    assert (ended.day.spent, ended.slices) == (0, ())


def test_usage_above_a_reservation_of_a_closed_slice_is_charged() -> None:
    closed = close_holder(grow(NEW, A, 60), A)
    later = charge(open_empty(closed, closed.present_key("pod-a/2"), "pod-a", settled=0, now=NOW), "pod-a/2", 7)
    assert (later.day.spent, later.month.spent, later.committed("day")) == (67, 67, 67)
    assert charge(open_empty(later, later.present_key("pod-a/2"), "pod-a", settled=0, now=NOW), "pod-a/2", 7) is later


def test_a_slice_that_left_with_its_window_is_charged_only_what_came_later() -> None:
    key = NEW.present_key(A)
    gone = roll(roll(charge(grow(NEW, A, 60), A, 25, spare=0), TERMS, NOW + DAY), TERMS, NOW + 2 * DAY)
    assert gone.find(key) is None
    late = settle(open_empty(gone, key, "pod-a", settled=25, now=NOW), key, charged=31, reserved=0, now=NOW)
    assert (late.days[1].spent, late.day.spent, late.month.spent) == (31, 0, 31)


# Wanted


def test_other_holders_return_money_that_one_lacks() -> None:
    ledger = write_wanted(grow(NEW, A, 100), TERMS, B, "pod-b", 30, NOW)
    assert must_return(ledger, TERMS, A, NOW)
    assert not must_return(ledger, TERMS, B, NOW)
    answered = grow(charge(ledger, A, 20, spare=0), B, 30)
    assert not must_return(answered, TERMS, A, NOW)


def test_a_wish_can_be_taken_back() -> None:
    ledger = write_wanted(grow(NEW, A, 100), TERMS, B, "pod-b", 30, NOW)
    assert not must_return(write_wanted(ledger, TERMS, B, "pod-b", 0, NOW), TERMS, A, NOW)
    assert write_wanted(ledger, TERMS, B, "pod-b", 30, NOW) is ledger


def test_a_wish_of_an_ended_window_moves_no_holder() -> None:
    ledger = write_wanted(grow(NEW, A, 100), TERMS, B, "pod-b", 30, NOW)
    assert not must_return(roll(ledger, TERMS, NOW + DAY), TERMS, A, NOW + DAY)


def test_a_lower_limit_calls_unreserved_money_back() -> None:
    ledger = charge(grow(NEW, A, 90), A, 40)
    lower = replace(TERMS, day=60)
    assert excess(ledger, TERMS, NOW) == 0
    assert excess(ledger, lower, NOW) == 30
    assert must_return(ledger, lower, A, NOW)
    assert refused(ledger, B, 1, lower)


def test_what_was_spent_cannot_be_called_back() -> None:
    ledger = charge(grow(NEW, A, 90), A, 80, spare=0)
    assert excess(ledger, replace(TERMS, day=60), NOW) == 0


# Room


def test_there_is_no_room_while_open_slices_exceed_what_an_ended_credit_paid() -> None:
    ledger = set_credit(grow(NEW, A, 90), a_credit(50, NOW + 10), NOW)
    ledger = grow(ledger, A, 30)
    raised = replace(TERMS, day=115)  # less than what is committed, and with `credited` more than that
    assert room(ledger, raised, NOW + 9) == 45
    assert excess(ledger, raised, NOW + 10) == 5
    assert room(ledger, raised, NOW + 10) == 0
    refusal = mark_exhausted(ledger, raised, B, 5, NOW + 10)
    assert refusal.exhausted is not None
    assert clear_exhausted(refusal, raised, NOW + 10) is refusal


def test_slices_of_an_ended_day_can_come_back_to_the_month() -> None:
    terms = LedgerTerms(100, 120)
    ledger = roll(grow(charge(grow(NEW, A, 60, terms), A, 25), B, 35, terms), terms, NOW + DAY)
    ledger = grow(ledger, A, 15, terms, NOW + DAY)
    assert room(ledger, terms, NOW + DAY) == 10
    assert reachable_room(ledger, terms, A, NOW + DAY) == 80  # but for what A has spent, and has of this day
    assert reachable_room(ledger, terms, B, NOW + DAY) == 95


def test_what_a_credit_paid_of_a_slice_that_comes_back_is_room_once() -> None:
    ledger = grow(set_credit(NEW, a_credit(50), NOW), A, 130)
    assert reachable_room(ledger, TERMS, B, NOW) == 150
    assert reachable_room(ledger, TERMS, A, NOW) == 20


# Amounts


HUGE = st.sampled_from((0, 1, 10**9, MAX_LIMIT, MAX_MONEY - 1, MAX_MONEY, 10**30))


@given(st.lists(st.tuples(st.integers(0, 5), HUGE, HUGE), max_size=12), st.sampled_from((None, 0, 100, MAX_LIMIT)))
def test_whatever_is_charged_the_ledger_can_be_written_and_what_was_spent_never_falls(
    steps: list[tuple[int, int, int]], limit: int | None
) -> None:
    terms, ledger, now = LedgerTerms(limit, limit), NEW, NOW
    for kind, amount, other in steps:
        key, before = ledger.present_key(A), ledger.month.spent
        if kind == 0:
            ledger, _ = take(ledger, terms, A, "pod-a", least=amount, want=other, now=now)
        elif kind == 1:
            ledger = settle(ledger, key, charged=amount, reserved=other, spare=other, now=now)
        elif kind == 2:
            ledger = settle(
                open_empty(ledger, key, "pod-a", settled=0, now=now), key, charged=amount, reserved=0, now=now
            )
        elif kind == 3:
            ledger = mark_exhausted(write_wanted(ledger, terms, A, "pod-a", amount, now), terms, A, amount, now)
        elif kind == 4:
            ledger = close_holder(record_alerts(ledger, terms, now), A)
        else:
            ledger = set_credit(ledger, a_credit(min(amount, MAX_LIMIT), now + 1 + other % DAY, str(other)), now)
            now += 600
        assert parse_ledger(dump_ledger(ledger)) == ledger
        assert ledger.month.spent >= before
        reachable_room(ledger, terms, B, now)


# Windows


@requirement("budget.one-reset")
def test_midnight_opens_a_day_once_and_the_old_slice_stays_with_the_old_day() -> None:
    ledger = charge(grow(NEW, A, 60), A, 25)
    key = ledger.present_key(A)
    rolled = roll(ledger, TERMS, NOW + DAY)
    assert (rolled.day.spent, rolled.days[0].spent, rolled.month.spent) == (0, 25, 25)
    assert roll(rolled, TERMS, NOW + DAY) is rolled
    late = settle(rolled, key, charged=60, reserved=0, now=NOW + DAY)
    assert (late.day.spent, late.days[0].spent, late.month.spent) == (0, 60, 60)
    grow(late, B, 100, now=NOW + DAY)


def test_an_idle_ledger_skips_to_the_present_window() -> None:
    rolled = roll(charge(grow(NEW, A, 60), A, 25, spare=0), TERMS, NOW + 90 * DAY)
    assert rolled.day.start <= NOW + 90 * DAY < rolled.day.end
    assert (len(rolled.days), len(rolled.months), rolled.slices) == (1, 1, ())


def test_a_clock_before_the_present_window_changes_nothing() -> None:
    assert roll(NEW, TERMS, NOW - 40 * DAY) is NEW


def test_closed_windows_are_kept_for_as_long_as_they_say() -> None:
    ledger = NEW
    for day in range(450):
        ledger = roll(ledger, TERMS, NOW + day * DAY)
    assert (len(ledger.days), len(ledger.months)) == (35, 13)
    assert parse_ledger(dump_ledger(ledger)) == ledger


# Credit


@requirement("budget.credit")
def test_a_credit_is_used_after_the_limit() -> None:
    ledger = set_credit(NEW, a_credit(50), NOW)
    ledger = charge(grow(ledger, A, 120), A, 110, spare=0)
    assert (ledger.day.spent, ledger.day.credited, ledger.month.credited) == (110, 10, 10)
    assert ledger.credit is not None
    assert ledger.credit.spent == 10
    assert room(ledger, TERMS, NOW) == 40


def test_a_credit_goes_beyond_the_month_too() -> None:
    terms = LedgerTerms(100, 30)
    ledger = grow(set_credit(NEW, a_credit(50), NOW), A, 80, terms)
    assert refused(ledger, A, 1, terms)


@requirement("budget.credit")
def test_a_credit_is_one_amount_over_several_days() -> None:
    ledger = charge(grow(set_credit(NEW, a_credit(50, NOW + 5 * DAY), NOW), A, 130), A, 130)
    tomorrow = roll(ledger, TERMS, NOW + DAY)
    assert room(tomorrow, TERMS, NOW + DAY) == 120


@requirement("budget.credit")
def test_at_its_end_a_credit_is_gone_and_its_open_slices_are_called_back() -> None:
    ledger = charge(grow(set_credit(NEW, a_credit(50, NOW + 10), NOW), A, 150), A, 110)
    assert room(ledger, TERMS, NOW + 10) == 0
    assert excess(ledger, TERMS, NOW + 9) == 0
    assert excess(ledger, TERMS, NOW + 10) == 40
    assert refused(charge(ledger, A, 110, spare=0), B, 1, now=NOW + 10)


@requirement("budget.credit")
def test_a_new_credit_replaces_the_old_one_and_what_was_spent_counts() -> None:
    ledger = charge(grow(set_credit(NEW, a_credit(50), NOW), A, 130), A, 130)
    more = set_credit(ledger, a_credit(60, reason="more"), NOW)
    assert room(more, TERMS, NOW) == 30
    assert set_credit(more, a_credit(60, reason="more"), NOW + 5) is more


@requirement("budget.override")
def test_a_total_has_no_credit_whatever_its_ledger_says() -> None:
    ledger = set_credit(NEW, a_credit(50), NOW)
    ledger = structs.replace(ledger, day=structs.replace(ledger.day, credited=7))
    assert room(ledger, TERMS, NOW) == 157
    assert room(ledger, replace(TERMS, is_total=True), NOW) == 100
    over = grow(ledger, A, 101)
    assert excess(over, TERMS, NOW) == 0
    assert excess(over, replace(TERMS, is_total=True), NOW) == 1


@requirement("budget.override")
def test_what_no_credit_pays_raises_no_limit() -> None:
    forged = structs.replace(NEW, day=structs.replace(NEW.day, credited=10**9))
    assert room(forged, TERMS, NOW) == 100


def test_nothing_comes_back_to_a_credit_from_a_day_that_is_no_longer_kept() -> None:
    ledger = grow(set_credit(NEW, a_credit(50, NOW + 99 * DAY), NOW), A, 120)
    key = ledger.present_key(A)
    for day in range(1, 38):
        ledger = roll(ledger, TERMS, NOW + day * DAY)
    late = settle(ledger, key, charged=0, reserved=0, spare=0, now=NOW + 38 * DAY)
    assert ledger.credit == late.credit
    assert sum(one.credited for one in (late.month, *late.months)) == 20


def test_a_pod_has_a_few_slices_at_most() -> None:
    ledger = NEW
    for run in range(MAX_POD_SLICES):
        ledger = grow(ledger, f"pod-a/{run}", 1)
    assert take(ledger, TERMS, "pod-a/9", "pod-a", least=1, want=1, now=NOW) == (ledger, 0)
    assert write_wanted(ledger, TERMS, "pod-a/9", "pod-a", 1, NOW) == ledger
    assert grow(ledger, "pod-a/1", 1) != ledger
    assert grow(ledger, B, 1) != ledger


def test_a_withdrawn_credit_pays_nothing_and_cannot_be_spent_again() -> None:
    ledger = charge(grow(set_credit(NEW, a_credit(50), NOW), A, 130), A, 130)
    withdrawn = set_credit(ledger, None, NOW)
    assert room(withdrawn, TERMS, NOW) == 0
    assert set_credit(withdrawn, None, NOW) is withdrawn
    assert room(set_credit(withdrawn, a_credit(50), NOW), TERMS, NOW) == 20
    assert room(roll(withdrawn, TERMS, NOW + DAY), TERMS, NOW + DAY) == 100


def test_money_of_an_ended_credit_that_comes_back_does_not_feed_the_next_credit() -> None:
    ledger = grow(set_credit(NEW, a_credit(50, NOW + 10), NOW), A, 150)
    following = set_credit(ledger, a_credit(70, reason="more"), NOW + 10)
    returned = settle(following, following.present_key(A), charged=0, reserved=0, spare=0, now=NOW + 10)
    assert room(returned, TERMS, NOW + 10) == 170


def test_an_ended_credit_that_was_spent_does_not_shorten_the_next_one() -> None:
    ledger = charge(grow(set_credit(NEW, a_credit(50, NOW + 10), NOW), A, 150), A, 150)
    assert room(set_credit(ledger, a_credit(70, reason="more"), NOW + 10), TERMS, NOW + 10) == 70


# Alerts and refusals


def test_each_alert_is_recorded_once_per_window() -> None:
    ledger = charge(grow(NEW, A, 100), A, 85)
    alerted = record_alerts(ledger, TERMS, NOW)
    assert [(one.percent, one.period, one.spent, one.limit) for one in alerted.alerts] == [
        *((50, "day", 85, 100), (80, "day", 85, 100)),
    ]
    assert record_alerts(alerted, TERMS, NOW + 1) is alerted


def test_reserved_money_gives_no_alert_and_neither_does_a_limit_of_nothing() -> None:
    assert record_alerts(grow(NEW, A, 100), TERMS, NOW).alerts == ()
    assert record_alerts(NEW, LedgerTerms(0, 0), NOW).alerts == ()


def test_an_alert_that_no_one_has_recorded_is_recorded_at_the_reset() -> None:
    rolled = roll(charge(grow(NEW, A, 100), A, 50), TERMS, NOW + DAY)
    assert [(one.percent, one.window_start) for one in rolled.alerts] == [(50, NEW.day.start)]


def test_only_the_newest_alerts_are_kept() -> None:
    ledger = NEW
    for day in range(50):
        now = NOW + day * DAY
        ledger = grow(ledger, A, 100, LedgerTerms(100, None), now)
        ledger = settle(ledger, ledger.present_key(A), charged=100, reserved=0, now=now)
        ledger = record_alerts(ledger, LedgerTerms(100, None), now)
    assert len(ledger.alerts) == MAX_ALERTS
    assert ledger.alerts[-1].window_start == ledger.day.start


def test_a_refusal_is_recorded_with_the_smallest_worst_case_until_there_is_room() -> None:
    ledger = mark_exhausted(grow(NEW, A, 95), TERMS, B, 20, NOW)
    assert mark_exhausted(ledger, TERMS, A, 30, NOW + 1) is ledger
    smaller = mark_exhausted(ledger, TERMS, A, 10, NOW + 1)
    assert smaller.exhausted is not None
    assert (smaller.exhausted.at, smaller.exhausted.refused, smaller.exhausted.period) == (NOW, 10, "day")
    assert clear_exhausted(smaller, TERMS, NOW) is smaller
    assert clear_exhausted(smaller, replace(TERMS, day=105), NOW).exhausted is None
    assert roll(smaller, TERMS, NOW + DAY).exhausted is None
    assert set_credit(smaller, a_credit(5), NOW).exhausted is None


@requirement("budget.one-reset")
def test_a_refusal_of_the_day_before_does_not_exhaust_the_new_day() -> None:
    spent = charge(grow(NEW, A, 95), A, 95)
    tomorrow = roll(spent, TERMS, NOW + DAY)
    assert mark_exhausted(tomorrow, TERMS, B, 20, NOW + DAY) is tomorrow
    assert mark_exhausted(spent, TERMS, B, 20, NOW).exhausted is not None


def test_a_refusal_by_the_month_outlives_the_day() -> None:
    terms = LedgerTerms(100, 50)
    ledger = mark_exhausted(charge(grow(NEW, A, 50, terms), A, 50), terms, A, 5, NOW)
    assert roll(ledger, terms, NOW + DAY).exhausted is not None


# The document


@pytest.mark.parametrize("empty", [None, {}])
def test_an_empty_status_is_a_new_ledger(empty: object) -> None:
    assert parse_ledger(empty) == Ledger()
    assert roll(Ledger(), TERMS, NOW).days == ()


def test_a_refusal_is_recorded_with_no_more_than_the_largest_limit() -> None:
    ledger = mark_exhausted(NEW, TERMS, A, MAX_MONEY, NOW)
    assert ledger.exhausted is not None
    assert ledger.exhausted.refused == MAX_LIMIT
    assert parse_ledger(dump_ledger(ledger)) == ledger
