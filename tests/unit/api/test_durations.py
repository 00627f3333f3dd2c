from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from interlock.api.durations import DrainTimeout, HistoryAge
from interlock.api.shared_types import format_duration, parse_duration

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("168h", 7 * 24 * HOUR),
        ("90m", HOUR * 1.5),
        ("1h30m", HOUR * 1.5),
        ("30m1h", HOUR * 1.5),
        ("0s", timedelta()),
        ("500ms", timedelta(milliseconds=500)),
        ("1h1m1s1ms", timedelta(hours=1, minutes=1, seconds=1, milliseconds=1)),
        ("99999h", 99999 * HOUR),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["7d", "-1h", "", "1.5h", "100000h", "h", "1h 30m", "1h\n", "٣h", "1h1h1h1h1h", "P7D"])
def test_what_is_no_duration_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration: write 168h, 90m or 1h30m \(7 days are 168h\)"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [(7 * 24 * HOUR, "168h"), (HOUR * 1.5, "1h30m"), (timedelta(), "0s"), (timedelta(microseconds=1500), "1ms")],
)
def test_a_duration_is_written_in_its_shortest_form(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@pytest.mark.parametrize("duration", [timedelta(seconds=-1), 100_000 * HOUR])
def test_a_duration_that_cannot_be_written_is_refused(duration: timedelta) -> None:
    with pytest.raises(ValueError, match="negative or too long"):
        format_duration(duration)


@given(st.integers(min_value=0, max_value=99_999 * 3_600_000))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("kind", "least", "most", "outside"),
    [(DrainTimeout, "1s", "24h", ("999ms", "24h1s")), (HistoryAge, "1h", "87600h", ("59m", "87601h"))],
    ids=["time to drain", "age of revisions"],
)
def test_a_duration_with_bounds_is_refused_outside_of_them(
    kind: object, least: str, most: str, outside: tuple[str, ...]
) -> None:
    read = TypeAdapter[str](kind).validate_python

    assert (read(least), read(most)) == (least, most)
    for text in outside:
        with pytest.raises(ValueError, match=f"write a duration between {least} and {most}"):
            read(text)
