"""The collector on a real PostgreSQL: the store's promises, and a server that crashes in the middle of writes."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from interlock_audit.postgres import open_postgres
from interlock_audit.quotas import ROW_BYTES, Quotas
from interlock_audit.stores import (
    Accepted,
    Batch,
    Fork,
    Gap,
    OverQuota,
    Pruned,
    Query,
    Received,
    StoreUnavailable,
    all_lines,
)
from interlock_audit.verify import FOUND, OK, UNREADABLE, Expectations, check_store, main
from interlock_contract.audit_chain import open_line
from tests.integration.guard.collecting import Collector, Reviews, collect_with
from tests.integration.guard.harness import Bench
from tests.integration.guard.postgresql import Postgresql
from tests.integration.guard.test_guard_collecting import have_arrived, load, more_executed
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.chains import GUARD, NEXT_GUARD, ChainWriter

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def dsn(postgresql: Postgresql, request: pytest.FixtureRequest) -> str:
    """A database for one test."""
    name = f"t{abs(hash(request.node.name))}"
    with psycopg.connect(postgresql.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgresql.dsn.replace("dbname=postgres", f"dbname={name}")


def lines_in(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("SELECT line FROM records ORDER BY guard, seq").fetchall()]


def batch(lines: list[bytes], received: str = "2026-03-02T09:00:00.000Z", lost: int | None = None) -> Batch:
    taken = [Received(line.decode(), open_line(line)) for line in lines]
    return Batch("agents", "triage", taken, received, lost)


CHAIN = ChainWriter().begin().call(4).deny()
LINES = CHAIN.lines


def test_it_keeps_chains_as_sqlite_does(dsn: str) -> None:
    store = open_postgres(dsn)
    assert store.append(batch(LINES[3:5])) == Gap(0)
    assert store.append(batch(LINES[:6])) == Accepted(6, 6)
    assert store.append(batch(LINES[2:8])) == Accepted(8, 2)
    assert store.append(batch(ChainWriter().begin().deny(3).lines)) == Fork(1)
    assert store.append(batch(LINES[9:], lost=8)) == Accepted(10, 1, declares_gap=True)
    assert [finding.kind for finding in check_store(store, Expectations()).findings] == ["Missing"]
    store.close()


def test_it_finds_and_prunes_as_sqlite_does(dsn: str) -> None:
    store = open_postgres(dsn)
    store.append(batch(LINES[:4], received="2026-01-01T00:00:00.000Z"))
    store.append(batch(LINES[4:]))
    first = store.find(Query(namespace="agents", limit=4))
    second = store.find(Query(namespace="agents", after=first[-1].place))
    assert [one.seq for one in first + second] == list(range(10))
    assert len(store.find(Query(decision="Deny"))) == 1
    assert [store.prune("2026-02-01T00:00:00.000Z") for _ in range(2)] == [Pruned(4, None), Pruned(0, None)]
    assert [one.seq for one in all_lines(store, GUARD, 4)] == [4, 5, 6, 7, 8, 9]
    expired = Expectations(kept_since=datetime(2026, 3, 2, 10, tzinfo=UTC))
    assert check_store(store, expired).findings == ()
    assert [finding.kind for finding in check_store(store, Expectations()).findings] == ["Removed"]
    store.close()


@requirement("records.quotas")
def test_it_keeps_quotas_as_sqlite_does(dsn: str) -> None:
    size = sum(len(line) + ROW_BYTES for line in LINES)
    store = open_postgres(dsn, quotas=Quotas(agent=size))
    assert store.append(batch(LINES[:4], received="2026-01-01T00:00:00.000Z")) == Accepted(4, 4)
    assert store.append(batch(LINES[4:])) == Accepted(10, 6)
    assert store.append(batch(LINES)) == Accepted(10, 0)
    refused = store.append(batch(ChainWriter(NEXT_GUARD).begin(CHAIN.last).lines))
    assert isinstance(refused, OverQuota)
    assert (refused.level.owner, refused.level.used) == ("agents/triage", size)
    store.prune("2026-02-01T00:00:00.000Z")
    assert isinstance(store.append(batch(ChainWriter(NEXT_GUARD).begin(CHAIN.last).lines)), Accepted)
    store.close()


@requirement("records.collected")
def test_several_collectors_that_get_the_same_records_at_once_keep_them_once(dsn: str) -> None:
    def bring(_: int) -> list[object]:
        store = open_postgres(dsn)
        try:
            return [store.append(batch(LINES[start : start + 3])) for start in (0, 2, 5, 7)]
        finally:
            store.close()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(bring, range(8)))
    assert all(isinstance(result, Accepted) for one in results for result in one)
    assert [line.encode() for line in lines_in(dsn)] == LINES


def test_a_database_that_is_not_there_is_said_to_be_unavailable(capsys: pytest.CaptureFixture[str]) -> None:
    store = open_postgres("host=127.0.0.1 port=1 user=nobody")
    with pytest.raises(StoreUnavailable):
        store.append(batch(LINES))
    assert main(["--postgres", "host=127.0.0.1 port=1 user=nobody"]) == UNREADABLE
    assert "127.0.0.1" in capsys.readouterr().err


@requirement("records.verified")
def test_the_verifier_reads_it_and_finds_tampering(dsn: str) -> None:
    store = open_postgres(dsn)
    store.append(batch(LINES))
    store.append(batch(ChainWriter(NEXT_GUARD).begin(CHAIN.last).lines))
    store.close()
    assert main(["--postgres", dsn]) == OK
    forged = "hash, time, namespace, agent, kind, decision, line, received FROM records WHERE seq = 1 AND guard = %s"
    for where in ("guard, -5", "'agents/triage-0/ffffffffffffffff', 1"):
        with psycopg.connect(dsn) as connection:
            connection.execute(f"INSERT INTO records SELECT {where}, {forged}", (GUARD,))
        assert main(["--postgres", dsn]) == FOUND
        with psycopg.connect(dsn) as connection:
            connection.execute("DELETE FROM records WHERE seq < 0 OR guard LIKE '%%f'")
        assert main(["--postgres", dsn]) == OK
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM records WHERE seq = 9")
    assert main(["--postgres", dsn]) == FOUND


@requirement("records.verified")
def test_the_verifier_needs_the_right_to_select_and_creates_no_table(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("DROP TABLE IF EXISTS chains, records, usage")
    assert main(["--postgres", dsn]) == UNREADABLE
    store = open_postgres(dsn)
    store.append(batch(LINES))
    store.close()
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE ROLE auditor LOGIN")
        connection.execute("GRANT SELECT ON chains, records TO auditor")
    try:
        assert main(["--postgres", f"{dsn} user=auditor"]) == OK
    finally:
        with psycopg.connect(dsn) as connection:
            connection.execute("DROP OWNED BY auditor")
            connection.execute("DROP ROLE auditor")


@pytest.fixture
async def collector(dsn: str, tmp_path: Path) -> AsyncIterator[Collector]:
    reviews = Reviews()
    await reviews.start()
    process = Collector(reviews, tmp_path / "collector", {"INTERLOCK_POSTGRES": dsn})
    await process.start()
    yield process
    await process.stop()
    await reviews.stop()


@requirement("records.collected")
async def test_postgresql_restarted_in_mid_write_loses_and_doubles_nothing(
    bench: Bench, collector: Collector, postgresql: Postgresql, dsn: str
) -> None:
    collect_with(bench.guard, collector)
    await bench.restart()
    async with load(bench):
        for _ in range(3):
            await more_executed(bench, 60)
            await asyncio.to_thread(postgresql.crash)
            await more_executed(bench, 20)
            postgresql.start()
            await asyncio.to_thread(postgresql.wait)
        await more_executed(bench, 60)
    await have_arrived(bench, lambda: lines_in(dsn))
    assert main(["--postgres", dsn]) == OK
    await until(lambda: collector.probe("/readyz"), "the collector is ready")
    assert await collector.stop(signal.SIGTERM) == 0
    assert json.loads(lines_in(dsn)[0])["kind"] == "genesis"
