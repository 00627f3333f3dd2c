"""Guard and collector together: what restarts, is full or is gone on either side loses no record and doubles none."""

import asyncio
import contextlib
import itertools
import json
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from interlock_audit.verify import FOUND, OK, main
from interlock_contract.canonical_json import canonicalize, digest_of
from tests.integration.guard.collecting import Collector, collect_with
from tests.integration.guard.harness import Bench, Client, a_bundle, whole_lines
from tests.requirements import requirement
from tests.support.bounds import until

SMALL_SPOOL = 200_000


@pytest.fixture
async def collected(bench: Bench, collector: Collector) -> Bench:
    """A bench whose guard brings its records to the collector, and may write with the tool `slow`."""
    bench.api.set_bundle(a_bundle(["echo", "never"], writable=["slow"]))
    collect_with(bench.guard, collector)
    await bench.restart()
    return bench


def allowed(lines: list[str]) -> Counter[str]:
    records = map(json.loads, lines)
    return Counter(record["argumentsDigest"] for record in records if record.get("decision") == "Allow")


def executed(bench: Bench) -> Counter[str]:
    return Counter(digest_of(canonicalize(entry["arguments"])) for entry in bench.executed() if "arguments" in entry)


def all_written(bench: Bench) -> list[str]:
    """Every line that any guard of the bench wrote."""
    return whole_lines(bench.guard.folder / "records")


async def arrived(bench: Bench, collector: Collector, *, kills: int = 0) -> None:
    """Wait until the collector has every line that was written; then nothing may be twice, and all be whole."""
    await have_arrived(bench, collector.lines, kills=kills)
    assert main(["--sqlite", str(collector.database)]) == OK


async def have_arrived(bench: Bench, lines: Callable[[], list[str]], *, kills: int = 0) -> None:
    """Wait until a store has every line that was written; then nothing may be twice.

    A record goes to the spool first and to stdout second: a guard that is killed in between leaves one line that only
    the store has.
    """
    ran = executed(bench)
    received: Counter[str] = Counter()

    def has_every_record() -> bool:
        """Read what was written first: outcomes of the last calls may still be on their way."""
        nonlocal received
        written, received = Counter(all_written(bench)), Counter(lines())
        return written - received == Counter()

    await until(has_every_record, "the collector has every record")
    assert max(received.values()) == 1
    await until(lambda: (received - Counter(all_written(bench))).total() <= kills, "no record is the collector's alone")
    assert ran - allowed(list(received)) == Counter()


