"""Results on their way to the agent: lists without what it may not use, and each era's own form. No I/O."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from interlock_guard.servers.forward import GUARD_INFO, without_meta
from interlock_guard.wire import methods

LIST_TTL_MS: Final = 5000
"""How long a client of the stateless era may keep a list: short, so that a change of permissions is seen."""

MayShow = Callable[[str, Mapping[str, Any]], bool]
"""Says whether an item may be shown, by what names it and the whole of it."""

_ERA_KEYS: Final = ("resultType", "ttlMs", "cacheScope")
_COMPLETE: Final = "complete"
_INPUT_REQUIRED: Final = "input_required"


def filter_list(method: str, result: dict[str, Any], may_show: MayShow) -> dict[str, Any]:
    """Return the result of a request for a list with nothing in it but what may be shown, and the cursor."""
    key, naming = methods.LISTS[method]
    items = result.get(key)
    shown = [item for item in items if _may_show(item, naming, may_show)] if isinstance(items, list) else []
    filtered: dict[str, Any] = {key: shown}
    if isinstance(result.get("nextCursor"), str):
        filtered["nextCursor"] = result["nextCursor"]
    return filtered


def is_complete(result: dict[str, Any]) -> bool:
    """Say whether a result is an answer of MCP's own kind; one without the mark is, since older servers have none."""
    return bool(result.get("resultType", _COMPLETE) == _COMPLETE)


def needs_input(result: dict[str, Any] | None) -> bool:
    """Say whether a server answered with questions of its own."""
    return result is not None and result.get("resultType") == _INPUT_REQUIRED


def for_handshake(result: dict[str, Any], *, of_stateless: bool) -> dict[str, Any]:
    """Return a complete result as a client of the handshake era reads it."""
    if not of_stateless:
        return result
    adapted = {key: value for key, value in result.items() if key not in _ERA_KEYS}
    if not isinstance(adapted.get("structuredContent", {}), dict):
        del adapted["structuredContent"]  # only an object, before 2026-07-28; the same is in `content` as text
    meta = adapted.get("_meta")
    if isinstance(meta, dict) and methods.SERVER_INFO_META in meta:
        adapted["_meta"] = {key: value for key, value in meta.items() if key != methods.SERVER_INFO_META}
    return adapted


def for_stateless(method: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return a complete result as a client of the stateless era reads it."""
    meta = result.get("_meta")
    adapted = {
        **result,
        "resultType": _COMPLETE,
        "_meta": {**(meta if isinstance(meta, dict) else {}), methods.SERVER_INFO_META: GUARD_INFO},
    }
    if method in methods.CACHEABLE:
        ttl = result.get("ttlMs") if method == "resources/read" else LIST_TTL_MS
        adapted["ttlMs"] = min(max(ttl, 0), LIST_TTL_MS) if type(ttl) is int else 0
        adapted["cacheScope"] = "private"
    return adapted


def read_questions(result: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]] | None:
    """Return the questions that a server answered with, as method and parameters by key; None if they are malformed."""
    requests, state = result.get("inputRequests"), result.get("requestState")
    requests = {} if requests is None else requests
    if not isinstance(requests, dict) or not isinstance(state, str | None) or (not requests and state is None):
        return None
    questions: dict[str, tuple[str, dict[str, Any]]] = {}
    for key, request in requests.items():
        match request:
            case {"method": str(method)} if method in methods.SERVER_REQUESTS:
                params = request.get("params", {})
            case _:
                return None
        if not isinstance(params, dict):
            return None
        questions[key] = method, without_meta(params)
    return questions


def input_required(requests: dict[str, Any], state: str | None) -> dict[str, Any]:
    """Return the result that puts a server's questions to a client of the stateless era."""
    result: dict[str, Any] = {"resultType": _INPUT_REQUIRED, "_meta": {methods.SERVER_INFO_META: GUARD_INFO}}
    if requests:
        result["inputRequests"] = requests
    if state is not None:
        result["requestState"] = state
    return result


def _may_show(item: Any, naming: str, may_show: MayShow) -> bool:
    name = item.get(naming) if isinstance(item, dict) else None
    return isinstance(name, str) and may_show(name, item)
