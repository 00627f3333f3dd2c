"""The bundle: everything that the guard of one placement obeys, as the control plane compiled it.

This module is the wire contract between the two; the consumer owns it. The control plane builds a `Bundle` and ships
`dump_bundle(bundle)` in a ConfigMap under `BUNDLE_KEY`; the guard takes it apart with `parse_bundle`.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from interlock_guard.strictjson import JsonInvalid, parse_json

SCHEMA_VERSION: Final = 1
"""Version of the contract; a guard refuses a bundle of any other."""

BUNDLE_KEY: Final = "bundle.json"
"""Key of the ConfigMap's `data` that holds the bundle."""

Operation = Literal["read", "write", "delete"]
Layer = Literal["Binding", "Matrix", "Agent"]
Transport = Literal["stdio"]

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_POINTER: Final = re.compile(r"(/([^~/]|~[01])*)+\Z")
_MAX_TEXT: Final = 1024


class BundleInvalid(ValueError):  # noqa: N818 - says the state of a bundle, as the contract names it
    """The text is no bundle of this version; the message starts with the path of what is wrong."""


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """The one Agent object that the bundle was compiled for; another `uid` is another agent."""

    name: str
    namespace: str
    uid: str


@dataclass(frozen=True, slots=True)
class ScopeLimit:
    """One dimension in which the stage is limited: only these values may be touched."""

    dimension: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToolScope:
    """Where a tool's arguments say a dimension's value (`pointer`), or that it has none (`unscoped`)."""

    dimension: str
    pointer: str | None
    unscoped: bool


