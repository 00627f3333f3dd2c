"""The decision: may this request pass? Pure, and closed wherever something is missing, stale or unknown.

The control plane explains permissions with the same function, so that there are no two versions of one truth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from interlock_contract.bundle import (
    Bundle,
    BundleResource,
    BundleSource,
    BundleTool,
    Grant,
    Layer,
    Operation,
    ScopeLimit,
)
from interlock_contract.json_pointer import resolve_pointer
from interlock_contract.mapping import find_named, find_resource, find_template, tightened_operation
from interlock_guard.decision.constraints import (
    MAX_TEXT,
    MAX_VALUES,
    describe,
    find_broken_rule,
    find_unmatchable,
    is_too_much,
)
from interlock_guard.decision.scope import find_breach
from interlock_guard.state import State

TOOLS_CALL: Final = "tools/call"
TOOLS_LIST: Final = "tools/list"
RESOURCES_LIST: Final = "resources/list"
TEMPLATES_LIST: Final = "resources/templates/list"
RESOURCES_READ: Final = "resources/read"
RESOURCES_SUBSCRIBE: Final = "resources/subscribe"
RESOURCES_UNSUBSCRIBE: Final = "resources/unsubscribe"
PROMPTS_LIST: Final = "prompts/list"
PROMPTS_GET: Final = "prompts/get"
COMPLETE: Final = "completion/complete"
SET_LEVEL: Final = "logging/setLevel"

OPEN_METHODS: Final = frozenset({TOOLS_LIST, RESOURCES_LIST, TEMPLATES_LIST, PROMPTS_LIST, SET_LEVEL})
"""Methods without a name: they may reach every source, and the items of lists are filtered on their way back."""
RESOURCE_METHODS: Final = frozenset({RESOURCES_READ, RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE})
METHODS: Final = OPEN_METHODS | RESOURCE_METHODS | {TOOLS_CALL, PROMPTS_GET, COMPLETE}
"""The methods that may reach a server; every other one is answered or refused by the guard itself."""


class DenyReason(StrEnum):
    """Why a request was refused; stable words that logs, metrics and tests may rely on."""

    KILLED = "Killed"
    """The kill switch is on."""
    NO_BUNDLE = "NoBundle"
    """There is no bundle, or none that this guard can read."""
    BUNDLE_NOT_CONFIRMED = "BundleNotConfirmed"
    """The status of the Agent does not name the bundle that was read: it is forged, or the operator has not run."""
    POLICY_NOT_TESTED = "PolicyNotTested"
    """The self-test of the bundle has not run yet, or has failed."""
    STALE_STATE = "StaleState"
    """The last contact to the API server is older than the lease, or there was none yet."""
    AGENT_MISMATCH = "AgentMismatch"
    """The Agent was deleted, or is not the one that the bundle was compiled for."""
    IMAGE_CHANGED = "ImageChanged"
    """A container of the pod runs another image than its revision was Ready with, or its image is not known yet."""
    UNKNOWN_SOURCE = "UnknownSource"
    """The bundle has no such source."""
    TOOL_NOT_MAPPED = "ToolNotMapped"
    """The binding maps no tool of this name; the denial does not tell whether the server has one."""
    RESOURCE_NOT_MAPPED = "ResourceNotMapped"
    """The binding maps no resource of this URI; the denial does not tell whether the server has one."""
    PROMPT_NOT_MAPPED = "PromptNotMapped"
    """The binding maps no prompt of this name; the denial does not tell whether the server has one."""
    NOT_GRANTED_BY_BINDING = "NotGrantedByBinding"
    """The binding's permissions lack the operation on the resource."""
    NOT_GRANTED_BY_MATRIX = "NotGrantedByMatrix"
    """The policy's access matrix lacks the operation on the resource."""
    NOT_GRANTED_BY_AGENT = "NotGrantedByAgent"
    """The agent's own narrowing lacks the operation on the resource."""
    ARGUMENT_NOT_ALLOWED = "ArgumentNotAllowed"
    """An argument is missing, or violates a rule of the map."""
    TOOL_NOT_VERIFIED = "ToolNotVerified"
    """The tool was never verified, or its server does not list its tools at the moment."""
    TOOL_DRIFTED = "ToolDrifted"
    """The server's description of the tool differs from the verified one, or the tool is no longer listed."""
    PROMPT_NOT_VERIFIED = "PromptNotVerified"
    """The prompt was never verified, or its server does not list its prompts at the moment."""
    PROMPT_DRIFTED = "PromptDrifted"
    """The server's description of the prompt differs from the verified one, or the prompt is no longer listed."""
    RULE_UNMATCHABLE = "RuleUnmatchable"
    """The map requires a value of an argument that the tool's own input schema does not allow."""
    SCOPE_UNDECLARED = "ScopeUndeclared"
    """The stage is limited in a dimension that the map does not declare."""
    SCOPE_MISSING = "ScopeMissing"
    """The arguments do not say the limited dimension's value."""
    OUT_OF_SCOPE = "OutOfScope"
    """The arguments name a value outside the stage's scope."""
    SERVED_ELSEWHERE = "ServedElsewhere"
    """The arguments name values that another placement of the agent serves."""
    SERVER_REQUEST_NOT_ALLOWED = "ServerRequestNotAllowed"
    """The binding does not allow this server request."""
    SERVER_REQUEST_NOT_PASSED = "ServerRequestNotPassed"
    """The binding allows this server request, but there is no client that may be given it now."""
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    """The method is not among those that the guard lets pass."""
    BAD_REQUEST = "BadRequest"
    """The request is not one strict JSON-RPC message of MCP, or beyond a limit."""
    MODEL_NOT_ALLOWED = "ModelNotAllowed"
    """The agent may not call this model, or has none of this provider."""
    MODEL_KEY_REFUSED = "ModelKeyRefused"
    """The request does not show the key that the agent was given."""
    HOSTED_TOOL_NOT_ALLOWED = "HostedToolNotAllowed"
    """The request would make the provider of the model act by itself: search, run code, call MCP servers."""
    MEMBER_NOT_ALLOWED = "MemberNotAllowed"
    """A member of the body, or a value of a beta header, is neither of the official SDKs nor added, or never passes."""
    REMOTE_CONTENT_NOT_ALLOWED = "RemoteContentNotAllowed"
    """The provider would load an image or a file from a host that the policy does not name."""
    LOOP_DETECTED = "LoopDetected"
    """The same call was made too often within the window of the policy, and has not stayed away for one since."""
    BUDGET_EXHAUSTED = "BudgetExhausted"
    """The budget has less left than the call may cost."""
    TASK_BUDGET_EXHAUSTED = "TaskBudgetExhausted"
    """The budget of the task has less left than the call may cost."""
    BUDGET_UNAVAILABLE = "BudgetUnavailable"
    """The ledger of the budget cannot be read or written, and the guard has not enough money, calls or tokens left."""
    RATE_LIMITED = "RateLimited"
    """The agent has no calls or tokens left in this minute, or fewer tokens than the call may use."""
    PRICE_UNKNOWN = "PriceUnknown"
    """What the call may cost at most is unknown, such as that of a model without a price."""
    SERVER_UNAVAILABLE = "ServerUnavailable"
    """The source's server is not there, ended in mid-call, or has too much to do."""
    AUDIT_UNAVAILABLE = "AuditUnavailable"
    """The decision's record cannot be stored, so nothing may be forwarded on it."""


