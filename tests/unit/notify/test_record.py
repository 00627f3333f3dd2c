"""The record of deliveries, at an API server in memory."""

import asyncio
from collections.abc import Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from interlock_notify import record as module
from interlock_notify.alerts import write_moment
from interlock_notify.record import START_MINUTES, DeliveryRecord, Recorded, most_digests
from tests.support.bounds import until
from tests.support.fake_client import FakeClient
from tests.unit.notify.ledgers import NOW

PATH = "/api/v1/namespaces/agents/configmaps/support-notify-record"
ONE, TWO, THREE = ("0" * 23 + digit for digit in "123")
APPEARED = write_moment(NOW - START_MINUTES)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.001)
    found = FakeClient()
    found.put(PATH, {"kind": "ConfigMap", "metadata": {"name": "support-notify-record", "namespace": "agents"}})
    return found


def a_record(client: FakeClient, *webhooks: str, later: timedelta = timedelta()) -> DeliveryRecord:
    server: Any = client
    return DeliveryRecord(server, PATH, webhooks or ("chat",), lambda: NOW + later)


def data(client: FakeClient) -> dict[str, str]:
    found: dict[str, str] = client.objects[PATH].get("data") or {}
    return found


@asynccontextmanager
async def running(record: DeliveryRecord, read: list[Mapping[str, Recorded]] | None = None) -> Any:
    task = asyncio.create_task(record.run(([] if read is None else read).append))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_new_webhook_is_recorded_with_the_time_from_which_alerts_are_for_it(client: FakeClient) -> None:
    record = a_record(client)

    loaded = await record.load()
    await record.flush()

    assert loaded["chat"] == Recorded(NOW - START_MINUTES)
    assert data(client) == {"chat": APPEARED}


async def test_a_notifier_that_starts_again_knows_since_when_and_what_was_delivered(client: FakeClient) -> None:
    before = a_record(client)
    await before.load()
    before.add("chat", ONE)
    before.add("chat", TWO)
    await before.flush()

    loaded = await a_record(client, "chat", "pager", later=timedelta(days=1)).load()

    assert loaded["chat"] == Recorded(NOW - START_MINUTES, {ONE: None, TWO: None})
    assert loaded["pager"] == Recorded(NOW + timedelta(days=1) - START_MINUTES)


async def test_words_that_are_no_digests_are_not_taken_over(client: FakeClient) -> None:
    client.objects[PATH]["data"] = {"chat": f"{APPEARED} {ONE} x {'g' * 24}"}

    assert (await a_record(client).load())["chat"].digests == {ONE: None}


async def test_two_notifiers_lose_nothing_of_each_other(client: FakeClient) -> None:
    first, second = a_record(client), a_record(client)
    await first.load()
    await second.load()
    read: list[Mapping[str, Recorded]] = []
    first.add("chat", ONE)
    await first.flush()

    second.add("chat", TWO)
    async with running(second, read):
        await until(lambda: TWO in data(client)["chat"], "the second one has written")
    first.add("chat", THREE)
    async with running(first, read):
        await until(lambda: THREE in data(client)["chat"], "the first one has written")

    assert data(client)["chat"].split() == [APPEARED, ONE, TWO, THREE]
    assert [list(one["chat"].digests) for one in read] == [[ONE, TWO], [ONE, TWO, THREE]], "each hears of the other"


async def test_the_webhooks_of_an_older_policy_are_taken_out_and_those_of_a_newer_one_stay(client: FakeClient) -> None:
    client.objects[PATH]["data"] = {"old": APPEARED, "old.problem": "away", "chat": APPEARED}
    record = a_record(client)
    await record.load()
    client.objects[PATH]["data"]["new"] = APPEARED

    record.add("chat", ONE)
    await record.flush()

    assert data(client) == {"chat": f"{APPEARED} {ONE}", "new": APPEARED}


async def test_why_a_webhook_takes_no_alerts_is_recorded_until_it_does(client: FakeClient) -> None:
    record = a_record(client, "chat", "pager")
    await record.load()
    record.set_problems({"chat": "x" * 2000})
    await record.flush()
    assert data(client)["chat.problem"] == "x" * 256

    writes = len(client.writes())
    record.set_problems({"chat": "x" * 2000})
    await record.flush()
    assert len(client.writes()) == writes

    after = a_record(client, "chat", "pager")
    await after.load()
    after.set_problems({})
    await after.flush()
    assert "chat.problem" not in data(client)


async def test_a_record_that_was_created_again_gets_all_that_is_known(client: FakeClient) -> None:
    record = a_record(client)
    await record.load()
    record.add("chat", ONE)
    await record.flush()
    found = client.objects.pop(PATH)
    record.add("chat", TWO)
    async with running(record):
        await until(lambda: record.failures > 1, "the record is missing")
        client.put(PATH, {**found, "data": {}})
        await until(lambda: bool(data(client)), "it is written again")

    assert data(client)["chat"].split() == [APPEARED, ONE, TWO]
    assert record.failures == 0


async def test_the_last_digests_are_recorded_within_the_room_of_an_object(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 50)
    record = a_record(client)
    await record.load()

    for digest in (ONE, TWO, THREE):
        record.add("chat", digest)
    await record.flush()

    assert data(client)["chat"].split() == [APPEARED, TWO, THREE]


def test_all_webhooks_together_have_room_in_one_object() -> None:
    assert most_digests(1) > 30_000
    assert most_digests(8) * 8 * 25 <= module.MOST_BYTES
