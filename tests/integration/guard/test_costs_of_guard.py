"""What a real guard records of costs is what a report says, and what the provider charges."""

import json
from pathlib import Path

import pytest

from interlock_audit.report import OK, main
from interlock_audit.sqlite import open_sqlite
from interlock_audit.stores import Accepted, Batch, Received
from interlock_contract.audit_chain import open_line
from tests.integration.guard.budget_rig import a_budget_rig
from tests.integration.guard.fake_api_server import AGENT, NAMESPACE
from tests.integration.guard.harness import whole_lines
from tests.requirements import requirement

CALLS = 5


@requirement("costs.reported")
async def test_a_report_says_what_the_provider_charges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with a_budget_rig(tmp_path) as rig:
        (guard,) = rig.guards
        for _ in range(CALLS):
            assert (await rig.post(guard))[0] == 200
        await rig.costs(guard, CALLS)
        lines = [line.encode() for line in whole_lines(guard.folder / "records")]
        charged = rig.provider.charged
    store = open_sqlite(tmp_path / "records.sqlite")
    batch = Batch(
        NAMESPACE, AGENT, [Received(line.decode(), open_line(line)) for line in lines], "2026-03-02T09:00:00.000Z"
    )
    assert isinstance(store.append(batch), Accepted)
    store.close()
    month = ["--from", "2000-01-01", "--to", "8000-01-01", "--by", "agent,answered-model", "--format", "json"]
    assert main(["--sqlite", str(tmp_path / "records.sqlite"), *month]) == OK
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["agent"], row["answered-model"]) == (f"{NAMESPACE}/{AGENT}", "openai/gpt-4o-mini")
    assert (row["calls"], row["callsWithoutUsage"]) == (CALLS, 0)
    assert (row["usage"]["inputTokens"], row["usage"]["outputTokens"]) == (100 * CALLS, 10 * CALLS)
    assert round(float(row["cost"]) * 10**9) == charged > 0
