"""The reconcile of one Agent with the API server: read the snapshot, decide, write the children, then the status."""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from prometheus_client import Counter

from interlock.api.agent import Agent
from interlock.api.status import MAX_MANAGED_OBJECTS, AgentReason, AgentStatus, Condition, ConditionType
from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.event_poster import EventPoster
from interlock.cluster.kept_metadata import has_changed
from interlock.cluster.resource_cache import ResourceCache
from interlock.cluster.status_writer import StatusWriter
from interlock.deployment.names import ChildKey
from interlock.deployment.observed.enforcement import drifts_of
from interlock.deployment.ownership import AppliedObjects
from interlock.deployment.plan import ENFORCEMENT_BOUND, SECRET, unrestored, workloads_of
from interlock.reconcile.agent import ReconcileResult
from interlock.reconcile.agent_events import EventNote, EventReason, transitions
from interlock.reconcile.agent_status import enforcement_lost_message, with_failure
from interlock.reconcile.guard_updates import write_records
from interlock.reconcile.managed_objects import record_applied
from interlock.reconcile.snapshot import Snapshot
from interlock.reconcile.withdrawn_pods import brake_notes, is_altered, with_brake, withdrawal_notes
from interlock.runtime.agent_decision import AgentDecider
from interlock.runtime.denial_events import DenialEvents
from interlock.runtime.withdrawal_brake import WithdrawalBrake
from interlock.telemetry import AGENTS, ENFORCEMENT_LOST, GATES_BREACHED, STAGE_TESTS
from interlock_kube.resource_types import Key

_log = logging.getLogger(__name__)

_COUNTED: Final[dict[str, Counter]] = {
    AgentReason.GATE_BREACHED: GATES_BREACHED,
    EventReason.TEST_ENDED: STAGE_TESTS,
}
"""What counts an Event, by its reason."""
SETTLE_SECONDS = 1.0
POD_END_SECONDS = 5.0
"""Seconds until the next attempt to delete NetworkPolicies of which pods are left."""


@dataclass(slots=True)
class _Failing:
    """The failures in a row of one Agent.

    Attributes:
        since: When the first of them was.
        lost_since: Since when an object that enforcement rests on could not be restored, None while all are there.
        is_without_pods: Whether the Agent has lost its pods because of that.
    """

    since: datetime
    lost_since: datetime | None = None
    is_without_pods: bool = False


