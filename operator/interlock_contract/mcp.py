"""MCP's versions, methods, keys, error codes and HTTP headers, of session-based and sessionless protocol versions.

A contract test compares these tables with the official `mcp_types` package, which the guard's image leaves out. The
guard passes no method and no notification that the tables lack, in either direction.
"""

from typing import Final

SESSION_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Protocol versions that start with `initialize`, oldest first."""
LATEST_SESSION: Final = SESSION_VERSIONS[-1]
SESSIONLESS_VERSIONS: Final = ("2026-07-28",)
"""Protocol versions without a session, in which every request carries its version, oldest first."""
LATEST_SESSIONLESS: Final = SESSIONLESS_VERSIONS[-1]

VERSION_META: Final = "io.modelcontextprotocol/protocolVersion"
"""Key of `params._meta` by which a request names its sessionless version."""
CLIENT_INFO_META: Final = "io.modelcontextprotocol/clientInfo"
CLIENT_CAPABILITIES_META: Final = "io.modelcontextprotocol/clientCapabilities"
LOG_LEVEL_META: Final = "io.modelcontextprotocol/logLevel"
SERVER_INFO_META: Final = "io.modelcontextprotocol/serverInfo"
SUBSCRIPTION_META: Final = "io.modelcontextprotocol/subscriptionId"
TRACE_META: Final = ("traceparent", "tracestate", "baggage")
"""Keys of `_meta` that carry W3C trace context (SEP-414). No other key of a client's `_meta` reaches a server."""

MCP_JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
SESSION_HEADER: Final = "Mcp-Session-Id"
VERSION_HEADER: Final = "MCP-Protocol-Version"
METHOD_HEADER: Final = "Mcp-Method"
NAME_HEADER: Final = "Mcp-Name"

HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022

TOOLS_CALL: Final = "tools/call"
SET_LEVEL: Final = "logging/setLevel"
SUBSCRIBE: Final = "resources/subscribe"
UNSUBSCRIBE: Final = "resources/unsubscribe"
DISCOVER: Final = "server/discover"
LISTEN: Final = "subscriptions/listen"

_COMMON: Final = frozenset(
    {
        "completion/complete",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        TOOLS_CALL,
        "tools/list",
    }
)
SESSION_REQUESTS: Final = _COMMON | {"initialize", "ping", SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE}
"""Requests of a client in session-based versions."""
SESSIONLESS_REQUESTS: Final = _COMMON | {DISCOVER, LISTEN}
"""Requests of a client in sessionless versions."""

CANCELLED: Final = "notifications/cancelled"
PROGRESS: Final = "notifications/progress"
LOG_MESSAGE: Final = "notifications/message"
ROOTS_CHANGED: Final = "notifications/roots/list_changed"
RESOURCE_UPDATED: Final = "notifications/resources/updated"
ELICITATION_COMPLETE: Final = "notifications/elicitation/complete"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
CLIENT_NOTIFICATIONS: Final = frozenset({CANCELLED, "notifications/initialized", PROGRESS, ROOTS_CHANGED})
"""Notifications of a client in session-based versions. Sessionless versions have `CANCELLED` alone, on stdio."""

TOOLS_CHANGED: Final = "notifications/tools/list_changed"
PROMPTS_CHANGED: Final = "notifications/prompts/list_changed"
LISTS_CHANGED: Final = {
    TOOLS_CHANGED: "toolsListChanged",
    PROMPTS_CHANGED: "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
"""Notifications of a server that a list changed, and the keys by which `subscriptions/listen` subscribes to them."""

SERVER_REQUESTS: Final = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}
"""Requests of a server to its client except `ping`, and the client capability that each of them needs."""

UNDECLARED: Final = {
    "sampling/createMessage": ("tools", "toolChoice", "task"),
    "elicitation/create": ("task",),
    "roots/list": (),
}
"""Parameters of these requests that need a capability which the guard declares to no server."""
WITHHELD: Final = "includeContext"
"""A parameter of `sampling/createMessage` that asks for what other servers told the client, who may ignore it."""

MAY_ASK: Final = frozenset({"prompts/get", "resources/read", TOOLS_CALL})
"""Requests that a server may answer with requests of its own (multi-round-trip requests, SEP-2322)."""
CACHEABLE: Final = frozenset(
    {"prompts/list", "resources/list", "resources/read", "resources/templates/list", DISCOVER, "tools/list"}
)
"""Requests whose results say for how long and for whom they may be cached, in sessionless versions."""
NAME_PARAMETERS: Final = {TOOLS_CALL: "name", "prompts/get": "name", "resources/read": "uri"}
"""Requests with the parameter that their `Mcp-Name` header must repeat."""
LISTS: Final = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}
"""Requests for a list: the result's key, and the key that names an item."""

LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Least severe first."""
