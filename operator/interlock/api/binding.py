"""MCPBinding: one MCP server and what may be called on it."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from interlock.api.markers import Rule, cel_sentence, kube
from interlock.api.messages import (
    ARGUMENT_RULE,
    CA_SOURCE,
    CA_WITHOUT_TLS,
    HEADER_TWICE,
    HEADER_VALUE,
    HTTP_NOT_PRIVATE,
    PROMPT_RULE,
    RESOURCE_SCOPE,
    SERVER_MISSING,
    TOOL_INJECT,
    TOOL_SCOPE,
    format_message,
    plain,
)
from interlock.api.shared_types import (
    ApiModel,
    ConfigMapKeyRef,
    EnvSource,
    ObjectMeta,
    Permissions,
    SecretKeyRef,
)
from interlock.api.stdio_server import StdioServer
from interlock.api.text import (
    ArgumentPattern,
    ArgumentPrefix,
    ArgumentValue,
    EnvironmentName,
    HeaderName,
    HeaderValue,
    Money,
    Name,
    Pointer,
    PromptName,
    Resource,
    ResourceUri,
    ScopeValue,
    ServerUrl,
    ToolName,
)
from interlock.api.verification import NEW_BINDING, MCPBindingStatus, VerificationStatus, Verify
from interlock_contract.addresses import Network
from interlock_contract.bundle import (
    DEFAULT_IN_FLIGHT,
    LARGEST_NUMBER,
    LEAST_BYTES,
    MAX_IN_FLIGHT,
    MAX_REQUEST_BYTES,
    MAX_RESULT_BYTES,
    Operation,
    ResourceDescriptions,
    ServerRequest,
)
from interlock_contract.names import API_VERSION


class HttpHeader(ApiModel):
    """A header of every request to the server; exactly one of value and valueFrom is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="has(self.value) != has(self.valueFrom)",
                message=plain(HEADER_VALUE),
                message_expression=cel_sentence(HEADER_VALUE, name="self.name"),
            ),
        ),
    )

    name: HeaderName
    """Name of the header. Those of MCP, of the connection and of the body are refused."""

    value: HeaderValue | None = None
    """Value, if it is no secret."""

    value_from: EnvSource | None = None
    """Secret key with the whole value, including a scheme such as Bearer. Only the guard reads it."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError(format_message(HEADER_VALUE, name=self.name))
        return self


class CaSource(ApiModel):
    """Where CA certificates in PEM come from; exactly one of configMapKeyRef and secretKeyRef is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(Rule(rule="has(self.configMapKeyRef) != has(self.secretKeyRef)", message=CA_SOURCE)),
    )

    config_map_key_ref: ConfigMapKeyRef | None = None
    """One key of a ConfigMap."""

    secret_key_ref: SecretKeyRef | None = None
    """One key of a Secret."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if (self.config_map_key_ref is None) == (self.secret_key_ref is None):
            raise ValueError(CA_SOURCE)
        return self


CA_RULE = Rule(
    rule="!has(self.caFrom) || self.url.startsWith('https:')",
    message=CA_WITHOUT_TLS,
    field_path=".caFrom",
)
TLS_RULES = (
    Rule(
        rule="self.url.startsWith('https:') || self.network == 'Private'",
        message=HTTP_NOT_PRIVATE,
        field_path=".url",
    ),
    CA_RULE,
)
"""Rules for every `url` with `network` and `caFrom`; `check_tls` checks the same in Python."""


def check_tls(url: str, network: Network, ca_from: CaSource | None) -> None:
    """Hold a URL to `TLS_RULES`.

    Raises:
        ValueError: The URL is http without network Private, or http with CA certificates.
    """
    is_https = url.startswith("https:")
    if not is_https and network != "Private":
        raise ValueError(HTTP_NOT_PRIVATE)
    if not is_https and ca_from is not None:
        raise ValueError(CA_WITHOUT_TLS)


class HttpServer(ApiModel):
    """An MCP server that runs elsewhere and is reached by the guard over streamable HTTP."""

    model_config = ConfigDict(json_schema_extra=kube(*TLS_RULES))

    url: ServerUrl
    """URL of the server. Redirects are not followed. http:// is not encrypted and needs network Private."""

    network: Network = Field(default="Public", json_schema_extra=kube(default="Public"))
    """Public: the guard dials public addresses only. Private: private ones too. Never loopback and link-local."""

    headers: tuple[HttpHeader, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra=kube(
            Rule(
                rule="self.all(h, self.exists_one(g, g.name.lowerAscii() == h.name.lowerAscii()))",
                message=HEADER_TWICE,
            ),
            keys=("name",),
        ),
    )
    """Headers of every request, such as Authorization."""

    ca_from: CaSource | None = None
    """CA certificates, the only ones trusted for this server; absent for those of the guard's image."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_tls(self.url, self.network, self.ca_from)
        if len({header.name.lower() for header in self.headers}) < len(self.headers):
            raise ValueError(HEADER_TWICE)
        return self


class Server(ApiModel):
    """How the MCP server is reached; exactly one of stdio and http is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(Rule(rule="has(self.stdio) != has(self.http)", message=SERVER_MISSING)),
    )

    stdio: StdioServer | None = None
    """An MCP server that runs as a sidecar of the guard and uses its standard streams."""

    http: HttpServer | None = None
    """An MCP server that runs elsewhere and is reached over HTTP."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if (self.stdio is None) == (self.http is None):
            raise ValueError(SERVER_MISSING)
        return self


class ToolScope(ApiModel):
    """How a call shows that it is inside a dimension; exactly one of pointer and unscoped is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="has(self.pointer) != has(self.unscoped)",
                message=plain(TOOL_SCOPE),
                message_expression=cel_sentence(TOOL_SCOPE, dimension="self.dimension"),
            ),
            Rule(
                rule="!has(self.inject) || !self.inject || has(self.pointer)",
                message=plain(TOOL_INJECT),
                message_expression=cel_sentence(TOOL_INJECT, dimension="self.dimension"),
            ),
        ),
    )

    dimension: Name
    """The dimension, such as region."""

    pointer: Pointer | None = None
    """JSON pointer (RFC 6901) to the argument that holds the value or a list of values."""

    unscoped: Literal["Allowed"] | None = None
    """Allowed: the dimension does not apply to the tool."""

    inject: bool | None = None
    """Write the value of a stage that has just one there into arguments that name none."""


