"""The checks of layer 3, action: one reviewed and verified MCPBinding for every source in every stage."""

from collections.abc import Iterator

from interlock.action.server_templates import NamedServer, check_servers
from interlock.api.agent import Agent, BindingUse, Stage
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.refusals import APPLY_GRACE, Refusal
from interlock.api.status import AgentReason, ConditionType
from interlock.api.verification import RETRIED, BindingCondition
from interlock.governance.access_matrix import Granted, matrix_cell
from interlock_contract.names import NEEDS_REVIEW


def binding_for(bindings: tuple[MCPBinding, ...], source: str, environment: str) -> MCPBinding | None:
    """Return the one binding that serves the source in the environment, None where none or several do."""
    found = _serving(bindings, source, environment)
    return found[0] if len(found) == 1 else None


def check_coverage(agent: Agent, bindings: tuple[MCPBinding, ...]) -> Refusal | None:
    """Return the first (stage, source) that no binding or more than one serves.

    All stages are checked from the start, so a missing binding for production shows before the rollout begins.
    """
    for stage in agent.spec.stages:
        for use in agent.spec.bindings:
            refusal = _check_source(bindings, use.source, stage)
            if refusal is not None:
                return refusal
    return None


def _check_source(bindings: tuple[MCPBinding, ...], source: str, stage: Stage) -> Refusal | None:
    found = _serving(bindings, source, stage.environment)
    if len(found) == 1:
        return None
    where = f"source {source!r} in stage {stage.name!r} (environment {stage.environment})"
    if not found:
        deleted = [one.metadata.name for one in bindings if _serves(one, source, stage.environment)]
        why = f" (MCPBinding {deleted[0]} is being deleted)" if deleted else ""
        return Refusal(
            AgentReason.BINDING_MISSING,
            f"no MCPBinding serves {where}{why}: apply one whose source is {source} and whose environments "
            f"hold {stage.environment}, or remove the source from spec.bindings",
            grace=APPLY_GRACE,
        )
    names = ", ".join(sorted(binding.metadata.name for binding in found))
    return Refusal(
        AgentReason.BINDING_AMBIGUOUS,
        f"{len(found)} MCPBindings serve {where}: {names}; leave {stage.environment} in the environments of one",
    )


def _serving(bindings: tuple[MCPBinding, ...], source: str, environment: str) -> list[MCPBinding]:
    """Return the bindings that serve the source. One that is being deleted, which a finalizer may keep, serves none."""
    found = (binding for binding in bindings if _serves(binding, source, environment))
    return [binding for binding in found if binding.metadata.deletion_timestamp is None]


def _serves(binding: MCPBinding, source: str, environment: str) -> bool:
    return binding.spec.source == source and environment in binding.spec.environments


OPERATIONS = ("read", "write", "delete")


def resources(permissions: Granted, operation: str) -> tuple[str, ...]:
    """Return the resources that the permissions list under one operation."""
    return {"read": permissions.read, "write": permissions.write, "delete": permissions.delete}[operation]


def gives(permissions: Granted, operation: str, resource: str) -> bool:
    """Tell whether the permissions hold the operation on the resource; `*` holds every resource."""
    listed = resources(permissions, operation)
    return resource in listed or "*" in listed


def check_narrowing(agent: Agent, policy: AgentPolicy, bindings: tuple[MCPBinding, ...]) -> Refusal | None:
    """Return the first permission that the agent names and that binding or matrix do not give."""
    for use in agent.spec.bindings:
        if use.permissions is None:
            continue
        for where, given in _givers(agent, policy, bindings, use):
            refusal = _check_permissions(use.source, use.permissions, where, given)
            if refusal is not None:
                return refusal
    return None


def _givers(
    agent: Agent, policy: AgentPolicy, bindings: tuple[MCPBinding, ...], use: BindingUse
) -> Iterator[tuple[str, Granted]]:
    cell = matrix_cell(policy, agent.metadata, use.source)
    if cell is not None:
        yield f"AgentPolicy {policy.metadata.name}", cell.permissions
    for environment in dict.fromkeys(stage.environment for stage in agent.spec.stages):
        binding = binding_for(bindings, use.source, environment)
        if binding is not None:
            yield f"MCPBinding {binding.metadata.name}", binding.spec.permissions


def _check_permissions(source: str, asked: Granted, where: str, given: Granted) -> Refusal | None:
    for operation in OPERATIONS:
        for resource in resources(asked, operation):
            if not gives(given, operation, resource):
                return Refusal(
                    AgentReason.NARROWING_INVALID,
                    f"spec.bindings[{source}].permissions.{operation} names {resource!r}, which {where} does not "
                    f"give: remove it there, or add it to {where}",
                )
    return None


