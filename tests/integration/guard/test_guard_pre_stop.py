"""The preStop hook of a real guard process: a task under way holds it up, and a kill ends both immediately."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from interlock_contract.pod import PRE_STOP_PATH
from interlock_guard.pre_stop import MAX_WAITING
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Guard
from tests.integration.guard.tasking import TaskAgent, TaskBench, guarding
from tests.support.bounds import check_promise, until


@pytest.fixture
async def bench(request: pytest.FixtureRequest, api: FakeApiServer, tmp_path: Path) -> AsyncIterator[TaskBench]:
    """A guard in a pod with this grace period in seconds, 60 unless the test says otherwise."""
    agent = TaskAgent()
    await agent.start()
    guard = Guard(api, tmp_path, more={"INTERLOCK_GRACE_SECONDS": getattr(request, "param", "60")})
    async with guarding(api, agent, guard) as found:
        yield found


async def test_a_kill_during_a_drain_cuts_the_traffic_and_ends_the_hook_immediately(bench: TaskBench) -> None:
    task = asyncio.create_task(bench.post("/hold"))
    await until(lambda: bench.agent.running == 1, "the agent has the task")
    hook = asyncio.create_task(bench.guard.probe(PRE_STOP_PATH))

    async def ends_connections() -> bool:
        async with bench.session.post(bench.url("/echo"), data=b"{}") as response:
            assert response.status == 200, "a late task is served"
            return response.headers.get("Connection") == "close"

    await until(ends_connections, "the hook waits")
    async with bench.session.get(f"http://127.0.0.1:{bench.guard.port}/ready") as response:
        assert (response.status, response.headers.get("Connection")) == (200, "close"), "the agent connects again"
    assert not hook.done()

    bench.api.kill("data leak")
    began = time.monotonic()
    status, body = await task
    assert (status, body["error"]["data"]["reason"]) == (503, "Killed")
    assert await hook
    check_promise(time.monotonic() - began, 1, "a kill ends tasks and the preStop hook of a pod that drains")
    assert await bench.reason() == (503, "Killed")
    await until(lambda: bench.agent.cancelled == 1, "the agent's connection is cut")


async def test_calls_of_the_hook_from_many_addresses_do_not_end_the_kubelets(bench: TaskBench) -> None:
    assert await bench.guard.probe("/startupz"), "its address is known by this probe"
    task = asyncio.create_task(bench.post("/hold"))
    await until(lambda: bench.agent.running == 1, "the agent has the task")
    hook = asyncio.create_task(bench.guard.probe(PRE_STOP_PATH))

    async def call_from(address: str) -> None:
        connector = aiohttp.TCPConnector(local_addr=(address, 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            await session.get(f"http://127.0.0.1:{bench.guard.observe_port}{PRE_STOP_PATH}")

    others = [asyncio.create_task(call_from(f"127.0.1.{number}")) for number in range(1, MAX_WAITING + 9)]
    await until(lambda: sum(one.done() for one in others) >= 8, "what is too much was answered")
    assert not hook.done()
    bench.api.kill("data leak")
    assert await hook
    await asyncio.gather(task, *others)


@pytest.mark.parametrize("bench", ["1"], indirect=True)
async def test_a_short_grace_period_has_no_wait(bench: TaskBench) -> None:
    task = asyncio.create_task(bench.post("/hold"))
    await until(lambda: bench.agent.running == 1, "the agent has the task")
    assert await bench.guard.probe(PRE_STOP_PATH)
    bench.agent.release.set()
    assert (await task)[0] == 200
