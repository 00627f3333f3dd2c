"""The clock of all programs: no other module reads the time, every other one takes it as an argument."""

import time
from datetime import UTC, datetime
from typing import Any


def utc_now() -> datetime:
    """Return the current time of the wall clock in UTC, for timestamps and soak times."""
    return datetime.now(UTC)  # noqa: TID251 - no other module may


def monotonic() -> float:
    """Return seconds on a clock that only goes forward, for leases and deadlines."""
    return time.monotonic()


def write_time(moment: datetime) -> str:
    """Return a time in UTC as the API server takes it, with microseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_time(text: Any, default: datetime) -> datetime:
    """Return a time as the API server writes it, the default where the text is none or has no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return default
    return moment if moment.tzinfo is not None else default
