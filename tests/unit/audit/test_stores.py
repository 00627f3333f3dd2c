"""The store's promises, on SQLite; tests/integration/guard has the same on PostgreSQL."""

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from interlock_audit import sql, sqlite
from interlock_audit.chain_verifier import Anchor, ChainReport, Checkpoint
from interlock_audit.quotas import Usage
from interlock_audit.sql import SqlStore
from interlock_audit.sqlite import LEAST_FREE, open_sqlite
from interlock_audit.stores import (
    MOST_BYTES,
    MOST_LISTED,
    Accepted,
    Batch,
    ChainPage,
    Fork,
    Gap,
    Pruned,
    Query,
    Received,
    Stored,
    StoreUnavailable,
    all_chains,
    all_lines,
)
from interlock_audit.verify import FOUND, Expectations, check_store, main
from interlock_contract.audit_chain import ORIGIN, open_line
from tests.requirements import requirement
from tests.support.chains import GUARD, NEXT_GUARD, ChainWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    opened = open_sqlite(path)
    yield opened
    opened.close()


def batch(lines: Sequence[bytes], *, received: str = "2026-03-02T09:00:00.000Z", lost: int | None = None) -> Batch:
    taken = [Received(line.decode(), open_line(line)) for line in lines]
    return Batch(taken[0].line.guard.split("/", maxsplit=1)[0], "triage", taken, received, lost)


def kinds(report: ChainReport) -> list[str]:
    return [finding.kind for finding in report.findings]


NOTHING_EXPIRED = Expectations(kept_since=datetime(2026, 3, 2, 9, tzinfo=UTC))
ALL_EXPIRED = Expectations(kept_since=datetime(2026, 3, 2, 10, tzinfo=UTC))

CHAIN = ChainWriter().begin().call(4).deny()
LINES = CHAIN.lines


def test_a_chain_is_kept_as_it_was_written(store: SqlStore) -> None:
    assert store.append(batch(LINES[:4])) == Accepted(4, 4)
    assert store.append(batch(LINES[4:])) == Accepted(10, 6)
    assert [one.text.encode() for one in all_lines(store, GUARD, 3)] == LINES
    assert kinds(check_store(store, NOTHING_EXPIRED)) == []


@requirement("records.collected")
def test_what_is_brought_again_is_kept_once(store: SqlStore) -> None:
    store.append(batch(LINES[:6]))
    assert store.append(batch(LINES[:6])) == Accepted(6, 0)
    assert store.append(batch(LINES[2:8])) == Accepted(8, 2)
    assert store.append(batch(LINES[1:3])) == Accepted(8, 0)
    assert len(store.lines(GUARD, 0, 100)) == 8


def test_a_gap_is_refused_and_says_from_where_on_to_bring(store: SqlStore) -> None:
    assert store.append(batch(LINES[3:5])) == Gap(0)
    store.append(batch(LINES[:2]))
    assert store.append(batch(LINES[3:5])) == Gap(2)
    assert store.append(batch(LINES[3:5], lost=1)) == Gap(2)
    assert len(store.lines(GUARD, 0, 100)) == 2


def test_lines_that_are_declared_lost_leave_a_gap_that_the_verifier_shows(store: SqlStore) -> None:
    store.append(batch(LINES[:2]))
    assert store.append(batch(LINES[5:7], lost=2)) == Accepted(7, 2, declares_gap=True)
    assert store.append(batch(LINES[7:])) == Accepted(10, 3)
    assert kinds(check_store(store, NOTHING_EXPIRED)) == ["Missing"]


def test_a_fork_is_refused(store: SqlStore) -> None:
    store.append(batch(LINES[:5]))
    restarted = ChainWriter().begin().deny(9).lines
    assert store.append(batch(restarted[:3])) == Fork(1)
    assert store.append(batch(restarted[3:9])) == Fork(3)
    assert store.append(batch(restarted[5:9])) == Fork(5)
    assert [one.text.encode() for one in all_lines(store, GUARD)] == LINES[:5]


def test_chains_do_not_touch_each_other(store: SqlStore) -> None:
    second = ChainWriter(NEXT_GUARD).begin(CHAIN.last).call()
    store.append(batch(LINES))
    store.append(batch(second.lines))
    assert [one.guard for one in all_chains(store)] == [GUARD, NEXT_GUARD]
    assert list(all_chains(store, "other")) == []
    assert kinds(check_store(store, NOTHING_EXPIRED)) == []