BEFORE_ARGUMENTS: Final = frozenset(
    {
        DenyReason.KILLED,
        DenyReason.NO_BUNDLE,
        DenyReason.POLICY_NOT_TESTED,
        DenyReason.STALE_STATE,
        DenyReason.AGENT_MISMATCH,
        DenyReason.IMAGE_CHANGED,
        DenyReason.UNKNOWN_SOURCE,
        DenyReason.METHOD_NOT_ALLOWED,
        DenyReason.BAD_REQUEST,
        DenyReason.TOOL_NOT_MAPPED,
        DenyReason.RESOURCE_NOT_MAPPED,
        DenyReason.PROMPT_NOT_MAPPED,
        DenyReason.NOT_GRANTED_BY_BINDING,
        DenyReason.NOT_GRANTED_BY_MATRIX,
        DenyReason.NOT_GRANTED_BY_AGENT,
    }
)
"""Reasons that are found before the arguments of a request are read: no work is spent on them then."""


@dataclass(slots=True)
class DecisionInput:
    """A request for a source, as far as it is decided on.

    Attributes:
        source: Name of the source.
        method: The method of MCP.
        tool: Name of the tool, for `tools/call`.
        arguments: The arguments, for `tools/call` and `prompts/get`; for the completion of a URI template the values
            of its variables as far as they are typed.
        uri: The URI, for the methods of resources; for a completion that of its `ref`, which may be a template.
        prompt: Name of the prompt, for `prompts/get` and for a completion whose `ref` is one.
        annotations: What the server said of the tool when it listed it last; it can only make the decision stricter.
        model: For the call of a language model, as provider/model; `decide_model` decides on it.
        betas: For the call of a language model, the values of the headers that switch on features in beta.
        input_schema: The tool's input schema as the server listed it last; None where it was not seen yet.
        arguments_digest: Digest of the arguments, where it was computed before the decision, since they are large.
        definition: Digest of the whole tool or prompt as the server listed it last, see `bundle.Pin`; empty where it
            did not list it, None where its list is not known.
        excluded: The scopes that other placements serve, where the call is of a task that began before the bundle; None
            for those of the bundle.
        judged: For the call of a language model, a bundle, and what it says of the call. The state of the Agent, and
            time, are no part of that.
    """

    source: str
    method: str
    tool: str | None = None
    arguments: Mapping[str, Any] | None = None
    uri: str | None = None
    prompt: str | None = None
    annotations: Mapping[str, Any] | None = None
    input_schema: Mapping[str, Any] | None = None
    definition: str | None = None
    model: str | None = None
    betas: tuple[str, ...] = ()
    arguments_digest: str | None = None
    excluded: tuple[tuple[ScopeLimit, ...], ...] | None = None
    judged: "tuple[Bundle, Decision] | None" = field(default=None, init=False, compare=False)


