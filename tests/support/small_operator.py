"""The reconcilers of all three kinds with their loops, router and caches, against an API server in memory.

Objects enter as from a watch. The parts that real processes add (watches, connections, signals) are left out.
"""

import asyncio
import contextlib
import copy
import functools
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from interlock.cluster.applier import Applier
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.event_poster import EventPoster
from interlock.cluster.ledger_store import LedgerStore, environments_of
from interlock.cluster.resource_cache import ResourceCache
from interlock.cluster.status_writer import StatusWriter
from interlock.runtime.agents import AgentReconciler
from interlock.runtime.bindings import BindingReconciler, BindingSnapshotReader, DriftReports
from interlock.runtime.dead_holders import DeadHolders
from interlock.runtime.failure_report import FailureReporter
from interlock.runtime.ledgers import LedgerReconciler
from interlock.runtime.overrides import Overrides
from interlock.runtime.policies import NotifierApplier, PolicyReconciler
from interlock.runtime.router import Event, Router
from interlock.runtime.snapshot_reader import SnapshotReader
from interlock.runtime.spending import SpendingReader
from interlock.runtime.worker_process import Compute
from interlock.settings import OperatorSettings
from interlock_contract.clock import monotonic
from interlock_kube.installed_policies import InstalledPolicies
from interlock_kube.reconcile_loop import ReconcileLoop, WorkQueue
from interlock_kube.resource_types import (
    AGENT,
    AGENT_POLICY,
    BUDGET_LEDGER,
    CHILDREN,
    MCP_BINDING,
    Key,
    ResourceType,
    key_of,
)
from interlock_process.metrics import PrometheusLoopMetrics
from tests.support.bounds import until
from tests.support.builders import API_SERVER, GUARD_IMAGE, NOW
from tests.support.computing import compute
from tests.support.deciders import a_decider
from tests.support.fake_client import FakeClient
from tests.support.keys import OPERATOR_KEY
from tests.support.prices import a_price_book

KINDS = {"Agent": AGENT, "AgentPolicy": AGENT_POLICY, "MCPBinding": MCP_BINDING}
BOOK = a_price_book()


