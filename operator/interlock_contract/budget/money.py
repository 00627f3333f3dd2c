"""Money: integer nano-dollars in memory, in the ledger and in the bundle, and decimal strings in the API.

A nano-dollar is 10^-9 US dollars. Integers add up exactly whatever their order, and every JSON reader holds those below
2^53 (9 million dollars) exactly.
"""

import re
from typing import Annotated, Final

from msgspec import Meta

NANOS: Final = 10**9
"""Nano-dollars of one dollar."""
MAX_MONEY: Final = 2**53 - 1
"""Largest amount that a ledger holds."""
MAX_LIMIT: Final = 1_000_000 * NANOS
"""Largest limit or credit, so that the sums of a ledger stay below `MAX_MONEY`."""

MONEY_PATTERN: Final = r"^((0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?|1000000)$"
"""A decimal string of dollars as the API takes it: no sign, exponent, NaN or infinity, and at most 1000000."""

Nanos = Annotated[int, Meta(ge=0, le=MAX_MONEY)]
Limit = Annotated[int, Meta(ge=0, le=MAX_LIMIT)]

_MONEY: Final = re.compile(MONEY_PATTERN.removeprefix("^").removesuffix("$"))
_DIGITS: Final = 9


def add_money(*amounts: int) -> int:
    """Return the sum of amounts, at most what a ledger can hold: a sum beyond `MAX_MONEY` is written as that.

    A provider may claim any usage. With a sum that the API server refuses, a guard could never write again.

    Args:
        amounts: Nano-dollars.
    """
    return min(MAX_MONEY, sum(amounts))


class MoneyInvalid(ValueError):  # noqa: N818 - says the state of a text, like JsonInvalid
    """The text is no amount of dollars between 0 and 1000000."""


def parse_money(text: str) -> int:
    """Return the nano-dollars of a decimal string of dollars such as `12.40`.

    Raises:
        MoneyInvalid: The text does not match `MONEY_PATTERN`.
    """
    if _MONEY.fullmatch(text) is None:
        raise MoneyInvalid("must be US dollars between 0 and 1000000, with at most 9 decimals, such as 12.40")
    dollars, _, decimals = text.partition(".")
    return int(dollars) * NANOS + int(decimals.ljust(_DIGITS, "0"))


def format_money(nanos: int) -> str:
    """Return an amount in dollars, exact, with two decimals at least: `12.40`, `0.000000001`.

    Args:
        nanos: Nano-dollars, not negative.
    """
    dollars, rest = divmod(nanos, NANOS)
    decimals = f"{rest:0{_DIGITS}}".rstrip("0").ljust(2, "0")
    return f"{dollars}.{decimals}"


def shorten_money(nanos: int) -> str:
    """Return an amount for a column: `$50` for whole dollars, else `$12.40`, rounded up to a cent.

    Below a dollar it is rounded up to a hundredth of a cent, as cents say little of small budgets: `$0.0493`.

    Args:
        nanos: Nano-dollars, not negative.
    """
    places = 2 if nanos >= NANOS else 4
    dollars, rest = divmod(-(-nanos // (NANOS // 10**places)), 10**places)
    return f"${dollars}.{f'{rest:0{places}}'.rstrip('0'):0<2}" if rest else f"${dollars}"
