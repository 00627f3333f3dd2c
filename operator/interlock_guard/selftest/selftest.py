"""The self-test of a bundle before it is enforced: synthetic calls that must be refused, each for a known reason.

They take the way of every request, between the parsing of its message and its record. None is ever sent: a call that is
not refused is the flaw that ends the self-test. No I/O.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from interlock_contract.bundle import Bundle, BundleResource, BundleSource, BundleTool, ScopeLimit
from interlock_contract.json_pointer import split_pointer
from interlock_contract.mapping import find_named, find_resource, is_name_glob, tightened_operation
from interlock_contract.model_access import ModelAccess, find_provider
from interlock_contract.selftest_report import SelfTestReport
from interlock_guard.decision.body_members import ANY_HOST
from interlock_guard.decision.decide import (
    PROMPTS_GET,
    RESOURCES_READ,
    TOOLS_CALL,
    Decision,
    DecisionInput,
    Deny,
    DenyReason,
    check_open,
)
from interlock_guard.decision.injection import write_absent
from interlock_guard.decision.model_call import MODELS
from interlock_guard.decision.model_rules import ENDPOINTS
from interlock_guard.state import LiveState, State

UNMAPPED_NAME: Final = "interlock-selftest"
"""Name that no real tool, prompt or source has: of a source at most 63 of `[-a-z0-9]`, as the bundle requires."""
_UNSERVED_URI: Final = "interlock-selftest://nothing/at/all"
_UNSERVED_HOST: Final = "interlock-selftest.invalid"
_URL: Final = f"https://{_UNSERVED_HOST}/"
_IN_MESSAGES: Final[dict[str, Any]] = {"messages": [{"content": [{"type": "image", "source": {"url": _URL}}]}]}
_CONTENT_BY_URL: Final[dict[str, dict[str, Any]]] = {
    "chat/completions": {"messages": [{"content": [{"type": "image_url", "image_url": {"url": _URL}}]}]},
    "responses": {"input": [{"content": [{"type": "input_image", "image_url": _URL}]}]},
    "messages": _IN_MESSAGES,
    "messages/count_tokens": _IN_MESSAGES,
}
"""By endpoint, a body that would have the provider load content."""
_DESTRUCTIVE: Final[dict[str, Any]] = {"readOnlyHint": False, "destructiveHint": True}


class SelfTestKind(StrEnum):
    """The promise that a synthetic call tests."""

    MODEL = "Model"
    """The agent has no such model, its provider offers what the guard does not let pass, or it would act by itself."""

    UNMAPPED = "Unmapped"
    """The binding maps nothing of this name."""
    DENIED = "Denied"
    """The binding's permissions, the matrix or the agent's own narrowing lack the operation on the resource."""
    OUT_OF_MATRIX = "OutOfMatrix"
    """The matrix has no row for the source."""
    OUT_OF_SCOPE = "OutOfScope"
    """The stage is limited, and the call does not say where it belongs, or may not be made in any stage like it."""
    EXCLUDED = "Excluded"
    """The call names values that another placement serves."""
    DRIFTED = "Drifted"
    """The server describes the tool or prompt otherwise than when it was verified, or it never was."""


@dataclass(frozen=True, slots=True)
class SyntheticCall:
    """One call, and the reasons that its denial may have.

    A call that `may_pass` is one of a source in mode `Audit`: it may pass if it is recorded as one that would have been
    denied for one of these reasons.
    """

    kind: SelfTestKind
    request: DecisionInput
    expected: frozenset[DenyReason]
    may_pass: bool = False

    def is_refused(self, decision: Decision) -> bool:
        """Return True if a decision keeps the promise."""
        if isinstance(decision, Deny):
            return decision.reason in self.expected or (self.may_pass and decision.reason in _CHECKED_LATER)
        return self.may_pass and decision.would_deny is not None and decision.would_deny.reason in self.expected


Judge = Callable[[DecisionInput], Decision]

_UNGRANTED: Final = frozenset(
    {DenyReason.NOT_GRANTED_BY_BINDING, DenyReason.NOT_GRANTED_BY_MATRIX, DenyReason.NOT_GRANTED_BY_AGENT}
)
_UNVERIFIED: Final = {
    TOOLS_CALL: frozenset({DenyReason.TOOL_DRIFTED, DenyReason.TOOL_NOT_VERIFIED}),
    PROMPTS_GET: frozenset({DenyReason.PROMPT_DRIFTED, DenyReason.PROMPT_NOT_VERIFIED}),
}
_CHECKED_LATER: Final = frozenset(
    {
        DenyReason.ARGUMENT_NOT_ALLOWED,
        DenyReason.SCOPE_UNDECLARED,
        DenyReason.SCOPE_MISSING,
        DenyReason.OUT_OF_SCOPE,
        DenyReason.SERVED_ELSEWHERE,
        DenyReason.TOOL_NOT_VERIFIED,
        DenyReason.TOOL_DRIFTED,
        DenyReason.PROMPT_NOT_VERIFIED,
        DenyReason.PROMPT_DRIFTED,
        DenyReason.SERVER_UNAVAILABLE,
    }
)
"""Reasons that are found after those for which mode `Audit` lets a call pass."""
_ANOTHER_DEFINITION: Final = "no digest is this"
_UNSCOPED: Final = frozenset({DenyReason.SCOPE_MISSING, DenyReason.SCOPE_UNDECLARED, DenyReason.OUT_OF_SCOPE})
_ELSEWHERE: Final = _UNSCOPED | {DenyReason.SERVED_ELSEWHERE}
"""A stage with a scope of its own may not serve the values of another one either."""


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """The number of calls that were refused as required, and the first that was not; empty if all were."""

    calls: int
    flaw: str = ""


def run_selftest(bundle: Bundle, judge: Judge) -> SelfTestResult:
    """Put every synthetic call to the judge.

    Args:
        bundle: The bundle to test.
        judge: Answers a request as the guard would, and forwards nothing.
    """
    calls = 0
    for call in synthetic_calls(bundle):
        decision = judge(call.request)
        if not call.is_refused(decision):
            return SelfTestResult(calls, _describe(call, decision))
        calls += 1
    return SelfTestResult(calls)


def synthetic_calls(bundle: Bundle) -> Iterator[SyntheticCall]:
    """Yield calls that a guard with this bundle must refuse, at least one for each promise of the bundle."""
    names = {source.name for source in bundle.sources}
    stranger = UNMAPPED_NAME if UNMAPPED_NAME not in names else f"{UNMAPPED_NAME}-{len(names)}"
    yield SyntheticCall(
        SelfTestKind.OUT_OF_MATRIX,
        DecisionInput(stranger, TOOLS_CALL, tool=UNMAPPED_NAME, arguments={}),
        frozenset({DenyReason.UNKNOWN_SOURCE}),
    )
    if bundle.models is not None:
        yield from _models(bundle.models)
    for source in bundle.sources:
        yield from _unmapped(source)
        for entry, request in _entries(source):
            yield from _ungranted(source, entry, request)
            yield from _out_of_scope(bundle, source, entry, request)
            yield from _excluded(bundle, source, entry, request)
        yield from _drifted(bundle, source)


def _models(models: ModelAccess) -> Iterator[SyntheticCall]:
    """Yield calls of a provider and of models that the agent has not, and of its own for what no model is for."""
    refused = frozenset({DenyReason.MODEL_NOT_ALLOWED})
    if find_provider(models, UNMAPPED_NAME) is None:
        yield _model_call(f"{UNMAPPED_NAME}/{UNMAPPED_NAME}", "chat/completions", {}, refused)
    for provider in models.providers:
        for method in sorted(ENDPOINTS[provider.shape] if provider.find(UNMAPPED_NAME) is None else ()):
            yield _model_call(f"{provider.name}/{UNMAPPED_NAME}", method, {}, refused)
        for model in provider.models:
            name = f"{provider.name}/{model.name}"
            yield _model_call(name, "files", {}, frozenset({DenyReason.METHOD_NOT_ALLOWED}))
            for method in sorted(ENDPOINTS[provider.shape]):
                hosted = {"tools": [{"type": "mcp"}]}
                yield _model_call(name, method, hosted, frozenset({DenyReason.HOSTED_TOOL_NOT_ALLOWED}))
                if UNMAPPED_NAME not in provider.extra_members:
                    unknown = {UNMAPPED_NAME: True}
                    yield _model_call(name, method, unknown, frozenset({DenyReason.MEMBER_NOT_ALLOWED}))
                by_url = _CONTENT_BY_URL.get(method)
                if by_url is not None and not {ANY_HOST, _UNSERVED_HOST}.intersection(provider.content_hosts):
                    yield _model_call(name, method, by_url, frozenset({DenyReason.REMOTE_CONTENT_NOT_ALLOWED}))


def _model_call(name: str, method: str, body: dict[str, Any], expected: frozenset[DenyReason]) -> SyntheticCall:
    return SyntheticCall(SelfTestKind.MODEL, DecisionInput(MODELS, method, arguments=body, model=name), expected)


def _unmapped(source: BundleSource) -> Iterator[SyntheticCall]:
    """Yield calls of what the map does not name; a glob that takes in every name leaves none."""
    if find_named(source.tools, UNMAPPED_NAME) is None:
        # Its server does not list this tool, so it is denied in mode Audit too.
        request = DecisionInput(source.name, TOOLS_CALL, tool=UNMAPPED_NAME, arguments={})
        yield _unmapped_call(request, DenyReason.TOOL_NOT_MAPPED)
        if source.mode == "Audit":
            listed = replace(request, definition=_ANOTHER_DEFINITION)
            yield SyntheticCall(SelfTestKind.UNMAPPED, listed, frozenset({DenyReason.TOOL_NOT_MAPPED}), may_pass=True)
    if find_named(source.prompts, UNMAPPED_NAME) is None:
        request = DecisionInput(source.name, PROMPTS_GET, prompt=UNMAPPED_NAME, arguments={})
        yield _unmapped_call(request, DenyReason.PROMPT_NOT_MAPPED)
    if find_resource(source.resources, _UNSERVED_URI) is None:
        request = DecisionInput(source.name, RESOURCES_READ, uri=_UNSERVED_URI)
        yield _unmapped_call(request, DenyReason.RESOURCE_NOT_MAPPED)


def _unmapped_call(request: DecisionInput, reason: DenyReason) -> SyntheticCall:
    return SyntheticCall(SelfTestKind.UNMAPPED, request, frozenset({reason}))


def _entries(source: BundleSource) -> Iterator[tuple[BundleTool | BundleResource, DecisionInput]]:
    """Yield the map's entries that have a name of their own, each with a request that falls under it."""
    for tool in source.tools:
        if find_named(source.tools, tool.name) is tool:
            yield tool, DecisionInput(source.name, TOOLS_CALL, tool=tool.name, arguments={})
    for prompt in source.prompts:
        if find_named(source.prompts, prompt.name) is prompt:
            yield prompt, DecisionInput(source.name, PROMPTS_GET, prompt=prompt.name, arguments={})
    for resource in source.resources:
        if find_resource(source.resources, resource.uri) is resource:
            yield resource, DecisionInput(source.name, RESOURCES_READ, uri=resource.uri)


