"""The ConfigMaps that an agent refers to: which keys of them, what a revision keeps, and why one is refused.

A revision keeps the content of the keys that it refers to, and no others. A change of another key starts no revision.
Where any reference is to the whole ConfigMap, all keys are kept.

    uses                              ConfigMap has    the revision keeps
    key a                             a, b             a
    key a, key c (optional)           a, b             a
    key a, all keys                   a, b             a, b
    all keys (optional)               does not exist   a ConfigMap without keys
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import Field

from interlock.action.actions_bound import binding_for
from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.config_maps import MAX_CONFIG_MAPS, EnvFrom
from interlock.api.container_env import EnvVar
from interlock.api.messages import MODEL_VARIABLES
from interlock.api.pod_template import Template
from interlock.api.refusals import APPLY_GRACE, Refusal
from interlock.api.shared_types import ApiModel
from interlock.api.status import AgentReason
from interlock.api.stdio_server import ServerEnvVar, StdioServer
from interlock.api.volumes import PodVolume
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.pod import RESERVED_PREFIX


class ConfigMapContent(ApiModel):
    """What is kept of a ConfigMap: the keys that are referred to, with their values."""

    data: dict[str, str] = Field(default_factory=dict)
    """Texts by their keys."""

    binary_data: dict[str, str] = Field(default_factory=dict)
    """Other bytes in Base64, by their keys."""

    @property
    def keys(self) -> frozenset[str]:
        """All keys."""
        return frozenset((*self.data, *self.binary_data))

    def only(self, keys: Iterable[str]) -> "ConfigMapContent":
        """Return the same without all other keys."""
        wanted = frozenset(keys)
        return ConfigMapContent(
            data={key: self.data[key] for key in sorted(wanted & self.data.keys())},
            binary_data={key: self.binary_data[key] for key in sorted(wanted & self.binary_data.keys())},
        )


ConfigMaps = Mapping[str, ConfigMapContent]
"""What a revision keeps, by the names of the ConfigMaps."""


@dataclass(frozen=True)
class ConfigMapUse:
    """One reference to a ConfigMap.

    Attributes:
        name: The name of the ConfigMap.
        where: The field that refers to it, for messages, such as `spec.template.env[LOG_LEVEL]`.
        keys: The keys that it refers to; None for all.
        is_optional: Whether the ConfigMap or a key may be missing.
        needs_text: Whether binary keys are of no use to it, since it sets variables.
        prefix: The text in front of the names of the variables that all keys become; None if they become none.
        reserved: Names that these variables must not have.
    """

    name: str
    where: str
    keys: tuple[str, ...] | None = None
    is_optional: bool = False
    needs_text: bool = False
    prefix: str | None = None
    reserved: frozenset[str] = frozenset()


OF_AGENTS: Final = frozenset(MODEL_VARIABLES)
"""Variables that only Interlock sets in the container of an agent, besides those that begin with INTERLOCK_."""


@dataclass(frozen=True)
class LiveConfigMap:
    """A ConfigMap as it is now.

    Attributes:
        content: Its content; empty unless it may be read.
        refusal: Why it may not be used, as the end of a sentence about it; empty if it may.
    """

    content: ConfigMapContent = field(default_factory=ConfigMapContent)
    refusal: str = ""


LiveConfigMaps = Mapping[str, LiveConfigMap | None]
"""The ConfigMaps of a namespace that were read, by name. None for one that does not exist. A missing one is not known
yet."""
NO_CONFIG_MAPS: Final[LiveConfigMaps] = {}


def uses_of(agent: Agent, bindings: tuple[MCPBinding, ...]) -> tuple[ConfigMapUse, ...]:
    """Return the references of an Agent and of the stdio servers that serve it in its stages, in order.

    Args:
        agent: The Agent.
        bindings: The MCPBindings of its namespace.
    """
    environments = dict.fromkeys(stage.environment for stage in agent.spec.stages)
    serving = (
        binding_for(bindings, use.source, environment) for use in agent.spec.bindings for environment in environments
    )
    named = {binding.metadata.name: binding for binding in serving if binding is not None}
    return (*template_uses(agent.spec.template), *(use for one in named.values() for use in server_uses(one)))


def template_uses(template: Template) -> tuple[ConfigMapUse, ...]:
    """Return the references of an agent's container and volumes."""
    return _uses(template, "spec.template", OF_AGENTS)


def _uses(container: Template | StdioServer, where: str, reserved: frozenset[str]) -> tuple[ConfigMapUse, ...]:
    sources = enumerate(container.env_from)
    return (
        *_env_uses(container.env, where),
        *(_source_use(source, f"{where}.envFrom[{index}]", reserved) for index, source in sources),
        *_volume_uses(container.volumes, where),
    )


def _env_uses(variables: Iterable[EnvVar | ServerEnvVar], where: str) -> Iterator[ConfigMapUse]:
    for variable in variables:
        key = variable.value_from.config_map_key_ref if variable.value_from is not None else None
        if key is not None:
            yield ConfigMapUse(key.name, f"{where}.env[{variable.name}]", (key.key,), key.optional, needs_text=True)


