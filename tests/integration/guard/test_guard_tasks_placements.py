"""Three placements of one agent: real guards, and agents and callers as the official A2A SDK makes them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.helpers import new_text_message
from a2a.types import AgentCard, CancelTaskRequest, GetTaskRequest, Role, SendMessageRequest, StreamResponse, TaskState
from msgspec.structs import replace

from interlock_contract.bundle import (
    BundlePeer,
    BundleTasks,
    BundleTaskScope,
    BundleToolScope,
    ScopeLimit,
    digest,
    dump_bundle,
    parse_bundle,
)
from interlock_contract.drain_report import is_drained, read_drains
from interlock_contract.selftest_report import read_reports
from tests.integration.guard.a2a_agent import Application, Executor
from tests.integration.guard.fake_api_server import NAMESPACE, FakeApiServer
from tests.integration.guard.harness import POD, Guard, a_bundle
from tests.support.bounds import until
from tests.support.ports import free_port
from tests.support.serving import serving

SERVICES = Path(__file__).parent / "programs" / "services"
EU, US = (ScopeLimit("region", ("eu",)),), (ScopeLimit("region", ("us",)),)
BINDINGS = ["JSONRPC", "HTTP+JSON"]
Scopes = Sequence[Sequence[ScopeLimit]]


@dataclass
class Running:
    """One placement: its guard, its agent, and what the bundle says."""

    stage: str
    api: FakeApiServer
    guard: Guard
    executor: Executor
    agent_port: int
    http: httpx.AsyncClient
    card: AgentCard | None = None
    text: str = ""

    def peer(self, scope: Sequence[ScopeLimit] = (), excluded: Scopes = (), *, draining: bool = False) -> BundlePeer:
        url = f"http://tasks-{self.stage}.{NAMESPACE}.svc:{self.guard.task_port}"
        return BundlePeer(self.stage, "r", url, tuple(scope), tuple(map(tuple, excluded)), draining)

    def open(
        self, *peers: BundlePeer, scope: Sequence[ScopeLimit] = (), excluded: Scopes = (), draining: bool = False
    ) -> None:
        bundle = parse_bundle(a_bundle(["echo"]))
        self.text = dump_bundle(
            replace(
                bundle,
                stage=self.stage,
                revision="r",
                scope=tuple(scope),
                excluded=tuple(map(tuple, excluded)),
                is_draining=draining,
                peers=peers,
                tasks=BundleTasks(self.agent_port, 4, (BundleTaskScope("region", header="X-Region"),)),
            )
        )
        self.api.set_bundle(self.text)

    def client(self, binding: str, *, region: str = "", streaming: bool = True) -> Client:
        assert self.card is not None
        card = AgentCard()
        card.CopyFrom(self.card)
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(
            one
            for one in self.card.supported_interfaces
            if (one.protocol_binding, one.protocol_version) == (binding, "1.0")
        )
        http = httpx.AsyncClient(timeout=60, headers={"X-Region": region} if region else {})
        self.opened.append(http)
        config = ClientConfig(streaming=streaming, httpx_client=http, supported_protocol_bindings=[binding])
        return ClientFactory(config).create(card)

    opened: list[httpx.AsyncClient] = field(default_factory=list)


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[list[Running]]:
    """The limited placements of eu and us, and the one that serves the rest."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        stages = ("one-eu", "one-us", "everywhere")
        for stage in stages:
            (tmp_path / stage).mkdir()
        found = [await _start(stack, tmp_path / stage, stage, http) for stage in stages]
        eu, us, rest = found
        eu.open(us.peer(US), rest.peer((), (EU, US)), scope=EU)
        us.open(eu.peer(EU), rest.peer((), (EU, US)), scope=US)
        rest.open(eu.peer(EU), us.peer(US), excluded=(EU, US))
        for one in found:
            await one.guard.start()
            stack.push_async_callback(one.guard.stop)
        for one in found:
            await until(lambda one=one: one.guard.probe("/readyz"), "the guard is open")  # type: ignore[misc]
            one.card = await A2ACardResolver(http, one.guard.task_url).get_agent_card()
        yield found
        for one in found:
            for opened in one.opened:
                await opened.aclose()


