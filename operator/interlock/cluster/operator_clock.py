"""The operator's clock: that of the API server, whatever the clock of the operator's node says.

A soak lasts days. Meanwhile the operator moves to other nodes, whose clocks may differ by an hour, and any of them may
be set. All times in the status are therefore of one clock, which every operator shares: the date of the API server's
answers, and the monotonic clock in between. The earlier of both clocks would be none: a stage that begins by one of
them and ends by the other is short by their difference.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from interlock.telemetry import CLOCK_SKEW
from interlock_contract.clock import monotonic, utc_now
from interlock_kube.server_clock import ServerClock

_log = logging.getLogger(__name__)

MOST_SKEW_SECONDS: Final = 5.0
"""By how much the two clocks may differ before the log says so."""
CONFIRM_SECONDS: Final = 60.0
"""For how long all answers must have another time before the operator goes by it. A date that a proxy, or one API
server of several, got wrong ends no soak."""


class OperatorClock:
    """Tells the time of the API server, and shows by how much the node's clock differs.

    Before the first answer of the API server it tells that of the node. Nothing is reconciled by then.

    Args:
        wall: Returns the time of the node's clock.
        monotonic: Returns seconds on a clock that only goes forward.
    """

    def __init__(self, wall: Callable[[], datetime] = utc_now, monotonic: Callable[[], float] = monotonic) -> None:
        self._wall = wall
        self._server = ServerClock(monotonic, confirm_seconds=CONFIRM_SECONDS)
        self._is_skewed = False

    def observe(self, date: str, took: float) -> None:
        """Take over the time of an answer of the API server.

        Args:
            date: Its header `Date`.
            took: Seconds since the request was sent.
        """
        self._server.observe(date, took)
        seconds = self._server.seconds()
        if seconds is None:
            return
        skew = self._wall().timestamp() - seconds
        CLOCK_SKEW.set(skew)
        is_skewed = abs(skew) > MOST_SKEW_SECONDS
        if is_skewed and not self._is_skewed:
            _log.warning(
                "the clock of this node differs from that of the API server, which the operator goes by",
                extra={"ahead_seconds": round(skew)},
            )
        self._is_skewed = is_skewed

    def now(self) -> datetime:
        """Return the time."""
        seconds = self._server.seconds()
        return self._wall() if seconds is None else datetime.fromtimestamp(seconds, UTC)