def _ungranted(
    source: BundleSource, entry: BundleTool | BundleResource, request: DecisionInput
) -> Iterator[SyntheticCall]:
    """Yield the entry's call where a layer lacks its operation, and as the delete that its server could call it."""
    if not _is_granted(source, entry, entry.operation):
        yield SyntheticCall(SelfTestKind.DENIED, request, _UNGRANTED, may_pass=source.mode == "Audit")
    elif request.method == TOOLS_CALL:
        worst = tightened_operation(entry.operation, _DESTRUCTIVE)
        if not _is_granted(source, entry, worst):
            hinted = DecisionInput(source.name, TOOLS_CALL, request.tool, request.arguments, annotations=_DESTRUCTIVE)
            yield SyntheticCall(SelfTestKind.DENIED, hinted, _UNGRANTED, may_pass=source.mode == "Audit")


def _is_granted(source: BundleSource, entry: BundleTool | BundleResource, operation: str) -> bool:
    """Return True if every layer grants it; not by `Grant.covers`, which is under test here."""
    return all(
        entry.resource in getattr(grant, operation) or (operation == "read" and "*" in grant.read)
        for grant in source.grants
    )


def _out_of_scope(
    bundle: Bundle, source: BundleSource, entry: BundleTool | BundleResource, request: DecisionInput
) -> Iterator[SyntheticCall]:
    """Yield the call of a granted tool without arguments, where the stage requires their scope."""
    if isinstance(entry, BundleResource) or entry.arguments or not _is_granted(source, entry, entry.operation):
        return
    unscoped = {limit.dimension for limit in entry.scope if limit.unscoped}
    if any(limit.dimension not in unscoped for limit in bundle.scope):
        yield SyntheticCall(SelfTestKind.OUT_OF_SCOPE, request, _UNSCOPED)