def _source_use(source: EnvFrom, where: str, reserved: frozenset[str]) -> ConfigMapUse:
    reference = source.config_map_ref
    return ConfigMapUse(
        reference.name, where, None, reference.optional, needs_text=True, prefix=source.prefix, reserved=reserved
    )


def _volume_uses(volumes: Iterable[PodVolume], where: str) -> Iterator[ConfigMapUse]:
    for volume in volumes:
        sources = volume.projected.sources if volume.projected is not None else ()
        for reference in (volume.config_map, *(source.config_map for source in sources)):
            if reference is not None:
                keys = tuple(item.key for item in reference.items) or None
                yield ConfigMapUse(reference.name, f"{where}.volumes[{volume.name}]", keys, reference.optional)


def server_uses(binding: MCPBinding) -> tuple[ConfigMapUse, ...]:
    """Return the references of a binding's stdio server."""
    stdio, where = binding.spec.server.stdio, f"MCPBinding {binding.metadata.name}: spec.server.stdio"
    return () if stdio is None else _uses(stdio, where, frozenset())


def keep(uses: Iterable[ConfigMapUse], live: LiveConfigMaps) -> dict[str, ConfigMapContent]:
    """Return what a revision keeps that begins now.

    Args:
        uses: Its references.
        live: The ConfigMaps as they are.
    """
    contents = {name: ConfigMapContent() if found is None else found.content for name, found in live.items()}
    return select(uses, contents)


def select(uses: Iterable[ConfigMapUse], contents: ConfigMaps) -> dict[str, ConfigMapContent]:
    """Return the part of some contents that the references name; ConfigMaps of other names are left out."""
    keys: dict[str, set[str] | None] = {}
    for use in uses:
        known = keys.setdefault(use.name, set())
        if known is not None:
            keys[use.name] = None if use.keys is None else known | set(use.keys)
    found: dict[str, ConfigMapContent] = {}
    for name in sorted(keys.keys() & contents.keys()):
        wanted = keys[name]
        found[name] = contents[name].only(contents[name].keys if wanted is None else wanted)
    return found


def digest_of_kept(kept: ConfigMaps) -> str:
    """Return the SHA-256 of what is kept of ConfigMaps in hex; empty where nothing is."""
    return digest_of(canonicalize({name: one.to_kubernetes() for name, one in kept.items()})) if kept else ""


def unread_names(uses: Iterable[ConfigMapUse], live: LiveConfigMaps) -> tuple[str, ...]:
    """Return the names of the ConfigMaps that are referred to and not known yet."""
    return tuple(dict.fromkeys(use.name for use in uses if use.name not in live))


def check_config_maps(uses: Iterable[ConfigMapUse], live: LiveConfigMaps) -> Refusal | None:
    """Return why no revision can begin with the ConfigMaps as they are, or None. Unknown ones are not judged."""
    uses = tuple(uses)
    names = tuple(dict.fromkeys(use.name for use in uses))
    if len(names) > MAX_CONFIG_MAPS:
        message = (
            f"{len(names)} ConfigMaps are referred to by the agent and its stdio servers, more than the "
            f"{MAX_CONFIG_MAPS} that a revision can keep: put several into one"
        )
        return Refusal(AgentReason.CONFIG_MAP_REFUSED, message)
    return next((refusal for use in uses if use.name in live for refusal in _refusals(use, live[use.name])), None)


def _refusals(use: ConfigMapUse, found: LiveConfigMap | None) -> Iterator[Refusal]:
    named = f"ConfigMap {use.name}"
    if found is None:
        if not use.is_optional:
            yield _missing(f"{named}, to which {use.where} refers, does not exist: create it, {_way_out(use)}")
        return
    if found.refusal:
        yield Refusal(AgentReason.CONFIG_MAP_REFUSED, f"{named}, to which {use.where} refers, {found.refusal}")
        return
    usable = found.content.data.keys() if use.needs_text else found.content.keys
    for key in use.keys or ():
        if key in usable:
            continue
        if key in found.content.binary_data:
            message = f"key {key!r} of {named}, to which {use.where} refers, is binary: put a text under data"
            yield Refusal(AgentReason.CONFIG_MAP_REFUSED, message)
        elif not use.is_optional:
            yield _missing(f"{named} has no key {key!r}, to which {use.where} refers: add the key, {_way_out(use)}")
    for key in sorted(found.content.data) if use.prefix is not None else ():
        variable = f"{use.prefix}{key}"
        if variable.startswith(RESERVED_PREFIX) or variable in use.reserved:
            message = (
                f"key {key!r} of {named} would set the variable {variable} by {use.where}, which only Interlock sets: "
                "remove the key, or name single keys in env"
            )
            yield Refusal(AgentReason.CONFIG_MAP_REFUSED, message)


def _missing(message: str) -> Refusal:
    return Refusal(AgentReason.CONFIG_MAP_MISSING, message, grace=APPLY_GRACE)


def _way_out(use: ConfigMapUse) -> str:
    return f"or set optional: true in {use.where}, or remove the reference"
