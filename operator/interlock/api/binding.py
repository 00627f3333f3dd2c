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
    TOOL_SCOPE,
    VARIABLE_VALUE,
    format_message,
    plain,
)
from interlock.api.shared_types import (
    ApiModel,
    ConfigMapKeyRef,
    Environment,
    EnvSource,
    ObjectMeta,
    Permissions,
    Resources,
    SecretKeyRef,
)
from interlock.api.text import (
    COMMAND_FITS,
    Argument,
    ArgumentPattern,
    ArgumentPrefix,
    ArgumentValue,
    HeaderName,
    HeaderValue,
    Image,
    Name,
    Pointer,
    PromptName,
    Resource,
    ResourceUri,
    ScopeValue,
    ServerUrl,
    ToolName,
    VariableName,
)
from interlock.api.verification import MCPBindingStatus, VerificationStatus, Verify
from interlock_contract.bundle import (
    DEFAULT_IN_FLIGHT,
    LARGEST_NUMBER,
    LEAST_BYTES,
    MAX_IN_FLIGHT,
    MAX_REQUEST_BYTES,
    MAX_RESULT_BYTES,
    Operation,
    ServerRequest,
)
from interlock_contract.http_target import Network
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
    """Its name; those of MCP, of the connection and of the body are refused."""

    value: HeaderValue | None = None
    """Its value, for what is no secret."""

    value_from: EnvSource | None = None
    """Where its value comes from, whole, with a scheme such as Bearer in it; only the guard reads it."""

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


TLS_RULES = (
    Rule(
        rule="self.url.startsWith('https:') || self.network == 'Private'",
        message=HTTP_NOT_PRIVATE,
        field_path=".url",
    ),
    Rule(
        rule="!has(self.caFrom) || self.url.startsWith('https:')",
        message=CA_WITHOUT_TLS,
        field_path=".caFrom",
    ),
)
"""What holds for every `url` with a `network` and a `caFrom`; `check_tls` is the same in Python."""


def check_tls(url: str, network: Network, ca_from: CaSource | None) -> None:
    """Hold a URL to `TLS_RULES`.

    Raises:
        ValueError: What it says is read by others on the way, or its authorities are for nothing.
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
    """Its one URL; redirects are not followed. http:// needs network Private: what is sent can be read on the way."""

    network: Network = Field(default="Public", json_schema_extra=kube(default="Public"))
    """Public: only globally routable addresses are dialled; Private: private ones too. Loopback, link-local: never."""

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
    """CA certificates that alone are trusted for this server; without it those of the guard's image."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_tls(self.url, self.network, self.ca_from)
        if len({header.name.lower() for header in self.headers}) < len(self.headers):
            raise ValueError(HEADER_TWICE)
        return self


__all__ = [
    "ArgumentRule",
    "EnvSource",
    "Environment",
    "Limits",
    "MCPBinding",
    "MCPBindingSpec",
    "Permissions",
    "Prompt",
    "PromptRule",
    "ResourceScope",
    "Resources",
    "Server",
    "ServerEnvVar",
    "ServerResource",
    "StdioServer",
    "Tool",
    "ToolScope",
]


class ServerEnvVar(ApiModel):
    """An environment variable of the MCP server; exactly one of value and valueFrom is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="has(self.value) != has(self.valueFrom)",
                message=plain(VARIABLE_VALUE),
                message_expression=cel_sentence(VARIABLE_VALUE, name="self.name"),
            ),
        ),
    )

    name: VariableName
    """Its name; names that start with INTERLOCK_ are refused."""

    value: str | None = Field(default=None, max_length=4096)
    """Its value, for what is no secret."""

    value_from: EnvSource | None = None
    """Where its value comes from; only the MCP server sees it, never the agent."""