def test_records_are_found_by_what_they_say_and_listed_in_pages(store: SqlStore) -> None:
    store.append(batch(LINES))
    store.append(batch(ChainWriter("other/pod/0000000000000001").begin().deny(2).lines))
    everything = store.find(Query(limit=100))
    assert len(everything) == 13
    pages, page = [], store.find(Query(limit=4))
    while page:
        pages += page
        page = store.find(Query(limit=4, after=page[-1].place))
    assert pages == everything
    assert len(store.find(Query(namespace="agents", decision="Allow"))) == 4
    assert len(store.find(Query(namespace="agents", agent="triage", kind="outcome"))) == 4
    assert store.find(Query(agent="nobody")) == []
    assert [one.seq for one in store.find(Query(guard=GUARD, since=LATER, until=LATEST))] == [3, 4]


LATER, LATEST = "2026-03-02T09:00:03.000Z", "2026-03-02T09:00:05.000Z"


def test_retention_deletes_what_was_received_long_ago_and_the_rest_stays_verifiable(store: SqlStore) -> None:
    store.append(batch(LINES[:4], received="2026-01-01T00:00:00.000Z"))
    store.append(batch(LINES[4:], received="2026-02-01T00:00:00.000Z"))
    assert store.prune("2026-01-15T00:00:00.000Z") == Pruned(4, None)
    assert store.prune("2026-01-15T00:00:00.000Z") == Pruned(0, None)
    assert [one.seq for one in all_lines(store, GUARD)] == [4, 5, 6, 7, 8, 9]
    assert kinds(check_store(store, ALL_EXPIRED)) == []
    assert store.append(batch(LINES[:6])) == Accepted(10, 0)


def test_a_chain_that_is_taken_out_whole_goes_on(store: SqlStore) -> None:
    store.append(batch(LINES[:4]))
    second = ChainWriter(NEXT_GUARD).begin(open_line(LINES[3]))
    store.append(batch(second.lines, received="2026-05-01T00:00:00.000Z"))
    assert store.prune("2026-04-01T00:00:00.000Z") == Pruned(4, None)
    assert kinds(check_store(store, ALL_EXPIRED)) == []
    assert store.append(batch(LINES[4:])) == Accepted(10, 6)
    assert kinds(check_store(store, ALL_EXPIRED)) == []


FORGED = """
    INSERT INTO records SELECT {guard}, {seq}, hash, time, namespace, agent, kind, decision, line, received
    FROM records WHERE seq = 1;
"""
CUT_BEGINNING = """
    UPDATE chains SET start = {count}, start_hash = (SELECT hash FROM records WHERE seq = {count} - 1);
    DELETE FROM records WHERE seq < {count};
"""

TAMPERING: dict[str, tuple[str, str]] = {
    "a changed line": ("UPDATE records SET line = replace(line, 'Allow', 'Deny ') WHERE seq = 1", "Damaged"),
    "a deleted line": ("DELETE FROM records WHERE seq = 3", "Missing"),
    "a deleted end": ("DELETE FROM records WHERE seq >= 8", "Truncated"),
    "a deleted chain": ("DELETE FROM records", "Missing"),
    "swapped lines": ("UPDATE records SET seq = CASE seq WHEN 3 THEN 103 ELSE 3 END WHERE seq IN (3, 4)", "Misfiled"),
    "a changed word outside the line": ("UPDATE records SET decision = 'Deny' WHERE seq = 1", "Misfiled"),
    "another agent outside the line": ("UPDATE records SET agent = 'other' WHERE seq = 1", "Misfiled"),
    "another namespace outside the line": ("UPDATE records SET namespace = 'other' WHERE seq = 1", "Misfiled"),
    "a forged checkpoint": ("UPDATE chains SET start = 4", "Broken"),
    "a deleted beginning": (CUT_BEGINNING.format(count=4), "Removed"),
    "records of today said to be old, which retention then deletes": (
        "UPDATE records SET received = '2020' WHERE seq < 4",
        "Removed",
    ),
    "a record below the first": (FORGED.format(guard="guard", seq=-5), "Misfiled"),
    "a record with the least number": (FORGED.format(guard="guard", seq=-(2**63)), "Misfiled"),
    "a record whose number is none": (FORGED.format(guard="guard", seq="'x'"), "Misfiled"),
    "a record of a chain without a note": (FORGED.format(guard=f"'{NEXT_GUARD}'", seq=1), "Misfiled"),
    "a record of no guard": (FORGED.format(guard="'x'", seq=1), "Misfiled"),
    "a deleted note": ("DELETE FROM chains", "Misfiled"),
    "a note in another namespace": ("UPDATE chains SET namespace = 'other'", "Misfiled"),
    "a line that is no text": ("UPDATE records SET line = CAST(line AS BLOB) WHERE seq = 2", "Damaged"),
    "a line that is not UTF-8": ("UPDATE records SET line = CAST(X'ff' AS TEXT) WHERE seq = 2", "Damaged"),
    "a note whose beginning is no number": ("UPDATE chains SET start = 'x'", "Misfiled"),
    "a note whose end is no number": ("UPDATE chains SET next = 'x'", "Misfiled"),
    "a note whose hash is no text": ("UPDATE chains SET head = X'00'", "Misfiled"),
    "a forged end": ("UPDATE chains SET head = start_hash", "Contradicted"),
}