@dataclass(frozen=True, slots=True)
class Tool:
    """What calling one tool means: an operation on a kind of data."""

    name: str
    operation: Operation
    resource: str
    scope: tuple[ToolScope, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """What one layer permits, and the rule that says so; `"*"` is every resource, in `read` only."""

    layer: Layer
    rule: str
    read: tuple[str, ...]
    write: tuple[str, ...]
    delete: tuple[str, ...]

    def covers(self, operation: Operation, resource: str) -> bool:
        """Say whether this layer permits the operation on the resource."""
        resources: tuple[str, ...] = getattr(self, operation)
        return resource in resources or (operation == "read" and "*" in resources)


@dataclass(frozen=True, slots=True)
class Source:
    """One source and the binding that serves it in this placement's environment."""

    name: str
    binding: str
    transport: Transport
    tools: tuple[Tool, ...]
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything that one guard obeys. An empty `scope` is no limit."""

    schema_version: int
    agent: AgentIdentity
    revision: str
    stage: str
    environment: str
    scope: tuple[ScopeLimit, ...]
    sources: tuple[Source, ...]


def parse_bundle(text: str) -> Bundle:
    """Read a bundle; nothing unknown, missing or ambiguous passes.

    Raises:
        BundleInvalid: Naming the path, such as `sources[0].tools[2].operation`.
    """
    try:
        value = parse_json(text)
    except JsonInvalid as error:
        raise BundleInvalid(f"$: {error}") from None
    root = _Fields(value, "")
    version = root.take("schemaVersion")
    if type(version) is not int or version != SCHEMA_VERSION:  # True == 1, and 1.0 == 1
        raise BundleInvalid(f"schemaVersion: this guard reads version {SCHEMA_VERSION}")
    bundle = Bundle(
        schema_version=SCHEMA_VERSION,
        agent=_agent(root.take("agent"), root.at("agent")),
        revision=root.text("revision"),
        stage=root.name("stage"),
        environment=root.name("environment"),
        scope=tuple(_limit(item, path) for item, path in root.items("scope")),
        sources=tuple(_source(item, path) for item, path in root.items("sources")),
    )
    root.close()
    _unique([limit.dimension for limit in bundle.scope], "scope", "dimension")
    _unique([source.name for source in bundle.sources], "sources", "name")
    return bundle


def dump_bundle(bundle: Bundle) -> str:
    """Write a bundle canonically: equal bundles give equal text, key order and spacing included."""
    value = {
        "schemaVersion": bundle.schema_version,
        "agent": {"name": bundle.agent.name, "namespace": bundle.agent.namespace, "uid": bundle.agent.uid},
        "revision": bundle.revision,
        "stage": bundle.stage,
        "environment": bundle.environment,
        "scope": [{"dimension": limit.dimension, "values": list(limit.values)} for limit in bundle.scope],
        "sources": [_dump_source(source) for source in bundle.sources],
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(text: str) -> str:
    """Return the SHA-256 of a bundle's text in hex: the name by which both sides mean the same bundle."""
    return hashlib.sha256(text.encode()).hexdigest()


class _Fields:
    """One JSON object being taken apart; what was not taken when it is closed is refused."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise BundleInvalid(f"{path or '$'}: must be an object")
        self._left = dict(value)
        self._path = path

    def at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def has(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str) -> Any:
        if key not in self._left:
            raise BundleInvalid(f"{self.at(key)}: is missing")
        return self._left.pop(key)

    def text(self, key: str) -> str:
        return _text(self.take(key), self.at(key))

    def name(self, key: str) -> str:
        return _name(self.take(key), self.at(key))

    def one_of(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.take(key)
        if value not in choices:
            raise BundleInvalid(f"{self.at(key)}: must be one of {', '.join(choices)}")
        return cast("str", value)

    def items(self, key: str) -> list[tuple[Any, str]]:
        value = self.take(key)
        if not isinstance(value, list):
            raise BundleInvalid(f"{self.at(key)}: must be a list")
        return [(item, f"{self.at(key)}[{index}]") for index, item in enumerate(value)]

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(_text(item, path) for item, path in self.items(key))

    def close(self) -> None:
        for key in self._left:
            raise BundleInvalid(f"{self.at(key)}: is unknown")


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise BundleInvalid(f"{path}: must be a string of 1 to {_MAX_TEXT} characters")
    return value


def _name(value: Any, path: str) -> str:
    # Names become path segments, of URLs and of the pipes' directory: nothing but a DNS label will do.
    if not isinstance(value, str) or _NAME.match(value) is None:
        raise BundleInvalid(f"{path}: must be a DNS label (lower case letters, digits and -, at most 63)")
    return value


def _unique(values: list[str], path: str, key: str) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise BundleInvalid(f"{path}[{index}].{key}: {value!r} is there twice")


def _agent(value: Any, path: str) -> AgentIdentity:
    fields = _Fields(value, path)
    agent = AgentIdentity(name=fields.name("name"), namespace=fields.name("namespace"), uid=fields.text("uid"))
    fields.close()
    return agent


def _limit(value: Any, path: str) -> ScopeLimit:
    fields = _Fields(value, path)
    limit = ScopeLimit(dimension=fields.name("dimension"), values=fields.texts("values"))
    fields.close()
    if not limit.values:
        raise BundleInvalid(f"{path}.values: must not be empty (no limit is no entry)")
    return limit


def _source(value: Any, path: str) -> Source:
    fields = _Fields(value, path)
    source = Source(
        name=fields.name("name"),
        binding=fields.text("binding"),
        transport=cast("Transport", fields.one_of("transport", get_args(Transport))),
        tools=tuple(_tool(item, at) for item, at in fields.items("tools")),
        grants=tuple(_grant(item, at) for item, at in fields.items("grants")),
    )
    fields.close()
    _unique([tool.name for tool in source.tools], f"{path}.tools", "name")
    layers = {grant.layer for grant in source.grants}
    for layer in ("Binding", "Matrix"):  # without both, "every grant permits it" would be an empty promise
        if layer not in layers:
            raise BundleInvalid(f"{path}.grants: the layer {layer} is missing")
    return source


def _tool(value: Any, path: str) -> Tool:
    fields = _Fields(value, path)
    tool = Tool(
        name=fields.text("name"),
        operation=cast("Operation", fields.one_of("operation", get_args(Operation))),
        resource=fields.text("resource"),
        scope=tuple(_tool_scope(item, at) for item, at in fields.items("scope")),
    )
    fields.close()
    _unique([entry.dimension for entry in tool.scope], f"{path}.scope", "dimension")
    return tool


def _tool_scope(value: Any, path: str) -> ToolScope:
    fields = _Fields(value, path)
    dimension = fields.name("dimension")
    if fields.has("pointer") == fields.has("unscoped"):
        raise BundleInvalid(f"{path}: must have exactly one of pointer, unscoped")
    pointer = fields.text("pointer") if fields.has("pointer") else None
    if pointer is None:
        fields.one_of("unscoped", ("Allowed",))
    elif _POINTER.match(pointer) is None:
        raise BundleInvalid(f"{path}.pointer: must be a JSON pointer such as /region")
    fields.close()
    return ToolScope(dimension=dimension, pointer=pointer, unscoped=pointer is None)


def _grant(value: Any, path: str) -> Grant:
    fields = _Fields(value, path)
    grant = Grant(
        layer=cast("Layer", fields.one_of("layer", get_args(Layer))),
        rule=fields.text("rule"),
        read=fields.texts("read"),
        write=fields.texts("write"),
        delete=fields.texts("delete"),
    )
    fields.close()
    for operation in ("write", "delete"):
        if "*" in getattr(grant, operation):
            raise BundleInvalid(f'{path}.{operation}: "*" is for read only')
    return grant


def _dump_source(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "binding": source.binding,
        "transport": source.transport,
        "tools": [
            {
                "name": tool.name,
                "operation": tool.operation,
                "resource": tool.resource,
                "scope": [_dump_tool_scope(entry) for entry in tool.scope],
            }
            for tool in source.tools
        ],
        "grants": [
            {
                "layer": grant.layer,
                "rule": grant.rule,
                "read": list(grant.read),
                "write": list(grant.write),
                "delete": list(grant.delete),
            }
            for grant in source.grants
        ],
    }


def _dump_tool_scope(entry: ToolScope) -> dict[str, str]:
    if entry.pointer is not None:
        return {"dimension": entry.dimension, "pointer": entry.pointer}
    return {"dimension": entry.dimension, "unscoped": "Allowed"}
