"""Unexpected exceptions while a guard serves: its calls are refused and the exception is logged, never lost."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from interlock_guard import object_watch
from interlock_guard.object_watch import ObjectWatch
from interlock_guard.upstream import list_cache
from interlock_kube import background
from interlock_kube.background import keep_running
from tests.unit.guard.test_relay import AGENT, SECRET, Rig, reached, rig

__all__ = ["rig"]


class UnexpectedError(Exception):
    """An error that no code expects."""


class Api:
    """An API server that lists the Agent and sends an event with each watch."""

    def __init__(self, bundle: str) -> None:
        """Prepare the Agent.

        Args:
            bundle: The digest that its status names.
        """
        self.lists = 0
        self.agent = {**AGENT, "status": {"bundleDigests": [bundle]}}

    async def get(self, *_: Any) -> dict[str, Any]:
        self.lists += 1
        return {"items": [self.agent], "metadata": {"resourceVersion": "1"}}

    async def lines(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(0.001)
        yield {"type": "MODIFIED", "object": self.agent}


async def test_a_guard_whose_watch_fails_on_every_event_closes_at_the_end_of_its_lease(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(background, "_LONGEST_PAUSE", 0.001)
    monkeypatch.setattr(object_watch, "monotonic", lambda: rig.clock.now)
    api, log, fails = Api(rig.live.digest), list[str](), False

    def handle(agent: Any) -> None:
        if fails:
            raise UnexpectedError("surprise")
        rig.live.handle_agent(agent)

    client: Any = api
    contact = partial(rig.live.record_contact, "agent")
    watch = ObjectWatch(client, "/agents", "a", on_object=handle, on_contact=contact, watch_seconds=1)
    watching = asyncio.create_task(keep_running("watch", partial(watch.run, log.append), log.append))

    async def list_again(at: float) -> None:
        """Let the clock run on, and wait for lists that begin after that."""
        rig.clock.now = at
        rig.live.record_contact("bundle", at)
        wanted = api.lists + 2
        await reached(lambda: api.lists >= wanted)

    await list_again(20.0)
    fails = True
    await list_again(50.0)
    answered = asyncio.create_task(rig.post())
    (await rig.call()).resolve(SECRET)
    assert (await answered)[0] == 200, "the lease of 30 s counts from the last list that was handled"
    await list_again(50.1)
    status, body = await rig.post()
    assert (status, body["error"]["data"]["reason"]) == (503, "StaleState")
    assert len(rig.upstream.calls) == 1, "it was not forwarded"
    assert "UnexpectedError: surprise" in log[-1]
    assert "Traceback" in log[-1]
    fails = False
    await list_again(60.0)
    answered = asyncio.create_task(rig.post())
    await reached(lambda: len(rig.upstream.calls) == 2)
    (await rig.call()).resolve(SECRET)
    assert (await answered)[0] == 200
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_list_of_tools_that_cannot_be_handled_lets_no_call_pass(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def canonicalize(_: Any) -> bytes:
        raise UnexpectedError("surprise")

    with monkeypatch.context() as patched:
        patched.setattr(list_cache, "canonicalize", canonicalize)
        rig.clock.now = 5.0  # the known list is too old to decide on
        _, body = await rig.post()
        assert body["result"]["_meta"]["interlock.dev/denial"]["reason"] == "ToolNotVerified"
        assert rig.upstream.calls == []
        [logged] = rig.logged
        assert logged.startswith("tools/list of crm: unexpected error")
        assert "UnexpectedError: surprise" in logged
    answered = asyncio.create_task(rig.post())
    (await rig.call()).resolve(SECRET)
    assert (await answered)[1]["result"] == SECRET.result, "the next call reads the list again"