@dataclass(slots=True)
class Allow:
    """The request may pass, by this rule of the access matrix.

    `tool` is the entry of the map that it falls under, of a tool, a prompt or a resource; its `operation` is the one
    that was asked of every layer, so it may be stricter than the map's. `would_deny` is the denial that the request
    would have got in mode `Enforce`; None for a request that the policy permits.
    """

    rule: str
    tool: BundleTool | BundleResource | None = None
    would_deny: "Deny | None" = None


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is refused. `message` is one sentence for the client, `rule` names what would have to change.

    `retry_seconds` says after how many seconds the same request may pass; None where time alone changes nothing, or
    it is not known.
    """

    reason: DenyReason
    rule: str
    message: str
    tool: BundleTool | BundleResource | None = None
    retry_seconds: int | None = None


Decision = Allow | Deny

_LAYER_REASONS: Final[dict[Layer, tuple[DenyReason, str]]] = {
    "Binding": (DenyReason.NOT_GRANTED_BY_BINDING, "the binding's permissions"),
    "Matrix": (DenyReason.NOT_GRANTED_BY_MATRIX, "the policy's data access"),
    "Agent": (DenyReason.NOT_GRANTED_BY_AGENT, "the agent's own permissions"),
}
_NO_BUNDLE: Final = Deny(DenyReason.NO_BUNDLE, "", "The guard has no valid bundle.")
_NOT_CONFIRMED: Final = Deny(
    DenyReason.BUNDLE_NOT_CONFIRMED, "", "The status of the agent does not name the bundle that the guard has read."
)

_IMAGE_CHANGED: Final = Deny(
    DenyReason.IMAGE_CHANGED,
    "",
    "A tag has moved, so this pod runs another image than its revision was Ready with, or the image of this pod is not "
    "known yet. In the latter case, try again in a few seconds.",
)


def decide(bundle: Bundle | None, state: State, request: DecisionInput, now: float) -> Decision:
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
        return Deny(DenyReason.UNKNOWN_SOURCE, "", "This agent has no such source.")
    if request.method not in METHODS:
        return Deny(DenyReason.METHOD_NOT_ALLOWED, "", "The guard does not let this method pass.")
    if request.method in OPEN_METHODS:
        return Allow(rule=f"mcpbinding/{source.binding}")
    return _decide_entry(bundle, source, request)


def reads_arguments(decision: Decision) -> bool:
    """Return True unless a request was denied before its arguments were read."""
    return isinstance(decision, Allow) or decision.reason not in BEFORE_ARGUMENTS


def check_open(bundle: Bundle | None, state: State, now: float) -> Deny | None:
    """Return why the guard is closed for everything, or None."""
    cut = check_terminated(bundle, state)
    if cut is not None:
        return cut
    if state.agent_uid is None or state.contact_at is None:
        return Deny(DenyReason.STALE_STATE, "", "The guard has not seen its agent at the API server yet.")
    if now - state.contact_at > state.lease_seconds:
        return Deny(DenyReason.STALE_STATE, "", "The guard has lost contact with the API server.")
    if bundle is None:
        return _NOT_CONFIRMED if state.is_unconfirmed else _NO_BUNDLE
    if state.unverified_reason:
        return Deny(DenyReason.POLICY_NOT_TESTED, "", state.unverified_reason)
    return None


def check_terminated(bundle: Bundle | None, state: State) -> Deny | None:
    """Return why even calls under way must end immediately, or None."""
    if state.kill.message is not None:
        return Deny(DenyReason.KILLED, "interlock.dev/kill-switch", state.kill.message)
    if state.agent_gone:
        return Deny(DenyReason.AGENT_MISMATCH, "", "The agent was deleted.")
    if bundle is not None and state.agent_uid is not None and state.agent_uid != bundle.agent.uid:
        return Deny(DenyReason.AGENT_MISMATCH, "", "The bundle was made for another agent of this name.")
    if bundle is not None and state.pod in bundle.changed_pods:
        return _IMAGE_CHANGED
    return None


def find_source(bundle: Bundle | None, name: str) -> BundleSource | None:
    """Return the bundle's source of that name."""
    if bundle is None:
        return None
    # One bundle is in force at a time, so its index is kept until another one is asked about.
    if _index.bundle is not bundle:
        _index.bundle, _index.sources = bundle, {source.name: source for source in bundle.sources}
    return _index.sources.get(name)


