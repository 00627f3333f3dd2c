"""The content of a revision: all that an agent was reviewed with, of its Agent, its AgentPolicy and its MCPBindings.

Only what concerns the agent is in it, so that a change for other agents starts no revision of this one. Which field is
in it is said by the table of `field_classes`: fields that take effect immediately, or describe the rollout, are not.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import Field, ValidationError

from interlock.action.actions_bound import binding_for
from interlock.action.audit_mode import audited_by_environment
from interlock.api.agent import Agent, AgentSpec
from interlock.api.binding import MCPBinding, MCPBindingSpec
from interlock.api.environments import Isolation
from interlock.api.policy import AgentPolicy, AgentPolicySpec, DataAccessRow, ModelPolicy, ModelUpstream
from interlock.api.refusals import model_matches
from interlock.api.shared_types import STORED, ApiModel
from interlock.api.verification import BindingCondition, PinnedDefinition
from interlock.deployment.children.upstreams import DEFAULT_UPSTREAMS
from interlock.deployment.cloud_identity import reviewed_identities
from interlock.deployment.config_maps import (
    NO_CONFIG_MAPS,
    ConfigMapContent,
    LiveConfigMaps,
    digest_of_kept,
    keep,
    server_uses,
    uses_of,
)
from interlock.deployment.egress_narrowing import EgressUses, reviewed_rows
from interlock.deployment.field_classes import child_path, classes_at
from interlock.deployment.field_groups import FieldClass
from interlock.governance.access_matrix import matrix_cell
from interlock_contract.canonical_json import canonicalize, digest_of

MAX_CONTENT_BYTES: Final = 1_000_000
"""Largest content in bytes of JSON. An object of more than 1.5 MiB cannot be stored, and it has metadata too."""
MAX_NAMES: Final = 64
"""Most names in a list of one row of the access matrix."""
_UNREVIEWED: Final = (FieldClass.IMMEDIATE, FieldClass.ROLLOUT)


class Pins(ApiModel):
    """The tools, prompts and instructions of a server as they were verified or accepted when the revision began."""

    tools: dict[str, str] = Field(default_factory=dict)
    """Digests by the names of tools."""

    prompts: dict[str, str] = Field(default_factory=dict)
    """Digests by the names of prompts."""

    instructions: str = ""
    """Digest of the instructions; empty unless they are pinned."""

    protocol: str = ""
    """The version of MCP that the server spoke."""


class ReviewedBinding(ApiModel):
    """An MCPBinding as the revision was reviewed with it."""

    spec: MCPBindingSpec
    """Its spec, with the environments of the agent's stages alone."""

    pins: Pins = Pins()
    """What was verified of its server."""


class Content(ApiModel):
    """What one revision of an agent was reviewed with."""

    labels: dict[str, str]
    """The labels of the Agent, which rows of the access matrix select by."""

    agent: AgentSpec
    """The spec of the Agent."""

    policy: AgentPolicySpec
    """The spec of its AgentPolicy, with the rows, models and providers of this agent alone."""

    isolation: dict[str, Isolation]
    """Whether agent and guard share a pod, by the environments of the agent's stages."""

    audited: dict[str, tuple[str, ...]] | None = None
    """The sources in mode Audit, by the environments of the agent's stages. None without any, as in contents of
    versions that did not know the mode."""

    bindings: dict[str, ReviewedBinding]
    """The MCPBindings of its sources in the environments of its stages, by their names."""

    config_maps: dict[str, ConfigMapContent] = Field(default_factory=dict)
    """What it refers to of ConfigMaps, by their names. A revision of an earlier version has none."""

    @property
    def canonical(self) -> str:
        """The content as canonical JSON."""
        return canonicalize(self.to_kubernetes())

    @property
    def digest(self) -> str:
        """SHA-256 of the content in hex.

        The digest of a stored revision is the recorded one: a later version may write the same content otherwise.
        """
        return digest_of(self.canonical)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that the agent uses."""
        return tuple(use.source for use in self.agent.bindings)

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers of its models."""
        return tuple(dict.fromkeys(use.name.partition("/")[0] for use in self.agent.models))

    @property
    def uses_stdio(self) -> bool:
        """Whether it has servers of its own, which an identity at a cloud is for."""
        return any(one.spec.server.stdio is not None for one in self.bindings.values())

    @property
    def uses_proxy(self) -> bool:
        """Whether its guard reaches anything that an egress proxy may be on the way to."""
        return bool(self.agent.models) or any(one.spec.server.http is not None for one in self.bindings.values())


class ContentInvalidError(ValueError):
    """A stored content cannot be read by this version."""


