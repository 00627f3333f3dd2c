"""The bundle: the compiled policy that the guard of one placement enforces.

The control plane builds a `Bundle` and writes `dump_bundle(bundle)` to a ConfigMap under `BUNDLE_KEY`. The guard reads
the text with `parse_bundle`.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, cast, get_args

from interlock_contract.canonical_json import is_digest
from interlock_contract.http_target import HttpTarget, matches, parse_target
from interlock_contract.json_pointer import POINTER
from interlock_contract.model_access import ModelAccess, parse_models
from interlock_contract.patterns import CLIMBING, URI_GLOB, PatternInvalid, compile_pattern
from interlock_contract.strict_fields import BundleInvalid, StrictFields, refuse_doubles
from interlock_contract.strict_json import JsonInvalid, parse_json

SCHEMA_VERSION: Final = 3
"""Version of the contract; a guard refuses a bundle of any other."""

BUNDLE_KEY: Final = "bundle.json"
"""Key of the ConfigMap's `data` that holds the bundle."""

MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
MAX_RESULT_BYTES: Final = 16 * 1024 * 1024
MAX_IN_FLIGHT: Final = 256
DEFAULT_IN_FLIGHT: Final = 64
MAX_CONCURRENT_TASKS: Final = 256
LEAST_BYTES: Final = 1024
LARGEST_NUMBER: Final = 2**53 - 1
"""Largest integer that every JSON reader holds exactly."""

Operation = Literal["read", "write", "delete"]
Layer = Literal["Binding", "Matrix", "Agent"]
Transport = Literal["stdio", "http"]
ServerRequest = Literal["Sampling", "Elicitation", "Roots"]
RecordedArguments = Literal["Digest", "Redacted"]

_LARGEST_PORT: Final = 2**16 - 1


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
class BundleToolScope:
    """Where a call's arguments say a dimension's value (`pointer`), or that it has none (`unscoped`)."""

    dimension: str
    pointer: str | None
    unscoped: bool


@dataclass(frozen=True, slots=True)
class BundleResourceScope:
    """The values of a dimension that what the URI names belongs to, or that it has none (`unscoped`)."""

    dimension: str
    values: tuple[str, ...] | None
    unscoped: bool


@dataclass(frozen=True, slots=True)
class BundleArgumentRule:
    """What an argument must be, by exactly one of the four; see `interlock_guard.decision.constraints`."""

    pointer: str
    enum: tuple[str, ...] | None = None
    prefix: str | None = None
    pattern: str | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class BundleTool:
    """What calling one tool means: an operation on a kind of data. `name` is a name or a glob."""

    name: str
    operation: Operation
    resource: str
    scope: tuple[BundleToolScope, ...] = ()
    arguments: tuple[BundleArgumentRule, ...] = ()

    @property
    def key(self) -> str:
        """What it is found by."""
        return self.name


@dataclass(frozen=True, slots=True)
class BundlePrompt(BundleTool):
    """What getting one prompt means; its arguments are ruled as those of a tool."""


@dataclass(frozen=True, slots=True)
class BundleResource:
    """What reading or following one of the server's resources means. `uri` is a URI or a glob."""

    uri: str
    operation: Operation
    resource: str
    scope: tuple[BundleResourceScope, ...] = ()

    @property
    def key(self) -> str:
        """What it is found by."""
        return self.uri


@dataclass(frozen=True, slots=True)
class Pin:
    """A tool as it was verified: `digest` is the SHA-256, in hex, of its whole object as the server listed it.

    `name` is the tool's own name, never a glob. The object is written as RFC 8785 says (`canonical`).
    """

    name: str
    digest: str


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
class BundleLimits:
    """How much may pass: bytes of one request and of one result, and requests under way in the server at once."""

    request_bytes: int = MAX_REQUEST_BYTES
    result_bytes: int = MAX_RESULT_BYTES
    in_flight: int = DEFAULT_IN_FLIGHT


