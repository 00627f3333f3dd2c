"""What the log says of dropped messages: enough to find them, little in all, and no secret."""

import hashlib
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interlock_guard.upstream.dropped_messages import (
    DIGESTED,
    FREQUENT,
    LOGGED,
    SHOWN,
    WINDOW_SECONDS,
    DroppedMessages,
    describe,
)
from interlock_guard.wire.streams import cut_short
from tests.requirements import requirement


class Clock:
    def __init__(self) -> None:
        self.now = 0.0


def test_a_message_is_named_by_number_length_digest_and_beginning() -> None:
    logged: list[str] = []
    dropped = DroppedMessages("crm", logged.append, lambda: 0.0)
    line = b"DEBUG: querying"
    dropped.note(line, 12, "not JSON")
    digest = hashlib.sha256(line).hexdigest()
    assert logged == [
        f'server of crm: message 12 dropped: not JSON: 15 bytes, SHA-256 {digest}, begins "DEBUG: querying"'
    ]


@requirement("guard.odd-messages")
@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"key 0123456789abcdef0123 is used", "key *** is used"),
        (b"password=0123456789ab", "***"),
        (b"sk-ant-api03-AbCdEfGhIjKl ok", "*** ok"),
        (b"0123456789a is 11 long", "0123456789a is 11 long"),
        (b"a line of more than forty characters in all, with spaces", "a line of more than forty characters in "),
        (b"thirty-eight characters, then the key 0123456789abcdef0123456789", "*** characters, then the key ***"),
        (b"\xff\x00\n", "\ufffd\x00\n"),
    ],
)
def test_long_runs_of_letters_and_digits_are_not_shown(line: bytes, shown: str) -> None:
    assert describe(line).endswith(f'begins "{shown}"')


SECRETS = st.text(string.ascii_letters + string.digits, min_size=12, max_size=80)


@requirement("guard.odd-messages")
@given(st.text(string.printable, max_size=60), SECRETS, st.text(string.printable, max_size=20))
@example("x" * 30 + " ", "A1" * 40, "")
def test_no_five_characters_of_a_secret_are_shown(before: str, secret: str, after: str) -> None:
    line = f"{before} {secret} {after}"
    shown = describe(line.encode()).partition('begins "')[2].removesuffix('"')
    assert len(shown) <= SHOWN
    for start in range(len(secret) - 4):
        part = secret[start : start + 5]
        assert part not in shown or part in f"{before} {after}"


@requirement("guard.odd-messages")
def test_a_flood_is_counted_whole_and_logged_in_part() -> None:
    clock, logged = Clock(), list[str]()
    dropped = DroppedMessages("crm", logged.append, lambda: clock.now)
    for number in range(1000):
        dropped.note(b"x", number, "not JSON")
    assert (dropped.count, len(logged)) == (1000, LOGGED)
    clock.now = WINDOW_SECONDS
    dropped.note(b"x", 1000, "not JSON")
    assert len(logged) == LOGGED + 2
    assert "995 more messages" in logged[LOGGED]


@requirement("guard.odd-messages")
def test_many_messages_within_a_minute_are_reported_once_in_it() -> None:
    clock, reported = Clock(), list[float]()
    dropped = DroppedMessages("crm", lambda _: None, lambda: clock.now, lambda: reported.append(clock.now))
    for minute, count in enumerate((FREQUENT - 1, FREQUENT, 5 * FREQUENT, 1)):
        clock.now = minute * WINDOW_SECONDS
        for number in range(count):
            dropped.note(b"x", number, "not JSON")
    assert reported == [WINDOW_SECONDS, 2 * WINDOW_SECONDS]


def test_the_digest_of_a_large_message_is_of_its_beginning() -> None:
    line = b"y" * (DIGESTED + 1)
    assert f"SHA-256 of the first {DIGESTED} bytes {hashlib.sha256(line[:DIGESTED]).hexdigest()}" in describe(line)
    assert "more bytes than are kept" in describe(cut_short(line))
