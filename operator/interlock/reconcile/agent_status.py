"""The status of an Agent: its conditions in layer order, with messages for people, its stage and its enforcement."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from interlock.api.agent import Agent
from interlock.api.refusals import Refusal
from interlock.api.status import (
    MAX_HISTORY,
    MAX_SOAKED_SECONDS,
    AgentReason,
    AgentStatus,
    Condition,
    ConditionType,
    EnforcementStatus,
    EnteredStage,
    RestartedPod,
    StageLabel,
    StageStatus,
)
from interlock.deployment.names import ChildKey
from interlock.deployment.observed.enforcement import Enforcement
from interlock.deployment.plan import ENFORCEMENT_BOUND
from interlock.reconcile.agent_report import AgentReport, Progress, current_egress, killed_message, open_network
from interlock.reconcile.conditions import Finding, build_condition
from interlock.reconcile.layers import Verdict
from interlock.reconcile.promotion import pending_promotion
from interlock.reconcile.ready_condition import count_ready, ready_finding, rolls

_LAYERS = (ConditionType.GOVERNED, ConditionType.ORCHESTRATED, ConditionType.ACTIONS_BOUND, ConditionType.DEPLOYED)
_WAITING = {
    ConditionType.GOVERNED: AgentReason.WAITING_FOR_GOVERNANCE,
    ConditionType.ORCHESTRATED: AgentReason.WAITING_FOR_ORCHESTRATION,
    ConditionType.ACTIONS_BOUND: AgentReason.WAITING_FOR_ACTIONS,
    ConditionType.DEPLOYED: AgentReason.WAITING_FOR_DEPLOYMENT,
}
_SATISFIED = {
    ConditionType.GOVERNED: (AgentReason.GOVERNANCE_SATISFIED, "owner, purpose, policy and data access are complete"),
    ConditionType.ORCHESTRATED: (AgentReason.ROLLOUT_PLANNED, "the rollout satisfies the policy's minimums"),
    ConditionType.ACTIONS_BOUND: (AgentReason.BINDINGS_RESOLVED, "every source has one MCPBinding in every stage"),
    ConditionType.DEPLOYED: (AgentReason.APPLIED, "all managed objects are up to date"),
}

_OF_DEPLOYMENT = (
    AgentReason.PODS_READY,
    AgentReason.PODS_NOT_READY,
    AgentReason.SCALED_TO_ZERO,
    AgentReason.WAITING_FOR_DEPLOYMENT,
    AgentReason.WAITING_FOR_OPERATOR,
    AgentReason.NAME_TAKEN,
    AgentReason.ENFORCEMENT_LOST,
)
"""Reasons of Ready that a failure to deploy replaces."""


def build_status(report: AgentReport, now: datetime) -> AgentStatus:
    """Return the status. It leaves `status.kill` out, which belongs to the kill controller."""
    agent = report.snapshot.agent
    enforced = _enforced(report)
    findings = (
        *_layers(report.verdict),
        ready_finding(report),
        _stalled(report, now),
        _killed(report),
        enforced,
        _egress(report),
        _promotion(report),
        _budget(report),
    )
    stage = _stage(report)
    ready = count_ready(report)
    return AgentStatus(
        observed_generation=agent.metadata.generation,
        conditions=tuple(_condition(agent, finding, now) for finding in findings),
        ready_replicas=ready,
        ready_summary=f"{ready}/{agent.spec.replicas}",
        stage=stage,
        history=_history(agent, stage),
        enforcement=_enforcement(report) if enforced.status == "True" else None,
        budget=report.budget.status if report.budget is not None else agent.status.budget if agent.status else None,
    )


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


def _layers(verdict: Verdict) -> list[Finding]:
    findings = []
    refused = False
    for layer in _LAYERS:
        if layer == verdict.layer and verdict.refusal is not None:
            findings.append(Finding(layer, "False", verdict.refusal.reason, verdict.refusal.message))
            refused = True
        elif refused and verdict.layer is not None:
            findings.append(Finding(layer, "Unknown", _WAITING[verdict.layer], f"waiting for {verdict.layer}"))
        else:
            findings.append(Finding(layer, "True", *_SATISFIED[layer]))
    return findings


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


def _enforced(report: AgentReport) -> Finding:
    """Return whether all guards have passed the self-test of the bundle; guards of unready pods do not count."""
    kind, enforcement = ConditionType.POLICY_ENFORCED, report.enforcement
    if report.killed is not None:
        return Finding(kind, "Unknown", AgentReason.KILL_SWITCH, "killed: no guard runs")
    if enforcement is None or report.progress is None:
        layer = report.verdict.layer or ConditionType.GOVERNED
        return Finding(kind, "Unknown", _WAITING[layer], f"waiting for {layer}")
    wanted = report.wanted
    if wanted == 0:
        why = "spec.replicas is 0" if report.snapshot.agent.spec.replicas == 0 else "the budget is exhausted"
        return Finding(kind, "Unknown", AgentReason.NO_GUARD, f"{why}: no guard runs")
    if enforcement.flaw:
        return Finding(
            kind, "False", AgentReason.SELF_TEST_FAILED, f"{enforcement.flaw}; this guard refuses every request"
        )
    passed = _passed(report, enforcement)
    if passed < wanted:
        message = f"{passed} of {wanted} guards have passed the self-test of the current policy"
        return Finding(kind, "False", AgentReason.SELF_TEST_PENDING, message)
    message = f"{wanted} of {wanted} guards have passed the self-test of bundle {enforcement.bundle[:12]}"
    return Finding(kind, "True", AgentReason.SELF_TEST_PASSED, message)


def _passed(report: AgentReport, enforcement: Enforcement) -> int:
    """Return how many guards of pods that are ready have passed the self-test."""
    is_ready = report.progress is not None and report.progress.is_ready and not rolls(report.plan)
    return min(enforcement.guards, report.snapshot.agent.spec.replicas) if is_ready else 0


def _egress(report: AgentReport) -> Finding:
    kind = ConditionType.EGRESS_ENFORCED
    found = current_egress(report)
    if found is None:
        layer = report.verdict.layer or ConditionType.GOVERNED
        return Finding(kind, "Unknown", _WAITING[layer], f"waiting for {layer}")
    return Finding(kind, found.status, found.reason, found.message)


def _enforcement(report: AgentReport) -> EnforcementStatus | None:
    enforcement = report.enforcement
    if enforcement is None:
        return None
    generation = report.snapshot.agent.metadata.generation
    return EnforcementStatus(
        bundle_digest=enforcement.bundle, generation=generation, guards=report.snapshot.agent.spec.replicas
    )


def _promotion(report: AgentReport) -> Finding:
    pending = ConditionType.PROMOTION_PENDING
    stages = report.snapshot.agent.spec.stages
    progress = report.progress
    if progress is None:
        layer = report.verdict.layer or ConditionType.GOVERNED
        return Finding(pending, "Unknown", _WAITING[layer], f"waiting for {layer}")
    following = progress.decision.index + 1
    if following >= len(stages):
        return Finding(pending, "False", AgentReason.LAST_STAGE, "this is the last stage")
    if progress.held_because:
        return Finding(pending, "True", AgentReason.MINIMUM_NOT_REACHED, progress.held_because)
    return Finding(
        pending, "True", *pending_promotion(report.snapshot.agent, progress.decision, stages[following].name)
    )


def _budget(report: AgentReport) -> Finding:
    if report.budget is not None:
        return report.budget.finding
    layer = report.verdict.layer or ConditionType.GOVERNED
    return Finding(ConditionType.BUDGET_EXHAUSTED, "Unknown", _WAITING[layer], f"waiting for {layer}")


_NO_SOAK = {
    "ready_since": None,
    "soaked_seconds": 0,
    "restarts": 0,
    "restarted_pods": (),
    "soak_restarted_at": None,
    "next_at": None,
}


def _stage(report: AgentReport) -> StageStatus | None:
    if report.progress is not None:
        return _to_status(report.progress, report.collisions, report.snapshot.agent)
    # Refused: the agent keeps the stage that it has reached, but its soak starts again once there are pods.
    recorded = report.snapshot.agent.status.stage if report.snapshot.agent.status else None
    return recorded and recorded.model_copy(update=_NO_SOAK)


def _condition(agent: Agent, finding: Finding, now: datetime) -> Condition:
    known = agent.status.conditions if agent.status else ()
    return build_condition(finding, agent.metadata.generation, known, now)


def _history(agent: Agent, stage: StageStatus | None) -> tuple[EnteredStage, ...]:
    known = agent.status.history if agent.status else ()
    if stage is None or (known and known[-1].entered_at == stage.entered_at):
        return known
    entered = EnteredStage(
        name=stage.name, environment=stage.environment, revision=stage.revision, entered_at=stage.entered_at
    )
    return (*known, entered)[-MAX_HISTORY:]


def _to_status(progress: Progress, collisions: int, agent: Agent) -> StageStatus:
    facts = progress.decision.facts
    later = agent.spec.stages[progress.decision.index + 1 :]
    return StageStatus(
        name=facts.stage.name,
        environment=facts.stage.environment,
        scope=facts.stage.scope or (),
        revision=facts.revision,
        spec_digest=progress.revision.spec_digest,
        labels=tuple(StageLabel(key=key, value=value) for key, value in progress.revision.labels),
        collision_count=collisions,
        entered_at=facts.entered_at,
        ready_since=facts.ready_since,
        soaked_seconds=min(facts.soaked // timedelta(seconds=1), MAX_SOAKED_SECONDS),
        restarts=facts.restarts,
        restarted_pods=tuple(RestartedPod(uid=one.uid, restarts=one.ends) for one in facts.counted),
        soak_restarted_at=facts.restarted_at,
        passed_staging_seconds=min(facts.passed.staging // timedelta(seconds=1), MAX_SOAKED_SECONDS),
        passed_limited_seconds=min(facts.passed.limited // timedelta(seconds=1), MAX_SOAKED_SECONDS),
        next_name=later[0].name if later else "",
        next_at=progress.decision.next_at,
    )
