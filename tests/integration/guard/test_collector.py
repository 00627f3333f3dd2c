"""A real collector process: who may bring and read records, and what it confirms."""

import asyncio
import io
import json
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from interlock_audit.verify import FOUND, OK, UNREADABLE, main
from tests.integration.guard.collecting import AUDITOR_TOKEN, GUARD_TOKEN, OTHER_TOKEN, STRANGER_TOKEN, Collector
from tests.integration.guard.fake_api_server import AGENT, NAMESPACE
from tests.integration.guard.harness import POD
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.chains import ChainWriter

GUARD = f"{NAMESPACE}/{POD}/0000000000000001"


def a_chain() -> ChainWriter:
    return ChainWriter(GUARD, AGENT).begin().call(4).deny()


async def test_a_batch_is_confirmed_once_it_is_kept(collector: Collector) -> None:
    chain = a_chain()
    assert await collector.post(chain.lines) == (200, {"next": 10})
    await collector.stop(signal.SIGKILL)
    assert collector.lines() == [line.decode() for line in chain.lines]


async def test_gaps_forks_and_damage_are_refused_and_told_apart(collector: Collector) -> None:
    chain = a_chain()
    await collector.post(chain.lines[:3])
    assert await collector.post(chain.lines[5:]) == (409, {"error": "Gap", "next": 3})
    forked = ChainWriter(GUARD, AGENT).begin().deny(3).lines
    assert await collector.post(forked) == (409, {"error": "Fork", "seq": 1})
    status, answer = await collector.post([chain.lines[3].replace(b"Allow", b"Deny ")])
    assert (status, answer["error"]) == (400, "Invalid")
    assert collector.lines() == [line.decode() for line in chain.lines[:3]]
    await collector.says("FORK: ")
    metrics = await collector.telemetry()
    assert "interlock_audit_forks_total 1\n" in metrics
    assert "interlock_audit_gaps_total 1\n" in metrics
    assert 'interlock_audit_refused_total{error="Invalid"} 1\n' in metrics


async def test_a_gap_is_accepted_only_where_the_guard_declares_it(collector: Collector) -> None:
    chain = a_chain()
    assert (await collector.post(chain.lines[4:]))[0] == 409
    assert await collector.post(chain.lines[4:], lost="0") == (200, {"next": 10})
    await collector.says("GAP: ")


@requirement("records.authenticated")
@pytest.mark.parametrize("token", ["", "unknown", OTHER_TOKEN])
async def test_without_a_token_made_for_it_nothing_is_accepted_and_nothing_disclosed(
    collector: Collector, token: str
) -> None:
    assert (await collector.post(a_chain().lines, token))[0] == 401
    assert (await collector.get("/v1/records", token, namespace=NAMESPACE))[0] == 401
    assert collector.lines() == []


@requirement("records.authenticated")
async def test_a_guard_brings_records_of_its_own_pod_and_agent_only(collector: Collector) -> None:
    for guard, agent in (
        (f"{NAMESPACE}/another-pod/0000000000000001", AGENT),
        (f"other/{POD}/0000000000000001", AGENT),
        (GUARD, "another-agent"),
    ):
        status, answer = await collector.post(ChainWriter(guard, agent).begin().lines)
        assert (status, answer["error"]) == (403, "NotYours")
    assert (await collector.post(a_chain().lines, AUDITOR_TOKEN))[0] == 403
    assert collector.lines() == []


@requirement("records.authenticated")
async def test_reading_needs_the_permission_in_the_namespace_asked_for(collector: Collector) -> None:
    await collector.post(a_chain().lines)
    paths: list[tuple[str, dict[str, str]]] = [
        ("/v1/records", {"namespace": NAMESPACE}),
        ("/v1/chains", {"namespace": NAMESPACE}),
        ("/v1/lines", {"guard": GUARD}),
    ]
    for path, query in paths:
        assert (await collector.get(path, **query))[0] == 200
        assert (await collector.get(path, STRANGER_TOKEN, **query))[0] == 403
        assert (await collector.get(path, GUARD_TOKEN, **query))[0] == 403
    assert (await collector.get("/v1/records"))[0] == 403, "all namespaces need a permission for all"
    assert (await collector.get("/v1/lines", guard=GUARD.replace(NAMESPACE, "other")))[0] == 403


