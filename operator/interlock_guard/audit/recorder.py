"""One record per decision, stored and written out before anything is forwarded, and one per outcome after it.

Records are lines of a hash chain (`audit_chain`), kept in the spool until the collector has them, and written to
standard output as well. A record names the caller, task and trace, as the request says them: claims of the agent, for
finding what belongs together. Nothing is decided by them.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from interlock_contract.audit_chain import (
    ALLOW,
    BUNDLE,
    DECISION,
    DENIALS,
    DENY,
    GENESIS,
    OUTCOME,
    TASK,
    WOULD_DENY,
    GuardId,
    Head,
    seal,
)
from interlock_contract.bundle import Bundle, BundleSource, digest, dump_bundle
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.clock import write_time
from interlock_contract.json_pointer import parse_index, split_pointer
from interlock_contract.mapping import tightened_operation
from interlock_contract.selftest_report import RepeatedDenials
from interlock_contract.strict_json import dump_json
from interlock_guard.audit.denials import DenialCounter, RepetitionFinder
from interlock_guard.audit.spool import Spool, SpoolRefused
from interlock_guard.decision.decide import (
    Allow,
    Decision,
    DecisionInput,
    Deny,
    DenyReason,
    find_source,
    reads_arguments,
)
from interlock_guard.output import LineOutput
from interlock_guard.work_counter import WorkCounter

TASK_KEY: Final = "interlock.dev/task"
"""Key of `params._meta` that names the task that the agent works on."""
TASK_HEADER: Final = "Interlock-Task"
"""The header that may say the same; `_meta` comes first."""
TRACE_KEY: Final = "traceparent"
"""Key of `params._meta` for the trace context, as MCP reserves it (SEP-414), and name of W3C's header."""

_MAX_TASK: Final = 256
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?\Z")
"""W3C Trace Context, section 3.2; a version that does not exist yet may add fields at the end."""
_NO_TRACE: Final = "0" * 32


@dataclass(slots=True)
class Caller:
    """The task and the trace that a request belongs to; empty where it names none."""

    task: str = ""
    trace: str = ""


UNKNOWN_CALLER: Final = Caller()
"""The caller of a request that names neither."""


def read_caller(meta: Any, headers: Mapping[str, str]) -> Caller:
    """Return what a request says of its caller: in `params._meta`, else in its headers; what is malformed is left out.

    Args:
        meta: `params._meta`, whatever it is.
        headers: The HTTP headers, case-insensitive.
    """
    said = meta if isinstance(meta, dict) else {}
    task = said.get(TASK_KEY, headers.get(TASK_HEADER, ""))
    trace = said.get(TRACE_KEY, headers.get(TRACE_KEY, ""))
    is_task = isinstance(task, str) and len(task) <= _MAX_TASK and task.isprintable()
    match = _TRACEPARENT.match(trace) if isinstance(trace, str) else None
    trace_id = "" if match is None or match.group(1) == _NO_TRACE else match.group(1)
    return Caller(task if is_task else "", trace_id)


REDACTED: Final = "[redacted]"
"""What stands in place of a value that the policy hides."""


def redact(arguments: Mapping[str, Any], pointers: Sequence[str]) -> dict[str, Any]:
    """Return the arguments without the values that the pointers name.

    Where a pointer cannot be followed to its end (a text or a list stands where it expects an object) the value at
    which it gets stuck is left out whole: what is to be hidden may be anywhere in it. A member that is not there hides
    nothing.

    Args:
        arguments: The arguments of a call; they are not changed.
        pointers: RFC 6901 pointers, each with at least one part.
    """
    result: Any = arguments
    for pointer in pointers:
        result = _hide(result, split_pointer(pointer))
    return result if isinstance(result, dict) else dict(result)


