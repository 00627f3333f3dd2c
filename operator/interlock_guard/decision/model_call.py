"""The decision on a call of a language model. Pure, and closed wherever something is missing, stale or unknown.

Paths, and what of a body is looked at, are those of the OpenAI API (chat completions, completions, responses,
embeddings) and of the Anthropic API (messages, token counts); everything else that the two offer is refused, such as
files, batches, assistants, fine-tuning and administration.
"""

from collections.abc import Mapping
from typing import Any, Final

from interlock_contract.bundle import Bundle
from interlock_contract.model_access import Provider, Shape, find_provider
from interlock_guard.decision.body_members import BETAS, find_refused_member, quote_name
from interlock_guard.decision.decide import Allow, Decision, DecisionInput, Deny, DenyReason, check_open
from interlock_guard.decision.model_rules import ACTS, ENDPOINTS, REFUSED_MEMBERS, is_client_tool
from interlock_guard.state import State

MODELS: Final = "models"
"""Name of the source of model calls in audit records and metrics."""
LIST: Final = "models"
"""The path that may be got: the list of models, which the guard itself answers."""

_MOST_NAMED: Final = 8
"""Most models that a message names."""
_WAY_OUT: Final = "An administrator can add it: AgentPolicy, spec.models.urls[].extraMembers."
_SIDE: Final = (
    "does not say that the agent executes it, so that the provider could. Send the tool shell with "
    '"environment": {"type": "local"}, and tool_search with "execution": "client".'
)
_REMOTE: Final = (
    "has the provider load content from a URL that is not allowed. Send the content in the request, as a data: URL or "
    "Base64. An administrator can add the host of an https URL: AgentPolicy, spec.models.urls[].contentHosts."
)
_REFUSED: Final = {
    "Hosted": (DenyReason.HOSTED_TOOL_NOT_ALLOWED, f"{ACTS}, which is not allowed."),
    "Side": (DenyReason.HOSTED_TOOL_NOT_ALLOWED, _SIDE),
    "Remote": (DenyReason.REMOTE_CONTENT_NOT_ALLOWED, _REMOTE),
}
"""By why a member may not pass: the reason of the denial, and what its message says."""


def decide_model(bundle: Bundle | None, state: State, request: DecisionInput, now: float) -> Decision:
    """Decide on one call of a model. Under one bundle its body is looked through once, however often it is decided on.

    Args:
        bundle: The bundle in force, or None.
        state: What is known of the Agent.
        request: `model` is provider/model, `method` what is done there, `arguments` the body.
        now: Seconds on the clock of `state.contact_at`.
    """
    closed = check_open(bundle, state, now)
    if closed is not None:
        return closed
    if bundle is None:
        raise AssertionError("check_open() denies everything without a bundle")
    if request.judged is None or request.judged[0] is not bundle:
        request.judged = bundle, _judge(bundle, request)
    return request.judged[1]


def _judge(bundle: Bundle, request: DecisionInput) -> Decision:
    """Return what a bundle says of a call."""
    name, _, model = (request.model or "").partition("/")
    provider = find_provider(bundle.models, name)
    if provider is None:
        return Deny(DenyReason.MODEL_NOT_ALLOWED, "", f"This agent has no model of a provider {quote_name(name)}.")
    rule = f"agent/{bundle.agent.name}/models"
    if request.method == LIST:
        return Allow(rule)
    return _refuse(provider, model, rule, request) or Allow(f"{rule}[{name}/{model}]")


def deny_endpoint(shape: Shape, method: str) -> Deny:
    """Return the denial of a call that is none of those that pass.

    Args:
        shape: Whose API it is.
        method: The path, with the HTTP method before it unless that is POST.
    """
    passing = ", ".join(sorted(ENDPOINTS[shape]))
    message = f"{quote_name(method)} does not pass to a provider of models. Only these do: {passing}."
    return Deny(DenyReason.METHOD_NOT_ALLOWED, "", message)


