"""The store of audit records in the SQL that SQLite and PostgreSQL share. Differences are in their own modules."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import takewhile
from typing import Any, Final, Protocol

from interlock_audit.cost_sql import STEP, CostQuery, CostStatements, CostStep, JsonSql, read_cost
from interlock_audit.quotas import NO_QUOTAS, ROW_BYTES, Level, Quotas, Usage, find_levels
from interlock_audit.stores import (
    MOST_BYTES,
    MOST_LISTED,
    Accepted,
    Batch,
    ChainPage,
    ChainState,
    Fork,
    Gap,
    OverQuota,
    Pruned,
    Query,
    Received,
    Stored,
)
from interlock_contract.audit_chain import ORIGIN

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS chains (
    guard TEXT PRIMARY KEY, namespace TEXT NOT NULL, start BIGINT NOT NULL, start_hash TEXT NOT NULL,
    next BIGINT NOT NULL, head TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS records (
    guard TEXT NOT NULL, seq BIGINT NOT NULL, hash TEXT NOT NULL, time TEXT NOT NULL, namespace TEXT NOT NULL,
    agent TEXT NOT NULL, kind TEXT NOT NULL, decision TEXT NOT NULL, line TEXT NOT NULL, received TEXT NOT NULL,
    PRIMARY KEY (guard, seq))""",
    """CREATE TABLE IF NOT EXISTS usage (
    namespace TEXT NOT NULL, agent TEXT NOT NULL, bytes BIGINT NOT NULL, PRIMARY KEY (namespace, agent))""",
    "CREATE INDEX IF NOT EXISTS records_by_agent ON records (namespace, agent, time, guard, seq)",
    "CREATE INDEX IF NOT EXISTS records_by_namespace ON records (namespace, time, guard, seq)",
    "CREATE INDEX IF NOT EXISTS records_by_time ON records (time, guard, seq)",
    # A database from before there were quotas:
    f"""INSERT INTO usage SELECT namespace, agent, SUM({{octets}} + {ROW_BYTES}) FROM records
    WHERE NOT EXISTS (SELECT 1 FROM usage) GROUP BY namespace, agent""",  # noqa: S608 - no values
)
"""Statements that create what is missing; `{octets}` is `Database.octets`."""
_PRUNED_AT_ONCE: Final = 2000
"""Most records that one step of retention deletes, and most chains that it reads."""
_CHAINS: Final = """SELECT guard, namespace, start, start_hash, next, head FROM chains
WHERE guard > ? AND substr(guard, 1, ?) = ? ORDER BY guard LIMIT ?"""
_UNNOTED: Final = """WITH RECURSIVE filed(guard) AS (
    SELECT MIN(guard) FROM records
    UNION ALL SELECT (SELECT MIN(guard) FROM records WHERE records.guard > filed.guard) FROM filed
    WHERE filed.guard IS NOT NULL)
SELECT guard FROM filed
WHERE NOT EXISTS (SELECT 1 FROM chains WHERE chains.guard = filed.guard) AND substr(guard, 1, ?) = ? LIMIT ?"""
"""Chains that have records alone. One step in the index of records per chain finds these."""
_BEGINNINGS: Final = """SELECT guard,
    (SELECT received FROM records WHERE records.guard = chains.guard ORDER BY seq LIMIT 1)
FROM chains WHERE guard > ? ORDER BY guard LIMIT ?"""
"""When the first record of each chain was received. A guard's clock may be wrong, so the time of receipt counts."""
_COLUMNS: Final = "guard, seq, time, namespace, agent, kind, decision, line"


class Cursor(Protocol):
    """The part of a database cursor (PEP 249) that the store uses."""

    def execute(self, statement: Any, parameters: Sequence[Any] = ..., /) -> Any:
        """Run a statement."""

    def executemany(self, statement: Any, parameters: Iterable[Sequence[Any]], /) -> Any:
        """Run a statement once for each set of parameters."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return all remaining rows."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the remaining rows."""


class Database(Protocol):
    """The differences between the databases."""

    parameter: str
    """The mark of a parameter in a statement."""
    lock: str
    """The end of a SELECT that locks the row for other writers until the transaction ends."""
    octets: str
    """The length of a record's line in bytes, in a statement."""

    @property
    def json(self) -> JsonSql:
        """The expressions that read a record's line."""

    def transaction(self) -> AbstractContextManager[Cursor]:
        """Return a transaction, committed if its block ends, rolled back if it raises.

        Raises:
            StoreUnavailable: Instead of any error of the database.
        """

    def check_room(self) -> None:
        """Check that the database may grow.

        Raises:
            StoreUnavailable: What is left of its disk is for retention, which must write to delete.
        """

    def free(self) -> float | None:
        """Return the part of the disk that is free; see `Store`."""

    def tidy(self) -> None:
        """Free what only a moment without readers frees; see `Store`."""

    def close(self) -> None:
        """Close the database."""


