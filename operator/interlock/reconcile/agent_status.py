"""The status of an Agent: its conditions in layer order, with messages for people, its rollout and its enforcement."""

import functools
from collections.abc import Iterable
from datetime import datetime, timedelta

from interlock.api.agent import Agent
from interlock.api.budget_status import BudgetStatus
from interlock.api.refusals import Refusal, sources_without_row
from interlock.api.rollout_status import PlacementStatus
from interlock.api.status import AgentReason, AgentStatus, Condition, ConditionType, EnforcementStatus, StageStatus
from interlock.deployment.names import ChildKey, Manifest, agent_workload, key_of, selector
from interlock.deployment.observed.readiness import readiness_of
from interlock.deployment.plan import ENFORCEMENT_BOUND, WORKLOAD
from interlock.orchestration.soak import StageFacts
from interlock.reconcile.agent_report import AgentReport, killed_message
from interlock.reconcile.claims import claim_holders, claims_to_keep, earlier_claims
from interlock.reconcile.conditions import Finding, build_condition
from interlock.reconcile.egress import egress_of, open_network
from interlock.reconcile.guard_updates import update_finding
from interlock.reconcile.layers import announced_claims
from interlock.reconcile.placements import RunningPlacement
from interlock.reconcile.policy_enforced import WAITING, enforced_finding, waiting_finding
from interlock.reconcile.promotion import promotion_finding
from interlock.reconcile.ready_condition import ready_finding
from interlock.reconcile.rollout_conditions import describe_work, rollout_findings
from interlock.reconcile.rollout_history import history_of
from interlock.reconcile.rollout_status import RolloutRecord, write_rollout, write_stage
from interlock.reconcile.stage_tests import recorded_tests

_LAYERS = (ConditionType.GOVERNED, ConditionType.ORCHESTRATED, ConditionType.ACTIONS_BOUND, ConditionType.DEPLOYED)
_SATISFIED = {
    ConditionType.GOVERNED: (AgentReason.GOVERNANCE_SATISFIED, "owner, purpose, policy and data access are complete"),
    ConditionType.ORCHESTRATED: (AgentReason.ROLLOUT_PLANNED, "the rollout satisfies the policy's minimums"),
    ConditionType.ACTIONS_BOUND: (AgentReason.BINDINGS_RESOLVED, "every source has one MCPBinding in every stage"),
    ConditionType.DEPLOYED: (AgentReason.APPLIED, "all managed objects are up to date"),
}

_OF_DEPLOYMENT = (
    AgentReason.PODS_READY,
    AgentReason.PODS_NOT_READY,
    AgentReason.IMAGE_CHANGED,
    AgentReason.NEW_REVISION_STARTING,
    AgentReason.SCALED_TO_ZERO,
    AgentReason.WAITING_FOR_DEPLOYMENT,
    AgentReason.WAITING_FOR_OPERATOR,
    AgentReason.NAME_TAKEN,
    AgentReason.ENFORCEMENT_LOST,
)
"""Reasons of Ready that a failure to deploy replaces."""


def build_status(report: AgentReport, now: datetime) -> AgentStatus:
    """Return the status. It leaves `status.kill` out, which belongs to the kill controller."""
    agent, current = report.agent, report.current
    enforced, is_ready = enforced_finding(report), ready_finding(report)
    findings = (
        *_layers(report),
        is_ready,
        _stalled(report, now),
        _killed(report),
        enforced,
        _egress(report),
        _promotion(report),
        *rollout_findings(report),
        _budget(report),
        _guard_update(report, is_ready, enforced, now),
    )
    ready = report.ready_pods(current) if current is not None else 0
    replicas, selected = _scale(report)
    return AgentStatus(
        observed_generation=agent.metadata.generation,
        conditions=tuple(_condition(agent, finding, now) for finding in findings),
        ready_replicas=ready,
        ready_summary=f"{ready}/{agent.spec.replicas if current is None else current.replicas}",
        replicas=replicas,
        selector=selected,
        stage=_stage(report),
        rollout=None
        if report.revisions.is_unstored
        else write_rollout(_record(report), _sources(report), _claims(report)),
        placements=tuple(map(functools.partial(_placement, report), report.placements)),
        history=history_of(agent, report.decision, now),
        enforcement=_enforcement(report) if enforced.status == "True" else None,
        budget=_budget_status(report),
    )