def _excluded(
    bundle: Bundle, source: BundleSource, entry: BundleTool | BundleResource, request: DecisionInput
) -> Iterator[SyntheticCall]:
    """Yield the call of a granted entry with one value of every dimension of each scope that others serve."""
    if not _is_granted(source, entry, entry.operation) or (isinstance(entry, BundleTool) and entry.arguments):
        return
    for scope in bundle.excluded:
        if isinstance(entry, BundleResource):
            values = {declared.dimension: set(declared.values or ()) for declared in entry.scope}
            if all(not values.get(limit.dimension, set()).isdisjoint(limit.values) for limit in scope):
                yield SyntheticCall(SelfTestKind.EXCLUDED, request, _ELSEWHERE)
        elif (arguments := _arguments_of(scope, entry)) is not None:
            asked = DecisionInput(
                source.name, request.method, tool=request.tool, prompt=request.prompt, arguments=arguments
            )
            yield SyntheticCall(SelfTestKind.EXCLUDED, asked, _ELSEWHERE)


def _arguments_of(scope: tuple[ScopeLimit, ...], entry: BundleTool) -> Mapping[str, Any] | None:
    """Return arguments that name the first value of every dimension; None where no object can name them all."""
    pointers = {declared.dimension: declared.pointer for declared in entry.scope}
    arguments: Mapping[str, Any] = {}
    for limit in scope:
        pointer = pointers.get(limit.dimension)
        before = arguments
        if pointer is not None:
            arguments = write_absent(arguments, split_pointer(pointer), limit.values[0])
        if arguments is before:
            return None
    return arguments


