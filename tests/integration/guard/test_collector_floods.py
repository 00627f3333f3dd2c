"""One agent floods the collector, strangers flood it with made-up tokens: others notice nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from interlock_audit.reviewer import ALL_REVIEWS, PEER_REVIEWS
from tests.integration.guard import collecting
from tests.integration.guard.collecting import AUDITOR_TOKEN, GUARD_TOKEN, Collector, Reviews, collect_with, user
from tests.integration.guard.fake_api_server import AGENT, NAMESPACE
from tests.integration.guard.harness import HEADERS, POD, Bench
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.chains import ChainWriter

QUOTA = 1024 * 1024
SPOOL = 512 * 1024
NAME = "\N{GRINNING FACE}" * 1024
"""A tool's name that makes 12 KiB of a record."""
META = {"interlock.dev/task": "\N{GRINNING FACE}" * 256}
FLOODER = "flooder"
FLOODER_POD = "flooder-0123456789-zzzzz"


@pytest.fixture
async def small_collector(tmp_path: Path) -> AsyncIterator[Collector]:
    reviews = Reviews()
    await reviews.start()
    quotas = {"INTERLOCK_AGENT_QUOTA_BYTES": str(QUOTA), "INTERLOCK_NAMESPACE_QUOTA_BYTES": "0"}
    found = Collector(reviews, tmp_path / "collector", quotas)
    await found.start()
    yield found
    await found.stop()
    await reviews.stop()


@requirement("records.quotas")
async def test_an_agent_that_floods_is_the_one_that_is_refused(
    small_collector: Collector, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = {"authentication.kubernetes.io/pod-name": [FLOODER_POD]}
    account = user(f"system:serviceaccount:{NAMESPACE}:{FLOODER}-0123456789-guard", **pod)
    monkeypatch.setitem(collecting.USERS, "flooder-token", account)
    collect_with(bench.guard, small_collector, INTERLOCK_SPOOL_BYTES=str(SPOOL))
    await bench.restart()
    chain = ChainWriter(f"{NAMESPACE}/{FLOODER_POD}/0000000000000001", FLOODER).begin()

    status = 200
    while status == 200:
        first = chain.head.next
        chain.deny(10, tool=NAME)
        status, answer = await small_collector.post(chain.lines[first if first > 1 else 0 :], "flooder-token")

    assert (status, answer["error"]) == (507, "OverQuota")
    assert f"{NAMESPACE}/{FLOODER} uses " in answer["message"]
    await small_collector.says("QUOTA: ")
    assert (await bench.client.call("echo", region="eu")).reason is None
    await until(
        lambda: any(f'"agent":"{AGENT}"' in line for line in small_collector.lines()), "the other's records arrive"
    )
    status, answer = await small_collector.get("/v1/usage", namespace=NAMESPACE)
    assert status == 200
    assert {one["agent"] for one in answer["usage"]} == {AGENT, FLOODER}
    assert all(one["bytes"] <= QUOTA for one in answer["usage"])


@requirement("records.quotas")
async def test_a_guard_beyond_its_quota_denies_with_audit_unavailable_once_its_spool_is_full(
    small_collector: Collector, bench: Bench
) -> None:
    collect_with(bench.guard, small_collector, INTERLOCK_SPOOL_BYTES=str(SPOOL))
    await bench.restart()
    allowed = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    body = json.dumps({**allowed, "params": {"name": "echo", "arguments": {"region": "eu"}, "_meta": META}})

    reasons: list[str | None] = []

    async def refused() -> bool:
        answers = await asyncio.gather(*(bench.client.post(body) for _ in range(20)))
        reasons.extend(answer.reason for answer in answers)
        return reasons[-1] == "AuditUnavailable"

    await until(refused, "the guard beyond its quota denies")
    assert set(reasons) == {None, "AuditUnavailable"}

    async def over_quota() -> bool:
        return 'refused_total{error="OverQuota"}' in await small_collector.telemetry()

    await until(over_quota, "the guard sends the rest of its spool, and the collector refuses it")


@requirement("records.reviews-bounded")
async def test_made_up_tokens_reach_the_api_server_at_a_bounded_rate_and_keep_no_guard_out(
    collector: Collector,
) -> None:
    chain = ChainWriter(f"{NAMESPACE}/{POD}/0000000000000001", AGENT).begin()
    assert (await collector.post(chain.lines))[0] == 200
    before = collector.reviews.token_reviews

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8)) as session:

        async def send(number: int) -> int:
            headers = {**HEADERS, "Authorization": f"Bearer made-up-{number}"}
            async with session.get(f"{collector.url}/v1/records", headers=headers) as response:
                return response.status

        loop = asyncio.get_running_loop()
        since = loop.time()
        statuses = await asyncio.gather(*(send(number) for number in range(500)))
        seconds = loop.time() - since
        assert set(statuses) == {401, 429}
        assert collector.reviews.token_reviews - before <= PEER_REVIEWS.burst + PEER_REVIEWS.per_second * seconds + 1
        assert await asyncio.gather(*(send(0) for _ in range(20))) == [401] * 20  # cached

    chain.deny(1)
    assert (await collector.post(chain.lines[1:], GUARD_TOKEN))[0] == 200
    assert PEER_REVIEWS.burst < ALL_REVIEWS.burst


@requirement("records.reviews-bounded")
async def test_permissions_of_readers_are_cached(collector: Collector) -> None:
    assert (await collector.get("/v1/chains", AUDITOR_TOKEN, namespace=NAMESPACE))[0] == 200
    collector.reviews.is_there = False

    assert (await collector.get("/v1/chains", AUDITOR_TOKEN, namespace=NAMESPACE))[0] == 200
