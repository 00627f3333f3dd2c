"""MCPBinding: one MCP server and what may be called on it."""

from typing import Literal

from interlock.api.meta import API_VERSION
from interlock.api.model import ApiModel, ObjectMeta
from interlock.api.permissions import Permissions
from interlock.api.resources import Resources
from interlock.api.scope import Environment

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

    name: str
    """Name of the Secret."""

    key: str
    """Key in the Secret."""


class EnvSource(ApiModel):
    """Where a value comes from."""

    secret_key_ref: SecretKeyRef
    """One key of a Secret."""


class ServerEnvVar(ApiModel):
    """An environment variable of the MCP server."""

    name: str
    """Its name."""

    value: str | None = None
    """Its value."""

    value_from: EnvSource | None = None
    """Where its value comes from."""


class StdioServer(ApiModel):
    """An MCP server that speaks on its standard streams, run as a sidecar."""

    image: str
    """Image of the server."""

    command: tuple[str, ...]
    """The program; the image's entry point is not used."""

    args: tuple[str, ...] = ()
    """Its arguments."""

    env: tuple[ServerEnvVar, ...] = ()
    """Its environment variables."""

    resources: Resources | None = None
    """CPU and memory."""


class Server(ApiModel):
    """How the MCP server is reached."""

    stdio: StdioServer | None = None
    """An MCP server that is run beside the agent."""


class ToolScope(ApiModel):
    """How a call of the tool shows that it is inside a dimension."""

    dimension: str
    """The dimension."""

    pointer: str | None = None
    """JSON pointer (RFC 6901) to the argument that holds the value or a list of values."""

    unscoped: Literal["Allowed"] | None = None
    """Allowed: the tool has nothing to do with this dimension."""


class Tool(ApiModel):
    """What a tool of the server does."""

    name: str
    """Name of the tool at the server."""

    operation: Literal["read", "write", "delete"]
    """What it does."""

    resource: str
    """The kind of data that it does it to."""

    scope: tuple[ToolScope, ...] = ()
    """How its calls show that they are inside a stage's scope."""


class MCPBindingSpec(ApiModel):
    """What is bound."""

    source: str
    """The name that the matrix speaks of."""

    environments: tuple[Environment, ...]
    """Where it may be used."""

    server: Server
    """How the MCP server is reached."""

    tools: tuple[Tool, ...] = ()
    """The tools that exist for agents; a tool that is not mapped is never callable."""

    permissions: Permissions = Permissions()
    """What may be done through this binding."""


class MCPBinding(ApiModel):
    """One MCP server and what may be called on it."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["MCPBinding"] = "MCPBinding"
    metadata: ObjectMeta
    spec: MCPBindingSpec
