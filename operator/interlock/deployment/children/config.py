"""The files of a placement: the agent's ConfigMap and Secret, and the bundle that the guard enforces.

The Secret holds what the agent shows to its guard: a key, also as part of the URLs of its MCP servers. The operator
creates and deletes Secrets, and never reads one, so none is compared with what it must be like. It cannot be changed,
and its name holds a digest of its content. Other content therefore means another Secret and other pods.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

from msgspec import structs

from interlock.api import binding
from interlock.api.policy import EgressProxy
from interlock.api.shared_types import parse_duration
from interlock.api.verification import PinnedDefinition
from interlock.deployment.children.services import guard_url
from interlock.deployment.children.upstreams import build_target, compile_models
from interlock.deployment.names import BUNDLE, Manifest, agent_config, agent_secret, build_placement_child, name_of
from interlock.deployment.placement import BoundSource, Placement, Scope
from interlock.governance.access_matrix import Granted, MatrixPermissions, matrix_cell
from interlock_contract.agent_key import agent_key_digest
from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.money import parse_money
from interlock_contract.bundle import (
    BUNDLE_KEY,
    MAX_CHANGED_ADDRESSES,
    MAX_CHANGED_PODS,
    AgentIdentity,
    Bundle,
    BundleArgumentRule,
    BundleAuditPolicy,
    BundleLimits,
    BundlePeer,
    BundlePrompt,
    BundleResource,
    BundleResourceScope,
    BundleSource,
    BundleTasks,
    BundleTaskScope,
    BundleTool,
    BundleToolScope,
    Grant,
    Layer,
    Pin,
    ScopeLimit,
    dump_bundle,
)
from interlock_contract.bundle_schema import SCHEMA_VERSION, newer_field
from interlock_contract.loops import BundleLoops

MCP_CONFIG = "mcp.json"
SCOPE_FILE = "scope.json"
"""File of the agent with the scope of today, below its config path."""
AGENT_KEY = "key"
"""Key of the agent's Secret for the agent's key alone, which clients of models show."""
FILES_PATH = "files"


def build_agent_config(placement: Placement) -> Manifest:
    """Return the ConfigMap with the user's files and the scope of today, which the agent's container mounts."""
    data = user_files(placement) | {SCOPE_FILE: _scope_file(placement)}
    return build_placement_child(placement, "v1", "ConfigMap", agent_config(placement), "files", data=data)


def user_files(placement: Placement) -> dict[str, str]:
    """Return the user's files by their keys in the ConfigMap. Another one means other pods."""
    return {_key(index): file.content for index, file in enumerate(placement.agent.spec.files)}


def _scope_file(placement: Placement) -> str:
    """Return what the agent serves as JSON. The kubelet updates it in running pods, within about a minute."""
    excluded = [_limits(scope) for scope in placement.excluded_now]
    return json.dumps({"scope": _limits(placement.scope), "excluded": excluded}, separators=(",", ":")) + "\n"


def _limits(scope: Scope) -> list[dict[str, Any]]:
    return [limit.model_dump(mode="json") for limit in scope]


def build_agent_secret(placement: Placement) -> Manifest:
    """Return the Secret with the agent's key and its `mcpServers` file, which only the agent's container gets."""
    data = {name: base64.b64encode(text.encode()).decode() for name, text in _secret_files(placement).items()}
    name = name_of_secret(placement)
    return build_placement_child(placement, "v1", "Secret", name, "agent-key", type="Opaque", immutable=True, data=data)


def name_of_secret(placement: Placement) -> str:
    """Return the name of the agent's Secret."""
    text = json.dumps(_secret_files(placement), sort_keys=True)
    return agent_secret(placement, hashlib.sha256(text.encode()).hexdigest())


def _secret_files(placement: Placement) -> dict[str, str]:
    # The form that MCP clients' config files and the common libraries read. Each of them can carry a URL, but not each
    # one headers, so the key is a part of the path.
    base = f"{guard_url(placement)}/{placement.agent_key}"
    servers = {bound.source: {"type": "http", "url": f"{base}/mcp/{bound.source}"} for bound in placement.sources}
    return {AGENT_KEY: placement.agent_key, MCP_CONFIG: json.dumps({"mcpServers": servers}, indent=2) + "\n"}


