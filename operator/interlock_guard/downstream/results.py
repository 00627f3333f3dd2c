"""Results on their way to the agent: lists without what it may not use, in the form of the client's protocol version.

No I/O.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from interlock_contract import mcp
from interlock_guard.upstream.forward import GUARD_INFO, without_meta

LIST_TTL_MS: Final = 5000
"""How long a sessionless client may keep a list: short, so that a change of permissions is seen."""

MayShow = Callable[[str, Mapping[str, Any]], bool]
"""Returns True if an item may be shown, given its name, URI or URI template, and the whole of it."""

_SESSIONLESS_KEYS: Final = ("resultType", "ttlMs", "cacheScope")
_COMPLETE: Final = "complete"
_INPUT_REQUIRED: Final = "input_required"


def filter_list(method: str, result: dict[str, Any], may_show: MayShow) -> dict[str, Any]:
    """Return the result of a request for a list with nothing in it but what may be shown, and the cursor."""
    key, naming = mcp.LISTS[method]
    items = result.get(key)
    shown = [item for item in items if _may_show(item, naming, may_show)] if isinstance(items, list) else []
    filtered: dict[str, Any] = {key: shown}
    if isinstance(result.get("nextCursor"), str):
        filtered["nextCursor"] = result["nextCursor"]
    return filtered


def is_complete(result: dict[str, Any]) -> bool:
    """Return True for a result that ends its call; servers of older versions do not mark theirs."""
    return bool(result.get("resultType", _COMPLETE) == _COMPLETE)


def needs_input(result: dict[str, Any] | None) -> bool:
    """Return True if a server answered with requests for input."""
    return result is not None and result.get("resultType") == _INPUT_REQUIRED


def for_session_based(result: dict[str, Any], *, from_sessionless: bool) -> dict[str, Any]:
    """Return a complete result as a session-based client reads it."""
    if not from_sessionless:
        return result
    adapted = {key: value for key, value in result.items() if key not in _SESSIONLESS_KEYS}
    if not isinstance(adapted.get("structuredContent", {}), dict):
        del adapted["structuredContent"]  # only an object, before 2026-07-28; the same is in `content` as text
    meta = adapted.get("_meta")
    if isinstance(meta, dict) and mcp.SERVER_INFO_META in meta:
        adapted["_meta"] = {key: value for key, value in meta.items() if key != mcp.SERVER_INFO_META}
    return adapted


def for_sessionless(method: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return a complete result as a sessionless client reads it."""
    meta = result.get("_meta")
    adapted = {
        **result,
        "resultType": _COMPLETE,
        "_meta": {**(meta if isinstance(meta, dict) else {}), mcp.SERVER_INFO_META: GUARD_INFO},
    }
    if method in mcp.CACHEABLE:
        ttl = result.get("ttlMs") if method == "resources/read" else LIST_TTL_MS
        adapted["ttlMs"] = min(max(ttl, 0), LIST_TTL_MS) if type(ttl) is int else 0
        adapted["cacheScope"] = "private"
    return adapted


def read_input_requests(result: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]] | None:
    """Return a server's requests for input as method and parameters by key, or None if they are malformed."""
    requests, state = result.get("inputRequests"), result.get("requestState")
    requests = {} if requests is None else requests
    if not isinstance(requests, dict) or not isinstance(state, str | None) or (not requests and state is None):
        return None
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for key, request in requests.items():
        match request:
            case {"method": str(method)} if method in mcp.SERVER_REQUESTS:
                params = request.get("params", {})
            case _:
                return None
        if not isinstance(params, dict):
            return None
        found[key] = method, without_meta(params)
    return found


def input_required(requests: dict[str, Any], state: str | None) -> dict[str, Any]:
    """Return the result that puts a server's requests for input to a sessionless client."""
    result: dict[str, Any] = {"resultType": _INPUT_REQUIRED, "_meta": {mcp.SERVER_INFO_META: GUARD_INFO}}
    if requests:
        result["inputRequests"] = requests
    if state is not None:
        result["requestState"] = state
    return result


def _may_show(item: Any, naming: str, may_show: MayShow) -> bool:
    name = item.get(naming) if isinstance(item, dict) else None
    return isinstance(name, str) and may_show(name, item)
