"""The reader of a bundle that the Agent's status names before the watch of the ConfigMap has brought it.

The operator writes the ConfigMap first, and then a status that names only the new bundle. The guard sees the two by two
watches. If the status comes first, one read of the ConfigMap has the new bundle, so no open connection has to end.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from interlock_guard.state import LiveState
from interlock_kube.client import UNREACHABLE, ApiError

GRACE_SECONDS: Final = 1.0
"""How long a bundle stays in force, at most, after the Agent's status has ceased to name it."""


class BundleReader:
    """Reads the ConfigMap when the state requests it, and ends the grace of the bundle in force.

    Args:
        live: The state; the reader enters itself there.
        read: Reads the ConfigMap and hands it to the state.
        grace_seconds: Seconds from the first request until the bundle in force is dropped, whatever is under way.
    """

    def __init__(
        self, live: LiveState, read: Callable[[], Awaitable[None]], *, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self._live, self._read, self._grace_seconds = live, read, grace_seconds
        self._requested = asyncio.Event()
        self._deadline: asyncio.TimerHandle | None = None
        live.read_bundle = self._request

    async def run(self, log: Callable[[str], None]) -> None:
        """Serve requests until cancelled."""
        while True:
            await self._requested.wait()
            try:
                async with asyncio.timeout(self._grace_seconds):
                    while self._requested.is_set():  # the status may change again during the read
                        self._requested.clear()
                        await self._read()
            except (ApiError, *UNREACHABLE, ValueError) as error:
                log(f"the bundle was not read: {type(error).__name__}: {error}")
            finally:
                self._requested.clear()
                self._end_grace()

    def _request(self) -> None:
        """Request a read. The grace ends in time, even if no task of this reader runs."""
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(self._grace_seconds, self._end_grace)
        self._requested.set()

    def _end_grace(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._live.end_grace()
