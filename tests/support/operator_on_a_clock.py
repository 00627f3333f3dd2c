"""`python -m tests.support.operator_on_a_clock FILE`: the operator's own program, on a wall clock that a test sets.

The file has the seconds by which this clock is ahead of the machine's, and that of the API server with it. A second
number is by how much more the clock of the operator's node is ahead, which is wrong then. What the operator waits for
longer than a minute is due by the API server's clock, as it is on a machine that slept. All else is as in
`python -m interlock`: the API server, the connections, and the clock that only goes forward.
"""

import asyncio
import functools
import runpy
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from interlock_contract import clock
from interlock_kube.server_clock import ServerClock

_LONG_SECONDS: Final = 60.0
_READ_SECONDS: Final = 0.05


class SetClock:
    """Clocks of the API server and of the operator's node that are ahead by what a file says.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._real = file, clock.utc_now
        self._waiting: list[tuple[datetime, asyncio.BaseEventLoop, Callable[[], None]]] = []

    def now(self) -> datetime:
        """Return the time of the API server."""
        return self._real() + timedelta(seconds=self._ahead()[0])

    def node_time(self) -> datetime:
        """Return the time of the operator's node."""
        return self._real() + timedelta(seconds=sum(self._ahead()))

    def _ahead(self) -> list[float]:
        return [float(number) for number in self._file.read_text(encoding="ascii").split()] or [0.0]

    def install(self) -> None:
        """Let the program that is imported afterwards read these clocks, and wait by them."""
        clock.utc_now = self.node_time
        server_seconds = ServerClock.seconds

        def seconds(server: ServerClock) -> float | None:
            known = server_seconds(server)
            return None if known is None else known + self._ahead()[0]

        ServerClock.seconds = seconds  # type: ignore[method-assign]
        call_later = asyncio.BaseEventLoop.call_later

        def wait(
            loop: asyncio.BaseEventLoop, delay: float, callback: Callable[..., object], *args: Any, **more: Any
        ) -> asyncio.TimerHandle:
            timer = call_later(loop, delay, callback, *args, **more)
            if delay > _LONG_SECONDS:
                due = self.now() + timedelta(seconds=delay)
                self._waiting.append((due, loop, functools.partial(_fire, loop, timer, callback, args)))
            return timer

        asyncio.BaseEventLoop.call_later = wait  # type: ignore[method-assign, assignment]
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(_READ_SECONDS)
            now = self.now()
            for one in [one for one in self._waiting if one[0] <= now]:
                self._waiting.remove(one)
                _, loop, fire = one
                if not loop.is_closed():
                    loop.call_soon_threadsafe(fire)


def _fire(
    loop: asyncio.BaseEventLoop, timer: asyncio.TimerHandle, callback: Callable[..., object], args: tuple[Any, ...]
) -> None:
    """Call back what a timer waits for, unless it was stopped, or has done so itself."""
    if not timer.cancelled() and loop.time() < timer.when():
        timer.cancel()
        callback(*args)


if __name__ == "__main__":
    SetClock(Path(sys.argv.pop(1))).install()
    runpy.run_module("interlock", run_name="__main__", alter_sys=True)