class StdioServer(ApiModel):
    """An MCP server that speaks on its standard streams, run as a sidecar."""

    model_config = ConfigDict(json_schema_extra=kube(COMMAND_FITS))

    image: Image
    """Image of the server; it needs a shell, sh, to be joined to its pipes."""

    command: tuple[Argument, ...] = Field(min_length=1, max_length=64)
    """The program; the image's entry point is not used."""

    args: tuple[Argument, ...] = Field(default=(), max_length=64)
    """Its arguments."""

    env: tuple[ServerEnvVar, ...] = Field(default=(), max_length=64, json_schema_extra=kube(keys=("name",)))
    """Its environment variables."""

    network: Literal["None", "Public", "Private"] = Field(default="None", json_schema_extra=kube(default="None"))
    """What it may reach from a guard's pod of its own (Separate). None: nothing; Public: globally routable addresses
    alone; Private: private ones too. Metadata services of clouds: never."""

    resources: Resources | None = None
    """CPU and memory."""


class Server(ApiModel):
    """How the MCP server is reached; exactly one of stdio and http is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(Rule(rule="has(self.stdio) != has(self.http)", message=SERVER_MISSING)),
    )

    stdio: StdioServer | None = None
    """An MCP server that is run beside the agent and speaks on its standard streams."""

    http: HttpServer | None = None
    """An MCP server that runs elsewhere and is reached over HTTP."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if (self.stdio is None) == (self.http is None):
            raise ValueError(SERVER_MISSING)
        return self


class ToolScope(ApiModel):
    """How a call of the tool shows that it is inside a dimension; exactly one of pointer and unscoped is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="has(self.pointer) != has(self.unscoped)",
                message=plain(TOOL_SCOPE),
                message_expression=cel_sentence(TOOL_SCOPE, dimension="self.dimension"),
            ),
        ),
    )

    dimension: Name
    """The dimension, such as region."""

    pointer: Pointer | None = None
    """JSON pointer (RFC 6901) to the argument that holds the value or a list of values."""

    unscoped: Literal["Allowed"] | None = None
    """Allowed: the tool has nothing to do with this dimension."""


def _exactly_one_of(*kinds: str, sentence: str) -> Rule:
    given = ", ".join(f"has(self.{kind})" for kind in kinds)
    return Rule(
        rule=f"[{given}].filter(is_set, is_set).size() == 1",
        message=plain(sentence),
        message_expression=cel_sentence(sentence, pointer="self.pointer"),
    )


class PromptRule(ApiModel):
    """What one argument of a prompt must be, which is always a string; exactly one of the three is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(_exactly_one_of("enum", "prefix", "pattern", sentence=PROMPT_RULE)),
    )

    pointer: Pointer
    """JSON pointer (RFC 6901) to the argument: one value, or a list of which every one must keep the rule."""

    enum: tuple[ArgumentValue, ...] | None = Field(default=None, min_length=1, max_length=64)
    """The string is one of these, compared as it stands."""

    prefix: ArgumentPrefix | None = None
    """The string begins with this and has no part that is . or ..; a folder is written with its last slash."""

    pattern: ArgumentPattern | None = None
    """The whole string matches this: characters, ., [a-z], \\d, \\w, repeated by *, +, ? or {2,5}; no groups."""


class ArgumentRule(PromptRule):
    """What one argument of a tool must be; exactly one of enum, prefix, pattern and maximum is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(_exactly_one_of("enum", "prefix", "pattern", "maximum", sentence=ARGUMENT_RULE)),
    )

    maximum: int | None = Field(default=None, ge=0, le=LARGEST_NUMBER, json_schema_extra=kube(format="int64"))
    """The number is from 0 to this; less than nothing often means no limit."""


_Scope = Field(default=(), max_length=8, json_schema_extra=kube(keys=("dimension",)))
_Arguments = Field(default=(), max_length=8)


class Tool(ApiModel):
    """What a tool of the server does."""

    name: ToolName
    """Name of the tool at the server, or a glob: * is any run of characters, ? any one, but neither is a slash."""

    operation: Operation
    """What it does; hints of the server can only make it more."""

    resource: Resource
    """The kind of data that it does it to."""

    scope: tuple[ToolScope, ...] = _Scope
    """How its calls show that they are inside a stage's scope; a limited dimension not named here denies the call."""

    arguments: tuple[ArgumentRule, ...] = _Arguments
    """What its arguments must be; every rule must hold, and an argument that is missing keeps none."""


