"""The interface of a store of audit records, for collector and verifier, independent of the database."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from interlock_audit.cost_sql import STEP, CostQuery, CostStep
from interlock_audit.quotas import Level, Usage
from interlock_contract.audit_chain import Line


class StoreUnavailable(Exception):  # noqa: N818 - says the state of a store
    """The database is unavailable or full, or refused. Nothing was done. The message says why."""


TOO_LONG: Final = "the search took too long: restrict it by agent, or by a shorter time from since to until"


@dataclass(frozen=True, slots=True)
class Received:
    """One line as it was received, and its parsed form."""

    text: str
    line: Line


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive lines of one chain.

    Attributes:
        namespace: Namespace of the guard.
        agent: The agent of the guard.
        lines: At least one.
        received: The time of receipt.
        lost: The first number that the guard declares as lost, up to the first line of the batch.
    """

    namespace: str
    agent: str
    lines: Sequence[Received]
    received: str
    lost: int | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The batch is committed: the store has all lines before `next`, of which `stored` are new."""

    next: int
    stored: int
    declares_gap: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """Lines from `next` on are missing before the batch. Nothing was stored."""

    next: int


@dataclass(frozen=True, slots=True)
class Fork:
    """The store has another line with this number, or with the number before. Nothing was stored."""

    seq: int


@dataclass(frozen=True, slots=True)
class OverQuota:
    """The batch would exceed a quota, whose level is given. Nothing was stored."""

    level: Level


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order in which records are listed: by time, then chain, then number."""

    time: str
    guard: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A selection of records. Empty texts and None do not restrict. `until` is exclusive, `after` continues a list."""

    namespace: str = ""
    agent: str = ""
    guard: str = ""
    kind: str = ""
    decision: str = ""
    since: str = ""
    until: str = ""
    after: Place | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored record. `text` is the line, the other fields are its index."""

    guard: str
    seq: int
    time: str
    namespace: str
    agent: str
    kind: str
    decision: str
    text: str

    @property
    def place(self) -> Place:
        """The place of the record in a list."""
        return Place(self.time, self.guard, self.seq)


@dataclass(frozen=True, slots=True)
class ChainState:
    """The beginning and end of a chain in the store.

    `start` and `start_hash` are 0 and the origin, until retention has deleted older lines.
    """

    guard: str
    namespace: str
    start: int
    start_hash: str
    next: int
    head: str


@dataclass(frozen=True, slots=True)
class ChainPage:
    """Some states of chains, and the `after` of the next page, None on the last."""

    chains: list[ChainState]
    next: str | None


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many records one step of retention has deleted, and the `after` of the next step, None after the last."""

    records: int
    next: str | None


MOST_LISTED: Final = 1000
"""Most records, or states of chains, in one answer of a store."""
MOST_BYTES: Final = 1024 * 1024
"""Bytes of lines after which an answer of a store has no further record."""


class Readable(Protocol):
    """The part of a store that a verifier needs. Every method may raise `StoreUnavailable`."""

    def chains(self, namespace: str = "", after: str = "") -> ChainPage:
        """Return a page of the states of all chains, or of those whose guards are in one namespace.

        A chain that has records, and no state, is on the last page as one without any line. No collector leaves such a
        chain.
        """

    def lines(self, guard: str, start: int, limit: int) -> list[Stored]:
        """Return records of one chain from a number on, in their order, and none after the last one."""


class Store(Readable, Protocol):
    """A store of records, used by one thread at a time. Every method but `close` may raise `StoreUnavailable`."""

    def append(self, batch: Batch) -> Accepted | Gap | Fork | OverQuota:
        """Store a batch, all of it or nothing. It is committed when this returns `Accepted`."""

    def find(self, query: Query) -> list[Stored]:
        """Return records in the order of `Place`, and none after the last one."""

    def costs(self, query: CostQuery, step: int = STEP) -> CostStep:
        """Return the sums of one step of a query over so many records; see `CostSource`."""

    def usage(self) -> list[Usage]:
        """Return what every agent has stored."""

    def prune(self, before: str, after: str = "") -> Pruned:
        """Delete the beginnings of some chains, as far as they were received before a time, and note the new ones.

        One step reads a page of chains and deletes some thousand records at most, since nothing else is stored during
        a step.

        Args:
            before: The time.
            after: The chain after which the step begins.
        """

    def free(self) -> float | None:
        """Return the part of the disk that is free, None if that is not the collector's."""

    def tidy(self) -> None:
        """Let the database free what only a moment without readers frees. No other thread may read meanwhile."""

    def check(self) -> None:
        """Check that the database answers."""

    def close(self) -> None:
        """Close the database."""


FIRST: Final = -(2**63)
"""The least number that a database can hold. Records below 0 are forged, and readers see them."""
LAST: Final = 2**63 - 1
"""The largest one."""


def all_chains(store: Readable, namespace: str = "") -> Iterator[ChainState]:
    """Yield the state of every chain, a page at a time."""
    after: str | None = ""
    while after is not None:
        page = store.chains(namespace, after)
        yield from page.chains
        after = page.next


def all_lines(store: Readable, guard: str, page: int = MOST_LISTED) -> Iterator[Stored]:
    """Yield every record that is filed under a chain, in order, a page at a time."""
    start = FIRST
    while found := store.lines(guard, start, page):
        yield from found
        if type(found[-1].seq) is not int:  # SQLite holds any type. A number that is none is a finding.
            return
        start = found[-1].seq + 1
