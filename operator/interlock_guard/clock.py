"""The only place where the guard reads a clock; everything else is handed the time."""

import time
from datetime import UTC, datetime


def monotonic() -> float:
    """Return seconds on a clock that only goes forward; it counts leases and deadlines."""
    return time.monotonic()


def wall() -> datetime:
    """Return the wall clock's time in UTC; it only dates records."""
    return datetime.now(tz=UTC)  # noqa: TID251 - this is the guard's clock