def _scale(report: AgentReport) -> tuple[int, str]:
    """Return how many agent pods there are of the placement that serves the rest, and the label selector of these pods.

    Pods that a Deployment asks for count although its controller has not counted them yet, unless it reports that it
    cannot create them. Otherwise, the number would lag behind each change, and cost one more write.

    An autoscaler measures what the selector selects and changes `spec.replicas`. So there is no selector if the stage
    of that placement has a number of its own, or the agent has claims and so one pod: neither would follow.
    """
    rest = report.find(report.decision.public)
    if rest is None:
        return 0, ""
    replicas = _pods_of(report, ChildKey(WORKLOAD, agent_workload(rest.placement)))
    if rest.claims or not report.agent.spec.is_scaled(rest.key.stage):
        return replicas, ""
    return replicas, ",".join(f"{name}={value}" for name, value in sorted(selector(rest.placement).items()))


def _pods_of(report: AgentReport, key: ChildKey) -> int:
    live = report.snapshot.children.get(key)
    manifest = live.manifest if live is not None else _planned(report, key)
    if manifest is None:
        return 0
    pods = int((manifest.get("status") or {}).get("replicas", 0))
    return pods if readiness_of(manifest).refused else max(pods, int(manifest["spec"].get("replicas", 1)))


def _planned(report: AgentReport, key: ChildKey) -> Manifest | None:
    return next((one for one in report.plan.workloads if key_of(one) == key), None)


def _record(report: AgentReport) -> RolloutRecord:
    collisions = {**report.collisions, **{one.key: one.collisions for one in report.placements}}
    tests = recorded_tests(report.tests.recorded, report.facts)
    scale_downs = {one.key: one.scale_down.pods for one in report.placements if one.scale_down.pods}
    digests = report.revisions.content_digests
    return RolloutRecord(report.facts, collisions, digests, tests=tests, scale_downs=scale_downs, images=report.images)


def _sources(report: AgentReport) -> tuple[str, ...]:
    return tuple(sorted({use.source for one in report.placements for use in one.placement.agent.spec.bindings}))


def _claims(report: AgentReport) -> tuple[str, ...]:
    """Return the claims that no other agent gets: those of placements, of earlier ones, and of pods that are ending."""
    facts, known = report.facts, report.revisions.known
    refs = (facts.newest, facts.good.ref if facts.good is not None else None)
    specs = (known[ref.digest].content.agent for ref in refs if ref is not None and ref.digest in known)
    earlier = earlier_claims(report.snapshot, announced_claims(report.agent), specs)
    holders = claim_holders(report.snapshot, ()).values()
    return claims_to_keep((one.claims for one in report.placements), earlier, (one.claims for one in holders))


def _placement(report: AgentReport, one: RunningPlacement) -> PlacementStatus:
    wanted = 0 if report.killed is not None else one.wanted
    return PlacementStatus(
        revision=one.desired.ref.name,
        stage=one.key.stage,
        environment=one.desired.stage.environment,
        serves=describe_work(one),
        ready=min(report.ready_pods(one), wanted),
        wanted=wanted,
        exhausted=None if one.budget.status is None else one.budget.status.exhausted,
    )


def _budget_status(report: AgentReport) -> BudgetStatus | None:
    """Return the budget of the current placement's environment, or what is recorded while there is none."""
    if report.current is not None:
        return report.current.budget.status
    return report.agent.status.budget if report.agent.status else None


