"""The bundle: the compiled policy that the guard of one placement enforces.

The control plane builds a `Bundle` and writes `dump_bundle(bundle)` to a ConfigMap under `BUNDLE_KEY`. The guard reads
the text with `parse_bundle`.
"""

import hashlib
import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.money import Limit
from interlock_contract.bundle_schema import READ_SCHEMAS, newer_field
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.http_target import HttpTarget, matches
from interlock_contract.json_pointer import POINTER
from interlock_contract.loops import BundleLoops
from interlock_contract.model_access import ModelAccess
from interlock_contract.patterns import CLIMBING, URI_GLOB, PatternInvalid, compile_pattern
from interlock_contract.strict_fields import (
    BundleInvalid,
    Digest,
    Name,
    StrictStruct,
    Text,
    dump_document,
    like,
    parse_document,
    refuse_doubles,
    require_one,
    written,
)

BUNDLE_KEY: Final = "bundle.json"
"""Key of the ConfigMap's `data` that holds the bundle."""

BUNDLE_DIGESTS: Final = "bundleDigests"
"""Field of an Agent's status with the digests of the bundles that its guards obey."""
MAX_BUNDLE_DIGESTS: Final = 16
"""Most digests in that field: of the bundles of four placements, and of those before them until they are written."""

MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
MAX_RESULT_BYTES: Final = 16 * 1024 * 1024
MAX_IN_FLIGHT: Final = 256
DEFAULT_IN_FLIGHT: Final = 64
MAX_CONCURRENT_TASKS: Final = 256
MAX_EXCLUDED: Final = 8
"""Most scopes that other placements serve."""
MAX_PEERS: Final = 8
MAX_DIMENSIONS: Final = 8
MAX_DRAINING_PODS: Final = 100
MAX_DRAINING_ADDRESSES: Final = 2 * MAX_DRAINING_PODS
MAX_CHANGED_PODS: Final = 256
"""More pods than a placement has at once, those of a rolling update included."""
MAX_CHANGED_ADDRESSES: Final = 2 * MAX_CHANGED_PODS
"""A pod has one address, or one of each IP family."""
MAX_DRAIN_SECONDS: Final = 24 * 3600
DEFAULT_DRAIN_SECONDS: Final = 30
MAX_PROTOCOL: Final = 32
"""Longest version of MCP in characters."""
LEAST_BYTES: Final = 1024
LARGEST_NUMBER: Final = 2**53 - 1
"""Largest integer that every JSON reader holds exactly."""

Operation = Literal["read", "write", "delete"]
Layer = Literal["Binding", "Matrix", "Agent"]
Transport = Literal["stdio", "http"]
ServerRequest = Literal["Sampling", "Elicitation", "Roots"]
ResourceDescriptions = Literal["Withheld", "Unreviewed"]
RecordedArguments = Literal["Digest", "Redacted"]
EnforcementMode = Literal["Enforce", "Audit"]
Texts = Annotated[tuple[Text, ...], Meta(min_length=1)]
Pointer = Annotated[Text, like(POINTER, "a JSON pointer such as /customer/email")]

TASK_HEADER: Final = r"^[0-9A-Za-z]+(-[0-9A-Za-z]+)*$"
"""A header that names the values of a task: no sign but `-`, because servers make one variable of `a-b` and `a_b`."""
TASK_HEADER_RESERVED: Final = (
    r"^((?i:accept(-.*)?|authorization|connection|content-.*|cookie|expect|forwarded|host|http2-settings|interlock-.*"
    r"|keep-alive|proxy-.*|te|trace(parent|state)|trailer|transfer-encoding|upgrade|via|x-forwarded-.*))$"
)
"""Headers that say something else, belong to one connection, or are written by proxies and by the guard."""
_HOST_LABEL: Final = r"[0-9a-z]([-0-9a-z]{0,61}[0-9a-z])?"
PEER_URL: Final = rf"^http://{_HOST_LABEL}\.{_HOST_LABEL}\.svc(:[1-9][0-9]{{0,4}})?$"
"""A Service of the cluster: `http://<service>.<namespace>.svc` with or without a port, without a path."""


