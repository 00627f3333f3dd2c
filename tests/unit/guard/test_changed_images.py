"""Pods that run another image than their revision was Ready with: guards refuse everything, and send nothing there."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web

from interlock_contract.bundle import AgentIdentity, Bundle, BundleSource
from interlock_contract.kill import KillLatch
from interlock_guard.decision.decide import DecisionInput, Deny, check_terminated, decide
from interlock_guard.downstream.callers import CallerReason, Callers
from interlock_guard.state import LiveState, State
from interlock_guard.upstream.pipes import PipePair
from interlock_guard.upstream.sources import Sources
from tests.support.placements import Placement, placements, until

CHANGED, SAME = "127.0.0.1", "127.0.0.2"
OWN = "pod-all"
"""The guard's own pod."""


def a_bundle(*pods: str, addresses: tuple[str, ...] = ()) -> Bundle:
    identity = AgentIdentity("a", "agents", "u")
    return Bundle(4, identity, "r", "all", "production", (), (), changed_pods=pods, changed_addresses=addresses)


@pytest.mark.parametrize(("pods", "reason"), [((OWN,), "ImageChanged"), (("pod-b",), None), ((), None)])
def test_a_guard_in_such_a_pod_refuses_every_request_and_ends_those_under_way(
    pods: tuple[str, ...], reason: str | None
) -> None:
    bundle, state = a_bundle(*pods), State(agent_uid="u", contact_at=0.0, pod=OWN)
    cut = check_terminated(bundle, state)
    assert (None if cut is None else cut.reason) == reason
    decision = decide(bundle, state, DecisionInput("crm", "tools/list"), 0.0)
    assert isinstance(decision, Deny)
    assert decision.reason == (reason or "UnknownSource")


@pytest.mark.parametrize(
    ("remote", "is_refused"),
    [
        ("10.0.0.7", True),
        ("::ffff:10.0.0.7", True),
        ("fd00::7", True),
        ("fd00:0::7", True),
        ("10.0.0.8", False),
        ("", False),
        (None, False),
    ],
)
def test_a_guard_takes_no_request_from_such_a_pod(remote: str | None, *, is_refused: bool) -> None:
    live = LiveState()
    live.bundle = a_bundle(addresses=("10.0.0.7", "fd00::7"))
    callers = Callers(live)
    answer = callers.refuse_peer(cast("web.Request", SimpleNamespace(remote=remote)))
    assert (answer is not None and answer.status == 403) is is_refused
    assert callers.refused[CallerReason.IMAGE_CHANGED] == int(is_refused)


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Placement]:
    async with placements(tmp_path, "all", agent_at=(CHANGED, SAME)) as (found,):
        found.open()
        yield found


async def test_such_a_pod_gets_no_task(one: Placement) -> None:
    one.open(changed_addresses=[CHANGED])
    assert [(await one.send())[0] for _ in range(3)] == [200, 200, 200]
    assert set(one.reached) == {SAME}


async def test_such_a_pod_gets_no_task_where_there_is_no_other(one: Placement) -> None:
    one.open(changed_addresses=[CHANGED, SAME])
    assert (await one.send())[0] == 502
    assert one.reached == []


async def test_a_task_under_way_in_the_guards_own_pod_ends(one: Placement) -> None:
    one.go_on.clear()
    task: asyncio.Task[Any] = asyncio.create_task(one.reason())
    await until(lambda: bool(one.seen))
    one.open(changed_pods=[OWN])
    assert await task == (503, "ImageChanged")
    assert await one.reason() == (503, "ImageChanged")


@dataclass
class Server:
    """A server that takes note of what happens to it."""

    limits: object = None
    verified_version: str = ""
    is_open: bool = False
    closed: list[str] = field(default_factory=list)

    def open(self) -> None:
        self.is_open = True

    def close(self, denial: Deny) -> None:
        self.is_open = False
        self.closed.append(denial.reason)

    async def run(self) -> None:
        await asyncio.Event().wait()


class Guard:
    """The servers of a guard in one pod, with an agent that was seen."""

    def __init__(self, tasks: asyncio.TaskGroup, pipes: Path) -> None:
        self._pipes, self.server, self._live = pipes, Server(), LiveState()
        self._live.state = State(agent_uid="u", pod=OWN)
        self.sources = Sources(self._live, tasks, self._build, lambda _: None)

    def _build(self, source: BundleSource) -> Any:
        PipePair(self._pipes / source.name).make()
        return self.server

    def find(self, *changed: str, killed: str | None = None) -> None:
        source = BundleSource("crm", "crm", "stdio", (), ())
        self._live.bundle = msgspec.structs.replace(a_bundle(*changed), sources=(source,))
        self._live.state = replace(self._live.state, kill=KillLatch(killed))
        self.sources.follow()


@pytest.fixture
async def guard(tmp_path: Path) -> AsyncIterator[Guard]:
    found = Guard(cast("asyncio.TaskGroup", asyncio.get_running_loop()), tmp_path)
    yield found
    for task in found.sources.tasks():
        task.cancel()


@pytest.mark.parametrize("changed", [(), (OWN,)], ids=["killed", "another image"])
async def test_a_guard_that_refuses_everything_has_made_the_pipes_of_its_servers(
    guard: Guard, tmp_path: Path, changed: tuple[str, ...]
) -> None:
    guard.find(*changed, killed=None if changed else "stop")
    assert [one.is_fifo() for one in sorted((tmp_path / "crm").iterdir())] == [True, True]


async def test_servers_of_such_a_pod_are_initialized_since_the_agents_container_waits_for_them(guard: Guard) -> None:
    guard.find(OWN)
    assert guard.server.is_open
    guard.find("pod-b")
    assert guard.server.closed == [], "the image is the recorded one, so the servers go on"


async def test_calls_under_way_in_such_a_pod_end_once_and_its_servers_begin_again(guard: Guard) -> None:
    guard.find()
    guard.find(OWN)
    guard.find(OWN, "pod-b")
    assert guard.server.closed == ["ImageChanged"]
    assert guard.server.is_open


async def test_a_kill_closes_the_servers_of_such_a_pod_too(guard: Guard) -> None:
    guard.find(OWN)
    guard.find(OWN, killed="stop")
    assert not guard.server.is_open
    guard.find(OWN)
    assert guard.server.is_open, "released"
