"""The gates of the action layer, in the order in which they are asked; the first refusal wins."""

from interlock.action.bindings import check_coverage
from interlock.action.permissions import check_narrowing
from interlock.action.review import check_reviewed
from interlock.action.verified import check_verified
from interlock.api.agent import Agent
from interlock.api.agentpolicy import AgentPolicy
from interlock.api.mcpbinding import MCPBinding
from interlock.api.refusal import Refusal


def check_action(agent: Agent, policy: AgentPolicy, bindings: tuple[MCPBinding, ...]) -> Refusal | None:
    """Return why the agent's tools may not be bound, or None."""
    return (
        check_coverage(agent, bindings)  # one binding for every source in every stage
        or check_reviewed(agent, bindings)  # somebody has looked at what an import guessed
        or check_narrowing(agent, policy, bindings)  # and no permission that nobody gives
        or check_verified(agent, bindings)  # and no server that nobody has looked at
    )