def _hide(value: Any, parts: Sequence[str]) -> Any:
    """Return the value with a copy of everything on the way to what is hidden."""
    if not parts:
        return REDACTED
    if isinstance(value, Mapping):
        return {**value, parts[0]: _hide(value[parts[0]], parts[1:])} if parts[0] in value else value
    if isinstance(value, list) and (index := parse_index(parts[0])) is not None:
        if index >= len(value):
            return value
        return [*value[:index], _hide(value[index], parts[1:]), *value[index + 1 :]]
    return value if value is None else REDACTED


STDOUT: Final = 1
MAX_ARGUMENTS: Final = 16 * 1024
"""Arguments that are longer than this, in bytes of JSON, are recorded by their digest alone."""

_MAX_TEXT: Final = 1024


class RecordFailed(Exception):  # noqa: N818 - says what happened to a record
    """The record could not be stored, so the action must not happen."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: the agent whose guard it is, and the guard."""

    agent: str
    guard: GuardId


class Recorder:
    """Writes the chain of this guard and counts its decisions."""

    def __init__(
        self,
        writer: Writer,
        spool: Spool,
        clock: Callable[[], datetime],
        descriptor: int = STDOUT,
        on_repeated: Callable[[RepeatedDenials], None] = lambda _: None,
    ) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        """Decisions by (decision, reason, source); the source is empty where the bundle has none of that name."""
        self.work = WorkCounter()
        """Counts what the gates of stages judge by."""
        self.unrecorded = 0
        """Denials, outcomes and tasks for which there was no room."""
        self._writer, self._guard = writer, writer.guard.text
        self.spool = spool
        self._clock = clock
        self._output = LineOutput(descriptor)
        self._head = Head()
        self._bundle: Bundle | None = None
        self._denials = DenialCounter()
        self._repetitions, self._on_repeated = RepetitionFinder(), on_repeated
        self._passes = RepetitionFinder()
        """Finds rules that would deny many requests, all of which pass in mode `Audit`."""

    @property
    def pod(self) -> str:
        """Name of the guard's pod."""
        return self._writer.guard.pod

    def record(
        self, bundle: Bundle | None, request: DecisionInput, decision: Decision, caller: Caller = UNKNOWN_CALLER
    ) -> int:
        """Record a decision and return the record's number; it survives the process when this returns.

        Of denials beyond the first ones of a minute of one rule, the number and digest are recorded later: they have
        no number of their own, and -1 is returned.

        Raises:
            RecordFailed: It cannot be stored; where it was to allow something, a denial is recorded in its place.
        """
        fields = _describe(request, decision, caller) | _arguments(bundle, request, decision)
        is_vital = isinstance(decision, Allow) and decision.tool is not None and decision.tool.operation != "read"
        verdict = fields["decision"], fields["reason"]
        served = None if request.model is not None else find_source(bundle, request.source)
        source = request.source if request.model is not None or served is not None else ""
        if served is not None and served.mode == "Audit":
            fields |= _mark(served, request, decision)
        try:
            self._begin(bundle)
            self.write_ended_denials()
            if isinstance(decision, Allow) and decision.would_deny is not None:
                rule = (fields["reason"], fields["rule"], source)
                if (repeated := self._passes.count(rule, self._clock())) is not None:
                    self._on_repeated(replace(repeated, is_audit=True))
            if isinstance(decision, Deny):
                rule, now = (fields["reason"], fields["rule"], source), self._clock()
                if (repeated := self._repetitions.count(rule, now)) is not None:
                    self._on_repeated(repeated)
                if self._denials.count(rule, self._place(bundle) | fields, now, _stamp(now)):
                    return -1
            return self._append(DECISION, self._place(bundle) | fields, is_vital=is_vital)
        except RecordFailed as error:
            if isinstance(decision, Allow):
                verdict = DENY, DenyReason.AUDIT_UNAVAILABLE.value
                denied = {"decision": verdict[0], "reason": verdict[1], "message": str(error)}
                self._try(DECISION, self._place(bundle) | fields | denied)
            else:
                self.unrecorded += 1
            raise
        finally:
            self.counts[*verdict, source] += 1

    def write_ended_denials(self) -> None:
        """Record the number and digest of denials whose minute has ended."""
        for fields in self._denials.take_ended(self._clock()):
            self._write_denials(fields)

    def write_all_denials(self) -> None:
        """Record the number and digest of all denials without a record: the bundle changes, or the guard ends."""
        for fields in self._denials.take_all():
            self._write_denials(fields)

    def _write_denials(self, fields: Mapping[str, Any]) -> None:
        try:
            self._append(DENIALS, fields)
        except RecordFailed:
            self.unrecorded += fields["count"]

    def complete(self, seq: int, outcome: str, latency_seconds: float, cost: Mapping[str, Any] | None = None) -> None:
        """Record how a forwarded request ended. Nothing depends on it: where there is no room it is only counted.

        Args:
            seq: The number that `record` returned.
            outcome: One stable word.
            latency_seconds: From the decision to the end.
            cost: What the request has cost, for one that the budget limits.
        """
        fields = {"of": seq, "outcome": outcome, "latencySeconds": round(latency_seconds, 6)}
        self._try(OUTCOME, fields | dict(cost or {}))

    def finish_task(self, bundle: Bundle | None, fields: Mapping[str, Any]) -> None:
        """Record how a task for the agent ended; as with the end of a call, it is only counted where there is no room.

        Args:
            bundle: The bundle that holds at its end.
            fields: The record's fields next to who, when and in which state of its rollout.
        """
        try:
            self._begin(bundle)
        except RecordFailed:
            self.unrecorded += 1
        else:
            self._try(TASK, self._place(bundle) | dict(fields))

    def refuse_task(self, bundle: Bundle | None, fields: Mapping[str, Any]) -> None:
        """Record that a task was refused. Beyond the first ones of a minute, refusals share a record, as denials do.

        Args:
            bundle: The bundle that holds.
            fields: The fields as those of a task that ended, of which `outcome` is the reason.
        """
        try:
            self._begin(bundle)
            self.write_ended_denials()
        except RecordFailed:
            self.unrecorded += 1
            return
        now, described = self._clock(), self._place(bundle) | dict(fields)
        if not self._denials.count((described["outcome"], "tasks", ""), described, now, _stamp(now)):
            self._try(TASK, described)

    def _begin(self, bundle: Bundle | None) -> None:
        """Start the chain with its first record, and say which bundle holds from here on where it is another one."""
        if bundle is not self._bundle:
            self.write_all_denials()
        named = "" if bundle is None or bundle is self._bundle else digest(dump_bundle(bundle))
        if self._head.next == 0:
            last = self.spool.last
            previous = None
            if last is not None:
                previous = {"guard": last.guard, "seq": last.seq, "hash": last.hash, "time": last.time}
            self._append(GENESIS, {"agent": self._writer.agent, "bundle": named, "previous": previous})
        elif named:
            self._append(BUNDLE, {"agent": self._writer.agent, "bundle": named})
        self._bundle = bundle

    def _place(self, bundle: Bundle | None) -> dict[str, str]:
        return {
            "agent": self._writer.agent,
            "namespace": self._writer.guard.namespace,
            "owner": "" if bundle is None else bundle.agent.owner or "",
            "revision": "" if bundle is None else bundle.revision,
            "stage": "" if bundle is None else bundle.stage,
            "environment": "" if bundle is None else bundle.environment,
        }

    def _try(self, kind: str, fields: Mapping[str, Any]) -> None:
        try:
            self._append(kind, fields)
        except RecordFailed:
            self.unrecorded += 1

    def _append(self, kind: str, fields: Mapping[str, Any], *, is_vital: bool = False) -> int:
        line, head = seal(self._guard, self._head, {"kind": kind, "time": _stamp(self._clock()), **fields})
        line += b"\n"
        self._check_output(len(line))
        try:
            self.spool.append(line, self._head.next, is_vital=is_vital)
        except SpoolRefused as error:
            raise RecordFailed(str(error)) from None
        seq, self._head = self._head.next, head
        try:
            self._output.write(line)
        except OSError as error:
            raise RecordFailed(f"cannot write a record: {error.strerror}") from None
        return seq

    def _check_output(self, size: int) -> None:
        """Refuse a record that standard output has no room for: its reader has stopped, and is not waited for."""
        try:
            has_room = self._output.has_room(size)
        except OSError as error:
            raise RecordFailed(f"cannot write a record: {error.strerror}") from None
        if not has_room:
            raise RecordFailed("standard output is not read: its queue is full")


