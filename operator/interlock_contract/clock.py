"""The clock of all programs: no other module reads the time, every other one takes it as an argument."""

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time of the wall clock in UTC, for timestamps and soak times."""
    return datetime.now(UTC)  # noqa: TID251 - no other module may


def monotonic() -> float:
    """Return seconds on a clock that only goes forward, for leases and deadlines."""
    return time.monotonic()
