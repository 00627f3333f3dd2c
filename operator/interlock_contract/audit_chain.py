"""The hash chain of one guard process: the writer and the parser of its lines. No I/O.

A line is a JSON object that starts with the chain's guard, its sequence number, and the hash and time of the line
before, and ends with its own hash: the SHA-256 of everything in front of `,"hash":`. The hash is that of the text
itself, so a verifier needs no second rule of how JSON is written. Line 0 is the genesis and continues `ORIGIN`.

The time of the line before shows how old that line was, after retention has deleted it.

Collector and verifier read lines with this module, too.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from interlock_contract.canonical_json import is_digest
from interlock_contract.strict_json import JsonInvalid, dump_json, parse_json

ORIGIN: Final = "0" * 64
"""What line 0 names as the hash of the line before."""
MAX_LINE: Final = 64 * 1024
"""Longest line in bytes, without its end."""

GENESIS: Final = "genesis"
"""Kind of line 0: who writes, since when, and what the last chain of this guard was that it knows of."""
BUNDLE: Final = "bundle"
"""Kind of the line that says which bundle is obeyed from here on."""
DECISION: Final = "decision"
"""Kind of the line that says what was decided on one request, written before anything is forwarded."""
OUTCOME: Final = "outcome"
"""Kind of the line that says how a forwarded request ended; its `of` is the decision's sequence number."""
TASK: Final = "task"
"""Kind of the line that says how a task for the agent ended; it is written at its end."""
DENIALS: Final = "denials"
"""Kind of the line that stands for denials of one rule beyond the first ones of a minute: their number and digest."""
ALLOW: Final = "Allow"
"""The decision on a request that the policy permits."""
DENY: Final = "Deny"
"""The decision on a request that is refused."""
WOULD_DENY: Final = "WouldDeny"
"""The decision on a request that the policy does not permit, and that passed because its source is in mode `Audit`."""
FORWARDED: Final = frozenset({ALLOW, WOULD_DENY})
"""The decisions on requests that were forwarded, so that an outcome follows."""
KINDS: Final = frozenset({GENESIS, BUNDLE, DECISION, OUTCOME, TASK, DENIALS})

_HASH_LENGTH: Final = len(',"hash":""}') + 64
_GUARD: Final = re.compile(r"[a-z0-9][-a-z0-9]{0,62}/[a-z0-9][-a-z0-9.]{0,252}/[0-9a-f]{16}\Z")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")
_MAX_SEQUENCE: Final = 2**53


class LineInvalid(ValueError):  # noqa: N818 - says the state of a line, like JsonInvalid
    """The bytes are no line of a chain; the message says why."""


@dataclass(frozen=True, slots=True)
class GuardId:
    """Who writes a chain: one start (`incarnation`) of the guard of one pod."""

    namespace: str
    pod: str
    incarnation: str

    @property
    def text(self) -> str:
        """The identity as lines spell it."""
        return f"{self.namespace}/{self.pod}/{self.incarnation}"


@dataclass(slots=True)
class Head:
    """Where a chain stands: the sequence number of its next line, and the hash and time of its last."""

    next: int = 0
    hash: str = ORIGIN
    time: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is sound in itself: it is what its own hash says."""

    guard: str
    seq: int
    prev: str
    prev_time: str
    hash: str
    fields: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What the line records; one of `KINDS`."""
        return str(self.fields["kind"])

    @property
    def time(self) -> str:
        """When the line was written, by the guard's clock."""
        return str(self.fields["time"])

    @property
    def head(self) -> Head:
        """Where the chain stands after this line."""
        return Head(self.seq + 1, self.hash, self.time)


def seal(guard: str, head: Head, fields: Mapping[str, Any]) -> tuple[bytes, Head]:
    """Return the next line of a chain, without its end, and where the chain then stands.

    Args:
        guard: The chain's guard.
        head: Where the chain stands.
        fields: The other members of the line, `kind` and `time` among them.
    """
    before = {"guard": guard, "seq": head.next, "prev": head.hash, "prevTime": head.time}
    covered = dump_json({**before, **fields})[:-1]
    own = hashlib.sha256(covered).hexdigest()
    return b'%b,"hash":"%b"}' % (covered, own.encode()), Head(head.next + 1, own, str(fields["time"]))


def open_line(data: bytes) -> Line:
    """Take a line apart, and check it against its own hash.

    Raises:
        LineInvalid: It was changed, or never was a line of a chain.
    """
    if len(data) > MAX_LINE:
        raise LineInvalid(f"longer than {MAX_LINE} bytes")
    covered, tail = data[:-_HASH_LENGTH], data[-_HASH_LENGTH:]
    own = hashlib.sha256(covered).hexdigest()
    if tail != b',"hash":"%b"}' % own.encode():
        raise LineInvalid("its hash is not that of its content")
    try:
        fields = parse_json(data)
    except JsonInvalid as error:
        raise LineInvalid(str(error)) from None
    return _check(fields, own)


def parse_guard(text: str) -> GuardId:
    """Take a guard's identity apart.

    Raises:
        LineInvalid: It is none.
    """
    if _GUARD.match(text) is None:
        raise LineInvalid("names no guard as namespace/pod/incarnation")
    return GuardId(*text.split("/"))


def read_previous(line: Line) -> tuple[str, Head] | None:
    """Return the end of the chain of an earlier guard of this pod, as a genesis names it, None if it names none.

    Raises:
        LineInvalid: It names a chain of another pod, on which a guard must not make a statement, or none at all.
    """
    previous: Any = line.fields.get("previous")
    if previous is None:
        return None
    said = previous if isinstance(previous, dict) else {}
    guard, seq, last, time = (said.get(name) for name in ("guard", "seq", "hash", "time"))
    if not (isinstance(guard, str) and is_sequence(seq) and is_digest(last) and _is_time(time)):
        raise LineInvalid("its genesis names an invalid chain before it")
    earlier, own = parse_guard(guard), parse_guard(line.guard)
    if (earlier.namespace, earlier.pod) != (own.namespace, own.pod):
        raise LineInvalid("its genesis names a chain of another pod")
    return guard, Head(seq + 1, last, time)


def is_sequence(value: Any) -> TypeGuard[int]:
    """Say whether a value can be the number of a line."""
    return type(value) is int and 0 <= value < _MAX_SEQUENCE


def _is_time(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and _TIME.match(value) is not None


def _check(fields: Any, own: str) -> Line:
    if not isinstance(fields, dict):
        raise LineInvalid("not an object")
    guard, seq, prev = fields.get("guard"), fields.get("seq"), fields.get("prev")
    if not isinstance(guard, str) or _GUARD.match(guard) is None:
        raise LineInvalid("names no guard as namespace/pod/incarnation")
    if not is_sequence(seq) or not is_digest(prev):
        raise LineInvalid("has no sequence number or no previous hash")
    if not isinstance(fields.get("kind"), str) or fields["kind"] not in KINDS or not _is_time(fields.get("time")):
        raise LineInvalid("has no time or no known kind")
    prev_time = fields.get("prevTime")
    if prev_time != "" and not _is_time(prev_time):
        raise LineInvalid("has no time of the line before")
    if not isinstance(fields.get("decision", ""), str):
        raise LineInvalid("has a decision that is no word")
    return Line(guard=guard, seq=seq, prev=prev, prev_time=prev_time, hash=own, fields=fields)
