"""The conditions of an AgentPolicy."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from interlock.api.policy import AgentPolicy, AgentPolicyStatus, PolicyCondition, PolicyReason
from interlock.api.status import Condition
from interlock.reconcile.conditions import Finding, build_condition

_MOST_NAMES = 8


def build_policy_conditions(
    policy: AgentPolicy,
    before: AgentPolicyStatus | None,
    agents: int,
    refused: Mapping[str, str],
    now: datetime,
    more: Iterable[Finding] = (),
) -> tuple[Condition, ...]:
    """Return the conditions.

    Args:
        policy: The policy.
        before: Its status until now.
        agents: The number of Agents that name it.
        refused: The Agents that it refuses, with the reasons.
        now: The time.
        more: What is found besides.
    """
    name = policy.metadata.name
    governs = f"AgentPolicy {name} governs {agents} Agents"
    if policy.spec.budget.total is None:
        governs += "; it has no spec.budget.total, so each new Agent is a new budget"
    findings = [Finding(PolicyCondition.READY, "True", PolicyReason.IN_FORCE, governs)]
    if refused:
        shown = ", ".join(f"{agent} ({reason})" for agent, reason in sorted(refused.items())[:_MOST_NAMES])
        others = f" and {len(refused) - _MOST_NAMES} more" if len(refused) > _MOST_NAMES else ""
        message = (
            f"{len(refused)} of {agents} Agents are refused because they ask for more than AgentPolicy {name} allows: "
            f"{shown}{others}; the condition Ready of each Agent says what to change"
        )
        findings.append(Finding(PolicyCondition.VIOLATED, "True", PolicyReason.AGENTS_REFUSED, message))
    else:
        message = f"AgentPolicy {name} refuses none of {agents} Agents"
        findings.append(Finding(PolicyCondition.VIOLATED, "False", PolicyReason.NO_VIOLATION, message))
    findings += _find_audit(policy)
    known = before.conditions if before else ()
    return tuple(build_condition(finding, policy.metadata.generation, known, now) for finding in (*findings, *more))


def _find_audit(policy: AgentPolicy) -> list[Finding]:
    """Return that the policy is not enforced everywhere; nothing for a policy without mode Audit."""
    audited = [one.name for one in policy.spec.environments if one.mode == "Audit"]
    if not audited:
        return []
    message = (
        f"mode Audit in {', '.join(audited)}: calls without a grant pass and are recorded as WouldDeny, and so are "
        "calls of tools that are not mapped, with all rights of their MCP server, deletes included; MCPBindings that "
        "also serve other classes than development stay enforced; to deny such calls, set mode: Enforce"
    )
    return [Finding(PolicyCondition.ENFORCED, "False", PolicyReason.AUDIT, message)]
