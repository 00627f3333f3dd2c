"""The only writer of conditions: from what was found to what is reported, in layer order."""

from dataclasses import dataclass
from datetime import datetime

from interlock.api.agent import Agent
from interlock.api.duration import format_duration
from interlock.api.status import AgentStatus, Condition, ConditionType, EnforcementStatus, Reason, StageStatus
from interlock.deployment.enforcement import Enforcement
from interlock.deployment.plan import Plan
from interlock.orchestration.minimums import soak_of
from interlock.orchestration.rollout import StageDecision
from interlock.reconcile.conditions import Finding, build_condition
from interlock.reconcile.isolation import Egress, egress_of
from interlock.reconcile.progress import Progress, to_status
from interlock.reconcile.verdict import Verdict
from interlock.reconcile.world import World


@dataclass(frozen=True)
class Report:
    """Everything that a status is built from.

    Attributes:
        world: The snapshot.
        verdict: What the layers said.
        killed: Why the agent is killed, None while it may live.
        progress: Where its rollout is, None where a layer refused.
        plan: What is being written, None where a layer refused.
        enforcement: What the guards have proven, None where a layer refused.
    """

    world: World
    verdict: Verdict
    killed: str | None
    progress: Progress | None = None
    plan: Plan | None = None
    enforcement: Enforcement | None = None


_LAYERS = (ConditionType.GOVERNED, ConditionType.ORCHESTRATED, ConditionType.ACTIONS_BOUND, ConditionType.DEPLOYED)
_WAITING = {
    ConditionType.GOVERNED: Reason.WAITING_FOR_GOVERNANCE,
    ConditionType.ORCHESTRATED: Reason.WAITING_FOR_ORCHESTRATION,
    ConditionType.ACTIONS_BOUND: Reason.WAITING_FOR_ACTIONS,
    ConditionType.DEPLOYED: Reason.WAITING_FOR_DEPLOYMENT,
}
_HOLDS = {
    ConditionType.GOVERNED: (Reason.GOVERNANCE_SATISFIED, "owner, purpose, policy and data access hold"),
    ConditionType.ORCHESTRATED: (Reason.ROLLOUT_PLANNED, "the rollout keeps the policy's minimums"),
    ConditionType.ACTIONS_BOUND: (Reason.BINDINGS_RESOLVED, "every source has one MCPBinding in every stage"),
    ConditionType.DEPLOYED: (Reason.APPLIED, "all children stand as they should"),
}

_OF_PODS = (Reason.PODS_READY, Reason.PODS_NOT_READY, Reason.SCALED_TO_ZERO)


def build_status(report: Report, now: datetime) -> AgentStatus:
    """Return the status that tells what was found; `status.kill` is the kill path's alone and left out."""
    agent = report.world.agent
    enforced = _enforced(report)
    findings = (
        *_layers(report.verdict),
        _ready(report),
        _stalled(report),
        _killed(report),
        enforced,
        _egress(report),
        _promotion(report),
    )
    return AgentStatus(
        observed_generation=agent.metadata.generation,
        conditions=tuple(_condition(agent, finding, now) for finding in findings),
        stage=_stage(report),
        enforcement=_enforcement(report) if enforced.status == "True" else None,
    )


def with_failure(status: AgentStatus, agent: Agent, message: str, now: datetime) -> AgentStatus:
    """Return the status after the API server refused a child: Deployed is False and says why.

    So is Ready, unless it speaks of a refusal or a kill already: that is what people must act on.
    """
    failed = {
        ConditionType.DEPLOYED: Finding(ConditionType.DEPLOYED, "False", Reason.APPLY_FAILED, message),
        ConditionType.READY: Finding(ConditionType.READY, "False", Reason.WAITING_FOR_DEPLOYMENT, message),
    }
    conditions = []
    for known in status.conditions:
        finding = failed.get(ConditionType(known.type))
        if finding is None or (known.type == ConditionType.READY and known.reason not in _OF_PODS):
            conditions.append(known)
        else:
            conditions.append(_condition(agent, finding, now))
    return status.model_copy(update={"conditions": tuple(conditions)})


def _layers(verdict: Verdict) -> list[Finding]:
    findings = []
    refused = False
    for layer in _LAYERS:
        if layer == verdict.layer and verdict.refusal is not None:
            findings.append(Finding(layer, "False", verdict.refusal.reason, verdict.refusal.message))
            refused = True
        elif refused and verdict.layer is not None:
            findings.append(Finding(layer, "Unknown", _WAITING[verdict.layer], f"waits for {verdict.layer}"))
        else:
            findings.append(Finding(layer, "True", *_HOLDS[layer]))
    return findings


def _ready(report: Report) -> Finding:
    ready = ConditionType.READY
    agent = report.world.agent
    if report.killed is not None:
        return Finding(ready, "False", Reason.KILL_SWITCH, _killed_sentence(agent, report.killed))
    if report.verdict.refusal is not None:
        return Finding(ready, "False", report.verdict.refusal.reason, report.verdict.refusal.message)
    if (refused := _open_network(report)) is not None:
        return Finding(ready, "False", refused.reason, refused.message)
    if agent.spec.replicas == 0:
        return Finding(ready, "True", Reason.SCALED_TO_ZERO, "spec.replicas is 0: no pod is wanted")
    if report.progress is not None and report.progress.is_ready and not _rolls(report.plan):
        return Finding(ready, "True", Reason.PODS_READY, "all wanted pods serve")
    return Finding(ready, "False", Reason.PODS_NOT_READY, _not_ready_sentence(agent, report.progress))


def _rolls(plan: Plan | None) -> bool:
    return plan is not None and bool(plan.workloads)