def _exactly_one_of(*kinds: str, sentence: str) -> Rule:
    given = ", ".join(f"has(self.{kind})" for kind in kinds)
    return Rule(
        rule=f"[{given}].filter(is_set, is_set).size() == 1",
        message=plain(sentence),
        message_expression=cel_sentence(sentence, pointer="self.pointer"),
    )


class PromptRule(ApiModel):
    """A rule on one argument of a prompt, which is a string; exactly one of enum, prefix and pattern is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(_exactly_one_of("enum", "prefix", "pattern", sentence=PROMPT_RULE)),
    )

    pointer: Pointer
    """JSON pointer (RFC 6901) to the argument. Every element of a list must satisfy the rule."""

    enum: tuple[ArgumentValue, ...] | None = Field(default=None, min_length=1, max_length=64)
    """The string is one of these, compared as it stands."""

    prefix: ArgumentPrefix | None = None
    """The string begins with this and has no part that is . or ..; a folder is written with its last slash."""

    pattern: ArgumentPattern | None = None
    """The whole string matches this: characters, ., [a-z], \\d, \\w, repeated by *, +, ? or {2,5}; no groups."""


class ArgumentRule(PromptRule):
    """A rule on one argument of a tool; exactly one of enum, prefix, pattern and maximum is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(_exactly_one_of("enum", "prefix", "pattern", "maximum", sentence=ARGUMENT_RULE)),
    )

    maximum: int | None = Field(default=None, ge=0, le=LARGEST_NUMBER, json_schema_extra=kube(format="int64"))
    """The number is from 0 to this maximum. Negative numbers are denied, since they often mean no limit."""


_Scope = Field(default=(), max_length=8, json_schema_extra=kube(keys=("dimension",)))
_Arguments = Field(default=(), max_length=8)


class Tool(ApiModel):
    """The meaning of a tool: an operation on a resource."""

    name: ToolName
    """Name of the tool at the server, or a glob: * is any run of characters, ? any one, but neither is a slash."""

    operation: Operation
    """The operation of a call. Hints of the server can only raise it, from read to write to delete."""

    resource: Resource
    """The kind of data that the operation touches."""

    scope: tuple[ToolScope, ...] = _Scope
    """How its calls show that they are inside a stage's scope; a limited dimension not named here denies the call."""

    arguments: tuple[ArgumentRule, ...] = _Arguments
    """Rules on arguments. A call must satisfy every rule, and a missing argument satisfies none."""

    cost_per_call: Money | None = None
    """US dollars that the agent's budget pays for each call; absent for none."""


class ResourceScope(ApiModel):
    """The part of the work that a resource belongs to; exactly one of values and unscoped is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="has(self.values) != has(self.unscoped)",
                message=plain(RESOURCE_SCOPE),
                message_expression=cel_sentence(RESOURCE_SCOPE, dimension="self.dimension"),
            ),
        ),
    )

    dimension: Name
    """The dimension, such as region."""

    values: tuple[ScopeValue, ...] | None = Field(default=None, min_length=1, max_length=32)
    """Values of the resource in this dimension. All of them must be inside a stage's scope."""

    unscoped: Literal["Allowed"] | None = None
    """Allowed: the dimension does not apply to the resource."""


