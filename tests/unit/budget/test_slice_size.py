import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.budget.leases import LedgerTerms, roll, settle, take, write_wanted
from interlock_contract.budget.ledger import Ledger
from interlock_contract.budget.slice_size import SLICE_SECONDS, TOTAL_SLICE_SECONDS, settle_seconds, slice_want

NOW = 1_780_000_000
TERMS = LedgerTerms(1000, None)
FREE = LedgerTerms(None, None)
A, B = "pod-a/1", "pod-b/1"


def held(ledger: Ledger, holder: str, amount: int, charged: int = 0, terms: LedgerTerms = TERMS) -> Ledger:
    """A holder has a slice, of which it has settled a part."""
    ledger, _ = take(ledger, terms, holder, "pod", least=amount, want=amount, now=NOW)
    return settle(ledger, ledger.present_key(holder), charged=charged, reserved=0, now=NOW)


def want(ledger: Ledger, need: int, per_second: int = 0, terms: LedgerTerms = TERMS, **more: int) -> int:
    return slice_want(ledger, terms, A, need=need, per_second=per_second, now=NOW, **more)


def test_the_first_slice_is_what_the_request_needs() -> None:
    assert want(Ledger(), 7) == 7


def test_a_busy_holder_takes_what_it_spends_in_fifteen_seconds() -> None:
    assert want(Ledger(), 7, 10) == 10 * SLICE_SECONDS
    assert want(Ledger(), 7, 1, seconds=TOTAL_SLICE_SECONDS) == 60
    assert want(Ledger(), 7, 10**6, FREE) == 10**6 * SLICE_SECONDS


def test_a_slice_leaves_money_for_the_other_holders() -> None:
    terms = LedgerTerms(1000, None, alert_percents=())
    assert want(Ledger(), 7, 10**6, terms) == 500
    assert want(held(Ledger(), B, 200, terms=terms), 7, 10**6, terms) == 200


def test_a_slice_ends_at_the_next_alert_line() -> None:
    assert want(held(Ledger(), A, 450, 450), 7, 10**6) == 50
    assert want(held(Ledger(), A, 500, 500), 7, 10**6) == 250  # half of what is left; the next line is at 800
    assert want(held(Ledger(), A, 520, 450), 7, 10**6) == 7  # the open slice has crossed the line already


def test_a_request_that_alone_crosses_the_line_gets_what_it_needs() -> None:
    assert want(held(Ledger(), A, 450, 450), 300, 10**6) == 300


def test_while_another_holder_lacks_money_each_takes_only_what_it_needs() -> None:
    lacking = write_wanted(Ledger(), TERMS, B, "pod", 900, NOW)
    assert want(lacking, 7, 10**6) == 7
    own = write_wanted(Ledger(), TERMS, A, "pod", 900, NOW)
    assert want(own, 7, 10) == 150


@given(st.integers(0, 900), st.integers(1, 300), st.integers(0, 10**6), st.sets(st.integers(1, 99), max_size=4))
def test_no_slice_crosses_an_alert_line_unless_the_request_does(
    spent: int, need: int, per_second: int, percents: set[int]
) -> None:
    terms = LedgerTerms(1000, None, alert_percents=tuple(percents))
    ledger = roll(held(Ledger(), A, spent, spent, terms), terms, NOW)
    size = want(ledger, need, per_second, terms)
    assert size >= need
    lines = [10 * percent for percent in percents if 10 * percent > spent]
    assert size == need or all(spent + size <= line for line in lines)


@pytest.mark.parametrize(
    ("spent", "seconds"),
    [(0, 15), (400, 15), (449, 15), (450, 2), (499, 2), (500, 15), (749, 15), (750, 2), (800, 15), (950, 2), (999, 2)],
)
def test_near_an_alert_line_and_the_limit_spend_is_settled_often(spent: int, seconds: int) -> None:
    assert settle_seconds(held(Ledger(), A, spent, spent), TERMS) == seconds


def test_an_open_slice_that_may_have_crossed_a_line_is_near_it() -> None:
    assert settle_seconds(held(Ledger(), A, 600, 0), TERMS) == 2


def test_without_limits_nothing_is_near() -> None:
    assert settle_seconds(held(Ledger(), A, 600, 0, FREE), FREE) == 15
