"""The heartbeat of an event loop, which shows that nothing blocks it."""

import asyncio
import time

BEAT_SECONDS = 1.0
LATE_SECONDS = 20.0
"""Seconds without a beat after which an event loop counts as hanging."""


class Heartbeat:
    """The heartbeat of an event loop: one beat a second."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = time.monotonic()

    async def run(self) -> None:
        """Beat, for ever."""
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)

    def problem(self) -> str | None:
        """Return what is wrong, None while the loop runs."""
        silent = time.monotonic() - self._last
        return f"{self._name} hangs for {silent:.0f} s" if silent > LATE_SECONDS else None
