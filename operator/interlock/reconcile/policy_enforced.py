"""The condition PolicyEnforced: whether guards have proven their bundle, and deny what it does not permit."""

from collections.abc import Iterable, Sequence
from typing import Final

from interlock.action.audit_mode import outside_development
from interlock.api.status import AgentReason, ConditionType
from interlock.deployment.names import ChildKey, name_of
from interlock.deployment.observed.work_counts import counts_of
from interlock.reconcile.agent_report import AgentReport
from interlock.reconcile.conditions import Finding
from interlock.reconcile.placements import RunningPlacement
from interlock_contract.work_counts import sum_counts

WAITING: Final = {
    ConditionType.GOVERNED: AgentReason.WAITING_FOR_GOVERNANCE,
    ConditionType.ORCHESTRATED: AgentReason.WAITING_FOR_ORCHESTRATION,
    ConditionType.ACTIONS_BOUND: AgentReason.WAITING_FOR_ACTIONS,
    ConditionType.DEPLOYED: AgentReason.WAITING_FOR_DEPLOYMENT,
}
"""The reasons of conditions that wait for a layer."""


def enforced_finding(report: AgentReport) -> Finding:
    """Return whether all guards have passed the self-test of their bundle; guards of unready pods do not count."""
    kind = ConditionType.POLICY_ENFORCED
    if report.killed is not None:
        return Finding(kind, "Unknown", AgentReason.KILL_SWITCH, "killed: no guard runs")
    if not report.lasting:
        return waiting_finding(report, kind)
    running = [one for one in report.lasting if one.wanted > 0]
    if not running:
        return Finding(kind, "Unknown", AgentReason.NO_GUARD, f"{report.lasting[0].why_no_pods}: no guard runs")
    flaws = (one.enforcement.flaw for one in report.placements if one.enforcement is not None)
    flaw = next((one for one in flaws if one), "")
    if flaw:
        return Finding(kind, "False", AgentReason.SELF_TEST_FAILED, f"{flaw}; this guard refuses every request")
    wanted = sum(one.wanted for one in running)
    passed = sum(_passed(report, one) for one in running)
    if passed < wanted:
        message = f"{passed} of {wanted} guards have passed the self-test of the current policy"
        return Finding(kind, "False", AgentReason.SELF_TEST_PENDING, message)
    bundles = " and ".join(dict.fromkeys(one.enforcement.bundle[:12] for one in running if one.enforcement is not None))
    message = f"{wanted} of {wanted} guards have passed the self-test of bundle {bundles}"
    if audited := [one for one in running if one.placement.audited]:
        found = Finding(kind, "False", AgentReason.AUDIT, f"{_audit_message(report, audited)}; {message}")
    else:
        found = Finding(kind, "True", AgentReason.SELF_TEST_PASSED, message + _stays_enforced(report, running))
    return found


def _passed(report: AgentReport, one: RunningPlacement) -> int:
    """Return how many guards of pods that are ready have passed the self-test."""
    is_ready = report.is_ready(one) and one.enforcement is not None
    return min(one.enforcement.guards, one.wanted) if is_ready and one.enforcement is not None else 0


def _audit_message(report: AgentReport, audited: Sequence[RunningPlacement]) -> str:
    """Return for which sources the policy is not enforced, and how many requests it would have denied."""
    leases = (report.snapshot.children.get(ChildKey("Lease", name_of(one.placement))) for one in audited)
    counts = sum_counts(counts_of(None if lease is None else lease.manifest) for lease in leases)
    sources = ", ".join(sorted({source for one in audited for source in one.placement.audited}))
    environments = ", ".join(sorted({one.desired.stage.environment for one in audited}))
    # Each placement counts for itself, so the counts begin again with each revision.
    names = list(dict.fromkeys(one.desired.ref.name for one in audited))
    revisions = f"revision{'s' if len(names) > 1 else ''} {', '.join(names)}"
    return (
        f"mode Audit of environment {environments}: guards deny no call of {sources} for a missing grant or because "
        f"its tool is not mapped; {_at_least(counts.unmapped_passed)} calls of tools that are not mapped and "
        f"{_at_least(counts.ungranted_passed)} requests without a grant have passed in {revisions}"
        f"{_stays_enforced(report, audited)}"
    )


def _stays_enforced(report: AgentReport, running: Iterable[RunningPlacement]) -> str:
    """Return which bindings stay enforced in an environment in mode Audit, and why; empty without any."""
    bound = {
        source.binding.metadata.name: source.binding
        for one in running
        if one.placement.policy.spec.mode_in(one.desired.stage.environment) == "Audit"
        for source in one.placement.sources
        if source.source not in one.placement.audited
    }
    policies, stricter = [one.placement.policy for one in running], report.snapshot.stricter
    is_stricter = stricter.all
    why = {one: f"{one}, which AgentPolicy {name} holds to another class" for one, name in stricter.known.items()}
    why |= {
        one: f"{one}, as far as is known: AgentPolicy {name} cannot be read" for one, name in stricter.possible.items()
    }
    found = []
    for name, binding in sorted(bound.items()):
        outside = dict.fromkeys(one for policy in policies for one in outside_development(binding, policy, is_stricter))
        others = ", ".join(why.get(one, one) for one in outside)
        found.append(f"{name} (serves {others})" if others else name)
    return f"; MCPBindings that stay enforced: {', '.join(found)}" if found else ""


def _at_least(count: int) -> str:
    """Return a count by its first digit, such as `at least 200` for 217: each change of it is a write of the status."""
    if count < _EXACT:
        return str(count)
    step = 10 ** (len(str(count)) - 1)
    return f"at least {count // step * step}"


_EXACT: Final = 10


def waiting_finding(report: AgentReport, kind: ConditionType) -> Finding:
    """Return a condition that waits for the layer that refuses, or for a first placement."""
    layer = report.verdict.layer
    if layer is None:
        return Finding(kind, "Unknown", AgentReason.NO_GUARD, "no revision runs")
    return Finding(kind, "Unknown", WAITING[layer], f"waiting for {layer}")