async def test_audit_records_are_queried_by_agent_time_and_decision_in_pages(collector: Collector) -> None:
    await collector.post(a_chain().lines)
    _, answer = await collector.get("/v1/records", namespace=NAMESPACE, agent=AGENT, decision="Deny")
    assert [json.loads(one["text"])["seq"] for one in answer["records"]] == [9]
    since = {"since": "2026-03-02T09:00:02.000Z", "until": "2026-03-02T09:00:04.000Z"}
    _, answer = await collector.get("/v1/records", namespace=NAMESPACE, **since)
    assert ([one["seq"] for one in answer["records"]], answer["next"]) == ([2, 3], None)
    found, after = [], {}
    for _ in range(4):
        _, answer = await collector.get("/v1/records", namespace=NAMESPACE, limit="3", **after)
        found += [one["seq"] for one in answer["records"]]
        after = {"after": answer["next"]}
    assert (found, answer["next"]) == (list(range(10)), None)


@pytest.mark.parametrize("query", [{"limit": "x"}, {"limit": "-1"}, {"after": "x"}, {"limit": "9" * 30}])
async def test_a_malformed_query_is_refused(collector: Collector, query: dict[str, str]) -> None:
    assert (await collector.get("/v1/records", namespace=NAMESPACE, **query))[0] == 400


async def test_the_free_part_of_the_disk_is_a_metric(collector: Collector) -> None:
    async def is_told() -> bool:
        found = re.search(r"^interlock_audit_disk_free_ratio (\S+)$", await collector.telemetry(), re.MULTILINE)
        return found is not None and 0 <= float(found.group(1)) <= 1

    await until(is_told, "the metric has a value")


@pytest.mark.parametrize("start", ["-" + "9" * 19, "9" * 19])
async def test_lines_are_read_from_any_number(collector: Collector, start: str) -> None:
    await collector.post(a_chain().lines)
    status, answer = await collector.get("/v1/lines", guard=GUARD, start=start)
    assert (status, len(answer["lines"])) == (200, 10 if start.startswith("-") else 0)


@requirement("records.quotas")
async def test_a_guard_beyond_its_rate_is_refused_before_its_batch_is_parsed(collector: Collector) -> None:
    refused = 0
    for _ in range(100):  # 16 MiB at once, and 1 MiB more each second
        status, answer = await collector.post([b"x" * (1024 * 1024 - 1)])
        assert (status, answer["error"]) in {(400, "Invalid"), (429, "OverRate")}
        refused += status == 429
        if refused:
            break
    assert refused


async def test_a_batch_beyond_the_bound_is_refused(collector: Collector) -> None:
    body = io.BytesIO(b"x" * (1024 * 1024 + 1))
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {GUARD_TOKEN}"}) as session,
        session.post(f"{collector.url}/v1/records", data=body) as response,
    ):
        assert response.status == 413


async def test_an_identity_is_reviewed_once_a_minute_and_never_guessed(collector: Collector) -> None:
    chain = a_chain()
    for line in chain.lines[:4]:
        assert (await collector.post([line]))[0] == 200
    assert collector.reviews.token_reviews == 1
    collector.reviews.is_there = False
    assert (await collector.post([chain.lines[4]]))[0] == 200
    status, answer = await collector.get("/v1/records", namespace=NAMESPACE)
    assert (status, answer["error"]) == (503, "Unavailable")


async def test_the_verifier_reads_the_collector_itself(
    collector: Collector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await collector.post(a_chain().lines)
    token = tmp_path / "auditor"
    token.write_text(AUDITOR_TOKEN)

    async def verify(*more: str) -> int:
        arguments = ["--url", collector.url, "--token", str(token), *more]
        return await asyncio.to_thread(main, arguments)

    assert await verify("--namespace", NAMESPACE) == OK
    assert capsys.readouterr().out == "10 lines in 1 chains: complete\n"
    assert await verify() == UNREADABLE
    assert "403" in capsys.readouterr().err
    assert main(["--sqlite", str(collector.database)]) == OK
    with closing(sqlite3.connect(collector.database)) as connection:
        forged = "hash, time, namespace, agent, kind, decision, line, received FROM records WHERE seq = 1"
        connection.execute(f"INSERT INTO records SELECT guard, -5, {forged}")
        connection.commit()
    assert await verify("--namespace", NAMESPACE) == FOUND
    assert "\nMisfiled: " in capsys.readouterr().out


async def test_the_verifier_finds_what_was_tampered_with_in_the_file(collector: Collector) -> None:
    await collector.post(a_chain().lines)
    await collector.stop(signal.SIGTERM)
    text = collector.database.read_bytes()
    assert text.count(b"Allow") >= 4
    collector.database.write_bytes(text.replace(b'"decision":"Allow"', b'"decision":"Aloha"', 1))
    assert main(["--sqlite", str(collector.database)]) == FOUND


async def test_sigterm_ends_it_in_order(collector: Collector) -> None:
    await collector.post(a_chain().lines)
    assert await collector.probe("/readyz")
    assert await collector.stop(signal.SIGTERM) == 0
    assert "Traceback" not in collector.log()
