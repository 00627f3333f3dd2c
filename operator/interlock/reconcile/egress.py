"""The condition EgressEnforced: what an agent's pods can reach, as their policy says and their egress checks saw."""

from dataclasses import dataclass
from typing import Literal

from interlock.api.environments import class_of_name
from interlock.api.shared_types import EnvironmentClass
from interlock.api.status import AgentReason
from interlock.deployment.observed.egress_check import EgressCheckReport, EgressCheckVerdict
from interlock.deployment.observed.pod_reports import PodReport
from interlock.deployment.placement import may_start_open
from interlock.orchestration.soak import StageFacts
from interlock.reconcile.snapshot import Snapshot


@dataclass(frozen=True)
class Egress:
    """The condition EgressEnforced.

    Attributes:
        status: Its status.
        reason: Its reason.
        message: Its message.
        refuses: Whether the agent does not start: its egress check waits for a network that enforces NetworkPolicies.
    """

    status: Literal["True", "False", "Unknown"]
    reason: AgentReason
    message: str
    refuses: bool = False


def egress_of(snapshot: Snapshot, facts: StageFacts, *, wanted: int, is_killed: bool) -> Egress:
    """Return how far egress is enforced for the agent in its current stage. All layers must be satisfied.

    Args:
        snapshot: The snapshot.
        facts: The current stage.
        wanted: How many pods the agent has in it.
        is_killed: Whether the agent is killed.
    """
    class_of = class_of_name if snapshot.policy is None else snapshot.policy.spec.class_of
    environment_class = class_of(facts.stage.environment)
    if snapshot.policy is not None and snapshot.policy.spec.isolation_in(facts.stage.environment) == "Shared":
        # A shared pod is the default of development. Elsewhere the policy asks for it.
        is_default = environment_class is EnvironmentClass.DEVELOPMENT
        status: Literal["False", "Unknown"] = "Unknown" if is_default else "False"
        return Egress(status, AgentReason.SHARED_POD, _shared_message(snapshot.policy.metadata.name, facts))
    if is_killed:
        return Egress("Unknown", AgentReason.KILL_SWITCH, "killed: no pod runs")
    if wanted == 0:
        why = "spec.replicas is 0" if snapshot.agent.spec.replicas == 0 else "the budget is exhausted"
        return Egress("Unknown", AgentReason.NO_GUARD, f"{why}: no pod runs")
    found = _checks_of(snapshot, facts)
    seen = next((one.message for one in found if one.verdict is EgressCheckVerdict.OPEN), None)
    if seen is not None:
        goes_on = may_start_open(environment_class)
        message = _open_message(facts, seen, goes_on=goes_on)
        return Egress("False", AgentReason.NETWORK_OPEN, message, refuses=not goes_on)
    closed = sum(one.verdict is EgressCheckVerdict.CLOSED for one in found)
    if closed < wanted:
        return Egress(
            "Unknown",
            AgentReason.EGRESS_CHECK_PENDING,
            f"{closed} of {wanted} agent pods have finished their egress check",
        )
    return Egress("True", AgentReason.EGRESS_CLOSED, "every agent pod can reach only its guard")


def _checks_of(snapshot: Snapshot, facts: StageFacts) -> list[EgressCheckReport]:
    """Return the reports of the stage's separate agent pods."""
    return [one.egress_check for one in _pods_of(snapshot, facts) if one.egress_check is not None]


def _pods_of(snapshot: Snapshot, facts: StageFacts) -> tuple[PodReport, ...]:
    return snapshot.pods.of(facts.stage.name, facts.revision)


def _shared_message(policy: str, facts: StageFacts) -> str:
    environment = facts.stage.environment
    return (
        "the agent can open connections past the guard, which neither authorizes nor records these, because both "
        "share a pod and its network; to give each a separate pod, "
        f"write isolation: Separate for {environment} into spec.environments of AgentPolicy {policy}"
    )


def _open_message(facts: StageFacts, seen: str, *, goes_on: bool) -> str:
    environment = facts.stage.environment
    what = f": {seen}" if seen else ""
    follows = (
        f"in {environment} it runs nevertheless"
        if goes_on
        else f"in {environment} it does not start: install a network plugin that enforces NetworkPolicies (Calico, "
        "Cilium, kube-router or another), then its pods start automatically"
    )
    return (
        f"the agent could bypass its guard because the cluster's network enforces no NetworkPolicy{what}, as observed "
        f"from the agent's own pod; {follows}"
    )
