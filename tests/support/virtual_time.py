"""An event loop whose clock jumps: waits take no time, and their order is the same as in real time."""

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

from typing_extensions import override

from interlock_contract import clock

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is due, and then jumps to the next moment at which something is."""

    def __init__(self) -> None:
        self._moment = 0.0
        super().__init__(_JumpingSelector(self))

    @override
    def time(self) -> float:
        return self._moment

    def jump(self, seconds: float) -> None:
        """Let time pass at once."""
        self._moment += seconds


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("nothing will ever happen: every task waits for another one")
        self._loop.jump(timeout)
        return super().select(0)


@contextmanager
def clock_of(loop: VirtualLoop) -> Iterator[None]:
    """Let `interlock_contract.clock.monotonic` be the clock of the loop."""
    with patch.object(clock, "time", SimpleNamespace(monotonic=loop.time)):
        yield


def run_in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        with clock_of(loop):
            return runner.run(work)
