"""Where the agent's side meets the policy: what was asked, put as the question that `decide` answers."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from interlock_guard.bundle.document import Bundle
from interlock_guard.decision.decide import (
    SERVER_METHODS,
    TOOLS_LIST,
    Request,
    find_source,
    may_list_prompt,
    may_list_resource,
    may_list_template,
    may_list_tool,
    pinned_digest,
)
from interlock_guard.servers.catalogue import Listed
from interlock_guard.servers.forward import Forward
from interlock_guard.wire import methods
from interlock_guard.wire.canonical import canonicalize, digest_of

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


def to_request(source: str, forward: Forward, listed: Listed | None = None) -> Request:
    """Return the question that a forward puts to `decide`, with what the server said of the tool when it listed it."""
    return Request(
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
        for method, capability in methods.SERVER_REQUESTS.items()
        if SERVER_METHODS[method] in allowed
    }


def offers(bundle: Bundle | None, source: str) -> frozenset[str]:
    """Return which of tools, resources and prompts the binding maps any of."""
    served = find_source(bundle, source)
    if served is None:
        return frozenset()
    mapped = {"tools": True, "resources": bool(served.resources), "prompts": bool(served.prompts)}
    return frozenset(name for name, is_mapped in mapped.items() if is_mapped)
