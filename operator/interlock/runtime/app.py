"""Everything that lives as long as the operator does, wired once and passed to the handlers."""

import asyncio
import functools
import logging
import socket
from typing import Any

from interlock.cluster.api_server import ApiServerFinder, check_version
from interlock.cluster.applier import Applier
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.egress_checks import EgressCheckStore
from interlock.cluster.kubeconfig import find_credentials
from interlock.cluster.resource_cache import AgentSummary, Key, ResourceCache, key_of, version_of
from interlock.cluster.snapshots import SnapshotReader, SnapshotSources
from interlock.cluster.status_writer import StatusWriter
from interlock.runtime.agents import AgentIO, AgentReconciler
from interlock.runtime.bindings import VERIFIERS, BindingIO, BindingReconciler
from interlock.runtime.child_watch import ChildWatch
from interlock.runtime.kill_watch import KillWatch, KillWatchListeners
from interlock.runtime.liveness import Heartbeat, WatchLag
from interlock.runtime.loop import WorkQueue
from interlock.runtime.policies import REVIEW_SECONDS, PolicyReconciler
from interlock.settings import OperatorSettings
from interlock.telemetry import BINDINGS_QUEUED, POLICIES_QUEUED, count_answer, serve
from interlock_contract.clock import utc_now
from interlock_contract.names import BINDING_LABEL
from interlock_kube.client import Json, KubeClient
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING, ResourceType
from interlock_kube.retry import retry_until_available
from interlock_kube.watch import list_objects

_log = logging.getLogger(__name__)


