"""The reader of audit records for suggestions: which calls passed in mode Audit that the policy does not permit.

It reads JSON Lines, as guards print and store them, and answers of the collector to `/v1/records`. Everything in a
record was written by others. A field that has not the shape of its kind makes the record one that is not read, so what
is returned can be printed. Names of tools are the exception: an MCP server chooses them freely.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from interlock.api.messages import NAME, RESOURCE
from interlock_contract.audit_chain import DECISION, WOULD_DENY
from interlock_contract.bundle import Operation
from interlock_contract.strict_json import JsonInvalid, parse_json

LONGEST_LINE: Final = 4 * 1024 * 1024
"""Longest line that is read, in bytes: an answer of the collector has at most 1000 records, and 1 MiB of lines."""
MOST_CALLS: Final = 4096
"""Most different calls that are kept."""
_LONGEST_NAME: Final = 253
_LONGEST_TOOL: Final = 1024
_MAX_DEPTH: Final = 64
_OBJECT_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LABEL: Final = re.compile(NAME[1:-1])
_RESOURCE: Final = re.compile(RESOURCE[1:-1])
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_MATRIX: Final = re.compile(r"agentpolicy/([a-z0-9]([-a-z0-9.]*[a-z0-9])?)/dataAccess.*", re.DOTALL)
_LONGEST_RESOURCE: Final = 63
OPERATIONS: Final[tuple[Operation, ...]] = ("read", "write", "delete")


@dataclass(frozen=True, order=True)
class AuditedCall:
    """One kind of call that passed in mode Audit.

    Attributes:
        namespace: The namespace of the agent.
        agent: The agent.
        environment: The environment.
        source: The source.
        binding: The MCPBinding that serves it.
        policy: The AgentPolicy.
        tool: Name of a tool that is not mapped, as its server chose it; empty for a call that lacks a grant.
        hint: The operation that the annotations of such a tool call for.
        operations: The operations whose grants the call needs; empty for a tool that is not mapped.
        resource: The resource that they are needed for.
        is_narrowed: Whether the Agent's own permissions lack the grant.
    """

    namespace: str
    agent: str
    environment: str
    source: str
    binding: str
    policy: str
    tool: str = ""
    hint: Operation = "read"
    operations: tuple[Operation, ...] = ()
    resource: str = ""
    is_narrowed: bool = False


@dataclass
class Seen:
    """How often a call was seen, and when last."""

    count: int = 0
    last: str = ""

    def add(self, count: int, last: str) -> None:
        """Add more of the same."""
        self.count += count
        self.last = max(self.last, last)


@dataclass
class AuditLog:
    """What was read.

    Attributes:
        calls: The calls, each with how often it was seen.
        records: The number of records that passed in mode Audit.
        unread: The number of lines and records that were not understood.
        left_out: The number of records of calls beyond `MOST_CALLS`.
    """

    calls: dict[AuditedCall, Seen] = field(default_factory=dict)
    records: int = 0
    unread: int = 0
    left_out: int = 0

    def read(self, file: BinaryIO) -> None:
        """Read all records of a file, a line at a time."""
        for line in _lines(file):
            for record in self._records(line):
                self._add(record)

    def _records(self, line: bytes | None) -> Iterator[Any]:
        try:
            found = None if line is None else parse_json(line.decode(), max_depth=_MAX_DEPTH)
        except (JsonInvalid, UnicodeDecodeError):
            found = None
        if not isinstance(found, dict):
            self.unread += 1  # a line of the guard's log, or of another program
            return
        if not isinstance(found.get("records"), list):
            yield found
            return
        for one in found["records"]:
            text = one.get("line") if isinstance(one, dict) else None
            yield from self._records(text.encode(errors="replace") if isinstance(text, str) else None)

    def _add(self, record: dict[str, Any]) -> None:
        if record.get("kind") != DECISION or record.get("decision") != WOULD_DENY:
            return
        call, time = read_call(record), record.get("time")
        if call is None or not isinstance(time, str) or not _TIME.fullmatch(time):
            self.unread += 1
        elif call not in self.calls and len(self.calls) >= MOST_CALLS:
            self.left_out += 1
        else:
            self.records += 1
            self.calls.setdefault(call, Seen()).add(1, time)


def read_call(record: dict[str, Any]) -> AuditedCall | None:
    """Return the call that a record of mode Audit is about; None where the record is not as a guard writes it."""
    labels = {name: record.get(name) for name in ("namespace", "environment", "source")}
    objects = {name: record.get(name) for name in ("agent", "binding")}
    matrix = record.get("matrix")
    rule = _MATRIX.fullmatch(matrix) if isinstance(matrix, str) else None
    if rule is None or not all(_is(_LABEL, one) for one in labels.values()):
        return None
    if not all(_is(_OBJECT_NAME, one) for one in objects.values()):
        return None
    common: dict[str, Any] = {**labels, **objects, "policy": rule[1][:_LONGEST_NAME]}
    if record.get("reason") == "ToolNotMapped":
        tool, hint = record.get("tool"), record.get("hint")
        is_tool = isinstance(tool, str) and 0 < len(tool) <= _LONGEST_TOOL
        return AuditedCall(**common, tool=str(tool), hint=hint) if is_tool and hint in OPERATIONS else None
    operations, resource = [record.get("operation"), record.get("missing")], record.get("resource")
    if not all(one in OPERATIONS for one in operations) or not _is(_RESOURCE, resource, _LONGEST_RESOURCE):
        return None
    return AuditedCall(
        **common,
        operations=tuple(one for one in OPERATIONS if one in operations),
        resource=str(resource),
        is_narrowed=record.get("reason") == "NotGrantedByAgent",
    )


def merge_seen(seen: Iterable[Seen]) -> Seen:
    """Return several counts together."""
    total = Seen()
    for one in seen:
        total.add(one.count, one.last)
    return total


def _is(shape: re.Pattern[str], value: Any, longest: int = _LONGEST_NAME) -> bool:
    return isinstance(value, str) and len(value) <= longest and shape.fullmatch(value) is not None


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines that are not empty; None for one that is too long, of which no more than that is kept."""
    is_rest = False
    while line := file.readline(LONGEST_LINE):
        is_whole = line.endswith(b"\n") or len(line) < LONGEST_LINE
        if not is_rest and line.strip():
            yield line if is_whole else None
        is_rest = not is_whole
