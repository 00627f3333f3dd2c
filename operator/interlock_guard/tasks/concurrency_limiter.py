"""The limiter of tasks under way: places, and a queue for them that is ordered and bounded in time."""

import asyncio
from collections import deque
from typing import Final

from interlock_guard.tasks.refusals import TOO_MANY, WAITED_TOO_LONG, TaskRefusal, TaskRefused

WAITING_PER_SLOT: Final = 4
"""How many may wait for each task that may be under way."""
WAIT_SECONDS: Final = 10.0
"""How long one waits."""


class ConcurrencyLimiter:
    """Places for tasks; a task that finds none waits in a queue of bounded length.

    Args:
        waiting_per_slot: How many may wait for each place; 0 where none waits.
        wait_seconds: How long one waits.
    """

    def __init__(self, waiting_per_slot: int = WAITING_PER_SLOT, wait_seconds: float = WAIT_SECONDS) -> None:
        self.taken = 0
        """Places that are taken."""
        self._limit = 0
        self._waiting_per_slot, self._wait_seconds = waiting_per_slot, wait_seconds
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._line)

    def resize(self, limit: int) -> None:
        """Set how many places there are; those that are taken beyond it stay so until they are given back."""
        self._limit = limit
        self._admit()

    async def take(self) -> None:
        """Take a place; wait for one where there is none. The caller gives it back.

        Raises:
            TaskRefused: The line is full, none was free in time, or all that wait were sent away.
        """
        if self.taken < self._limit:  # then the queue is empty: each free place has been given to it
            self.taken += 1
            return
        if len(self._line) >= self._waiting_per_slot * self._limit:
            raise TaskRefused(TOO_MANY)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await asyncio.wait({turn}, timeout=self._wait_seconds)
        except asyncio.CancelledError:
            self._withdraw(turn)
            raise
        if not turn.done():
            self._withdraw(turn)
            raise TaskRefused(WAITED_TOO_LONG)
        turn.result()

    def give_back(self) -> None:
        """Give a place back."""
        self.taken -= 1
        self._admit()

    def send_away(self, refusal: TaskRefusal) -> None:
        """Refuse all that wait."""
        while self._line:
            self._line.popleft().set_exception(TaskRefused(refusal))

    def _admit(self) -> None:
        while self._line and self.taken < self._limit:
            self.taken += 1
            self._line.popleft().set_result(None)

    def _withdraw(self, turn: asyncio.Future[None]) -> None:
        """Drop a turn whose task no longer waits, the place included if it has just been given."""
        if not turn.done():
            self._line.remove(turn)
        elif turn.exception() is None:
            self.give_back()