@requirement("records.verified")
@pytest.mark.parametrize(("statement", "kind"), TAMPERING.values(), ids=TAMPERING)
def test_tampering_with_the_database_is_found(store: SqlStore, path: Path, statement: str, kind: str) -> None:
    store.append(batch(LINES))
    tamper(path, statement)
    store.prune("2021")
    reading = open_sqlite(path, is_read_only=True)
    assert kind in kinds(check_store(reading, NOTHING_EXPIRED))
    reading.close()


@requirement("records.verified")
def test_what_the_verifier_prints_is_one_line_for_each_finding_whatever_is_in_the_database(
    store: SqlStore, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.append(batch(LINES))
    tamper(path, "UPDATE chains SET guard = char(27) || '[2K' || char(10) || '13 lines in 1 chains: complete'")
    assert main(["--sqlite", str(path)]) == FOUND
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert [line for line in printed.splitlines() if line.endswith("complete")] == []


@requirement("records.verified")
def test_a_reader_of_one_namespace_gets_no_record_that_the_verifier_of_its_chains_skips(
    store: SqlStore, path: Path
) -> None:
    store.append(batch(LINES))
    assert kinds(check_store(store, NOTHING_EXPIRED, "agents")) == []
    tamper(path, "UPDATE chains SET namespace = 'other'")
    assert kinds(check_store(store, NOTHING_EXPIRED, "agents")) == ["Misfiled"]
    tamper(path, "DELETE FROM chains")
    assert len(store.find(Query(namespace="agents"))) == len(LINES)
    assert kinds(check_store(store, NOTHING_EXPIRED, "agents")) == ["Misfiled"]
    assert kinds(check_store(store, NOTHING_EXPIRED, "agent")) == []


def tamper(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(statement)
    connection.close()


MANY = ChainWriter().begin().call(20)
"""41 lines, written within a minute."""


@requirement("records.retention-provable")
@pytest.mark.parametrize("count", range(1, 41))
def test_a_beginning_that_retention_would_still_keep_is_found(store: SqlStore, path: Path, count: int) -> None:
    store.append(batch(MANY.lines))
    tamper(path, CUT_BEGINNING.format(count=count))
    assert kinds(check_store(store, NOTHING_EXPIRED)) == ["Removed"]
    assert kinds(check_store(store, Expectations())) == ["Removed"], "retention never deletes"
    assert kinds(check_store(store, ALL_EXPIRED)) == []


@requirement("records.retention-provable")
def test_the_age_of_a_beginning_cannot_be_forged(store: SqlStore, path: Path) -> None:
    store.append(batch(MANY.lines))
    tamper(path, CUT_BEGINNING.format(count=30))
    tamper(path, 'UPDATE records SET line = replace(line, \'"prevTime":"2026\', \'"prevTime":"2020\') WHERE seq = 30')
    assert "Damaged" in kinds(check_store(store, NOTHING_EXPIRED))


@requirement("records.retention-provable")
def test_a_chain_without_lines_is_as_old_as_its_successor_or_a_report_says(store: SqlStore, path: Path) -> None:
    store.append(batch(MANY.lines))
    tamper(path, CUT_BEGINNING.format(count=41))
    assert kinds(check_store(store, NOTHING_EXPIRED)) == [], "no statement about this chain is left"
    earlier = Anchor(GUARD, 40, MANY.last.hash, "the earlier report", MANY.last.time)
    assert kinds(check_store(store, replace(NOTHING_EXPIRED, anchors=[earlier]))) == ["Removed"]
    store.append(batch(ChainWriter(NEXT_GUARD).begin(MANY.last).lines))
    assert kinds(check_store(store, NOTHING_EXPIRED)) == ["Removed"]
    assert kinds(check_store(store, ALL_EXPIRED)) == []


def test_of_one_namespace_only_its_chains_are_expected(store: SqlStore) -> None:
    store.append(batch(LINES))
    elsewhere = Anchor("agents-2/pod/0000000000000001", 3, "0" * 64, "the earlier report")
    expected = replace(NOTHING_EXPIRED, anchors=[elsewhere])
    assert kinds(check_store(store, expected)) == ["Missing"]
    assert kinds(check_store(store, expected, "agents")) == []
    assert kinds(check_store(store, expected, "agents-2")) == ["Missing"]


def test_a_beginning_that_an_earlier_report_states_may_be_young(store: SqlStore, path: Path) -> None:
    """INTERLOCK_KEEP_DAYS was raised after retention had deleted these lines."""
    store.append(batch(MANY.lines))
    tamper(path, CUT_BEGINNING.format(count=30))
    before = open_line(MANY.lines[29]).hash
    known = replace(NOTHING_EXPIRED, known={GUARD: Checkpoint(30, before)})
    assert kinds(check_store(store, known)) == []
    for other in (Checkpoint(30, "0" * 64), Checkpoint(29, before), Checkpoint(0, ORIGIN)):
        assert kinds(check_store(store, replace(NOTHING_EXPIRED, known={GUARD: other}))) == ["Removed"]


@requirement("records.verified")
@pytest.mark.parametrize("count", [4, 10])
def test_retention_during_a_verification_is_no_finding(store: SqlStore, path: Path, count: int) -> None:
    store.append(batch(LINES[:count], received="2026-01-01T00:00:00.000Z"))
    if count < len(LINES):
        store.append(batch(LINES[count:]))
    reading = open_sqlite(path, is_read_only=True)

    class Pruning:
        """Retention runs right after the notes of chains were read."""

        def chains(self, namespace: str = "", after: str = "") -> ChainPage:
            page = reading.chains(namespace, after)
            store.prune("2026-02-01T00:00:00.000Z")
            return page

        def lines(self, guard: str, start: int, limit: int) -> list[Stored]:
            return reading.lines(guard, start, limit)

    assert kinds(check_store(Pruning(), ALL_EXPIRED)) == []
    tamper(path, "DELETE FROM records")
    assert kinds(check_store(reading, ALL_EXPIRED)) == (["Missing"] if count < len(LINES) else [])
    reading.close()


def test_a_full_database_takes_nothing_and_then_everything(path: Path) -> None:
    """SQLite's own bound on pages gives the very error of a full disk."""
    store = open_sqlite(path)
    connection = store._database._connection  # type: ignore[attr-defined]  # noqa: SLF001 - no other way to its pragma
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    many = ChainWriter().begin().call(200)
    with pytest.raises(StoreUnavailable, match="full"):
        store.append(batch(many.lines))
    assert store.lines(GUARD, 0, 10) == []
    connection.execute("PRAGMA max_page_count = 100000")
    assert store.append(batch(many.lines)) == Accepted(401, 401)
    store.close()


@requirement("records.readers-bounded")
def test_an_answer_has_a_bound_of_bytes_and_the_next_one_continues(store: SqlStore) -> None:
    many = ChainWriter().begin().deny(30, tool="x" * 60_000)
    store.append(batch(many.lines))
    first = store.lines(GUARD, 0, 1000)
    assert MOST_BYTES <= sum(len(one.text) for one in first) < MOST_BYTES + 64 * 1024
    assert store.find(Query(limit=1000)) == first
    assert store.find(Query(limit=1000, after=first[-1].place)) == list(all_lines(store, GUARD))[len(first) :]
    assert kinds(check_store(store, NOTHING_EXPIRED)) == []


@requirement("records.readers-bounded")
def test_chains_come_in_pages_and_those_without_a_note_are_on_the_last(store: SqlStore, path: Path) -> None:
    guards = [f"agents/triage-0/{number:016x}" for number in range(MOST_LISTED + 2)]
    for guard in guards[:3]:
        store.append(batch(ChainWriter(guard).begin().lines))
    tamper(path, "DELETE FROM chains WHERE guard LIKE '%2'")
    with store._database.transaction() as cursor:  # noqa: SLF001 - one genesis each would take long
        rows = ((guard, "agents", ORIGIN, ORIGIN) for guard in guards[3:])
        cursor.executemany("INSERT INTO chains VALUES (?, ?, 0, ?, 1, ?)", rows)
    page = store.chains("agents")
    assert (len(page.chains), page.next) == (MOST_LISTED, page.chains[-1].guard)
    assert [one.guard for one in all_chains(store, "agents")] == [*guards[:2], *guards[3:], guards[2]]
    assert list(all_chains(store, "agent")) == []


@requirement("records.readers-bounded")
def test_a_search_that_takes_too_long_ends(store: SqlStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_STEPS", 100)
    store.append(batch(ChainWriter().begin().deny(200).lines))
    times = iter(range(10**6))
    reading = open_sqlite(path, is_read_only=True, seconds=0.5, monotonic=lambda: float(next(times)))
    with pytest.raises(StoreUnavailable, match="from since to until"):
        reading.find(Query(decision="Allow"))
    reading.close()


@requirement("records.readers-bounded")
@pytest.mark.parametrize("query", [Query(), Query(namespace="agents"), Query(namespace="agents", agent="triage")])
def test_a_page_of_records_costs_no_more_with_many_records(
    store: SqlStore, path: Path, monkeypatch: pytest.MonkeyPatch, query: Query
) -> None:
    monkeypatch.setattr(sqlite, "_STEPS", 100)
    store.append(batch(ChainWriter().begin().deny(3000).lines))
    times = iter(range(10**6))
    reading = open_sqlite(path, is_read_only=True, seconds=50, monotonic=lambda: float(next(times)))
    page = reading.find(replace(query, limit=10))
    assert len(page) == 10
    assert len(reading.find(replace(query, limit=10, after=page[-1].place))) == 10
    reading.close()


@requirement("records.readers-bounded")
def test_the_log_of_writes_is_cut_off_in_a_moment_without_readers(store: SqlStore, path: Path) -> None:
    reading = open_sqlite(path, is_read_only=True)
    log = path.with_name(f"{path.name}-wal")
    for number in range(3):
        with reading._database.transaction() as cursor:  # noqa: SLF001 - a reader is always there
            cursor.execute("SELECT COUNT(*) FROM records")
            cursor.fetchall()
            store.append(batch(ChainWriter(f"agents/triage-0/{number:016x}").begin().deny(600, tool="x" * 1000).lines))
    assert log.stat().st_size > 2 * 1024 * 1024
    store.tidy()
    assert log.stat().st_size == 0
    reading.close()


@requirement("records.retention-proceeds")
def test_retention_goes_through_the_chains_in_steps(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_PRUNED_AT_ONCE", 5)
    for number in range(8):
        store.append(batch(ChainWriter(f"agents/triage-0/{number:016x}").begin().deny(number).lines))
    steps, after = [], ""
    while True:
        step = store.prune("2027", after)
        steps.append(step.records)
        if step.next is None:
            break
        after = step.next
    assert (max(steps), sum(steps)) == (5, 36)
    assert len(steps) <= 36 / 5 + 8 / 5 + 2
    assert store.usage() == [Usage("agents", "triage", 0)]
    assert kinds(check_store(store, ALL_EXPIRED)) == []


@requirement("records.retention-proceeds")
def test_records_leave_room_on_the_disk_for_retention(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk SQLite can delete nothing, since it writes down what it deletes."""
    store.append(batch(LINES[:4]))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, LEAST_FREE - 1))  # type: ignore[attr-defined]  # noqa: SLF001
    with pytest.raises(StoreUnavailable, match="for retention"):
        store.append(batch(LINES[4:]))
    assert store.prune("2027") == Pruned(4, None)
    monkeypatch.undo()
    assert store.append(batch(LINES[4:])) == Accepted(10, 6)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database at all, just text that is long enough to be looked at" * 10)
    with pytest.raises(StoreUnavailable):
        open_sqlite(tmp_path / "text")
    with pytest.raises(StoreUnavailable):
        open_sqlite(tmp_path / "missing" / "records.sqlite")


def test_a_verifier_may_read_while_the_collector_writes(store: SqlStore, path: Path) -> None:
    store.append(batch(LINES))
    reading = open_sqlite(path, is_read_only=True)
    assert kinds(check_store(reading, NOTHING_EXPIRED)) == []
    with pytest.raises(StoreUnavailable):
        reading.append(batch(LINES))
    reading.close()
