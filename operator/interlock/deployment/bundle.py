"""Compile policy, bindings and the agent's own narrowing into the bundle that the guard obeys."""

from interlock.api import mcpbinding
from interlock.api.mcpbinding import MCPBinding
from interlock.api.permissions import Permissions
from interlock.deployment.child import Manifest, build_child
from interlock.deployment.http_servers import build_target
from interlock.deployment.labels import placement_labels
from interlock.deployment.models import compile_models
from interlock.deployment.names import name_of
from interlock.deployment.placement import BoundSource, Placement
from interlock.governance.access import matrix_cell
from interlock_guard.bundle.document import (
    BUNDLE_KEY,
    SCHEMA_VERSION,
    AgentIdentity,
    ArgumentRule,
    Bundle,
    Grant,
    Layer,
    Limits,
    Pin,
    Prompt,
    RecordPolicy,
    Resource,
    ResourceScope,
    ScopeLimit,
    Source,
    TaskIntake,
    Tool,
    ToolScope,
    dump_bundle,
)


def compile_bundle(placement: Placement) -> Bundle:
    """Return everything that the placement's guard needs to decide, and nothing else."""
    metadata = placement.agent.metadata
    return Bundle(
        schema_version=SCHEMA_VERSION,
        agent=AgentIdentity(name=metadata.name, namespace=metadata.namespace, uid=metadata.uid),
        revision=placement.revision,
        stage=placement.stage.name,
        environment=placement.stage.environment,
        scope=tuple(ScopeLimit(limit.dimension, limit.values) for limit in placement.scope),
        sources=tuple(_source(placement, bound) for bound in placement.sources),
        models=compile_models(placement),
        records=RecordPolicy(placement.policy.spec.records.arguments, placement.policy.spec.records.redact),
        tasks=_tasks(placement),
    )


def build_bundle(placement: Placement) -> Manifest:
    """Return the ConfigMap that carries the bundle; the guard watches it at the API server."""
    return build_child(
        placement.agent,
        "v1",
        "ConfigMap",
        name_of(placement),
        placement_labels(placement, "bundle"),
        data={BUNDLE_KEY: dump_bundle(compile_bundle(placement))},
    )


def _tasks(placement: Placement) -> TaskIntake | None:
    taken = placement.agent.spec.orchestration
    return None if taken is None else TaskIntake(taken.port, taken.max_concurrent_tasks)


def _source(placement: Placement, bound: BoundSource) -> Source:
    return compile_source(bound, _grants(placement, bound), pins_of(bound.binding))


def pins_of(binding: MCPBinding) -> tuple[Pin, ...]:
    """Return the tools of a binding that were verified, or accepted since: guards let no others pass."""
    return tuple(Pin(tool.name, tool.pinned_digest) for tool in binding.verification.tools if tool.pinned_digest)


def compile_source(bound: BoundSource, grants: tuple[Grant, ...], pins: tuple[Pin, ...]) -> Source:
    """Return a source as a guard's bundle describes it."""
    spec = bound.binding.spec
    return Source(
        name=bound.source,
        binding=bound.binding.metadata.name,
        transport="stdio" if spec.server.http is None else "http",
        tools=tuple(Tool(tool.name, tool.operation, *_meaning(tool)) for tool in spec.tools),
        grants=grants,
        resources=tuple(_resource(resource) for resource in spec.resources),
        prompts=tuple(Prompt(prompt.name, prompt.operation, *_meaning(prompt)) for prompt in spec.prompts),
        server_requests=spec.server_requests,
        limits=Limits(
            request_bytes=spec.limits.request_bytes,
            result_bytes=spec.limits.result_bytes,
            in_flight=spec.limits.in_flight,
        ),
        http=None if spec.server.http is None else build_target(spec.server.http),
        pins=pins,
    )


def _meaning(
    entry: mcpbinding.Tool | mcpbinding.Prompt,
) -> tuple[str, tuple[ToolScope, ...], tuple[ArgumentRule, ...]]:
    """Return what tools and prompts have in common: resource, scope and rules on arguments."""
    scope = tuple(
        ToolScope(dimension=limit.dimension, pointer=limit.pointer, unscoped=limit.unscoped is not None)
        for limit in entry.scope
    )
    rules = tuple(
        ArgumentRule(
            rule.pointer,
            enum=rule.enum,
            prefix=rule.prefix,
            pattern=rule.pattern,
            maximum=rule.maximum if isinstance(rule, mcpbinding.ArgumentRule) else None,
        )
        for rule in entry.arguments
    )
    return entry.resource, scope, rules


def _resource(entry: mcpbinding.ServerResource) -> Resource:
    scope = tuple(
        ResourceScope(dimension=limit.dimension, values=limit.values, unscoped=limit.unscoped is not None)
        for limit in entry.scope
    )
    return Resource(entry.uri, entry.operation, entry.resource, scope)


def _grants(placement: Placement, bound: BoundSource) -> tuple[Grant, ...]:
    """Return who must agree to a call: binding, matrix and, where it narrows, the agent itself."""
    agent = placement.agent
    grants = [build_grant("Binding", f"mcpbinding/{bound.binding.metadata.name}", bound.binding.spec.permissions)]
    cell = matrix_cell(placement.policy, agent.metadata, bound.source)
    # Without a row nothing is given: governance has refused such an agent, and the guard would as well.
    rule = cell.rule if cell else f"agentpolicy/{placement.policy.metadata.name}/dataAccess"
    grants.append(build_grant("Matrix", rule, cell.permissions if cell else Permissions()))
    narrowed = (use.permissions for use in agent.spec.bindings if use.source == bound.source)
    rule = f"agent/{agent.metadata.name}/bindings[{bound.source}]"
    return (*grants, *(build_grant("Agent", rule, permissions) for permissions in narrowed if permissions is not None))


def build_grant(layer: Layer, rule: str, permissions: Permissions) -> Grant:
    """Return what one layer permits."""
    return Grant(layer=layer, rule=rule, read=permissions.read, write=permissions.write, delete=permissions.delete)
