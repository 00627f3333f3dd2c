"""Spans of whole numbers, such as ports or addresses, and what several of them have together."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from math import inf

Span = tuple[int, int]
"""The first and the last number."""


def join_spans(spans: Iterable[Span]) -> list[Span]:
    """Return the fewest spans that have exactly the numbers of these spans, in order.

    Neighbours are joined: 1 to 4 and 5 to 9 are 1 to 9.
    """
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def has_span(joined: Sequence[Span], span: Span) -> bool:
    """Return True if spans as `join_spans` returns them have all numbers of another one."""
    index = bisect_right(joined, (span[0], inf)) - 1
    return index >= 0 and span[1] <= joined[index][1]


def meet_spans(one: Sequence[Span], other: Sequence[Span]) -> list[Span]:
    """Return the numbers that both have. Both are as `join_spans` returns them, and so is the result."""
    found: list[Span] = []
    index = place = 0
    while index < len(one) and place < len(other):
        first, last = max(one[index][0], other[place][0]), min(one[index][1], other[place][1])
        if first <= last:
            found.append((first, last))
        if one[index][1] < other[place][1]:
            index += 1
        else:
            place += 1
    return found
