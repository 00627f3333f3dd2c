from typing import Any

import pytest

from interlock_guard.audit.recorder import REDACTED, redact

ARGUMENTS: dict[str, Any] = {"id": 7, "customer": {"email": "ada@example.com", "name": "Ada"}, "lines": [{"card": "4"}]}


@pytest.mark.parametrize(
    ("pointers", "expected"),
    [
        ((), ARGUMENTS),
        (("/id",), {**ARGUMENTS, "id": REDACTED}),
        (("/customer/email",), {**ARGUMENTS, "customer": {"email": REDACTED, "name": "Ada"}}),
        (("/customer",), {**ARGUMENTS, "customer": REDACTED}),
        (("/lines/0/card",), {**ARGUMENTS, "lines": [{"card": REDACTED}]}),
        (("/customer/email", "/customer/email/host"), {**ARGUMENTS, "customer": {"email": REDACTED, "name": "Ada"}}),
        (("/missing", "/customer/missing", "/lines/1"), ARGUMENTS),
    ],
)
def test_what_a_pointer_names_is_hidden(pointers: tuple[str, ...], expected: dict[str, Any]) -> None:
    assert redact(ARGUMENTS, pointers) == expected


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/id/digits", {**ARGUMENTS, "id": REDACTED}),
        ("/lines/card", {**ARGUMENTS, "lines": REDACTED}),
        ("/lines/-", {**ARGUMENTS, "lines": REDACTED}),
        ("/lines/00/card", {**ARGUMENTS, "lines": REDACTED}),
        ("/customer/email/host", {**ARGUMENTS, "customer": {"email": REDACTED, "name": "Ada"}}),
    ],
)
def test_what_a_pointer_gets_stuck_at_is_left_out_whole(pointer: str, expected: dict[str, Any]) -> None:
    assert redact(ARGUMENTS, (pointer,)) == expected


def test_escapes_of_a_pointer_are_undone() -> None:
    assert redact({"a/b": 1, "m~n": 2, "~1": 3}, ("/a~1b", "/m~0n", "/~01")) == dict.fromkeys(
        ("a/b", "m~n", "~1"), REDACTED
    )


def test_the_arguments_themselves_stay_as_they_are() -> None:
    before = repr(ARGUMENTS)
    redact(ARGUMENTS, ("/customer/email", "/lines/0/card"))
    assert repr(ARGUMENTS) == before
