"""Pods that run another image than their revision was Ready with: guards refuse everything, and send nothing there."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from interlock_contract.bundle import AgentIdentity, Bundle
from interlock_guard.decision.decide import DecisionInput, Deny, check_terminated, decide
from interlock_guard.downstream.callers import CallerReason, Callers
from interlock_guard.state import LiveState, State
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
