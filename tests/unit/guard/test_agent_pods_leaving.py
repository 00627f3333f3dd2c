"""Pods of a separate agent that go: they get no new tasks, and each guard says what is under way in them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from interlock_contract.drain_report import DrainReport, read_drains
from interlock_guard.tasks import drain
from interlock_guard.tasks.drain import DrainReporter
from tests.support.placements import Placement, placements, until
from tests.unit.guard.test_task_drain import NOW, Lease

GOING, STAYING = "127.0.0.1", "127.0.0.2"


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Placement]:
    async with placements(tmp_path, "all", agent_at=(GOING, STAYING)) as (found,):
        found.open()
        yield found


def leave(one: Placement, *addresses: str) -> None:
    one.open(draining_addresses=addresses)


async def hold(one: Placement, path: str = "/", body: Any = b"x") -> asyncio.Task[Any]:
    """Return a task that has reached the agent, and that this holds."""
    one.go_on.clear()
    count = len(one.seen)
    task = asyncio.create_task(one.send(path, body))
    await until(lambda: len(one.seen) > count)
    return task


async def release(one: Placement, *tasks: asyncio.Task[Any]) -> None:
    one.go_on.set()
    await asyncio.gather(*tasks)


def a_task(state: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": {"kind": "task", "id": "t-1", "status": {"state": state}}}


def a_message(**ids: str) -> dict[str, Any]:
    message = {"messageId": "m", "role": "user", "kind": "message", "parts": [], **ids}
    return {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}


async def test_a_pod_that_goes_gets_no_new_task_while_there_is_another(one: Placement) -> None:
    await one.send()
    leave(one, GOING)
    await one.send()
    leave(one)
    await one.send()

    assert one.reached == [GOING, STAYING, GOING]


async def test_a_pod_that_goes_gets_tasks_where_there_is_no_other(one: Placement) -> None:
    leave(one, GOING, STAYING)

    assert (await one.send())[0] == 200
    assert one.reached == [GOING]


async def test_what_is_under_way_in_a_pod_that_goes_is_counted_and_nothing_else_is(one: Placement) -> None:
    assert one.endpoint.under_way_leaving is None
    held = await hold(one)
    leave(one, GOING)
    assert one.endpoint.under_way_leaving == 1

    other = await hold(one)
    assert (one.reached, one.endpoint.under_way_leaving) == ([GOING, STAYING], 1)
    await release(one, held, other)
    await until(lambda: one.endpoint.under_way_leaving == 0)


async def test_a_task_counts_from_when_its_pod_is_dialled(one: Placement) -> None:
    counted: list[int | None] = []

    def change() -> None:
        one.on_dial = lambda: None
        for address in (GOING, "127.0.0.3"):
            leave(one, address)
            counted.append(one.endpoint.under_way_leaving)

    one.on_dial = change
    await one.send()

    assert counted == [1, 0]
    assert one.reached == [GOING], "its addresses were looked up before"


async def test_what_is_under_way_is_told_again_once_the_pod_of_a_task_is_known(one: Placement) -> None:
    told: list[int | None] = []

    def change() -> None:
        one.on_dial = lambda: None
        leave(one, STAYING)

    one.endpoint.on_change = lambda: told.append(one.endpoint.under_way_leaving)
    one.on_dial = change
    held = await hold(one)

    assert told[-2:] == [1, 0], "it could be in either pod, and is in the other one"
    await release(one, held)


async def test_requests_about_a_task_of_a2a_go_to_its_pod_until_it_ends(one: Placement) -> None:
    one.answer = a_task("working")
    await one.send(body=a_message())
    leave(one, GOING)
    assert one.endpoint.under_way_leaving == 1

    query = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"id": "t-1"}}
    await one.send(body=query)
    await one.send(body=a_message(taskId="t-1"))
    await one.send(body=a_message())
    assert one.reached == [GOING, GOING, GOING, STAYING]


async def test_a_task_of_a2a_that_has_ended_is_no_longer_under_way_in_its_pod(one: Placement) -> None:
    one.answer = a_task("working")
    await one.send(body=a_message())
    leave(one, GOING)
    one.answer = a_task("completed")
    query = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"id": "t-1"}}

    await one.send(body=query)

    await until(lambda: one.endpoint.under_way_leaving == 0)
    await one.send(body=query)
    assert one.reached == [GOING, GOING, STAYING]


async def test_a_guard_that_takes_tasks_reports_what_is_in_pods_that_go(
    one: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "WRITE_PAUSE", 0.0)
    lease: Any = Lease()
    reporter = DrainReporter(lease, "/lease", "pod-all", live=one.live, endpoint=one.endpoint, clock=lambda: NOW)
    running = asyncio.create_task(reporter.run(lambda _: None))
    held = await hold(one)
    assert lease.annotations == {}

    leave(one, GOING)
    await until(lambda: read_drains(lease.annotations))
    assert lease.report() == DrainReport(one.live.digest, None, NOW, 1)
    await release(one, held)
    await until(lambda: lease.report() == DrainReport(one.live.digest, None, NOW, 0))

    running.cancel()


async def test_what_is_passed_on_is_in_no_pod_of_this_placement(tmp_path: Path) -> None:
    async with placements(tmp_path, "one", "other", agent_at=(GOING, STAYING)) as (one, other):
        other.open()
        one.open(other.peer(), draining=True)
        other.go_on.clear()
        task = asyncio.create_task(one.send())
        await until(lambda: other.seen)

        one.open(other.peer(), draining=True, draining_addresses=(GOING,))
        assert (one.endpoint.under_way, one.endpoint.under_way_leaving) == (1, 0)
        await release(other, task)
