"""The rules for bodies of calls to models: endpoints, tools that pass, and members that never do. No I/O."""

from collections.abc import Mapping
from typing import Final

from interlock_contract.model_access import Shape

ENDPOINTS: Final[Mapping[Shape, frozenset[str]]] = {
    "OpenAI": frozenset({"chat/completions", "completions", "responses", "embeddings"}),
    "Anthropic": frozenset({"messages", "messages/count_tokens"}),
}
"""Paths that may be posted to, after the provider's base URL."""

CLIENT_TOOLS: Final[Mapping[Shape, tuple[str, ...]]] = {
    "OpenAI": (
        *("function", "custom", "namespace", "local_shell", "apply_patch", "computer", "computer_use_preview"),
        *("shell", "tool_search"),
    ),
    "Anthropic": ("custom", "bash_", "text_editor_", "computer_", "memory_"),
}
"""Types of tools that the agent itself executes; those that end with `_` are followed by a date."""

SIDES: Final[Mapping[str, tuple[str, str]]] = {
    "shell": ("environment", "local"),
    "tool_search": ("execution", "client"),
}
"""Tools that either side may execute: the member that says so, and its value, or the value's `type`, for the agent."""

HOSTED_ENVIRONMENTS: Final = frozenset({"container_auto", "container_reference"})
"""Types of environments in which OpenAI itself runs a shell."""

ACTS: Final = "has the provider act where the guard does not see it"
"""What is wrong with a hosted tool."""
_OUTLIVES: Final = "goes on at the provider after a kill"
_OTHER_MODEL: Final = "has the provider use another model than the one that is decided on"
_OTHER_ACCOUNT: Final = "charges another account"
REFUSED_MEMBERS: Final[Mapping[Shape, Mapping[str, str]]] = {
    "OpenAI": {
        "web_search_options": ACTS,
        "search_parameters": ACTS,  # of xAI
        "plugins": ACTS,  # of OpenRouter, which search, and read files for a price of their own
        "enable_search": ACTS,  # of Alibaba
        "search_options": ACTS,
        "background": _OUTLIVES,
        "background_options": _OUTLIVES,
        "moderation": _OTHER_MODEL,
    },
    "Anthropic": {
        "mcp_servers": ACTS,
        "container": ACTS,
        "fallbacks": _OTHER_MODEL,
        "fallback_credit_token": _OTHER_MODEL,
        "billing_policy": _OTHER_ACCOUNT,
    },
}
"""Members of a body that no administrator can add, and what is wrong with them."""


def is_client_tool(shape: Shape, kind: str) -> bool:
    """Return True if the agent itself executes tools of this type."""
    return any(kind == one or (one.endswith("_") and kind.startswith(one)) for one in CLIENT_TOOLS[shape])
