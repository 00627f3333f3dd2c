"""Types of fields that the parts of a ledger share."""

from typing import Annotated, Final

from msgspec import Meta

MAX_HOLDER: Final = 128
_MAX_SECONDS: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second that RFC 3339 can write."""

Seconds = Annotated[int, Meta(ge=0, le=_MAX_SECONDS)]
Holder = Annotated[str, Meta(min_length=1, max_length=MAX_HOLDER)]
"""`<pod uid>/<process start in ms since the epoch>`."""
