"""The reports of loops for which a policy has an agent killed, and the one kill that follows from each.

Guards cannot set a kill switch. They report in their placement's Lease, where admission lets a guard write under the
name of its own pod alone. A report counts only if all of this holds:

* the operator has labelled the Lease, which says that the policy kills for loops: others cannot set its labels;
* the Lease has the Agent as it is now as an owner, and not an earlier one of its name;
* the pod that reports exists, is a pod of the agent, and is not being deleted. A kill ends all pods of an agent, so no
  report from before a kill counts after its release.
"""

import logging
from dataclasses import dataclass
from typing import Final

from interlock_contract.loops import LoopReport, describe_loop, read_loops
from interlock_contract.names import AGENT_LABEL, APP_MANAGED_BY_LABEL, MANAGED_BY, ON_LOOP_KILL, ON_LOOP_LABEL
from interlock_kill.killer import Killer
from interlock_kube.client import Json
from interlock_kube.resource_types import Key, key_of

_log = logging.getLogger(__name__)

SELECTOR: Final = f"{APP_MANAGED_BY_LABEL}={MANAGED_BY},{AGENT_LABEL},{ON_LOOP_LABEL}={ON_LOOP_KILL}"
"""Selects the Leases whose reports of loops count."""


@dataclass(frozen=True, slots=True)
class _Lease:
    """What one Lease says: of which Agent, with which uids as owners, and which pods report what."""

    agent: Key
    owners: frozenset[str]
    reports: dict[str, LoopReport]


class LoopReports:
    """What the Leases say, and which reports were obeyed.

    Args:
        killer: Reads pods, and sets the switch.
    """

    def __init__(self, killer: Killer) -> None:
        self._killer = killer
        self._leases: dict[Key, _Lease] = {}
        self._spent: dict[Key, frozenset[str]] = {}
        """By Agent, the values of the reports from before its last kill."""

    @property
    def agents(self) -> set[Key]:
        """The Agents of which there are reports."""
        return {lease.agent for lease in self._leases.values()}

    def observe(self, found: Json) -> Key | None:
        """Observe the metadata of a Lease; return its Agent if there is a report in it."""
        metadata = found["metadata"]
        reports = read_loops(metadata.get("annotations") or {})
        if not reports:
            self.forget_lease(key_of(found))
            return None
        agent = metadata["namespace"], metadata["labels"][AGENT_LABEL]
        owners = frozenset(owner["uid"] for owner in metadata.get("ownerReferences") or ())
        self._leases[key_of(found)] = _Lease(agent, owners, reports)
        return agent

    def forget_lease(self, key: Key) -> None:
        """Forget a Lease that is gone, or whose reports no longer count."""
        self._leases.pop(key, None)

    def forget_agent(self, agent: Key) -> None:
        """Forget which reports of an Agent were obeyed: it is gone."""
        self._spent.pop(agent, None)

    def spend(self, agent: Key) -> None:
        """Note that the Agent is killed: its reports until now lead to no other kill."""
        values = {describe_loop(pod, report) for lease in self._of(agent) for pod, report in lease.reports.items()}
        if values:
            self._spent[agent] = frozenset(values)

    async def kill(self, agent: Key, uid: str) -> None:
        """Set the kill switch of an Agent that is not killed, if a report says so that was not obeyed yet.

        Raises:
            ApiError: The API server refused; with 409 where the Agent has changed meanwhile.
        """
        for lease in self._of(agent):
            for pod, report in lease.reports.items():
                value = describe_loop(pod, report)
                is_due = uid in lease.owners and value not in self._spent.get(agent, ())
                if not is_due or not await self._is_from(agent, pod):
                    continue
                if await self._killer.set_switch(*agent, uid, value):
                    _log.warning("killed because of a loop", extra={"agent": "/".join(agent), "value": value})
                self.spend(agent)
                return

    def _of(self, agent: Key) -> list[_Lease]:
        return [lease for lease in self._leases.values() if lease.agent == agent]

    async def _is_from(self, agent: Key, pod: str) -> bool:
        """Return True if a pod is one of the agent that is not being deleted."""
        metadata = await self._killer.find_pod(agent[0], pod)
        if metadata is None or "deletionTimestamp" in metadata:
            return False
        return bool((metadata.get("labels") or {}).get(AGENT_LABEL) == agent[1])