@contextlib.asynccontextmanager
async def load(bench: Bench, clients: int = 4) -> AsyncIterator[None]:
    numbers = itertools.count()

    async def call() -> None:
        async with aiohttp.ClientSession() as session:
            client = Client(session, bench.guard.url)
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    await client.call("echo", n=next(numbers))
                await asyncio.sleep(0.005)

    tasks = [asyncio.create_task(call()) for _ in range(clients)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def more_executed(bench: Bench, count: int) -> None:
    target = len(bench.executed()) + count
    await until(lambda: len(bench.executed()) >= target, f"{count} more calls are executed")


@requirement("records.collected")
async def test_every_record_arrives_once(collected: Bench, collector: Collector) -> None:
    async with load(collected):
        await more_executed(collected, 100)
    await arrived(collected, collector)
    ran = executed(collected)
    assert ran.total() == len(ran) >= 100


@requirement("records.collected")
async def test_a_collector_that_is_away_gets_everything_when_it_comes(collected: Bench, collector: Collector) -> None:
    await collector.stop()
    for number in range(20):
        assert (await collected.client.call("slow", seconds=0, n=number)).reason is None
    await until(lambda: "records wait in the spool" in collected.guard.log(), "the guard says that records wait")
    await collector.start()
    await arrived(collected, collector)


@requirement("records.collected")
async def test_a_collector_killed_in_mid_write_again_and_again_loses_and_doubles_nothing(
    collected: Bench, collector: Collector
) -> None:
    async with load(collected):
        for _ in range(4):
            await more_executed(collected, 40)
            await collector.stop(signal.SIGKILL)
            await collector.start()
        await more_executed(collected, 40)
    await arrived(collected, collector)


@requirement("records.kill", "records.collected")
async def test_a_guard_killed_and_started_again_brings_the_rest_of_its_spool_first(
    collected: Bench, collector: Collector
) -> None:
    await collector.stop()
    async with load(collected):
        await more_executed(collected, 60)
        await collected.guard.stop(signal.SIGKILL)
    await collector.start()
    await collected.restart()
    assert (await collected.client.call("echo", n="after")).reason is None
    await arrived(collected, collector, kills=1)
    order = [line["guard"] for line in received_order(collector)]
    assert len(set(order)) == len(list(itertools.groupby(order))) == 2, "one chain after the other"


def received_order(collector: Collector) -> list[dict[str, object]]:
    connection = sqlite3.connect(collector.database)
    rows = connection.execute("SELECT line FROM records ORDER BY rowid").fetchall()
    connection.close()
    return [json.loads(row[0]) for row in rows]


@requirement("records.collected")
async def test_a_collector_whose_disk_is_full_confirms_nothing_and_goes_on_when_there_is_room(
    collected: Bench, collector: Collector
) -> None:
    assert (await collected.client.call("echo", n=0)).reason is None
    await arrived(collected, collector)
    collector.limit_files(4096)
    for number in range(30):
        assert (await collected.client.call("slow", seconds=0, n=number)).reason is None
    await collector.says("cannot be answered")

    async def is_counted() -> bool:
        return "interlock_audit_unavailable_total 0\n" not in await collector.telemetry()

    await until(is_counted, "the metric says so")
    collector.limit_files(-1)
    await arrived(collected, collector)


@requirement("records.unavailable")
async def test_with_the_collector_away_a_full_spool_ends_writes_first_and_then_reads_until_it_is_back(
    bench: Bench, collector: Collector
) -> None:
    bench.api.set_bundle(a_bundle(["echo"], writable=["slow"]))
    collect_with(bench.guard, collector, INTERLOCK_SPOOL_BYTES=str(SMALL_SPOOL))
    await bench.restart()
    await collector.stop()

    async def refused(tool: str, **arguments: object) -> bool:
        answers = await asyncio.gather(*(bench.client.call(tool, **arguments) for _ in range(16)))
        return "AuditUnavailable" in {answer.reason for answer in answers}

    await until(lambda: refused("slow", seconds=0), "writes are refused")
    assert (await bench.client.call("echo", n="still")).reason is None
    await until(lambda: refused("echo", n=1), "reads are refused, too")
    assert sum(path.stat().st_size for path in bench.guard.spool.iterdir()) <= SMALL_SPOOL
    assert executed(bench) - allowed(all_written(bench)) == Counter()
    await collector.start()

    async def accepted() -> bool:
        return (await bench.client.call("slow", seconds=0, n="again")).reason is None

    await until(accepted, "writes are accepted again")
    await arrived(bench, collector)


async def test_a_collector_that_lost_its_database_gets_what_is_still_there_and_the_verifier_shows_the_gap(
    bench: Bench, collector: Collector
) -> None:
    collect_with(bench.guard, collector, INTERLOCK_SPOOL_BYTES=str(SMALL_SPOOL))
    await bench.restart()
    async with load(bench):
        await more_executed(bench, 60)
    await arrived(bench, collector)
    await collector.stop()
    for path in collector.folder.glob("records.sqlite*"):
        path.unlink()
    await collector.start()
    assert (await bench.client.call("echo", n="after")).reason is None
    await until(lambda: collector.lines()[-1:] == all_written(bench)[-1:], "the last record arrives")
    assert 0 < len(collector.lines()) < len(all_written(bench))
    await collector.says("GAP: ")
    assert "the collector lost them" in bench.guard.log()
    assert main(["--sqlite", str(collector.database)]) == FOUND


async def test_a_chain_that_the_collector_holds_otherwise_is_refused_loudly_and_frees_nothing(
    collected: Bench, collector: Collector
) -> None:
    assert (await collected.client.call("echo", n=0)).reason is None
    await arrived(collected, collector)
    await collector.stop(signal.SIGTERM)
    connection = sqlite3.connect(collector.database)
    with connection:
        connection.execute("UPDATE chains SET head = start_hash")
    connection.close()
    await collector.start()
    assert (await collected.client.call("echo", n=1)).reason is None
    await until(lambda: "AUDIT RECORDS REFUSED" in collected.guard.log(), "the guard says so")
    await collector.says("FORK: ")

    async def is_stuck() -> bool:
        return "interlock_guard_audit_shipping_stuck 1\n" in await collected.guard.metrics()

    await until(is_stuck, "the metric says so")
    assert main([str(path) for path in sorted(collected.guard.spool.iterdir())]) == OK


async def test_the_last_records_are_shipped_when_the_guard_is_terminated(
    collected: Bench, collector: Collector
) -> None:
    waiting = asyncio.create_task(collected.client.call("never"))
    await until(lambda: collected.executed_names() == ["never"], "the server has the call")
    assert await collected.guard.stop(signal.SIGTERM) == 0
    await waiting
    assert sorted(collector.lines()) == sorted(all_written(collected))
    assert json.loads(collector.lines()[-1])["outcome"] == "ServerUnavailable"
