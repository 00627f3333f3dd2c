"""The time of the API server, which all programs of a cluster share, whatever the clocks of their nodes say.

Each answer of the API server has its time in the header `Date`, in whole seconds. Between two answers the monotonic
clock goes on from there:

    Date: 12:00:07 at 1000.2 s on the monotonic clock  ->  at 1004.2 s it is 12:00:11

A date is cut to whole seconds, and an answer takes a while. So it bounds the time: at least 12:00:07, and less than
12:00:08 and the seconds since the request was sent. An answer corrects a time that is outside of these bounds, and no
other one. Therefore the time does not go back and forth with each answer.

An answer that is off by more than a second from what all answers before it allow is of another clock: the API server's
was set, another API server answers, or a proxy has written the date. Who measures spans by this clock takes the other
one over only when all answers of a minute have it. Until then the monotonic clock is the better witness.
"""

from collections.abc import Callable
from datetime import MAXYEAR
from email.utils import parsedate_to_datetime
from typing import Final

_UNIT: Final = 1.0
"""Seconds to which a date is cut."""


class ServerClock:
    """Tells the time of the API server.

    Args:
        monotonic: Seconds on a clock that only goes forward.
        confirm_seconds: For how long all answers must be of another clock before this one is set by them. With 0, each
            answer sets it.
    """

    def __init__(self, monotonic: Callable[[], float], *, confirm_seconds: float = 0.0) -> None:
        self._monotonic, self._confirm_seconds = monotonic, confirm_seconds
        self._offset: float | None = None
        self._most = 0.0
        self._differs_since: float | None = None

    def observe(self, date: str, took: float = 0.0) -> None:
        """Take over the `Date` of an answer that has just come. One that cannot be read changes nothing.

        Args:
            date: The header.
            took: Seconds since the request was sent.
        """
        try:
            moment = parsedate_to_datetime(date)
        except (ValueError, OverflowError):
            return
        # RFC 5322: -0000 is a time whose zone is unknown. After the last year comes no time that can be written.
        if moment.tzinfo is None or moment.year == MAXYEAR:
            return
        at = self._monotonic()
        least = moment.timestamp() - at
        most = least + _UNIT + took
        if self._offset is None:
            self._offset, self._most = least, most
            return
        if least - self._most > _UNIT or self._offset - most > _UNIT:
            self._differs_since = at if self._differs_since is None else self._differs_since
            if at - self._differs_since < self._confirm_seconds:
                return
            self._most = most
        self._offset, self._differs_since = min(max(self._offset, least), most), None
        self._most = max(self._offset, min(self._most, most))

    def seconds(self) -> float | None:
        """Return the seconds since the epoch with fractions, None before the first answer."""
        return None if self._offset is None else self._offset + self._monotonic()

    def now(self) -> int | None:
        """Return the whole seconds since the epoch, None before the first answer."""
        seconds = self.seconds()
        return None if seconds is None else int(seconds)
