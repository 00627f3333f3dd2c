"""The pause before the next connection to an MCP server, which grows while connections end soon.

Both transports take it, in the guard and in the verifier, also for streams of a server's own messages and for lists
that change. A server that ends each connection at once, for whatever cause, costs a bounded number of connections:

    an attempt fails, or a connection ends after less than 30 s    0.1, 0.2, 0.4 ... 30 s, a little less at random
    a connection ends after 30 s or more                           none, and the next short one begins at 0.1 s again
    the server names a time (`Retry-After`)                        at least that, up to 30 s
"""

import asyncio
import random
from contextlib import suppress
from typing import Final

STEADY_SECONDS: Final = 30.0
"""How long a connection must last before its end is no sign of trouble."""
LONGEST_SECONDS: Final = 30.0
_FIRST_SECONDS: Final = 0.1
_LEAST_SECONDS: Final = 1.0
"""How much of a pause is waited even if a call asks for the server."""
_MAX_DOUBLINGS: Final = 20


class ReconnectPause:
    """The pause of one server's connections."""

    def __init__(
        self, *, first: float = _FIRST_SECONDS, longest: float = LONGEST_SECONDS, steady: float = STEADY_SECONDS
    ) -> None:
        """Begin without a pause.

        Args:
            first: The first pause in seconds; each further one is twice as long.
            longest: The longest pause in seconds.
            steady: How many seconds a connection must last before its end is no sign of trouble.
        """
        self._first, self._longest, self._steady = first, longest, steady
        self._short_in_row = 0
        self._wished = 0.0  # by the server, for the next pause
        self._wanted = asyncio.Event()

    @property
    def seconds(self) -> float:
        """How long the next pause is at most."""
        if self._short_in_row == 0:
            return 0.0
        return min(self._longest, self._first * 2.0 ** min(self._short_in_row - 1, _MAX_DOUBLINGS))

    def note_end(self, lasted: float) -> None:
        """Take note that a connection has ended.

        Args:
            lasted: Seconds from its beginning; 0 for an attempt that failed.
        """
        self._short_in_row = 0 if lasted >= self._steady else self._short_in_row + 1

    def note_wish(self, seconds: float) -> None:
        """Take note how long the server wants its client to wait; no call ends that part of the next pause."""
        self._wished = min(seconds, self._longest)

    def want(self) -> None:
        """Take note that a call asks for the server: this pause, or the next one, ends once it has lasted a second."""
        self._wanted.set()

    async def wait(self) -> None:
        """Wait until the next connection may begin."""
        wished, self._wished = self._wished, 0.0
        seconds = max(wished, self.seconds * random.uniform(0.75, 1.0))  # noqa: S311 - spreads guards
        least = max(wished, _LEAST_SECONDS)
        await asyncio.sleep(min(seconds, least))
        if seconds > least:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds - least):
                    await self._wanted.wait()
        self._wanted.clear()
