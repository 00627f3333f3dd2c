"""The messages of a server that answer no call and mean nothing to the guard: counted, and a few of them logged.

A log line tells which message it was, and shows no secret of the server: 40 characters at most, in which each long run
of letters or digits is replaced. The digest finds the message in the server's own output:

    server of crm: message 12 dropped: not JSON: 61 bytes, SHA-256 9f86d0..., begins "DEBUG: open with key ***"
"""

import hashlib
import re
from collections.abc import Callable
from typing import Final

from interlock_guard.wire.streams import Line, Oversized

SHOWN: Final = 40
"""Characters of a message that the log shows at most."""
DIGESTED: Final = 4096
"""Bytes from the beginning of a message that its digest is of."""
LOGGED: Final = 5
"""Messages of one server that are logged in `WINDOW_SECONDS`."""
WINDOW_SECONDS: Final = 60.0
FREQUENT: Final = 60
"""Dropped messages in `WINDOW_SECONDS` that are reported."""
_READ: Final = 256
_RUN: Final = re.compile(r"[\w+/=-]{12,}")
"""Also the characters that Base64 and most tokens have: a key with a dash in it is no two words."""


class DroppedMessages:
    """The dropped messages of one server.

    Args:
        source: The server's source.
        log: Told of the first ones of each minute.
        monotonic: A clock in seconds.
        on_frequent: Called at most once a minute, when many were dropped in it.

    Attributes:
        count: How many there were.
    """

    def __init__(
        self,
        source: str,
        log: Callable[[str], None],
        monotonic: Callable[[], float],
        on_frequent: Callable[[], None] = lambda: None,
    ) -> None:
        self.count = 0
        self._on_frequent = on_frequent
        self._source, self._log, self._monotonic = source, log, monotonic
        self._window_ends = -1.0
        self._in_window = 0

    def note(self, message: Line | Oversized, number: int, why: str) -> None:
        """Count a message, and log it if there is room.

        Args:
            message: As it came.
            number: Its number on its connection, from 1.
            why: What is wrong with it, without any of its text.
        """
        self.count += 1
        now = self._monotonic()
        if now >= self._window_ends:
            silent = max(0, self._in_window - LOGGED)
            if silent:
                self._log(f"server of {self._source}: {silent} more messages were dropped before")
            self._window_ends, self._in_window = now + WINDOW_SECONDS, 0
        self._in_window += 1
        if self._in_window == FREQUENT:
            self._on_frequent()
        if self._in_window <= LOGGED:
            self._log(f"server of {self._source}: message {number} dropped: {why}: {describe(message)}")


def describe(message: Line | Oversized) -> str:
    """Return a message's length, digest and beginning, without what could be a secret."""
    if isinstance(message, Oversized):
        size, head = "more bytes than are kept", message.head
    else:
        size, head = f"{len(message)} bytes", bytes(message[:DIGESTED])
    digest = hashlib.sha256(head).hexdigest()
    part = "" if not isinstance(message, Oversized) and len(message) <= DIGESTED else f" of the first {len(head)} bytes"
    # The runs are replaced before the text is cut, or the first characters of a long one would be shown.
    beginning = _RUN.sub("***", head[:_READ].decode("utf-8", "replace"))[:SHOWN]
    return f'{size}, SHA-256{part} {digest}, begins "{beginning}"'
