"""The updates of guards in the whole installation: which agent may be updated now, and who is told.

What is kept here can be lost: after a restart it is read from the statuses of Agents, and from their reconciles.
"""

import functools
import logging
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from interlock.api.status import AgentStatus
from interlock.cluster.event_poster import Program, operator_in
from interlock.orchestration.guard_waves import UpdateState, Wave, current_wave, order_agents, wave_rank
from interlock.reconcile.agent_events import EventNote, EventReason
from interlock.reconcile.guard_updates import state_of
from interlock.settings import OperatorSettings
from interlock.telemetry import GUARD_UPDATES
from interlock_contract.names import HOLD_GUARD_UPDATES
from interlock_kube.resource_types import Key

_log = logging.getLogger(__name__)

_NOT_YET: Final = "their wave has not begun"
_STOPPED: Final = (
    "no agent is updated while one is not ready after its own update (condition GuardUpdated with the reason "
    "GuardUpdateFailed)"
)
_MOST_NAMED: Final = 5
_COUNTED: Final = (UpdateState.WAITING, UpdateState.UPDATING, UpdateState.REFUSED, UpdateState.FAILED)
_ANYWHERE: Final = {UpdateState.REFUSED, UpdateState.FAILED}
"""The states that count wherever an agent stands in the order."""


class GuardUpdates:
    """Decides which agents may get the guards of this version of the operator.

    Args:
        agents: Returns all Agents.
        status_of: Returns the status of an Agent, None where there is none.
        enqueue: Enqueues an Agent.
        post: Posts an Event about the operator's Deployment.
        settings: The operator's namespace, and the size of a wave.
        secret: What the order of the waves depends on, besides names.
    """

    def __init__(
        self,
        agents: Callable[[], Collection[Key]],
        status_of: Callable[[Key], AgentStatus | None],
        enqueue: Callable[[Key], None],
        post: Callable[[Program, EventNote], None],
        settings: OperatorSettings,
        secret: bytes,
    ) -> None:
        self._agents, self._status_of, self._enqueue = agents, status_of, enqueue
        self._post = functools.partial(post, operator_in(settings.namespace))
        self._secret, self._rank = secret, functools.partial(wave_rank, secret=secret)
        self._percent, self._namespace = settings.guard_wave_percent, settings.namespace
        self.holds: Callable[[str], bool] = lambda _namespace: False
        """Returns whether the guards of a namespace are held."""
        self._states: dict[Key, UpdateState] = {}
        self._order: list[Key] = []
        """All agents with a state. It is sorted once; an agent that comes or goes costs its own place alone."""
        self._counts = Counter[UpdateState]()
        self._wave = Wave()
        self._is_seeded = False
        self._count()

    def may_update(self, key: Key) -> str:
        """Return why the guards of an agent may not be replaced for this version; empty if they may."""
        for namespace in (self._namespace, key[0]):
            if self.holds(namespace):
                return f"the annotation {HOLD_GUARD_UPDATES} of a namespace holds them"
        if key in self._wave.members:
            return ""
        return _STOPPED if self._wave.failed else _NOT_YET

    def saw(self, key: Key, status: AgentStatus) -> None:
        """Handle what a reconcile has decided about an Agent."""
        self._put(key, self._state_for_others(key, status))

    def took_turn(self, key: Key) -> None:
        """Handle that the turn of an Agent is over. One that cannot be reconciled lets others pass."""
        if self._states.get(key) is UpdateState.UNKNOWN:
            self._put(key, UpdateState.UPDATED)

    def gone(self, key: Key) -> None:
        """Handle that an Agent exists no longer."""
        before = self._states.pop(key, None)
        if before is not None:
            self._counts[before] -= 1
            del self._order[self._place_of(key)]
            self._decide()
            self._count()

    def hold_changed(self, namespace: str) -> None:
        """Handle that the guards of a namespace are held from now on, or no longer."""
        for key in self._agents():
            if namespace in (self._namespace, key[0]):
                self._enqueue(key)

    def _state_for_others(self, key: Key, status: AgentStatus | None) -> UpdateState:
        """Return how far an agent is for the waves: no other namespace waits for one that is held, whatever it does."""
        is_held = self.holds(key[0]) and not self.holds(self._namespace)
        return UpdateState.UPDATED if is_held else state_of(status)

    def _put(self, key: Key, state: UpdateState) -> None:
        self._seed()
        before = self._states.get(key)
        if before is state:
            return
        self._states[key] = state
        self._counts[state] += 1
        if before is None:
            insort(self._order, key, key=self._rank)
        else:
            self._counts[before] -= 1
        # Most changes are those of later waves at the start of the operator: they change nothing.
        if _ANYWHERE.intersection((before, state)) or self._place_of(key) < self._wave.end or before is None:
            self._decide()
        self._count()

    def _seed(self) -> None:
        """Read, once, which agents an earlier run of the operator has left as failed or updating."""
        if self._is_seeded:
            return
        self._is_seeded = True
        for key in self._agents():
            state = self._state_for_others(key, self._status_of(key))
            is_known = state in (UpdateState.UPDATING, UpdateState.FAILED)
            self._states[key] = state if is_known else UpdateState.UNKNOWN
        self._counts = Counter(self._states.values())
        self._order = order_agents(self._states, self._secret)
        self._decide()

    def _place_of(self, key: Key) -> int:
        return bisect_left(self._order, self._rank(key), key=self._rank)

    def _decide(self) -> None:
        """Decide again, wake the agents that may be updated from now on, and report what stops all of them."""
        before, self._wave = self._wave, current_wave(self._order, self._states, self._percent)
        for key in sorted(self._wave.members - before.members):
            self._enqueue(key)
        if before.failed != self._wave.failed:
            self._report(self._wave.failed)

    def _count(self) -> None:
        for state in _COUNTED:
            GUARD_UPDATES.labels(state.value.lower()).set(self._counts[state])

    def _report(self, failed: tuple[Key, ...]) -> None:
        if not failed:
            _log.info("updates of guards go on")
            self._post(EventNote("Normal", EventReason.GUARD_UPDATES_RESUMED, "updates of guards go on"))
            return
        named = ", ".join("/".join(key) for key in failed[:_MOST_NAMED])
        more = f" and {len(failed) - _MOST_NAMED} more" if len(failed) > _MOST_NAMED else ""
        message = (
            f"no agent gets the guards of this version, because {named}{more} failed: correct, kill, scale to 0 or "
            "delete it, or go back to the earlier version of the operator; the condition GuardUpdated of the Agent "
            "says why it is not ready"
        )
        _log.warning("updates of guards have stopped", extra={"agents": named})
        self._post(EventNote("Warning", EventReason.GUARD_UPDATES_STOPPED, message))
