"""The classes of requests to an agent: work, queries, and control requests about work that is under way. No I/O.

It decides nothing about what an agent may do. It keeps a cancellation from waiting behind the very tasks that it is to
end, and a poll from being counted as work. The tables are those of A2A 0.3 and 1.0.
"""

import re
from enum import StrEnum
from typing import Any, Final

from interlock_contract.strict_json import JsonInvalid, parse_json

LONGEST_LOOKED_AT: Final = 16 * 1024
"""Bodies up to this size, in bytes, are looked at for a JSON-RPC method; what is said about a task is short."""

_MAX_METHOD: Final = 128
_CONTROL_METHODS: Final = frozenset(
    {
        # A2A 1.0
        "GetTask",
        "ListTasks",
        "CancelTask",
        "SubscribeToTask",
        "CreateTaskPushNotificationConfig",
        "GetTaskPushNotificationConfig",
        "ListTaskPushNotificationConfigs",
        "DeleteTaskPushNotificationConfig",
        "GetExtendedAgentCard",
        # A2A 0.3
        "tasks/get",
        "tasks/list",
        "tasks/cancel",
        "tasks/resubscribe",
        "tasks/pushNotificationConfig/set",
        "tasks/pushNotificationConfig/get",
        "tasks/pushNotificationConfig/list",
        "tasks/pushNotificationConfig/delete",
        "agent/getAuthenticatedExtendedCard",
    }
)
_CONTROL_PATHS: Final = re.compile(
    r"(/[^/]+)*/tasks/[^/:]+(:cancel|:subscribe|/pushNotificationConfigs(/[^/]+)?)\Z"  # A2A as plain HTTP
)
_CONTROL_LOOKS: Final = re.compile(
    r"(/\.well-known/(agent-card|agent)\.json|(/[^/]+)*/(tasks(/[^/:]+)?|extendedAgentCard|v1/card))\Z"
)
_LOOKS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class RequestClass(StrEnum):
    """What a request is; stable words that metrics and records use."""

    TASK = "Task"
    """Work for the agent: everything that is not known to be something else."""
    READ = "Read"
    """`GET`, `HEAD` or `OPTIONS`: no work by HTTP's own meaning, but it takes a place like work."""
    CONTROL = "Control"
    """A2A's words about tasks that are under way, and the agent's card: they take no place of a task."""


def classify_request(method: str, target: str, rpc: str) -> RequestClass:
    """Return what a request is.

    Args:
        method: The HTTP method.
        target: Path and query.
        rpc: The JSON-RPC method, empty where the body is none or was not looked at.
    """
    path = target.partition("?")[0]
    is_look = method in _LOOKS
    if rpc in _CONTROL_METHODS or (not rpc and _CONTROL_PATHS.match(path)):
        return RequestClass.CONTROL
    if is_look and _CONTROL_LOOKS.match(path):
        return RequestClass.CONTROL
    return RequestClass.READ if is_look else RequestClass.TASK


def read_rpc_method(body: bytes) -> str:
    """Return the JSON-RPC method that a body names, or nothing; what is no JSON is for the agent to refuse."""
    return rpc_method_of(parse_body(body))


def parse_body(body: bytes) -> Any:
    """Return a body as strict JSON; None where it is none."""
    try:
        return parse_json(body)
    except JsonInvalid:
        return None


def rpc_method_of(message: Any) -> str:
    """Return the JSON-RPC method that a message names, or nothing."""
    if not isinstance(message, dict) or "jsonrpc" not in message:
        return ""
    method = message.get("method")
    return method if isinstance(method, str) and len(method) <= _MAX_METHOD and method.isprintable() else ""
