"""The authorizer: decides on every request, and records the decision before anything is forwarded on it.

An allowed request has a second record in the end, its outcome.

MCP calls, calls of language models and the self-test share it, so that there is one answer to "is this allowed?".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from interlock_contract import selftest_report
from interlock_contract.bundle import ScopeLimit
from interlock_guard.audit.recorder import UNKNOWN_CALLER, Caller, Recorder, RecordFailed
from interlock_guard.budget.tool_payments import Payments
from interlock_guard.decision.decide import (
    Allow,
    Decision,
    DecisionInput,
    Deny,
    DenyReason,
    ListedName,
    check_open,
    decide,
    find_listed,
    find_source,
    reads_arguments,
    unmapped_tool,
)
from interlock_guard.decision.injection import inject_scope
from interlock_guard.decision.model_call import decide_model
from interlock_guard.decision.server_request import decide_server_request
from interlock_guard.downstream.loop_breaker import LoopBreaker
from interlock_guard.downstream.replies import needs_input
from interlock_guard.downstream.sessions import NO_ANSWER
from interlock_guard.state import LiveState, State
from interlock_guard.upstream.forward import Forward
from interlock_guard.upstream.list_cache import ListCache
from interlock_guard.upstream.sources import Sources
from interlock_guard.upstream.upstream import Call, Interrupted
from interlock_guard.wire.jsonrpc import RpcResponse
from interlock_guard.wire.large_messages import LargeMessages

NO_SERVER: Final = Deny(DenyReason.SERVER_UNAVAILABLE, "", "This source has no server at the moment.")

_DRIFTED: Final = frozenset({DenyReason.TOOL_DRIFTED, DenyReason.PROMPT_DRIFTED})
_DEPENDS_ON_LIST: Final = _DRIFTED | {
    DenyReason.TOOL_NOT_VERIFIED,
    DenyReason.PROMPT_NOT_VERIFIED,
    DenyReason.RULE_UNMATCHABLE,
}
"""Denials that another list of the server's tools or prompts could change."""

ABANDONED: Final = "Abandoned"
"""The answer was no longer waited for."""
ANSWERED: Final = "Answered"
"""There was a result."""
ERROR: Final = "Error"
"""There was an error as the answer."""
INPUT_REQUIRED: Final = "InputRequired"
"""The server required input; the call with the input is decided on again."""
NOT_ASKED: Final = "NotAsked"
"""The client was not given the request, since another one of the same answer was refused."""
TOOL_ERROR: Final = "ToolError"
"""There was a result in which the tool reports that it failed."""

_FAILED: Final = frozenset({ERROR, TOOL_ERROR, DenyReason.SERVER_UNAVAILABLE.value})
_ENDED: Final = _FAILED | {ABANDONED, ANSWERED}
"""The outcomes that end a call. Others end nothing, such as input that is required, or are the guard's own doing."""


@dataclass(slots=True, eq=False)
class OpenRecord:
    """The record of an allowed request until its outcome is recorded; the first outcome stands.

    Attributes:
        recorder: Stores the outcome.
        seq: The record's number.
        monotonic: The clock that the latency is measured by, in seconds.
        cost: What a call of a tool has cost, for the record of its outcome; None where it costs nothing.
        is_complete: Whether the outcome is recorded.
        is_call: Whether it is a call of a tool or model, which counts for the gates of stages.
    """

    recorder: Recorder
    seq: int
    monotonic: Callable[[], float]
    cost: Mapping[str, Any] | None = None
    is_complete: bool = False
    is_call: bool = False
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin to measure."""
        self._since = self.monotonic()

    def complete(self, outcome: str, cost: Mapping[str, Any] | None = None) -> None:
        """Record the outcome, one stable word, and what the request has cost if the budget limits it."""
        if not self.is_complete:
            self.is_complete = True
            seconds = self.monotonic() - self._since
            if self.is_call and outcome in _ENDED:
                self.recorder.work.end_call(seconds, is_failure=outcome in _FAILED)
            self.recorder.complete(self.seq, outcome, seconds, cost or self.cost)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What bounds calls that are allowed otherwise.

    Attributes:
        payments: Pays for the calls of tools, and counts them.
        loops: Refuses calls that are loops.
    """

    payments: Payments
    loops: LoopBreaker


