"""Mode Audit: for which sources of an agent guards only record what the policy does not permit.

An MCP server may hold the keys of every environment that its binding serves. So the mode applies only where all of them
are of class development.
"""

from interlock.action.actions_bound import binding_for
from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import EnvironmentClass


def audited_sources(
    agent: Agent, policy: AgentPolicy, bindings: tuple[MCPBinding, ...], environment: str
) -> frozenset[str]:
    """Return the sources of an agent that are in mode Audit in an environment."""
    if policy.spec.mode_in(environment) != "Audit":
        return frozenset()
    sources = (use.source for use in agent.spec.bindings)
    found = {source: binding_for(bindings, source, environment) for source in sources}
    return frozenset(
        source for source, one in found.items() if one is not None and not outside_development(one, policy)
    )


def audited_by_environment(
    agent: Agent, policy: AgentPolicy, bindings: tuple[MCPBinding, ...]
) -> dict[str, tuple[str, ...]]:
    """Return the sources in mode Audit by the environments of the agent's stages. Others are left out."""
    environments = sorted({stage.environment for stage in agent.spec.stages})
    found = {name: tuple(sorted(audited_sources(agent, policy, bindings, name))) for name in environments}
    return {name: sources for name, sources in found.items() if sources}


def outside_development(binding: MCPBinding, policy: AgentPolicy) -> tuple[str, ...]:
    """Return the environments of a binding that are not of class development. With any of them it stays enforced."""
    environments = binding.spec.environments
    return tuple(one for one in environments if policy.spec.class_of(one) is not EnvironmentClass.DEVELOPMENT)
