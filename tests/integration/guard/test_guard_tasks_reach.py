"""An agent that is not there yet, or not at each of its addresses: a real guard process tries again."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Guard
from tests.integration.guard.tasking import TaskAgent, TaskBench, guarding
from tests.integration.guard.test_guard_tasks_placements import SERVICES
from tests.requirements import requirement

GONE, NEXT = "127.0.0.2", "127.0.0.3"


@pytest.fixture
async def late(api: FakeApiServer, tmp_path: Path) -> AsyncIterator[TaskBench]:
    """A guard in the pod of an agent that does not listen yet."""
    async with guarding(api, TaskAgent(), Guard(api, tmp_path)) as bench:
        yield bench


@asynccontextmanager
async def separate(api: FakeApiServer, folder: Path, *addresses: str) -> AsyncIterator[tuple[TaskBench, Path]]:
    """Run a guard whose agent listens at `NEXT`; yield it with the file of the addresses that DNS has."""
    names = folder / "addresses"
    names.write_text(" ".join(addresses))
    more = {
        "PYTHONPATH": os.pathsep.join([str(SERVICES), *sys.path]),
        "INTERLOCK_AGENT_HOST": "agent-triage.agents.svc",
        "SERVICE_ADDRESSES_FILE": str(names),
    }
    agent = TaskAgent(address=NEXT)
    await agent.start()
    async with guarding(api, agent, Guard(api, folder, is_forked=False, more=more)) as bench:
        yield bench, names


@requirement("tasks.reach")
async def test_tasks_wait_for_a_port_that_opens_late_and_reach_the_agent_once(late: TaskBench) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    callers = [asyncio.create_task(late.post("/echo", body)) for body in (b"12345", parts(), b"")]
    await late.reaches("tasks_running", 3)
    assert not any(caller.done() for caller in callers)
    await late.agent.start()

    assert [(await caller)[0] for caller in callers] == [200] * 3
    assert sorted(one.body for one in late.agent.seen) == [b"", b"12345", b"one two"]
    assert await late.outcomes(3) == ["Answered"] * 3
    assert await late.figure('task_failures_total{kind="Task"}') == 0


@requirement("tasks.kill")
async def test_a_kill_ends_what_waits_for_the_agent(late: TaskBench) -> None:
    caller = asyncio.create_task(late.reason("/echo"))
    await late.reaches("tasks_running", 1)
    late.api.kill("incident-42")

    assert await caller == (503, "Killed")
    await late.agent.start()
    assert await late.outcomes(1) == ["Killed"]
    assert late.agent.seen == []


@requirement("tasks.hang-up")
async def test_a_caller_that_hangs_up_while_its_task_waits_for_the_agent_ends_it(late: TaskBench) -> None:
    caller = asyncio.create_task(late.post("/echo"))
    await late.reaches("tasks_running", 1)
    caller.cancel()

    await late.reaches("tasks_running", 0)
    await late.agent.start()
    assert await late.outcomes(1) == ["Cancelled"]
    assert (await late.post("/echo", b"next"))[0] == 200
    assert [one.body for one in late.agent.seen] == [b"next"]


@requirement("tasks.reach")
async def test_a_pod_that_refuses_costs_no_task_where_another_one_serves(api: FakeApiServer, tmp_path: Path) -> None:
    async with separate(api, tmp_path, GONE, NEXT) as (bench, _):
        assert [(await bench.post("/echo"))[0] for _ in range(3)] == [200] * 3
        assert len(bench.agent.seen) == 3
        assert await bench.figure('task_failures_total{kind="Task"}') == 0


@requirement("tasks.reach")
@pytest.mark.parametrize("first", [GONE, ""], ids=["a pod that has ended", "no pod"])
async def test_a_task_goes_to_the_pod_that_dns_names_next(api: FakeApiServer, tmp_path: Path, first: str) -> None:
    async with separate(api, tmp_path, *first.split()) as (bench, names):
        caller: asyncio.Task[tuple[int, Any]] = asyncio.create_task(bench.post("/echo"))
        await bench.reaches("tasks_running", 1)
        assert not caller.done()
        names.write_text(NEXT)

        assert (await caller)[0] == 200
        assert len(bench.agent.seen) == 1
