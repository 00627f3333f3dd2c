from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.audit_chain import ORIGIN, GuardId, Head, LineInvalid, open_line, parse_guard, seal

GUARD = "agents/triage-0123456789-abcde/0123456789abcdef"
FIELDS = {"kind": "decision", "time": "2026-03-02T09:00:00.000Z", "decision": "Allow", "note": 'a "quote" and é'}


def lines_of(count: int) -> list[bytes]:
    head, lines = Head(), []
    for number in range(count):
        line, head = seal(GUARD, head, {**FIELDS, "number": number})
        lines.append(line)
    return lines


def test_each_line_names_the_one_before_and_verifies_itself() -> None:
    first, second = map(open_line, lines_of(2))
    assert (first.guard, first.seq, first.prev, first.kind) == (GUARD, 0, ORIGIN, "decision")
    assert (second.seq, second.prev, second.prev_time) == (1, first.hash, FIELDS["time"])
    assert second.head == Head(2, second.hash, FIELDS["time"])
    assert second.fields["note"] == FIELDS["note"]


def test_a_line_is_ascii_and_one_line() -> None:
    line, _ = seal(GUARD, Head(), {**FIELDS, "note": "\u2028\n\r\x85é"})
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert open_line(line).fields["note"] == "\u2028\n\r\x85é"


LINE = lines_of(1)[0]


@given(st.integers(0, len(LINE) - 1), st.integers(1, 255))
def test_any_other_byte_anywhere_is_noticed(place: int, change: int) -> None:
    mutated = bytearray(LINE)
    mutated[place] ^= change
    with pytest.raises(LineInvalid):
        open_line(bytes(mutated))


@given(st.integers(0, len(LINE)), st.binary(min_size=1, max_size=3))
def test_any_insertion_is_noticed(place: int, more: bytes) -> None:
    with pytest.raises(LineInvalid):
        open_line(LINE[:place] + more + LINE[place:])


@pytest.mark.parametrize("length", range(0, len(LINE), 7))
def test_any_cut_is_noticed(length: int) -> None:
    with pytest.raises(LineInvalid):
        open_line(LINE[:length])


@pytest.mark.parametrize(
    "fields",
    [
        {**FIELDS, "kind": "other"},
        {**FIELDS, "time": 7},
        {"time": "now"},
        {**FIELDS, "guard": "someone else"},
        {**FIELDS, "seq": -1},
        {**FIELDS, "seq": True},
        {**FIELDS, "prev": "0" * 63},
        {**FIELDS, "prevTime": 7},
    ],
)
def test_a_line_that_lacks_what_each_has_is_none_even_with_the_right_hash(fields: dict[str, Any]) -> None:
    line, _ = seal(GUARD, Head(), fields)
    with pytest.raises(LineInvalid):
        open_line(line)


def test_a_line_that_says_a_thing_twice_is_none() -> None:
    line, _ = seal(GUARD, Head(), FIELDS)
    text = line[:-75].replace(b'"decision":"Allow"', b'"decision":"Allow","decision":"Deny"')
    forged = text + b',"hash":"%b"}' % _hash(text)
    with pytest.raises(LineInvalid, match="duplicate key"):
        open_line(forged)


def _hash(text: bytes) -> bytes:
    import hashlib  # noqa: PLC0415 - what a forger would do, too

    return hashlib.sha256(text).hexdigest().encode()


def test_a_line_beyond_the_bound_is_none() -> None:
    line, _ = seal(GUARD, Head(), {**FIELDS, "note": "x" * 65_536})
    with pytest.raises(LineInvalid, match="longer than"):
        open_line(line)


def test_a_guards_identity_is_read_and_written_back() -> None:
    found = parse_guard(GUARD)
    assert found == GuardId("agents", "triage-0123456789-abcde", "0123456789abcdef")
    assert found.text == GUARD
    assert replace(found, namespace="other").text.startswith("other/")


@pytest.mark.parametrize("text", ["", "a/b", "a/b/c", "A/b/0123456789abcdef", "a/../0123456789abcdef", GUARD + "\n"])
def test_what_is_no_identity_is_refused(text: str) -> None:
    with pytest.raises(LineInvalid):
        parse_guard(text)
