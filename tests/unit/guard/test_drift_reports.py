"""Reports of changed tools: the first of each change immediately, repeated ones seldom, and never many writes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock_contract.selftest_report import DROPPED_SUFFIX, read_drifts
from interlock_guard.selftest.reporter import SelfTestReporter
from tests.requirements import requirement
from tests.support.bounds import until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Lease:
    """The Lease in an API server: the times of all writes."""

    def __init__(self) -> None:
        self.annotations: dict[str, str] = {}
        self.written_at: list[float] = []

    async def patch(self, _path: str, body: Any, _manager: str) -> Any:
        self.written_at.append(asyncio.get_running_loop().time())
        self.annotations |= body["metadata"]["annotations"]
        return {"metadata": {"annotations": self.annotations}}


class Guard:
    """A reporter at work."""

    def __init__(self) -> None:
        self.lease, self.now = Lease(), NOW
        client: Any = self.lease
        self.reporter = SelfTestReporter(client, "/lease", "a-0", clock=lambda: self.now)

    def written(self, name: str = "crm") -> datetime | None:
        return read_drifts(self.lease.annotations, self.now).get(name)

    async def run_until_written(self, at: datetime) -> None:
        task = asyncio.create_task(self.reporter.run(lambda _: None))
        await until(lambda: self.written() == at, "the change is in the Lease")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@requirement("drift.reported-early")
async def test_another_change_of_the_same_server_is_reported_immediately() -> None:
    guard = Guard()
    guard.reporter.report_drift("crm", "get_contact aa")
    await guard.run_until_written(NOW)
    guard.now += timedelta(seconds=3)
    guard.reporter.report_drift("crm", "get_contact aa")
    guard.reporter.report_drift("crm", "get_contact bb")
    await guard.run_until_written(guard.now)


@requirement("drift.reported-early")
def test_the_same_change_is_reported_again_after_a_minute_and_then_more_and_more_seldom() -> None:
    guard = Guard()
    reported = []
    for minute in range(240):
        guard.now = NOW + minute * MINUTE
        guard.reporter.report_drift("crm", "get_contact aa")
        if guard.reporter._drifts["crm"] == guard.now:  # noqa: SLF001 - what the next write would have
            reported.append(minute)
    assert reported == [0, 1, 3, 7, 15, 31, 63, 123, 183]


@requirement("drift.reported-early")
@pytest.mark.parametrize("changes", [2, 2000])
async def test_a_server_that_changes_all_the_time_costs_a_write_a_second_and_little_memory(changes: int) -> None:
    guard = Guard()
    guard.reporter.report_drift("crm", "first")
    await guard.run_until_written(NOW)
    guard.now += MINUTE
    for number in range(changes):
        guard.reporter.report_drift("crm", f"get_contact {number}")
    await guard.run_until_written(guard.now)
    first, *others = guard.lease.written_at
    assert len(others) == 1
    assert others[0] - first >= 1.0
    assert len(guard.reporter._changes) <= 256  # noqa: SLF001 - memory is what is bounded


@requirement("guard.odd-messages")
async def test_dropped_messages_are_reported_next_to_changed_tools() -> None:
    guard = Guard()
    guard.reporter.report_dropped("mail")
    guard.reporter.report_drift("crm", "get_contact aa")
    await guard.run_until_written(NOW)
    assert guard.written(f"mail{DROPPED_SUFFIX}") == NOW
    assert guard.written("mail") is None, "its tools have not changed"
