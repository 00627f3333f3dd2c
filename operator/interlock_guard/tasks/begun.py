"""The tasks under way and what other placements served when each began: a scope that goes elsewhere breaks no task.

When another placement takes over a scope, new tasks go there at once. A task of that scope that is under way here still
calls its tools. Its calls are judged by what was excluded when it began, for at most the drain time after the change.
"""

import math
from collections.abc import Callable

from interlock_contract.bundle import ScopeLimit
from interlock_guard.state import LiveState

Excluded = tuple[tuple[ScopeLimit, ...], ...]


class BegunTasks:
    """The tasks of the guard's own agent that are under way.

    Args:
        live: The bundle in force.
        monotonic: Seconds on a clock that never goes back.
    """

    def __init__(self, live: LiveState, monotonic: Callable[[], float]) -> None:
        self._live, self._monotonic = live, monotonic
        self._begun: dict[str, Excluded] = {}
        self._last: Excluded = ()
        self._changed_at = -math.inf

    def begin(self, task: str) -> None:
        """Note a task before the agent gets it."""
        bundle = self._live.bundle
        self._begun[task] = () if bundle is None else bundle.excluded

    def end(self, task: str) -> None:
        """Forget a task that has ended."""
        self._begun.pop(task, None)

    def follow(self) -> None:
        """Note when the scopes that others serve change.

        A task that was longer under way than the drain time of the change before keeps what held after that one: what
        it may no longer call does not come back with a later change.
        """
        bundle, now = self._live.bundle, self._monotonic()
        if bundle is None or bundle.excluded == self._last:
            return
        if bundle.tasks is not None and now - self._changed_at > bundle.tasks.drain_seconds:
            self._begun = dict.fromkeys(self._begun, self._last)
        self._last, self._changed_at = bundle.excluded, now

    def find_excluded(self, named: str) -> Excluded | None:
        """Return the scopes that are excluded for a call of a task; None for those of the bundle in force.

        Args:
            named: The task that the call names. A call that names none under way may be of the oldest one.
        """
        bundle = self._live.bundle
        if bundle is None or bundle.tasks is None or not bundle.excluded or not self._begun:
            return None
        if self._monotonic() - self._changed_at > bundle.tasks.drain_seconds:
            return None
        began = self._begun.get(named)
        return next(iter(self._begun.values())) if began is None else began
