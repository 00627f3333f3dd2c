"""The bound on rollouts under way at the same time: a policy that loosens must not start those of all its agents.

What it counts is in memory, and comes from the statuses of Agents: after a restart it is read from them.

A rollout that ends makes room for one, so one Agent of those that wait is woken, and not all: 1 000 of them would be
reconciled 1 000 times each. An Agent that was woken and did not start, such as because it could not be read, passes the
place on to the next one.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Final

from interlock.api.policy import AgentPolicy
from interlock.api.status import AgentReason, AgentStatus, ConditionType
from interlock_kube.resource_types import Key

_PERCENT: Final = 100
_WITHOUT_PLACE: Final = (AgentReason.WAITING_TO_START, AgentReason.NOT_RUNNING, AgentReason.AUDIT)
_ALL: Final = "100%"


class RolloutLimiter:
    """Knows which Agents of a policy have a rollout under way, and which wait for them.

    Args:
        agents_under: Returns the Agents of a policy.
        status_of: Returns the status of an Agent, None where there is none.
        enqueue: Enqueues an Agent.
    """

    def __init__(
        self,
        agents_under: Callable[[Key], Collection[Key]],
        status_of: Callable[[Key], AgentStatus | None],
        enqueue: Callable[[Key], None],
    ) -> None:
        self._agents_under = agents_under
        self._status_of = status_of
        self._enqueue = enqueue
        self._under_way: dict[Key, set[Key]] = {}
        self._waiting: defaultdict[Key, set[Key]] = defaultdict(set)
        self._policy_of: dict[Key, Key] = {}
        """The policy under which an Agent was seen last. Under another one by now, it holds no place here."""
        self._written: dict[Key, str] = {}
        """`spec.rollout.maxConcurrent` of each policy, as an Agent has seen it last."""
        self._woken: defaultdict[Key, set[Key]] = defaultdict(set)
        """The Agents of a policy that were woken to start, and have not had their turn."""
        self._tried: defaultdict[Key, set[Key]] = defaultdict(set)
        """The Agents of a policy that were woken since a rollout ended last, and had their turn."""

    def may_start(self, key: Key, policy: AgentPolicy) -> str:
        """Return why a rollout that the policy or a binding begins must wait; empty if it need not."""
        named = key[0], policy.metadata.name
        self._written[named] = policy.spec.rollout.max_concurrent
        others = self._of(named) - {key}
        if not others:
            return ""
        limit = most_rollouts(policy.spec.rollout.max_concurrent, len(self._agents_under(named)))
        if len(others) < limit:
            return ""
        return (
            f"{len(others)} rollouts of agents of AgentPolicy {policy.metadata.name} are under way, of {limit} at most "
            "(spec.rollout.maxConcurrent); it starts automatically after one of them"
        )

    def saw(self, key: Key, policy: str, status: AgentStatus) -> None:
        """Handle what a reconcile has decided about an Agent."""
        named = key[0], policy
        if self._policy_of.get(key, named) != named:
            self.gone(key)
        self._policy_of[key] = named
        progressing = next((one for one in status.conditions if one.type == ConditionType.PROGRESSING), None)
        if progressing is not None and progressing.reason == AgentReason.WAITING_TO_START:
            self._waiting[named].add(key)
        else:
            self._waiting[named].discard(key)
        if _is_under_way(status):
            self._of(named).add(key)
        else:
            self._end(key, named)

    def took_turn(self, key: Key) -> None:
        """Handle that the turn of an Agent is over, be it that it was seen or that its turn failed."""
        named = self._policy_of.get(key)
        if named is not None and key in self._woken[named]:
            self._woken[named].discard(key)
            self._tried[named].add(key)
            self._wake(named)

    def gone(self, key: Key) -> None:
        """Handle that an Agent exists no longer, or has another policy."""
        named = self._policy_of.pop(key, None)
        if named is not None:
            self._waiting[named].discard(key)
            self._end(key, named)
            if key in self._woken[named]:
                self._woken[named].discard(key)
                self._wake(named)

    def _of(self, policy: Key) -> set[Key]:
        known = self._under_way.get(policy)
        if known is None:
            statuses = ((key, self._status_of(key)) for key in self._agents_under(policy))
            known = {key for key, status in statuses if status is not None and _is_under_way(status)}
            self._under_way[policy] = known
            self._policy_of |= dict.fromkeys(known - self._policy_of.keys(), policy)
        return known

    def _end(self, key: Key, policy: Key) -> None:
        known = self._of(policy)
        if key in known:
            known.discard(key)
            self._tried[policy].clear()
            self._wake(policy)

    def _wake(self, policy: Key) -> None:
        """Wake as many Agents that wait as there are places."""
        woken = self._woken[policy]
        limit = most_rollouts(self._written.get(policy, _ALL), len(self._agents_under(policy)))
        places = limit - len(self._of(policy)) - len(woken)
        if places <= 0:
            return
        for key in heapq.nsmallest(places, self._waiting[policy] - woken - self._tried[policy]):
            woken.add(key)
            self._enqueue(key)


def most_rollouts(written: str, agents: int) -> int:
    """Return how many rollouts may be under way at the same time, at least one.

    Args:
        written: A number, or a percentage such as `10%`.
        agents: The number of the policy's agents.
    """
    number = int(written.removesuffix("%"))
    return max(1, number * agents // _PERCENT if written.endswith("%") else number)


def _is_under_way(status: AgentStatus) -> bool:
    """Return True if a rollout holds a place.

    One of an agent that was killed or scaled to zero runs nothing new. One in mode Audit goes no further until the
    policy changes, so others would wait for it for ever.
    """
    found = next((one for one in status.conditions if one.type == ConditionType.PROGRESSING), None)
    return found is not None and found.status == "True" and found.reason not in _WITHOUT_PLACE
