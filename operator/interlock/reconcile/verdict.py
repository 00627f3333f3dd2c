"""The four layers, asked in order: the first refusal ends the asking."""

from dataclasses import dataclass

from interlock.action.gates import check_action
from interlock.api.refusal import Refusal
from interlock.api.status import ConditionType, Reason
from interlock.governance.gates import check_governance
from interlock.orchestration.gates import check_orchestration
from interlock.reconcile.world import Unreadable, World


@dataclass(frozen=True)
class Verdict:
    """Which layer refused, and why; neither where all of them hold."""

    layer: ConditionType | None = None
    refusal: Refusal | None = None


def judge(world: World, current: int | None) -> Verdict:
    """Ask governance, orchestration and action, in that order.

    Args:
        world: The snapshot.
        current: Index of the stage that this revision has entered, None before its first.
    """
    refusal = _unreadable_agent(world) or _unreadable_policy(world) or check_governance(world.agent, world.policy)
    if refusal is not None or world.policy is None:
        return Verdict(ConditionType.GOVERNED, refusal)
    refusal = check_orchestration(world.agent, world.policy, current)
    if refusal is not None:
        return Verdict(ConditionType.ORCHESTRATED, refusal)
    refusal = _unreadable_binding(world) or check_action(world.agent, world.policy, world.bindings)
    if refusal is not None:
        return Verdict(ConditionType.ACTIONS_BOUND, refusal)
    return Verdict()


def _unreadable_agent(world: World) -> Refusal | None:
    for problem in world.unreadable:
        if problem.kind == "Agent":
            return Refusal(Reason.SPEC_INVALID, f"this Agent cannot be read: {problem.message}; mend it")
    return None


def _unreadable_policy(world: World) -> Refusal | None:
    named = world.agent.spec.policy_ref.name if world.agent.spec.policy_ref else None
    for problem in world.unreadable:
        if problem.kind == "AgentPolicy" and problem.name == named:
            return Refusal(Reason.POLICY_INVALID, _sentence(problem))
    return None


def _unreadable_binding(world: World) -> Refusal | None:
    """A binding that cannot be read might be the second one of a source: it must be mended or removed first."""
    for problem in world.unreadable:
        if problem.kind == "MCPBinding" and world.agent.spec.bindings:
            return Refusal(Reason.BINDING_INVALID, _sentence(problem))
    return None


def _sentence(problem: Unreadable) -> str:
    return f"{problem.kind} {problem.name} cannot be read: {problem.message}; mend it or delete it"
