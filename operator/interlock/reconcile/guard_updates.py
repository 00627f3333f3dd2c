"""The update of one agent's guards to this version and these settings of the operator: what is written, how far it is.

Where agents take tasks, pods are replaced without a gap: the earlier ones drain next to their successors
(`pod_replacement`). That holds for a template that users have changed as well. A template that changes while earlier
pods drain waits until they are gone.

In isolation Separate an update replaces the pods of guards alone: the agent's pods keep the template that they have,
unless the agent is not ready for long, so that there is nothing to keep. Placements on their way out are not updated.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.cloud_identity import CloudIdentity
from interlock.api.egress import EgressRow
from interlock.api.policy import AgentPolicySpec, DataAccessRow
from interlock.api.status import AgentReason, AgentStatus, Condition, ConditionType, PodTemplateRecord
from interlock.deployment.children.config import compile_bundle
from interlock.deployment.names import (
    ChildKey,
    Manifest,
    guard_workload,
    key_of,
    name_of,
    workload_names,
)
from interlock.deployment.observed.readiness import readiness_of
from interlock.deployment.openings import withdraws
from interlock.deployment.ownership import AppliedObject, AppliedObjects
from interlock.deployment.placement import Placement
from interlock.deployment.plan import WORKLOAD, LiveChild, WritePlan, was_changed
from interlock.deployment.pod_replacement import pace_replacement
from interlock.deployment.pod_templates import (
    TemplateChoice,
    TemplateRecord,
    choose_template,
    digest_parts,
    keep_template,
    needed_by,
)
from interlock.orchestration.guard_waves import UpdateState
from interlock.orchestration.scale_down import Replacing
from interlock.reconcile.conditions import Finding, Truth
from interlock.reconcile.placements import RunningPlacement
from interlock.reconcile.snapshot import Snapshot
from interlock_contract.bundle_schema import SCHEMA_VERSION

UPDATE_DEADLINE: Final = timedelta(minutes=10)
"""How long after its update an agent that was Ready may take until it is so again, and how long separate agents' pods
that are not ready are kept."""
_KIND: Final = ConditionType.GUARD_UPDATED
_ROWS: Final = ("data_access", "egress", "cloud_identity")
_SELECTORS: Final = {"agents", "agent_selector"}
_AWAY: Final = "no new pod starts while the kill controller is away"


@dataclass(frozen=True)
class GuardUpdate:
    """What is decided about the pod templates of one agent.

    Attributes:
        desired: The manifests of all objects, with the templates that are kept.
        records: What to record about each Deployment once it is as desired.
        kept: Objects that pods with a kept template need, or one that is being replaced, whatever is desired otherwise.
        is_waiting: Pods of guards run with a template of another version of the operator, and go on doing so.
        is_updating: Such pods are replaced now.
        replaced: The Deployments whose pods are replaced for the version of the operator alone.
        is_draining: Pods of an earlier template drain, and their successors are Ready.
        is_postponed: An update waits for the end of that drain.
    """

    desired: tuple[Manifest, ...] = ()
    records: Mapping[str, TemplateRecord] = field(default_factory=dict)
    kept: frozenset[ChildKey] = frozenset()
    is_waiting: bool = False
    is_updating: bool = False
    replaced: frozenset[ChildKey] = frozenset()
    is_draining: bool = False
    is_postponed: bool = False


def decide_update(
    desired: tuple[Manifest, ...], placements: Sequence[RunningPlacement], snapshot: Snapshot, now: datetime
) -> GuardUpdate:
    """Return the manifests to write, with the pod templates that are kept.

    Guards that read no schema of the bundle that this operator writes, or not the one that their bundle needs, refuse
    everything. So they are replaced immediately.

    Args:
        desired: The manifests of all objects of the agent, as of today.
        placements: Its placements.
        snapshot: The snapshot.
        now: The time.
    """
    owner = {name: one for one in placements for name in _workloads(one.placement)}
    recorded = read_records(snapshot.agent.status)
    inputs = {name_of(one.placement): digest_inputs(one.placement, snapshot) for one in placements}
    taking_part = {name for name, one in owner.items() if _takes_part(one, name, snapshot, now)}
    written: list[Manifest] = []
    kept: list[Manifest] = []
    choices: dict[str, TemplateChoice] = {}
    records: dict[str, TemplateRecord] = {}
    postponed: set[str] = set()
    for manifest in desired:
        key = key_of(manifest)
        if key.kind != WORKLOAD or key.name not in owner:
            written.append(manifest)
            continue
        one, live, applied = owner[key.name], snapshot.children.get(key), snapshot.applied.get(key)
        choice = choose_template(
            manifest,
            live,
            applied,
            recorded.get(key.name),
            operator=snapshot.operator_version,
            inputs=inputs[name_of(one.placement)],
            is_first=_condition(snapshot.agent.status, _KIND) is None,
            may_update=key.name in taking_part and (is_unread(one) or not _waits_for(snapshot)),
        )
        choices[key.name] = choice
        drains, replacing = _may_drain(one, manifest, live, applied), one.replacing(key.name)
        paced = choice.manifest
        record: TemplateRecord | None = choice.record
        if live is not None and drains and replacing in _TAKEN_OVER:
            # A third template would end the pods that have just taken over. It is recorded once it is written.
            paced, record = keep_template(paced, live), recorded.get(key.name)
            postponed.add(key.name)
        kept += [paced] if choice.is_kept or paced is not choice.manifest else []
        if choice.is_outdated and live is not None:
            kept.append(live.manifest)  # the API server may refuse its successor for long
        written.append(pace_replacement(paced, live, drains=drains, may_end=replacing not in _HOLDING))
        records |= {key.name: record} if record is not None else {}
    counted = {name: choice for name, choice in choices.items() if name in taking_part}
    begun = {name for name, choice in counted.items() if choice.is_outdated and not choice.is_kept}
    replaced = begun - postponed
    return GuardUpdate(
        tuple(written),
        records,
        needed_by(kept),
        is_waiting=any(choice.is_kept for choice in counted.values()),
        is_updating=bool(replaced),
        replaced=frozenset(ChildKey(WORKLOAD, name) for name in replaced),
        is_draining=any(state in _TAKEN_OVER for one in placements for state in one.scale_down.replacing),
        is_postponed=bool(begun & postponed),
    )


_HOLDING: Final = (Replacing.STARTING, Replacing.DRAINING)
"""While pods of an earlier template must stay."""
_TAKEN_OVER: Final = (Replacing.DRAINING, Replacing.ENDING)
"""While they are still there, and others have taken over."""


def _may_drain(one: RunningPlacement, desired: Manifest, live: LiveChild | None, applied: AppliedObject | None) -> bool:
    """Return True if something may be under way in the pods of a Deployment, and they may finish it.

    They may not if others have changed them, or if they have more than is open now. Guards that read no bundle have
    nothing under way.
    """
    if live is None or applied is None or is_unread(one):
        return False
    return one.takes_tasks and not was_changed(live, applied) and not withdraws(desired, live.manifest)


def _workloads(placement: Placement) -> tuple[str, ...]:
    return workload_names(name_of(placement), placement.isolation)


def _takes_part(one: RunningPlacement, name: str, snapshot: Snapshot, now: datetime) -> bool:
    """Return True if a Deployment is updated: one with guards, or whose agent is not ready for long.

    Deployments of a placement on its way out are not.
    """
    if one.desired.is_draining:
        return False
    if name == guard_workload(one.placement):
        return True
    live = snapshot.children.get(ChildKey(WORKLOAD, name))
    ready = _condition(snapshot.agent.status, ConditionType.READY)
    is_late = ready is not None and ready.status == "False" and now - ready.last_transition_time >= UPDATE_DEADLINE
    return is_late and not readiness_of(live.manifest if live is not None else None).is_ready


def _waits_for(snapshot: Snapshot) -> str:
    """Return what an agent's update waits for, empty if it may begin."""
    return snapshot.may_update if snapshot.starts_pods else _AWAY


