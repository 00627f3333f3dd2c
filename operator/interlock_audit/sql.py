"""The store in SQL that SQLite and PostgreSQL both speak; what differs between them is in their own modules."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import takewhile
from typing import Any, Final, Protocol

from interlock_audit.stores import Accepted, Batch, ChainState, Fork, Gap, Query, Received, Stored
from interlock_contract.audit_chain import ORIGIN

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS chains (
    guard TEXT PRIMARY KEY, namespace TEXT NOT NULL, start BIGINT NOT NULL, start_hash TEXT NOT NULL,
    next BIGINT NOT NULL, head TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS records (
    guard TEXT NOT NULL, seq BIGINT NOT NULL, hash TEXT NOT NULL, time TEXT NOT NULL, namespace TEXT NOT NULL,
    agent TEXT NOT NULL, kind TEXT NOT NULL, decision TEXT NOT NULL, line TEXT NOT NULL, received TEXT NOT NULL,
    PRIMARY KEY (guard, seq))""",
    "CREATE INDEX IF NOT EXISTS records_by_agent ON records (namespace, agent, time, guard, seq)",
    "CREATE INDEX IF NOT EXISTS records_by_time ON records (time, guard, seq)",
)
_PRUNED_AT_ONCE: Final = 5000
_COLUMNS: Final = "guard, seq, time, namespace, agent, kind, decision, line"


