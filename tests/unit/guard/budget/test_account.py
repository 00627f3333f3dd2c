"""The account of one holder."""

import pytest

from interlock_contract.budget.money import MAX_MONEY
from interlock_guard.budget.account import Account, AccountKey

OWN, TOTAL = AccountKey("triage.staging", 100, 0), AccountKey("support.total", 100, 0)
BOTH = (TOTAL, OWN)


def an_account(own: int, total: int) -> Account:
    account = Account()
    account.grant(OWN, own, 0, 0.0)
    account.grant(TOTAL, total, 0, 0.0)
    return account


def test_a_call_reserves_the_same_amount_of_each_ledger() -> None:
    account = an_account(100, 50)
    assert account.reserve(30, BOTH, 1.0) is not None
    assert (account.slices[OWN].free, account.slices[TOTAL].free, account.free(BOTH)) == (70, 20, 20)


@pytest.mark.parametrize(("own", "total"), [(30, 29), (29, 30)])
def test_what_does_not_fit_into_each_ledger_reserves_nothing(own: int, total: int) -> None:
    account = an_account(own, total)
    assert account.reserve(30, BOTH, 1.0) is None
    assert (account.slices[OWN].free, account.slices[TOTAL].free) == (own, total)


def test_nothing_is_reserved_without_a_ledger_or_in_a_window_without_a_slice() -> None:
    account = an_account(100, 100)
    assert account.reserve(0, (), 1.0) is None
    assert account.reserve(1, (OWN._replace(day_start=200),), 1.0) is None


def test_the_end_of_a_call_frees_what_it_has_not_spent() -> None:
    account = an_account(100, 100)
    reservation = account.reserve(30, BOTH, 1.0)
    assert reservation is not None
    account.settle(reservation, 10)
    assert (account.free(BOTH), account.slices[OWN].unsettled, account.open) == (90, 10, {})


def test_a_call_ends_once() -> None:
    account = an_account(100, 100)
    reservation = account.reserve(30, BOTH, 1.0)
    assert reservation is not None
    account.settle(reservation, 10)
    account.settle(reservation, 30)
    assert (account.free(BOTH), account.slices[OWN].settled) == (90, 10)


def test_a_call_that_costs_more_than_reserved_leaves_less_than_nothing() -> None:
    account = an_account(30, 100)
    reservation = account.reserve(30, BOTH, 1.0)
    assert reservation is not None
    account.settle(reservation, 45)
    assert account.slices[OWN].free == -15
    assert account.reserve(0, (OWN,), 1.0) is None


def test_a_negative_cost_is_refused() -> None:
    account = an_account(100, 100)
    reservation = account.reserve(30, BOTH, 1.0)
    assert reservation is not None
    with pytest.raises(ValueError, match="negative"):
        account.settle(reservation, -1)
    assert account.slices[OWN].reserved == 30


def test_the_end_of_a_call_whose_slice_was_closed_touches_no_later_slice() -> None:
    account = an_account(100, 100)
    reservation = account.reserve(30, BOTH, 1.0)
    assert reservation is not None
    account.drop(OWN)
    account.settle(reservation, 30)
    assert account.slices[TOTAL].settled == 30
    assert OWN not in account.slices


def test_what_no_slice_has_paid_of_a_call_is_told() -> None:
    account = an_account(100, 100)
    reservation = account.reserve(30, BOTH, 1.0)
    assert reservation is not None
    account.restart()
    assert account.settle(reservation, 45) == {TOTAL: 15, OWN: 15}
    assert account.slices == {}
    account.charge(OWN, 15, 2.0)
    assert (account.slices[OWN].unsettled, account.slices[OWN].free) == (15, -15)


def test_what_a_slice_has_settled_before_it_was_known_is_no_money() -> None:
    account = Account()
    account.grant(OWN, 120, 100, 0.0)
    assert (account.slices[OWN].free, account.slices[OWN].unsettled) == (20, 0)


def test_a_sum_that_no_ledger_can_hold_stops_at_the_largest_amount() -> None:
    account = an_account(100, 100)
    reservation = account.reserve(100, BOTH, 1.0)
    assert reservation is not None
    account.settle(reservation, MAX_MONEY)
    account.charge(OWN, MAX_MONEY, 1.0)
    account.charge(TOTAL, MAX_MONEY, 1.0)
    assert account.slices[OWN].settled == account.slices[TOTAL].settled == MAX_MONEY