@dataclass(slots=True)
class _SourceIndex:
    """The sources of the bundle that was asked about last, by name."""

    bundle: Bundle | None = None
    sources: dict[str, BundleSource] = field(default_factory=dict)


_index: Final = _SourceIndex()


def _decide_entry(bundle: Bundle | None, source: BundleSource, request: DecisionInput) -> Decision:
    entry, reason, what = _find_entry(source, request)
    binding = f"mcpbinding/{source.binding}"
    would_deny: Deny | None
    if entry is None or bundle is None:
        # Without its name, so that what is not mapped and what does not exist answer alike.
        would_deny = Deny(reason, binding, f"This {what} is not available to this agent.")
        # A tool that its server does not list does not exist, so it is denied in every mode.
        entry = unmapped_tool(source, request.tool) if request.definition else None
        if entry is None or bundle is None:
            return would_deny
    else:
        entry, would_deny = _check_operations(source, entry, request)
        if would_deny is not None and source.mode != "Audit":
            return would_deny
    refused = (
        _check_arguments(binding, entry, request)
        or _check_scope(bundle, binding, entry, request)
        or _check_pin(source, binding, entry, request)
    )
    if refused is not None:
        return refused
    rule = next((grant.rule for grant in source.grants if grant.layer == "Matrix"), "")
    return Allow(rule, entry, would_deny)


def unmapped_tool(source: BundleSource, name: str | None) -> BundleTool | None:
    """Return the entry that stands for a tool that is not mapped: the strictest. None where such a tool is denied."""
    return BundleTool(name, "delete", "") if source.mode == "Audit" and name is not None else None


def _check_operations(
    source: BundleSource, entry: BundleTool | BundleResource, request: DecisionInput
) -> tuple[BundleTool | BundleResource, Deny | None]:
    """Return the entry with the operation that its server raises it to, and the first denial by a missing grant."""
    operation = entry.operation
    if request.method == TOOLS_CALL:
        operation = tightened_operation(entry.operation, request.annotations)
    checked = (check_grants(source, entry, asked) for asked in dict.fromkeys((entry.operation, operation)))
    refused = next((one for one in checked if one is not None), None)
    return entry if operation == entry.operation else replace(entry, operation=operation), refused


def _find_entry(
    source: BundleSource, request: DecisionInput
) -> tuple[BundleTool | BundleResource | None, DenyReason, str]:
    """Return the entry of the map that the request falls under, and what to say where it falls under none."""
    if request.method == TOOLS_CALL:
        return find_named(source.tools, request.tool), DenyReason.TOOL_NOT_MAPPED, "tool"
    if request.method in RESOURCE_METHODS:
        return find_resource(source.resources, request.uri), DenyReason.RESOURCE_NOT_MAPPED, "resource"
    if request.method == COMPLETE and request.uri is not None:
        return (
            find_template(source.resources, request.uri, request.arguments),
            DenyReason.RESOURCE_NOT_MAPPED,
            "resource",
        )
    return find_named(source.prompts, request.prompt), DenyReason.PROMPT_NOT_MAPPED, "prompt"


def check_grants(source: BundleSource, entry: BundleTool | BundleResource, operation: Operation) -> Deny | None:
    """Return the first layer that does not grant the operation; without a row of the matrix nothing is granted."""
    grant = _refusing_grant(source, operation, entry.resource)
    if grant is not None:
        asked = replace(entry, operation=operation)
        reason, layer = _LAYER_REASONS[grant.layer]
        says = "" if operation == entry.operation else f" (the server marks this tool as {operation})"
        message = f"{operation} on {entry.resource!r} of {source.name!r}{says} is not granted by {layer}."
        return Deny(reason, grant.rule, message, asked)
    if not {"Binding", "Matrix"} <= {grant.layer for grant in source.grants}:
        message = "No row of the policy's data access covers this source."
        return Deny(DenyReason.NOT_GRANTED_BY_MATRIX, "", message, replace(entry, operation=operation))
    return None