class App:
    """The operator's parts."""

    def __init__(self, settings: OperatorSettings) -> None:
        self.settings = settings
        self.credentials = find_credentials(settings.kubeconfig)
        self._client: KubeClient | None = None
        self.primaries = ResourceCache()
        self.queue: WorkQueue[Key] = WorkQueue()
        self.policies: WorkQueue[Key] = WorkQueue(POLICIES_QUEUED)
        self.bindings: WorkQueue[Key] = WorkQueue(BINDINGS_QUEUED)
        self.failed = False
        self.stopping = asyncio.Event()
        self._crosscheck = WatchLag(settings.watch_late_seconds)
        self._heartbeat = Heartbeat("the handlers' event loop")
        self._tasks: list[asyncio.Task[Any]] = []
        self._loop = asyncio.get_running_loop()
        sight = KillWatchListeners(saw=self._saw_elsewhere, gone=self._gone_elsewhere, ended=self._kill_path_ended)
        self._killwatch = KillWatch(settings.kubeconfig, utc_now, sight)

    def start_kill_path(self) -> None:
        """Start what waits for nothing: the kill path, and the answer about our health."""
        self._killwatch.start()
        serve(self.settings.telemetry_port, self.problem)

    async def start(self) -> None:
        """Start looking at agents, once all is known that they depend on.

        Raises:
            KubernetesTooOld: The cluster is older than 1.33.
            ApiError: The API server refuses us.
        """
        client = KubeClient(self.credentials, count_answer)
        self._client = client
        version = await retry_until_available(functools.partial(check_version, client))
        store, verifications = ChildCache(), ChildCache(BINDING_LABEL)
        informer = ChildWatch(client, (store, self.queue.add), (verifications, self.bindings.add))
        gates = EgressCheckStore(self.queue.add)
        anywhere = self.settings.api_server_egress == "AnyOnPort"
        finder = ApiServerFinder(client, self._look_at_all, is_anywhere=anywhere)
        await retry_until_available(finder.look)
        self._spawn(self._heartbeat.run())
        self._spawn(informer.run())
        self._spawn(gates.run(client))
        self._spawn(finder.run())
        await self._prime(client)
        await informer.synced()
        await gates.synced()
        sight = SnapshotSources(kill_seen=self._killwatch.seen, gates=gates.of, api_server=lambda: finder.found)
        edge = AgentIO(
            primaries=self.primaries,
            reader=SnapshotReader(self.primaries, store, self.settings, sight),
            applier=Applier(client, store),
            reporter=StatusWriter(client, socket.gethostname()),
            clock=utc_now,
        )
        verifier = BindingReconciler(
            BindingIO(
                client=client,
                primaries=self.primaries,
                children=verifications,
                applier=Applier(client, verifications),
                reporter=edge.reporter,
                guard_image=self.settings.guard_image,
                api_server=sight.api_server,
                clock=utc_now,
            ),
            self.bindings,
            self.queue.add,
        )
        controller = AgentReconciler(edge, self.queue, verifier.hear_drift)
        for _ in range(VERIFIERS):
            self._spawn(self.bindings.work(verifier.look))
        for _ in range(self.settings.workers):
            self._spawn(self.queue.work(controller.look))
        self._spawn(self.policies.work(PolicyReconciler(edge.primaries, edge.reporter, self.queue.add).look))
        _log.info("operator started", extra={"kubernetes": version, "agents": len(self.primaries.agents())})

    async def stop(self) -> None:
        """End all tasks."""
        self.stopping.set()  # kopf heeds signals by itself, and would wait 5 s for whoever waits for this
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def problem(self) -> str | None:
        """Return what is wrong with the operator, None while it is well; asked from another thread."""
        return self._killwatch.problem() or self._heartbeat.problem() or self._crosscheck.problem()

    def take(self, kind: ResourceType, raw: Json, *, is_deleted: bool) -> None:
        """Take what a handler was told about an object of ours, and ask for the looks that this is worth."""
        key = key_of(raw)
        if is_deleted:
            self._forget(kind, key, version_of(raw))
            return
        self._crosscheck.saw("handlers", (kind.kind, *key), version_of(raw))
        before = self.primaries.standing(key) if kind is AGENT else None
        concerned = self._put(kind, raw)
        for agent in concerned:
            self.queue.add(agent)
        if kind is AGENT:
            self._review_standing(before, self.primaries.standing(key))
        else:
            self._review(concerned)
        if kind is AGENT_POLICY:
            self.policies.add_within(key, REVIEW_SECONDS)
        if kind is MCP_BINDING:
            self.bindings.add(key)

    def _put(self, kind: ResourceType, raw: Json) -> set[Key]:
        if kind is AGENT:
            return {key_of(raw)} if self.primaries.put_agent(raw) else set()
        return self.primaries.put_policy(raw) if kind is AGENT_POLICY else self.primaries.put_binding(raw)

    def _forget(self, kind: ResourceType, key: Key, version: int | None) -> None:
        """Forget an object that went at this version; one that was made anew since stays known."""
        self._crosscheck.forget((kind.kind, *key), version)
        if kind is AGENT:
            before = self.primaries.standing(key)
            if self.primaries.drop_agent(key, version):
                self.queue.forget(key)
                self._review_standing(before, None)
            return
        drop = self.primaries.drop_policy if kind is AGENT_POLICY else self.primaries.drop_binding
        concerned = drop(key, version)
        for agent in concerned:
            self.queue.add(agent)
        self._review(concerned)

    def _review_standing(self, before: AgentSummary | None, after: AgentSummary | None) -> None:
        """Ask for the access tables that an Agent was in or is in, unless it stands as before."""
        if before != after:
            for standing in (before, after):
                if standing is not None:
                    self.policies.add_within(standing.policy, REVIEW_SECONDS)

    def _review(self, agents: set[Key]) -> None:
        """Ask for the access tables that these agents are in."""
        for agent in agents:
            self._review_standing(None, self.primaries.standing(agent))

    async def _prime(self, client: KubeClient) -> None:
        """Know all policies and bindings before any agent is judged: an unknown policy is a missing one."""
        for kind in (AGENT_POLICY, MCP_BINDING, AGENT):
            async for raw in list_objects(client, kind):
                self.take(kind, raw, is_deleted=False)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        """None of our tasks ever ends by itself: where one does, the whole operator starts anew."""
        if not task.cancelled():
            _log.error("a task of the operator ended", exc_info=task.exception())
            self._fail()

    def _look_at_all(self) -> None:
        for agent in self.primaries.agents():
            self.queue.add(agent)
        for binding in self.primaries.binding_keys():
            self.bindings.add(binding)

    def _fail(self) -> None:
        self.failed = True
        self.stopping.set()

    def _kill_path_ended(self) -> None:
        self._loop.call_soon_threadsafe(self._fail)

    def _saw_elsewhere(self, kind: str, key: Key, version: int) -> None:
        self._crosscheck.saw("second watch", (kind, *key), version)

    def _gone_elsewhere(self, kind: str, key: Key, version: int | None) -> None:
        """Forget what the kill path's watch saw go: kopf's does not tell what went while it was cut off."""
        kinds = {AGENT.kind: AGENT, AGENT_POLICY.kind: AGENT_POLICY, MCP_BINDING.kind: MCP_BINDING}
        self._loop.call_soon_threadsafe(self._forget, kinds[kind], key, version)
