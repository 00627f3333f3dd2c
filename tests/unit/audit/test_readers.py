"""Readers of the collector wait for each other, and guards for none of them, nor for those of other namespaces."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import AsyncMock, Mock

import aiohttp
import pytest

from interlock_audit.quotas import NO_QUOTAS
from interlock_audit.reviewer import Identity
from interlock_audit.server import ALL_READS, READS, SENDS, CollectorServer
from interlock_audit.sqlite import open_sqlite
from interlock_audit.store_executor import StoreExecutor
from interlock_audit.stores import Accepted, Batch, Query, Received
from interlock_contract.audit_chain import open_line
from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_http.listener import BoundedListener
from tests.requirements import requirement
from tests.support.bounds import WAIT_SECONDS, until
from tests.support.chains import ChainWriter

READER = {"Authorization": "Bearer of-a-reader"}


@requirement("records.readers-bounded")
async def test_a_guards_records_and_the_probe_wait_for_no_reader(tmp_path: Path) -> None:
    is_read, may_end = threading.Event(), threading.Event()

    def find(_: Query) -> list[object]:
        is_read.set()
        assert may_end.wait(WAIT_SECONDS)
        return []

    executor = StoreExecutor(
        open_sqlite(tmp_path / "records.sqlite"),
        Mock(find=find),
        lambda: datetime(2026, 3, 2, tzinfo=UTC),
        lambda _: None,
    )
    lines = ChainWriter().begin().deny(3).lines
    batch = Batch("agents", "triage", [Received(line.decode(), open_line(line)) for line in lines], executor.now())
    searches = [asyncio.create_task(executor.find(Query())) for _ in range(3)]
    try:
        await until(is_read.is_set, "a reader searches")
        async with asyncio.timeout(WAIT_SECONDS):
            assert await executor.append(batch) == Accepted(4, 4)
            await executor.check()
        assert not any(search.done() for search in searches)
    finally:
        may_end.set()
    assert await asyncio.gather(*searches) == [[], [], []]
    await executor.close()


class SlowExecutor:
    """Finds nothing, once it may."""

    quotas = NO_QUOTAS

    def __init__(self) -> None:
        self.counts: dict[str, int] = {
            f'refused_total{{error="{error}"}}': 0 for error in ("TooManyReads", "TooManySends")
        }
        self.searching = 0
        self.may_end = asyncio.Event()

    async def find(self, _: Query) -> list[object]:
        self.searching += 1
        await self.may_end.wait()
        self.searching -= 1
        return []

    async def append(self, batch: Batch) -> Accepted:
        await self.find(Query())
        return Accepted(len(batch.lines), len(batch.lines))

    def now(self) -> str:
        return "2026-03-02T09:00:00.000Z"


@pytest.fixture
def executor() -> SlowExecutor:
    return SlowExecutor()


@pytest.fixture
async def client(executor: SlowExecutor) -> AsyncIterator[aiohttp.ClientSession]:
    """Clients of all namespaces at one address, which may have as many connections as all of them."""

    async def identify(token: str, _: str) -> Identity:
        return Identity(token, "u", (), {"authentication.kubernetes.io/pod-name": ("triage-0",)})

    reviewer = Mock(identify=identify, may_read=AsyncMock(return_value=True))
    server = CollectorServer(executor, reviewer, lambda _: None, lambda: 0.0)  # type: ignore[arg-type]
    listener = BoundedListener(replace(LISTENERS[ListenerName.AUDIT], connections_per_peer=64))
    listener.build_app_runner(server.build_app(), shutdown_timeout=1.0)
    await listener.open("127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as session:
        yield session
        executor.may_end.set()
    await listener.close()


@requirement("records.readers-bounded")
async def test_the_readers_of_one_namespace_leave_room_for_others(
    client: aiohttp.ClientSession,
    executor: SlowExecutor,
) -> None:
    async def read(namespace: str) -> int:
        async with client.get("/v1/records", params={"namespace": namespace}, headers=READER) as response:
            await response.read()
            return response.status

    busy = [asyncio.create_task(read("agents")) for _ in range(READS)]
    await until(lambda: executor.searching == READS, "the readers of a namespace are answered")
    assert await read("agents") == 429
    busy += [asyncio.create_task(read(f"agents-{number}")) for number in range(ALL_READS - READS)]
    await until(lambda: executor.searching == ALL_READS, "the readers of other namespaces are answered")
    assert await read("one-more") == 429
    busy.append(asyncio.create_task(read("")))
    await until(lambda: executor.searching == ALL_READS + 1, "a reader of all namespaces is answered")

    executor.may_end.set()
    assert await asyncio.gather(*busy) == [200] * len(busy)
    assert await read("one-more") == 200


@requirement("records.quotas")
async def test_the_guards_of_one_namespace_leave_room_for_others(
    client: aiohttp.ClientSession,
    executor: SlowExecutor,
) -> None:
    async def send(namespace: str) -> int:
        body = ChainWriter(f"{namespace}/triage-0/0000000000000001").begin().text()
        headers = {"Authorization": f"Bearer system:serviceaccount:{namespace}:triage-0123456789-guard"}
        async with client.post("/v1/records", data=body, headers=headers) as response:
            await response.read()
            return response.status

    busy = [asyncio.create_task(send("agents")) for _ in range(SENDS)]
    await until(lambda: executor.searching == SENDS, "the batches of a namespace are stored")
    assert await send("agents") == 429
    busy.append(asyncio.create_task(send("others")))
    await until(lambda: executor.searching == SENDS + 1, "a batch of another namespace is stored")

    executor.may_end.set()
    assert await asyncio.gather(*busy) == [200] * len(busy)
    assert await send("agents") == 200
