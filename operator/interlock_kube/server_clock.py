"""The time of the API server, which all programs of a cluster share, whatever the clocks of their nodes say.

Each answer of the API server has its time in the header `Date`, in whole seconds. Between two answers the monotonic
clock goes on from there:

    Date: 12:00:07 at 1000.2 s on the monotonic clock  ->  at 1004.2 s it is 12:00:11
"""

from collections.abc import Callable
from email.utils import parsedate_to_datetime


class ServerClock:
    """Tells the time of the API server.

    Args:
        monotonic: Seconds on a clock that only goes forward.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._offset: float | None = None

    def observe(self, date: str) -> None:
        """Take over the `Date` of an answer that has just come. One that cannot be read changes nothing."""
        try:
            moment = parsedate_to_datetime(date)
        except ValueError:
            return
        if moment.tzinfo is None:  # RFC 5322: -0000, a time whose zone is unknown
            return
        self._offset = moment.timestamp() - self._monotonic()

    def now(self) -> int | None:
        """Return the seconds since the epoch, None before the first answer."""
        return None if self._offset is None else int(self._offset + self._monotonic())
