"""The narrower of two values: what both the reviewed and today's value of a list, number or word permit.

Each function returns today's value itself if that is not wider than the reviewed one. So a comparison with today's
value tells whether something was widened.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from interlock.api.shared_types import parse_duration

Text = TypeVar("Text", bound=str)
Covers = Callable[[str, str], bool]
"""Returns True if all that the second entry of a list permits is permitted by the first one."""


def covers_name(general: str, specific: str) -> bool:
    """Return True for equal names, and for `*` as the general one."""
    return general in (specific, "*")


def covers_prefix(general: str, specific: str) -> bool:
    """Return True if a glob that may end in `*` matches all that another one matches."""
    return general == specific or (general.endswith("*") and specific.startswith(general[:-1]))


def covers_domain(general: str, specific: str) -> bool:
    """Return True if a domain of noProxy has all hosts of another one; `.example.com` lacks example.com itself."""
    general, specific = general.lower(), specific.lower()
    return general == specific or specific.endswith(general if general.startswith(".") else f".{general}")


def meet_lists(
    reviewed: Iterable[Text],
    today: Sequence[Text],
    covers: Covers = covers_name,
    *,
    ignores: Callable[[str], bool] = lambda _: False,
) -> tuple[Text, ...]:
    """Return the entries that both lists permit, today's first in their order.

    Args:
        reviewed: The reviewed list.
        today: Today's list.
        covers: What one entry permits in comparison with another one.
        ignores: Returns True for entries of today that do not concern the agent, and stay.

    Examples:
        reviewed [a, b]    today [b, c]    [b]
        reviewed [a, b]    today [*]       [a, b]
        reviewed [*]       today [b, c]    [b, c]
    """
    before = tuple(reviewed)
    kept = [one for one in today if ignores(one) or any(covers(general, one) for general in before)]
    for one in before:
        is_today = any(covers(general, one) for general in today if not ignores(general))
        if is_today and not any(covers(general, one) for general in kept if not ignores(general)):
            kept.append(one)
    return tuple(kept)


def meet_names(reviewed: Mapping[Text, object], today: Sequence[Text]) -> tuple[Text, ...]:
    """Return what `meet_lists` does of names, in a time that grows with their number: rows can have very many.

    Args:
        reviewed: The reviewed names, as keys in their order.
        today: Today's names.
    """
    kept = [one for one in today if "*" in reviewed or one in reviewed]
    if "*" in today and "*" not in reviewed:
        known = set(kept)
        kept += [one for one in reviewed if one not in known]
    return tuple(kept)


def meet_order(reviewed: Text, today: Text, *, narrowest_first: Sequence[str]) -> Text:
    """Return the one of two words that stands first in a list of them."""
    return today if narrowest_first.index(today) <= narrowest_first.index(reviewed) else reviewed


def longer(reviewed: str, today: str) -> str:
    """Return the longer of two durations."""
    return today if parse_duration(today) >= parse_duration(reviewed) else reviewed
