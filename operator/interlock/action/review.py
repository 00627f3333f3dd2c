"""A binding that holds guesses serves nobody before a person has looked at it."""

from interlock.action.bindings import binding_for
from interlock.api.agent import Agent
from interlock.api.mcpbinding import MCPBinding
from interlock.api.meta import NEEDS_REVIEW
from interlock.api.refusal import Refusal
from interlock.api.status import Reason


def check_reviewed(agent: Agent, bindings: tuple[MCPBinding, ...]) -> Refusal | None:
    """Return the first binding of the agent's stages that waits for review; any value of the annotation says so."""
    for stage in agent.spec.stages:
        for use in agent.spec.bindings:
            binding = binding_for(bindings, use.source, stage.environment)
            if binding is not None and NEEDS_REVIEW in binding.metadata.annotations:
                name = binding.metadata.name
                return Refusal(
                    Reason.BINDING_NOT_REVIEWED,
                    f"MCPBinding {name} serves source {use.source!r} in stage {stage.name!r} and is not reviewed: "
                    "look at operation and resource of each of its tools, then take the annotation out: "
                    f"kubectl annotate mcpbinding {name} {NEEDS_REVIEW}-",
                )
    return None