def is_unread(one: RunningPlacement) -> bool:
    """Return True if guards of a placement that run do not read the bundle that it needs."""
    schema = one.placement.bundle_schema
    if one.is_bundle_unread or schema == SCHEMA_VERSION:
        return one.is_bundle_unread
    return compile_bundle(one.placement).schema_version != schema


def digest_inputs(placement: Placement, snapshot: Snapshot) -> str:
    """Return the SHA-256, in hex, of what a placement's pod templates are built from, besides version and settings.

    Agent and bindings stand for their content by their generations. A policy's generation would change with each row
    for another agent, and so write the status of them all.
    """
    agent, policy = snapshot.agent, snapshot.policy
    sources = {use.source for use in agent.spec.bindings}
    bindings = tuple(one for one in snapshot.bindings if one.spec.source in sources)
    objects: tuple[Agent | MCPBinding, ...] = (agent, *bindings)
    generations = sorted((one.kind, one.metadata.name, one.metadata.uid, one.metadata.generation) for one in objects)
    rules = (policy.metadata.uid, _rules_for(agent, policy.spec)) if policy else ()
    key = hashlib.sha256(snapshot.operator_key).hexdigest()
    return digest_parts(
        generations, rules, key, astuple(placement.users), placement.guard_addresses, name_of(placement)
    )


