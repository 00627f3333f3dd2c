"""The decision: may this request pass? Pure, and closed wherever something is missing, stale or unknown.

The control plane explains permissions with the same function, so that there are no two versions of one truth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from interlock_guard.bundle import Bundle, Grant, Layer, Source, Tool
from interlock_guard.scope import check_scope, declares_scope
from interlock_guard.state import State

TOOLS_CALL: Final = "tools/call"
TOOLS_LIST: Final = "tools/list"
METHODS: Final = frozenset({TOOLS_CALL, TOOLS_LIST})
"""The methods that may reach a server; every other one is answered or refused by the guard itself."""


class Reason(StrEnum):
    """Why a request was refused; stable words that logs, metrics and tests may rely on."""

    KILLED = "Killed"
    """The kill switch is on."""
    NO_BUNDLE = "NoBundle"
    """There is no bundle, or none that this guard can read."""
    STALE_STATE = "StaleState"
    """The API server was not heard of for longer than the lease, or not yet."""
    AGENT_MISMATCH = "AgentMismatch"
    """The Agent is gone, or is not the one that the bundle was compiled for."""
    UNKNOWN_SOURCE = "UnknownSource"
    """The bundle has no such source."""
    TOOL_NOT_MAPPED = "ToolNotMapped"
    """The binding maps no tool of this name; whether the server has one is not said."""
    NOT_GRANTED_BY_BINDING = "NotGrantedByBinding"
    """The binding's permissions lack the operation on the resource."""
    NOT_GRANTED_BY_MATRIX = "NotGrantedByMatrix"
    """The policy's access matrix lacks the operation on the resource."""
    NOT_GRANTED_BY_AGENT = "NotGrantedByAgent"
    """The agent's own narrowing lacks the operation on the resource."""
    SCOPE_UNDECLARED = "ScopeUndeclared"
    """The stage is limited in a dimension that the tool's map says nothing about."""
    SCOPE_MISSING = "ScopeMissing"
    """The arguments do not say the limited dimension's value."""
    OUT_OF_SCOPE = "OutOfScope"
    """The arguments name a value outside the stage's scope."""
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    """The method is not among those that the guard lets pass."""
    BAD_REQUEST = "BadRequest"
    """The request is not one strict JSON-RPC message of MCP, or beyond a limit."""
    SERVER_UNAVAILABLE = "ServerUnavailable"
    """The source's server is not there, ended in mid-call, or has too much to do."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks of a source; `tool` and `arguments` only for `tools/call`."""

    source: str
    method: str
    tool: str | None = None
    arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Allow:
    """The request may pass, by this rule of the access matrix; `tool` says what it means."""

    rule: str
    tool: Tool | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is refused. `message` is one sentence for whoever asked; `rule` names what would have to change."""

    reason: Reason
    rule: str
    message: str
    tool: Tool | None = None


Decision = Allow | Deny

_LAYER_REASONS: Final[dict[Layer, tuple[Reason, str]]] = {
    "Binding": (Reason.NOT_GRANTED_BY_BINDING, "the binding's permissions"),
    "Matrix": (Reason.NOT_GRANTED_BY_MATRIX, "the policy's data access"),
    "Agent": (Reason.NOT_GRANTED_BY_AGENT, "the agent's own permissions"),
}


def decide(bundle: Bundle | None, state: State, request: Request, now: float) -> Decision:
    """Decide on one request.

    Args:
        bundle: The bundle in force, or None.
        state: What is known of the Agent.
        request: The parsed request.
        now: Seconds on the clock of `state.contact_at`.
    """
    closed = check_open(bundle, state, now)
    if closed is not None:
        return closed
    source = find_source(bundle, request.source)
    if source is None:
        return Deny(Reason.UNKNOWN_SOURCE, "", "This agent has no such source.")
    if request.method not in METHODS:
        return Deny(Reason.METHOD_NOT_ALLOWED, "", "The guard does not let this method pass.")
    if request.method == TOOLS_LIST:
        return Allow(rule=f"mcpbinding/{source.binding}")
    return _decide_call(bundle, source, request)


def check_open(bundle: Bundle | None, state: State, now: float) -> Deny | None:
    """Return why the guard is closed for everything, or None."""
    cut = check_cut(bundle, state)
    if cut is not None:
        return cut
    if state.agent_uid is None or state.contact_at is None:
        return Deny(Reason.STALE_STATE, "", "The guard has not seen its agent at the API server yet.")
    if now - state.contact_at > state.lease_seconds:
        return Deny(Reason.STALE_STATE, "", "The guard has lost contact with the API server.")
    if bundle is None:
        return Deny(Reason.NO_BUNDLE, "", "The guard has no valid bundle.")
    return None


def check_cut(bundle: Bundle | None, state: State) -> Deny | None:
    """Return why even what is under way must end at once, or None."""
    if state.kill.message is not None:
        return Deny(Reason.KILLED, "interlock.dev/kill-switch", state.kill.message)
    if state.agent_gone:
        return Deny(Reason.AGENT_MISMATCH, "", "The agent does not exist any more.")
    if bundle is not None and state.agent_uid is not None and state.agent_uid != bundle.agent.uid:
        return Deny(Reason.AGENT_MISMATCH, "", "The bundle was made for another agent of this name.")
    return None


def find_source(bundle: Bundle | None, name: str) -> Source | None:
    """Return the bundle's source of that name."""
    return None if bundle is None else next((source for source in bundle.sources if source.name == name), None)


def listed_tools(bundle: Bundle, source: Source) -> frozenset[str]:
    """Return the names of the tools that some call could be allowed for: those that `tools/list` may show."""
    return frozenset(
        tool.name
        for tool in source.tools
        if _refusing_grant(source, tool) is None and source.grants and declares_scope(bundle.scope, tool)
    )


def _decide_call(bundle: Bundle | None, source: Source, request: Request) -> Decision:
    binding = f"mcpbinding/{source.binding}"
    tool = next((tool for tool in source.tools if tool.name == request.tool), None)
    if tool is None or bundle is None:
        # Without the tool's name, so that an unmapped tool and one that does not exist answer alike.
        return Deny(Reason.TOOL_NOT_MAPPED, binding, "This tool is not available to this agent.")
    grant = _refusing_grant(source, tool)
    if grant is not None:
        reason, layer = _LAYER_REASONS[grant.layer]
        message = f"{tool.operation} on {tool.resource!r} of {source.name!r} is not granted by {layer}."
        return Deny(reason, grant.rule, message, tool)
    broken = check_scope(bundle.scope, tool, request.arguments)
    if broken is not None:
        reason_name, limit = broken
        message = (
            f"In stage {bundle.stage!r} {limit.dimension!r} is limited to {', '.join(limit.values)}; "
            f"this call {_SCOPE_MESSAGES[Reason(reason_name)]}."
        )
        return Deny(Reason(reason_name), f"{binding}/tools[{tool.name}]", message, tool)
    rule = next((grant.rule for grant in source.grants if grant.layer == "Matrix"), None)
    if rule is None:
        return Deny(Reason.NOT_GRANTED_BY_MATRIX, "", "No row of the policy's data access covers this source.", tool)
    return Allow(rule, tool)


_SCOPE_MESSAGES: Final[dict[Reason, str]] = {
    Reason.SCOPE_UNDECLARED: "is of a tool that declares nothing about it",
    Reason.SCOPE_MISSING: "does not say it in its arguments",
    Reason.OUT_OF_SCOPE: "names something else",
}


def _refusing_grant(source: Source, tool: Tool) -> Grant | None:
    return next((grant for grant in source.grants if not grant.covers(tool.operation, tool.resource)), None)
