"""An agent and callers as the official A2A SDK makes them, unmodified, with a guard between them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.client.errors import A2AClientError
from a2a.helpers import get_stream_response_text, new_text_message
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    TaskState,
)
from a2a.utils.errors import A2AError

from tests.integration.guard.a2a_agent import Application, Executor
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Guard
from tests.integration.guard.tasking import TaskAgent, TaskBench, a_bundle_with_tasks
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.serving import serving

BINDINGS = ["JSONRPC", "HTTP+JSON"]


@dataclass
class A2A:
    """A guard with an A2A agent behind it, and the agent's card as a caller has got it through the guard."""

    bench: TaskBench
    executor: Executor
    card: AgentCard
    http: httpx.AsyncClient

    def client(self, binding: str, *, streaming: bool, version: str = "1.0") -> Client:
        card = AgentCard()
        card.CopyFrom(self.card)
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(
            one
            for one in self.card.supported_interfaces
            if (one.protocol_binding, one.protocol_version) == (binding, version)
        )
        config = ClientConfig(streaming=streaming, httpx_client=self.http, supported_protocol_bindings=[binding])
        return ClientFactory(config).create(card)


@pytest.fixture
async def a2a(api: FakeApiServer, tmp_path: Path) -> AsyncIterator[A2A]:
    application = Application(Executor())
    async with serving(application) as served:
        port = int(served.removesuffix("/mcp").rpartition(":")[2])
        api.set_bundle(a_bundle_with_tasks(port, most=2))
        guard = Guard(api, tmp_path)
        await guard.start()
        application.publish(guard.task_url)
        await until(lambda: guard.probe("/readyz"), "the guard is open")
        async with httpx.AsyncClient(timeout=60) as http, aiohttp.ClientSession() as session:
            card = await A2ACardResolver(http, guard.task_url).get_agent_card()
            yield A2A(TaskBench(api, guard, TaskAgent(port), session), application.executor, card, http)
        await guard.stop()


def a_request(text: str) -> SendMessageRequest:
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER))


async def replies(client: Client, text: str) -> list[StreamResponse]:
    return [one async for one in client.send_message(a_request(text))]


def state_of(response: StreamResponse) -> str:
    status = response.task.status if response.HasField("task") else response.status_update.status
    return TaskState.Name(status.state)


@requirement("tasks.a2a")
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_task_of_the_official_client_is_answered_by_the_official_server(a2a: A2A, binding: str) -> None:
    (answer,) = await replies(a2a.client(binding, streaming=False), "hello")
    assert state_of(answer) == "TASK_STATE_COMPLETED"
    assert [part.text for artifact in answer.task.artifacts for part in artifact.parts] == [
        "hello 0",
        "hello 1",
        "hello 2",
    ]
    task = (await a2a.bench.ended(2))[-1]
    assert (task["type"], task["outcome"], task["status"]) == ("Task", "Answered", 200)
    assert task["rpc"] == ("SendMessage" if binding == "JSONRPC" else "")
    assert a2a.executor.traces[0][0].split("-")[1] == task["trace"]
    assert a2a.executor.traces[0][1] == task["task"]


@requirement("tasks.a2a")
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_stream_of_the_official_server_comes_event_by_event(a2a: A2A, binding: str) -> None:
    seen: list[StreamResponse] = []
    async for event in a2a.client(binding, streaming=True).send_message(a_request("steps")):
        seen.append(event)
        if event.HasField("artifact_update") or (event.HasField("status_update") and len(seen) == 2):
            a2a.executor.step.set()  # the next event is made only once this one has arrived
    assert [get_stream_response_text(one) for one in seen if one.HasField("artifact_update")] == [
        "steps 0",
        "steps 1",
        "steps 2",
    ]
    assert state_of(seen[-1]) == "TASK_STATE_COMPLETED"
    assert (await a2a.bench.outcomes(2))[-1] == "Answered"


@requirement("tasks.a2a")
@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("text", "outcome"), [("fail", "Failed"), ("reject", "Rejected"), ("message", "Answered")])
async def test_what_the_official_server_says_of_a_task_is_what_is_recorded_of_it(
    a2a: A2A, binding: str, *, streaming: bool, text: str, outcome: str
) -> None:
    await replies(a2a.client(binding, streaming=streaming), text)
    assert (await a2a.bench.outcomes(2))[-1] == outcome
    assert await a2a.bench.figure('task_failures_total{kind="Task"}') == (outcome == "Failed")


@pytest.mark.parametrize("binding", BINDINGS)
async def test_an_agent_that_crashes_is_a_failure(a2a: A2A, binding: str) -> None:
    with pytest.raises(A2AError):
        await replies(a2a.client(binding, streaming=False), "crash")
    assert (await a2a.bench.outcomes(2))[-1] == "Failed"


async def test_a_client_of_a2a_0_3_is_served_too(a2a: A2A) -> None:
    (answer,) = await replies(a2a.client("JSONRPC", streaming=False, version="0.3"), "hello")
    assert state_of(answer) == "TASK_STATE_COMPLETED"
    task = (await a2a.bench.ended(2))[-1]
    assert (task["rpc"], task["type"], task["outcome"]) == ("message/send", "Task", "Answered")


@requirement("tasks.a2a")
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_task_is_queried_and_cancelled_while_all_slots_are_taken(a2a: A2A, binding: str) -> None:
    client = a2a.client(binding, streaming=True)
    streams: list[Any] = [client.send_message(a_request("hold")) for _ in range(2)]
    ids = [(await anext(stream)).task.id for stream in streams]
    waiting = asyncio.create_task(replies(client, "hello"))
    await until(lambda: _waits(a2a.bench), "a third task waits")
    assert (await client.get_task(GetTaskRequest(id=ids[0]))).id == ids[0]
    first = await anext(client.subscribe(SubscribeToTaskRequest(id=ids[0])))
    assert first.task.id == ids[0]
    for task in ids:
        cancelled = await client.cancel_task(CancelTaskRequest(id=task))
        assert TaskState.Name(cancelled.status.state) == "TASK_STATE_CANCELED"
    for stream in streams:
        assert [state_of(one) async for one in stream][-1] == "TASK_STATE_CANCELED"
    assert state_of((await waiting)[-1]) == "TASK_STATE_COMPLETED"
    await a2a.bench.reaches('tasks_total{kind="Task",outcome="Answered"}', 3)


async def _waits(bench: TaskBench) -> bool:
    return await bench.figure("tasks_waiting") == 1


@requirement("tasks.a2a")
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_kill_ends_the_stream_of_the_official_client_and_refuses_its_next_task(a2a: A2A, binding: str) -> None:
    client = a2a.client(binding, streaming=True)
    stream: Any = client.send_message(a_request("hold"))
    await anext(stream)
    a2a.bench.api.kill("incident-42")
    with pytest.raises(A2AClientError, match="Network communication error"):
        async for _ in stream:
            pass
    with pytest.raises(A2AError):
        await replies(a2a.client(binding, streaming=False), "hello")
    assert (await a2a.bench.outcomes(2))[-1] == "Killed"