def with_failure(
    status: AgentStatus,
    reason: AgentReason,
    message: str,
    known: Iterable[Condition],
    generation: int,
    now: datetime,
) -> AgentStatus:
    """Return the status after a failure: Deployed is False and says why.

    Ready is False, too, unless its reason is a refusal or a kill: that is what people must act on. Stalled is True if
    the failure lasts until a user changes an object.

    Args:
        status: The status without the failure.
        reason: Why Deployed is False.
        message: The same as a sentence.
        known: The conditions of the Agent until now, for the times of their last transitions.
        generation: Of the Agent's spec.
        now: The time.
    """
    ready = next((one for one in status.conditions if one.type == ConditionType.READY), None)
    failed = {
        ConditionType.DEPLOYED: Finding(ConditionType.DEPLOYED, "False", reason, message),
        ConditionType.READY: Finding(ConditionType.READY, "False", AgentReason.WAITING_FOR_DEPLOYMENT, message),
    }
    if reason in (AgentReason.NAME_TAKEN, AgentReason.ENFORCEMENT_LOST):
        failed[ConditionType.READY] = Finding(ConditionType.READY, "False", reason, message)
        failed[ConditionType.STALLED] = Finding(ConditionType.STALLED, "True", reason, message)
    if ready is not None and ready.reason not in _OF_DEPLOYMENT:
        failed = {ConditionType.DEPLOYED: failed[ConditionType.DEPLOYED]}
    built = {str(kind): build_condition(finding, generation, known, now) for kind, finding in failed.items()}
    kept = {one.type: one for one in status.conditions}
    order = (*kept, *(kind for kind in built if kind not in kept))
    return status.model_copy(update={"conditions": tuple(built.get(kind) or kept[kind] for kind in order)})


def enforcement_lost_message(lost: Iterable[ChildKey], because: str) -> str:
    """Return why an agent has no pods.

    Args:
        lost: The objects that could not be restored.
        because: The failure of the last attempt.
    """
    names = ", ".join(f"{key.kind} {key.name}" for key in sorted(lost))
    return (
        f"the agent has no pods because {names} could not be restored for {ENFORCEMENT_BOUND.total_seconds():.0f} s: "
        f"{because}; fix that, then its pods start automatically"
    )


def _layers(report: AgentReport) -> list[Finding]:
    findings = []
    verdict, refused = report.verdict, False
    for layer in _LAYERS:
        if layer == verdict.layer and verdict.refusal is not None:
            findings.append(Finding(layer, "False", verdict.refusal.reason, verdict.refusal.message))
            refused = True
        elif refused and verdict.layer is not None:
            findings.append(Finding(layer, "Unknown", WAITING[verdict.layer], f"waiting for {verdict.layer}"))
        else:
            reason, message = _SATISFIED[layer]
            is_governance = layer is ConditionType.GOVERNED
            findings.append(Finding(layer, "True", reason, message + (_rows_missing(report) if is_governance else "")))
    return findings


def _rows_missing(report: AgentReport) -> str:
    """Return which sources have no row although governance is satisfied, which only mode Audit allows."""
    policy = report.snapshot.policy
    missing = () if policy is None else sources_without_row(report.agent.metadata, report.agent.spec, policy.spec)
    return f"; in mode Audit: no dataAccess row for {', '.join(missing)}" if missing else ""


def _stalled(report: AgentReport, now: datetime) -> Finding:
    stalled = ConditionType.STALLED
    if report.killed is not None:
        return Finding(stalled, "True", AgentReason.KILL_SWITCH, killed_message(report.snapshot.agent, report.killed))
    refusal = report.verdict.refusal
    if refusal is not None and not refusal.is_pending and grace_ends_at(report.snapshot.agent, refusal, now) is None:
        return Finding(stalled, "True", refusal.reason, refusal.message)
    if (refused := open_network(report)) is not None:
        return Finding(stalled, "True", refused.reason, refused.message)
    return Finding(stalled, "False", AgentReason.PROGRESSING, "no action needed")