def parse_content(data: Any) -> Content:
    """Read a content from its JSON.

    Raises:
        ContentInvalidError: It is none of this version. The message names the first field.
    """
    try:
        return Content.model_validate(data, context=STORED)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ContentInvalidError(f"{where}: {first['msg']}") from None


def is_too_large(content: Content) -> bool:
    """Return True if a content cannot be stored."""
    return len(content.canonical.encode()) > MAX_CONTENT_BYTES


def content_size_refusal(content: Content) -> str | None:
    """Return why a content is too large to be stored, or None."""
    if not is_too_large(content):
        return None
    size = len(content.canonical.encode())
    named = "".join(
        f" The largest {kind} in it are {', '.join(largest)}."
        for kind, parts in (("MCPBindings", content.bindings), ("ConfigMaps", content.config_maps))
        if (largest := _largest(parts))
    )
    return (
        f"the content of the revision has {size} bytes, more than the {MAX_CONTENT_BYTES} that can be stored: "
        f"shorten files of the Agent, maps of its MCPBindings, or the ConfigMaps that it refers to.{named}"
    )


def _largest(parts: Mapping[str, ApiModel]) -> list[str]:
    """Return the names of the three largest parts, each with its size."""
    sizes = {name: len(canonicalize(part.to_kubernetes()).encode()) for name, part in parts.items()}
    return [f"{name} ({sizes[name]} bytes)" for name in sorted(sizes, key=lambda name: (-sizes[name], name))[:3]]


def content_of(
    agent: Agent,
    policy: AgentPolicy,
    bindings: tuple[MCPBinding, ...],
    config_maps: LiveConfigMaps = NO_CONFIG_MAPS,
    *,
    stricter: frozenset[str] = frozenset(),
) -> Content:
    """Return what the Agent is reviewed with if a revision begins now.

    Args:
        agent: The Agent.
        policy: The policy that it names.
        bindings: The MCPBindings of its namespace.
        config_maps: The ConfigMaps of its namespace that it refers to.
        stricter: The environments that another policy holds to a stricter class.
    """
    environments = tuple(dict.fromkeys(stage.environment for stage in agent.spec.stages))
    reviewed = _reviewed_bindings(agent, bindings, environments)
    content = Content(
        labels=dict(sorted(agent.metadata.labels.items())),
        agent=reviewed_part(agent.spec, "Agent.spec"),
        policy=AgentPolicySpec(),
        isolation={name: policy.spec.isolation_in(name) for name in sorted(environments)},
        audited=audited_by_environment(agent, policy, bindings, stricter) or None,
        bindings=reviewed,
        config_maps=keep(uses_of(agent, bindings), config_maps),
    )
    return content.model_copy(update={"policy": _policy_of(content, agent, policy)})


def verification_wait(
    agent: Agent, bindings: tuple[MCPBinding, ...], config_maps: LiveConfigMaps = NO_CONFIG_MAPS
) -> str:
    """Return why no revision may begin before a server was verified, empty if none is being verified.

    The pins of stdio servers are in the content. A revision that began before they are those of today's server would be
    followed by another one with the right pins, and the soak would start again. A server whose verification has failed
    holds nothing here, so that an agent can be changed while it is away.

    Args:
        agent: The Agent.
        bindings: The MCPBindings of its namespace.
        config_maps: The ConfigMaps of its namespace that it and its servers refer to.
    """
    for stage in agent.spec.stages:
        for use in agent.spec.bindings:
            binding = binding_for(bindings, use.source, stage.environment)
            if binding is not None and _is_being_verified(binding, config_maps):
                return f"MCPBinding {binding.metadata.name} is being verified"
    return ""


def _is_being_verified(binding: MCPBinding, config_maps: LiveConfigMaps) -> bool:
    """Return True if the operator has not judged a binding as it is now yet, or its server is being verified."""
    run = binding.verification.run
    judged = run.config_maps if run is not None else ""
    if not binding.is_judged or judged != digest_of_kept(keep(server_uses(binding), config_maps)):
        return True
    condition = binding.status.condition(BindingCondition.VERIFIED) if binding.status is not None else None
    return condition is None or condition.status == "Unknown"


def reviewed_part(model: Any, path: str) -> Any:
    """Return a part of a spec in which the fields that are in no revision have their defaults.

    Args:
        model: The spec, or a part of it.
        path: Its path in the table of classes.
    """
    update: dict[str, Any] = {}
    kind: type[ApiModel] = type(model)
    for name, field in kind.model_fields.items():
        value, below = getattr(model, name), child_path(path, kind, name)
        classes = classes_at(below)
        if classes and classes <= set(_UNREVIEWED):
            update[name] = field.get_default(call_default_factory=True)
        elif classes & set(_UNREVIEWED):
            update[name] = _reviewed_members(value, below)
    return model.model_copy(update=update)


