"""Is a set of records whole? Each line, each chain, and what lines and others say about chains. No I/O.

What it proves: no line that is there was changed, put elsewhere or written by other hands in between, none is missing
between two that are there, and none after a point that somebody vouches for (an anchor). Who vouches: the genesis of
the guard's next start, what the collector noted of the chain, and a report of an earlier check.

What it cannot prove: that lines were not cut off behind the last anchor, or that a chain was not written anew, hashes
and all, from behind its last anchor on. A report that is kept out of reach of those who keep the records is an anchor.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from interlock_contract.audit_chain import (
    DECISION,
    GENESIS,
    ORIGIN,
    OUTCOME,
    Head,
    Line,
    LineInvalid,
    is_sequence,
    open_line,
)
from interlock_contract.canonical_json import is_digest

_HASH_BYTES: Final = 32
_DECIDED, _ENDED, _OTHER = b"d", b"e", b"o"


@dataclass(frozen=True, slots=True)
class ChainFinding:
    """Something that is not as it must be.

    Attributes:
        kind: One stable word.
        where: Where it was found: a file and line, or a chain and number.
        message: What it means, in one sentence.
    """

    kind: str
    where: str
    message: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """Somebody's word that a chain had a line of this number and hash."""

    guard: str
    seq: int
    hash: str
    by: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a chain begins here, since older lines were taken out on purpose.

    Attributes:
        next: The number of its first line.
        hash: That of the line before it.
    """

    next: int
    hash: str


@dataclass(slots=True)
class _Run:
    """Lines without a hole between them."""

    first: int
    hashes: bytearray = field(default_factory=bytearray)
    kinds: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Chain:
    """What was seen of one chain."""

    first: int
    head: Head
    runs: list[_Run] = field(default_factory=list)

    def hash_of(self, seq: int) -> str | None:
        """Return the hash of a line that was seen."""
        run, place = self._find(seq)
        return None if run is None else run.hashes[place * _HASH_BYTES : (place + 1) * _HASH_BYTES].hex()

    def add(self, line: Line) -> None:
        """Note a line that comes at or behind the end; what is left out in between is missing."""
        if not self.runs or line.seq != self.head.next:
            self.runs.append(_Run(line.seq))
        is_allowed = line.kind == DECISION and line.fields.get("decision") == "Allow"
        self.runs[-1].hashes += bytes.fromhex(line.hash)
        self.runs[-1].kinds += _DECIDED if is_allowed else _OTHER
        self.head = line.head

    def end(self, seq: int) -> bool:
        """Note that an allowed call has ended; return whether it is one that was still open."""
        run, place = self._find(seq)
        if run is None:
            return True  # nobody can tell: the line is missing
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
    """The result of a check."""

    lines: int
    chains: Mapping[str, Chain]
    findings: tuple[ChainFinding, ...]
    without_outcome: int
    """Allowed calls of which no end is recorded: under way, or their guard was ended. No finding."""


class ChainVerifier:
    """Takes lines in the order in which they are kept, and then says what is wrong with them.

    Args:
        anchors: What is known beforehand of chains.
        checkpoints: Where chains begin that were cut on purpose.
        is_part: The lines are a part of what there is (a log that was rotated): beginnings that are missing are no
            findings.
    """

    def __init__(
        self,
        anchors: Iterable[Anchor] = (),
        checkpoints: Mapping[str, Checkpoint] | None = None,
        *,
        is_part: bool = False,
    ) -> None:
        self._anchors = list(anchors)
        self._checkpoints = checkpoints or {}
        self._is_part = is_part
        self._chains: dict[str, Chain] = {}
        self._findings: list[ChainFinding] = []
        self._lines = 0

    def take(self, data: bytes, where: str) -> Line | None:
        """Take in one line, without its end; return it if it is sound in itself."""
        self._lines += 1
        try:
            line = open_line(data)
        except LineInvalid as error:
            self._find("Damaged", where, f"this is no line as a guard wrote it: {error}")
            return None
        chain = self._chains.get(line.guard)
        if chain is None:
            self._begin(line, where)
        elif line.seq < chain.head.next:
            self._take_late(chain, line, where)
        else:
            self._take_next(chain, line, where)
        return line

    def note(self, kind: str, where: str, message: str) -> None:
        """Add a finding of whoever reads the lines."""
        self._find(kind, where, message)

    def finish(self) -> ChainReport:
        """Compare with the anchors and return the result."""
        for anchor in self._anchors:
            self._compare(anchor)
        open_calls = sum(chain.open_calls for chain in self._chains.values())
        return ChainReport(self._lines, self._chains, tuple(self._findings), open_calls)

    def _find(self, kind: str, where: str, message: str) -> None:
        self._findings.append(ChainFinding(kind, where, message))

    def _begin(self, line: Line, where: str) -> None:
        checkpoint = self._checkpoints.get(line.guard, Checkpoint(0, ORIGIN))
        chain = self._chains[line.guard] = Chain(line.seq, Head(line.seq, line.prev))
        if line.seq > checkpoint.next and not self._is_part:
            missing = f"lines {checkpoint.next} to {line.seq - 1} of {line.guard}"
            self._find("Missing", where, f"{missing} are not there, this one is the first")
        elif line.seq <= checkpoint.next and (line.seq < checkpoint.next or line.prev != checkpoint.hash):
            self._find("Broken", where, f"line {line.seq} of {line.guard} does not follow on where the chain begins")
        self._accept(chain, line, where)

    def _take_next(self, chain: Chain, line: Line, where: str) -> None:
        if line.seq > chain.head.next:
            missing = f"lines {chain.head.next} to {line.seq - 1} of {line.guard}"
            self._find("Missing", where, f"{missing} are not there before line {line.seq}")
        elif line.prev != chain.head.hash:
            message = (
                f"line {line.seq} of {line.guard} does not follow on the line before: one of the two was rewritten"
            )
            self._find("Broken", where, message)
        self._accept(chain, line, where)

    def _take_late(self, chain: Chain, line: Line, where: str) -> None:
        known = chain.hash_of(line.seq)
        if known is None:
            self._find("Reordered", where, f"line {line.seq} of {line.guard} comes after line {chain.head.next - 1}")
        elif known == line.hash:
            self._find("Repeated", where, f"line {line.seq} of {line.guard} is there twice")
        else:
            self._find("Forked", where, f"line {line.seq} of {line.guard} is there twice, with different content")

    def _accept(self, chain: Chain, line: Line, where: str) -> None:
        if (line.kind == GENESIS) != (line.seq == 0):
            self._find("Broken", where, f"line {line.seq} of {line.guard} is of kind {line.kind}")
        if line.kind == GENESIS:
            self._take_previous(line, where)
        if line.kind == OUTCOME:
            self._take_outcome(chain, line, where)
        chain.add(line)

    def _take_previous(self, line: Line, where: str) -> None:
        previous: Any = line.fields.get("previous")
        if previous is None:
            return
        said = previous if isinstance(previous, dict) else {}
        guard, seq, last = said.get("guard"), said.get("seq"), said.get("hash")
        if isinstance(guard, str) and is_sequence(seq) and is_digest(last):
            self._anchors.append(Anchor(guard, seq, last, f"the genesis of {line.guard}"))
        else:
            self._find("Broken", where, f"the genesis of {line.guard} names no chain before it")

    def _take_outcome(self, chain: Chain, line: Line, where: str) -> None:
        decision = line.fields.get("of")
        if not is_sequence(decision) or decision >= line.seq:
            self._find("Broken", where, f"line {line.seq} of {line.guard} is the outcome of no decision")
        elif not chain.end(decision):
            message = f"line {line.seq} of {line.guard} is a second outcome, or that of what was not allowed"
            self._find("Broken", where, message)

    def _compare(self, anchor: Anchor) -> None:
        chain = self._chains.get(anchor.guard)
        where = f"{anchor.guard} {anchor.seq}"
        checkpoint = self._checkpoints.get(anchor.guard)
        if checkpoint is not None and anchor.seq < checkpoint.next:
            if anchor.seq == checkpoint.next - 1 and anchor.hash != checkpoint.hash:
                self._find("Contradicted", where, f"{anchor.by} says that this line had another hash")
        elif chain is None:
            if not self._is_part:
                self._find("Missing", where, f"{anchor.by} says that there was this line, but the chain is not there")
        elif anchor.seq >= chain.head.next:
            message = f"{anchor.by} says that there was this line, but the chain ends before it"
            self._find("Truncated", where, message)
        elif chain.hash_of(anchor.seq) not in (None, anchor.hash):
            self._find("Contradicted", where, f"{anchor.by} says that this line had another hash")