class AgentIdentity(StrictStruct, frozen=True):
    """The one Agent object that the bundle was compiled for; another `uid` is another agent.

    `owner` is the e-mail address of the person who answers for it, for audit records.
    """

    name: Name
    namespace: Name
    uid: Text
    owner: Text | None = None


class ScopeLimit(StrictStruct, frozen=True):
    """One dimension in which the stage is limited: only these values may be touched."""

    dimension: Name
    values: Texts


ScopeLimits = Annotated[tuple[ScopeLimit, ...], Meta(max_length=MAX_DIMENSIONS)]
"""A scope: work that is inside each of these limits. Without limits it is all work."""


class BundleToolScope(StrictStruct, frozen=True):
    """Where a call's arguments say a dimension's value (`pointer`), or that it has none (`unscoped`).

    With `inject`, the guard writes the value of a stage that has just one into arguments that do not say any.
    """

    dimension: Name
    pointer: Pointer | None = None
    unscoped: Literal["Allowed"] | None = None
    inject: bool = False

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        require_one(pointer=self.pointer, unscoped=self.unscoped)
        if self.inject and self.pointer is None:
            raise ValueError(".inject: needs a pointer")


class BundleResourceScope(StrictStruct, frozen=True):
    """The values of a dimension that what the URI names belongs to, or that it has none (`unscoped`)."""

    dimension: Name
    values: Texts | None = None
    unscoped: Literal["Allowed"] | None = None

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        require_one(values=self.values, unscoped=self.unscoped)


class BundleArgumentRule(StrictStruct, frozen=True):
    """What an argument must be, by exactly one of the four; see `interlock_guard.decision.constraints`."""

    pointer: Pointer
    enum: Texts | None = None
    prefix: Text | None = None
    pattern: Text | None = None
    maximum: Annotated[int, Meta(ge=0, le=LARGEST_NUMBER)] | None = None

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        require_one(enum=self.enum, prefix=self.prefix, pattern=self.pattern, maximum=self.maximum)
        if self.pattern is not None:
            try:
                compile_pattern(self.pattern)
            except PatternInvalid as error:
                raise ValueError(f".pattern: {error}") from None


class BundleTool(StrictStruct, frozen=True):
    """What calling one tool means: an operation on a kind of data. `name` is a name or a glob.

    `cost_per_call` is what each call costs, in nano-dollars.
    """

    name: Text
    operation: Operation
    resource: Text
    scope: tuple[BundleToolScope, ...] = written(())
    arguments: tuple[BundleArgumentRule, ...] = written(())
    cost_per_call: Limit = 0

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        refuse_doubles((entry.dimension for entry in self.scope), "scope", "dimension")

    @property
    def key(self) -> str:
        """What it is found by."""
        return self.name


class BundlePrompt(BundleTool, frozen=True):
    """What getting one prompt means; its arguments are ruled as those of a tool."""


class BundleResource(StrictStruct, frozen=True):
    """What reading or following one of the server's resources means. `uri` is a URI or a glob."""

    uri: Annotated[Text, like(URI_GLOB, "a URI")]
    operation: Operation
    resource: Text
    scope: tuple[BundleResourceScope, ...] = written(())

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if re.search(CLIMBING, self.uri):
            raise ValueError(".uri: must be a URI without a segment . or ..")
        refuse_doubles((entry.dimension for entry in self.scope), "scope", "dimension")

    @property
    def key(self) -> str:
        """What it is found by."""
        return self.uri


class Pin(StrictStruct, frozen=True):
    """A tool or prompt as it was verified: `digest` is the SHA-256, in hex, of the object that its server listed.

    `name` is its own name, never a glob. The object is written as RFC 8785 says (`canonical`).
    """

    name: Text
    digest: Digest