def build_config_volume(placement: Placement) -> dict[str, Any]:
    """Return the volume with the `mcpServers` file, the scope, and the user's files under their own paths."""
    mcp_config = {"name": name_of_secret(placement), "items": [{"key": MCP_CONFIG, "path": MCP_CONFIG}]}
    sources: list[dict[str, Any]] = [{"secret": mcp_config}]
    files = [
        {"key": SCOPE_FILE, "path": SCOPE_FILE},
        *(
            {"key": _key(index), "path": f"{FILES_PATH}/{file.path}"}
            for index, file in enumerate(placement.agent.spec.files)
        ),
    ]
    sources.append({"configMap": {"name": agent_config(placement), "items": files}})
    return {"name": "config", "projected": {"sources": sources}}


def _key(index: int) -> str:
    """Return the ConfigMap key of a user's file: a key has no slash, a path may."""
    return f"file-{index}"


def compile_bundle(placement: Placement) -> Bundle:
    """Return the policy that the placement's guard enforces, in the schema that its guards read.

    What that schema cannot say is never left out: then the bundle is in today's schema, and older guards refuse it.
    """
    bundle = _compile(placement)
    is_sayable = newer_field(bundle, placement.bundle_schema) is None
    return structs.replace(bundle, schema_version=placement.bundle_schema) if is_sayable else bundle


def _compile(placement: Placement) -> Bundle:
    metadata, owner = placement.agent.metadata, placement.agent.spec.owner
    return Bundle(
        schema_version=SCHEMA_VERSION,
        agent=AgentIdentity(metadata.name, metadata.namespace, metadata.uid, owner.email or None if owner else None),
        revision=placement.revision,
        stage=placement.stage.name,
        environment=placement.stage.environment,
        scope=_scope(placement.scope),
        sources=tuple(_source(placement, bound) for bound in placement.sources),
        models=compile_models(placement),
        agent_key_digest=agent_key_digest(placement.agent_key) if placement.agent_key else None,
        audit=BundleAuditPolicy(placement.policy.spec.audit.arguments, placement.policy.spec.audit.redact),
        tasks=_tasks(placement),
        budget=_budget(placement),
        loops=_loops(placement),
        excluded=tuple(map(_scope, placement.excluded_now)),
        is_draining=placement.is_draining,
        peers=tuple(
            BundlePeer(
                one.stage, one.revision, one.url, _scope(one.scope), tuple(map(_scope, one.excluded)), one.is_draining
            )
            for one in placement.peers
        ),
        draining_pods=placement.draining_pods,
        is_counted=placement.is_counted,
        draining_addresses=placement.draining_addresses,
        changed_pods=placement.changed_pods[:MAX_CHANGED_PODS],
        changed_addresses=placement.changed_addresses[:MAX_CHANGED_ADDRESSES],
    )


def _tasks(placement: Placement) -> BundleTasks | None:
    """Return how the agent takes tasks, None where it takes none."""
    tasks = placement.agent.spec.tasks
    if tasks is None:
        return None
    return BundleTasks(
        tasks.port,
        tasks.max_concurrent_tasks,
        scope=tuple(BundleTaskScope(one.dimension, one.header, one.pointer) for one in tasks.scope),
        drain_seconds=placement.drain_seconds,
    )


def _scope(scope: Scope) -> tuple[ScopeLimit, ...]:
    return tuple(ScopeLimit(limit.dimension, limit.values) for limit in scope)


def _loops(placement: Placement) -> BundleLoops | None:
    """Return when identical calls are a loop; None where any call may be repeated."""
    loops = placement.policy.spec.loops
    if loops is None:
        return None
    seconds = math.ceil(parse_duration(loops.window).total_seconds())
    return BundleLoops(loops.identical_calls, seconds, loops.action)


def _budget(placement: Placement) -> BundleBudget | None:
    """Return the ledgers and limits of the agent, None where nothing limits it."""
    budget = placement.budget
    if budget is None:
        return None
    total, per_task = budget.total_terms, placement.policy.spec.budget.per_task
    return BundleBudget(
        ledger=budget.identity.name,
        day=budget.terms.day,
        month=budget.terms.month,
        total_ledger=None if budget.total is None else budget.total.name,
        total_day=None if total is None else total.day,
        total_month=None if total is None else total.month,
        time_zone=budget.terms.time_zone,
        alert_percents=budget.terms.alert_percents,
        max_output_tokens=placement.policy.spec.models.max_output_tokens,
        hang_up_seconds=placement.policy.spec.models.hang_up_seconds,
        day_seconds=budget.terms.day_seconds,
        per_task=None if per_task is None else parse_money(per_task),
        rate_limits=budget.rates,
    )


def build_bundle(placement: Placement) -> Manifest:
    """Return the ConfigMap with the bundle, which the guard watches at the API server."""
    return build_placement_child(
        placement,
        "v1",
        "ConfigMap",
        name_of(placement),
        BUNDLE,
        data={BUNDLE_KEY: dump_bundle(compile_bundle(placement))},
    )


