from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.budget.windows import (
    MAX_SECONDS,
    Period,
    Window,
    ZoneUnknown,
    find_zone,
    first_window,
    next_window,
)
from tests.requirements import requirement

HOUR, DAY = 3600, 86_400
PERIODS: tuple[Period, ...] = ("day", "month")


def is_zone(name: str) -> bool:
    try:
        find_zone(name)
    except ZoneUnknown:
        return False
    return True


ZONES = st.sampled_from(sorted(filter(is_zone, available_timezones())))
MOMENTS = st.integers(0, 4_000_000_000)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def shown(window: Window) -> tuple[str, str]:
    start, end = (datetime.fromtimestamp(moment, UTC).strftime("%m-%dT%H:%M") for moment in (window.start, window.end))
    return start, end


@pytest.mark.parametrize(
    ("zone", "now", "start", "end"),
    [
        ("UTC", "2026-05-01T00:00:00Z", "05-01T00:00", "05-02T00:00"),
        ("UTC", "2026-05-01T23:59:59Z", "05-01T00:00", "05-02T00:00"),
        ("Europe/Berlin", "2026-03-29T12:00:00Z", "03-28T23:00", "03-29T22:00"),  # 23 hours
        ("Europe/Berlin", "2026-10-25T12:00:00Z", "10-24T22:00", "10-25T23:00"),  # 25 hours
        ("America/New_York", "2026-03-08T12:00:00Z", "03-08T05:00", "03-09T04:00"),
        ("Asia/Kathmandu", "2026-05-01T00:00:00Z", "04-30T18:15", "05-01T18:15"),
        ("America/Sao_Paulo", "2018-11-04T12:00:00Z", "11-04T03:00", "11-05T02:00"),  # the day has no midnight
        ("America/Sao_Paulo", "2018-02-18T02:30:00Z", "02-17T02:00", "02-18T03:00"),  # back to 23:00 at midnight
        ("America/Havana", "2026-11-01T04:30:00Z", "11-01T04:00", "11-02T05:00"),  # two midnights: the first
        ("America/Havana", "2026-11-01T05:30:00Z", "11-01T04:00", "11-02T05:00"),
        ("Pacific/Apia", "2011-12-30T09:00:00Z", "12-29T10:00", "12-30T10:00"),
        ("Pacific/Apia", "2011-12-30T11:00:00Z", "12-30T10:00", "12-31T10:00"),  # the 30th never was
    ],
)
@requirement("budget.one-reset")
def test_a_day_is_a_calendar_day_in_its_zone(zone: str, now: str, start: str, end: str) -> None:
    assert shown(first_window("day", at(now), zone)) == (start, end)


def test_a_month_is_a_calendar_month_in_its_zone() -> None:
    assert shown(first_window("month", at("2026-02-28T23:30:00Z"), "UTC")) == ("02-01T00:00", "03-01T00:00")
    assert shown(first_window("month", at("2026-02-28T23:30:00Z"), "Europe/Berlin")) == ("02-28T23:00", "03-31T22:00")


@pytest.mark.parametrize(
    ("zone", "end"),
    [
        ("UTC", "05-03T00:00"),
        ("Europe/Berlin", "05-02T22:00"),  # 22 hours
        ("America/New_York", "05-03T04:00"),  # 04:00 on the 2nd would be 4 hours later
        ("Pacific/Auckland", "05-03T12:00"),  # 12:00 on the 2nd would be 12 hours later
        ("Pacific/Kiritimati", "05-03T10:00"),  # 10:00 on the 2nd would be 10 hours later
    ],
)
@requirement("budget.one-reset")
def test_a_new_zone_holds_from_the_end_of_the_present_day(zone: str, end: str) -> None:
    midnight = at("2026-05-02T00:00:00Z")
    assert shown(next_window("day", midnight, midnight, zone)) == ("05-02T00:00", end)


def test_a_new_zone_holds_from_the_end_of_the_present_month() -> None:
    first = at("2026-06-01T00:00:00Z")
    assert shown(next_window("month", first, first, "America/New_York")) == ("06-01T00:00", "07-01T04:00")


@requirement("budget.one-reset")
@given(ZONES, ZONES, st.sampled_from(PERIODS), MOMENTS)
def test_windows_follow_each_other_without_a_gap_whatever_the_zones(
    zone: str, other: str, period: Period, now: int
) -> None:
    windows = [first_window(period, now, zone)]
    for name in (zone, zone, other, other, zone, zone):
        windows.append(next_window(period, windows[-1].end, windows[-1].end, name))
    assert windows[0].start <= now < windows[0].end
    least = 22 * HOUR if period == "day" else 26 * DAY
    most = MAX_SECONDS[period]
    for one, following in pairwise(windows):
        assert one.end == following.start
        assert least <= following.end - following.start <= most


@given(ZONES, st.sampled_from(PERIODS), MOMENTS, st.integers(0, 400 * DAY))
def test_an_idle_time_is_skipped_to_the_window_that_all_others_have(
    zone: str, period: Period, begun: int, idle: int
) -> None:
    first = first_window(period, begun, zone)
    now = max(begun + idle, first.end)
    step = first
    while step.end <= now:
        step = next_window(period, step.end, step.end, zone)
    assert next_window(period, first.end, now, zone) == step == first_window(period, now, zone)


@given(MOMENTS, st.integers(10, DAY), st.integers(0, 10**6))
def test_short_days_begin_at_multiples_of_their_length(now: int, seconds: int, idle: int) -> None:
    window = first_window("day", now, "UTC", seconds)
    assert window.start % seconds == 0
    assert window.start <= now < window.end == window.start + seconds
    later = window.end + idle
    following = next_window("day", window.end, later, "UTC", seconds)
    assert following.start <= later < following.end
    assert first_window("month", now, "UTC", seconds) == first_window("month", now, "UTC")


@pytest.mark.parametrize(
    "name",
    [
        *("", "Nowhere", "Europe", "europe/berlin/x", "../etc/passwd", "/etc/localtime", "UTC\0", "Ü"),
        *("localtime", "posixrules", "Factory", "right/UTC", "posix/UTC", "x" * 300),
    ],
)
def test_a_name_of_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ZoneUnknown):
        find_zone(name)