class ResourceScope(ApiModel):
    """To which part of the work a resource belongs; exactly one of values and unscoped is set."""

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
    """The values that it belongs to; all of them must be inside a stage's scope."""

    unscoped: Literal["Allowed"] | None = None
    """Allowed: it has nothing to do with this dimension."""


class ServerResource(ApiModel):
    """What reading a resource of the server, or following its changes, does."""

    uri: ResourceUri
    """URI of the resource, or a glob: * is any run of characters inside one part, ** goes on over slashes."""

    operation: Operation = "read"
    """What it does."""

    resource: Resource
    """The kind of data that it does it to."""

    scope: tuple[ResourceScope, ...] = _Scope
    """To which part of the work it belongs; a limited dimension not named here denies it."""


class Prompt(ApiModel):
    """What getting a prompt of the server does."""

    name: PromptName
    """Name of the prompt at the server, or a glob as of tools."""

    operation: Operation = "read"
    """What it does."""

    resource: Resource
    """The kind of data that it does it to."""

    scope: tuple[ToolScope, ...] = _Scope
    """How its arguments show that it is inside a stage's scope; a limited dimension not named here denies it."""

    arguments: tuple[PromptRule, ...] = _Arguments
    """What its arguments must be; every rule must hold, and an argument that is missing keeps none."""


class Limits(ApiModel):
    """How much may pass between agent and server."""

    request_bytes: int = Field(
        default=MAX_REQUEST_BYTES, ge=LEAST_BYTES, le=MAX_REQUEST_BYTES, json_schema_extra=kube(format="int32")
    )
    """Size of one request."""

    result_bytes: int = Field(
        default=MAX_RESULT_BYTES, ge=LEAST_BYTES, le=MAX_RESULT_BYTES, json_schema_extra=kube(format="int32")
    )
    """Size of one result; a larger one becomes an error that says so."""

    in_flight: int = Field(default=DEFAULT_IN_FLIGHT, ge=1, le=MAX_IN_FLIGHT, json_schema_extra=kube(format="int32"))
    """Requests that are under way in the server at once; one more is refused."""


class MCPBindingSpec(ApiModel):
    """What is bound."""

    source: Name
    """The name that the matrix and the agents speak of; other bindings may serve it in other environments."""

    environments: tuple[Environment, ...] = Field(min_length=1, max_length=3)
    """Where it may be used; out of reach anywhere else."""

    server: Server
    """How the MCP server is reached."""

    tools: tuple[Tool, ...] = Field(default=(), max_length=256, json_schema_extra=kube(keys=("name",)))
    """The tools that exist for agents; one that is not mapped is never callable. A written name beats a glob, and of
    several globs the first one wins."""

    resources: tuple[ServerResource, ...] = Field(default=(), max_length=128, json_schema_extra=kube(keys=("uri",)))
    """The server's resources that exist for agents, found as tools are; completions follow it."""

    prompts: tuple[Prompt, ...] = Field(default=(), max_length=64, json_schema_extra=kube(keys=("name",)))
    """The server's prompts that exist for agents, found as tools are; completions follow it."""

    server_requests: tuple[ServerRequest, ...] = Field(default=(), max_length=3)
    """What the server may ask of the agent: to call its model, to ask its user, to name its folders."""

    permissions: Permissions = Permissions()
    """What may be done through this binding; matrix and agent may only narrow it."""

    limits: Limits = Limits()
    """How much may pass between agent and server."""

    verify: Verify = Verify()
    """When and how the server is verified, before agents are attached and afterwards."""


class MCPBinding(ApiModel):
    """One MCP server and what may be called on it."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["MCPBinding"] = "MCPBinding"
    metadata: ObjectMeta
    spec: MCPBindingSpec
    status: MCPBindingStatus | None = None

    @property
    def verification(self) -> VerificationStatus:
        """What is known of the server; nothing where nothing was reported yet."""
        known = self.status.verification if self.status else None
        return known or VerificationStatus()
