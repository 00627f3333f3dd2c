"""Mode Audit: for which sources of an agent guards only record what the policy does not permit.

An MCP server may hold the keys of every environment that its binding serves. So the mode applies only where all of them
are of class development. Where AgentPolicies of a namespace hold an environment to different classes, the strictest one
counts, since they share its bindings.
"""

from collections.abc import Iterable

from interlock.action.actions_bound import binding_for
from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import EnvironmentClass


def stricter_environments(policy: AgentPolicy, others: Iterable[AgentPolicy | None]) -> frozenset[str]:
    """Return the environments that a policy holds for development, and another one of its namespace does not.

    Only a policy with mode Audit has any, since nothing else depends on them.

    Args:
        policy: The policy.
        others: The policies of its namespace, None for one that cannot be read: it may hold any environment to another
            class, but for those whose name is that of their class.
    """
    if not has_audit(policy):
        return frozenset()
    own = {one.name for one in policy.spec.environments} - environments_outside_development(policy)
    own.discard(EnvironmentClass.DEVELOPMENT)
    stricter: set[str] = set()
    for other in others:
        stricter |= own if other is None else own & environments_outside_development(other)
    return frozenset(stricter)


def has_audit(policy: AgentPolicy) -> bool:
    """Return True if an environment of a policy is in mode Audit."""
    return any(policy.spec.mode_in(one.name) == "Audit" for one in policy.spec.environments)


def environments_outside_development(policy: AgentPolicy) -> frozenset[str]:
    """Return the environments that a policy declares, and not for development."""
    names = (one.name for one in policy.spec.environments)
    return frozenset(name for name in names if policy.spec.class_of(name) is not EnvironmentClass.DEVELOPMENT)


def audited_sources(
    agent: Agent,
    policy: AgentPolicy,
    bindings: tuple[MCPBinding, ...],
    environment: str,
    stricter: frozenset[str] = frozenset(),
) -> frozenset[str]:
    """Return the sources of an agent that are in mode Audit in an environment.

    Args:
        agent: The Agent.
        policy: Its policy.
        bindings: The MCPBindings of its namespace.
        environment: The environment.
        stricter: The environments that another policy holds to a stricter class, see `stricter_environments`.
    """
    if policy.spec.mode_in(environment) != "Audit":
        return frozenset()
    sources = (use.source for use in agent.spec.bindings)
    found = {source: binding_for(bindings, source, environment) for source in sources}
    return frozenset(
        source for source, one in found.items() if one is not None and not outside_development(one, policy, stricter)
    )


def audited_by_environment(
    agent: Agent, policy: AgentPolicy, bindings: tuple[MCPBinding, ...], stricter: frozenset[str] = frozenset()
) -> dict[str, tuple[str, ...]]:
    """Return the sources in mode Audit by the environments of the agent's stages. Others are left out."""
    environments = sorted({stage.environment for stage in agent.spec.stages})
    found = {name: tuple(sorted(audited_sources(agent, policy, bindings, name, stricter))) for name in environments}
    return {name: sources for name, sources in found.items() if sources}


def outside_development(
    binding: MCPBinding, policy: AgentPolicy, stricter: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """Return the environments of a binding that are not of class development. With any of them it stays enforced."""
    environments = binding.spec.environments
    development = EnvironmentClass.DEVELOPMENT
    return tuple(one for one in environments if one in stricter or policy.spec.class_of(one) is not development)
