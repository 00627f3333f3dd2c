"""The store of agents' pods: one small report for each, and when each was Ready before, kept by Agent."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from interlock.api.status import MOST_PODS
from interlock.cluster.child_cache import AgentKey, agent_of
from interlock.cluster.pod_warnings import UNREADY_SECONDS, PodWarnings
from interlock.cluster.selective_watch import SelectiveWatch
from interlock.deployment.observed.causes import PodWarning
from interlock.deployment.observed.pod_reports import (
    AgentPods,
    PodReport,
    ReadySpan,
    deletion_of,
    read_pod,
    schemas_in,
)
from interlock_contract.bundle_schema import SCHEMA_VERSION
from interlock_contract.clock import monotonic
from interlock_contract.names import AGENT_LABEL, HAS_CLAIMS_LABEL
from interlock_kube.client import Json, KubeClient
from interlock_kube.resource_types import POD, Key, version_of

REPEAT_SECONDS: Final = 60.0
"""How long the words of an Event are shown before words that were shown earlier replace them."""
_MOST_WORDINGS: Final = 16
"""Different Events of one pod that are shown immediately. Anyone who can create Events can create more."""
LEAVING_SECONDS: Final = 60.0
"""How long a pod may still run once its grace period is over, or its object is gone: its node may be late."""
_LONGEST_GRACE: Final = 300.0
"""The longest grace period that a policy allows, in seconds."""
MOST_SPANS: Final = 256
"""Most times of readiness that are remembered of one Agent's pods. A soak does not count what is forgotten."""


@dataclass(slots=True)
class _Pod:
    """A pod: its version, its report, since when it is not ready, and the Event that says why.

    Two Events that alternate, such as those of two probes, or an Event with a new port each time, would otherwise be a
    write of the status every few seconds.
    """

    version: int
    report: PodReport
    unready_at: float | None
    warning: PodWarning | None = None
    warned_at: float = 0.0
    wordings: set[str] = field(default_factory=set)

    def warn(self, warning: PodWarning, now: float) -> bool:
        """Show an Event, unless it says nothing new; return True if it is shown from now on."""
        wording = warning.wording
        if self.warning is not None:
            is_repeated = wording in self.wordings or len(self.wordings) >= _MOST_WORDINGS
            if wording == self.warning.wording or (is_repeated and now - self.warned_at < REPEAT_SECONDS):
                return False
        if len(self.wordings) < _MOST_WORDINGS:
            self.wordings.add(wording)
        self.warning, self.warned_at = warning, now
        return True