@dataclass(frozen=True, slots=True)
class BundleSource:
    """One source and the binding that serves it in this placement's environment.

    `server_requests` are what the server may ask of the agent; nothing unless it is named. `http` is there by that
    transport alone. `pins` are the tools that were verified: no other is called, whatever the map says.
    """

    name: str
    binding: str
    transport: Transport
    tools: tuple[BundleTool, ...]
    grants: tuple[Grant, ...]
    resources: tuple[BundleResource, ...] = ()
    prompts: tuple[BundlePrompt, ...] = ()
    server_requests: tuple[ServerRequest, ...] = ()
    limits: BundleLimits = BundleLimits()
    http: HttpTarget | None = None
    pins: tuple[Pin, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleAuditPolicy:
    """What records hold of a call's arguments: their digest alone, or also themselves without what `redact` names."""

    arguments: RecordedArguments = "Digest"
    redact: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleTasks:
    """How the agent takes tasks: on which port it listens for them, and how many may be under way at once."""

    port: int
    max_concurrent: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything that one guard obeys.

    An empty `scope` is no limit; without `tasks` the agent takes none, without `models` it calls none.
    """

    schema_version: int
    agent: AgentIdentity
    revision: str
    stage: str
    environment: str
    scope: tuple[ScopeLimit, ...]
    sources: tuple[BundleSource, ...]
    audit: BundleAuditPolicy = BundleAuditPolicy()
    tasks: BundleTasks | None = None
    models: ModelAccess | None = None


T = TypeVar("T", bound=BundleTool)


def parse_bundle(text: str) -> Bundle:
    """Read a bundle; nothing unknown, missing or ambiguous passes.

    Raises:
        BundleInvalid: Naming the path, such as `sources[0].tools[2].operation`.
    """
    try:
        value = parse_json(text)
    except JsonInvalid as error:
        raise BundleInvalid(f"$: {error}") from None
    root = StrictFields(value, "")
    version = root.take("schemaVersion")
    if type(version) is not int or version != SCHEMA_VERSION:  # True == 1, and 2.0 == 2
        raise BundleInvalid(f"schemaVersion: this guard reads version {SCHEMA_VERSION}")
    bundle = Bundle(
        schema_version=SCHEMA_VERSION,
        agent=_agent(root.take("agent"), root.at("agent")),
        revision=root.text("revision"),
        stage=root.name("stage"),
        environment=root.name("environment"),
        scope=tuple(_limit(item, path) for item, path in root.items("scope")),
        sources=tuple(_source(item, path) for item, path in root.items("sources")),
        audit=_audit(root.take("audit"), root.at("audit")),
        tasks=_tasks(root.take("tasks"), root.at("tasks")) if root.has("tasks") else None,
        models=parse_models(root.take("models"), root.at("models")) if root.has("models") else None,
    )
    root.close()
    refuse_doubles([limit.dimension for limit in bundle.scope], "scope", "dimension")
    refuse_doubles([source.name for source in bundle.sources], "sources", "name")
    return bundle


def dump_bundle(bundle: Bundle) -> str:
    """Write a bundle canonically: equal bundles give equal text, key order and spacing included."""
    return json.dumps(_dump(bundle), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(text: str) -> str:
    """Return the SHA-256 of a bundle's text in hex: the name by which both sides mean the same bundle."""
    return hashlib.sha256(text.encode()).hexdigest()


def _agent(value: Any, path: str) -> AgentIdentity:
    fields = StrictFields(value, path)
    agent = AgentIdentity(name=fields.name("name"), namespace=fields.name("namespace"), uid=fields.text("uid"))
    fields.close()
    return agent


def _limit(value: Any, path: str) -> ScopeLimit:
    fields = StrictFields(value, path)
    limit = ScopeLimit(dimension=fields.name("dimension"), values=fields.texts("values"))
    fields.close()
    if not limit.values:
        raise BundleInvalid(f"{path}.values: must not be empty (no limit is no entry)")
    return limit


def _audit(value: Any, path: str) -> BundleAuditPolicy:
    fields = StrictFields(value, path)
    arguments = cast("RecordedArguments", fields.one_of("arguments", get_args(RecordedArguments)))
    policy = BundleAuditPolicy(arguments=arguments, redact=fields.texts("redact"))
    fields.close()
    for index, pointer in enumerate(policy.redact):
        if not matches(POINTER, pointer):
            raise BundleInvalid(f"{path}.redact[{index}]: must be a JSON pointer such as /customer/email")
    if policy.redact and arguments == "Digest":
        raise BundleInvalid(f"{path}.redact: a digest alone has nothing to redact")
    return policy


def _tasks(value: Any, path: str) -> BundleTasks:
    fields = StrictFields(value, path)
    intake = BundleTasks(
        port=fields.number("port", 1, _LARGEST_PORT),
        max_concurrent=fields.number("maxConcurrent", 1, MAX_CONCURRENT_TASKS),
    )
    fields.close()
    return intake


def _source(value: Any, path: str) -> BundleSource:
    fields = StrictFields(value, path)
    source = BundleSource(
        name=fields.name("name"),
        binding=fields.text("binding"),
        transport=cast("Transport", fields.one_of("transport", get_args(Transport))),
        tools=tuple(_tool(BundleTool, item, at) for item, at in fields.items("tools")),
        grants=tuple(_grant(item, at) for item, at in fields.items("grants")),
        resources=tuple(_resource(item, at) for item, at in fields.items("resources")),
        prompts=tuple(_tool(BundlePrompt, item, at) for item, at in fields.items("prompts")),
        server_requests=cast("tuple[ServerRequest, ...]", fields.some_of("serverRequests", get_args(ServerRequest))),
        limits=_limits(fields.take("limits"), fields.at("limits")),
        http=parse_target(fields.take("http"), fields.at("http")) if fields.has("http") else None,
        pins=tuple(_pin(item, at) for item, at in fields.items("pins")),
    )
    fields.close()
    if (source.transport == "http") != (source.http is not None):
        raise BundleInvalid(f"{path}: http stands with the transport http, and with no other")
    refuse_doubles([tool.name for tool in source.tools], f"{path}.tools", "name")
    refuse_doubles([resource.uri for resource in source.resources], f"{path}.resources", "uri")
    refuse_doubles([prompt.name for prompt in source.prompts], f"{path}.prompts", "name")
    refuse_doubles([pin.name for pin in source.pins], f"{path}.pins", "name")
    layers = {grant.layer for grant in source.grants}
    for layer in ("Binding", "Matrix"):  # without both, "every grant permits it" would be an empty promise
        if layer not in layers:
            raise BundleInvalid(f"{path}.grants: the layer {layer} is missing")
    return source


def _tool(kind: type[T], value: Any, path: str) -> T:
    fields = StrictFields(value, path)
    tool = kind(
        name=fields.text("name"),
        operation=_operation(fields),
        resource=fields.text("resource"),
        scope=tuple(_tool_scope(item, at) for item, at in fields.items("scope")),
        arguments=tuple(_argument_rule(item, at) for item, at in fields.items("arguments")),
    )
    fields.close()
    refuse_doubles([entry.dimension for entry in tool.scope], f"{path}.scope", "dimension")
    return tool


def _resource(value: Any, path: str) -> BundleResource:
    fields = StrictFields(value, path)
    resource = BundleResource(
        uri=fields.text("uri"),
        operation=_operation(fields),
        resource=fields.text("resource"),
        scope=tuple(_resource_scope(item, at) for item, at in fields.items("scope")),
    )
    fields.close()
    if not matches(URI_GLOB, resource.uri) or re.search(CLIMBING, resource.uri):
        raise BundleInvalid(f"{path}.uri: must be a URI, without a segment . or ..")
    refuse_doubles([entry.dimension for entry in resource.scope], f"{path}.scope", "dimension")
    return resource


def _operation(fields: StrictFields) -> Operation:
    return cast("Operation", fields.one_of("operation", get_args(Operation)))


def _tool_scope(value: Any, path: str) -> BundleToolScope:
    fields = StrictFields(value, path)
    dimension = fields.name("dimension")
    is_pointer = fields.exactly_one("pointer", "unscoped") == "pointer"
    pointer = _pointer(fields) if is_pointer else None
    if not is_pointer:
        fields.one_of("unscoped", ("Allowed",))
    fields.close()
    return BundleToolScope(dimension=dimension, pointer=pointer, unscoped=not is_pointer)


def _resource_scope(value: Any, path: str) -> BundleResourceScope:
    fields = StrictFields(value, path)
    dimension = fields.name("dimension")
    has_values = fields.exactly_one("values", "unscoped") == "values"
    values = fields.texts("values") if has_values else None
    if not has_values:
        fields.one_of("unscoped", ("Allowed",))
    elif not values:
        raise BundleInvalid(f"{path}.values: must not be empty")
    fields.close()
    return BundleResourceScope(dimension=dimension, values=values, unscoped=not has_values)


def _argument_rule(value: Any, path: str) -> BundleArgumentRule:
    fields = StrictFields(value, path)
    pointer = _pointer(fields)
    match fields.exactly_one("enum", "prefix", "pattern", "maximum"):
        case "enum":
            rule = BundleArgumentRule(pointer, enum=fields.texts("enum"))
        case "prefix":
            rule = BundleArgumentRule(pointer, prefix=fields.text("prefix"))
        case "pattern":
            rule = BundleArgumentRule(pointer, pattern=_pattern(fields))
        case _:
            rule = BundleArgumentRule(pointer, maximum=fields.number("maximum", 0, LARGEST_NUMBER))
    fields.close()
    if rule.enum == ():
        raise BundleInvalid(f"{path}.enum: must not be empty")
    return rule


def _pattern(fields: StrictFields) -> str:
    pattern = fields.text("pattern")
    try:
        compile_pattern(pattern)
    except PatternInvalid as error:
        raise BundleInvalid(f"{fields.at('pattern')}: {error}") from None
    return pattern


def _pointer(fields: StrictFields) -> str:
    pointer = fields.text("pointer")
    if not matches(POINTER, pointer):
        raise BundleInvalid(f"{fields.at('pointer')}: must be a JSON pointer such as /region")
    return pointer


def _pin(value: Any, path: str) -> Pin:
    fields = StrictFields(value, path)
    pin = Pin(name=fields.text("name"), digest=fields.text("digest"))
    fields.close()
    if not is_digest(pin.digest):
        raise BundleInvalid(f"{path}.digest: must be a SHA-256 in 64 hexadecimal digits")
    return pin


def _grant(value: Any, path: str) -> Grant:
    fields = StrictFields(value, path)
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


def _limits(value: Any, path: str) -> BundleLimits:
    fields = StrictFields(value, path)
    limits = BundleLimits(
        request_bytes=fields.number("requestBytes", LEAST_BYTES, MAX_REQUEST_BYTES),
        result_bytes=fields.number("resultBytes", LEAST_BYTES, MAX_RESULT_BYTES),
        in_flight=fields.number("inFlight", 1, MAX_IN_FLIGHT),
    )
    fields.close()
    return limits


def _dump(value: Any) -> Any:
    """Return a part of the bundle as JSON: members in camelCase, those that are None left out."""
    if dataclasses.is_dataclass(value):
        members = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if "unscoped" in members:
            members["unscoped"] = "Allowed" if members["unscoped"] else None
        return {_camel(name): _dump(member) for name, member in members.items() if member is not None}
    return [_dump(item) for item in value] if isinstance(value, tuple) else value


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