def _stamp(time: datetime) -> str:
    return write_time(time, "milliseconds")


def _mark(source: BundleSource, request: DecisionInput, decision: Decision) -> dict[str, str]:
    """Return the fields that records of a source in mode `Audit` have besides: the mode, and what a suggestion needs.

    `binding` and `matrix` say where a call would be permitted: in the MCPBinding and in the access matrix. `missing` is
    the operation whose grant is missing, which the server may have raised to that of the record. `hint` is the
    operation that the server's annotations call for, of a tool that is not mapped.
    """
    if isinstance(decision, Deny) or decision.would_deny is None:
        return {"mode": "Audit"}
    marks = {"mode": "Audit", "binding": source.binding, "matrix": _clip(decision.rule)}
    ungranted = decision.would_deny.tool
    if ungranted is None:
        return {**marks, "hint": tightened_operation("read", request.annotations)}
    return {**marks, "missing": ungranted.operation}


def _describe(request: DecisionInput, decision: Decision, caller: Caller) -> dict[str, str]:
    denial = decision if isinstance(decision, Deny) else decision.would_deny
    verdict = DENY if isinstance(decision, Deny) else ALLOW if denial is None else WOULD_DENY
    return {
        "task": caller.task,
        "trace": caller.trace,
        "source": _clip(request.source),
        "method": _clip(request.method),
        "tool": _clip(request.tool or request.model or ""),
        "uri": _clip(request.uri or ""),
        "prompt": _clip(request.prompt or ""),
        "operation": "" if decision.tool is None else decision.tool.operation,
        "resource": "" if decision.tool is None else decision.tool.resource,
        "decision": verdict,
        "reason": "" if denial is None else denial.reason.value,
        "rule": _clip(decision.rule if denial is None else denial.rule),
        "message": "" if denial is None else _clip(denial.message),
    }


