"""Differences of JSON values as lines: what they name, and their bounds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.json_diff import MAX_LINE, diff_lines
from tests.requirements import requirement

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "a", "b"]), inner, max_size=3),
    max_leaves=12,
)


@requirement("revision.history")
@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 -> 2"]),
        ({"a": 1}, {}, ["a: 1 -> (none)"]),
        ({}, {"a": "x"}, ['a: (none) -> "x"']),
        ({"a": ["x", "y"]}, {"a": ["y", "z"]}, ['a: - "x"', 'a: + "z"']),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, ["a: another order, or another number of equal items"]),
        (
            {"tools": [{"name": "get", "operation": "read"}]},
            {"tools": [{"name": "get", "operation": "write"}, {"name": "put"}]},
            ['tools[get].operation: "read" -> "write"', 'tools[put]: (none) -> {"name":"put"}'],
        ),
        ({"a": [{"name": "x"}, {"name": "y"}]}, {"a": [{"name": "y"}, {"name": "x"}]}, ["a: another order"]),
        ({"a": 1}, {"a": True}, ["a: 1 -> true"]),
        ({"a": "\x1b[31m\u202e"}, {"a": ""}, ['a: "\\u001b[31m\\u{202e}" -> ""']),
    ],
)
def test_a_difference_names_where_it_is(before: Any, after: Any, lines: list[str]) -> None:
    assert list(diff_lines(before, after)) == lines


@requirement("revision.history")
def test_a_long_text_is_told_by_its_length_and_digest() -> None:
    (line,) = diff_lines({"a": "x" * 100}, {"a": "y" * 200})
    assert line.startswith("a: 100 characters (sha256 ")
    assert " -> 200 characters (sha256 " in line


@requirement("revision.history")
def test_lines_and_their_number_are_bounded() -> None:
    lines = diff_lines({}, {f"{'k' * 400}{number}": number for number in range(70)})
    assert len(lines) == 50
    assert lines[-1] == "and 21 more"
    assert all(len(line) <= MAX_LINE for line in lines)


@requirement("revision.history")
@given(before=VALUES, after=VALUES)
def test_only_equal_values_have_no_difference(before: Any, after: Any) -> None:
    assert not diff_lines(before, before)
    assert bool(diff_lines(before, after)) is (repr(before) != repr(after) and not _is_same(before, after))


def _is_same(one: Any, other: Any) -> bool:
    """Return True for values that are equal as JSON, whatever the order of their members."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return type(one) is type(other) and one == other