class SqlStore:
    """A store in two tables: the lines, and the beginning and end of each chain."""

    def __init__(self, database: Database, quotas: Quotas = NO_QUOTAS) -> None:
        self._database, self._quotas = database, quotas

    def close(self) -> None:
        """Close the database; see `Store`."""
        self._database.close()

    def append(self, batch: Batch) -> Accepted | Gap | Fork | OverQuota:
        """Store a batch, all of it or nothing; see `Store`."""
        self._database.check_room()
        guard = batch.lines[0].line.guard
        with self._database.transaction() as cursor:
            next_seq, head = self._claim(cursor, guard, batch.namespace)
            result = self._append(cursor, batch, next_seq, head)
            if not isinstance(result, Accepted):
                self._unclaim(cursor, guard)
        return result

    def _append(self, cursor: Cursor, batch: Batch, next_seq: int, head: str) -> Accepted | Gap | Fork | OverQuota:
        """Store a batch behind a chain that ends before `next_seq`."""
        first = batch.lines[0].line
        forked = self._first_difference(cursor, batch, next_seq)
        if forked is not None:
            return Fork(forked)
        new = [received for received in batch.lines if received.line.seq >= next_seq]
        if not new:
            return Accepted(next_seq, 0)
        declares_gap = first.seq > next_seq
        if declares_gap and batch.lost != next_seq:
            return Gap(next_seq)
        if not declares_gap and new[0].line.prev != head:
            return Fork(new[0].line.seq)
        size = sum(len(received.text.encode()) + ROW_BYTES for received in new)
        level = self._exceeded(cursor, batch, size)
        if level is not None:
            return OverQuota(level)
        self._insert(cursor, batch, new)
        self._add_usage(cursor, batch.namespace, batch.agent, size)
        after = new[-1].line.head
        self._run(cursor, "UPDATE chains SET next = ?, head = ? WHERE guard = ?", after.next, after.hash, first.guard)
        return Accepted(after.next, len(new), declares_gap)

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
            return _take(cursor)

    def chains(self, namespace: str = "", after: str = "") -> ChainPage:
        """Return a page of the states of chains; see `Store`."""
        prefix = f"{namespace}/" if namespace else ""
        with self._database.transaction() as cursor:
            self._run(cursor, _CHAINS, after, len(prefix), prefix, MOST_LISTED)
            found = [ChainState(*row) for row in cursor.fetchall()]
            if len(found) == MOST_LISTED:
                return ChainPage(found, found[-1].guard)
            self._run(cursor, _UNNOTED, len(prefix), prefix, MOST_LISTED)
            unnoted = [ChainState(guard, "", 0, ORIGIN, 0, ORIGIN) for (guard,) in cursor.fetchall()]
            return ChainPage(found + unnoted, None)

    def lines(self, guard: str, start: int, limit: int) -> list[Stored]:
        """Return records of one chain from a number on; see `Store`."""
        statement = f"SELECT {_COLUMNS} FROM records WHERE guard = ? AND seq >= ? ORDER BY seq LIMIT ?"  # noqa: S608
        with self._database.transaction() as cursor:
            self._run(cursor, statement, guard, start, limit)
            return _take(cursor)

    def usage(self) -> list[Usage]:
        """Return what every agent has stored; see `Store`."""
        with self._database.transaction() as cursor:
            self._run(cursor, "SELECT namespace, agent, bytes FROM usage ORDER BY namespace, agent")
            return [Usage(namespace, agent, int(used)) for namespace, agent, used in cursor.fetchall()]

    def costs(self, query: CostQuery, step: int = STEP) -> CostStep:
        """Return the sums of one step; see `CostSource`."""
        statements = CostStatements(query, self._database.json, step)
        with self._database.transaction() as cursor:
            statement, values = statements.end()
            self._run(cursor, statement, *values)
            end = cursor.fetchone()
            statement, values = statements.sums(end)
            self._run(cursor, statement, *values)
            sums = [read_cost(row, len(query.groups)) for row in cursor]
        return CostStep(sums, None if end is None else tuple(end))

    def prune(self, before: str, after: str = "") -> Pruned:
        """Delete the beginnings of some chains; see `Store`."""
        removed = 0
        freed: Counter[tuple[str, str]] = Counter()
        with self._database.transaction() as cursor:
            self._run(cursor, _BEGINNINGS, after, _PRUNED_AT_ONCE)
            found = cursor.fetchall()
            for guard, received in found:
                if received is not None and received < before:
                    removed += self._prune_chain(cursor, guard, before, _PRUNED_AT_ONCE - removed, freed)
                    if removed == _PRUNED_AT_ONCE:
                        break  # this chain may have more
                after = guard
            is_last = removed < _PRUNED_AT_ONCE and len(found) < _PRUNED_AT_ONCE
            # After all chains, since writers lock a chain first and then its agent's usage.
            for (namespace, agent), size in sorted(freed.items()):
                self._add_usage(cursor, namespace, agent, -size)
        return Pruned(removed, None if is_last else after)

    def free(self) -> float | None:
        """Return the part of the disk that is free; see `Store`."""
        return self._database.free()

    def tidy(self) -> None:
        """Free what only a moment without readers frees; see `Store`."""
        self._database.tidy()

    def check(self) -> None:
        """Check that the database answers; see `Store`."""
        with self._database.transaction() as cursor:
            self._run(cursor, "SELECT 1")
            cursor.fetchone()

    def _prune_chain(self, cursor: Cursor, guard: str, before: str, limit: int, freed: Counter[tuple[str, str]]) -> int:
        self._run(cursor, f"SELECT next FROM chains WHERE guard = ?{self._database.lock}", guard)  # noqa: S608
        columns = f"seq, hash, received, namespace, agent, {self._database.octets}"
        self._run(cursor, f"SELECT {columns} FROM records WHERE guard = ? ORDER BY seq LIMIT ?", guard, limit)  # noqa: S608
        gone = list(takewhile(lambda row: row[2] < before, cursor.fetchall()))
        if gone:
            last, own = gone[-1][:2]
            for _, _, _, namespace, agent, octets in gone:  # all of one agent, so far as guards have written them
                freed[namespace, agent] += octets + ROW_BYTES
            self._run(cursor, "DELETE FROM records WHERE guard = ? AND seq <= ?", guard, last)
            checkpoint = "UPDATE chains SET start = ?, start_hash = ? WHERE guard = ?"
            self._run(cursor, checkpoint, last + 1, own, guard)
        return len(gone)

    def _exceeded(self, cursor: Cursor, batch: Batch, size: int) -> Level | None:
        """Return the level of the quota that so many bytes more would exceed."""
        if self._quotas == NO_QUOTAS:
            return None
        self._run(cursor, "SELECT namespace, agent, bytes FROM usage WHERE namespace = ?", batch.namespace)
        usages = [Usage(namespace, agent, int(used)) for namespace, agent, used in cursor.fetchall()]
        mine = {batch.namespace, f"{batch.namespace}/{batch.agent}"}
        if all(one.agent != batch.agent for one in usages):
            usages.append(Usage(batch.namespace, batch.agent, 0))
        levels = [level for level in find_levels(usages, self._quotas) if level.owner in mine]
        return next((level for level in levels if level.used + size > level.quota), None)

    def _add_usage(self, cursor: Cursor, namespace: str, agent: str, size: int) -> None:
        statement = (
            "INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT (namespace, agent) DO UPDATE SET bytes = usage.bytes + ?"
        )
        self._run(cursor, statement, namespace, agent, size, size)

    def _claim(self, cursor: Cursor, guard: str, namespace: str) -> tuple[int, str]:
        """Return the end of a chain, locked for other writers until the transaction ends."""
        statement = "INSERT INTO chains VALUES (?, ?, 0, ?, 0, ?) ON CONFLICT (guard) DO NOTHING"
        self._run(cursor, statement, guard, namespace, ORIGIN, ORIGIN)
        self._run(cursor, f"SELECT next, head FROM chains WHERE guard = ?{self._database.lock}", guard)  # noqa: S608 - no values
        found: tuple[int, str] = cursor.fetchone()
        return found

    def _unclaim(self, cursor: Cursor, guard: str) -> None:
        """Forget a chain of which nothing was ever stored: refused batches must take no room."""
        self._run(cursor, "DELETE FROM chains WHERE guard = ? AND next = 0", guard)

    def _first_difference(self, cursor: Cursor, batch: Batch, next_seq: int) -> int | None:
        """Return the first number under which the store has another line than the batch."""
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


def _take(rows: Iterable[Sequence[Any]]) -> list[Stored]:
    """Return records until they have enough bytes."""
    found: list[Stored] = []
    size = 0
    for row in rows:
        found.append(Stored(*row))
        size += len(found[-1].text)
        if size >= MOST_BYTES:
            break
    return found