class Authorizer:
    """Decides and records.

    Args:
        live: The Agent's state and its bundle.
        sources: The servers, which refuse calls that they cannot take now.
        lists: The tools and prompts that the servers list.
        recorder: Stores the decisions.
        monotonic: The clock of `live`, in seconds.
        large: The large messages of this guard.
        limits: What bounds calls that are allowed otherwise.
        on_drift: Called with the name of a binding whose server differs from what was verified, and with the change.
            A name with `DROPPED_SUFFIX` says that many messages of the binding's server were dropped.
    """

    def __init__(
        self,
        *,
        live: LiveState,
        sources: Sources,
        lists: ListCache,
        recorder: Recorder,
        monotonic: Callable[[], float],
        limits: CallLimits | None = None,
        on_drift: Callable[[str, str], None] = lambda _binding, _change: None,
        large: LargeMessages | None = None,
    ) -> None:
        self.live = self._live = live
        """The Agent's state and its bundle."""
        self._sources, self._lists = sources, lists
        self._large, self._payments = large or LargeMessages(), None if limits is None else limits.payments
        self.loops = None if limits is None else limits.loops
        """Refuses calls that are loops; None where none is."""
        self._recorder, self._monotonic = recorder, monotonic
        self.find_excluded: Callable[[str], tuple[tuple[ScopeLimit, ...], ...] | None] = lambda _: None
        """Returns the scopes that are excluded for a call of a task by the task's id; None for those of the bundle."""
        self._on_drift = on_drift

    def check_open(self) -> Deny | None:
        """Return why the guard is closed for everything, or None."""
        return check_open(self._live.bundle, self._live.state, self._monotonic())

    async def prepare(self, request: Forward, caller: Caller = UNKNOWN_CALLER) -> None:
        """Do what comes before a decision: complete the arguments, read the server's list again, wait for money.

        Only a call that the list could still let pass waits for it: the server learns nothing of other calls. Arguments
        are digested unless the request is denied before they are read.
        """
        listed = find_listed(request)
        request.excluded = self.find_excluded(caller.task)
        self._inject_scope(request, listed)
        needs_list = listed is not None and not self._lists.is_fresh(request.source, listed.method)
        if needs_list or request.is_large:
            await self._prepare(request, listed, needs_list=needs_list)
        if self._payments is not None and self._payments.is_limited(self._live.bundle, request):
            self._add_listing(request)
            await self._payments.prepare(request, self.judge(request, self._live.state))

    def _inject_scope(self, request: Forward, listed: ListedName | None) -> None:
        """Write the stage's only value into arguments that name none, where the map says so."""
        bundle, given = self._live.bundle, request.client_arguments
        if bundle is None or not bundle.scope or given is None or listed is None:
            return
        entry = self._lists.find(request.source, *listed)
        arguments = inject_scope(bundle, request, given, None if entry is None else entry.input_schema)
        if arguments is not request.arguments:
            request.replace_arguments(arguments)

    async def _prepare(self, request: Forward, listed: ListedName | None, *, needs_list: bool) -> None:
        self._add_listing(request)
        decision = decide(self._live.bundle, self._live.state, request, self._monotonic())
        # The last list may have failed. Only another one shows whether the server answers again.
        if listed is not None and needs_list and self._may_change(request, decision):
            await self._lists.refresh(request.source, listed.method)
            self._inject_scope(request, listed)  # again, by the schema that the list has now
        if request.is_large and reads_arguments(decision):
            async with self._large.turn():
                request.arguments_digest = await self._large.digest(request.arguments)

    def _may_change(self, request: DecisionInput, decision: Decision) -> bool:
        """Return True if another list of the server could change a decision, or is needed for one that allows."""
        if isinstance(decision, Allow) or decision.reason in _DEPENDS_ON_LIST:
            return True
        source = find_source(self._live.bundle, request.source)
        if source is None or decision.reason is not DenyReason.TOOL_NOT_MAPPED:
            return False
        return unmapped_tool(source, request.tool) is not None

    def authorize(
        self, request: DecisionInput, caller: Caller, *, is_paid: bool = False, is_continued: bool = False
    ) -> OpenRecord | Deny:
        """Decide on a request of MCP and record the decision; a request that no server can take now is denied too.

        Nothing may be awaited between this and the forward, or a kill could come in between.

        Args:
            request: The request.
            caller: On whose behalf it is made.
            is_paid: Whether it only repeats a call that is under way, and so costs nothing and is no new call.
            is_continued: Whether the guard itself sends it once more, with input that its server required: the client
                has made one call.

        Returns:
            The denial, or the record, which needs an outcome in the end.

        Raises:
            RecordFailed: The record could not be stored; nothing may be forwarded.
        """
        self._add_listing(request)
        request.excluded = self.find_excluded(caller.task)
        decision, payment = self.judge(request, self._live.state), None
        if self.loops is not None and not is_paid and not is_continued:
            decision = self.loops.check_tool(request, decision)
        if self._payments is not None and not is_paid:
            decision, payment = self._payments.pay(request, decision, caller.task)
        outcome: OpenRecord | Deny | None = None
        try:
            outcome = self.record(request, decision, caller)
        finally:
            if payment is not None and isinstance(outcome, OpenRecord):
                outcome.cost = payment.settle()
            elif payment is not None:
                payment.cancel()
        if isinstance(decision, Deny) and decision.reason in _DRIFTED:
            self.report_drift(request.source, f"{request.tool or request.prompt} {request.definition}")
        return outcome

    def authorize_server_request(
        self, source: str, method: str, caller: Caller, *, params: Mapping[str, Any], obstacle: str = ""
    ) -> OpenRecord | Deny:
        """Decide whether a source's server may send this request to the agent, and record the decision.

        Args:
            source: Name of the source.
            method: What the server asks for.
            caller: On whose behalf the call is made that it belongs to.
            params: The parameters of the request.
            obstacle: Why no client can be given the request; empty if one can.

        Returns:
            The denial, or the record, which needs an outcome in the end.

        Raises:
            RecordFailed: The record could not be stored; the request may not be passed on.
        """
        decision = decide_server_request(
            self._live.bundle, self._live.state, source, method, self._monotonic(), obstacle=obstacle
        )
        if self.loops is not None:
            decision = self.loops.check_sampling(source, method, params, decision)
        return self.record(DecisionInput(source, method), decision, caller)

    def judge(self, request: DecisionInput, state: State) -> Decision:
        """Decide on a request without recording or forwarding anything.

        Args:
            request: The request, with what is known of its tool.
            state: The state to decide in; the self-test leaves out the reason that it is there to remove.
        """
        if request.model is not None:
            return decide_model(self._live.bundle, state, request, self._monotonic())
        decision = decide(self._live.bundle, state, request, self._monotonic())
        # A server that is not there lists no tools: its absence is the more useful reason.
        is_unlisted = isinstance(decision, Deny) and decision.reason in _DEPENDS_ON_LIST and request.definition is None
        if isinstance(decision, Allow) or is_unlisted:
            upstream = self._sources.get(request.source)
            unavailable = NO_SERVER if upstream is None else upstream.refusal()
            listed = find_listed(request)
            if is_unlisted and unavailable is None and listed is not None:
                unavailable = self._lists.trouble(request.source, listed.method)
            if unavailable is not None:
                return replace(unavailable, tool=decision.tool)
        return decision

    def record(self, request: DecisionInput, decision: Decision, caller: Caller) -> OpenRecord | Deny:
        """Record a decision.

        Returns:
            The denial, or the record, which needs an outcome in the end.

        Raises:
            RecordFailed: The record could not be stored; nothing may be forwarded.
        """
        seq = self._recorder.record(self._live.bundle, request, decision, caller)
        is_call = self._recorder.work.decide(request, decision)
        if isinstance(decision, Deny):
            return decision
        return OpenRecord(self._recorder, seq, self._monotonic, is_call=is_call)

    def record_refusal(self, source: str, method: str, denial: Deny, caller: Caller = UNKNOWN_CALLER) -> None:
        """Record a refusal of a message that was not decided on any further.

        Raises:
            RecordFailed: It could not be stored.
        """
        self._recorder.record(self._live.bundle, DecisionInput(source, method), denial, caller)

    def _add_listing(self, request: DecisionInput) -> None:
        """Note on a request what its server says of the tool or prompt now."""
        listed = find_listed(request)
        entry = None if listed is None else self._lists.find(request.source, *listed)
        if entry is not None:
            request.annotations, request.input_schema = entry.annotations, entry.input_schema
            request.definition = entry.definition
        else:
            request.annotations = request.input_schema = request.definition = None

    def report_drift(self, source: str, change: str) -> None:
        """Report that a source's server differs from what was verified, so that it is verified again soon."""
        served = find_source(self._live.bundle, source)
        if served is not None:
            self._on_drift(served.binding, change)

    def report_dropped(self, source: str) -> None:
        """Report that many messages of a source's server were dropped."""
        served = find_source(self._live.bundle, source)
        if served is not None:
            self._on_drift(f"{served.binding}{selftest_report.DROPPED_SUFFIX}", "")


def deny_unrecorded(error: RecordFailed) -> Deny:
    """Return the denial of a call whose record could not be stored."""
    return Deny(DenyReason.AUDIT_UNAVAILABLE, "", f"The record of this call was not stored: {error}.")


def outcome_of(call: Call) -> str:
    """Return how a call ended: by its server's answer, by a denial, or abandoned."""
    if not call.future.done() or call.future.cancelled():
        return ABANDONED
    outcome = call.future.result()
    if isinstance(outcome, Interrupted):
        return ABANDONED
    if isinstance(outcome, Deny):
        return outcome.reason.value
    if outcome.result is None:
        return ERROR
    if needs_input(outcome.result):
        return INPUT_REQUIRED
    return TOOL_ERROR if outcome.result.get("isError") is True else ANSWERED


def outcome_of_server_request(response: RpcResponse) -> str:
    """Return how a server's request ended: with its client's answer, or without one."""
    if response.result is not None:
        return ANSWERED
    return ABANDONED if response.error == NO_ANSWER else ERROR
