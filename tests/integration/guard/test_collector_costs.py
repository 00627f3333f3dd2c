"""Reports on costs that a user reads from a real collector, without access to its database."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from interlock_audit.cost_sql import REMOTE_STEP
from interlock_audit.report import OK, UNREADABLE, main
from tests.integration.guard.collecting import AUDITOR_TOKEN, GUARD_TOKEN, STRANGER_TOKEN, Collector
from tests.integration.guard.fake_api_server import AGENT, NAMESPACE
from tests.integration.guard.harness import POD
from tests.requirements import requirement
from tests.support.chains import ChainWriter

MARCH = ["--from", "2026-03-01", "--to", "2026-04-01", "--format", "json"]


def paid_calls(count: int) -> ChainWriter:
    """Return a chain of calls that cost a cent each, all in the same second."""
    chain, time = ChainWriter(f"{NAMESPACE}/{POD}/0000000000000001", AGENT).begin(), "2026-03-02T09:00:00.000Z"
    for number in range(count):
        seq = chain.write("decision", time=time, agent=AGENT, decision="Allow", source="models", tool="openai/gpt-4o")
        usage = {"inputTokens": 1000, "outputTokens": number % 2}
        chain.write("outcome", time=time, of=seq, outcome="Answered", cost="0.01", costBasis="Usage", usage=usage)
    return chain


async def report(collector: Collector, folder: Path, *more: str, token: str = AUDITOR_TOKEN) -> int:
    (folder / "token").write_text(token)
    arguments = ["--url", collector.url, "--token", str(folder / "token"), *MARCH, *more]
    return await asyncio.to_thread(main, arguments)


@requirement("costs.reported")
async def test_a_reader_of_a_namespace_gets_its_report_step_by_step(
    collector: Collector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = paid_calls(count=REMOTE_STEP + 500).lines
    for first in range(0, len(lines), 1000):
        assert (await collector.post(lines[first : first + 1000]))[0] == 200
    assert await report(collector, tmp_path, "--namespace", NAMESPACE, "--by", "agent,model") == OK
    read = json.loads(capsys.readouterr().out)
    assert main(["--sqlite", str(collector.database), *MARCH, "--by", "agent,model"]) == OK
    assert read == json.loads(capsys.readouterr().out)
    assert (read["total"]["calls"], read["total"]["cost"]) == (REMOTE_STEP + 500, "25.00")


@requirement("records.authenticated")
@pytest.mark.parametrize(("token", "status"), [(STRANGER_TOKEN, "403"), (GUARD_TOKEN, "403"), ("unknown", "401")])
async def test_costs_need_the_permission_to_read_records(
    collector: Collector, tmp_path: Path, capsys: pytest.CaptureFixture[str], token: str, status: str
) -> None:
    await collector.post(paid_calls(1).lines)
    assert await report(collector, tmp_path, "--namespace", NAMESPACE, token=token) == UNREADABLE
    assert status in capsys.readouterr().err


async def test_costs_of_all_namespaces_need_the_permission_for_all(
    collector: Collector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await report(collector, tmp_path) == UNREADABLE
    assert "403" in capsys.readouterr().err


@pytest.mark.parametrize(
    "query", [{"groups": "tool"}, {"groups": "agent,agent;x"}, {"after": "x"}, {"after": "a,b,-1"}]
)
async def test_a_malformed_query_of_costs_is_refused(collector: Collector, query: dict[str, Any]) -> None:
    assert (await collector.get("/v1/costs", namespace=NAMESPACE, **query))[0] == 400