def _rules_for(agent: Agent, spec: AgentPolicySpec) -> dict[str, Any]:
    """Return what a policy says about an agent: of its rows those for the agent, without whom else they are for.

    Fields with their default are left out: a field that a version adds must not count as a change by users.
    """
    said = spec.model_dump(mode="json", exclude_defaults=True, exclude=set(_ROWS))
    for name in _ROWS:
        rows: tuple[DataAccessRow | EgressRow | CloudIdentity, ...] = getattr(spec, name)
        own = [row for row in rows if row.applies_to(agent.metadata)]
        said[name] = [row.model_dump(mode="json", exclude_defaults=True, exclude=_SELECTORS) for row in own]
    return said


def read_records(status: AgentStatus | None) -> dict[str, TemplateRecord]:
    """Return what a status records about the pod templates of Deployments, by their names."""
    found = status.pod_templates if status is not None else ()
    return {one.name: TemplateRecord(one.operator, one.inputs, one.template) for one in found}


def write_records(
    update: Mapping[str, TemplateRecord], before: AgentStatus | None, plan: WritePlan, written: AppliedObjects
) -> tuple[PodTemplateRecord, ...]:
    """Return what the status must record: of a Deployment that was not written, what it recorded before.

    Otherwise a change of a user that could not be written would count as one of the operator, and wait.

    Args:
        update: What to record about each Deployment once it is as desired.
        before: The status before.
        plan: The plan.
        written: What the writes of the plan left.
    """
    known = read_records(before)
    pending = {key_of(one) for one in plan.workloads} | set(plan.held)
    found = {
        name: known.get(name) if (key := ChildKey(WORKLOAD, name)) in pending and key not in written else record
        for name, record in update.items()
    }
    return tuple(
        PodTemplateRecord(name=name, operator=one.operator, inputs=one.inputs, template=one.template)
        for name, one in sorted(found.items())
        if one is not None
    )


@dataclass(frozen=True)
class _Course:
    """How far the update of one agent is.

    Attributes:
        update: What was decided.
        before: The condition GuardUpdated until now.
        was_ready: Whether the condition Ready was True until now.
        is_ready: Whether all of its pods that serve are ready now.
        now: The time.
    """

    update: GuardUpdate
    before: Condition | None
    was_ready: bool
    is_ready: bool
    now: datetime

    def is_after(self, *reasons: AgentReason) -> bool:
        """Return True if one of these was the condition's reason until now."""
        return self.before is not None and self.before.reason in reasons

    @property
    def is_retry(self) -> bool:
        """It has failed by an update before."""
        return self.is_after(AgentReason.GUARD_UPDATE_FAILED, AgentReason.GUARD_RETRY_WAITING)

    @property
    def is_under_way(self) -> bool:
        """It was being updated, or begins to be: an agent that was Ready before, or that has failed before."""
        begins = self.update.is_updating and (self.is_retry or self.was_ready)
        return begins or self._began or self.is_after(AgentReason.GUARD_UPDATE_REFUSED)

    @property
    def is_late(self) -> bool:
        """The deadline of its update is over."""
        return (
            self.before is not None and self._began and self.now - self.before.last_transition_time >= UPDATE_DEADLINE
        )

    @property
    def has_taken_over(self) -> bool:
        """The pods of this version serve."""
        return self.is_ready and not self.update.is_updating

    @property
    def is_drain(self) -> bool:
        """Pods of an earlier version drain longer than others wait for, or a further update waits for them."""
        is_long = self.update.is_postponed or self.is_late or self.is_after(AgentReason.GUARD_DRAINING)
        return self.has_taken_over and self.update.is_draining and is_long

    @property
    def is_refused(self) -> bool:
        """The update could not be written in time."""
        return self.update.is_updating and (self.is_after(AgentReason.GUARD_UPDATE_REFUSED) or self.is_late)

    @property
    def has_failed(self) -> bool:
        """The pods of this version have not served in time."""
        return (self._stays_failed or self.is_late) and not self.has_taken_over

    @property
    def is_done(self) -> bool:
        """The pods of this version serve, and no earlier ones are left."""
        return self.has_taken_over and not self.update.is_draining

    @property
    def _stays_failed(self) -> bool:
        is_another = self.update.is_waiting or self.update.is_updating
        return self.is_after(AgentReason.GUARD_UPDATE_FAILED) and not is_another

    @property
    def _began(self) -> bool:
        return self._stays_failed or self.is_after(AgentReason.GUARD_UPDATING)


