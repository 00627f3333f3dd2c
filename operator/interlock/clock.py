"""The only place of the control plane that reads the time; everywhere else, time is an argument."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time with its zone, UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the one module that may
