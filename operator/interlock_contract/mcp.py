"""MCP's versions, methods, keys and codes, of both eras. Nothing here is ours to choose.

A contract test holds these tables against the official `mcp_types` package, which is not in the guard's image. A method
or a notification that is not in them does not pass, in either direction.
"""

from typing import Final

SESSION_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Protocol versions that start with `initialize`, oldest first."""
LATEST_SESSION: Final = SESSION_VERSIONS[-1]
SESSIONLESS_VERSIONS: Final = ("2026-07-28",)
"""Protocol versions in which each request speaks for itself, oldest first."""
LATEST_SESSIONLESS: Final = SESSIONLESS_VERSIONS[-1]

VERSION_META: Final = "io.modelcontextprotocol/protocolVersion"
"""Key of `params._meta` by which a request says that it is of the stateless era."""
CLIENT_INFO_META: Final = "io.modelcontextprotocol/clientInfo"
CLIENT_CAPABILITIES_META: Final = "io.modelcontextprotocol/clientCapabilities"
LOG_LEVEL_META: Final = "io.modelcontextprotocol/logLevel"
SERVER_INFO_META: Final = "io.modelcontextprotocol/serverInfo"
SUBSCRIPTION_META: Final = "io.modelcontextprotocol/subscriptionId"
TRACE_META: Final = ("traceparent", "tracestate", "baggage")
"""Keys of `_meta` that carry W3C trace context (SEP-414); all of a client's `_meta` that reaches a server."""

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
"""Requests of a client of the handshake era."""
SESSIONLESS_REQUESTS: Final = _COMMON | {DISCOVER, LISTEN}
"""Requests of a client of the stateless era."""

CANCELLED: Final = "notifications/cancelled"
PROGRESS: Final = "notifications/progress"
LOG_MESSAGE: Final = "notifications/message"
ROOTS_CHANGED: Final = "notifications/roots/list_changed"
RESOURCE_UPDATED: Final = "notifications/resources/updated"
ELICITATION_COMPLETE: Final = "notifications/elicitation/complete"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
CLIENT_NOTIFICATIONS: Final = frozenset({CANCELLED, "notifications/initialized", PROGRESS, ROOTS_CHANGED})
"""Notifications of a client of the handshake era; in the stateless era there is `CANCELLED` alone, on stdio."""

TOOLS_CHANGED: Final = "notifications/tools/list_changed"
LISTS_CHANGED: Final = {
    TOOLS_CHANGED: "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
"""A server's notifications that a list changed, and the keys by which `subscriptions/listen` asks for them."""

SERVER_REQUESTS: Final = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}
"""What a server may ask of its client, `ping` aside, and the capability by which the client says that it may."""

MAY_ASK: Final = frozenset({"prompts/get", "resources/read", TOOLS_CALL})
"""Requests that a server may answer with questions of its own (multi-round-trip requests, SEP-2322)."""
CACHEABLE: Final = frozenset(
    {"prompts/list", "resources/list", "resources/read", "resources/templates/list", DISCOVER, "tools/list"}
)
"""Requests whose results say for how long and for whom they may be kept, in the stateless era."""
NAME_HEADER: Final = {TOOLS_CALL: "name", "prompts/get": "name", "resources/read": "uri"}
"""Requests whose `Mcp-Name` header must repeat a parameter."""
LISTS: Final = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}
"""Requests for a list: the result's key, and the key that names an item."""

LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Least severe first."""