class Grant(StrictStruct, frozen=True):
    """What one layer permits, and the rule that says so; `"*"` is every resource, in `read` only."""

    layer: Layer
    rule: Text
    read: tuple[Text, ...]
    write: tuple[Text, ...]
    delete: tuple[Text, ...]

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        for operation, resources in (("write", self.write), ("delete", self.delete)):
            if "*" in resources:
                raise ValueError(f'.{operation}: "*" is for read only')

    def covers(self, operation: Operation, resource: str) -> bool:
        """Say whether this layer permits the operation on the resource."""
        resources: tuple[str, ...] = getattr(self, operation)
        return resource in resources or (operation == "read" and "*" in resources)


class BundleLimits(StrictStruct, frozen=True):
    """How much may pass: bytes of one request and of one result, and requests under way in the server at once."""

    request_bytes: Annotated[int, Meta(ge=LEAST_BYTES, le=MAX_REQUEST_BYTES)] = written(MAX_REQUEST_BYTES)
    result_bytes: Annotated[int, Meta(ge=LEAST_BYTES, le=MAX_RESULT_BYTES)] = written(MAX_RESULT_BYTES)
    in_flight: Annotated[int, Meta(ge=1, le=MAX_IN_FLIGHT)] = written(DEFAULT_IN_FLIGHT)


class BundleSource(StrictStruct, frozen=True):
    """One source and the binding that serves it in this placement's environment.

    `server_requests` are what the server may ask of the agent; nothing unless it is named. `http` is there by that
    transport alone. `pins` are the tools that were verified: no other is called, whatever the map says.
    `prompt_pins` are the same of prompts, and `instructions_pin` is the digest of the only instructions that pass.
    `resource_descriptions` says whether lists of resources show the texts that the server wrote. `protocol` is the
    version of MCP that the server spoke when it was verified. A guard begins with it and decides nothing by it.
    In mode `Audit` tools that are not mapped, and calls without a grant, are recorded and pass. The field is written in
    that mode alone, and a guard that does not know it refuses the whole bundle.
    """

    name: Name
    binding: Text
    transport: Transport
    tools: tuple[BundleTool, ...]
    grants: tuple[Grant, ...]
    resources: tuple[BundleResource, ...] = written(())
    prompts: tuple[BundlePrompt, ...] = written(())
    server_requests: tuple[ServerRequest, ...] = written(())
    limits: BundleLimits = written(BundleLimits())
    http: HttpTarget | None = None
    pins: tuple[Pin, ...] = written(())
    resource_descriptions: ResourceDescriptions = "Withheld"
    prompt_pins: tuple[Pin, ...] = ()
    instructions_pin: Digest | None = None
    protocol: Annotated[str, Meta(max_length=MAX_PROTOCOL)] = ""
    mode: EnforcementMode = "Enforce"

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if (self.transport == "http") != (self.http is not None):
            raise ValueError(": http stands with the transport http, and with no other")
        refuse_doubles((tool.name for tool in self.tools), "tools", "name")
        refuse_doubles((resource.uri for resource in self.resources), "resources", "uri")
        refuse_doubles((prompt.name for prompt in self.prompts), "prompts", "name")
        refuse_doubles((pin.name for pin in self.pins), "pins", "name")
        refuse_doubles((pin.name for pin in self.prompt_pins), "promptPins", "name")
        layers = {grant.layer for grant in self.grants}
        for layer in ("Binding", "Matrix"):  # without both, "every grant permits it" would be an empty promise
            if layer not in layers:
                raise ValueError(f".grants: the layer {layer} is missing")


class BundleAuditPolicy(StrictStruct, frozen=True):
    """What records hold of a call's arguments: their digest alone, or also themselves without what `redact` names."""

    arguments: RecordedArguments = written("Digest")
    redact: tuple[Pointer, ...] = written(())

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if self.redact and self.arguments == "Digest":
            raise ValueError(".redact: a digest alone has nothing to redact")


