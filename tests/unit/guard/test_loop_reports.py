"""Reports of loops: what a guard writes into its Lease, and what is read there."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from interlock_contract.loops import LoopReport, describe_loop, dump_loop, read_loops
from interlock_guard.selftest.reporter import SelfTestReporter
from tests.requirements import requirement
from tests.support.bounds import until

NOW = datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)
REPORT = LoopReport("crm/get_contact", 20, 60, "a" * 64, NOW)
KEY = "loops.interlock.dev/a-0"
WRITTEN = json.loads(dump_loop(REPORT))


class Lease:
    """The Lease in an API server, which refuses a number of writes."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.annotations: dict[str, str] = {}
        self.written: list[dict[str, str]] = []

    async def patch(self, _path: str, body: Any, _manager: str) -> Any:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError
        self.written.append(body["metadata"]["annotations"])
        self.annotations |= body["metadata"]["annotations"]
        return {"metadata": {"annotations": self.annotations}}


def a_reporter(lease: Any) -> SelfTestReporter:
    return SelfTestReporter(lease, "/lease", "a-0", clock=lambda: NOW)


@requirement("loops.kill")
async def test_a_loop_is_written_until_it_is_and_once() -> None:
    lease = Lease(refusals=2)
    reporter = a_reporter(lease)
    task = asyncio.create_task(reporter.run(lambda _: None))
    reporter.report_loop(REPORT)
    await until(lambda: KEY in lease.annotations, "the loop is in the Lease")
    reporter.report_dropped("crm")
    await until(lambda: len(lease.written) > 1, "something else is written")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert read_loops(lease.annotations) == {"a-0": REPORT}
    assert [KEY in one for one in lease.written] == [True, False]


def test_what_is_written_is_read_and_named_by_all_that_tells_it_from_others() -> None:
    assert read_loops({KEY: dump_loop(REPORT), "denials.interlock.dev/a-0": dump_loop(REPORT)}) == {"a-0": REPORT}
    assert describe_loop("a-0", REPORT) == (
        "loop: 20 identical calls of crm/get_contact in 60s, reported by pod a-0 at 2026-01-01T12:30:00.123456Z"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "x" * 5000,
        *(json.dumps({**WRITTEN, name: None}) for name in WRITTEN),
        *(json.dumps({name: value for name, value in WRITTEN.items() if name != without}) for without in WRITTEN),
        json.dumps({**WRITTEN, "at": "2026-01-01T00:00:00"}),
        json.dumps({**WRITTEN, "calls": 0}),
        json.dumps({**WRITTEN, "windowSeconds": -1}),
        json.dumps({**WRITTEN, "calls": 10**12}),
        json.dumps({**WRITTEN, "call": "a\nb"}),
        json.dumps({**WRITTEN, "call": "x" * 300}),
        json.dumps({**WRITTEN, "call": {"a": {}}}),
    ],
)
def test_what_is_no_report_is_left_out(text: str) -> None:
    assert read_loops({KEY: text}) == {}