class AgentPodStore:
    """Follows the pods of agents and guards.

    Args:
        client: Speaks to the API server.
        is_agent: Returns whether an Agent is known. The pods of others are not read.
        changed: Called with an Agent of whose pods one reports something else.
        monotonic: Returns seconds on a clock that only goes forward.
    """

    def __init__(
        self,
        client: KubeClient,
        is_agent: Callable[[AgentKey], bool],
        changed: Callable[[AgentKey], None],
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._client = client
        self._monotonic = monotonic
        self._is_agent = is_agent
        self._changed = changed
        self._pods: dict[AgentKey, dict[str, _Pod]] = {}
        self._past: dict[AgentKey, deque[ReadySpan]] = {}
        self._leaving: dict[AgentKey, dict[str, float]] = {}  # until when each pod that was deleted may still run
        self._knows_leaving_at = monotonic() + _LONGEST_GRACE + LEAVING_SECONDS
        """From when on all pods that may still run are known: nothing says which ones were deleted before."""
        self._agents: dict[Key, AgentKey] = {}  # by the key of the pod
        self._watch = SelectiveWatch(client, (POD,), AGENT_LABEL, self)

    def of(self, agent: AgentKey, since: datetime | None) -> AgentPods:
        """Return what is known about an Agent's pods, and forget what is not asked for.

        Of those that are terminating, only the ones are known that something waits for (`AgentPods.ending`).

        Args:
            agent: The Agent.
            since: From when on it matters when pods were Ready; None if it does not.
        """
        past = tuple(span for span in self._past.pop(agent, ()) if since is not None and span.until > since)
        if past:
            self._past[agent] = deque(past, MOST_SPANS)
        reports = [_report_of(pod) for pod in self._pods.get(agent, {}).values()]
        return AgentPods(
            tuple(one for one in reports if not one.is_ending),
            past,
            tuple(one for one in reports if one.is_ending),
            self._leaving_of(agent),
        )

    def _leaving_of(self, agent: AgentKey) -> frozenset[str] | None:
        now = self._monotonic()
        left = {name: until for name, until in self._leaving.pop(agent, {}).items() if until > now}
        if left:
            self._leaving[agent] = left
        if now < self._knows_leaving_at:
            return None
        return frozenset(left) | {name for name, pod in self._pods.get(agent, {}).items() if pod.report.is_ending}

    def uids(self, agent: AgentKey) -> set[str]:
        """Return the uids of an Agent's pods that are not terminating."""
        return {pod.report.uid for pod in self._pods.get(agent, {}).values() if not pod.report.is_ending}

    def unready(self) -> Mapping[str, set[str]]:
        """Return the pods that are not ready for some seconds and whose Events may say why: uids by namespace."""
        before = self._monotonic() - UNREADY_SECONDS
        found: defaultdict[str, set[str]] = defaultdict(set)
        for (namespace, _), pods in self._pods.items():
            for pod in pods.values():
                if pod.unready_at is not None and pod.unready_at <= before and pod.report.cause.may_have_event:
                    found[namespace].add(pod.report.uid)
        return found

    def put_warnings(self, namespace: str, warnings: Mapping[str, PodWarning]) -> None:
        """Keep Events about pods of a namespace, by uid, and tell the Agents whose message changes."""
        for agent, pods in self._pods.items():
            for pod in pods.values() if agent[0] == namespace else ():
                warning = warnings.get(pod.report.uid)
                if warning is not None and pod.unready_at is not None and pod.warn(warning, self._monotonic()):
                    self._changed(agent)

    async def synced(self) -> None:
        """Wait until all pods were read once."""
        await self._watch.synced()

    async def run(self) -> None:
        """Follow the pods, and read Events about those that are not ready, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run())
            group.create_task(PodWarnings(self._client, self.unready, self.put_warnings).run())

    def agent_seen(self, agent: AgentKey) -> None:
        """Handle that an Agent exists: read its pods."""
        self._watch.adopt(agent)

    def agent_gone(self, agent: AgentKey) -> None:
        """Handle that an Agent exists no longer."""
        self._past.pop(agent, None)
        self._leaving.pop(agent, None)
        for name in list(self._pods.get(agent, {})):
            self._forget((agent[0], name))

    # The selection

    def owner_of(self, _kind: str, found: Json) -> Hashable | None:
        """Return the Agent of a pod, None for one that is terminating and that no other pod waits for."""
        metadata = found["metadata"]
        schemas = schemas_in(metadata)
        is_awaited = HAS_CLAIMS_LABEL in metadata["labels"] or (schemas is not None and SCHEMA_VERSION not in schemas)
        return None if "deletionTimestamp" in metadata and not is_awaited else agent_of(found)

    def is_known(self, owner: Hashable) -> bool:
        """Return True if the Agent exists."""
        return isinstance(owner, tuple) and self._is_agent(owner)

    def is_newer(self, _kind: str, found: Json) -> bool:
        """Return True unless this version of a pod, or a newer one, was read, or its Agent has too many.

        Metadata does not say whether a pod has ended. So one more is read while one that has ended could go for it.
        """
        pods = self._pods.get(agent_of(found), {})
        known = pods.get(found["metadata"]["name"])
        if known is not None:
            return version_of(found) > known.version
        return len(pods) < MOST_PODS or _oldest_ended(pods) is not None

    def put(self, _kind: str, found: Json) -> None:
        """Keep the report of a pod.

        Kubernetes keeps pods that were evicted for long. Where an Agent has too many, the oldest of those that have
        ended goes for one that has not.
        """
        agent, name = agent_of(found), found["metadata"]["name"]
        if self._agents.get((agent[0], name)) not in (None, agent):
            self.drop(_kind, (agent[0], name), version_of(found), None)  # it was labelled as another agent's
        pods = self._pods.setdefault(agent, {})
        known, report = pods.get(name), read_pod(found)
        if known is None and len(pods) >= MOST_PODS:
            oldest = None if report.has_ended else _oldest_ended(pods)
            if oldest is None:
                return
            self._forget((agent[0], oldest))
        is_settled = report.ready_since is not None or report.is_ending
        pod = _Pod(version_of(found), report, None if is_settled else self._monotonic())
        if known is not None and known.unready_at is not None and pod.unready_at is not None:
            report = replace(report, cause=report.cause.after(known.report.cause))
            pod = replace(known, version=pod.version, report=report)
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
            grace = found["metadata"].get("deletionGracePeriodSeconds") if found else None
            leaving = self._leaving.setdefault(agent, {})
            leaving[key[1]] = self._monotonic() + (grace or 0) + LEAVING_SECONDS
            if len(leaving) > MOST_PODS:  # the one that was deleted before all others
                del leaving[next(iter(leaving))]
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


def _oldest_ended(pods: Mapping[str, _Pod]) -> str | None:
    """Return the name of the pod that has ended as a whole and has changed before all others, None without."""
    ended = ((pod.version, name) for name, pod in pods.items() if pod.report.has_ended)
    return min(ended, default=(0, None))[1]


def _report_of(pod: _Pod) -> PodReport:
    """Return the report of a pod with the Event that says why it is not ready."""
    if pod.warning is None or not pod.report.cause.may_have_event:
        return pod.report
    cause = replace(pod.report.cause, message=pod.warning.added_to(pod.report.cause))
    return replace(pod.report, cause=cause)
