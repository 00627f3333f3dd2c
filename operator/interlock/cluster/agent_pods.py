"""The store of agents' pods: one small report for each, and when each was Ready before, kept by Agent."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from interlock.api.status import MOST_PODS
from interlock.cluster.child_cache import AgentKey, agent_of
from interlock.cluster.selective_watch import SelectiveWatch
from interlock.deployment.observed.pod_reports import AgentPods, PodReport, ReadySpan, deletion_of, read_pod
from interlock_contract.names import AGENT_LABEL
from interlock_kube.client import Json, KubeClient
from interlock_kube.resource_types import POD, Key, version_of

MOST_SPANS: Final = 256
"""Most times of readiness that are remembered of one Agent's pods. A soak does not count what is forgotten."""


@dataclass(frozen=True, slots=True)
class _Pod:
    version: int
    report: PodReport


class AgentPodStore:
    """Follows the pods of agents and guards.

    Args:
        client: Speaks to the API server.
        is_agent: Returns whether an Agent is known. The pods of others are not read.
        changed: Called with an Agent of whose pods one reports something else.
    """

    def __init__(
        self, client: KubeClient, is_agent: Callable[[AgentKey], bool], changed: Callable[[AgentKey], None]
    ) -> None:
        self._is_agent = is_agent
        self._changed = changed
        self._pods: dict[AgentKey, dict[str, _Pod]] = {}
        self._past: dict[AgentKey, deque[ReadySpan]] = {}
        self._agents: dict[Key, AgentKey] = {}  # by the key of the pod
        self._watch = SelectiveWatch(client, (POD,), AGENT_LABEL, self)

    def of(self, agent: AgentKey, since: datetime | None) -> AgentPods:
        """Return what is known about an Agent's pods that are not terminating, and forget what is not asked for.

        Args:
            agent: The Agent.
            since: From when on it matters when pods were Ready; None if it does not.
        """
        past = tuple(span for span in self._past.pop(agent, ()) if since is not None and span.until > since)
        if past:
            self._past[agent] = deque(past, MOST_SPANS)
        return AgentPods(tuple(pod.report for pod in self._pods.get(agent, {}).values()), past)

    async def synced(self) -> None:
        """Wait until all pods were read once."""
        await self._watch.synced()

    async def run(self) -> None:
        """Follow the pods, for ever."""
        await self._watch.run()

    def agent_seen(self, agent: AgentKey) -> None:
        """Handle that an Agent exists: read its pods."""
        self._watch.adopt(agent)

    def agent_gone(self, agent: AgentKey) -> None:
        """Handle that an Agent exists no longer."""
        self._past.pop(agent, None)
        for name in list(self._pods.get(agent, {})):
            self._forget((agent[0], name))

    # The selection

    def owner_of(self, _kind: str, found: Json) -> Hashable | None:
        """Return the Agent of a pod, None for one that is terminating."""
        return None if "deletionTimestamp" in found["metadata"] else agent_of(found)

    def is_known(self, owner: Hashable) -> bool:
        """Return True if the Agent exists."""
        return isinstance(owner, tuple) and self._is_agent(owner)

    def is_newer(self, _kind: str, found: Json) -> bool:
        """Return True unless this version of a pod, or a newer one, was read, or its Agent has too many."""
        pods = self._pods.get(agent_of(found), {})
        known = pods.get(found["metadata"]["name"])
        return len(pods) < MOST_PODS if known is None else version_of(found) > known.version

    def put(self, _kind: str, found: Json) -> None:
        """Keep the report of a pod."""
        agent, name = agent_of(found), found["metadata"]["name"]
        if self._agents.get((agent[0], name)) not in (None, agent):
            self.drop(_kind, (agent[0], name), version_of(found), None)  # it was labelled as another agent's
        pods = self._pods.setdefault(agent, {})
        known, pod = pods.get(name), _Pod(version_of(found), read_pod(found))
        pods[name], self._agents[agent[0], name] = pod, agent
        if known is None or known.report != pod.report:
            if known is not None and known.report.ready_since != pod.report.ready_since:
                self._remember(agent, known.report, pod.report.ready_until)
            self._changed(agent)

    def drop(self, _kind: str, key: Key, version: int, found: Json | None) -> None:
        """Forget a pod, unless a newer one of its name is kept."""
        agent = self._agents.get(key)
        if agent is not None and self._pods[agent][key[1]].version <= version:
            self._remember(agent, self._pods[agent][key[1]].report, deletion_of(found) if found else None)
            self._forget(key)
            self._changed(agent)

    def held(self, _kind: str) -> Iterable[Key]:
        """Return the pods that are kept."""
        return list(self._agents)

    def _remember(self, agent: AgentKey, before: PodReport, until: datetime | None) -> None:
        """Remember when a pod was Ready that is so no longer, unless it is not known until when."""
        if before.ready_since is not None and until is not None:
            span = ReadySpan(before.group, before.ready_since, until)
            self._past.setdefault(agent, deque(maxlen=MOST_SPANS)).append(span)

    def _forget(self, key: Key) -> None:
        agent = self._agents.pop(key)
        del self._pods[agent][key[1]]
        if not self._pods[agent]:
            del self._pods[agent]
