"""The verdict of the layers on one Agent: governance, orchestration and action, in that order."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from interlock.action.actions_bound import check_action
from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.refusals import Refusal
from interlock.api.status import AgentReason, ConditionType
from interlock.deployment.cloud_identity import check_metadata_server
from interlock.governance.budgets import ModelPrices
from interlock.governance.governed import check_governance
from interlock.orchestration.claim_checks import LONG_AGO, Claims, ClaimUse, check_claims
from interlock.orchestration.orchestrated import check_orchestration
from interlock.reconcile.claims import used_claims
from interlock.reconcile.snapshot import Snapshot, Unreadable, readable
from interlock_contract.kill import KillLatch, observe


@dataclass(frozen=True)
class Verdict:
    """Which layer refused, and why; neither where all layers are satisfied."""

    layer: ConditionType | None = None
    refusal: Refusal | None = None


def killed_by(snapshot: Snapshot) -> str | None:
    """Return the value of the kill switch while the agent is killed, else None.

    Two watches see it, and either of them kills: the second one may be ahead. A release must have been seen by both.
    """
    if snapshot.kill_seen is not None:
        return snapshot.kill_seen
    agent = snapshot.agent
    recorded = {"kill": agent.status.kill.to_kubernetes()} if agent.status and agent.status.kill else {}
    return observe(KillLatch(), agent.metadata.annotations, recorded).message


def check_layers(
    snapshot: Snapshot, current: int | None, running_claims: Mapping[str, frozenset[str]] | None = None
) -> Verdict:
    """Check governance, orchestration and action, in that order; the first refusal is the verdict.

    Args:
        snapshot: The snapshot.
        current: Index of the stage that this revision has entered, None before its first.
        running_claims: The claims of the revisions that run, by environment; None for none.
    """
    refusal = (
        _being_deleted(snapshot.agent)
        or _unreadable_agent(snapshot)
        or _unreadable_policy(snapshot)
        or check_governance(snapshot.agent, snapshot.policy, _prices(snapshot), current)
        or _metadata_server_closed(snapshot)
    )
    if refusal is not None or snapshot.policy is None:
        return Verdict(ConditionType.GOVERNED, refusal)
    refusal = check_orchestration(snapshot.agent, snapshot.policy, current) or check_claims(
        snapshot.agent, snapshot.policy, claims_of_namespace(snapshot, running_claims)
    )
    if refusal is not None:
        return Verdict(ConditionType.ORCHESTRATED, refusal)
    refusal = _unreadable_binding(snapshot) or check_action(
        snapshot.agent, snapshot.policy, snapshot.bindings, reserved_ids=snapshot.users.reserved
    )
    if refusal is not None:
        return Verdict(ConditionType.ACTIONS_BOUND, refusal)
    return Verdict()


def claims_of_namespace(snapshot: Snapshot, running: Mapping[str, frozenset[str]] | None = None) -> Claims:
    """Return the claims of the namespace, as far as they concern the agent.

    Args:
        snapshot: The snapshot.
        running: The claims of its revisions that run, by environment; None for none.
    """
    metadata = snapshot.agent.metadata
    own = ClaimUse(
        metadata.name,
        metadata.creation_timestamp or LONG_AGO,
        held=announced_claims(snapshot.agent),
        used=used_claims(snapshot.children, snapshot.pods),
    )
    return Claims(own, snapshot.claims_of_others, running or {})


def announced_claims(agent: Agent) -> frozenset[str]:
    """Return the claims that an Agent's status announces."""
    status = agent.status
    return frozenset(status.rollout.claims if status is not None and status.rollout is not None else ())


def refuses_all(snapshot: Snapshot) -> Refusal | None:
    """Return why no revision at all may run, whatever it was reviewed with; None if some may.

    An object of which all is known that revisions depend on refuses only what would begin.
    """
    lost = tuple(one for one in snapshot.unreadable if one.rest is None)
    if len(lost) < len(snapshot.unreadable):
        snapshot = replace(snapshot, unreadable=lost)
    return (
        _being_deleted(snapshot.agent)
        or _unreadable_agent(snapshot)
        or _unreadable_policy(snapshot)
        or _unreadable_binding(snapshot)
    )


def _metadata_server_closed(snapshot: Snapshot) -> Refusal | None:
    if snapshot.policy is None:
        return None
    return check_metadata_server(snapshot.agent, snapshot.policy, snapshot.metadata_server)


def _prices(snapshot: Snapshot) -> ModelPrices | None:
    return None if snapshot.policy is None else snapshot.spending.find_prices(snapshot.agent, snapshot.policy)


def _being_deleted(agent: Agent) -> Refusal | None:
    """A finalizer, which anyone who may edit the Agent can add, keeps the object and none of its pods."""
    if agent.metadata.deletion_timestamp is None:
        return None
    finalizers = ", ".join(agent.metadata.finalizers)[:200]
    kept = f"; its finalizers keep the object: {finalizers}" if finalizers else ""
    return Refusal(AgentReason.BEING_DELETED, f"this Agent is being deleted, so all its pods end{kept}")


def _unreadable_agent(snapshot: Snapshot) -> Refusal | None:
    for problem in snapshot.unreadable:
        if problem.kind == "Agent":
            message = f"this Agent cannot be read: {problem.message}; fix it{_what_runs(problem)}"
            return Refusal(AgentReason.SPEC_INVALID, message)
    return None


def _unreadable_policy(snapshot: Snapshot) -> Refusal | None:
    named = snapshot.agent.spec.policy_ref.name if snapshot.agent.spec.policy_ref else None
    for problem in snapshot.unreadable:
        if problem.kind == "AgentPolicy" and problem.name == named:
            return Refusal(AgentReason.POLICY_INVALID, _unreadable_message(problem))
    return None


def _unreadable_binding(snapshot: Snapshot) -> Refusal | None:
    """A binding that cannot be read might be the second one of a source: it must be fixed or deleted first.

    The snapshot has only those that may serve a source of the agent.
    """
    environments = {stage.environment for stage in snapshot.agent.spec.stages}
    for problem in snapshot.unreadable:
        rest = readable(problem, MCPBinding)
        is_elsewhere = rest is not None and environments.isdisjoint(rest.spec.environments)
        if problem.kind == "MCPBinding" and snapshot.agent.spec.bindings and not is_elsewhere:
            return Refusal(AgentReason.BINDING_INVALID, _unreadable_message(problem))
    return None


def _unreadable_message(problem: Unreadable) -> str:
    return f"{problem.kind} {problem.name} cannot be read: {problem.message}; fix it or delete it{_what_runs(problem)}"


def _what_runs(problem: Unreadable) -> str:
    """Return the end of a sentence about an object that cannot be read: what becomes of revisions that run."""
    return f"; {problem.until_fixed}" if problem.until_fixed else ""
