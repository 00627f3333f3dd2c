import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_guard.wire.streams import EventParser, EventTooLarge, ServerEvent


def parse(*chunks: bytes, limit: int = 1000) -> list[ServerEvent]:
    parser = EventParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_of_the_standard_ends_lines(end: bytes) -> None:
    text = b"event: message" + end + b"data: one" + end + b"data:two" + end + end + b"data" + end + end
    assert parse(text) == [ServerEvent(b"one\ntwo"), ServerEvent(b"")]


def test_comments_unknown_fields_and_a_byte_order_mark_are_ignored() -> None:
    assert parse(b"\xef\xbb\xbf: ping\nwhat: ever\ndata: x\n\n: ping\n\n") == [ServerEvent(b"x")]


def test_an_event_that_is_cut_off_is_none() -> None:
    parser = EventParser(1000)
    assert parser.feed(b"id: 1\ndata: x\n\nid: 2\ndata: y\n") == [ServerEvent(b"x")]
    assert parser.last_id == "1", "behind an event that was cut off nothing may be taken up"


@pytest.mark.parametrize("cut", [b'data: {"a', b"data: {\n", b"event: other\n", b"id: 2\n", b"data: {\r", b": ping\r"])
def test_a_stream_that_is_taken_up_again_begins_with_a_line_of_its_own(cut: bytes) -> None:
    parser = EventParser(1000)
    assert parser.is_blank
    assert parser.feed(b"id: 1\ndata: x\n\n" + cut) == [ServerEvent(b"x")]
    parser.restart()
    assert (parser.size, parser.last_id, parser.is_blank) == (0, "1", False)
    assert parser.feed(b"\xef\xbb\xbfdata: y\n\n") == [ServerEvent(b"y")]
    assert parser.last_id == "1"


def test_an_id_without_data_is_kept_and_so_is_the_time_to_wait() -> None:
    parser = EventParser(1000)
    assert parser.feed(b"id: seven\nretry: 1500\ndata:\n\nid\0: x\nid: a\0b\nretry: soon\n\n") == [ServerEvent(b"")]
    assert (parser.last_id, parser.retry_seconds) == ("seven", 1.5)


def test_a_type_is_that_of_its_own_event_alone() -> None:
    assert parse(b"event: other\ndata: 1\n\ndata: 2\n\n") == [ServerEvent(b"1", "other"), ServerEvent(b"2")]


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: " + b"x" * 1000],
        [b"data: x\n"] * 200,
        [b"data:\n"] * 300,
        [b"x" * 600, b"x" * 600],
    ],
)
def test_an_event_beyond_the_bound_is_refused_before_it_has_ended(chunks: list[bytes]) -> None:
    with pytest.raises(EventTooLarge):
        parse(*chunks)


def test_many_small_events_and_comments_are_not_one_large_event() -> None:
    assert len(parse(*[b": ping\n" * 50, b"data: x\n\n" * 200])) == 200


@given(st.lists(st.sampled_from([b"data: ab", b"data:", b"id: 4", b":c", b"", b"\r", b"\n", b"\r\n", b"event: e"])))
def test_where_the_network_cuts_changes_nothing(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert parse(*(whole[index : index + 1] for index in range(len(whole)))) == parse(whole)