async def _start(stack: AsyncExitStack, folder: Path, stage: str, http: httpx.AsyncClient) -> Running:
    application = Application(Executor())
    served = await stack.enter_async_context(serving(application))
    api = FakeApiServer(free_port())
    api.set_agent()
    await api.start()
    stack.push_async_callback(api.stop)
    path = os.pathsep.join([str(SERVICES), *sys.path])
    guard = Guard(api, folder, is_forked=False, more={"PYTHONPATH": path})
    application.publish(guard.task_url)
    port = int(served.removesuffix("/mcp").rpartition(":")[2])
    return Running(stage, api, guard, application.executor, port, http)


def a_request(text: str, **ids: str) -> SendMessageRequest:
    message = new_text_message(text, role=Role.ROLE_USER)
    for name, value in ids.items():
        setattr(message, name, value)
    return SendMessageRequest(message=message)


async def replies(client: Client, text: str, **ids: str) -> list[StreamResponse]:
    return [one async for one in client.send_message(a_request(text, **ids))]


def begun(three: list[Running]) -> list[int]:
    return [len(one.executor.traces) for one in three]


def state_of(response: StreamResponse) -> str:
    status = response.task.status if response.HasField("task") else response.status_update.status
    return TaskState.Name(status.state)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_task_of_another_region_streams_through_two_guards(three: list[Running], binding: str) -> None:
    eu, _, rest = three
    seen: list[StreamResponse] = []
    async for event in rest.client(binding, region="eu").send_message(a_request("steps")):
        seen.append(event)
        if event.HasField("artifact_update") or (event.HasField("status_update") and len(seen) == 2):
            eu.executor.step.set()  # the next event is made only once this one has arrived

    assert state_of(seen[-1]) == "TASK_STATE_COMPLETED"
    assert begun(three) == [1, 0, 0]
    await until(lambda: len(rest.guard.tasks()) == 2, "the task is recorded")
    passed = rest.guard.tasks()[-1]
    assert (passed["passedTo"], passed["values"]) == ("one-eu/r", "region=eu")

    def taken() -> list[dict[str, Any]]:
        return [one for one in eu.guard.tasks() if one["trace"] == passed["trace"]]

    await until(lambda: bool(taken()), "the guard that took the task has recorded it, too")
    assert [(one["forwarded"], one["outcome"]) for one in taken()] == [("scope", "Answered")]


async def test_scope_probes_inside_outside_both_and_none(three: list[Running]) -> None:
    probes = {"eu": 0, "us": 1, "asia": 2, "": 2, "eu, us": None}
    async with aiohttp.ClientSession() as session:
        for at in three:
            for region, by in probes.items():
                before = begun(three)
                headers = {"X-Region": region} if region else {}
                async with session.post(f"{at.guard.task_url}/", json=_send("hello"), headers=headers) as response:
                    body = await response.json()
                if by is None:
                    assert (response.status, body["error"]["data"]["reason"]) == (421, "OutOfScope")
                    assert {one["stage"] for one in body["error"]["data"]["servedBy"]} == {"one-eu", "one-us"}
                else:
                    assert response.status == 200
                    before[by] += 1
                assert begun(three) == before
    for one in three:
        await until(lambda one=one: _refused(one) == 1, "the refusal is recorded")  # type: ignore[misc]


def _refused(one: Running) -> int:
    return [task["outcome"] for task in one.guard.tasks()].count("OutOfScope")


