"""The clock of all programs: no other module reads the time, every other one takes it as an argument."""

import time
from datetime import UTC, datetime
from typing import Any, Literal


def utc_now() -> datetime:
    """Return the current time of the wall clock in UTC, for timestamps and soak times."""
    return datetime.now(UTC)  # noqa: TID251 - no other module may


def monotonic() -> float:
    """Return seconds on a clock that only goes forward, for leases and deadlines."""
    return time.monotonic()


def write_time(moment: datetime, precision: Literal["seconds", "milliseconds", "microseconds"] = "microseconds") -> str:
    """Return a time in UTC after RFC 3339, such as `2026-03-02T14:05:00Z`; what is finer than the precision is cut.

    The API server writes seconds for most times and microseconds for those of Events and Leases, and reads all three.
    """
    return moment.astimezone(UTC).isoformat(timespec=precision).removesuffix("+00:00") + "Z"


def read_time(text: Any, default: datetime) -> datetime:
    """Return a time as the API server writes it, the default where the text is none or has no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return default
    return moment if moment.tzinfo is not None else default