def update_finding(
    update: GuardUpdate, snapshot: Snapshot, now: datetime, *, has_pods: bool, is_ready: bool, trouble: str
) -> Finding:
    """Return the condition GuardUpdated.

    Only an agent that was Ready before its update can fail by it, or one that has failed by an update before. One
    without pods has nothing to update. Other agents do not wait for a drain that outlasts the deadline, or that an
    update of this one waits for. Nor do they wait for an update that the API server refuses: it replaces no pod.

    Args:
        update: What was decided.
        snapshot: The snapshot, with the conditions until now.
        now: The time.
        has_pods: Whether the agent is to have pods.
        is_ready: Whether all of its pods that serve are ready.
        trouble: Why they are not.
    """
    status = snapshot.agent.status
    was_ready = _is_true(_condition(status, ConditionType.READY))
    course = _Course(update, _condition(status, _KIND), was_ready, is_ready, now)
    has_waited = course.is_retry and not is_ready
    waiting = AgentReason.GUARD_RETRY_WAITING if has_waited else AgentReason.GUARD_UPDATE_WAITING
    failed = (
        f"not ready within {_DEADLINE} of the update of its guards: {trouble}; no other agent is updated until this "
        "one is ready, killed, scaled to 0 or deleted"
    )
    outcomes: tuple[tuple[bool, Truth, AgentReason, str], ...] = (
        (not has_pods, "True", AgentReason.GUARD_CURRENT, "no pods run, so there is no guard to update"),
        (update.is_waiting, "False", waiting, f"{_EARLIER}: {_waits_for(snapshot)}"),
        (course.is_drain, "False", AgentReason.GUARD_DRAINING, _DRAINING),
        (course.is_refused, "False", AgentReason.GUARD_UPDATE_REFUSED, _REFUSED),
        (course.is_done or not course.is_under_way, "True", AgentReason.GUARD_CURRENT, _CURRENT),
        (course.has_failed, "False", AgentReason.GUARD_UPDATE_FAILED, failed),
        (True, "Unknown", AgentReason.GUARD_UPDATING, _UPDATING),
    )
    return next(Finding(_KIND, truth, reason, message) for applies, truth, reason, message in outcomes if applies)


_DEADLINE: Final = f"{UPDATE_DEADLINE // timedelta(minutes=1)} min"
_EARLIER: Final = "the guards are those of another version of the operator, or of other settings"
_CURRENT: Final = "the guards are those of this version of the operator"
_UPDATING: Final = (
    "the pods of guards are replaced with those of this version of the operator, and drain if they have tasks; soaks "
    "pause while pods are not ready"
)
_REFUSED: Final = (
    f"{_EARLIER}: the update could not be written within {_DEADLINE}, and Deployed says why; no other agent waits for "
    "it"
)
_DRAINING: Final = (
    "new guards serve, and pods with earlier ones still finish their tasks, for spec.rollout.drainTimeout at most; "
    "no other agent waits for them, and a further update of this one does"
)


def update_due_at(status: AgentStatus, now: datetime) -> datetime | None:
    """Return when an update that is under way fails, None without one, or if its pods have taken over in time."""
    found = _condition(status, _KIND)
    if found is None or found.reason != AgentReason.GUARD_UPDATING:
        return None
    due_at = found.last_transition_time + UPDATE_DEADLINE
    return due_at if due_at > now else None


def state_of(status: AgentStatus | None) -> UpdateState:
    """Return how far the update of an agent is, as its status says."""
    found = _condition(status, _KIND)
    return UpdateState.UPDATED if found is None else _STATES.get(found.reason, UpdateState.UPDATED)


_STATES: Final[Mapping[str, UpdateState]] = {
    AgentReason.GUARD_UPDATE_WAITING: UpdateState.WAITING,
    AgentReason.GUARD_RETRY_WAITING: UpdateState.WAITING,
    AgentReason.GUARD_UPDATING: UpdateState.UPDATING,
    AgentReason.GUARD_UPDATE_FAILED: UpdateState.FAILED,
    AgentReason.GUARD_UPDATE_REFUSED: UpdateState.REFUSED,
}


def _condition(status: AgentStatus | None, kind: ConditionType) -> Condition | None:
    return next((one for one in status.conditions if one.type == kind), None) if status is not None else None


def _is_true(condition: Condition | None) -> bool:
    return condition is not None and condition.status == "True"
