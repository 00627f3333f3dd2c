"""MCPBinding: one MCP server and what may be called on it."""

from typing import Literal

from pydantic import ConfigDict, Field

from interlock.api.markers import Rule, cel_sentence, kube
from interlock.api.meta import API_VERSION
from interlock.api.model import ApiModel, ObjectMeta
from interlock.api.permissions import Permissions
from interlock.api.resources import Resources
from interlock.api.scope import Environment
from interlock.api.sentences import SERVER_MISSING, TOOL_SCOPE, VARIABLE_VALUE, plain
from interlock.api.text import (
    COMMAND_FITS,
    Argument,
    Image,
    Name,
    ObjectName,
    Pointer,
    Resource,
    ToolName,
    VariableName,
)

__all__ = [
    "EnvSource",
    "Environment",
    "MCPBinding",
    "MCPBindingSpec",
    "Permissions",
    "Resources",
    "SecretKeyRef",
    "Server",
    "ServerEnvVar",
    "StdioServer",
    "Tool",
    "ToolScope",
]


class SecretKeyRef(ApiModel):
    """One key of a Secret in the same namespace."""

    name: ObjectName
    """Name of the Secret."""

    key: ObjectName
    """Key in the Secret."""


class EnvSource(ApiModel):
    """Where a value comes from."""

    secret_key_ref: SecretKeyRef
    """One key of a Secret."""


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

    resources: Resources | None = None
    """CPU and memory."""


class Server(ApiModel):
    """How the MCP server is reached."""

    model_config = ConfigDict(
        json_schema_extra=kube(Rule(rule="has(self.stdio)", message=SERVER_MISSING, field_path=".stdio")),
    )

    stdio: StdioServer | None = None
    """An MCP server that is run beside the agent and speaks on its standard streams; demanded."""


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


class Tool(ApiModel):
    """What a tool of the server does."""

    name: ToolName
    """Name of the tool at the server."""

    operation: Literal["read", "write", "delete"]
    """What it does."""

    resource: Resource
    """The kind of data that it does it to."""

    scope: tuple[ToolScope, ...] = Field(default=(), max_length=8, json_schema_extra=kube(keys=("dimension",)))
    """How its calls show that they are inside a stage's scope; a limited dimension not named here denies the call."""


class MCPBindingSpec(ApiModel):
    """What is bound."""

    source: Name
    """The name that the matrix and the agents speak of; other bindings may serve it in other environments."""

    environments: tuple[Environment, ...] = Field(min_length=1, max_length=3)
    """Where it may be used; out of reach anywhere else."""

    server: Server
    """How the MCP server is reached."""

    tools: tuple[Tool, ...] = Field(default=(), max_length=256, json_schema_extra=kube(keys=("name",)))
    """The tools that exist for agents; a tool that is not mapped is never callable."""

    permissions: Permissions = Permissions()
    """What may be done through this binding; matrix and agent may only narrow it."""


class MCPBinding(ApiModel):
    """One MCP server and what may be called on it."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["MCPBinding"] = "MCPBinding"
    metadata: ObjectMeta
    spec: MCPBindingSpec
