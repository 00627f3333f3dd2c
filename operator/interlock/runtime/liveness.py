"""The liveness check of the operator's watches: the lag between the two of them.

kopf does not restart a watcher that died, and its own health page still answers 200. The kinds that users apply are
therefore watched twice: by kopf for the handlers, and by the second watch. A change that reaches one watch
only, for longer than a bound, means that the other watch is dead. The check costs no write.
"""

import threading
import time
from collections.abc import Callable, Hashable


class WatchLag:
    """Compares two watches of the same objects, from any thread.

    Args:
        late_seconds: How many seconds later than the other a watch may see a change.
        clock: Monotonic seconds.
    """

    def __init__(self, late_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._late_seconds = late_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, dict[Hashable, int]] = {"handlers": {}, "second watch": {}}
        self._late: dict[tuple[str, Hashable], float] = {}

    def saw(self, side: str, key: Hashable, version: int) -> None:
        """Note that a watch has seen a version of an object.

        Args:
            side: `handlers` or `second watch`.
            key: Identifies the object.
            version: Its resource version.
        """
        with self._lock:
            self._seen[side][key] = max(version, self._seen[side].get(key, 0))
            self._late.pop((side, key), None)  # a watch that moves on gets the full time again
            self._compare(key)

    def forget(self, key: Hashable, version: int | None = None) -> None:
        """Forget an object that was deleted.

        Args:
            key: Identifies the object.
            version: The resource version at which it was deleted: a later one is of an object of the same name that was
                recreated. None where no version is known.
        """
        with self._lock:
            for seen in self._seen.values():
                if version is None or seen.get(key, 0) <= version:
                    seen.pop(key, None)
            self._compare(key)

    def _compare(self, key: Hashable) -> None:
        newest = max(seen.get(key, 0) for seen in self._seen.values())
        for side, seen in self._seen.items():
            if seen.get(key, 0) < newest:
                self._late.setdefault((side, key), self._clock())
            else:
                self._late.pop((side, key), None)

    def problem(self) -> str | None:
        """Return which watch is late with which object, None while both keep up."""
        now = self._clock()
        with self._lock:
            for (side, key), since in self._late.items():
                if now - since > self._late_seconds:
                    return f"the {side} did not see a change of {key} within {self._late_seconds:.0f} s"
        return None
