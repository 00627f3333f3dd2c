"""What a store of records must do, whatever database it is: the one interface of collector and verifier to it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from interlock_contract.audit_chain import Line


class StoreUnavailable(Exception):  # noqa: N818 - says the state of a store
    """The database is not there, is full or refuses; nothing of what was asked for was done. The message says why."""


@dataclass(frozen=True, slots=True)
class Received:
    """One line as it came in, and what it says."""

    text: str
    line: Line


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of one chain that follow on each other.

    Attributes:
        namespace: Of the guard.
        agent: Whose guard it is.
        lines: At least one.
        received: When the collector took it in.
        lost: The number from which on up to the first line nobody has the lines any more, as the guard declares.
    """

    namespace: str
    agent: str
    lines: Sequence[Received]
    received: str
    lost: int | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The batch is committed: everything before line `next` is held, and `stored` lines of it are new."""

    next: int
    stored: int
    has_hole: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """Lines from `next` on are missing before the batch; nothing was stored."""

    next: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Another line of this number is held, or one that it does not follow on; nothing was stored."""

    seq: int


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order in which records are listed: by time, then chain, then number."""

    time: str
    guard: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which records; empty words and None do not restrict. `until` is exclusive, and `after` where to go on."""

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
    """One record as it is kept; `text` is the line, the rest is what it was filed under."""

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
        """Where it stands in a list."""
        return Place(self.time, self.guard, self.seq)


@dataclass(frozen=True, slots=True)
class ChainState:
    """What is noted of a chain: where it begins here, and where it ends.

    `start` and `start_hash` are 0 and the origin, until retention has taken older lines out.
    """

    guard: str
    namespace: str
    start: int
    start_hash: str
    next: int
    head: str


class Readable(Protocol):
    """As much of a store as a verifier needs; every method may raise `StoreUnavailable`."""

    def chains(self, namespace: str = "") -> list[ChainState]:
        """Return what is noted of all chains, or of those of one namespace."""

    def lines(self, guard: str, start: int, limit: int) -> list[Stored]:
        """Return records of one chain from a number on, in their order."""


class Store(Readable, Protocol):
    """Keeps records. One thread uses it at a time; every method but `close` may raise `StoreUnavailable`."""

    def append(self, batch: Batch) -> Accepted | Gap | Fork:
        """Take a batch in, whole or not at all; it is committed when this returns `Taken`."""

    def find(self, query: Query) -> list[Stored]:
        """Return records in the order of `Place`."""

    def prune(self, before: str) -> int:
        """Take the beginning of one chain out, as far as it was received before a time, and note where it then begins.

        Returns:
            How many records went, some thousands at most; 0 once there is nothing left to take out.
        """

    def check(self) -> None:
        """Prove that the database answers."""

    def close(self) -> None:
        """Let the database go."""


def all_lines(store: Readable, guard: str, page: int = 1000) -> Iterator[Stored]:
    """Yield every record of a chain in order, a page at a time."""
    start = 0
    while found := store.lines(guard, start, page):
        yield from found
        start = found[-1].seq + 1