def _refuse(provider: Provider, model: str, rule: str, request: DecisionInput) -> Deny | None:
    if request.method not in ENDPOINTS[provider.shape]:
        return deny_endpoint(provider.shape, request.method)
    if provider.find(model) is None:
        allowed = ", ".join(one.name for one in provider.models[:_MOST_NAMED])
        more = ", ..." if len(provider.models) > _MOST_NAMED else ""
        message = f"This agent may not call the model {quote_name(model)}. Of {provider.name} it has {allowed}{more}."
        return Deny(DenyReason.MODEL_NOT_ALLOWED, rule, message)
    return _refuse_body(provider, rule, request)


def _is_switched_off(value: Any) -> bool:
    """Return True if a value of a member of `REFUSED_MEMBERS` asks for nothing. 0 is another value than false."""
    return value is None or value is False or value == []


def _refuse_body(provider: Provider, rule: str, request: DecisionInput) -> Deny | None:
    """Return why a body or a value of a beta header may not pass, or None."""
    body, shape = request.arguments or {}, provider.shape
    refused = next((name for name in REFUSED_MEMBERS[shape] if not _is_switched_off(body.get(name))), None)
    if refused is not None:
        why = REFUSED_MEMBERS[shape][refused]
        reason = DenyReason.HOSTED_TOOL_NOT_ALLOWED if why == ACTS else DenyReason.MEMBER_NOT_ALLOWED
        return Deny(reason, rule, f"{refused} {why}, which is not allowed.")
    hosted = find_hosted_tool(shape, body)
    if hosted is not None:
        return Deny(DenyReason.HOSTED_TOOL_NOT_ALLOWED, rule, f"{hosted} {ACTS}, which is not allowed.")
    # Those of REFUSED_MEMBERS that are switched off pass at the top of a body, and nowhere else.
    known = {name: value for name, value in body.items() if name not in REFUSED_MEMBERS[shape]}
    found = find_refused_member(
        request.method, known, extra=frozenset(provider.extra_members), hosts=frozenset(provider.content_hosts)
    )
    if found is not None and found.why != "Unknown":
        reason, what = _REFUSED[found.why]
        return Deny(reason, rule, f"{found.path} {what}")
    if found is not None:
        return _deny_unknown(rule, found.path, request.method)
    beta = next((one for one in request.betas if one not in BETAS and one not in provider.extra_members), None)
    return None if beta is None else _deny_unknown(rule, f"the beta value {quote_name(beta)}", request.method)


def _deny_unknown(rule: str, unknown: str, method: str) -> Deny:
    message = f"The guard does not know {unknown} in a request to {method}, which is not allowed. {_WAY_OUT}"
    return Deny(DenyReason.MEMBER_NOT_ALLOWED, rule, message)


def find_hosted_tool(shape: Shape, body: Mapping[str, Any]) -> str | None:
    """Return what of a body would have the provider itself search, browse, run code or call MCP servers, or None.

    Those would be tools that no binding maps and no policy grants, and a way out that no NetworkPolicy sees.
    """
    if isinstance(body.get("prompt"), dict):  # of responses: a stored prompt, which may bring tools; else plain text
        return "prompt"
    tools = body.get("tools")
    if tools is None:
        return None
    if not isinstance(tools, list):
        return "tools"
    return next((_name_tool(index, tool) for index, tool in enumerate(tools) if not _is_clients(shape, tool)), None)


def _name_tool(index: int, tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else None
    return f"tools[{index}].type {quote_name(kind)}" if isinstance(kind, str) else f"tools[{index}]"


def _is_clients(shape: Shape, tool: Any) -> bool:
    if not isinstance(tool, dict):
        return False
    kind = tool.get("type")
    if shape == "Anthropic" and kind is None and ("type" not in tool or isinstance(tool.get("input_schema"), dict)):
        kind = "custom"  # which its API takes for the type of a tool without one
    return isinstance(kind, str) and is_client_tool(shape, kind)
