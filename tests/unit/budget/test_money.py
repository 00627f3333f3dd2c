import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.budget.money import (
    MAX_LIMIT,
    MAX_MONEY,
    MoneyInvalid,
    format_money,
    parse_money,
    shorten_money,
)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0", 0),
        ("50", 50 * 10**9),
        ("12.40", 12_400_000_000),
        ("0.000000001", 1),
        ("999999.999999999", 10**15 - 1),
        ("1000000", 10**15),
    ],
)
def test_a_decimal_string_is_exact_nano_dollars(text: str, nanos: int) -> None:
    assert parse_money(text) == nanos


@pytest.mark.parametrize(
    "text",
    [
        *("", " 5", "5 ", "5\n", "+5", "-5", "-0", "05", "00", ".5", "5.", "5,0", "1_000", "$5", "\u0665"),
        *("1e3", "NaN", "nan", "Infinity", "inf", "1.0000000001", "1000000.01", "1000001", "9999999", "1" * 400),
    ],
)
def test_any_other_text_is_no_money(text: str) -> None:
    with pytest.raises(MoneyInvalid):
        parse_money(text)


@given(st.integers(0, MAX_LIMIT - 1))
def test_what_is_written_is_read_back_exactly(nanos: int) -> None:
    assert parse_money(format_money(nanos)) == nanos


@pytest.mark.parametrize(
    ("nanos", "text"), [(0, "0.00"), (5 * 10**9, "5.00"), (12_400_000_000, "12.40"), (1, "0.000000001")]
)
def test_amounts_have_two_decimals_at_least(nanos: int, text: str) -> None:
    assert format_money(nanos) == text


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        *((0, "$0"), (50 * 10**9, "$50"), (12_400_000_000, "$12.40")),
        *(
            (1, "$0.0001"),
            (49_261_500, "$0.0493"),
            (50_000_000, "$0.05"),
            (100_000_000, "$0.10"),
            (12_400_000_001, "$12.41"),
            (10**9 - 1, "$1"),
        ),
    ],
)
def test_a_column_shows_cents_rounded_up_and_hundredths_of_them_below_a_dollar(nanos: int, text: str) -> None:
    assert shorten_money(nanos) == text


def test_the_largest_amount_is_exact_for_readers_that_have_only_doubles() -> None:
    assert int(float(json.dumps(MAX_MONEY))) == MAX_MONEY