class ServerResource(ApiModel):
    """The meaning of reading or subscribing to a resource of the server."""

    uri: ResourceUri
    """URI of the resource, or a glob: * is any run of characters inside one part, ** goes on over slashes."""

    operation: Operation = "read"
    """The operation."""

    resource: Resource
    """The kind of data that the operation touches."""

    scope: tuple[ResourceScope, ...] = _Scope
    """The part of the work that it belongs to. A limited dimension that is not named here denies it."""


class Prompt(ApiModel):
    """The meaning of getting a prompt of the server."""

    name: PromptName
    """Name of the prompt at the server, or a glob as of tools."""

    operation: Operation = "read"
    """The operation."""

    resource: Resource
    """The kind of data that the operation touches."""

    scope: tuple[ToolScope, ...] = _Scope
    """How its arguments show that it is inside a stage's scope; a limited dimension not named here denies it."""

    arguments: tuple[PromptRule, ...] = _Arguments
    """Rules on arguments. A call must satisfy every rule, and a missing argument satisfies none."""


class Limits(ApiModel):
    """Limits on the traffic between agent and server."""

    request_bytes: int = Field(
        default=MAX_REQUEST_BYTES, ge=LEAST_BYTES, le=MAX_REQUEST_BYTES, json_schema_extra=kube(format="int32")
    )
    """Largest size of a request in bytes."""

    result_bytes: int = Field(
        default=MAX_RESULT_BYTES, ge=LEAST_BYTES, le=MAX_RESULT_BYTES, json_schema_extra=kube(format="int32")
    )
    """Largest size of a result in bytes. The guard replaces a larger result by an error."""

    in_flight: int = Field(default=DEFAULT_IN_FLIGHT, ge=1, le=MAX_IN_FLIGHT, json_schema_extra=kube(format="int32"))
    """Number of concurrent requests to the server. The guard refuses more."""


class MCPBindingSpec(ApiModel):
    """Desired state of an MCPBinding."""

    source: Name
    """Name that access matrix and agents use. Other bindings may serve the same source in other environments."""

    environments: tuple[EnvironmentName, ...] = Field(min_length=1, max_length=16)
    """Environments in which the binding serves its source."""

    server: Server
    """How the MCP server is reached."""

    tools: tuple[Tool, ...] = Field(default=(), max_length=256, json_schema_extra=kube(keys=("name",)))
    """The tools that agents may see. A tool that is not mapped is never callable. An exact name takes precedence over
    a glob, and the first of several matching globs applies."""

    resources: tuple[ServerResource, ...] = Field(default=(), max_length=128, json_schema_extra=kube(keys=("uri",)))
    """The server's resources that agents may see, matched as tools are. Completions need the same permissions."""

    resource_descriptions: ResourceDescriptions = Field(default="Withheld", json_schema_extra=kube(default="Withheld"))
    """Withheld: lists of resources and templates show URI, media type and size. Unreviewed: names, titles, descriptions
    and all else too, which the server may change at any time and no administrator has reviewed."""

    prompts: tuple[Prompt, ...] = Field(default=(), max_length=64, json_schema_extra=kube(keys=("name",)))
    """The server's prompts that agents may see, matched as tools are. Completions need the same permissions."""

    instructions: Literal["Withheld", "Pinned"] = Field(default="Withheld", json_schema_extra=kube(default="Withheld"))
    """Withheld: agents do not get the server's instructions, which clients give to their models. Pinned: agents get
    them as they were verified or accepted."""

    server_requests: tuple[ServerRequest, ...] = Field(default=(), max_length=3)
    """Requests that the server may send to the agent: call its model, ask its user, list its roots."""

    permissions: Permissions = Permissions()
    """Permissions of the binding. Access matrix and agent can only narrow them."""

    limits: Limits = Limits()
    """Limits on the traffic between agent and server."""

    verify: Verify = Verify()
    """When and how the server is verified, before agents are attached and afterwards."""


class MCPBinding(ApiModel):
    """One MCP server and what may be called on it."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["MCPBinding"] = "MCPBinding"
    metadata: ObjectMeta
    spec: MCPBindingSpec
    status: MCPBindingStatus | None = Field(default=None, json_schema_extra=kube(default=NEW_BINDING))

    @property
    def verification(self) -> VerificationStatus:
        """The state of the server's verification; empty before the first."""
        known = self.status.verification if self.status else None
        return known or VerificationStatus()

    @property
    def is_judged(self) -> bool:
        """Whether the status is about today's spec."""
        return self.status is not None and self.status.observed_generation >= self.metadata.generation
