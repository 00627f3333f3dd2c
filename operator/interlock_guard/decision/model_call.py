"""The decision on a call of a language model. Pure, and closed wherever something is missing, stale or unknown.

Paths, and what of a body is looked at, are those of the OpenAI API (chat completions, completions, responses,
embeddings) and of the Anthropic API (messages, token counts); everything else that the two offer is refused, such as
files, batches, assistants, fine-tuning and administration.
"""

from collections.abc import Mapping
from typing import Any, Final

from interlock_contract.bundle import Bundle
from interlock_contract.model_access import Provider, Shape, find_provider
from interlock_guard.decision.decide import Allow, Decision, DecisionInput, Deny, DenyReason, check_open
from interlock_guard.state import State

MODELS: Final = "models"
"""Name of the source of model calls in audit records and metrics."""

ENDPOINTS: Final[Mapping[Shape, frozenset[str]]] = {
    "OpenAI": frozenset({"chat/completions", "completions", "responses", "embeddings"}),
    "Anthropic": frozenset({"messages", "messages/count_tokens"}),
}
"""Paths that may be posted to, after the provider's base URL."""

LIST: Final = "models"
"""The path that may be got: the list of models, which the guard itself answers."""

_CLIENT_TOOLS: Final[Mapping[Shape, tuple[str, ...]]] = {
    "OpenAI": ("function", "custom"),
    "Anthropic": ("custom", "bash_", "text_editor_", "computer_", "memory_"),
}
"""Types of tools that the agent itself executes; those that end with `_` are followed by a date."""

_HOSTED: Final[Mapping[Shape, tuple[str, ...]]] = {
    "OpenAI": ("web_search_options",),
    "Anthropic": ("mcp_servers", "container"),
}
"""Members of a body that make the provider act without the guard seeing it."""


def decide_model(bundle: Bundle | None, state: State, request: DecisionInput, now: float) -> Decision:
    """Decide on one call of a model.

    Args:
        bundle: The bundle in force, or None.
        state: What is known of the Agent.
        request: `model` is provider/model, `method` what is done there, `arguments` the body.
        now: Seconds on the clock of `state.contact_at`.
    """
    closed = check_open(bundle, state, now)
    if closed is not None:
        return closed
    name, _, model = (request.model or "").partition("/")
    provider = None if bundle is None else find_provider(bundle.models, name)
    if bundle is None or provider is None:
        return Deny(DenyReason.MODEL_NOT_ALLOWED, "", "This agent has no model of this provider.")
    rule = f"agent/{bundle.agent.name}/models"
    if request.method == LIST:
        return Allow(rule)
    return _refuse(provider, model, rule, request) or Allow(f"{rule}[{name}/{model}]")


def _refuse(provider: Provider, model: str, rule: str, request: DecisionInput) -> Deny | None:
    if request.method not in ENDPOINTS[provider.shape]:
        return Deny(DenyReason.METHOD_NOT_ALLOWED, "", "The guard lets no such call pass to a provider of models.")
    if provider.find(model) is None:
        return Deny(DenyReason.MODEL_NOT_ALLOWED, rule, "This agent may not call this model.")
    hosted = find_hosted_tool(provider.shape, request.arguments or {})
    if hosted is None:
        return None
    message = f"{hosted} has the provider act where the guard does not see it, which is not allowed."
    return Deny(DenyReason.HOSTED_TOOL_NOT_ALLOWED, rule, message)


def find_hosted_tool(shape: Shape, body: Mapping[str, Any]) -> str | None:
    """Return what of a body would have the provider itself search, browse, run code or call MCP servers, or None.

    Those would be tools that no binding maps and no policy grants, and a way out that no NetworkPolicy sees.
    """
    for member in _HOSTED[shape]:
        if body.get(member) is not None:
            return member
    if isinstance(body.get("prompt"), dict):  # of responses: a stored prompt, which may bring tools; else plain text
        return "prompt"
    tools = body.get("tools")
    if tools is None:
        return None
    if not isinstance(tools, list):
        return "tools"
    return next((f"tools[{index}]" for index, tool in enumerate(tools) if not _is_clients(shape, tool)), None)


def _is_clients(shape: Shape, tool: Any) -> bool:
    if not isinstance(tool, dict):
        return False
    kind = tool.get("type", "custom" if shape == "Anthropic" else None)
    return isinstance(kind, str) and any(
        kind == allowed or (allowed.endswith("_") and kind.startswith(allowed)) for allowed in _CLIENT_TOOLS[shape]
    )
