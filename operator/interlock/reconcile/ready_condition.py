"""The condition Ready of an Agent, and the number of its pods that are ready."""

from interlock.api.status import AgentReason, ConditionType
from interlock.deployment.observed.readiness import Readiness
from interlock.deployment.plan import WritePlan
from interlock.reconcile.agent_report import AgentReport, killed_message, open_network
from interlock.reconcile.conditions import Finding
from interlock_contract.names import KILL_LEASE, KILL_LEASE_SECONDS, OPERATOR_NAMESPACE


def ready_finding(report: AgentReport) -> Finding:
    """Return the condition Ready."""
    ready = ConditionType.READY
    agent = report.snapshot.agent
    if report.killed is not None:
        return Finding(ready, "False", AgentReason.KILL_SWITCH, killed_message(agent, report.killed))
    if report.verdict.refusal is not None:
        return Finding(ready, "False", report.verdict.refusal.reason, report.verdict.refusal.message)
    if (refused := open_network(report)) is not None:
        return Finding(ready, "False", refused.reason, refused.message)
    if (without_pods := _without_pods(report)) is not None:
        return without_pods
    is_held = report.plan is not None and bool(report.plan.held)
    if report.progress is not None and report.progress.is_ready and not rolls(report.plan) and not is_held:
        count = agent.spec.replicas
        return Finding(ready, "True", AgentReason.PODS_READY, f"{count} of {count} pods ready")
    reason = AgentReason.KILL_CONTROLLER_AWAY if is_held else AgentReason.PODS_NOT_READY
    return Finding(ready, "False", reason, _AWAY_MESSAGE if is_held else _not_ready_message(report))


def _without_pods(report: AgentReport) -> Finding | None:
    """Return Ready of an agent that wants no pods, or whose budget lets it have none; None for any other."""
    budget = report.budget
    if report.snapshot.agent.spec.replicas == 0:
        message = "0 pods ready because spec.replicas is 0"
        return Finding(ConditionType.READY, "True", AgentReason.SCALED_TO_ZERO, message)
    if budget is not None and budget.is_stopped:
        return Finding(ConditionType.READY, "False", AgentReason.BUDGET_EXHAUSTED, budget.finding.message)
    if budget is None or not budget.missing:
        return None
    names = ", ".join(identity.name for identity in budget.missing)
    message = f"no pod starts before its spend can be counted: waiting for BudgetLedger {names}"
    return Finding(ConditionType.READY, "False", AgentReason.WAITING_FOR_DEPLOYMENT, message)


_AWAY_MESSAGE = (
    f"no new pod starts: the kill controller has not renewed its Lease {KILL_LEASE} for {KILL_LEASE_SECONDS} s, "
    f"so no kill would end pods; run: kubectl -n {OPERATOR_NAMESPACE} describe deployment interlock-kill"
)


def rolls(plan: WritePlan | None) -> bool:
    """Return True if a plan writes Deployments."""
    return plan is not None and bool(plan.workloads)


def _not_ready_message(report: AgentReport) -> str:
    metadata, wanted = report.snapshot.agent.metadata, report.snapshot.agent.spec.replicas
    readiness = report.progress.readiness if report.progress else Readiness()
    ready = count_ready(report)
    facts = report.progress.decision.facts if report.progress else None
    said = report.snapshot.pods.cause(facts.stage.name, facts.revision) if facts else ""
    trouble = "; ".join(one for one in (said, readiness.refused) if one) or readiness.stuck
    # A Deployment that has just been written has the same message: another one would cost another write.
    return (
        f"{ready} of {wanted} pods ready{': ' + trouble if trouble else ''}; "
        f"run: kubectl -n {metadata.namespace} describe pods -l interlock.dev/agent={metadata.name}"
    )


def count_ready(report: AgentReport) -> int:
    """Return how many pods are ready. Their own word may be newer than that of their Deployments."""
    policy, progress, wanted = report.snapshot.policy, report.progress, report.snapshot.agent.spec.replicas
    # The counts of a Deployment that has just been written are those of its earlier spec.
    if policy is None or progress is None or not progress.readiness.is_current or rolls(report.plan):
        return 0
    if report.killed is not None:
        return 0
    if progress.is_ready:
        return wanted
    facts = progress.decision.facts
    isolation = policy.spec.isolation_in(facts.stage.environment)
    pods = report.snapshot.pods.ready_count(facts.stage.name, facts.revision, isolation)
    return min(progress.readiness.available, wanted, pods)