class SmallOperator:
    """An operator without its process."""

    def __init__(self, now: datetime = NOW, compute: Compute = compute) -> None:
        self.client, self.now = FakeClient(), now
        self.cache = ResourceCache()
        self.children = {kind: ChildCache(kind.kind) for kind in (AGENT, AGENT_POLICY, MCP_BINDING)}
        self.queues: dict[ResourceType, WorkQueue[Key]] = {kind: WorkQueue() for kind in KINDS.values()}
        agents, policies, bindings = self.queues[AGENT], self.queues[AGENT_POLICY], self.queues[MCP_BINDING]
        ledgers: WorkQueue[Key] = WorkQueue()
        self.queues[BUDGET_LEDGER] = ledgers
        self.router = Router(self.cache, agents, policies, bindings, ledgers)
        client: Any = self.client
        self.ledgers = LedgerStore(
            client,
            lambda key: self.cache.uid(AGENT.kind, key) is not None,
            functools.partial(self.router.wake, Event.LEDGER_CHANGED),
            functools.partial(environments_of, self.cache),
        )
        self.router.ledgers_of = self.ledgers.of_agent
        self.events = EventPoster(client, "operator-1", lambda: self.now)
        writer = StatusWriter(client)
        applier = {kind: Applier(client, kept, self.ledgers) for kind, kept in self.children.items()}
        wake_agent = functools.partial(self.router.wake, Event.AGENT_CHANGED)
        failures = FailureReporter(self.cache, writer, lambda: self.now, wake_agent, self.router.handle_answer)
        drifts = self.drifts = DriftReports(bindings.add, lambda: self.now)
        reader = SnapshotReader(
            self.cache,
            self.children[AGENT],
            OperatorSettings(guard_image=GUARD_IMAGE),
            operator_key=OPERATOR_KEY,
            kill_seen=lambda _: None,
            api_server=lambda: API_SERVER,
        )
        reader.spending_of = SpendingReader(self.ledgers, BOOK, None).read
        notifiers = NotifierApplier(
            self.children[AGENT_POLICY],
            applier[AGENT_POLICY],
            settings=OperatorSettings(guard_image=GUARD_IMAGE),
            api_server=lambda: API_SERVER,
        )
        reconcilers = {
            AGENT: AgentReconciler(
                cache=self.cache,
                decider=a_decider(client, reader, applier[AGENT]),
                applier=applier[AGENT],
                writer=writer,
                events=self.events,
                clock=lambda: self.now,
                wake=wake_agent,
                report_drift=drifts.report,
            ).reconcile,
            AGENT_POLICY: PolicyReconciler(
                self.cache, notifiers, writer, self.router.handle_answer, compute, lambda: self.now
            ).reconcile,
            MCP_BINDING: BindingReconciler(
                cache=self.cache,
                reader=BindingSnapshotReader(
                    self.cache,
                    self.children[MCP_BINDING],
                    client,
                    settings=OperatorSettings(guard_image=GUARD_IMAGE),
                    api_server=lambda: API_SERVER,
                    drift_seen_at=drifts.learned_at,
                    dropped_at=drifts.dropped_at,
                    compute=compute,
                ),
                applier=applier[MCP_BINDING],
                writer=writer,
                events=self.events,
                clock=lambda: self.now,
                handle_answer=self.router.handle_answer,
            ).reconcile,
            BUDGET_LEDGER: LedgerReconciler(
                cache=self.cache,
                store=self.ledgers,
                holders=DeadHolders(self.cache, self.ledgers, client, lambda _: (), monotonic),
                overrides=Overrides(self.ledgers, InstalledPolicies(client, monotonic), self.events),
                events=self.events,
                clock=lambda: self.now,
                wake_agent=agents.add_sooner,
            ).reconcile,
        }
        show = {
            AGENT: failures.show_on_agent,
            AGENT_POLICY: failures.show_on_policy,
            MCP_BINDING: failures.show_on_binding,
        }
        self.loops = {
            kind: ReconcileLoop(
                kind.kind, self.queues[kind], reconcile, metrics=PrometheusLoopMetrics(), show_failure=show.get(kind)
            )
            for kind, reconcile in reconcilers.items()
        }

    def put(self, raw: dict[str, Any]) -> Key:
        """Store an object as another user would, and let the watch report it."""
        kind = KINDS[raw["kind"]]
        self.router.handle_object(kind, self.client.put(self.path(kind, key_of(raw)), raw))
        return key_of(raw)

    @staticmethod
    def path(kind: ResourceType, key: Key) -> str:
        """Return the path of an object."""
        return kind.path(*key)

    def status(self, kind: ResourceType, key: Key) -> dict[str, Any]:
        """Return the status of an object as it is stored."""
        return self.client.objects[self.path(kind, key)].get("status") or {}

    def condition(self, kind: ResourceType, key: Key, name: str) -> dict[str, Any]:
        """Return a condition of an object, empty without it."""
        found = self.status(kind, key).get("conditions", [])
        return next((one for one in found if one["type"] == name), {})

    async def report(self, agent: Key, annotation: str, text: str) -> None:
        """Write an annotation into the Lease of an Agent's guards, as a guard does, and reconcile the Agent."""
        (path,) = self.client.of_kind("Lease")
        lease = copy.deepcopy(self.client.objects[path])
        lease["metadata"].setdefault("annotations", {})[annotation] = text
        self.client.put(path, lease)
        self.watch_children()
        assert await self.turn(AGENT, agent)

    def watch_children(self) -> None:
        """Let the watch report all children as they are stored."""
        for cache in self.children.values():
            fill(cache, self.client)

    async def turn(self, kind: ResourceType, key: Key) -> bool:
        """Reconcile one object once."""
        self.queues[kind].cancel(key)
        succeeded = await self.loops[kind].turn(key)
        await self.events.close()
        self.watch_children()
        return succeeded

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Run one worker of each kind; each must still work when the context ends."""
        workers = [asyncio.create_task(loop.run()) for loop in self.loops.values()]
        try:
            yield
            assert not [worker for worker in workers if worker.done()], "a worker has ended"
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self.events.close()

    async def until_reconciled(self, kind: ResourceType, key: Key) -> None:
        """Wait until the operator has written the status of an object."""
        await until(
            lambda: self.status(kind, key).get("observedGeneration", -1) >= 1, f"{kind.kind} {key[1]} is reconciled", 20
        )


def fill(cache: ChildCache, client: FakeClient) -> None:
    """Let a cache have the children as they are stored, as the watch would."""
    for kind in CHILDREN:
        found = list(client.of_kind(kind.kind).values())
        for child in found:
            cache.put(kind.kind, child)
        for gone in set(cache.held(kind.kind)) - {key_of(child) for child in found}:
            cache.drop(kind.kind, gone, client.version)
