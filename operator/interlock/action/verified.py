"""No agent is attached to a server that was not verified; one that is attached stays while others look after it."""

from interlock.action.bindings import binding_for
from interlock.api.agent import Agent
from interlock.api.mcpbinding import MCPBinding
from interlock.api.refusal import Refusal
from interlock.api.status import ConditionType, Reason
from interlock.api.verification import BindingCondition


def check_verified(agent: Agent, bindings: tuple[MCPBinding, ...]) -> Refusal | None:
    """Return the first binding of the agent's stages whose server is not verified, with what it waits for.

    All stages are looked at from the start. An agent that is attached goes on when a later verification fails: what has
    drifted is denied by its guard, tool by tool, and a server that is away answers nothing by itself.
    """
    is_attached = _is_attached(agent)
    for stage in agent.spec.stages:
        for use in agent.spec.bindings:
            binding = binding_for(bindings, use.source, stage.environment)
            if binding is None:
                continue  # told by the check before this one
            refusal = _check_one(binding, is_attached=is_attached)
            if refusal is not None:
                return refusal
    return None


def _check_one(binding: MCPBinding, *, is_attached: bool) -> Refusal | None:
    condition = binding.status.condition(BindingCondition.VERIFIED) if binding.status else None
    holds = condition is not None and condition.status == "True"
    if binding.verification.verified_at is not None and (is_attached or holds):
        return None
    why = condition.message if condition else "the operator has not looked at it yet"
    name, namespace = binding.metadata.name, binding.metadata.namespace
    return Refusal(
        Reason.BINDING_NOT_VERIFIED,
        f"waits for MCPBinding {name} to be verified: {why[:600]}; "
        f"look: kubectl -n {namespace} get mcpbindings.interlock.dev {name} -o yaml",
    )


def _is_attached(agent: Agent) -> bool:
    conditions = agent.status.conditions if agent.status else ()
    return any(known.type == ConditionType.ACTIONS_BOUND and known.status == "True" for known in conditions)