def _check_arguments(binding: str, entry: BundleTool | BundleResource, request: DecisionInput) -> Deny | None:
    if isinstance(entry, BundleResource) or not entry.arguments:
        return None
    rules = f"{binding}/{'tools' if request.method == TOOLS_CALL else 'prompts'}[{entry.name}]/arguments"
    if request.input_schema is not None and request.method == TOOLS_CALL:
        never = find_unmatchable(entry.arguments, request.input_schema)
        if never is not None:
            rule = entry.arguments[never[0]]
            message = f"No call of this tool can be allowed: {rule.pointer!r} {describe(rule)}, but {never[1]}."
            return Deny(DenyReason.RULE_UNMATCHABLE, f"{rules}[{never[0]}]", message, entry)
    broken = find_broken_rule(entry.arguments, request.arguments)
    if broken is None:
        return None
    rule = entry.arguments[broken]
    message = f"The argument at {rule.pointer!r} {describe(rule)}."
    if is_too_much(resolve_pointer(request.arguments, rule.pointer)):
        message = f"The argument at {rule.pointer!r} has more than {MAX_VALUES} values or {MAX_TEXT} characters."
    return Deny(DenyReason.ARGUMENT_NOT_ALLOWED, f"{rules}[{broken}]", message, entry)


def _check_scope(
    bundle: Bundle, binding: str, entry: BundleTool | BundleResource, request: DecisionInput
) -> Deny | None:
    excluded = bundle.excluded if request.excluded is None else request.excluded
    if not bundle.scope and not excluded:
        return None
    kind = "resource" if isinstance(entry, BundleResource) else "tool" if request.method == TOOLS_CALL else "prompt"
    breach = find_breach(bundle, entry, request.arguments, kind, excluded)
    if breach is None:
        return None
    return Deny(DenyReason(breach.reason), breach.rule or f"{binding}/{kind}s[{entry.key}]", breach.message, entry)


def _check_pin(
    source: BundleSource, binding: str, entry: BundleTool | BundleResource, request: DecisionInput
) -> Deny | None:
    """Return why a tool or prompt is not the verified one; checked last, so that other denials do not reveal it."""
    listed = find_listed(request)
    if listed is None:
        return None
    rule, pinned = f"{binding}/verification", find_pin(source, *listed)
    not_verified, drifted, what = _PIN_REASONS[listed.method]
    if pinned is None and not entry.resource:
        return None  # of a tool that is not mapped nothing was verified that it could differ from
    if pinned is None:
        return Deny(not_verified, rule, f"This {what} has not been verified yet.", entry)
    if request.definition is None:
        message = f"This {what} cannot be compared with what was verified: its server does not list its {what}s."
        return Deny(not_verified, rule, message, entry)
    if request.definition == pinned:
        return None
    message = f"The MCP server no longer lists this {what}."
    if request.definition:
        message = f"This {what} has changed since it was verified, and the change is not accepted."
    return Deny(drifted, rule, message, entry)


_PIN_REASONS: Final[Mapping[str, tuple[DenyReason, DenyReason, str]]] = {
    TOOLS_LIST: (DenyReason.TOOL_NOT_VERIFIED, DenyReason.TOOL_DRIFTED, "tool"),
    PROMPTS_LIST: (DenyReason.PROMPT_NOT_VERIFIED, DenyReason.PROMPT_DRIFTED, "prompt"),
}


class ListedName(NamedTuple):
    """The list in which a server describes what a request is for, and its name there."""

    method: str
    name: str


def find_listed(request: DecisionInput) -> ListedName | None:
    """Return the list and name of the tool or prompt of a request; None for requests of nothing that is pinned."""
    if request.method == TOOLS_CALL and request.tool is not None:
        return ListedName(TOOLS_LIST, request.tool)
    if request.method in (PROMPTS_GET, COMPLETE) and request.prompt is not None:
        return ListedName(PROMPTS_LIST, request.prompt)
    return None


def find_pin(source: BundleSource, method: str, name: str) -> str | None:
    """Return the digest of an item of `tools/list` or `prompts/list` as it was verified, None where it never was."""
    pins = source.pins if method == TOOLS_LIST else source.prompt_pins
    return next((pin.digest for pin in pins if pin.name == name), None)


def _refusing_grant(source: BundleSource, operation: Operation, resource: str) -> Grant | None:
    return next((grant for grant in source.grants if not grant.covers(operation, resource)), None)
