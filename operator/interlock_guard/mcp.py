"""MCP as the guard speaks it to clients: the handshake era, 2024-11-05 to 2025-11-25. No I/O.

`initialize` and `ping` are the guard's own to answer, `tools/list` is filtered, `tools/call` is decided, everything
else is refused. What is forwarded is built anew from what was decided on; nothing rides along.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from interlock_guard.decide import TOOLS_CALL, TOOLS_LIST, Deny
from interlock_guard.jsonrpc import INVALID_PARAMS, Id, MessageInvalid, Request

HANDSHAKE_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Protocol versions that start with `initialize`, oldest first."""
LATEST_VERSION: Final = HANDSHAKE_VERSIONS[-1]

UNSUPPORTED_VERSION: Final = -32022
"""The stateless era's error for a version that is not spoken; its clients fall back to the handshake on it."""
STATELESS_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
"""Key of `params._meta` by which a request says that it is of the stateless era."""

DENIAL_META: Final = "interlock.dev/denial"
"""Key of a result's `_meta` that says that and why the guard denied the call."""

SPOKEN: Final = frozenset({TOOLS_CALL, TOOLS_LIST})
"""The methods of `decide.METHODS` that can be taken apart here; until a method can, it is refused."""

ACCEPTED_NOTIFICATIONS: Final = frozenset({"notifications/initialized", "notifications/cancelled"})

GUARD_INFO: Final = {"name": "interlock-guard", "version": "0.1.0"}

_MAX_TOOL_NAME: Final = 1024
_PROGRESS_KEYS: Final = ("progress", "total", "message")
_CALL_KEYS: Final = frozenset({"name", "arguments", "_meta"})
_LIST_KEYS: Final = frozenset({"cursor", "_meta"})


@dataclass(frozen=True, slots=True)
class Forward:
    """A request as it would go to the server, rebuilt from the parts that were understood."""

    method: str
    params: dict[str, Any]
    tool: str | None = None
    progress_token: Id | None = None


def stateless_version(request: Request) -> Any:
    """Return the version that a request of the stateless era names, or None for one of the handshake era."""
    meta = request.params.get("_meta")
    return meta.get(STATELESS_VERSION_KEY) if isinstance(meta, dict) else None


def answer_initialize(request: Request) -> dict[str, Any]:
    """Return the result of `initialize`.

    Raises:
        MessageInvalid: The client names no version.
    """
    wanted = request.params.get("protocolVersion")
    if not isinstance(wanted, str):
        raise MessageInvalid(INVALID_PARAMS, "protocolVersion must be a string", request.id)
    return {
        "protocolVersion": wanted if wanted in HANDSHAKE_VERSIONS else LATEST_VERSION,
        "capabilities": {"tools": {}},
        "serverInfo": GUARD_INFO,
    }


def read_forward(request: Request) -> Forward:
    """Take a request of an allowed method apart.

    Raises:
        MessageInvalid: A parameter is unknown or of the wrong type.
    """
    if request.method == TOOLS_CALL:
        return _read_call(request)
    if request.method == TOOLS_LIST:
        return _read_list(request)
    return Forward(request.method, {})


def filter_tools(result: dict[str, Any], may_list: Callable[[str], bool]) -> dict[str, Any]:
    """Return a `tools/list` result with nothing in it but the permitted tools and the cursor."""
    tools = result.get("tools")
    listed = tools if isinstance(tools, list) else []
    filtered: dict[str, Any] = {
        "tools": [tool for tool in listed if (name := _name(tool)) is not None and may_list(name)]
    }
    if isinstance(result.get("nextCursor"), str):
        filtered["nextCursor"] = result["nextCursor"]
    return filtered


def progress_params(params: dict[str, Any], token: Id) -> dict[str, Any]:
    """Return a server's progress under the client's own token, with nothing in it but progress."""
    return {"progressToken": token} | {key: params[key] for key in _PROGRESS_KEYS if key in params}


def denied_result(denial: Deny) -> dict[str, Any]:
    """Return a denial as a tool result that a model can act on."""
    return {
        "content": [{"type": "text", "text": denial.message}],
        "isError": True,
        "_meta": {DENIAL_META: {"reason": denial.reason.value, "rule": denial.rule}},
    }


def _name(tool: Any) -> str | None:
    name = tool.get("name") if isinstance(tool, dict) else None
    return name if isinstance(name, str) else None


def _read_call(request: Request) -> Forward:
    params = request.params
    name, arguments = params.get("name"), params.get("arguments", {})
    if (
        not isinstance(name, str)
        or len(name) > _MAX_TOOL_NAME
        or not isinstance(arguments, dict)
        or not params.keys() <= _CALL_KEYS
    ):
        raise MessageInvalid(INVALID_PARAMS, "tools/call takes name, arguments and _meta", request.id)
    return Forward(request.method, {"name": name, "arguments": arguments}, name, _progress_token(request))


def _read_list(request: Request) -> Forward:
    cursor = request.params.get("cursor")
    if not request.params.keys() <= _LIST_KEYS or not isinstance(cursor, str | None):
        raise MessageInvalid(INVALID_PARAMS, "tools/list takes cursor and _meta", request.id)
    return Forward(request.method, {} if cursor is None else {"cursor": cursor})


def _progress_token(request: Request) -> Id | None:
    meta = request.params.get("_meta", {})
    if not isinstance(meta, dict):
        raise MessageInvalid(INVALID_PARAMS, "_meta must be an object", request.id)
    token = meta.get("progressToken")
    if token is None:
        return None
    if isinstance(token, bool) or not isinstance(token, str | int):
        raise MessageInvalid(INVALID_PARAMS, "progressToken must be a string or an integer", request.id)
    return token