def _reviewed_members(value: Any, path: str) -> Any:
    if isinstance(value, tuple):
        return tuple(reviewed_part(one, path) for one in value)
    return None if value is None else reviewed_part(value, path)


def _reviewed_bindings(
    agent: Agent, bindings: tuple[MCPBinding, ...], environments: tuple[str, ...]
) -> dict[str, ReviewedBinding]:
    serving: dict[str, list[str]] = {}
    for use in agent.spec.bindings:
        for environment in environments:
            binding = binding_for(bindings, use.source, environment)
            if binding is not None:
                serving.setdefault(binding.metadata.name, []).append(environment)
    named = {binding.metadata.name: binding for binding in bindings}
    return {name: _reviewed_binding(named[name], tuple(sorted(serving[name]))) for name in sorted(serving)}


def _reviewed_binding(binding: MCPBinding, environments: tuple[str, ...]) -> ReviewedBinding:
    spec = reviewed_part(binding.spec, "MCPBinding.spec")
    return ReviewedBinding(spec=spec.model_copy(update={"environments": environments}), pins=pins_of_binding(binding))


def pins_of_binding(binding: MCPBinding) -> Pins:
    """Return what was verified or accepted of a binding's server."""
    known = binding.verification
    is_pinned = binding.spec.instructions == "Pinned" and known.instructions is not None
    return Pins(
        tools=_digests(known.tools),
        prompts=_digests(known.prompts or ()),
        instructions=known.instructions.pinned_digest if is_pinned and known.instructions else "",
        protocol=known.protocol,
    )


def _digests(definitions: tuple[PinnedDefinition, ...]) -> dict[str, str]:
    return {one.name: one.pinned_digest for one in sorted(definitions, key=lambda one: one.name) if one.pinned_digest}


def _policy_of(content: Content, agent: Agent, policy: AgentPolicy) -> AgentPolicySpec:
    """Return the part of the policy that concerns the agent. `content` has the agent and its bindings already."""
    spec = policy.spec
    return AgentPolicySpec(
        data_access=tuple(row for source in sorted(content.sources) for row in _rows_of(agent, policy, source)),
        models=_models_of(content, spec.models) if content.agent.models else ModelPolicy(),
        egress_proxy=spec.egress_proxy if content.uses_proxy else None,
        egress=reviewed_rows(spec.egress, agent.metadata, egress_uses(content, agent.spec)),
        cloud_identity=reviewed_identities(spec.cloud_identity, agent.metadata, content.isolation)
        if content.uses_stdio
        else (),
        resources=spec.resources,
        loops=spec.loops,
    )


def egress_uses(content: Content, today: AgentSpec) -> EgressUses:
    """Return what of the rows of egress concerns an agent: its sources, and the environments of its stages today."""
    return EgressUses(frozenset(content.sources), frozenset(stage.environment for stage in today.stages))


def _rows_of(agent: Agent, policy: AgentPolicy, source: str) -> Iterator[DataAccessRow]:
    """Yield what all rows for the agent and a source give together, in as few rows as have room for it."""
    cell = matrix_cell(policy, agent.metadata, source)
    if cell is None:
        return
    read, write, delete = (
        sorted(names) for names in (cell.permissions.read, cell.permissions.write, cell.permissions.delete)
    )
    for start in range(0, max(1, len(read), len(write), len(delete)), MAX_NAMES):
        part = slice(start, start + MAX_NAMES)
        yield DataAccessRow(
            agents=(agent.metadata.name,),
            source=source,
            read=tuple(read[part]),
            write=tuple(write[part]),
            delete=tuple(delete[part]),
        )


def _models_of(content: Content, models: ModelPolicy) -> ModelPolicy:
    names = [use.name for use in content.agent.models]
    secrets = {use.api_key_from.secret_key_ref.name for use in content.agent.models}
    upstreams = (find_upstream(models, provider) for provider in content.providers)
    return reviewed_part(models, "AgentPolicy.spec.models").model_copy(  # type: ignore[no-any-return]
        update={
            "allow": tuple(glob for glob in models.allow if any(model_matches(name, glob) for name in names)),
            "urls": tuple(upstream for upstream in upstreams if upstream is not None),
            "secret_names": tuple(name for name in models.secret_names if name in secrets),
        }
    )


def find_upstream(models: ModelPolicy, provider: str) -> ModelUpstream | None:
    """Return the API of a provider as a policy has it, or its default; None for an unknown one."""
    known = {upstream.name: upstream for upstream in models.urls}
    return known.get(provider) or DEFAULT_UPSTREAMS.get(provider)
