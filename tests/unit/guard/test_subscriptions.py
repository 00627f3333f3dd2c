"""Subscriptions to MCP resources: how many the clients of one guard may have."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from interlock_guard.downstream import request_states
from interlock_guard.downstream import subscriptions as subscriptions_module
from interlock_guard.downstream.cursors import MAX_CURSORS
from interlock_guard.downstream.event_stream import KEPT_BYTES, EventStream
from interlock_guard.downstream.sessions import MAX_SESSIONS, Session, Sessions
from interlock_guard.downstream.subscriptions import MAX_CHARACTERS, MAX_URIS, Subscription, Subscriptions
from interlock_guard.upstream.reconnect_pause import ReconnectPause
from interlock_guard.upstream.upstream import ServerInfo
from interlock_guard.wire.jsonrpc import RpcResponse
from tests.requirements import requirement
from tests.support.bounds import WAIT_SECONDS, limit, until
from tests.unit.guard.test_relay import META, FakeUpstream, Rig, reached, rig

__all__ = ["rig"]

URI = "test://mine"
BUSY: Any = object()


def add_session(sessions: Sessions, uris: set[str], *, is_idle: bool = False) -> Session:
    session = sessions.begin("crm", {})
    session.subscriptions |= uris
    if not is_idle:
        session.requests[1] = BUSY
    return session


def uris(count: int, length: int = 10) -> set[str]:
    return {f"{number:0{length}}" for number in range(count)}


@requirement("guard.load")
async def test_the_subscriptions_of_all_clients_together_are_bounded_in_number() -> None:
    sessions = Sessions()
    subscriptions = Subscriptions(sessions)
    first = add_session(sessions, uris(MAX_URIS - 2))
    subscriptions.add(Subscription("crm", 1, {"resourceSubscriptions": ["one"]}, EventStream()))
    assert subscriptions.find_excess(["a"], first) is None
    excess = subscriptions.find_excess(["a", "b"])
    assert excess is not None
    assert "may subscribe to 1024 MCP resources" in excess.message
    assert len(first.subscriptions) == MAX_URIS - 2


@requirement("guard.load")
async def test_the_subscriptions_of_all_clients_together_are_bounded_in_characters() -> None:
    sessions = Sessions()
    subscriptions = Subscriptions(sessions)
    add_session(sessions, uris(MAX_CHARACTERS // 8192 - 1, 8192))
    assert subscriptions.find_excess(["a" * 8192]) is None
    assert subscriptions.find_excess(["a" * 8193]) is not None


@requirement("guard.load")
async def test_idle_sessions_make_room_the_one_that_was_used_least_recently_first() -> None:
    sessions = Sessions()
    subscriptions = Subscriptions(sessions)
    oldest, newer = (add_session(sessions, uris(MAX_URIS // 2), is_idle=True) for _ in range(2))
    assert subscriptions.find_excess(["a"], newer) is None
    assert (len(oldest.subscriptions), len(newer.subscriptions)) == (0, MAX_URIS // 2)
    add_session(sessions, uris(MAX_URIS // 2))
    assert subscriptions.find_excess(["a"], newer) is not None
    assert len(newer.subscriptions) == MAX_URIS // 2


@requirement("guard.load")
async def test_one_subscription_too_many_is_refused_by_name_and_reaches_no_server(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions_module, "MAX_URIS", 1)
    add_session(rig.endpoint.sessions, {URI})
    async with limit(WAIT_SECONDS, "the guard answers by itself"):
        refused = await rig.send("resources/subscribe", {"Mcp-Session-Id": "a"}, uri=URI)
    assert refused["error"]["data"]["reason"] == "BadRequest"
    assert "may subscribe to 1 MCP resources" in refused["error"]["message"]
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    async with limit(WAIT_SECONDS, "the guard answers by itself"):
        wanted = {"resourceSubscriptions": [URI]}
        listened = await rig.send("subscriptions/listen", headers, _meta=META, notifications=wanted)
    assert listened["error"]["data"]["reason"] == "BadRequest"
    assert rig.upstream.calls == []


@requirement("guard.load")
async def test_of_two_subscriptions_at_once_for_one_place_the_second_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions_module, "MAX_URIS", 1)
    waiting = asyncio.create_task(rig.send("resources/subscribe", {"Mcp-Session-Id": "a"}, uri=URI))
    call = await rig.call()
    add_session(rig.endpoint.sessions, {URI})
    call.resolve(RpcResponse(1, {}, None))
    await reached(waiting.done)
    assert (await waiting)["error"]["data"]["reason"] == "BadRequest"
    assert rig.endpoint.sessions.get_or_create("crm", "a").subscriptions == set()


@requirement("guard.load")
async def test_at_most_one_repetition_of_a_subscription_waits_at_a_time_and_none_after_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, ended = 0, 0

    async def wait(_: ReconnectPause) -> None:
        nonlocal begun, ended
        begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    monkeypatch.setattr(ReconnectPause, "wait", wait)
    sessions = Sessions()
    subscriptions = Subscriptions(sessions)
    upstream: Any = FakeUpstream(ServerInfo("2026-07-28", {}, is_sessionless=True))
    subscriptions.begin(upstream, lambda *_: None)
    for number, uri in enumerate(("test://a", "test://b")):
        upstream.calls[number][1].resolve(RpcResponse(1, {}, None))
        await until(lambda wanted=number + 1: begun == wanted, "the guard waits before it listens again")
        add_session(sessions, {uri})
        subscriptions.update("crm")  # which listens without a pause
    await until(lambda: ended == 1, "the first pause is given up")
    subscriptions.end(upstream)
    await until(lambda: ended == begun == 2, "no pause is left")
    assert [method for method, _ in upstream.calls] == ["subscriptions/listen"] * 3


def test_the_page_names_the_bounds() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/listeners.md").read_text()
    assert f"| sessions | {MAX_SESSIONS} |" in page
    assert f"| cursors of lists | {MAX_CURSORS} |" in page
    assert f"| {request_states.MAX_STATES}, and {request_states.MAX_CHARACTERS} characters |" in page
    assert f"| subscriptions to MCP resources | {MAX_URIS} |" in page
    assert f"| characters of the URIs of subscriptions | {MAX_CHARACTERS} |" in page
    assert f"| events of streams, in bytes | {KEPT_BYTES} |" in page
