"""Mode Audit: for which sources of an agent guards only record what the policy does not permit.

An MCP server may hold the keys of every environment that its binding serves. So the mode applies only where all of them
are of class development. Where AgentPolicies of a namespace hold an environment to different classes, the strictest one
counts, since they share its bindings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from interlock.action.actions_bound import binding_for
from interlock.action.unread_rows import has_unread_rows
from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import EnvironmentClass


@dataclass(frozen=True)
class StricterEnvironments:
    """The environments that a policy holds for development, and another one of its namespace does not, or may not.

    Attributes:
        known: Those that another policy declares so, each with the name of the first such policy.
        possible: Others, each with the name of the first policy that cannot be read. They end mode Audit as long as
            that lasts. No revision begins for them: it would be followed by another one once the policy can be read.
    """

    known: Mapping[str, str] = field(default_factory=dict)
    possible: Mapping[str, str] = field(default_factory=dict)

    @property
    def all(self) -> frozenset[str]:
        """Those that are not in mode Audit today."""
        return frozenset((*self.known, *self.possible))


NONE_STRICTER: Final = StricterEnvironments()


def stricter_environments(policy: AgentPolicy, others: Mapping[str, AgentPolicy | None]) -> StricterEnvironments:
    """Return the environments that a policy holds for development, and another one of its namespace does not.

    Only a policy with mode Audit has any, since nothing else depends on them.

    Args:
        policy: The policy.
        others: The policies of its namespace by name, None for one that cannot be read: it may hold any environment to
            another class, but for those whose name is that of their class.
    """
    if not has_audit(policy):
        return NONE_STRICTER
    own = {one.name for one in policy.spec.environments} - environments_outside_development(policy)
    own.discard(EnvironmentClass.DEVELOPMENT)
    known: dict[str, str] = {}
    possible: dict[str, str] = {}
    for name, other in sorted(others.items()):
        for environment in own if other is None else own & environments_outside_development(other):
            (possible if other is None else known).setdefault(environment, name)
    return StricterEnvironments(known, {one: name for one, name in possible.items() if one not in known})


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
        stricter: The environments that another policy holds to a stricter class, see `StricterEnvironments`.
    """
    if policy.spec.mode_in(environment) != "Audit":
        return frozenset()
    sources = (use.source for use in agent.spec.bindings)
    found = {source: binding_for(bindings, source, environment) for source in sources}
    return frozenset(
        source
        for source, one in found.items()
        if one is not None and not outside_development(one, policy, stricter) and not has_unread_rows(one)
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
