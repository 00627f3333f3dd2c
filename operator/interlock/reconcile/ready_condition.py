"""The condition Ready of an Agent."""

from interlock.api.status import AgentReason, ConditionType
from interlock.deployment.observed.causes import find_pull_way_out
from interlock.reconcile.agent_report import AgentReport, killed_message
from interlock.reconcile.conditions import Finding
from interlock.reconcile.egress import open_network
from interlock.reconcile.placements import RunningPlacement
from interlock_contract.names import KILL_LEASE, KILL_LEASE_SECONDS, OPERATOR_NAMESPACE

_READY = ConditionType.READY
_AWAY_MESSAGE = (
    f"no new pod starts: the kill controller has not renewed its Lease {KILL_LEASE} for {KILL_LEASE_SECONDS} s, "
    f"so no kill would end pods; run: kubectl -n {OPERATOR_NAMESPACE} describe deployment interlock-kill"
)


def ready_finding(report: AgentReport) -> Finding:
    """Return the condition Ready: what is described today was Ready once, and all that serves is ready."""
    if report.killed is not None:
        return Finding(_READY, "False", AgentReason.KILL_SWITCH, killed_message(report.agent, report.killed))
    refusal = report.verdict.refusal
    if refusal is not None:
        return Finding(_READY, "False", refusal.reason, refusal.message)
    refused = open_network(report)
    if refused is not None:
        return Finding(_READY, "False", refused.reason, refused.message)
    return _without_pods(report) or _not_started(report) or _of_pods(report)


def _without_pods(report: AgentReport) -> Finding | None:
    """Return Ready of an agent that wants no pods, or whose budget lets it have none; None for any other."""
    if report.agent.spec.replicas == 0:
        message = "0 pods ready because spec.replicas is 0"
        return Finding(_READY, "True", AgentReason.SCALED_TO_ZERO, message)
    current = report.current
    if current is not None and all(one.replicas == 0 for one in report.lasting):
        message = f"0 pods ready because {current.why_no_pods}"
        return Finding(_READY, "True", AgentReason.SCALED_TO_ZERO, message)
    if current is not None and current.budget.is_stopped:
        return Finding(_READY, "False", AgentReason.BUDGET_EXHAUSTED, current.budget.finding.message)
    missing = dict.fromkeys(one.name for placement in report.placements for one in placement.budget.missing)
    if not missing:
        return None
    message = f"no pod starts before its spend can be counted: waiting for BudgetLedger {', '.join(missing)}"
    return Finding(_READY, "False", AgentReason.WAITING_FOR_DEPLOYMENT, message)


def _not_started(report: AgentReport) -> Finding | None:
    """Return Ready while what is described today has no pods yet; None once it has, or was stopped.

    A rollout that the policy began and that waits for those of other agents leaves an agent as ready as it was.
    """
    progress, facts = report.decision.progress, report.facts
    if progress.waiting and progress.waiting != report.snapshot.may_start:
        message = f"the new revision waits: {progress.waiting}"
        return Finding(_READY, "False", AgentReason.NEW_REVISION_STARTING, message)
    if facts.newest is None or facts.stage is not None or facts.stopped is not None:
        return None
    message = f"revision {facts.newest.name} has no pods yet: its first stage is not entered"
    return Finding(_READY, "False", AgentReason.NEW_REVISION_STARTING, message)


def _of_pods(report: AgentReport) -> Finding:
    facts = report.facts
    newest = report.find(facts.key)
    if newest is not None and not facts.was_ready:
        is_first = len(report.placements) == 1
        reason = AgentReason.PODS_NOT_READY if is_first else AgentReason.NEW_REVISION_STARTING
        return _not_ready(report, newest, reason)
    failing = next((one for one in report.serving if not report.is_ready(one)), None)
    if failing is not None:
        return _not_ready(report, failing, AgentReason.PODS_NOT_READY)
    if not report.serving:
        return Finding(_READY, "False", AgentReason.PODS_NOT_READY, "no revision runs")
    count = sum(one.wanted for one in report.serving)
    return Finding(_READY, "True", AgentReason.PODS_READY, f"{count} of {count} pods ready{_fewer(report)}")


def _fewer(report: AgentReport) -> str:
    """Return why fewer pods run than the spec asks for, empty if they do not."""
    for one in report.serving:
        asked = one.placement.agent.spec.asked_replicas_in(one.key.stage)
        if asked > one.replicas:
            return f"; stage {one.key.stage} asks for {asked}, and an agent with claims has one"
    return ""


def _not_ready(report: AgentReport, one: RunningPlacement, reason: AgentReason) -> Finding:
    if report.is_held(one):
        return Finding(_READY, "False", AgentReason.KILL_CONTROLLER_AWAY, _AWAY_MESSAGE)
    reason = AgentReason.IMAGE_CHANGED if report.has_other_images(one) else reason
    return Finding(_READY, "False", reason, not_ready_message(report, one))


def not_ready_message(report: AgentReport, one: RunningPlacement) -> str:
    """Return why a placement is not ready, with the command that says more."""
    metadata = report.agent.metadata
    if one.wanted == 0:
        return (
            f"revision {one.desired.ref.name} has no pods in stage {one.key.stage} because {one.why_no_pods}, so the "
            "stage does not pass"
        )
    said = report.snapshot.pods.cause(one.key.stage, one.key.revision)
    trouble = "; ".join(text for text in (one.claim_wait, said, one.readiness.refused) if text) or one.readiness.stuck
    where = f" of revision {one.desired.ref.name} in stage {one.key.stage}" if len(report.placements) > 1 else ""
    describe = f"run: kubectl -n {metadata.namespace} describe pods -l interlock.dev/agent={metadata.name}"
    # Where no pod exists, there is none to describe.
    advice = one.readiness.way_out if one.readiness.way_out and not said else describe
    if way_out := find_pull_way_out(said):
        advice = f"{way_out}; {describe}"
    # A Deployment that has just been written has the same message: another one would cost another write.
    return f"{report.ready_pods(one)} of {one.replicas} pods ready{where}{': ' + trouble if trouble else ''}; {advice}"
