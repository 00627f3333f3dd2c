"""What a source offers to its clients: what its server has, as far as the policy lets it through. No I/O."""

from collections.abc import Collection
from typing import Any, Final

from interlock_guard.servers.upstream import Hello

_UNGREETED: Final = Hello("", {"tools": {}})
_LISTED: Final = ("tools", "resources", "prompts")


def offer(hello: Hello | None, permitted: Collection[str]) -> dict[str, Any]:
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