class AgentReconciler:
    """Reconciles Agents.

    Args:
        cache: The objects that users apply.
        decider: Decides what has to be done.
        applier: Writes children.
        writer: Writes the status.
        events: Posts Events.
        clock: Returns the time.
        wake: Enqueues an Agent and its ledgers.
        report_drift: Called for each MCPBinding whose tools a guard found changed, with the time of that observation.
    """

    def __init__(
        self,
        *,
        cache: ResourceCache,
        decider: AgentDecider,
        applier: Applier,
        writer: StatusWriter,
        events: EventPoster,
        clock: Callable[[], datetime],
        wake: Callable[[Key], None],
        report_drift: Callable[[Key, datetime], None] = lambda _key, _at: None,
    ) -> None:
        self._cache = cache
        self._decider = decider
        self._applier = applier
        self._writer = writer
        self._events = events
        self._clock = clock
        self._wake = wake
        self._report_drift = report_drift
        self._denials = DenialEvents(events)
        self._brake = WithdrawalBrake()
        self._failing: dict[Key, _Failing] = {}
        self._secrets: dict[Key, datetime] = {}
        """When the Secret of an Agent was last created, or found to exist."""

    async def reconcile(self, key: Key) -> float | None:
        """Bring one Agent to what its spec wants, or report why that is refused.

        Returns:
            Seconds until the next reconcile; None where only an event is a reason for one.

        Raises:
            ApplyFailed: The API server refused a child; the status says so.
            ApiError: The API server refused the status.
        """
        AGENTS.set(self._cache.agent_count())
        now = self._clock()
        decided = await self._decider.decide(key, now, self._secrets.get(key))
        if decided is None:
            self._forget_failures(key)
            self._secrets.pop(key, None)
            self._denials.forget(key)
            self._brake.forget(key)
            return None
        snapshot, agent, result = decided.snapshot, decided.snapshot.agent, decided.result
        braked = self._brake.choose(key, result.withdrawn, now, is_altered=is_altered(agent.status))
        status = with_brake(result.status, braked.held, braked.rounds)
        result = replace(result, withdrawn=braked.ended, status=status)
        self._pass_on(snapshot, now)
        self._post(key, agent, brake_notes(braked.held, braked.rounds))
        agent, is_recorded = await self._announce(key, agent, result)
        written: AppliedObjects = {}
        try:
            await self._applier.mark_pods(agent.metadata.namespace, result.marks)
            written = await self._applier.carry_out(
                result.plan,
                agent.metadata.namespace,
                agent.metadata.name,
                snapshot.applied,
                ends=(*result.withdrawn, *result.overdue),
                may_start_pods=functools.partial(self._decider.may_start_pods, key, agent.metadata.uid),
            )
            self._note_ends(key, agent, result)
        except ApplyFailed as failure:
            failure.written = failure.written or written
            await self._handle_failure(key, agent, snapshot, result, failure)
            raise
        self._forget_failures(key)
        if any(one.kind == SECRET for one in written):
            self._secrets[key] = now
        status = _with_written(result, snapshot, agent, written)
        if decided.failure is not None:
            reason, known = decided.failure.reason, agent.status.conditions if agent.status else ()
            status = with_failure(status, reason, str(decided.failure), known, agent.metadata.generation, now)
        await self._report(key, agent, status)
        if not is_recorded:
            self._post(key, agent, result.events)
        if decided.failure is not None:
            raise decided.failure
        due = [(at - self._clock()).total_seconds() for at in (result.requeue_at, braked.next_at) if at is not None]
        if not result.plan.is_empty or not _is_same_rollout(agent, result.status):
            # The next reconcile comes even without an event. Children may have been ready before the stage was recorded
            # (a crash between the two), or have changed in a field whose change no other controller reports.
            due.append(POD_END_SECONDS if result.plan.waits_for_pods else SETTLE_SECONDS)
        return min(due, default=None)

    def _pass_on(self, snapshot: Snapshot, now: datetime) -> None:
        """Pass on what guards report about tools and denials."""
        agent = snapshot.agent
        for binding, seen_at in drifts_of(snapshot.children, snapshot.bindings, now).items():
            self._report_drift((agent.metadata.namespace, binding), seen_at)
        self._denials.post(agent, snapshot.children, now)

    async def _announce(self, key: Key, agent: Agent, result: ReconcileResult) -> tuple[Agent, bool]:
        """Let the status name new bundles, and what the rollout has decided, before the plan is carried out.

        The guards of a new Agent have no pod yet, so the status that follows the plan is early enough for them. The
        plan of a new stage ends pods of the one before. Only these show how long it was Ready, so after a crash it
        would have to soak again. A revision's number, an abort and a drain are likewise recorded before they are seen.
        Ready goes with them where it is no longer True: who waits for a number and then for Ready means its own pods.

        Returns:
            The Agent, and whether its status has what the rollout has decided.
        """
        status, update = agent.status, dict[str, Any]()
        if status is None:
            return agent, False
        if status.bundle_digests and not set(result.announced) <= set(status.bundle_digests):
            update["bundle_digests"] = result.announced
        changes_objects = not result.plan.is_empty and status.stage is not None
        is_recorded = changes_objects and not _is_same_rollout(agent, result.status)
        if is_recorded:
            update |= {name: getattr(result.status, name) for name in ("stage", "rollout", "history")}
            update["conditions"] = _with_lost_ready(status.conditions, result.status.conditions)
        if not update:
            return agent, False
        status = status.model_copy(update=update)
        await self._report(key, agent, status)
        if is_recorded:
            self._post(key, agent, result.events)
        return agent.model_copy(update={"status": status}), is_recorded

    async def _handle_failure(
        self, key: Key, agent: Agent, snapshot: Snapshot, result: ReconcileResult, failure: ApplyFailed
    ) -> None:
        """Report a failure; where it lasts, end pods without enforcement, and what the failed change replaces.

        Guards obey the earlier bundle as long as the pods may run without a restored object, and no longer. So the pods
        of an earlier revision or stage are of no use then, and new ones may wait for their room in a quota. They end
        sooner if the status has no room for the objects of one more revision.
        """
        now = self._clock()
        reason, message = failure.reason, str(failure)
        failing = self._failing.setdefault(key, _Failing(since=now))
        lost = tuple(
            key for key in unrestored(result.plan, snapshot.applied, failure.written) if key not in result.replaced
        )
        if not lost:
            failing.lost_since = None
            # NetworkPolicies and Deployments are as they must be. A user who can have another request refused, such as
            # the deletion of a surplus object, must not keep pods that were started with more.
            try:
                await self._applier.end_pods(key[0], result.withdrawn)
                self._note_ends(key, agent, result)
            except ApplyFailed as refusal:
                message = message if str(refusal) == message else f"{message}; {refusal}"
        elif failing.lost_since is None:
            failing.lost_since = now
            asyncio.get_running_loop().call_later(ENFORCEMENT_BOUND.total_seconds(), self._wake, key)
        others = (snapshot.children.keys() | snapshot.applied.keys()) - result.managed
        is_recent = not _is_over(failing.since, now)
        ended: list[ChildKey] = []
        is_too_much = len(result.managed) + len(others) > MAX_MANAGED_OBJECTS
        if result.plan.has_writes and (is_too_much or not is_recent):  # otherwise the prune itself has failed
            ended += result.plan.prune
        if failing.lost_since is not None and _is_over(failing.lost_since, now):
            reason, message = AgentReason.ENFORCEMENT_LOST, enforcement_lost_message(lost, message)
            failing.is_without_pods = True
            ended += workloads_of(result.managed | others)
        try:
            await self._applier.prune(dict.fromkeys(ended), *key, snapshot.applied)
            others = others.difference(result.plan.prune if ended else ())
        except ApplyFailed as refusal:  # the status must say what guards obey in any case
            message = f"{message}; {refusal}"
        self._count_lost()
        known = agent.status.conditions if agent.status else ()
        status = with_failure(result.status, reason, message, known, agent.metadata.generation, now)
        kept = (*result.managed, *sorted(others)[: MAX_MANAGED_OBJECTS - len(result.managed)])
        update = {
            "managed_objects": record_applied(kept, snapshot.applied, failure.written),
            "bundle_digests": result.announced if is_recent else result.status.bundle_digests,
            "pod_templates": write_records(result.templates, agent.status, result.plan, failure.written),
        }
        await self._report(key, agent, status.model_copy(update=update))

    def _note_ends(self, key: Key, agent: Agent, result: ReconcileResult) -> None:
        """Note that withdrawn pods were ended: what they had is closed by then."""
        self._brake.record(key)
        self._post(key, agent, withdrawal_notes(result.withdrawn))

    def _forget_failures(self, key: Key) -> None:
        if self._failing.pop(key, None) is not None:
            self._count_lost()

    def _count_lost(self) -> None:
        ENFORCEMENT_LOST.set(sum(failing.is_without_pods for failing in self._failing.values()))

    async def _report(self, key: Key, agent: Agent, status: AgentStatus) -> None:
        """Write the status where it has changed, keep the answer, and post the Events of the change."""
        written = await self._writer.write_agent(agent, status)
        if written is None:
            return
        if self._cache.agent(key) is not None:  # otherwise it was deleted meanwhile, and must stay forgotten
            self._cache.put_agent(written)
        if has_changed(agent.metadata, written):
            self._wake(key)  # the watch event will have the version that is cached now, so it wakes nothing
        self._post(key, agent, transitions(agent.status, status))

    def _post(self, key: Key, agent: Agent, notes: Iterable[EventNote]) -> None:
        for note in notes:
            _log.info(note.message, extra={"agent": "/".join(key), "reason": note.reason})
            if note.reason in _COUNTED:
                _COUNTED[note.reason].inc()
            self._events.post(agent, note)


def _with_written(result: ReconcileResult, snapshot: Snapshot, agent: Agent, written: AppliedObjects) -> AgentStatus:
    """Return the status with what the writes of a plan left."""
    managed = record_applied(result.managed, snapshot.applied, written)
    templates = write_records(result.templates, agent.status, result.plan, written)
    return result.status.model_copy(update={"managed_objects": managed, "pod_templates": templates})


def _with_lost_ready(known: Iterable[Condition], decided: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return the known conditions, with the decided Ready in place of theirs unless it is True."""
    lost = next((one for one in decided if one.type == ConditionType.READY and one.status != "True"), None)
    return tuple(lost if lost is not None and one.type == ConditionType.READY else one for one in known)


def _is_over(since: datetime, now: datetime) -> bool:
    """Return True once pods may no longer run without enforcement, also where the clock was set back since."""
    return not timedelta() <= now - since < ENFORCEMENT_BOUND


def _is_same_rollout(agent: Agent, status: AgentStatus) -> bool:
    """Return True if the agent was in this very stage before, and its rollout has come to the same."""
    before = agent.status or AgentStatus()
    entered = [one.stage and (one.stage.number, one.stage.entered_at) for one in (before, status)]
    return entered[0] == entered[1] and before.rollout == status.rollout