class Cursor(Protocol):
    """As much of a database cursor (PEP 249) as is used here."""

    def execute(self, statement: Any, parameters: Sequence[Any] = ..., /) -> Any:
        """Run a statement."""

    def executemany(self, statement: Any, parameters: Iterable[Sequence[Any]], /) -> Any:
        """Run a statement once for each set of parameters."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""


class Database(Protocol):
    """What differs between the databases."""

    parameter: str
    """How a statement marks a parameter."""
    lock: str
    """What a SELECT ends with that keeps other writers from the row until the transaction ends."""

    def transaction(self) -> AbstractContextManager[Cursor]:
        """Return a transaction: committed where its block ends, rolled back where it raises.

        Raises:
            StoreUnavailable: Instead of any error of the database.
        """

    def close(self) -> None:
        """Let the database go."""


class SqlStore:
    """Keeps records in two tables: the lines, and where each chain begins and ends."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Let the database go; see `Store`."""
        self._database.close()

    def append(self, batch: Batch) -> Accepted | Gap | Fork:
        """Take a batch in, whole or not at all; see `Store`."""
        guard, first = batch.lines[0].line.guard, batch.lines[0].line
        with self._database.transaction() as cursor:
            next_seq, head = self._claim(cursor, guard, batch.namespace)
            forked = self._first_difference(cursor, batch, next_seq)
            if forked is not None:
                return Fork(forked)
            new = [received for received in batch.lines if received.line.seq >= next_seq]
            if not new:
                return Accepted(next_seq, 0)
            has_hole = first.seq > next_seq
            if has_hole and batch.lost != next_seq:
                return Gap(next_seq)
            if not has_hole and new[0].line.prev != head:
                return Fork(new[0].line.seq)
            self._insert(cursor, batch, new)
            after = new[-1].line.head
            self._run(cursor, "UPDATE chains SET next = ?, head = ? WHERE guard = ?", after.next, after.hash, guard)
        return Accepted(after.next, len(new), has_hole)

    def find(self, query: Query) -> list[Stored]:
        """Return records in the order of `Place`; see `Store`."""
        wanted = [
            ("namespace = ?", query.namespace),
            ("agent = ?", query.agent),
            ("guard = ?", query.guard),
            ("kind = ?", query.kind),
            ("decision = ?", query.decision),
            ("time >= ?", query.since),
            ("time < ?", query.until),
        ]
        conditions = [condition for condition, value in wanted if value]
        values: list[Any] = [value for _, value in wanted if value]
        if query.after is not None:
            conditions.append("(time, guard, seq) > (?, ?, ?)")
            values += [query.after.time, query.after.guard, query.after.seq]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        statement = f"SELECT {_COLUMNS} FROM records{where} ORDER BY time, guard, seq LIMIT ?"  # noqa: S608 - no values
        with self._database.transaction() as cursor:
            self._run(cursor, statement, *values, query.limit)
            return [Stored(*row) for row in cursor.fetchall()]

    def chains(self, namespace: str = "") -> list[ChainState]:
        """Return what is noted of chains; see `Store`."""
        where, values = (" WHERE namespace = ?", (namespace,)) if namespace else ("", ())
        columns = "guard, namespace, start, start_hash, next, head"
        with self._database.transaction() as cursor:
            self._run(cursor, f"SELECT {columns} FROM chains{where} ORDER BY guard", *values)  # noqa: S608 - no values
            return [ChainState(*row) for row in cursor.fetchall()]

    def lines(self, guard: str, start: int, limit: int) -> list[Stored]:
        """Return records of one chain from a number on; see `Store`."""
        statement = f"SELECT {_COLUMNS} FROM records WHERE guard = ? AND seq >= ? ORDER BY seq LIMIT ?"  # noqa: S608
        with self._database.transaction() as cursor:
            self._run(cursor, statement, guard, start, limit)
            return [Stored(*row) for row in cursor.fetchall()]

    def prune(self, before: str) -> int:
        """Take the beginning of one chain out; see `Store`."""
        # A guard's clock says nothing here: what counts is when a record was received.
        oldest = "SELECT received FROM records WHERE records.guard = chains.guard ORDER BY seq LIMIT 1"
        with self._database.transaction() as cursor:
            self._run(cursor, f"SELECT guard FROM chains WHERE ({oldest}) < ? LIMIT 1", before)  # noqa: S608
            found = cursor.fetchone()
            return 0 if found is None else self._prune_chain(cursor, found[0], before)

    def check(self) -> None:
        """Prove that the database answers; see `Store`."""
        with self._database.transaction() as cursor:
            self._run(cursor, "SELECT 1")
            cursor.fetchone()

    def _prune_chain(self, cursor: Cursor, guard: str, before: str) -> int:
        self._run(cursor, f"SELECT next FROM chains WHERE guard = ?{self._database.lock}", guard)  # noqa: S608
        columns = "seq, hash, received"
        self._run(cursor, f"SELECT {columns} FROM records WHERE guard = ? ORDER BY seq LIMIT ?", guard, _PRUNED_AT_ONCE)  # noqa: S608
        gone = list(takewhile(lambda row: row[2] < before, cursor.fetchall()))
        if gone:
            last, own, _ = gone[-1]
            self._run(cursor, "DELETE FROM records WHERE guard = ? AND seq <= ?", guard, last)
            checkpoint = "UPDATE chains SET start = ?, start_hash = ? WHERE guard = ?"
            self._run(cursor, checkpoint, last + 1, own, guard)
        return len(gone)

    def _claim(self, cursor: Cursor, guard: str, namespace: str) -> tuple[int, str]:
        """Return where a chain stands, and let no other writer change it before the transaction ends."""
        statement = "INSERT INTO chains VALUES (?, ?, 0, ?, 0, ?) ON CONFLICT (guard) DO NOTHING"
        self._run(cursor, statement, guard, namespace, ORIGIN, ORIGIN)
        self._run(cursor, f"SELECT next, head FROM chains WHERE guard = ?{self._database.lock}", guard)  # noqa: S608 - no values
        found: tuple[int, str] = cursor.fetchone()
        return found

    def _first_difference(self, cursor: Cursor, batch: Batch, next_seq: int) -> int | None:
        """Return the first number under which something else is held than the batch has."""
        known = {received.line.seq: received.line.hash for received in batch.lines if received.line.seq < next_seq}
        if not known:
            return None
        guard = batch.lines[0].line.guard
        self._run(cursor, "SELECT start FROM chains WHERE guard = ?", guard)
        (start,) = cursor.fetchone()
        statement = "SELECT seq, hash FROM records WHERE guard = ? AND seq >= ? AND seq <= ?"
        self._run(cursor, statement, guard, min(known), max(known))
        held = dict(cursor.fetchall())
        return next((seq for seq, own in sorted(known.items()) if seq >= start and held.get(seq) != own), None)

    def _insert(self, cursor: Cursor, batch: Batch, new: Sequence[Received]) -> None:
        statement = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)".replace("?", self._database.parameter)
        rows = (
            (
                received.line.guard,
                received.line.seq,
                received.line.hash,
                str(received.line.fields["time"]),
                batch.namespace,
                batch.agent,
                received.line.kind,
                str(received.line.fields.get("decision", "")),
                received.text,
                batch.received,
            )
            for received in new
        )
        cursor.executemany(statement, rows)

    def _run(self, cursor: Cursor, statement: str, *values: Any) -> None:
        cursor.execute(statement.replace("?", self._database.parameter), values)
