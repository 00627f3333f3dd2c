"""The operator as a whole: its parts, how they are wired, and how they end.

Long-lived tasks have one policy. An expected error (the API server refuses or does not answer) is retried inside the
task. A task that ends nevertheless has a defect: the operator logs its trace, /healthz answers 503, and the
process ends with exit code 1, so that the kubelet starts a new one. The second watch's thread follows the same policy.
"""

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from ipaddress import ip_network
from typing import Any

from interlock.cluster.admission_policies import AdmissionPolicies
from interlock.cluster.agent_pods import AgentPodStore
from interlock.cluster.api_json import parse_api_json, parse_object
from interlock.cluster.api_server import ApiServerFinder
from interlock.cluster.applier import Applier
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.config_map_store import ConfigMapStore
from interlock.cluster.event_poster import EventPoster
from interlock.cluster.kill_lease import KillLease
from interlock.cluster.kubernetes_version import check_version
from interlock.cluster.ledger_store import LedgerStore, environments_of
from interlock.cluster.metric_source import MetricSource
from interlock.cluster.namespace_users import NamespaceUsers
from interlock.cluster.node_watch import NodeWatch
from interlock.cluster.operator_clock import OperatorClock
from interlock.cluster.operator_key import obtain_operator_key
from interlock.cluster.resource_cache import ResourceCache
from interlock.cluster.revision_store import RevisionStore
from interlock.cluster.selective_watch import PAGE, PAGE_BYTES
from interlock.cluster.status_writer import StatusWriter
from interlock.deployment.placement import ApiServerAddress
from interlock.deployment.pod_users import DEFAULT_USERS, PodUsers
from interlock.runtime.agent_decision import AgentDecider
from interlock.runtime.agents import AgentReconciler
from interlock.runtime.bindings import BindingReconciler, BindingSnapshotReader, DriftReports
from interlock.runtime.child_watch import ChildWatch
from interlock.runtime.dead_holders import DeadHolders
from interlock.runtime.failure_report import FailureReporter
from interlock.runtime.guard_updates import GuardUpdates
from interlock.runtime.ledger_removal import LedgerRemoval
from interlock.runtime.ledgers import LedgerReconciler
from interlock.runtime.liveness import WatchLag
from interlock.runtime.overrides import Overrides
from interlock.runtime.policies import NotifierApplier, PolicyReconciler
from interlock.runtime.price_file import read_price_book
from interlock.runtime.rollout_limiter import RolloutLimiter
from interlock.runtime.router import Event, Router
from interlock.runtime.second_watch import SecondWatch
from interlock.runtime.snapshot_reader import SnapshotReader
from interlock.runtime.spending import SpendingReader
from interlock.runtime.worker_process import Compute, WorkerProcess
from interlock.settings import OperatorSettings
from interlock.telemetry import (
    BINDINGS_QUEUED,
    CHANGES_TO_READ,
    LEDGERS_QUEUED,
    POLICIES_QUEUED,
    QUEUED,
    TelemetryServer,
)
from interlock_contract.clock import monotonic
from interlock_contract.version import VERSION
from interlock_kube.client import Json, KubeClient
from interlock_kube.installed_policies import InstalledPolicies
from interlock_kube.object_reader import MISSED, ObjectName, ObjectReader
from interlock_kube.reconcile_loop import ReconcileLoop, WorkQueue, share_of_a_namespace
from interlock_kube.resource_types import (
    AGENT,
    AGENT_POLICY,
    BUDGET_LEDGER,
    MCP_BINDING,
    Key,
    ResourceType,
    key_of,
    version_of,
)
from interlock_kube.retry import retry_until_available
from interlock_kube.watch import list_objects
from interlock_process.credentials import find_credentials
from interlock_process.heartbeat import Heartbeat
from interlock_process.metrics import TASKS_ENDED, PrometheusLoopMetrics, count_answer, skip_on_defect

_log = logging.getLogger(__name__)

PRIMARY_KINDS = (AGENT, AGENT_POLICY, MCP_BINDING)

LEDGER_WORKERS = 8
"""How many BudgetLedgers are reconciled at the same time."""
BINDING_WORKERS = 4
"""How many MCPBindings are reconciled at the same time."""
MOST_BINDINGS_OF_A_NAMESPACE = 2
"""How many of them may be of one namespace, whose computations may be slow."""