def _send(text: str) -> dict[str, Any]:
    message = {"messageId": "m-1", "role": "user", "kind": "message", "parts": [{"kind": "text", "text": text}]}
    return {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_placement_drains_while_its_tasks_go_on_and_says_when_they_have_ended(
    three: list[Running], binding: str
) -> None:
    eu, us, rest = three
    stream: Any = rest.client(binding, region="eu").send_message(a_request("steps"))
    first = await anext(stream)
    task, context = first.task.id, first.task.context_id

    rest.open(eu.peer(EU, draining=True), us.peer(US), excluded=(US,))
    eu.open(us.peer(US), rest.peer((), (US,)), scope=EU, draining=True)
    await until(lambda: _under_way(eu) == 2, "the drain is reported: a request and an A2A task")
    await until(lambda: _obeys(rest), "the guard of the rest has the bundle in which the other one drains")

    # New work of the region goes to the successor, wherever it is sent, and what is under way stays where it is.
    for at in (rest, eu):
        assert state_of((await replies(at.client(binding, region="eu"), "hello"))[-1]) == "TASK_STATE_COMPLETED"
    assert begun(three) == [1, 0, 2]
    for at in three:
        assert (await at.client(binding).get_task(GetTaskRequest(id=task))).id == task
    await replies(us.client(binding), "hello", context_id=context)
    assert begun(three) == [2, 0, 2]

    for _ in range(3):
        eu.executor.step.set()
        await until(lambda: not eu.executor.step.is_set(), "the agent went on")
    assert [state_of(one) async for one in stream if not one.HasField("artifact_update")][-1] == "TASK_STATE_COMPLETED"
    await until(lambda: _under_way(eu) == 0, "nothing is under way")
    assert is_drained(read_drains(eu.api.lease or {}), POD, digest(eu.text))


def _obeys(one: Running) -> bool:
    """Return True if the guard has reported its self-test of the present bundle, which comes after all else."""
    report = read_reports(one.api.lease or {}).get(POD)
    return report is not None and report.bundle == digest(one.text)


def _under_way(one: Running) -> int | None:
    report = read_drains(one.api.lease or {}).get(POD)
    return None if report is None or report.bundle != digest(one.text) else report.under_way


async def test_a_cancellation_finds_its_task_from_every_placement(three: list[Running]) -> None:
    eu, us, _ = three
    stream: Any = eu.client("JSONRPC", region="eu").send_message(a_request("hold"))
    task = (await anext(stream)).task.id

    cancelled = await us.client("HTTP+JSON").cancel_task(CancelTaskRequest(id=task))

    assert TaskState.Name(cancelled.status.state) == "TASK_STATE_CANCELED"
    assert [state_of(one) async for one in stream][-1] == "TASK_STATE_CANCELED"


async def test_a_stages_only_value_is_written_into_calls_recorded_and_sent(bench: Any) -> None:
    bundle = parse_bundle(a_bundle(["echo"]))
    source = bundle.sources[0]
    tools = tuple(replace(one, scope=(BundleToolScope("region", "/region", inject=True),)) for one in source.tools)
    sources = (replace(source, tools=tools),)
    bench.api.set_bundle(dump_bundle(replace(bundle, scope=EU, sources=sources)))

    async def is_in_force() -> bool:  # the bundle before it lets every region pass
        return (await bench.client.call("echo", text="hello", region="us")).reason == "OutOfScope"

    await until(is_in_force, "the bundle is in force")
    assert (await bench.client.call("echo", text="hello")).reason is None
    assert bench.executed()[-1]["arguments"] == {"text": "hello", "region": "eu"}


async def test_tasks_begun_in_one_burst_are_all_served_while_a_region_changes_hands(three: list[Running]) -> None:
    eu, us, rest = three

    async def send(number: int) -> str:
        at = three[number % 3]
        return state_of((await replies(at.client("JSONRPC", region="eu"), f"burst {number}"))[-1])

    tasks = [asyncio.create_task(send(number)) for number in range(6)]
    rest.open(eu.peer(EU, draining=True), us.peer(US), excluded=(US,))  # who gains first
    us.open(eu.peer(EU, draining=True), rest.peer((), (US,)), scope=US)
    eu.open(us.peer(US), rest.peer((), (US,)), scope=EU, draining=True)
    tasks += [asyncio.create_task(send(number)) for number in range(6)]

    assert await asyncio.gather(*tasks) == ["TASK_STATE_COMPLETED"] * 12
