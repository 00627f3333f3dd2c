"""The ids of A2A tasks and contexts that this guard's agent began: what names one of them goes to this agent.

The table is bounded in number and time, and is in memory alone: a guard that is restarted knows none. No I/O.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from interlock_guard.tasks.a2a_ids import SeenTask

MAX_KNOWN: Final = 4096
"""Ids that are remembered; beyond it the one that was not named for longest is forgotten."""
KNOWN_SECONDS: Final = 24 * 3600.0
"""How long an id is remembered after an answer has named it last."""


@dataclass(slots=True)
class _Known:
    at: float
    is_open: bool = False
    is_answered: bool = False
    """Whether the request that it went on from has had its answer, and was counted as no failure."""
    address: str = ""


class KnownIds:
    """The ids, and which of the tasks are under way."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self.under_way = 0
        """Tasks whose last seen state is not final."""

    def note(self, seen: SeenTask, now: float, address: str = "") -> bool:
        """Remember what an answer of the agent says.

        Args:
            seen: The ids, and whether the task has ended.
            now: Seconds on a clock that never goes back.
            address: The address of the agent's pod that answered.

        Returns:
            Whether a task has failed now whose request was answered before, when it had not.
        """
        has_failed_late = False
        for one, is_final in ((seen.task, seen.is_final), (seen.context, None)):
            if one:
                known = self._known.setdefault(one, _Known(now))
                known.at, known.address = now, address
                self._known.move_to_end(one)
                if is_final is not None:
                    has_failed_late = known.is_answered and seen.has_failed
                    known.is_answered = known.is_answered and not is_final
                    self._set_open(known, is_open=not is_final)
        while len(self._known) > MAX_KNOWN:
            self._forget_oldest()
        return has_failed_late

    def answer(self, task: str) -> None:
        """Note that a request was answered, whose task may go on."""
        known = self._known.get(task)
        if known is not None:
            known.is_answered = known.is_open

    def expire(self, now: float) -> None:
        """Forget the ids that no answer has named for long."""
        while self._known and now - next(iter(self._known.values())).at > KNOWN_SECONDS:
            self._forget_oldest()

    def knows(self, ids: Iterable[str], now: float) -> bool:
        """Return True if one of these ids is of a task or context that this agent began."""
        self.expire(now)
        return any(one in self._known for one in ids)

    def find_address(self, ids: Iterable[str]) -> str:
        """Return the address of the pod that answered last about a task under way; empty where none of these is one."""
        open_ones = (known for one in ids if (known := self._known.get(one)) is not None and known.is_open)
        return next((known.address for known in open_ones), "")

    def under_way_at(self, addresses: Collection[str]) -> int:
        """Return how many tasks are under way in the pods with these addresses."""
        return sum(known.is_open and known.address in addresses for known in self._known.values())

    def _forget_oldest(self) -> None:
        _, known = self._known.popitem(last=False)
        self._set_open(known, is_open=False)

    def _set_open(self, known: _Known, *, is_open: bool) -> None:
        self.under_way += int(is_open) - int(known.is_open)
        known.is_open = is_open
