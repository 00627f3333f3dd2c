"""The detector of loops: identical calls, too many of them within a sliding window. Pure: the time is an argument.

The times of a call are kept in steps of a thirty-second of the window, each with the number of calls in it. A step
leaves the window as a whole, so the count is at most one step's calls too low, and never too high.

An agent chooses its calls, so memory is bounded, and no cheap flood of different calls hides a loop:

    seen once       the last 4096 calls; a flood of different calls pushes out only these
    seen again      1024 calls; a new one pushes out the call with the fewest repetitions, a blocked one last

A loop is therefore missed only if 4096 different calls come between its first two calls, or 1024 other calls are
repeated as often as its own.
"""

from array import array
from dataclasses import dataclass
from typing import Final

STEPS: Final = 32
MOST_ONCE: Final = 4096
MOST_AGAIN: Final = 1024


@dataclass(frozen=True, slots=True)
class Loop:
    """A call that is a loop.

    Attributes:
        calls: How many there were within the window, with this one.
        is_new: Whether this call has made it a loop.
    """

    calls: int
    is_new: bool


class _Times:
    """When one call was made, newest last."""

    __slots__ = ("_counts", "_starts", "is_blocked", "last", "total")

    def __init__(self, first: float) -> None:
        self._starts, self._counts = array("d", [first]), array("Q", [1])
        self.total, self.last, self.is_blocked = 1, first, False

    def add(self, now: float, window: float) -> None:
        gone = 0
        while gone < len(self._starts) and self._starts[gone] <= now - window:
            self.total -= self._counts[gone]
            gone += 1
        del self._starts[:gone], self._counts[:gone]
        if self._starts and now - self._starts[-1] < window / STEPS:
            self._counts[-1] += 1
        else:
            self._starts.append(now)
            self._counts.append(1)
        self.total, self.last = self.total + 1, now


class LoopDetector:
    """Counts calls, and says which of them are a loop.

    Args:
        identical_calls: How many within the window are a loop, at least 2.
        window: Length of the window in seconds.
    """

    def __init__(self, identical_calls: int, window: float) -> None:
        self._limit, self._window = identical_calls, window
        # Both in the order of the last call.
        self._once: dict[bytes, float] = {}
        self._again: dict[bytes, _Times] = {}

    def __len__(self) -> int:
        """Return how many calls are remembered."""
        return len(self._once) + len(self._again)

    def count(self, call: bytes, now: float) -> Loop | None:
        """Count a call; return the loop if it may not be made.

        A call that is a loop stays one until it was not made for one window. A refused attempt counts as made.

        Args:
            call: What identifies it, the same for identical calls.
            now: Seconds on a clock that never goes back.
        """
        self._forget(now)
        times = self._again.pop(call, None)
        if times is None:
            first = self._once.pop(call, None)
            if first is None:
                if len(self._once) >= MOST_ONCE:
                    del self._once[next(iter(self._once))]
                self._once[call] = now
                return None
            if len(self._again) >= MOST_AGAIN:
                self._make_room()
            times = _Times(first)
        self._again[call] = times
        times.add(now, self._window)
        was_blocked, times.is_blocked = times.is_blocked, times.is_blocked or times.total >= self._limit
        return Loop(times.total, is_new=not was_blocked) if times.is_blocked else None

    def _forget(self, now: float) -> None:
        """Forget what was not called for a window."""
        oldest = now - self._window
        while self._once and self._once[first := next(iter(self._once))] <= oldest:
            del self._once[first]
        while self._again and self._again[first := next(iter(self._again))].last <= oldest:
            del self._again[first]

    def _make_room(self) -> None:
        again = self._again
        del again[min(again, key=lambda call: (again[call].is_blocked, again[call].total))]
