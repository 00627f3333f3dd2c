"""The screen of answers: whatever the chunks, all bytes pass in order, and a key does not."""

import asyncio
import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_guard.llm.answer_screen import MAX_EVENT, AnswerScreen, KeyShown, check_media_types
from interlock_guard.upstream.credentials import SECRET_REACH
from interlock_guard.upstream.http_client import UpstreamError
from interlock_guard.wire import large_messages
from interlock_guard.wire.large_messages import SMALL
from tests.requirements import requirement

KEY = b"Zm9v/YmFy"
EVENTS = b": a comment\n\ndata: 1\n\nevent: x\r\ndata: {}\r\n\r\ndata: a\ndata: b\r\rdata: [DONE]\n\n"


def shows_key(text: bytes | bytearray) -> bool:
    return KEY in bytes(text).replace(b"\\/", b"/")


def screen(*, is_events: bool = True) -> AnswerScreen:
    return AnswerScreen(shows_key, is_events=is_events)


def chat_piece(text: str) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def cut(text: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(ends)]


@requirement("models.streams")
@given(st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
def test_all_bytes_pass_in_order_whatever_the_chunks(places: list[int], is_events: bool) -> None:  # noqa: FBT001
    one = screen(is_events=is_events)
    passed = b"".join(one.feed(chunk) for chunk in cut(EVENTS, places)) + one.finish()
    assert passed == EVENTS


@requirement("models.streams")
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
def test_an_event_passes_as_soon_as_it_is_complete_and_not_before(end: bytes) -> None:
    one = screen()
    assert one.feed(b"data: {") == b""
    assert one.feed(b"}") == b""
    assert one.feed(end[:1]) == b""
    assert one.feed(end[1:] + b"data") == b"data: {}" + end
    assert one.finish() == b"data"


@requirement("models.keys")
@given(st.lists(st.integers(0, 10_000), max_size=12), st.booleans(), st.booleans())
def test_nothing_of_a_key_passes_wherever_chunks_end(places: list[int], is_events: bool, is_escaped: bool) -> None:  # noqa: FBT001
    written = KEY.replace(b"/", b"\\/") if is_escaped else KEY
    before = b"data: 1\n\n" if is_events else b"x" * 100
    one, passed = screen(is_events=is_events), bytearray()

    def feed_all() -> None:
        for chunk in cut(before + b'data: {"a": "' + written + b'"}\n\n', places):
            passed.extend(one.feed(chunk))

    with pytest.raises(KeyShown):
        feed_all()
    assert not any(KEY[:length] in passed for length in range(2, len(KEY)))


@requirement("models.keys")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            {"choices": [{"index": 0, "delta": {"content": "a Zm9v"}}]},
            {"choices": [{"index": 0, "delta": {"content": "/YmFy"}}]},
        ),
        ({"index": 1, "delta": {"text": "Zm9v/"}}, {"index": 1, "delta": {"text": "YmFy"}}),
        ({"index": 1, "delta": {"partial_json": '{"a": "Zm9v'}}, {"index": 1, "delta": {"partial_json": '\\/YmFy"}'}}),
        ({"output_index": 0, "delta": "Zm9"}, {"output_index": 0, "delta": "v/YmFy"}),
    ],
)
def test_a_key_is_found_in_the_text_that_several_events_make(first: object, second: object) -> None:
    one = screen()
    assert one.feed(f"data: {json.dumps(first)}\n\n".encode())
    other = json.dumps({"choices": [{"index": 1, "delta": {"content": "of another text"}}], "delta": {"x": "y"}})
    assert one.feed(f"data: {other}\n\n".encode())
    with pytest.raises(KeyShown):
        one.feed(f"data: {json.dumps(second)}\n\n".encode())


def test_pieces_of_different_texts_make_no_key() -> None:
    one = screen()
    for index, piece in enumerate(("Zm9v", "/YmFy")):
        assert one.feed(f'data: {{"index": {index}, "delta": {{"text": "{piece}"}}}}\n\n'.encode())


