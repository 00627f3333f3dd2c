"""An agent may only narrow what binding and matrix give it: naming more is refused, not silently cut."""

from collections.abc import Iterator

from interlock.action.bindings import binding_for
from interlock.api.agent import Agent, BindingUse
from interlock.api.agentpolicy import AgentPolicy
from interlock.api.mcpbinding import MCPBinding
from interlock.api.permissions import Permissions
from interlock.api.refusal import Refusal
from interlock.api.status import Reason
from interlock.governance.access import matrix_cell

OPERATIONS = ("read", "write", "delete")


def resources(permissions: Permissions, operation: str) -> tuple[str, ...]:
    """Return the resources that the permissions list under one operation."""
    return {"read": permissions.read, "write": permissions.write, "delete": permissions.delete}[operation]


def gives(permissions: Permissions, operation: str, resource: str) -> bool:
    """Tell whether the permissions hold the operation on the resource; `*` holds every resource."""
    listed = resources(permissions, operation)
    return resource in listed or "*" in listed


def check_narrowing(agent: Agent, policy: AgentPolicy, bindings: tuple[MCPBinding, ...]) -> Refusal | None:
    """Return the first permission that the agent names and that binding or matrix do not give."""
    for use in agent.spec.bindings:
        if use.permissions is None:
            continue
        for where, given in _givers(agent, policy, bindings, use):
            refusal = _check_one(use.source, use.permissions, where, given)
            if refusal is not None:
                return refusal
    return None


def _givers(
    agent: Agent, policy: AgentPolicy, bindings: tuple[MCPBinding, ...], use: BindingUse
) -> Iterator[tuple[str, Permissions]]:
    cell = matrix_cell(policy, agent.metadata, use.source)
    if cell is not None:
        yield f"AgentPolicy {policy.metadata.name}", cell.permissions
    for environment in dict.fromkeys(stage.environment for stage in agent.spec.stages):
        binding = binding_for(bindings, use.source, environment)
        if binding is not None:
            yield f"MCPBinding {binding.metadata.name}", binding.spec.permissions


def _check_one(source: str, asked: Permissions, where: str, given: Permissions) -> Refusal | None:
    for operation in OPERATIONS:
        for resource in resources(asked, operation):
            if not gives(given, operation, resource):
                return Refusal(
                    Reason.NARROWING_INVALID,
                    f"spec.bindings[{source}].permissions.{operation} names {resource!r}, which {where} does not "
                    f"give: remove it there, or add it to {where}",
                )
    return None