class App:
    """The parts of the operator, alive as long as the process."""

    def __init__(self, settings: OperatorSettings) -> None:
        self.settings = settings
        self.credentials = find_credentials(settings.kubeconfig)
        self.prices = read_price_book(settings.price_book)
        self.failed = False
        self.stopping = asyncio.Event()
        self._clock = OperatorClock()
        # Of `managedFields`, which can be large and deep, only the managers are needed.
        self._objects_client = KubeClient(
            self.credentials, count_answer, on_date=self._clock.observe, parse=parse_object
        )
        self._reader = ObjectReader(
            self._objects_client,
            PRIMARY_KINDS,
            metrics=PrometheusLoopMetrics(),
            keep=self._keep,
            on_length=CHANGES_TO_READ.set,
        )
        self._cache = ResourceCache(lambda kind, key: self._reader.add(ObjectName(kind, *key)))
        self._agents: WorkQueue[Key] = WorkQueue(QUEUED.set, most_of_a_namespace=share_of_a_namespace(settings.workers))
        self._policies: WorkQueue[Key] = WorkQueue(POLICIES_QUEUED.set)
        self._bindings: WorkQueue[Key] = WorkQueue(
            BINDINGS_QUEUED.set, most_of_a_namespace=MOST_BINDINGS_OF_A_NAMESPACE
        )
        self._ledgers: WorkQueue[Key] = WorkQueue(
            LEDGERS_QUEUED.set, most_of_a_namespace=share_of_a_namespace(LEDGER_WORKERS)
        )
        self._router = Router(self._cache, self._agents, self._policies, self._bindings, self._ledgers)
        self._watch_lag = WatchLag(settings.watch_late_seconds)
        self._heartbeat = Heartbeat("the handlers' event loop")
        self._ended_task = ""
        self._tasks: list[asyncio.Task[Any]] = []
        self._opened = AsyncExitStack()
        self._telemetry: TelemetryServer | None = None
        self._loop = asyncio.get_running_loop()
        self._policy_children = ChildCache(AGENT_POLICY.kind)
        self._users_in: Callable[[str], PodUsers] = lambda _: DEFAULT_USERS
        self._namespaces: NamespaceUsers | None = None
        self._child_watch: ChildWatch | None = None
        self._agent_pods: AgentPodStore | None = None
        self._ledger_store: LedgerStore | None = None
        self._nodes: NodeWatch | None = None
        self._second_watch = SecondWatch(
            settings.kubeconfig,
            saw=self._saw_elsewhere,
            gone=self._gone_elsewhere,
            switched=self._switched_elsewhere,
            ended=self._second_watch_ended,
        )
        self._kill_lease = KillLease(
            clock=self._clock.now, monotonic=monotonic, changed=self._wake_agents, namespace=settings.namespace
        )

    def start_watching(self) -> None:
        """Start what waits for nothing else: the second watch and the HTTP endpoint with /healthz."""
        self._second_watch.start()
        self._telemetry = TelemetryServer(self.settings.telemetry_port, self.problem)

    async def start(self) -> None:
        """Start to reconcile, once everything is known that a reconcile depends on.

        Raises:
            KubernetesTooOld: The cluster is older than 1.33.
            ApiError: The API server refuses the operator.
        """
        client = KubeClient(self.credentials, count_answer, on_date=self._clock.observe, parse=parse_api_json)
        self._opened.push_async_callback(client.close)
        self._opened.push_async_callback(self._objects_client.close)
        version = await retry_until_available(functools.partial(check_version, client))
        agent_children, binding_children = ChildCache(), ChildCache(MCP_BINDING.kind)
        child_watch = self._child_watch = ChildWatch(
            client,
            self._cache.uid,
            (agent_children, functools.partial(self._router.wake, Event.AGENT_CHILD_CHANGED)),
            (binding_children, functools.partial(self._router.wake, Event.BINDING_CHILD_CHANGED)),
            (self._policy_children, functools.partial(self._router.wake, Event.POLICY_CHILD_CHANGED)),
        )
        agent_pods = self._agent_pods = AgentPodStore(
            client,
            lambda key: self._cache.uid(AGENT.kind, key) is not None,
            functools.partial(self._router.wake, Event.AGENT_PODS_CHANGED),
        )
        ledger_store = self._open_ledger_store(client)
        config_maps = self._open_config_maps(client)
        api_server = ApiServerFinder(
            client,
            functools.partial(self._router.wake, Event.API_SERVER_MOVED),
            is_anywhere=self.settings.api_server_egress == "AnyOnPort",
        )
        await retry_until_available(api_server.find)
        await self._follow_nodes(client)
        await self._kill_lease.read(client)
        self._spawn("heartbeat", self._heartbeat.run())
        self._spawn("API server finder", api_server.run())
        self._spawn("Lease of the kill controller", self._kill_lease.run(client))
        self._spawn("reader of changed objects", self._reader.run())
        await self._fill_cache()  # the owners first: what has no known owner is not read
        # Here the wait for the kubelet, after an early restart, makes neither heartbeat nor watches look dead.
        operator_key = await retry_until_available(
            functools.partial(obtain_operator_key, client, self.settings.namespace, self.settings.key_file)
        )
        await self._follow(
            {
                "child watch": child_watch,
                "agent pods": agent_pods,
                "ledgers": ledger_store,
                "ConfigMaps": config_maps,
                "users of namespaces": self._open_users(client),
            }
        )
        events = EventPoster(client, socket.gethostname(), self._clock.now)
        self._opened.push_async_callback(events.close)
        self._spawn("admission policies", AdmissionPolicies(client, events.post, self.settings.namespace).run())
        writer = StatusWriter(client)
        drifts = DriftReports(functools.partial(self._router.wake, Event.DRIFT_REPORTED), self._clock.now)
        failures = FailureReporter(self._cache, writer, self._clock.now, self._wake_agent, self._router.handle_answer)
        reader = SnapshotReader(
            self._cache,
            agent_children,
            self.settings,
            operator_key=operator_key,
            kill_seen=self._second_watch.kill_seen,
            starts_pods=lambda: self._kill_lease.is_held,
            pods=agent_pods.of,
            api_server=lambda: api_server.found,
        )
        reader.spending_of = SpendingReader(ledger_store, self.prices, self.settings.budget_day_seconds).read
        agents = await self._agent_reconciler(
            client, reader, Applier(client, agent_children, ledger_store), writer, events, drifts, operator_key
        )
        worker = WorkerProcess()
        self._opened.push_async_callback(worker.close)
        binding_reader = BindingSnapshotReader(
            self._cache,
            binding_children,
            client,
            settings=self.settings,
            api_server=lambda: api_server.found,
            drift_seen_at=drifts.learned_at,
            dropped_at=drifts.dropped_at,
            compute=worker.run,
        )
        reader.config_maps_of = binding_reader.config_maps_of = config_maps.of
        reader.users_in = binding_reader.users_in = self._users_in
        bindings = BindingReconciler(
            cache=self._cache,
            reader=binding_reader,
            applier=Applier(client, binding_children),
            writer=writer,
            events=events,
            clock=self._clock.now,
            handle_answer=self._router.handle_answer,
        )
        policies = self._build_policies(client, writer, worker.run, lambda: api_server.found)
        ledgers = self._ledger_reconciler(client, ledger_store, agent_pods, events)
        self._start_workers(agents, bindings, policies, ledgers, failures)
        _log.info(
            "operator started",
            extra={"version": VERSION, "kubernetes": version.name, "agents": self._cache.agent_count()},
        )

    async def _follow(
        self, watches: Mapping[str, ChildWatch | AgentPodStore | LedgerStore | ConfigMapStore | NamespaceUsers]
    ) -> None:
        """Start watches by their names, and wait until they know all of their objects."""
        for name, watch in watches.items():
            self._spawn(name, watch.run())
        for watch in watches.values():
            await watch.synced()

    async def _agent_reconciler(
        self,
        client: KubeClient,
        reader: SnapshotReader,
        applier: Applier,
        writer: StatusWriter,
        events: EventPoster,
        drifts: DriftReports,
        operator_key: bytes,
    ) -> AgentReconciler:
        reader.nodes = lambda: self._nodes.found if self._nodes is not None else None
        revisions = RevisionStore(client)
        reader.revisions_of = revisions.known
        metrics = MetricSource(self.settings.prometheus, self._agents.add, monotonic)
        reader.metrics_of = (await self._opened.enter_async_context(metrics)).results
        limiter = RolloutLimiter(self._cache.agents_under, reader.status, self._agents.add)
        updates = GuardUpdates(
            self._cache.agents, reader.status, self._agents.add, events.post, self.settings, operator_key
        )
        if self._namespaces is not None:
            updates.holds, self._namespaces.on_hold = self._namespaces.holds_guards, updates.hold_changed
        return AgentReconciler(
            cache=self._cache,
            decider=AgentDecider(
                reader, applier, revisions, InstalledPolicies(client, monotonic), client, limiter, updates
            ),
            applier=applier,
            writer=writer,
            events=events,
            clock=self._clock.now,
            wake=self._wake_agent,
            report_drift=drifts.report,
        )

    def _open_users(self, client: KubeClient) -> NamespaceUsers:
        """Return what knows the users and groups of pods by namespace."""
        users = NamespaceUsers(client, functools.partial(self._router.wake_namespace, Event.USERS_CHANGED))
        self._users_in, self._namespaces = users.of, users
        return users

    def _open_config_maps(self, client: KubeClient) -> ConfigMapStore:
        """Return the store of ConfigMaps, which hears of references from now on."""
        store = ConfigMapStore(client, lambda user: self._router.handle_config_map(*user))
        self._cache.on_config_maps = lambda kind, key, names: store.refer((kind, key), names)
        return store

    async def _follow_nodes(self, client: KubeClient) -> None:
        """Read which addresses are those of the cluster, and follow them from now on."""
        closed = tuple(map(ip_network, self.settings.closed_ranges))
        self._nodes = NodeWatch(client, functools.partial(self._router.wake, Event.NODES_CHANGED), closed)
        await self._nodes.find()
        self._spawn("nodes", self._nodes.run())

    def _open_ledger_store(self, client: KubeClient) -> LedgerStore:
        """Return the store of ledgers, which hears of owners from now on."""
        store = self._ledger_store = LedgerStore(
            client,
            lambda key: self._cache.uid(AGENT.kind, key) is not None,
            functools.partial(self._router.wake, Event.LEDGER_CHANGED),
            functools.partial(environments_of, self._cache),
            self.settings.budget_day_seconds,
        )
        self._router.ledgers_of = self._ledgers_of
        return store

    def _ledger_reconciler(
        self, client: KubeClient, store: LedgerStore, pods: AgentPodStore, events: EventPoster
    ) -> LedgerReconciler:
        """Return what reconciles ledgers, and start the removal of empty ones."""
        self._spawn("removal of ledgers", LedgerRemoval(client, store).run())
        return LedgerReconciler(
            cache=self._cache,
            store=store,
            holders=DeadHolders(self._cache, store, client, pods.uids, monotonic),
            overrides=Overrides(store, InstalledPolicies(client, monotonic), events),
            events=events,
            clock=self._clock.now,
            wake_agent=self._agents.add_sooner,
            day_seconds=self.settings.budget_day_seconds,
        )

    def _start_workers(
        self,
        agents: AgentReconciler,
        bindings: BindingReconciler,
        policies: PolicyReconciler,
        ledgers: LedgerReconciler,
        failures: FailureReporter,
    ) -> None:
        """Start the workers of all queues."""
        loop = functools.partial(ReconcileLoop[Key], metrics=PrometheusLoopMetrics())
        binding_loop = loop(MCP_BINDING.kind, self._bindings, bindings.reconcile, show_failure=failures.show_on_binding)
        agent_loop = loop(AGENT.kind, self._agents, agents.reconcile, show_failure=failures.show_on_agent)
        policy_loop = loop(AGENT_POLICY.kind, self._policies, policies.reconcile, show_failure=failures.show_on_policy)
        ledger_loop = loop(BUDGET_LEDGER.kind, self._ledgers, ledgers.reconcile)
        for _ in range(BINDING_WORKERS):
            self._spawn("MCPBinding worker", binding_loop.run())
        for _ in range(self.settings.workers):
            self._spawn("Agent worker", agent_loop.run())
        for _ in range(LEDGER_WORKERS):
            self._spawn("BudgetLedger worker", ledger_loop.run())
        self._spawn("AgentPolicy worker", policy_loop.run())

    def _build_policies(
        self, client: KubeClient, writer: StatusWriter, compute: Compute, api_server: Callable[[], ApiServerAddress]
    ) -> PolicyReconciler:
        applier = Applier(client, self._policy_children)
        notifiers = NotifierApplier(self._policy_children, applier, settings=self.settings, api_server=api_server)
        notifiers.users_in = self._users_in
        return PolicyReconciler(self._cache, notifiers, writer, self._router.handle_answer, compute, self._clock.now)

    async def stop(self) -> None:
        """End all tasks, then close what was opened, the last one first."""
        self.stopping.set()  # kopf handles signals itself, and waits 5 s for tasks that wait for this event
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._opened.aclose()
        await asyncio.to_thread(self._second_watch.stop)
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.close)

    def problem(self) -> str | None:
        """Return what is wrong with the operator, None while it is healthy; another thread calls this."""
        ended = self._ended_task and f"the task {self._ended_task} ended"
        return ended or self._second_watch.problem() or self._heartbeat.problem() or self._watch_lag.problem()

    def handle(self, kind: ResourceType, found: Json, *, is_deleted: bool) -> None:
        """Handle a watch event of an Agent, AgentPolicy or MCPBinding, of which metadata is enough: it is read then."""
        with skip_on_defect(kind.kind, found):
            key, version = key_of(found), version_of(found)
            if is_deleted:
                self._forget(kind, key, version)
                return
            self._watch_lag.saw("handlers", (kind.kind, *key), version)
            if self._cache.is_newer(kind.kind, key, version):
                self._reader.add(ObjectName(kind.kind, *key))

    def _keep(self, kind: ResourceType, raw: Json) -> None:
        """Handle an Agent, AgentPolicy or MCPBinding as it was read."""
        self._router.handle_object(kind, raw)
        self._tell_child_watches(kind, key_of(raw))

    def _forget(self, kind: ResourceType, key: Key, version: int | None) -> None:
        self._watch_lag.forget((kind.kind, *key), version)
        self._reader.deleted(ObjectName(kind.kind, *key), MISSED if version is None else version)
        self._router.handle_deletion(kind, key, version)
        self._tell_child_watches(kind, key)

    def _tell_child_watches(self, kind: ResourceType, key: Key) -> None:
        """Tell the watches of children and pods whether an owner exists: they read what belongs to a known one."""
        if self._child_watch is None or self._agent_pods is None or self._ledger_store is None:
            return
        if kind is AGENT_POLICY:
            is_known = self._cache.policy(key) is not None
            (self._ledger_store.policy_seen if is_known else self._ledger_store.policy_gone)(key)
            return
        uid = self._cache.uid(kind.kind, key)
        if uid is None:
            self._child_watch.owner_gone(kind.kind, key)
        else:
            self._child_watch.owner_seen(kind.kind, key, uid)
        if kind is AGENT and uid is None:
            self._agent_pods.agent_gone(key)
            self._ledger_store.agent_gone(key)
        elif kind is AGENT:
            self._agent_pods.agent_seen(key)
            self._ledger_store.agent_seen(key)

    async def _fill_cache(self) -> None:
        """Cache all AgentPolicies and MCPBindings before the first Agent is reconciled: an unknown one is missing."""
        for kind in (AGENT_POLICY, MCP_BINDING, AGENT):
            async for raw in list_objects(self._objects_client, kind, limit=PAGE, most=PAGE_BYTES):
                with skip_on_defect(kind.kind, raw):
                    self._watch_lag.saw("handlers", (kind.kind, *key_of(raw)), version_of(raw))
                    self._keep(kind, raw)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a long-lived task."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: "asyncio.Task[Any]") -> None:
        if task.cancelled():
            return
        TASKS_ENDED.inc()
        self._ended_task = task.get_name()
        _log.error("a task of the operator ended", extra={"task": task.get_name()}, exc_info=task.exception())
        self._fail()

    def _fail(self) -> None:
        self.failed = True
        self.stopping.set()

    def _ledgers_of(self, agent: Key) -> list[Key]:
        """Return the ledgers that an Agent spends from: its own, and the total of its policy."""
        if self._ledger_store is None:
            return []
        summary = self._cache.summary(agent)
        total = self._ledger_store.total_of(summary.policy) if summary is not None else None
        return [*self._ledger_store.of_agent(agent), *([total] if total is not None else [])]

    def _wake_agent(self, key: Key) -> None:
        self._router.wake(Event.AGENT_CHANGED, key)

    def _wake_agents(self) -> None:
        for key in self._cache.agents():
            self._agents.add(key)

    # Called from the second watch's thread

    def _second_watch_ended(self) -> None:
        self._loop.call_soon_threadsafe(self._fail)

    def _switched_elsewhere(self, key: Key) -> None:
        """Enqueue an Agent whose switch changed: kopf's event may have come first, and have seen the old latch."""
        self._loop.call_soon_threadsafe(self._agents.add, key)

    def _saw_elsewhere(self, kind: str, key: Key, version: int) -> None:
        self._watch_lag.saw("second watch", (kind, *key), version)

    def _gone_elsewhere(self, kind: str, key: Key, version: int | None) -> None:
        """Forget an object that the second watch saw deleted: kopf reports no deletion during a lost connection."""
        kinds = {one.kind: one for one in PRIMARY_KINDS}
        self._loop.call_soon_threadsafe(self._forget, kinds[kind], key, version)
