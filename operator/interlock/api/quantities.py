"""Amounts of resources as Kubernetes writes them: `500m`, `1Gi`, `1e3`.

The official library has a parser too, but to import any part of it loads the whole client: 20 MB that an operator in a
pod does without. The grammar is that of apimachinery's `resource.Quantity`.
"""

import re
from decimal import Decimal
from typing import Final

_QUANTITY: Final = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([KMGTPE]i|[numkMGTPE]?|[eE][+-]?[0-9]{1,3})")
_SUFFIXES: Final = {
    "": Decimal(1),
    **{suffix: Decimal(1000) ** (power - 3) for power, suffix in enumerate(("n", "u", "m"))},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


def parse_quantity(text: object) -> Decimal:
    """Return the amount that a quantity states.

    Args:
        text: The quantity; JSON may have a number in its place.

    Raises:
        ValueError: The text is no quantity.
    """
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r:.64} is no quantity")
    number, suffix = found.groups()
    if suffix in _SUFFIXES:
        return Decimal(number) * _SUFFIXES[suffix]
    return Decimal(f"{number}{suffix}")


def exceeds(amount: str, limit: str) -> bool | None:
    """Return True if an amount is above a limit, and None if one of them is no quantity."""
    try:
        return parse_quantity(amount) > parse_quantity(limit)
    except ValueError:
        return None


def limit_exceeds(limit: str, most: str) -> bool | None:
    """Return True if a limit is above the largest one, and None if one of them is no quantity.

    Kubernetes takes 0 for no limit at all. Earlier versions accepted it.
    """
    try:
        return parse_quantity(limit) == 0 or parse_quantity(limit) > parse_quantity(most)
    except ValueError:
        return None
