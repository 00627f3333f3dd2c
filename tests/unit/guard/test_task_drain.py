"""What a draining guard writes into the Lease, and when."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from interlock_contract.drain_report import LEAST_DRAIN_SECONDS, DrainReport, read_drains
from interlock_guard.tasks import drain
from interlock_guard.tasks.drain import DrainReporter
from interlock_kube.client import ApiError
from tests.support.placements import Placement, placements, until

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


@dataclass
class Lease:
    """The Lease of the placement; the first writes may fail."""

    writes: list[int] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    failures: int = 0

    async def patch(self, _path: str, body: dict[str, Any], _manager: str) -> dict[str, Any]:
        if self.failures:
            self.failures -= 1
            raise ApiError(503, "away")
        for key, value in body["metadata"]["annotations"].items():
            if value is None:
                del self.annotations[key]
            else:
                self.annotations[key] = value
        self.writes.append(self.report().under_way)
        return {"metadata": {"annotations": self.annotations}}

    def report(self) -> DrainReport:
        return read_drains(self.annotations)["pod-all"]


@pytest.fixture
async def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Placement]:
    monkeypatch.setattr(drain, "WRITE_PAUSE", 0.0)
    async with placements(tmp_path, "all") as (found,):
        found.open()
        yield found


def start(one: Placement, lease: Any, count_calls: Callable[[], int] = lambda: 0) -> asyncio.Task[None]:
    reporter = DrainReporter(
        *(lease, "/lease", "pod-all"),
        live=one.live,
        endpoint=one.endpoint,
        clock=lambda: NOW,
        count_calls=count_calls,
    )
    return asyncio.create_task(reporter.run(lambda _: None))


async def test_each_change_is_written_while_the_placement_drains(one: Placement) -> None:
    lease = Lease()
    running = start(one, lease)
    one.go_on.clear()
    task = asyncio.create_task(one.send())
    await until(lambda: one.seen)
    assert lease.writes == []

    one.open(draining=True)
    await until(lambda: lease.writes == [1])
    assert lease.report() == DrainReport(one.live.digest, 1, NOW)
    one.go_on.set()
    await task
    one.now = LEAST_DRAIN_SECONDS
    one.endpoint.on_change()
    await until(lambda: lease.writes == [1, 0])
    for _ in range(20):  # what changes nothing is not written
        one.endpoint.on_change()
        await asyncio.sleep(0)
    assert lease.writes == [1, 0]

    running.cancel()


async def test_a_drain_is_not_over_while_a_slow_node_sends_tasks(
    one: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that begins and ends between two counts is seen, too. Requests that are refused are no tasks."""
    monkeypatch.setattr(drain, "COUNT_PAUSE", 0.01)
    lease = Lease()
    running = start(one, lease)
    assert (await one.send())[0] == 200
    one.open(draining_pods=["pod-all"])
    await until(lambda: lease.writes == [1])

    one.now = 9.0
    assert (await one.send())[0] == 200, "the pod still serves what reaches it"
    one.now = 18.9
    for _ in range(20):
        one.endpoint.on_change()
        await asyncio.sleep(0.01)
    assert lease.writes == [1]
    one.now = 19.0
    await until(lambda: lease.writes == [1, 0])

    running.cancel()


async def test_a_drain_does_not_wait_for_clients_that_are_refused(one: Placement) -> None:
    lease = Lease()
    running = start(one, lease)
    one.open(draining=True)
    assert (await one.send())[0] == 503
    await until(lambda: lease.writes == [0])

    running.cancel()


async def test_calls_of_a_separate_agent_count_where_the_guard_goes_and_the_agent_may_stay(
    one: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "COUNT_PAUSE", 0.01)
    lease, calls = Lease(), [2]
    running = start(one, lease, lambda: calls[0])

    one.open(draining=True)
    await until(lambda: lease.writes == [0])
    one.open(draining_pods=["pod-all"])
    await until(lambda: lease.writes == [0, 2])
    calls[0] = 0
    await until(lambda: lease.writes == [0, 2, 0])

    running.cancel()


async def test_a_report_that_cannot_be_written_is_written_later(one: Placement) -> None:
    lease = Lease(failures=2)
    running = start(one, lease)

    one.open(draining=True)
    await until(lambda: lease.writes == [0])

    running.cancel()


async def test_another_bundle_is_reported_on_by_its_own_digest(one: Placement) -> None:
    lease = Lease()
    running = start(one, lease)
    one.open(draining=True)
    await until(lambda: len(lease.writes) == 1)

    one.open(draining=True, most=9)
    await until(lambda: len(lease.writes) == 2)
    assert lease.report().bundle == one.live.digest

    running.cancel()