def _clip(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _arguments(bundle: Bundle | None, request: DecisionInput, decision: Decision) -> dict[str, Any]:
    """Return the digest of the arguments and, where the policy says so, what of them may be read.

    No work is spent on arguments that were not read before the request was denied.
    """
    if request.arguments is None or not reads_arguments(decision):
        return {"argumentsDigest": ""}
    digest_text = request.arguments_digest or digest_of(canonicalize(request.arguments))
    found: dict[str, Any] = {"argumentsDigest": digest_text}
    if bundle is not None and bundle.audit.arguments == "Redacted":
        visible = redact(request.arguments, bundle.audit.redact)
        if _is_short(visible) and len(dump_json(visible)) <= MAX_ARGUMENTS:
            found["arguments"] = visible
    return found


def _is_short(value: Any) -> bool:
    """Return False if a value's JSON is surely too long to be recorded, after a look at no more than that."""
    room = MAX_ARGUMENTS
    waiting = [value]
    while waiting and room > 0:
        one = waiting.pop()
        room -= len(one) + 1 if isinstance(one, str | list | Mapping) else 1
        if room > 0 and isinstance(one, list):
            waiting += one
        elif room > 0 and isinstance(one, Mapping):
            waiting += one.values()
            room -= sum(map(len, one))
    return room > 0