def _source(placement: Placement, bound: BoundSource) -> BundleSource:
    known = bound.binding.verification
    instructions = known.instructions if bound.binding.spec.instructions == "Pinned" else None
    return structs.replace(
        compile_source(bound, _grants(placement, bound), placement.policy.spec.egress_proxy),
        pins=pins_of(known.tools),
        prompt_pins=pins_of(known.prompts or ()),
        instructions_pin=None if instructions is None else instructions.pinned_digest or None,
        protocol=known.protocol,
        mode="Audit" if bound.source in placement.audited else "Enforce",
    )


def pins_of(definitions: Iterable[PinnedDefinition]) -> tuple[Pin, ...]:
    """Return the tools or prompts of a binding that were verified or accepted. Guards deny all others."""
    return tuple(Pin(one.name, one.pinned_digest) for one in definitions if one.pinned_digest)


def compile_source(bound: BoundSource, grants: tuple[Grant, ...], proxy: EgressProxy | None) -> BundleSource:
    """Return a source as a guard's bundle describes it, without pins.

    Args:
        bound: The source with its binding.
        grants: The layers that must permit a call.
        proxy: The egress proxy, None where there is none.
    """
    spec = bound.binding.spec
    return BundleSource(
        name=bound.source,
        binding=bound.binding.metadata.name,
        transport="stdio" if spec.server.http is None else "http",
        tools=tuple(
            BundleTool(tool.name, tool.operation, *_meaning(tool), cost_per_call=parse_money(tool.cost_per_call or "0"))
            for tool in spec.tools
        ),
        grants=grants,
        resources=tuple(_resource(resource) for resource in spec.resources),
        prompts=tuple(BundlePrompt(prompt.name, prompt.operation, *_meaning(prompt)) for prompt in spec.prompts),
        server_requests=spec.server_requests,
        limits=BundleLimits(
            request_bytes=spec.limits.request_bytes,
            result_bytes=spec.limits.result_bytes,
            in_flight=spec.limits.in_flight,
        ),
        http=None if spec.server.http is None else build_target(spec.server.http, proxy),
        resource_descriptions=spec.resource_descriptions,
    )


def _meaning(
    entry: binding.Tool | binding.Prompt,
) -> tuple[str, tuple[BundleToolScope, ...], tuple[BundleArgumentRule, ...]]:
    """Return the part that tools and prompts share: resource, scope and argument rules."""
    scope = tuple(
        BundleToolScope(limit.dimension, pointer=limit.pointer, unscoped=limit.unscoped, inject=bool(limit.inject))
        for limit in entry.scope
    )
    rules = tuple(
        BundleArgumentRule(
            rule.pointer,
            enum=rule.enum,
            prefix=rule.prefix,
            pattern=rule.pattern,
            maximum=rule.maximum if isinstance(rule, binding.ArgumentRule) else None,
        )
        for rule in entry.arguments
    )
    return entry.resource, scope, rules


def _resource(entry: binding.ServerResource) -> BundleResource:
    scope = tuple(
        BundleResourceScope(dimension=limit.dimension, values=limit.values, unscoped=limit.unscoped)
        for limit in entry.scope
    )
    return BundleResource(entry.uri, entry.operation, entry.resource, scope)


def _grants(placement: Placement, bound: BoundSource) -> tuple[Grant, ...]:
    """Return the layers that must permit a call: binding, matrix and, where it narrows, the agent itself."""
    agent = placement.agent
    grants = [build_grant("Binding", f"mcpbinding/{bound.binding.metadata.name}", bound.binding.spec.permissions)]
    cell = matrix_cell(placement.policy, agent.metadata, bound.source)
    # Without a row the grant is empty. Governance refuses such an agent before, and the guard denies every call.
    rule = cell.rule if cell else f"agentpolicy/{placement.policy.metadata.name}/dataAccess"
    grants.append(build_grant("Matrix", rule, cell.permissions if cell else MatrixPermissions()))
    narrowed = (use.permissions for use in agent.spec.bindings if use.source == bound.source)
    rule = f"agent/{agent.metadata.name}/bindings[{bound.source}]"
    return (*grants, *(build_grant("Agent", rule, permissions) for permissions in narrowed if permissions is not None))


def build_grant(layer: Layer, rule: str, permissions: Granted) -> Grant:
    """Return what one layer permits."""
    return Grant(layer=layer, rule=rule, read=permissions.read, write=permissions.write, delete=permissions.delete)
