"""Capabilities: what a source offers to the agent's clients, and what its server may request of them. No I/O."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from interlock_contract import mcp
from interlock_contract.bundle import Bundle
from interlock_guard.decision.decide import TOOLS_LIST, find_pin, find_source
from interlock_guard.decision.listing import (
    may_list_prompt,
    may_list_resource,
    may_list_template,
    may_list_tool,
    passes_unmapped,
)
from interlock_guard.decision.server_request import SERVER_METHODS
from interlock_guard.upstream.upstream import ServerInfo

_UNKNOWN_SERVER: Final = ServerInfo("", {"tools": {}})
_LISTED: Final = ("tools", "resources", "prompts")


def offer(server_info: ServerInfo | None, permitted: Collection[str], instructions_pin: str | None) -> dict[str, Any]:
    """Return the `capabilities` and `instructions` of an answer to `initialize` or `server/discover`.

    Args:
        server_info: The server; None while it is not ready.
        permitted: Those of tools, resources and prompts of which the policy lets any pass.
        instructions_pin: Digest of the instructions as they were verified. Others are withheld, since clients write
            them into the model's context. None withholds all.
    """
    server_info = server_info or _UNKNOWN_SERVER
    has = {name: server_info.capabilities.get(name) for name in server_info.capabilities}
    capabilities: dict[str, Any] = {name: _flags(has[name]) for name in _LISTED if name in has and name in permitted}
    if "completions" in has and capabilities.keys() & {"resources", "prompts"}:
        capabilities["completions"] = {}
    if "logging" in has:
        capabilities["logging"] = {}
    offered: dict[str, Any] = {"capabilities": capabilities}
    if server_info.instructions and server_info.instructions_digest == instructions_pin:
        offered["instructions"] = server_info.instructions
    return offered


def _flags(capability: Any) -> dict[str, bool]:
    """Return the flags that all protocol versions know; a server's other declarations do not pass the guard."""
    flags = capability if isinstance(capability, dict) else {}
    return {key: True for key in ("listChanged", "subscribe") if flags.get(key) is True}


PINNED_LISTS: Final = frozenset({"tools/list", "prompts/list"})
"""Lists whose items are shown only as they were verified."""
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


def may_list(bundle: Bundle | None, source: str, method: str, name: str) -> bool:
    """Return True if a list may show an item of this name; a tool must also be the one that was verified.

    Args:
        bundle: The bundle in force, or None.
        source: Name of the source.
        method: The method of the list.
        name: The item's name, URI or URI template.
    """
    return bundle is not None and _MAY_LIST[method](bundle, source, name)


def is_verified(bundle: Bundle | None, source: str, method: str, name: str, digest: str) -> bool:
    """Return True if a tool or prompt is as it was verified: a description can mislead a model, so it reads no other.

    The exception is a tool that passes although it is not mapped: nothing was verified of it.

    Args:
        bundle: The bundle in force, or None.
        source: Name of the source.
        method: The method of the list, one of `PINNED_LISTS`.
        name: The item's name.
        digest: Digest of the whole item.
    """
    served = find_source(bundle, source)
    if served is None:
        return False
    pin = find_pin(served, method, name)
    return pin == digest or (pin is None and method == TOOLS_LIST and passes_unmapped(served, name))


def find_instructions_pin(bundle: Bundle | None, source: str) -> str | None:
    """Return the digest of a source's instructions as they were verified, or None where none may pass."""
    served = find_source(bundle, source)
    return None if served is None else served.instructions_pin


def may_hear_of(bundle: Bundle | None, source: str, uri: str) -> bool:
    """Return True if the agent may be notified of a resource's change."""
    return bundle is not None and may_list_resource(bundle, source, uri)


def has_descriptions(bundle: Bundle | None, source: str) -> bool:
    """Return True if lists of resources show the texts that their server wrote, which no administrator reviews."""
    served = find_source(bundle, source)
    return served is not None and served.resource_descriptions == "Unreviewed"


def client_capabilities(bundle: Bundle | None, source: str) -> dict[str, Any]:
    """Return the requests that a source's server may send to its client, as MCP's capabilities."""
    served = find_source(bundle, source)
    allowed = () if served is None else served.server_requests
    return {
        capability: _CAPABILITIES[capability]
        for method, capability in mcp.SERVER_REQUESTS.items()
        if SERVER_METHODS[method] in allowed
    }


def offers(bundle: Bundle | None, source: str) -> frozenset[str]:
    """Return those of tools, resources and prompts of which the binding maps any."""
    served = find_source(bundle, source)
    if served is None:
        return frozenset()
    mapped = {"tools": True, "resources": bool(served.resources), "prompts": bool(served.prompts)}
    return frozenset(name for name, is_mapped in mapped.items() if is_mapped)