def _not_ready_sentence(agent: Agent, progress: Progress | None) -> str:
    trouble = progress.readiness.trouble if progress else ""
    look = f"kubectl -n {agent.metadata.namespace} describe pods -l interlock.dev/agent={agent.metadata.name}"
    return f"not all of {agent.spec.replicas} pods serve yet{': ' + trouble if trouble else ''}; look: {look}"


def _stalled(report: Report) -> Finding:
    stalled = ConditionType.STALLED
    if report.killed is not None:
        return Finding(stalled, "True", Reason.KILL_SWITCH, _killed_sentence(report.world.agent, report.killed))
    if report.verdict.refusal is not None:
        return Finding(stalled, "True", report.verdict.refusal.reason, report.verdict.refusal.message)
    if (refused := _open_network(report)) is not None:
        return Finding(stalled, "True", refused.reason, refused.message)
    return Finding(stalled, "False", Reason.PROGRESSING, "nothing is asked of anybody")


def _killed(report: Report) -> Finding:
    agent = report.world.agent
    if report.killed is not None:
        message = _killed_sentence(agent, report.killed)
        return Finding(ConditionType.KILLED, "True", Reason.KILL_SWITCH, message)
    if agent.status is not None and agent.status.kill is not None:
        return Finding(ConditionType.KILLED, "False", Reason.RELEASED, "the kill switch is off again")
    return Finding(ConditionType.KILLED, "False", Reason.NOT_KILLED, "the kill switch was never engaged")


def _killed_sentence(agent: Agent, reason: str) -> str:
    return (
        f"killed: {reason[:200]}; to release: kubectl -n {agent.metadata.namespace} annotate agents.interlock.dev "
        f"{agent.metadata.name} interlock.dev/kill-switch=off --overwrite"
    )


def _enforced(report: Report) -> Finding:
    """Return whether all guards have proven the bundle; guards that do not serve yet have said nothing that counts."""
    kind, proven = ConditionType.POLICY_ENFORCED, report.enforcement
    if report.killed is not None:
        return Finding(kind, "Unknown", Reason.KILL_SWITCH, "killed: no guard runs")
    if proven is None or report.progress is None:
        layer = report.verdict.layer or ConditionType.GOVERNED
        return Finding(kind, "Unknown", _WAITING[layer], f"waits for {layer}")
    wanted = report.world.agent.spec.replicas
    if wanted == 0:
        return Finding(kind, "Unknown", Reason.NO_GUARD, "spec.replicas is 0: no guard runs")
    if proven.flaw:
        return Finding(kind, "False", Reason.PROOF_FAILED, f"{proven.flaw}; it is closed: nothing passes it")
    if proven.guards < wanted or not report.progress.is_ready or _rolls(report.plan):
        return Finding(kind, "False", Reason.NOT_PROVEN, f"not all of {wanted} guards have proven the policy yet")
    return Finding(kind, "True", Reason.PROVEN, f"proven by every guard: bundle {proven.bundle[:12]}")


def _egress(report: Report) -> Finding:
    kind = ConditionType.EGRESS_ENFORCED
    found = _egress_of(report)
    if found is None:
        layer = report.verdict.layer or ConditionType.GOVERNED
        return Finding(kind, "Unknown", _WAITING[layer], f"waits for {layer}")
    return Finding(kind, found.status, found.reason, found.message)


def _egress_of(report: Report) -> Egress | None:
    if report.progress is None:
        return None
    return egress_of(report.world, report.progress.decision.facts, is_killed=report.killed is not None)


def _open_network(report: Report) -> Egress | None:
    """Return what keeps the agent from starting if that is the network."""
    found = _egress_of(report)
    return found if found is not None and found.refuses else None


def _enforcement(report: Report) -> EnforcementStatus | None:
    proven = report.enforcement
    if proven is None:
        return None
    generation = report.world.agent.metadata.generation
    return EnforcementStatus(
        bundle_digest=proven.bundle, generation=generation, guards=report.world.agent.spec.replicas
    )


def _promotion(report: Report) -> Finding:
    pending = ConditionType.PROMOTION_PENDING
    stages = report.world.agent.spec.stages
    progress = report.progress
    if progress is None:
        layer = report.verdict.layer or ConditionType.GOVERNED
        return Finding(pending, "Unknown", _WAITING[layer], f"waits for {layer}")
    following = progress.decision.index + 1
    if following >= len(stages):
        return Finding(pending, "False", Reason.LAST_STAGE, "no later stage is left")
    if progress.held_because:
        return Finding(pending, "True", Reason.MINIMUM_UNDERCUT, progress.held_because)
    return Finding(pending, "True", *_pending(progress.decision, stages[following].name))


def _pending(decision: StageDecision, following: str) -> tuple[Reason, str]:
    """Return why the following stage is not entered yet, where nothing forbids it."""
    current = decision.facts.stage
    if decision.facts.ready_since is None:
        return Reason.WAITING_FOR_READY, f"the soak before {following} starts once Ready"
    if decision.next_at is None:
        return Reason.WAITING_FOR_READY, f"the soak is over: {following} follows once {current.name} is Ready again"
    soak = format_duration(soak_of(current))
    return Reason.SOAKING, f"{following} follows {soak} after {current.name} was first Ready"


def _stage(report: Report) -> StageStatus | None:
    if report.progress is not None:
        return to_status(report.progress.decision)
    # Refused: it keeps the stage that it has reached, but no soak goes on without pods.
    recorded = report.world.agent.status.stage if report.world.agent.status else None
    return recorded and recorded.model_copy(update={"ready_since": None, "next_at": None})


def _condition(agent: Agent, finding: Finding, now: datetime) -> Condition:
    known = agent.status.conditions if agent.status else ()
    return build_condition(finding, agent.metadata.generation, known, now)
