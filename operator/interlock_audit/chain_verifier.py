"""The chain verifier: it checks each line, each chain, and each anchor of a set of audit records. No I/O.

An anchor states that a chain had a line with a number and a hash. Anchors are the genesis of the guard's next start,
the collector's note of the chain, and the report of an earlier check.

The verifier proves that no line present was changed, moved or inserted, that none is missing between two that are
present, and that none is missing before an anchor. The verifier cannot prove that no line after the last anchor was
cut off, or that a chain was not rewritten from there on, hashes included. A report that the people who store the
records cannot change is an anchor.

Retention deletes the beginnings of chains, and leaves a checkpoint that anyone with access to the database can forge.
The first line present states the time of the line before it, and its hash covers that time. A line before it that is
younger than retention allows was deleted by something else.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Final

from interlock_contract.audit_chain import (
    DECISION,
    FORWARDED,
    GENESIS,
    ORIGIN,
    OUTCOME,
    Head,
    Line,
    LineInvalid,
    is_sequence,
    open_line,
    read_previous,
)
from interlock_contract.clock import read_time

_HASH_BYTES: Final = 32
_DECIDED, _ENDED, _OTHER = b"d", b"e", b"o"


@dataclass(frozen=True, slots=True)
class ChainFinding:
    """A fault of the records.

    Attributes:
        kind: The stable name of the fault.
        where: Where it was found: a file and line, or a chain and number.
        message: Its meaning, in one sentence.
    """

    kind: str
    where: str
    message: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """A statement that a chain had a line with this number, hash and time, and who made it. No time: unknown."""

    guard: str
    seq: int
    hash: str
    by: str
    time: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The beginning of a chain whose older lines were deleted.

    Attributes:
        next: The number of its first line.
        hash: The hash of the line before it.
    """

    next: int
    hash: str


@dataclass(slots=True)
class _Run:
    """Consecutive lines, without a gap."""

    first: int
    hashes: bytearray = field(default_factory=bytearray)
    kinds: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Chain:
    """The lines seen of one chain.

    Attributes:
        beginning: The number of its first line, and the hash of the line before it.
        head: Its end.
    """

    beginning: Checkpoint
    head: Head
    runs: list[_Run] = field(default_factory=list)

    def hash_of(self, seq: int) -> str | None:
        """Return the hash of a line, None if the line was not seen."""
        run, place = self._find(seq)
        return None if run is None else run.hashes[place * _HASH_BYTES : (place + 1) * _HASH_BYTES].hex()

    def add(self, line: Line) -> None:
        """Add a line at the end or after it. Lines in between are missing."""
        if not self.runs or line.seq != self.head.next:
            self.runs.append(_Run(line.seq))
        is_allowed = line.kind == DECISION and line.fields.get("decision") in FORWARDED
        self.runs[-1].hashes += bytes.fromhex(line.hash)
        self.runs[-1].kinds += _DECIDED if is_allowed else _OTHER
        self.head = line.head

    def end(self, seq: int) -> bool:
        """Mark an allowed call as ended. Return True if it was open, or if its line is missing."""
        run, place = self._find(seq)
        if run is None:
            return True  # unknown, because the line is missing
        was_open = run.kinds[place : place + 1] == _DECIDED
        run.kinds[place : place + 1] = _ENDED
        return was_open

    @property
    def open_calls(self) -> int:
        """Allowed calls without an outcome."""
        return sum(run.kinds.count(_DECIDED) for run in self.runs)

    def _find(self, seq: int) -> tuple[_Run | None, int]:
        index = bisect_right(self.runs, seq, key=attrgetter("first")) - 1
        if index < 0 or seq - self.runs[index].first >= len(self.runs[index].kinds):
            return None, 0
        return self.runs[index], seq - self.runs[index].first


@dataclass(frozen=True, slots=True)
class ChainReport:
    """The result of a verification."""

    lines: int
    chains: Mapping[str, Chain]
    emptied: Mapping[str, Checkpoint]
    """The ends of chains of which no line is left, as the store of the lines states them."""
    findings: tuple[ChainFinding, ...]
    without_outcome: int
    """Allowed calls without a recorded outcome: still open, or their guard ended. No finding."""


