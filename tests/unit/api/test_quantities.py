from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity as official

from interlock.api.quantities import parse_quantity

NUMBERS = st.from_regex(r"[+-]?([0-9]{1,12}(\.[0-9]{0,6})?|\.[0-9]{1,6})", fullmatch=True)
SUFFIXES = st.sampled_from(["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])


@given(NUMBERS, SUFFIXES)
def test_an_amount_is_what_the_official_library_reads(number: str, suffix: str) -> None:
    assert parse_quantity(number + suffix) == official(number + suffix)


@pytest.mark.parametrize(("text", "amount"), [("1e3", 1000), ("1E-3", Decimal("0.001")), ("1E", 10**18), (2, 2)])
def test_exponents_and_numbers_of_json_are_quantities(text: object, amount: object) -> None:
    assert parse_quantity(text) == amount


@pytest.mark.parametrize(
    "text", ["", "Mi", "1ki", "1K", "1 Gi", "1Gi ", "1e", "1e9999", "NaN", "1\n", "\u0661", None, True]
)
def test_any_other_text_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(text)
