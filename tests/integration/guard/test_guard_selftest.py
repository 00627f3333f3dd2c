"""Self-test reports: they reach the placement's Lease, whatever becomes of the API server meanwhile."""

import json
from datetime import UTC, datetime, timedelta

from interlock_contract.bundle import digest
from interlock_contract.names import SELFTEST_PREFIX
from interlock_contract.selftest_report import MAX_REPORTS, SelfTestReport, dump_report, read_reports
from tests.integration.guard.harness import POD, Bench, a_bundle
from tests.requirements import requirement
from tests.support.bounds import until


def reported(bench: Bench) -> SelfTestReport | None:
    return read_reports(bench.api.lease or {}).get(POD)


async def is_self_tested(bench: Bench, text: str) -> None:
    def is_reported() -> bool:
        found = reported(bench)
        return found is not None and (found.bundle, found.flaw) == (digest(text), "")

    await until(is_reported, "the bundle is self-tested")


@requirement("guard.selftest")
async def test_each_bundle_is_self_tested_once_and_reported(bench: Bench) -> None:
    first = a_bundle(["echo"], read_only=["drop"])
    bench.api.set_bundle(first)
    await is_self_tested(bench, first)
    found = reported(bench)
    assert found is not None
    assert found.calls >= 3
    assert await bench.guard.probe("/readyz")

    second = a_bundle(["echo", "slow"])
    bench.api.set_bundle(second)
    await is_self_tested(bench, second)
    writes = bench.api.lease_writes
    bench.api.expire_watches()  # each list that follows brings the same bundle again
    lists = bench.api.lists
    await until(lambda: bench.api.lists >= lists + 2, "both objects were listed again")
    assert bench.api.lease_writes == writes


@requirement("guard.selftest")
async def test_synthetic_calls_reach_neither_server_nor_records(bench: Bench) -> None:
    text = a_bundle(["echo"], read_only=["drop"], writable=["put"])
    bench.api.set_bundle(text)
    await is_self_tested(bench, text)
    assert bench.executed_names() == []
    assert not [record for record in bench.guard.records() if "interlock-selftest" in json.dumps(record)]


async def test_what_could_not_be_reported_is_reported_later_and_calls_go_on_meanwhile(bench: Bench) -> None:
    bench.api.lease = None
    text = a_bundle(["echo", "slow"])
    bench.api.set_bundle(text)
    await until(lambda: "HTTP 404" in (bench.guard.folder / "log").read_text(), "there is no Lease")
    assert (await bench.client.call("echo", text="x")).status == 200
    bench.api.lease = {}
    await is_self_tested(bench, text)


async def test_what_guards_said_that_are_gone_is_taken_away_in_the_end(bench: Bench) -> None:
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    old = {
        f"{SELFTEST_PREFIX}p{age}": dump_report(SelfTestReport("d", 1), begin + timedelta(seconds=age))
        for age in range(MAX_REPORTS + 3)
    }
    bench.api.lease = {"kept": "yes", **old}
    text = a_bundle(["echo", "slow"])
    bench.api.set_bundle(text)
    await is_self_tested(bench, text)
    await until(lambda: len(read_reports(bench.api.lease or {})) == MAX_REPORTS, "the oldest are gone")
    assert (bench.api.lease or {})["kept"] == "yes"
    assert f"{SELFTEST_PREFIX}p3" not in (bench.api.lease or {})