class ChainVerifier:
    """A verification: it takes lines in the order in which they are stored, and then reports faults.

    Args:
        anchors: Statements about the chains from elsewhere.
        checkpoints: The beginnings of chains whose older lines were deleted, as the store of the lines states them.
        known: The beginnings of chains that an earlier report states. No proof of their age is needed.
        kept_since: The time since when retention has deleted no line. None if retention never deletes.
        is_part: True if the lines are only a part (a rotated log), so that missing beginnings are no findings.
    """

    def __init__(
        self,
        anchors: Iterable[Anchor] = (),
        checkpoints: Mapping[str, Checkpoint] | None = None,
        *,
        known: Mapping[str, Checkpoint] | None = None,
        kept_since: datetime | None = None,
        is_part: bool = False,
    ) -> None:
        self._anchors = list(anchors)
        self._checkpoints = dict(checkpoints or {})
        self._known = known or {}
        self._kept_since = kept_since
        self._is_part = is_part
        self._chains: dict[str, Chain] = {}
        self._findings: list[ChainFinding] = []
        self._lines = 0

    def add_line(self, data: bytes, where: str) -> Line | None:
        """Add one line, without its line break. Return it if it is valid by itself."""
        self._lines += 1
        try:
            line = open_line(data)
        except LineInvalid as error:
            self.add_finding("Damaged", where, f"the line is not as a guard wrote it: {error}")
            return None
        chain = self._chains.get(line.guard)
        if chain is None:
            self._begin(line, where)
        elif line.seq < chain.head.next:
            self._add_late(chain, line, where)
        else:
            self._add_next(chain, line, where)
        return line

    def move_beginning(self, guard: str, checkpoint: Checkpoint) -> None:
        """Take another beginning of a chain, of which no line was added yet: retention has deleted lines meanwhile."""
        self._checkpoints[guard] = checkpoint

    def add_finding(self, kind: str, where: str, message: str) -> None:
        """Add a fault of the records."""
        self._findings.append(ChainFinding(kind, where, message))

    def finish(self) -> ChainReport:
        """Compare with the anchors and return the result."""
        for anchor in self._anchors:
            self._compare(anchor)
        open_calls = sum(chain.open_calls for chain in self._chains.values())
        emptied = {guard: one for guard, one in self._checkpoints.items() if guard not in self._chains}
        return ChainReport(self._lines, self._chains, emptied, tuple(self._findings), open_calls)

    def _begin(self, line: Line, where: str) -> None:
        checkpoint = self._checkpoints.get(line.guard, Checkpoint(0, ORIGIN))
        beginning = Checkpoint(line.seq, line.prev)
        chain = self._chains[line.guard] = Chain(beginning, Head(line.seq, line.prev, line.prev_time))
        if line.seq > checkpoint.next and not self._is_part:
            missing = f"lines {checkpoint.next} to {line.seq - 1} of {line.guard}"
            self.add_finding("Missing", where, f"{missing} are missing, this line is the first")
        elif line.seq <= checkpoint.next and (line.seq < checkpoint.next or line.prev != checkpoint.hash):
            self.add_finding(
                "Broken", where, f"line {line.seq} of {line.guard} does not continue from the beginning of the chain"
            )
        elif line.seq and beginning == checkpoint and beginning != self._known.get(line.guard):
            self._check_age(line.prev_time, where, f"the line before line {line.seq} of {line.guard}")
        self._accept(chain, line, where)

    def _check_age(self, time: str, where: str, what: str) -> None:
        """Report a line that was deleted before retention would have deleted it."""
        if self._kept_since is None:
            self.add_finding("Removed", where, f"{what} was deleted, but retention deletes none")
        elif read_time(time, self._kept_since) >= self._kept_since:
            message = f"{what}, written at {time or 'an unknown time'}, was deleted before retention would have done so"
            self.add_finding("Removed", where, message)

    def _add_next(self, chain: Chain, line: Line, where: str) -> None:
        if line.seq > chain.head.next:
            missing = f"lines {chain.head.next} to {line.seq - 1} of {line.guard}"
            self.add_finding("Missing", where, f"{missing} are missing before line {line.seq}")
        elif (line.prev, line.prev_time) != (chain.head.hash, chain.head.time):
            message = f"line {line.seq} of {line.guard} does not continue the line before: one of the two was rewritten"
            self.add_finding("Broken", where, message)
        self._accept(chain, line, where)

    def _add_late(self, chain: Chain, line: Line, where: str) -> None:
        known = chain.hash_of(line.seq)
        if known is None:
            self.add_finding(
                "Reordered", where, f"line {line.seq} of {line.guard} comes after line {chain.head.next - 1}"
            )
        elif known == line.hash:
            self.add_finding("Repeated", where, f"line {line.seq} of {line.guard} is present twice")
        else:
            self.add_finding(
                "Forked", where, f"line {line.seq} of {line.guard} is present twice, with different content"
            )

    def _accept(self, chain: Chain, line: Line, where: str) -> None:
        if (line.kind == GENESIS) != (line.seq == 0):
            self.add_finding("Broken", where, f"line {line.seq} of {line.guard} has the wrong kind {line.kind}")
        if line.kind == GENESIS:
            self._add_anchor(line, where)
        if line.kind == OUTCOME:
            self._end_call(chain, line, where)
        chain.add(line)

    def _add_anchor(self, line: Line, where: str) -> None:
        try:
            previous = read_previous(line)
        except LineInvalid as error:
            self.add_finding("Broken", where, f"line {line.seq} of {line.guard} is invalid: {error}")
            return
        if previous is not None:
            guard, end = previous
            self._anchors.append(Anchor(guard, end.next - 1, end.hash, f"the genesis of {line.guard}", end.time))

    def _end_call(self, chain: Chain, line: Line, where: str) -> None:
        decision = line.fields.get("of")
        if not is_sequence(decision) or decision >= line.seq:
            self.add_finding("Broken", where, f"line {line.seq} of {line.guard} is the outcome of no earlier decision")
        elif not chain.end(decision):
            message = (
                f"line {line.seq} of {line.guard} is a second outcome, or the outcome of a call that was not allowed"
            )
            self.add_finding("Broken", where, message)

    def _compare(self, anchor: Anchor) -> None:
        chain = self._chains.get(anchor.guard)
        where = f"{anchor.guard} {anchor.seq}"
        checkpoint = self._checkpoints.get(anchor.guard)
        if checkpoint is not None and anchor.seq < checkpoint.next:
            if anchor.seq == checkpoint.next - 1 and anchor.hash != checkpoint.hash:
                self.add_finding("Contradicted", where, f"{anchor.by} names another hash for this line")
            if anchor.time and checkpoint != self._known.get(anchor.guard):
                self._check_age(anchor.time, where, f"the line that {anchor.by} names")
        elif chain is None:
            if not self._is_part:
                self.add_finding("Missing", where, f"{anchor.by} names this line, but the chain is missing")
        elif anchor.seq >= chain.head.next:
            message = f"{anchor.by} names this line, but the chain ends before it"
            self.add_finding("Truncated", where, message)
        elif chain.hash_of(anchor.seq) not in (None, anchor.hash):
            self.add_finding("Contradicted", where, f"{anchor.by} names another hash for this line")