class BundleTaskScope(StrictStruct, frozen=True):
    """Where a task says a dimension's value: in a header, or at a pointer into its JSON body."""

    dimension: Name
    header: Annotated[str, like(TASK_HEADER, "the name of an HTTP header"), Meta(max_length=128)] | None = None
    pointer: Pointer | None = None

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        require_one(header=self.header, pointer=self.pointer)
        if self.header is not None and matches(TASK_HEADER_RESERVED, self.header):
            raise ValueError(".header: has a meaning of its own")


class BundleTasks(StrictStruct, frozen=True):
    """How the agent takes tasks: on which port it listens for them, and how many may be under way at once.

    `scope` says where tasks name the dimensions of scopes. `drain_seconds` is how long tasks under way may go on once
    the placement takes no new ones.
    """

    port: Annotated[int, Meta(ge=1, le=2**16 - 1)]
    max_concurrent: Annotated[int, Meta(ge=1, le=MAX_CONCURRENT_TASKS)]
    scope: Annotated[tuple[BundleTaskScope, ...], Meta(max_length=MAX_DIMENSIONS)] = ()
    drain_seconds: Annotated[int, Meta(ge=0, le=MAX_DRAIN_SECONDS)] = DEFAULT_DRAIN_SECONDS

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        refuse_doubles((entry.dimension for entry in self.scope), "scope", "dimension")


class BundlePeer(StrictStruct, frozen=True):
    """Another placement of the agent that takes tasks, and what it serves: `scope` without `excluded`.

    `url` is the port for tasks of its guards. A peer that is `draining` takes no new tasks.
    """

    stage: Name
    revision: Text
    url: Annotated[Text, like(PEER_URL, "http://<service>.<namespace>.svc, with or without a port")]
    scope: ScopeLimits = ()
    excluded: Annotated[tuple[ScopeLimits, ...], Meta(max_length=MAX_EXCLUDED)] = ()
    is_draining: bool = msgspec.field(default=False, name="draining")

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        refuse_doubles((limit.dimension for limit in self.scope), "scope", "dimension")
        _check_excluded(self.excluded)


class Bundle(StrictStruct, frozen=True):
    """Everything that one guard obeys.

    An empty `scope` is no limit; without `tasks` the agent takes none, without `models` it calls none. Each scope of
    `excluded` is served by another placement; an empty one in it is all work. While `is_draining`, the agent takes no
    new tasks. To the guards in `draining_pods` no Service leads: they serve what still reaches them, and report what
    is under way. Pods of a separate agent at `draining_addresses` get new tasks only where the agent has no other pod.
    `changed_pods` run another image than their revision was Ready with: the guards in them refuse everything. Those of
    a separate agent are at `changed_addresses`: guards take no request from there, and send no task there.
    `peers` are the agent's other placements in environments of the same class.
    `agent_key_digest` is the SHA-256 in hex of the key that the agent shows. Without it every request is refused.
    `budget` bounds what calls of models and of tools that cost may spend. Without `loops` any call may be repeated.
    `is_counted` says that the stage has gates or a source in mode `Audit`, so that the guard writes its counts into the
    placement's Lease.
    """

    schema_version: Literal[4, 5]
    agent: AgentIdentity
    revision: Text
    stage: Name
    environment: Name
    scope: tuple[ScopeLimit, ...]
    sources: tuple[BundleSource, ...]
    audit: BundleAuditPolicy = written(BundleAuditPolicy())
    tasks: BundleTasks | None = None
    models: ModelAccess | None = None
    agent_key_digest: Digest | None = None
    budget: BundleBudget | None = None
    loops: BundleLoops | None = None
    excluded: Annotated[tuple[ScopeLimits, ...], Meta(max_length=MAX_EXCLUDED)] = ()
    is_draining: bool = msgspec.field(default=False, name="draining")
    peers: Annotated[tuple[BundlePeer, ...], Meta(max_length=MAX_PEERS)] = ()
    draining_pods: Annotated[tuple[Text, ...], Meta(max_length=MAX_DRAINING_PODS)] = ()
    is_counted: bool = msgspec.field(default=False, name="counted")
    draining_addresses: Annotated[tuple[Text, ...], Meta(max_length=MAX_DRAINING_ADDRESSES)] = ()
    changed_pods: Annotated[tuple[Text, ...], Meta(max_length=MAX_CHANGED_PODS)] = ()
    changed_addresses: Annotated[tuple[Text, ...], Meta(max_length=MAX_CHANGED_ADDRESSES)] = ()

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        refuse_doubles((limit.dimension for limit in self.scope), "scope", "dimension")
        refuse_doubles((source.name for source in self.sources), "sources", "name")
        _check_excluded(self.excluded)
        # The guard passes a task on to one placement, so two of them never share an address.
        refuse_doubles((peer.url for peer in self.peers), "peers", "url")
        refuse_doubles((f"{peer.stage}/{peer.revision}" for peer in self.peers), "peers", "revision")
        for index, peer in enumerate(self.peers):
            if peer.url.split(".")[1] != self.agent.namespace:
                raise ValueError(f".peers[{index}].url: must be a Service in the namespace of the agent")
            if (peer.stage, peer.revision) == (self.stage, self.revision):
                raise ValueError(f".peers[{index}]: is this placement itself")
        for index, address in enumerate(self.draining_addresses):
            _check_address(address, f".drainingAddresses[{index}]")
        for index, address in enumerate(self.changed_addresses):
            _check_address(address, f".changedAddresses[{index}]")


