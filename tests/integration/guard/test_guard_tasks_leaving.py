"""A separate agent with two pods of which one goes: a real guard process, and the agent at two addresses."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from interlock_contract.bundle import digest, dump_bundle, parse_bundle
from interlock_contract.drain_report import DrainReport, read_drains
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import POD, Guard
from tests.integration.guard.tasking import TaskAgent, TaskBench, a_bundle_with_tasks
from tests.integration.guard.test_guard_tasks_placements import SERVICES
from tests.support.bounds import until
from tests.support.ports import free_port

GOING, STAYING = "127.0.0.2", "127.0.0.3"


@pytest.fixture
async def pods(api: FakeApiServer, tmp_path: Path) -> AsyncIterator[tuple[TaskBench, TaskAgent, TaskAgent]]:
    """The guard, the agent's pod that goes, and the one that stays."""
    port = free_port()
    going, staying = TaskAgent(port, address=GOING), TaskAgent(port, address=STAYING)
    async with AsyncExitStack() as stack:
        for one in (going, staying):
            await one.start()
            stack.push_async_callback(one.stop)
        api.set_bundle(a_bundle_with_tasks(port))
        more = {
            "PYTHONPATH": os.pathsep.join([str(SERVICES), *sys.path]),
            "INTERLOCK_AGENT_HOST": "agent-triage.agents.svc",
            "SERVICE_ADDRESSES": f"{GOING} {STAYING}",
        }
        guard = Guard(api, tmp_path, is_forked=False, more=more)
        await guard.start()
        stack.push_async_callback(guard.stop)
        await until(lambda: guard.probe("/readyz"), "the guard is open")
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield TaskBench(api, guard, going, session), going, staying


async def test_a_pod_that_goes_keeps_its_task_gets_no_new_one_and_is_reported_empty_at_its_end(
    pods: tuple[TaskBench, TaskAgent, TaskAgent],
) -> None:
    bench, going, staying = pods
    held = asyncio.create_task(bench.post("/hold"))
    await until(lambda: going.running == 1, "the first pod has a task")

    text = dump_bundle(replace(parse_bundle(a_bundle_with_tasks(going.port)), draining_addresses=(GOING,)))
    bench.api.set_bundle(text)
    await until(lambda: _leaving(bench, text) == 1, "the guard reports the task")
    for _ in range(3):
        assert (await bench.post("/echo"))[0] == 200
    assert (len(going.seen), len(staying.seen)) == (1, 3)

    going.release.set()
    assert (await held)[0] == 200
    await until(lambda: _leaving(bench, text) == 0, "the guard reports that none is left")
    report = read_drains(bench.api.lease or {})[POD]
    assert report == DrainReport(digest(text), None, report.at, 0), "the guard itself does not drain"


def _leaving(bench: TaskBench, text: str) -> int | None:
    report = read_drains(bench.api.lease or {}).get(POD)
    return None if report is None or report.bundle != digest(text) else report.under_way_leaving
