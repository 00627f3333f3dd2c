"""What cannot be timed from outside: a cut between a call's start and the first step of its sending."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.upstream import http_upstream
from interlock_guard.upstream.cookies import Cookies
from interlock_guard.upstream.http_client import HttpAnswer, HttpClient, UpstreamError
from interlock_guard.upstream.http_initialize import Initialized
from interlock_guard.upstream.http_upstream import HttpUpstream
from interlock_guard.upstream.upstream import ServerInfo, Upstream, UpstreamEvents
from interlock_guard.wire import large_messages
from interlock_guard.wire.streams import EventParser, ServerEvent
from tests.requirements import requirement
from tests.support.bounds import until

KILLED = Deny(DenyReason.KILLED, "", "stop")


class FakeLink:
    """A connection that records what it sends, and never gets an answer."""

    def __init__(self) -> None:
        self.sent: list[bytes | None] = []
        self.cookies = Cookies()

    @asynccontextmanager
    async def send(self, _method: str, body: bytes | None, _headers: Any) -> AsyncIterator[Any]:
        self.sent.append(body)
        await asyncio.sleep(600)
        raise UpstreamError("never", is_sent=True)
        yield

    def open(self) -> None: ...

    def reset(self) -> None: ...

    async def close(self) -> None: ...

    def shows_secret(self, _text: bytes) -> bool:
        return False


class Deaf:
    """A listener that ignores everything."""

    def client_capabilities(self, _: Upstream) -> dict[str, Any]:
        return {}

    def handle_connected(self, upstream: Upstream) -> None: ...

    def handle_disconnected(self, upstream: Upstream) -> None: ...

    def handle_dropped(self, upstream: Upstream) -> None: ...

    def handle_notification(self, upstream: Upstream, notification: Any) -> None: ...

    def handle_request(self, upstream: Upstream, request: Any) -> None: ...


@pytest.mark.parametrize("is_sessionless", [True, False])
async def test_a_call_that_is_cut_before_its_first_byte_sends_none(is_sessionless: bool) -> None:  # noqa: FBT001
    link = FakeLink()
    upstream = HttpUpstream("crm", cast("HttpClient", link), cast("UpstreamEvents", Deaf()), lambda _: None)
    upstream.server_info = ServerInfo(
        "2026-07-28" if is_sessionless else "2025-11-25", {}, is_sessionless=is_sessionless
    )

    call = upstream.start("tools/call", {"name": "echo", "arguments": {}})
    upstream.notify("notifications/cancelled", {"requestId": 1})
    upstream.close(KILLED)
    for _ in range(10):
        await asyncio.sleep(0)

    assert call.future.result() is KILLED
    assert link.sent == []
    assert (upstream.in_flight, upstream.is_ready) == (0, False)
    assert "is not there at the moment" in getattr(upstream.refusal(), "message", "")


@requirement("guard.load")
async def test_many_small_events_are_handled_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_messages, "_STEP_SECONDS", -1.0)

    class Content:
        async def iter_any(self) -> AsyncIterator[bytes]:
            yield b"data: 1\n\n" * 50

    response: Any = SimpleNamespace(content=Content())
    seen, turns = list[ServerEvent](), list[int]()

    def turn() -> None:
        turns.append(len(seen))
        asyncio.get_running_loop().call_soon(turn)

    turn()
    async for event in HttpAnswer(response).events(EventParser(100)):
        seen.append(event)
    assert set(turns) >= set(range(50))


@requirement("guard.first-message")
@pytest.mark.parametrize(("is_sent", "expected"), [(True, [False, True]), (False, [False, False])])
async def test_a_refused_initialize_is_followed_by_the_probe_and_an_unreachable_server_by_the_same_again(
    monkeypatch: pytest.MonkeyPatch, expected: list[bool], *, is_sent: bool
) -> None:
    probed: list[bool] = []

    async def initialize(*_: Any, is_probed: bool) -> Initialized:
        probed.append(is_probed)
        if len(probed) == 1:
            raise UpstreamError("refused", is_sent=is_sent)
        return Initialized(ServerInfo("2026-07-28", {}, is_sessionless=True), "")

    monkeypatch.setattr(http_upstream, "initialize_http", initialize)
    upstream = HttpUpstream("crm", cast("HttpClient", FakeLink()), cast("UpstreamEvents", Deaf()), lambda _: None)
    upstream.verified_version = "2025-11-25"
    upstream.open()
    serving = asyncio.create_task(upstream.run())
    await until(lambda: upstream.is_ready, "it is initialized")
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert probed == expected