def check_reviewed(agent: Agent, bindings: tuple[MCPBinding, ...]) -> Refusal | None:
    """Return the first binding of the agent's stages that waits for review; any value of the annotation says so."""
    for stage in agent.spec.stages:
        for use in agent.spec.bindings:
            binding = binding_for(bindings, use.source, stage.environment)
            if binding is not None and NEEDS_REVIEW in binding.metadata.annotations:
                name = binding.metadata.name
                return Refusal(
                    AgentReason.BINDING_NOT_REVIEWED,
                    f"MCPBinding {name} serves source {use.source!r} in stage {stage.name!r} and is not reviewed: "
                    "check operation and resource of each of its tools, then remove the annotation: "
                    f"kubectl -n {binding.metadata.namespace} annotate mcpbindings.interlock.dev {name} "
                    f"{NEEDS_REVIEW}-",
                )
    return None


def check_verified(
    agent: Agent, bindings: tuple[MCPBinding, ...], *, is_attached: bool | None = None
) -> Refusal | None:
    """Return the first binding of the agent's stages whose server is not verified, with what it waits for.

    All stages are looked at from the start. An agent that is attached goes on when a later verification fails: what has
    drifted is denied by its guard, tool by tool, and a server that is away answers nothing by itself.

    Args:
        agent: The Agent.
        bindings: The bindings.
        is_attached: Whether it has run with these bindings; None for what its status says.
    """
    is_attached = _is_attached(agent) if is_attached is None else is_attached
    for stage in agent.spec.stages:
        for use in agent.spec.bindings:
            binding = binding_for(bindings, use.source, stage.environment)
            if binding is None:
                continue  # told by the check before this one
            refusal = _check_verification(binding, is_attached=is_attached)
            if refusal is not None:
                return refusal
    return None


def _check_verification(binding: MCPBinding, *, is_attached: bool) -> Refusal | None:
    condition = binding.status.condition(BindingCondition.VERIFIED) if binding.status else None
    holds = condition is not None and condition.status == "True"
    if binding.verification.verified_at is not None and (is_attached or holds):
        return None
    why = condition.message[:600] if condition else "the operator has not processed it yet"
    name, namespace = binding.metadata.name, binding.metadata.namespace
    command = "" if "run: " in why else f"; run: kubectl -n {namespace} get mcpbindings.interlock.dev {name} -o yaml"
    return Refusal(
        AgentReason.BINDING_NOT_VERIFIED,
        f"waits for MCPBinding {name} to be verified: {why}{command}",
        is_pending=condition is None or condition.status == "Unknown" or condition.reason in RETRIED,
    )


def _is_attached(agent: Agent) -> bool:
    conditions = agent.status.conditions if agent.status else ()
    return any(known.type == ConditionType.ACTIONS_BOUND and known.status == "True" for known in conditions)


def check_templates(
    agent: Agent, policy: AgentPolicy, bindings: tuple[MCPBinding, ...], reserved_ids: frozenset[int]
) -> Refusal | None:
    """Return the first stage whose stdio servers ask for what the policy does not allow, or cannot share a pod."""
    for stage in agent.spec.stages:
        found = (binding_for(bindings, use.source, stage.environment) for use in agent.spec.bindings)
        servers = (
            NamedServer(f"MCPBinding {one.metadata.name}: spec.server.stdio", one.spec.server.stdio)
            for one in found
            if one is not None and one.spec.server.stdio is not None
        )
        refusal = check_servers(agent, policy, stage, servers, reserved_ids)
        if refusal is not None:
            return refusal
    return None


def check_action(
    agent: Agent,
    policy: AgentPolicy,
    bindings: tuple[MCPBinding, ...],
    *,
    is_attached: bool | None = None,
    reserved_ids: frozenset[int] = frozenset(),
) -> Refusal | None:
    """Return why the agent's tools may not be bound, or None.

    Args:
        agent: The Agent.
        policy: Its policy.
        bindings: The bindings of its namespace.
        is_attached: See `check_verified`.
        reserved_ids: The users and groups of Interlock's containers in its namespace, which no template may choose.
    """
    return (
        check_coverage(agent, bindings)  # one binding for every source in every stage
        or check_reviewed(agent, bindings)  # imported values are reviewed
        or check_narrowing(agent, policy, bindings)  # the agent only narrows permissions
        or check_templates(agent, policy, bindings, reserved_ids)  # what servers ask for is allowed
        or check_verified(agent, bindings, is_attached=is_attached)  # every server is verified
    )