def _drifted(bundle: Bundle, source: BundleSource) -> Iterator[SyntheticCall]:
    """Yield calls that only the pins deny: of each pinned tool and prompt, changed, and of each that has no pin."""
    if () in bundle.excluded:  # no call at all is served
        return
    pinned = [(TOOLS_CALL, pin.name) for pin in source.pins] + [(PROMPTS_GET, pin.name) for pin in source.prompt_pins]
    written = [(TOOLS_CALL, tool.name) for tool in source.tools if not is_name_glob(tool.name)]
    written += [(PROMPTS_GET, prompt.name) for prompt in source.prompts if not is_name_glob(prompt.name)]
    for method, name in sorted({*pinned, *written}):
        entry = find_named(source.tools if method == TOOLS_CALL else source.prompts, name)
        is_checked = source.mode == "Audit" or (entry is not None and _is_granted(source, entry, entry.operation))
        if entry is None or entry.arguments or not is_checked:
            continue
        unscoped = {limit.dimension for limit in entry.scope if limit.unscoped}
        if all(limit.dimension in unscoped for limit in bundle.scope):
            request = DecisionInput(
                source.name,
                method,
                tool=name if method == TOOLS_CALL else None,
                prompt=name if method == PROMPTS_GET else None,
                arguments={},
                definition=_ANOTHER_DEFINITION,
            )
            yield SyntheticCall(SelfTestKind.DRIFTED, request, _UNVERIFIED[method])


def _describe(call: SyntheticCall, decision: Decision) -> str:
    request = call.request
    asked = request.tool or request.prompt or request.uri or request.model
    found = decision.reason.value if isinstance(decision, Deny) else "Allow"
    wanted = " or ".join(sorted(call.expected))
    return f"{call.kind} call {request.method} {asked!r} of {request.source!r}: {found} instead of {wanted}"


SelfTestJudge = Callable[[DecisionInput, State], Decision]


class SelfTest:
    """Tests each new bundle, and reports the result."""

    def __init__(
        self,
        live: LiveState,
        judge: SelfTestJudge,
        monotonic: Callable[[], float],
        report: Callable[[SelfTestReport], None],
    ) -> None:
        self._live, self._judge, self._monotonic, self._report = live, judge, monotonic, report

    def follow(self) -> None:
        """Test an unverified bundle, unless the guard is closed for another reason and would refuse every call."""
        live = self._live
        verified = replace(live.state, unverified_reason="")
        if live.bundle is None or not live.state.unverified_reason:
            return
        if check_open(live.bundle, verified, self._monotonic()) is not None:
            return
        result = run_selftest(live.bundle, lambda request: self._judge(request, verified))
        live.set_unverified_reason(result.flaw)
        self._report(SelfTestReport(live.digest, result.calls, result.flaw))
