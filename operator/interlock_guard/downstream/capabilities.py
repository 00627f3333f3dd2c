"""Results on their way to the agent: lists without what it may not use, and each era's own form. No I/O."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from interlock_contract import mcp
from interlock_contract.bundle import Bundle
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_guard.decision.decide import (
    SERVER_METHODS,
    TOOLS_LIST,
    DecisionInput,
    find_source,
    may_list_prompt,
    may_list_resource,
    may_list_template,
    may_list_tool,
    pinned_digest,
)
from interlock_guard.upstream.forward import GUARD_INFO, Forward, without_meta
from interlock_guard.upstream.tool_cache import ToolEntry
from interlock_guard.upstream.upstream import ServerInfo

LIST_TTL_MS: Final = 5000
"""How long a client of the stateless era may keep a list: short, so that a change of permissions is seen."""

MayShow = Callable[[str, Mapping[str, Any]], bool]
"""Says whether an item may be shown, by what names it and the whole of it."""

_ERA_KEYS: Final = ("resultType", "ttlMs", "cacheScope")
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
    """Say whether a result is an answer of MCP's own kind; one without the mark is, since older servers have none."""
    return bool(result.get("resultType", _COMPLETE) == _COMPLETE)


def needs_input(result: dict[str, Any] | None) -> bool:
    """Say whether a server answered with questions of its own."""
    return result is not None and result.get("resultType") == _INPUT_REQUIRED


def for_session_based(result: dict[str, Any], *, of_stateless: bool) -> dict[str, Any]:
    """Return a complete result as a client of the handshake era reads it."""
    if not of_stateless:
        return result
    adapted = {key: value for key, value in result.items() if key not in _ERA_KEYS}
    if not isinstance(adapted.get("structuredContent", {}), dict):
        del adapted["structuredContent"]  # only an object, before 2026-07-28; the same is in `content` as text
    meta = adapted.get("_meta")
    if isinstance(meta, dict) and mcp.SERVER_INFO_META in meta:
        adapted["_meta"] = {key: value for key, value in meta.items() if key != mcp.SERVER_INFO_META}
    return adapted


def for_sessionless(method: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return a complete result as a client of the stateless era reads it."""
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


def read_questions(result: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]] | None:
    """Return the questions that a server answered with, as method and parameters by key; None if they are malformed."""
    requests, state = result.get("inputRequests"), result.get("requestState")
    requests = {} if requests is None else requests
    if not isinstance(requests, dict) or not isinstance(state, str | None) or (not requests and state is None):
        return None
    questions: dict[str, tuple[str, dict[str, Any]]] = {}
    for key, request in requests.items():
        match request:
            case {"method": str(method)} if method in mcp.SERVER_REQUESTS:
                params = request.get("params", {})
            case _:
                return None
        if not isinstance(params, dict):
            return None
        questions[key] = method, without_meta(params)
    return questions


def input_required(requests: dict[str, Any], state: str | None) -> dict[str, Any]:
    """Return the result that puts a server's questions to a client of the stateless era."""
    result: dict[str, Any] = {"resultType": _INPUT_REQUIRED, "_meta": {mcp.SERVER_INFO_META: GUARD_INFO}}
    if requests:
        result["inputRequests"] = requests
    if state is not None:
        result["requestState"] = state
    return result


def _may_show(item: Any, naming: str, may_show: MayShow) -> bool:
    name = item.get(naming) if isinstance(item, dict) else None
    return isinstance(name, str) and may_show(name, item)


_UNGREETED: Final = ServerInfo("", {"tools": {}})
_LISTED: Final = ("tools", "resources", "prompts")


def offer(hello: ServerInfo | None, permitted: Collection[str]) -> dict[str, Any]:
    """Return `capabilities`, and `instructions` if the server has any, as both eras' greetings carry them.

    Args:
        hello: What the server said of itself; None while it is not there.
        permitted: Which of tools, resources and prompts the policy lets any part through of.
    """
    hello = hello or _UNGREETED
    has = {name: hello.capabilities.get(name) for name in hello.capabilities}
    capabilities: dict[str, Any] = {name: _flags(has[name]) for name in _LISTED if name in has and name in permitted}
    if "completions" in has and capabilities.keys() & {"resources", "prompts"}:
        capabilities["completions"] = {}
    if "logging" in has:
        capabilities["logging"] = {}
    offered: dict[str, Any] = {"capabilities": capabilities}
    if hello.instructions is not None:
        offered["instructions"] = hello.instructions
    return offered


def _flags(capability: Any) -> dict[str, bool]:
    """Return the flags that both eras know; whatever else a server declares does not pass the guard."""
    flags = capability if isinstance(capability, dict) else {}
    return {key: True for key in ("listChanged", "subscribe") if flags.get(key) is True}


_MAY_LIST: Final[Mapping[str, Callable[[Bundle, str, str], bool]]] = {
    "tools/list": may_list_tool,
    "prompts/list": may_list_prompt,
    "resources/list": may_list_resource,
    "resources/templates/list": may_list_template,
}
_CAPABILITIES: Final[dict[str, dict[str, Any]]] = {
    "sampling": {},
    "elicitation": {"form": {}, "url": {}},
    "roots": {"listChanged": True},
}


def to_request(source: str, forward: Forward, listed: ToolEntry | None = None) -> DecisionInput:
    """Return the question that a forward puts to `decide`, with what the server said of the tool when it listed it."""
    return DecisionInput(
        source,
        forward.method,
        forward.tool,
        forward.arguments,
        forward.uri,
        forward.prompt,
        None if listed is None else listed.annotations,
        None if listed is None else listed.input_schema,
        None if listed is None else listed.definition,
    )


def may_list(bundle: Bundle | None, source: str, method: str, name: str, item: Mapping[str, Any]) -> bool:
    """Say whether a list may show an item, by its name, URI or URI template; a tool only as it was verified."""
    if bundle is None or not _MAY_LIST[method](bundle, source, name):
        return False
    return method != TOOLS_LIST or _is_as_verified(bundle, source, name, item)


def _is_as_verified(bundle: Bundle, source: str, name: str, tool: Mapping[str, Any]) -> bool:
    """What a model reads of a tool is a way to talk it into things, so it reads only what somebody has seen."""
    served = find_source(bundle, source)
    pinned = None if served is None else pinned_digest(served, name)
    return pinned is not None and digest_of(canonicalize(tool)) == pinned


def may_hear_of(bundle: Bundle | None, source: str, uri: str) -> bool:
    """Say whether the agent may be told that a resource changed."""
    return bundle is not None and may_list_resource(bundle, source, uri)


def client_capabilities(bundle: Bundle | None, source: str) -> dict[str, Any]:
    """Return what a source's server may ask of its client, as MCP's capabilities."""
    served = find_source(bundle, source)
    allowed = () if served is None else served.server_requests
    return {
        capability: _CAPABILITIES[capability]
        for method, capability in mcp.SERVER_REQUESTS.items()
        if SERVER_METHODS[method] in allowed
    }


def offers(bundle: Bundle | None, source: str) -> frozenset[str]:
    """Return which of tools, resources and prompts the binding maps any of."""
    served = find_source(bundle, source)
    if served is None:
        return frozenset()
    mapped = {"tools": True, "resources": bool(served.resources), "prompts": bool(served.prompts)}
    return frozenset(name for name, is_mapped in mapped.items() if is_mapped)
