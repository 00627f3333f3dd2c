"""The windows of a budget: the days and months, in a time zone, that follow each other without a gap.

A day begins at local midnight, or at the first moment of a day that has no midnight. A window that has begun keeps its
end. A new time zone holds from that end on: the next window ends at the first midnight of the new zone that is at least
22 hours later (first day of a month: 14 days). A budget therefore has exactly one reset for each window, and no change
of the zone gives a second one. No day of a zone is shorter than 22 hours, so admission can refuse a shorter one.

Worked example: a day in UTC ends on 2026-05-02 at 00:00Z, and the zone is now America/New_York (UTC-4). Midnight there
is at 04:00Z. That is 4 hours later, too early, so the window ends at 04:00Z on 2026-05-03.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

Period = Literal["day", "month"]

LEAST_DAY_SECONDS: Final = 10
MAX_DAY_SECONDS: Final = 86_400
"""Bounds of `day_seconds`, the length of days in tests and examples."""
ZONE_PATTERN: Final = r"[A-Za-z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9][A-Za-z0-9_+-]{0,31}){0,2}"

MAX_SECONDS: Final[dict[Period, int]] = {"day": 48 * 3600, "month": 33 * 86_400}
"""Seconds that a window has at most, also where the time zone has changed. Admission has the same numbers."""
_LEAST: Final[dict[Period, int]] = {"day": 22 * 3600, "month": 14 * 86_400}
"""Seconds after which a window may end."""
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory", "posix", "right"})
"""Names in databases of time zones that are no zone, or whose meaning depends on the machine."""


class ZoneUnknown(ValueError):  # noqa: N818 - says the state of a name, like JsonInvalid
    """The database of time zones has no zone of this name."""


@dataclass(frozen=True, slots=True)
class Window:
    """The time from `start` to before `end`, in seconds since the epoch."""

    start: int
    end: int


def find_zone(name: str) -> ZoneInfo:
    """Return a time zone by its name in the IANA database, such as `Europe/Berlin`.

    Raises:
        ZoneUnknown: There is none.
    """
    if name.partition("/")[0] in _NO_ZONES:
        raise ZoneUnknown(f"{name!r} is not the name of a time zone")
    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):  # a name with "..", none of that name, or a folder
        raise ZoneUnknown(f"{name!r} is not the name of a time zone") from None


def first_window(period: Period, now: int, zone_name: str, day_seconds: int | None = None) -> Window:
    """Return the calendar window that contains a moment.

    Args:
        period: Of which length.
        now: Seconds since the epoch.
        zone_name: A name of the IANA database.
        day_seconds: The length of days in tests and examples, which begin at its multiples since the epoch; else None.

    Raises:
        ZoneUnknown: There is no such zone.
    """
    if period == "day" and day_seconds is not None:
        start = now - now % day_seconds
        return Window(start, start + day_seconds)
    starts = _starts(period, now, find_zone(zone_name))
    start = next(starts)
    for end in starts:
        if end - start < _LEAST[period]:
            continue  # a calendar day that the zone skipped has no length
        if now < end:
            return Window(start, end)
        start = end
    raise AssertionError("the starts of windows never end")


def next_window(period: Period, previous_end: int, now: int, zone_name: str, day_seconds: int | None = None) -> Window:
    """Return the window that contains `now` among those that follow a window without a gap.

    Args:
        period: Of which length.
        previous_end: End of the last known window, at most `now`.
        now: Seconds since the epoch.
        zone_name: A name of the IANA database; it may differ from that of the last known window.
        day_seconds: As for `first_window`.

    Raises:
        ZoneUnknown: There is no such zone.
    """
    if period == "day" and day_seconds is not None:
        present = first_window(period, now, zone_name, day_seconds)
        return Window(max(present.start, previous_end), present.end)
    earliest_end = previous_end + _LEAST[period]
    end = next(start for start in _starts(period, previous_end, find_zone(zone_name)) if start >= earliest_end)
    # All later windows are those of the calendar, so that the windows in between need not be computed.
    return Window(previous_end, end) if now < end else first_window(period, now, zone_name)


def _starts(period: Period, moment: int, zone: ZoneInfo) -> Iterator[int]:
    """Yield the starts of calendar days or months, in order, from before a moment on."""
    local = datetime.fromtimestamp(moment, UTC).astimezone(zone).date()
    step: Callable[[date], date] = _next_day if period == "day" else _next_month
    # The date of a moment can be one day too late: clocks that were set back over midnight show the first day twice.
    day = local - timedelta(days=2) if period == "day" else (local.replace(day=1) - timedelta(days=1)).replace(day=1)
    while True:
        # fold=0: of two midnights the first one; the end of the gap where clocks were set forward over midnight.
        yield int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
        day = step(day)


def _next_day(day: date) -> date:
    return day + timedelta(days=1)


def _next_month(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)
