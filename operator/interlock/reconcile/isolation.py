"""How far the network keeps an agent from going round its guard: what its pods have seen, and what follows from it."""

from dataclasses import dataclass
from typing import Literal

from interlock.api.status import Reason
from interlock.deployment.gate import GateVerdict, may_start_open
from interlock.orchestration.rollout import StageFacts
from interlock.reconcile.world import World


@dataclass(frozen=True)
class Egress:
    """What EgressEnforced says.

    Attributes:
        status: Whether it holds.
        reason: Why, as one word.
        message: Why, as one sentence.
        refuses: The agent does not start: its gate waits for a network that is closed.
    """

    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: str
    refuses: bool = False


def egress_of(world: World, facts: StageFacts, *, is_killed: bool) -> Egress:
    """Return how far egress is enforced for the agent in the stage that holds. To be asked once all layers hold."""
    if world.policy is not None and world.policy.spec.environments.isolation_in(facts.stage.environment) == "Shared":
        return Egress("False", Reason.SHARED_POD, _shared(world.policy.metadata.name, facts))
    if is_killed:
        return Egress("Unknown", Reason.KILL_SWITCH, "killed: no pod runs")
    wanted = world.agent.spec.replicas
    if wanted == 0:
        return Egress("Unknown", Reason.NO_GUARD, "spec.replicas is 0: no pod runs")
    found = [one for one in world.gates if (one.stage, one.revision) == (facts.stage.name, facts.revision)]
    seen = next((one.message for one in found if one.verdict is GateVerdict.OPEN), None)
    if seen is not None:
        goes_on = may_start_open(facts.stage.environment)
        return Egress("False", Reason.NETWORK_OPEN, _open(facts, seen, goes_on=goes_on), refuses=not goes_on)
    if sum(one.verdict is GateVerdict.CLOSED for one in found) < wanted:
        return Egress("Unknown", Reason.EGRESS_UNPROVEN, f"not all of {wanted} pods have seen yet what they can reach")
    return Egress("True", Reason.EGRESS_CLOSED, "every pod of the agent reaches its guard and found the rest closed")


def _shared(policy: str, facts: StageFacts) -> str:
    environment = facts.stage.environment
    return (
        "agent and guard share a pod and its network: the agent can open connections of its own to whatever the "
        "network lets this pod reach, past the guard, which then neither decides nor records; for pods of their own "
        f"write isolation: Separate in spec.environments.{environment} of AgentPolicy {policy}"
    )


def _open(facts: StageFacts, seen: str, *, goes_on: bool) -> str:
    environment = facts.stage.environment
    what = f": {seen}" if seen else ""
    follows = (
        f"in {environment} it runs all the same"
        if goes_on
        else f"in {environment} it does not start: install a network that enforces NetworkPolicies (Calico, Cilium, "
        "kube-router or another), its pods then start by themselves"
    )
    return (
        f"the cluster's network enforces no NetworkPolicy{what}, seen from the agent's own pod, so nothing would keep "
        f"the agent from going round its guard; {follows}"
    )
