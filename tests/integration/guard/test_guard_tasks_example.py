"""The agent of examples/08-tasks, as its manifest has it, behind a guard."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from interlock.api.agent import Agent
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Guard
from tests.integration.guard.tasking import DyingAgent, TaskAgent, TaskBench, a_bundle_with_tasks
from tests.support.bounds import until
from tests.support.examples import example_objects, find
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port


@pytest.fixture
async def bench(api: FakeApiServer, tmp_path: Path) -> AsyncIterator[TaskBench]:
    agent = Agent.model_validate(find(example_objects("08-tasks", "agents"), "Agent"))
    assert agent.spec.tasks is not None
    (file,) = agent.spec.files
    assert file.path in agent.spec.template.command[-1]
    port = free_port()
    program = tmp_path / file.path
    program.write_text(file.content.replace(str(agent.spec.tasks.port), str(port)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program)),
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=end_with_parent,
    )
    running = DyingAgent(port, process)
    await until(running.listens, "the agent listens")
    api.set_bundle(a_bundle_with_tasks(port, agent.spec.tasks.max_concurrent_tasks))
    guard = Guard(api, tmp_path)
    await guard.start()
    await until(lambda: guard.probe("/readyz"), "the guard is open")
    async with aiohttp.ClientSession() as session:
        yield TaskBench(api, guard, TaskAgent(port), session)
    await guard.stop()
    await running.kill()


async def test_the_agent_of_the_example_answers_its_tasks_through_the_guard(bench: TaskBench) -> None:
    answers = await asyncio.gather(*(bench.post("/", b'{"text": "hello", "seconds": 0.01}') for _ in range(4)))
    assert answers == [(200, {"said": "hello"})] * 4
    assert await bench.outcomes(4) == ["Answered"] * 4
