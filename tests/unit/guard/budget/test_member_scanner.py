"""The scanner of members: the members near the root are found, whatever the chunks and whatever else the text has."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_guard.budget.member_scanner import MemberScanner, SetBack
from tests.requirements import requirement

USAGE, MODEL, LIMIT = ("usage",), ("model",), ("max_output_tokens",)
DOCUMENT: dict[str, Any] = {
    "id": 'a "quoted", {id} \\',
    "content": [{"input": {"usage": {"input_tokens": 1}, "model": "no", "max_output_tokens": 4096}}, "usage", ":"],
    "max_output_tokens": 4096,
    "nested": {"max_output_tokens": 4096, "usage": [1]},
    'usage": 3, "model': 1,
    "usage": {"input_tokens": 9, "details": {"cached": [1, {"x": None}]}, "text": "}]\\"},
    "model": 'm"\\',
    "last": [[], {}, [[{}]]],
}
TEXTS = [json.dumps(DOCUMENT).encode(), json.dumps(DOCUMENT, indent=1).encode(), json.dumps([DOCUMENT]).encode()]


def scan(text: bytes, *cuts: int, set_back: SetBack | None = None) -> tuple[MemberScanner, bytes]:
    scanner = MemberScanner([USAGE, MODEL], set_back)
    ends = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return scanner, b"".join(scanner.feed(text[start:end]) for start, end in itertools.pairwise(ends))


@requirement("budget.usage")
@pytest.mark.parametrize("text", TEXTS[:2])
def test_members_of_the_root_are_found_wherever_the_text_is_cut(text: bytes) -> None:
    for cut in range(len(text) + 1):
        scanner, passed = scan(text, cut)
        assert scanner.get(USAGE) == DOCUMENT["usage"]
        assert scanner.get(MODEL) == DOCUMENT["model"]
        assert passed == text


@requirement("budget.unseen")
@pytest.mark.parametrize("text", TEXTS[:2])
def test_only_the_member_that_was_set_is_set_back_wherever_the_text_is_cut(text: bytes) -> None:
    for cut in range(len(text) + 1):
        scanner, passed = scan(text, cut, set_back=SetBack(LIMIT, 4096))
        assert json.loads(passed) == {**DOCUMENT, "max_output_tokens": None}
        assert scanner.get(USAGE) == DOCUMENT["usage"]


@requirement("budget.unseen")
@pytest.mark.parametrize("other", [b"4095", b"40960", b'"4096"', b"null", b"[4096]", b'{"a": 4096}', b"4096.0"])
def test_another_value_than_was_sent_stays(other: bytes) -> None:
    text = b'{"max_output_tokens": %s , "model": "m"}' % other
    for cut in range(len(text)):
        assert scan(text, cut, set_back=SetBack(LIMIT, 4096))[1] == text


@requirement("budget.unseen")
def test_a_value_without_an_end_passes_in_the_end() -> None:
    text = b'{"max_output_tokens": "' + b"x" * 500
    assert scan(text, 100, 400, set_back=SetBack(LIMIT, 4096))[1] == text


@requirement("budget.usage")
def test_nothing_is_found_in_a_list_or_in_a_text() -> None:
    for text in (TEXTS[2], b'"usage"', b"", b"<html>", b'{"usage"', b'{"usage": {"a": 1}'):
        assert scan(text)[0].get(USAGE) is None


@requirement("budget.usage")
def test_a_key_that_is_written_with_escapes_is_the_same_key() -> None:
    assert scan(b'{"us\\u0061ge": {"a": 1}}', 6)[0].get(USAGE) == {"a": 1}


@requirement("budget.usage")
def test_of_two_members_with_one_name_the_last_counts_as_for_the_sdks() -> None:
    text = b'{"usage": {"a": 1}, "usage": {"a": 2}}'
    assert scan(text)[0].get(USAGE) == json.loads(text)["usage"] == {"a": 2}


@requirement("budget.usage")
def test_a_member_too_large_for_a_usage_is_not_kept() -> None:
    scanner, _ = scan(b'{"usage": {"a": "' + b"x" * 200_000 + b'"}, "model": "m"}', 5000, 90_000)
    assert scanner.get(USAGE) is None
    assert scanner.get(MODEL) == "m"


@requirement("budget.usage")
def test_a_member_below_another_is_found_by_its_path() -> None:
    scanner = MemberScanner([("response", "usage"), ("type",)])
    scanner.feed(b'{"type": "t", "other": {"usage": 1}, "response": {"output": [{"usage": 2}], "usage": {"n": 3}}}')
    assert scanner.get(("response", "usage")) == {"n": 3}
    assert scanner.get(("type",)) == "t"


@requirement("budget.usage")
def test_a_wanted_member_may_have_members_that_are_as_near_as_another_wanted_one() -> None:
    text = b'{"usage": {"a": {"b": 1}, "c": 2}, "response": {"usage": {"d": 3}}}'
    for cut in range(len(text)):
        scanner = MemberScanner([USAGE, ("response", "usage")])
        scanner.feed(text[:cut])
        scanner.feed(text[cut:])
        assert scanner.get(USAGE) == {"a": {"b": 1}, "c": 2}
        assert scanner.get(("response", "usage")) == {"d": 3}


@requirement("budget.usage")
@pytest.mark.parametrize("more", [b'{"usage": {"a": 2}}', b"[]", b"{"])
def test_of_several_texts_in_a_row_none_is_the_answer(more: bytes) -> None:
    text = b'{"usage": {"a": 1}} \n' + more
    for cut in range(len(text) + 1):
        assert scan(text, cut)[0].get(USAGE) is None
    assert scan(b'{"usage": {"a": 1}} \n')[0].get(USAGE) == {"a": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["usage", "model", 'a"', "\\", "é"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@requirement("budget.usage")
@given(
    st.dictionaries(st.sampled_from(["usage", "model", "x", '"', "\\"]), JSON), st.lists(st.integers(0)), st.booleans()
)
def test_the_scanner_finds_what_a_parser_finds(value: Any, cuts: list[int], is_ascii: bool) -> None:  # noqa: FBT001
    text = json.dumps(value, ensure_ascii=is_ascii).encode()
    scanner, passed = scan(text, *cuts)
    assert passed == text
    assert scanner.get(USAGE) == value.get("usage")
    assert scanner.get(MODEL) == value.get("model")


@requirement("budget.usage")
@given(st.binary(max_size=200), st.lists(st.integers(0)))
def test_bytes_that_are_no_json_pass_unchanged(text: bytes, cuts: list[int]) -> None:
    assert scan(text, *cuts)[1] == text
