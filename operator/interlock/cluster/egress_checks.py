"""The store of egress checks: one small report for each separate agent pod, kept by Agent."""

import asyncio
from collections.abc import Callable

from interlock.cluster.child_cache import AgentKey, agent_of
from interlock.deployment.names import AGENT_POD
from interlock.deployment.observed.egress_check import EgressCheckReport, read_egress_check
from interlock_contract.names import AGENT_LABEL, APP_COMPONENT_LABEL, ISOLATION_LABEL
from interlock_kube.client import Json, KubeClient
from interlock_kube.resource_types import POD
from interlock_kube.watch import ChangeEvent, ListEvent, WatchOptions, follow
from interlock_process.metrics import skip_on_defect

SELECTOR = f"{AGENT_LABEL},{APP_COMPONENT_LABEL}={AGENT_POD},{ISOLATION_LABEL}=Separate"


class EgressCheckStore:
    """Follows the agents' separate pods.

    Args:
        changed: Called with an Agent of whose pods one reports something else.
    """

    def __init__(self, changed: Callable[[AgentKey], None]) -> None:
        self._changed = changed
        self._reports: dict[AgentKey, dict[str, EgressCheckReport]] = {}
        self._synced = asyncio.Event()
        self._listed: set[tuple[AgentKey, str]] = set()

    def of(self, agent: AgentKey) -> tuple[EgressCheckReport, ...]:
        """Return the reports of an Agent's pods that are not terminating."""
        return tuple(self._reports.get(agent, {}).values())

    async def synced(self) -> None:
        """Wait until all pods have been listed once."""
        await self._synced.wait()

    async def run(self, client: KubeClient) -> None:
        """Follow the pods, for ever."""
        async for event in follow(client, POD, WatchOptions(selector=SELECTOR)):
            self.handle(event)
            if not isinstance(event, ListEvent) or event.is_last:
                self._synced.set()

    def handle(self, event: ListEvent | ChangeEvent) -> None:
        """Handle an event of the watch."""
        if isinstance(event, ListEvent):
            self._list(event)
            return
        with skip_on_defect("Pod", event.object):
            if event.type == "DELETED" or "deletionTimestamp" in event.object["metadata"]:
                self._drop(agent_of(event.object), event.object["metadata"]["name"])
            else:
                self._put(event.object)

    def _list(self, page: ListEvent) -> None:
        self._listed = set() if page.is_first else self._listed
        for pod in page.objects:
            with skip_on_defect("Pod", pod):
                self._listed.add((agent_of(pod), pod["metadata"]["name"]))
                if "deletionTimestamp" not in pod["metadata"]:
                    self._put(pod)
        if not page.is_last:
            return
        for agent, reports in list(self._reports.items()):
            for name in [name for name in reports if (agent, name) not in self._listed]:
                self._drop(agent, name)

    def _put(self, pod: Json) -> None:
        agent, name, report = agent_of(pod), pod["metadata"]["name"], read_egress_check(pod)
        known = self._reports.setdefault(agent, {})
        if known.get(name) != report:
            known[name] = report
            self._changed(agent)

    def _drop(self, agent: AgentKey, name: str) -> None:
        known = self._reports.get(agent, {})
        if known.pop(name, None) is not None:
            self._changed(agent)
        if not known:
            self._reports.pop(agent, None)