def grace_ends_at(agent: Agent, refusal: Refusal, now: datetime) -> datetime | None:
    """Return when a refusal's grace ends, None where it has ended or the refusal has none."""
    known = agent.status.conditions if agent.status else ()
    since = next((one.last_transition_time for one in known if _is_refused(one, refusal)), now)
    return since + refusal.grace if timedelta() <= now - since < refusal.grace else None


def _is_refused(condition: Condition, refusal: Refusal) -> bool:
    return condition.type in _LAYERS and (condition.status, condition.reason) == ("False", refusal.reason)


def _killed(report: AgentReport) -> Finding:
    agent = report.snapshot.agent
    if report.killed is not None:
        message = killed_message(agent, report.killed)
        return Finding(ConditionType.KILLED, "True", AgentReason.KILL_SWITCH, message)
    if agent.status is not None and agent.status.kill is not None:
        return Finding(ConditionType.KILLED, "False", AgentReason.RELEASED, "the last kill was released")
    return Finding(ConditionType.KILLED, "False", AgentReason.NOT_KILLED, "the kill switch was never engaged")


def _egress(report: AgentReport) -> Finding:
    kind = ConditionType.EGRESS_ENFORCED
    found = egress_of(report)
    return waiting_finding(report, kind) if found is None else Finding(kind, found.status, found.reason, found.message)


def _enforcement(report: AgentReport) -> EnforcementStatus | None:
    current = report.current
    if current is None or current.enforcement is None:
        return None
    return EnforcementStatus(
        bundle_digest=current.enforcement.bundle,
        generation=report.agent.metadata.generation,
        guards=current.replicas,
    )


def _promotion(report: AgentReport) -> Finding:
    if report.verdict.layer is not None:
        return waiting_finding(report, ConditionType.PROMOTION_PENDING)
    return promotion_finding(report)


def _budget(report: AgentReport) -> Finding:
    """Return the condition of the current stage's environment, or of the first one that has no money left."""
    exhausted = (one.budget.finding for one in report.placements if one.budget.finding.status == "True")
    if report.current is not None:
        return next(exhausted, report.current.budget.finding)
    return waiting_finding(report, ConditionType.BUDGET_EXHAUSTED)


def _guard_update(report: AgentReport, ready: Finding, enforced: Finding, now: datetime) -> Finding:
    serves = bool(report.serving) and all(map(report.is_ready, report.serving))
    return update_finding(
        report.update,
        report.snapshot,
        now,
        has_pods=report.killed is None and any(one.placement.replicas > 0 for one in report.placements),
        is_ready=serves and enforced.reason != AgentReason.SELF_TEST_FAILED,
        trouble=ready.message if ready.status != "True" else enforced.message,
    )


def _stage(report: AgentReport) -> StageStatus | None:
    """Return the stage of the newest revision. Once that was stopped, it is that of the last good one."""
    facts, collisions = report.facts, _record(report).collisions
    if facts.stage is not None and facts.newest is not None and facts.key is not None:
        if report.revisions.is_unstored and report.agent.status is not None and report.agent.status.stage is not None:
            return report.agent.status.stage.model_copy(update=_NO_SOAK)
        stage = write_stage(facts.stage, facts.newest, collisions.get(facts.key, 0))
        progress = report.decision.progress
        following = progress.following.name if progress.following is not None else ""
        return stage.model_copy(update={"next_name": following, "next_at": progress.due_at})
    good = facts.good
    if good is None:
        return None
    stage_facts = StageFacts(good.stage, good.ref.digest, good.since, ready_since=good.serving_since)
    return write_stage(stage_facts, good.ref, collisions.get(good.key, 0))


_NO_SOAK = {
    "ready_since": None,
    "soaked_seconds": 0,
    "restarts": 0,
    "restarted_pods": (),
    "soak_restarted_at": None,
    "baseline": "",
    "next_at": None,
}


def _condition(agent: Agent, finding: Finding, now: datetime) -> Condition:
    known = agent.status.conditions if agent.status else ()
    return build_condition(finding, agent.metadata.generation, known, now)
