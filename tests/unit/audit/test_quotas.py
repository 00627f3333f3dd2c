from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_audit.quotas import AGENT_RATE, ROW_BYTES, Level, Quotas, Rate, RateLimiter, Usage, find_levels
from interlock_audit.server import CollectorServer
from interlock_audit.sql import SqlStore
from interlock_audit.sqlite import open_sqlite
from interlock_audit.store_executor import StoreExecutor
from interlock_audit.stores import Accepted, Batch, Fork, Gap, OverQuota, Pruned, Received, all_chains
from interlock_contract.audit_chain import Head, open_line, seal
from tests.requirements import requirement
from tests.support.chains import ChainWriter

LONG_AGO, NOW = "2026-01-01T00:00:00.000Z", "2026-03-02T09:00:00.000Z"


def a_batch(chain: ChainWriter, first: int = 0, last: int | None = None, *, received: str = NOW) -> Batch:
    lines = [Received(line.decode(), open_line(line)) for line in chain.lines[first:last]]
    return Batch(chain.guard.split("/", maxsplit=1)[0], chain.agent, lines, received)


def a_chain(agent: str = "triage", namespace: str = "agents", number: int = 1) -> ChainWriter:
    return ChainWriter(f"{namespace}/{agent}-0/{number:016x}", agent).begin().deny(9)


def size_of(chain: ChainWriter, last: int | None = None) -> int:
    return sum(len(line) + ROW_BYTES for line in chain.lines[:last])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    opened = open_sqlite(path, quotas=Quotas(agent=size_of(a_chain()), namespace=2 * size_of(a_chain())))
    yield opened
    opened.close()


@requirement("records.quotas")
def test_an_agent_beyond_its_quota_is_refused_and_no_other_one(store: SqlStore) -> None:
    assert store.append(a_batch(a_chain())) == Accepted(10, 10)

    refused = store.append(a_batch(a_chain(number=2), 0, 1))

    assert isinstance(refused, OverQuota)
    assert (refused.level.owner, refused.level.used) == ("agents/triage", size_of(a_chain()))
    assert isinstance(store.append(a_batch(a_chain("t2"), 0, 9)), Accepted)
    assert [one.guard for one in all_chains(store)] == [
        "agents/t2-0/0000000000000001",
        "agents/triage-0/0000000000000001",
    ]


@requirement("records.quotas")
def test_a_namespace_beyond_its_quota_is_refused_and_no_other_one(store: SqlStore) -> None:
    for agent in ("a", "b"):
        store.append(a_batch(a_chain(agent), 0, 9))
    for agent in ("c", "d", "e"):
        last = store.append(a_batch(a_chain(agent), 0, 2))

    assert isinstance(last, OverQuota)
    assert last.level.owner == "agents"
    assert isinstance(store.append(a_batch(a_chain(namespace="other"), 0, 5)), Accepted)


@requirement("records.quotas")
def test_what_is_stored_already_needs_no_room(store: SqlStore) -> None:
    store.append(a_batch(a_chain()))

    assert store.append(a_batch(a_chain())) == Accepted(10, 0)


@requirement("records.quotas")
def test_only_retention_frees_room(store: SqlStore) -> None:
    store.append(a_batch(a_chain(), 0, 5, received=LONG_AGO))
    store.append(a_batch(a_chain(), 5))
    assert isinstance(store.append(a_batch(a_chain(number=2), 0, 4)), OverQuota)

    assert store.prune("2026-02-01T00:00:00.000Z") == Pruned(5, None)

    assert store.usage() == [Usage("agents", "triage", size_of(a_chain()) - size_of(a_chain(), 5))]
    assert store.append(a_batch(a_chain(number=2), 0, 4)) == Accepted(4, 4)


def test_a_refused_batch_leaves_no_chain_behind(store: SqlStore) -> None:
    store.append(a_batch(a_chain()))

    assert store.append(a_batch(a_chain("t2"), 3)) == Gap(0)
    assert isinstance(store.append(a_batch(a_chain(number=2))), OverQuota)
    forged, _ = seal(a_chain("t2").guard, Head(0, "f" * 64), {"kind": "genesis", "agent": "t2", "time": NOW})
    assert store.append(Batch("agents", "t2", [Received(forged.decode(), open_line(forged))], NOW)) == Fork(0)
    assert len(list(all_chains(store))) == 1