def test_events_that_are_no_json_pass() -> None:
    one = screen()
    for text in (b"data: [DONE]\n\n", b"data: " + b"[" * 50_000 + b"\n\n", b"data: \xff\n\n", b'data: "\\ud800"\n\n'):
        assert one.feed(text) == text


@requirement("models.keys")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-le"])
def test_an_encoding_in_which_no_key_is_searched_for_is_refused(encoding: str) -> None:
    with pytest.raises(KeyShown):
        screen(is_events=False).feed(json.dumps({"a": KEY.decode()}).encode(encoding))


@pytest.mark.parametrize(
    "media_types",
    [
        *(["application/json; charset=" + charset] for charset in ("utf-7", "cp037", "utf-16", "x", '"utf-16"', "")),
        ["application/json", "application/json; charset=utf-8"],
        ["application/json", "text/plain; charset=utf-7"],
        ["text/plain; charset=utf-8; charset=utf-7"],
        ["text/plain; charset*=us-ascii''utf-7"],
        ["text/plain; charset*0=utf-; charset*1=7"],
        ["text/plain; charset = utf-7"],
        ["text/plain, text/plain; charset=utf-7"],
        ["text/plain; a=charset"],
        ["charset=utf-7"],
    ],
)
@requirement("models.keys")
def test_another_charset_for_some_reader_is_refused_by_name(media_types: list[str]) -> None:
    with pytest.raises(KeyShown, match=re.escape(repr(media_types[-1])) if len(media_types) == 1 else "several"):
        check_media_types(media_types)


@requirement("models.streams")
def test_a_comment_passes_before_the_event_after_it_is_complete() -> None:
    one = screen()
    assert one.feed(b": keep-alive") == b""
    assert one.feed(b"\n:\r\ndata: {") == b": keep-alive\n:\r\n"
    assert one.feed(b"}\n:\n") == b""
    assert one.feed(b"\n:\n") == b"data: {}\n:\n\n:\n"
    with pytest.raises(KeyShown):
        one.feed(b": " + KEY + b"\n")


@requirement("models.streams")
def test_a_line_passes_as_soon_as_it_ends_in_an_answer_that_is_no_stream() -> None:
    one = screen(is_events=False)
    assert one.feed(b"\n\r\n") == b"\n\r\n"
    assert one.feed(KEY[:4] + b"\n" + KEY[:4]) == KEY[:4] + b"\n"
    with pytest.raises(KeyShown):
        one.feed(KEY[4:])


@pytest.mark.parametrize(
    "media_type", ["application/json", "text/plain; charset=UTF-8", 'text/plain;charset="utf-8" ; q=1', "text/html;a=b"]
)
def test_the_charsets_of_providers_pass(media_type: str) -> None:
    check_media_types([media_type])
    check_media_types([media_type, media_type])
    check_media_types([])


@requirement("models.limits")
def test_an_event_beyond_its_bound_ends_the_answer() -> None:
    one, most = screen(), MAX_EVENT // 65_536
    for _ in range(most - 1):
        one.feed(b"x" * 65_536)
    assert one.size == 2 * (most - 1) * 65_536
    with pytest.raises(UpstreamError, match="an event of more than"):
        one.feed(b"x" * (65_536 + 1))


def test_what_is_no_stream_is_held_back_by_the_length_of_a_key_alone() -> None:
    one = screen(is_events=False)
    assert len(one.feed(b"x" * 5000)) == 5000 - SECRET_REACH
    assert one.size == SECRET_REACH


@requirement("guard.load")
async def test_the_event_loop_runs_while_a_large_part_of_an_answer_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_messages, "_STEP_SECONDS", -1.0)
    part, turns, passed = b"data: 1\n\n" * 10_000, [0], list[bytes]()

    def turn() -> None:
        turns.append(len(passed))
        asyncio.get_running_loop().call_soon(turn)

    turn()
    async for ready in screen().feed_in_steps(part):
        passed.append(ready)
    assert b"".join(passed) == part
    assert set(turns) >= set(range(len(passed)))
    assert max(map(len, passed)) <= 2 * SMALL
