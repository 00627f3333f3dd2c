"""One look at one agent: read, reconcile, carry out, report. The same for whatever asked for it."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import aiohttp

from interlock.api.agent import Agent
from interlock.api.shared_types import ObjectMeta
from interlock.api.status import AgentStatus
from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.resource_cache import Key, ResourceCache
from interlock.cluster.snapshots import SnapshotReader
from interlock.cluster.status_writer import StatusWriter
from interlock.deployment.observed.enforcement import drifts_of
from interlock.reconcile.agent import ReconcileResult, reconcile
from interlock.reconcile.agent_events import transitions
from interlock.reconcile.agent_status import with_failure
from interlock.reconcile.snapshot import Snapshot
from interlock.runtime.loop import WorkQueue
from interlock.telemetry import AGENTS, RECONCILE_SECONDS, RECONCILES
from interlock_kube.client import ApiError, Json

_log = logging.getLogger(__name__)

SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class AgentIO:
    """The I/O that a look needs."""

    primaries: ResourceCache
    reader: SnapshotReader
    applier: Applier
    reporter: StatusWriter
    clock: Callable[[], datetime]


class AgentReconciler:
    """Looks at agents as the queue asks for it."""

    def __init__(
        self, edge: AgentIO, queue: WorkQueue[Key], hear_drift: Callable[[Key, datetime], None] = lambda _key, _at: None
    ) -> None:
        self._edge = edge
        self._hear_drift = hear_drift
        self._queue = queue
        self._events: set[asyncio.Task[None]] = set()

    async def look(self, key: Key) -> bool:
        """Bring one agent to where its spec wants it, or say why not; False asks for another try."""
        with RECONCILE_SECONDS.time():
            AGENTS.set(len(self._edge.primaries.agents()))
            world = self._edge.reader.world_of(key)
            if world is None:
                self._queue.forget(key)
                return True
            try:
                succeeded = await self._carry_out(key, world)
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                _log.warning("look failed", extra={"agent": "/".join(key), "error": str(error) or repr(error)})
                succeeded = False
            except Exception:  # noqa: BLE001 - a defect of ours on one agent must not end the operator for all others
                _log.exception("look crashed", extra={"agent": "/".join(key)})
                succeeded = False
        RECONCILES.labels("ok" if succeeded else "failed").inc()
        return succeeded

    async def _carry_out(self, key: Key, world: Snapshot) -> bool:
        agent = world.agent
        for binding, seen_at in drifts_of(world.children, world.bindings).items():
            self._hear_drift((agent.metadata.namespace, binding), seen_at)
        outcome = reconcile(world, self._edge.clock())
        status = outcome.status
        try:
            await self._edge.applier.carry_out(outcome.plan, agent.metadata.namespace, agent.metadata.name)
            succeeded = True
        except ApplyFailed as failure:
            status = with_failure(status, agent, str(failure), self._edge.clock())
            succeeded = False
        written = await self._edge.reporter.report(agent, status)
        if written is not None:
            if self._edge.primaries.agent(key) is not None:  # else it was deleted meanwhile, and must stay forgotten
                self._edge.primaries.put_agent(written)
            if _has_changed(agent, written):
                self._queue.add(key)  # the watch will bring what is known by then, so it asks for no look
            self._tell(agent, status)
        self._schedule(key, outcome, is_settled=outcome.plan.is_empty and _is_same_stage(agent, status))
        return succeeded

    def _schedule(self, key: Key, outcome: ReconcileResult, *, is_settled: bool) -> None:
        """Ask for the next look, in place of any that was asked for: the look that a change asks for replaces it.

        Whoever is not settled is looked at again even if nothing more is heard of: children may have been ready before
        a stage was recorded (a crash between the two), or have changed in what moves no other controller.
        """
        due = [] if outcome.look_again_at is None else [(outcome.look_again_at - self._edge.clock()).total_seconds()]
        if not is_settled:
            due.append(SETTLE_SECONDS)
        if due:
            self._queue.add_after(key, min(due))
        else:
            self._queue.cancel(key)

    def _tell(self, agent: Agent, status: AgentStatus) -> None:
        """Post the Events of what has changed, without waiting for them."""
        for note in transitions(agent.status, status):
            _log.info(
                note.message,
                extra={"agent": f"{agent.metadata.namespace}/{agent.metadata.name}", "reason": note.reason},
            )
            task = asyncio.create_task(self._edge.reporter.post(agent, note, self._edge.clock()))
            self._events.add(task)
            task.add_done_callback(self._events.discard)


def _is_same_stage(agent: Agent, status: AgentStatus) -> bool:
    """Tell whether the agent was in this very stage before."""
    before, after = agent.status.stage if agent.status else None, status.stage
    return before == after or (before is not None and after is not None and before.entered_at == after.entered_at)


def _has_changed(agent: Agent, written: Json) -> bool:
    """Tell whether a user's change came between what was looked at and the status that was written onto it."""
    before, now = agent.metadata, ObjectMeta.model_validate(written["metadata"])
    return (before.generation, before.labels, before.annotations, before.deletion_timestamp) != (
        now.generation,
        now.labels,
        now.annotations,
        now.deletion_timestamp,
    )