def test_a_database_from_before_there_were_quotas_is_counted_once(path: Path, store: SqlStore) -> None:
    chain = ChainWriter("agents/triage-0/0000000000000001").begin(name="\N{GRINNING FACE}é")
    store.append(a_batch(chain))
    with store._database.transaction() as cursor:  # noqa: SLF001 - as the earlier version has left it
        cursor.execute("DELETE FROM usage")

    for _ in range(2):
        opened = open_sqlite(path)
        assert opened.usage() == [Usage("agents", "triage", size_of(chain))]
        opened.close()


@requirement("records.quotas")
def test_records_take_no_more_of_the_disk_than_they_count(path: Path) -> None:
    opened = open_sqlite(path)
    empty = path.stat().st_size
    for number in range(8):
        chain = ChainWriter(f"agents/support-triage-0123456789-abcde/{number:016x}").begin().deny(500, tool="x" * 600)
        opened.append(a_batch(chain))
    opened.tidy()
    counted = sum(one.bytes for one in opened.usage())
    assert 0.8 * counted < path.stat().st_size - empty <= counted
    opened.close()


def test_zero_is_no_quota(path: Path) -> None:
    opened = open_sqlite(path, quotas=Quotas())
    assert isinstance(opened.append(a_batch(a_chain())), Accepted)
    assert find_levels(opened.usage(), Quotas()) == []
    opened.close()


@requirement("records.quotas")
async def test_80_percent_of_a_quota_is_an_alarm_that_is_logged_once(path: Path) -> None:
    said: list[str] = []
    quotas = Quotas(agent=size_of(a_chain()))
    stores = open_sqlite(path, quotas=quotas), open_sqlite(path, is_read_only=True)
    executor = StoreExecutor(*stores, lambda: datetime(2026, 3, 2, tzinfo=UTC), said.append, quotas)
    await executor.append(a_batch(a_chain(), 0, 7))
    await executor.watch_quotas()
    assert (executor.alarms, said) == (0, [])

    await executor.append(a_batch(a_chain(), 7, 9))
    await executor.watch_quotas()
    await executor.watch_quotas()
    assert executor.alarms == 1
    assert [line.partition(" uses ")[0] for line in said] == ["QUOTA: agents/triage"]

    for number in (2, 3):
        assert isinstance(await executor.append(a_batch(a_chain(number=number), 0, 4)), OverQuota)
    assert len(said) == 2
    assert said[1].endswith(": its further records are refused")
    await executor.close()


def test_a_level_says_how_much_of_what_is_used() -> None:
    assert Level("agents/triage", 900, 1000).text == "agents/triage uses 900 of 1000 bytes (90 %)"


@requirement("records.quotas")
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 50), st.floats(0, 10)), max_size=60),
    st.floats(0.1, 20),
    st.floats(50, 100),
)
def test_no_key_takes_more_than_its_burst_and_its_rate(
    takes: list[tuple[str, float, float]], per_second: float, burst: float
) -> None:
    limiter, now, taken = RateLimiter(Rate(per_second, burst)), 0.0, {"a": 0.0, "b": 0.0}
    for key, amount, pause in takes:
        now += pause
        if limiter.take(key, amount, now):
            taken[key] += amount
        assert all(one <= burst + per_second * now + 0.001 for one in taken.values())


def test_a_key_waits_for_its_own_rate_alone() -> None:
    limiter = RateLimiter(Rate(1, 2))

    assert [limiter.take("a", 1, 0), limiter.take("a", 1, 0), limiter.take("a", 1, 0)] == [True, True, False]
    assert limiter.take("b", 1, 0)
    assert limiter.take("a", 1, 1.0)


@requirement("records.quotas")
def test_an_agent_that_sends_too_fast_is_refused_and_no_other_one() -> None:
    server = CollectorServer(Mock(), Mock(), lambda _: None, lambda: 100.0)
    server._check_rates("agents", "flooder", int(AGENT_RATE.burst))  # noqa: SLF001 - requests of 1 MiB take long

    with pytest.raises(Exception, match="agents/flooder sends records faster than its rate"):
        server._check_rates("agents", "flooder", 1)  # noqa: SLF001
    server._check_rates("agents", "other", 1)  # noqa: SLF001