def _check_address(address: str, path: str) -> None:
    """Refuse an IP address that could be written in another way too: guards compare texts.

    Raises:
        ValueError: It could, or it is none.
    """
    try:
        is_canonical = str(ip_address(address)) == address
    except ValueError:
        is_canonical = False
    if not is_canonical:
        raise ValueError(f"{path}: must be an IP address in its canonical form")


def _check_excluded(excluded: tuple[tuple[ScopeLimit, ...], ...]) -> None:
    """Refuse scopes that name a dimension twice, and a scope that is there twice.

    Raises:
        ValueError: One does.
    """
    for index, scope in enumerate(excluded):
        refuse_doubles((limit.dimension for limit in scope), f"excluded[{index}]", "dimension")
        if scope in excluded[:index]:
            raise ValueError(f".excluded[{index}]: is there twice")


def parse_bundle(text: str) -> Bundle:
    """Read a bundle; nothing unknown, missing or ambiguous passes.

    Raises:
        BundleInvalid: Naming the path, such as `sources[0].tools[2].operation`.
    """
    bundle = parse_document(text, Bundle, *READ_SCHEMAS, key="schemaVersion")
    newer = newer_field(bundle, bundle.schema_version)
    if newer is not None:
        raise BundleInvalid(f"{newer}: is unknown in version {bundle.schema_version}")
    return bundle


def dump_bundle(bundle: Bundle) -> str:
    """Write a bundle canonically: equal bundles give equal text, key order and spacing included."""
    return dump_document(bundle)


def digest(text: str) -> str:
    """Return the SHA-256 of a bundle's text in hex: the name by which both sides mean the same bundle."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_instructions(instructions: str | None) -> str:
    """Return the digest by which a server's instructions are pinned; a server without any counts as with empty ones."""
    return digest_of(canonicalize(instructions or ""))


def read_bundle_digests(status: Any) -> frozenset[str]:
    """Return the digests of the bundles that the guards of an Agent obey; none where the status names none.

    Args:
        status: `status` of the Agent as the API server has it. Anything but a mapping counts as none.
    """
    named = status.get(BUNDLE_DIGESTS) if isinstance(status, Mapping) else None
    digests = named[:MAX_BUNDLE_DIGESTS] if isinstance(named, list) else []
    return frozenset(one for one in digests if isinstance(one, str) and one)
