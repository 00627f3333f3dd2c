"""The only place of the control plane that reads the time; everywhere else, time is an argument."""

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time with its zone, UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the one module that may


def monotonic() -> float:
    """Return seconds on a clock that only goes forward; it counts leases and deadlines."""
    return time.monotonic()


def wall() -> datetime:
    """Return the wall clock's time in UTC; it only dates records."""
    return datetime.now(tz=UTC)  # noqa: TID251 - this is the guard's clock
