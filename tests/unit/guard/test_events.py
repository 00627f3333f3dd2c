import asyncio
from typing import Any, cast

import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError, web
from aiohttp.test_utils import TestClient, TestServer

from interlock_guard.downstream.event_stream import KEPT_BYTES, MAX_UNSENT, EventStream
from interlock_guard.downstream.sessions import MAX_SESSIONS, Sessions


async def read(stream: EventStream, after: int | None = None) -> bytes:
    """Serve a stream that has ended to one client; return what it got."""

    async def serve(http: web.Request) -> web.StreamResponse:
        return await stream.serve(http, after)

    app = web.Application()
    app.router.add_get("/", serve)
    async with TestClient(TestServer(app)) as client, client.get("/") as response:
        return await response.read()


async def test_events_of_a_stream_with_a_number_have_ids_and_those_of_another_none() -> None:
    numbered, plain = EventStream(7), EventStream()
    for stream in (numbered, plain):
        stream.put(b"1")
        stream.put(b"2")
        stream.end()
    assert await read(numbered) == b"id: 7-1\nevent: message\ndata: 1\n\nid: 7-2\nevent: message\ndata: 2\n\n"
    assert await read(plain) == b"event: message\ndata: 1\n\nevent: message\ndata: 2\n\n"


async def test_a_stream_is_sent_again_from_where_a_client_says_that_it_is() -> None:
    stream = EventStream(1)
    for message in (b"1", b"2", b"3"):
        stream.put(message)
    stream.end()
    assert (await read(stream)).count(b"data: ") == 3
    assert await read(stream, 2) == b"id: 1-3\nevent: message\ndata: 3\n\n"
    assert [stream.can_resume(after) for after in (0, 3, 4)] == [True, True, False]


async def test_what_has_been_let_go_of_cannot_be_resumed() -> None:
    stream = EventStream(1)
    for _ in range(3):
        stream.put(b"x" * 600_000, must_arrive=True)
    stream.end()
    await read(stream)
    assert not stream.can_resume(0)
    assert stream.can_resume(3)


async def test_what_a_slow_client_does_not_take_is_dropped_unless_it_must_arrive() -> None:
    stream = EventStream()
    for _ in range(MAX_UNSENT + 10):
        stream.put(b"progress")
    stream.put(b"result", must_arrive=True)
    stream.end()
    taken = await read(stream)
    assert (taken.count(b"progress"), taken.count(b"result")) == (MAX_UNSENT, 1)


async def test_large_events_without_a_reader_do_not_accumulate() -> None:
    stream = EventStream()
    for _ in range(10):
        stream.put(b"x" * 600_000)
    stream.end()
    assert (await read(stream)).count(b"data: ") == 2


@pytest.mark.parametrize("number", [0, 1, None])
async def test_all_streams_together_keep_no_more_than_the_budget_but_what_must_arrive(number: int | None) -> None:
    size = KEPT_BYTES // 8
    streams = [EventStream(number) for _ in range(24)]
    for stream in streams:
        stream.put(b"x" * (size - 100))
    taken = []
    for stream in streams:
        stream.put(b"answer", must_arrive=True)
        stream.end()
        taken.append(await read(stream))
    assert all(b"answer" in one for one in taken)
    kept = sum(len(one) > size // 2 for one in taken)
    assert kept == 8 or (number == 0 and kept < 8)


async def test_events_that_no_connection_waits_for_make_room() -> None:
    size = KEPT_BYTES // 8
    sent, unread = EventStream(1), EventStream(0)
    for stream in (sent, unread):
        stream.put(b"x" * (size - 100))
    sent.end()
    await read(sent)
    assert sent.can_resume(0)
    waiting = [EventStream(2) for _ in range(8)]
    for stream in waiting:
        stream.put(b"x" * (size - 100))
        stream.end()
    assert [stream.can_resume(0) for stream in (sent, unread, *waiting)] == [False, False, *[True] * 8]


async def test_an_event_for_a_full_budget_asks_only_the_streams_that_have_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[EventStream] = []
    shed = EventStream.shed
    monkeypatch.setattr(EventStream, "shed", lambda self: (asked.append(self), shed(self)))
    waiting = [EventStream(1) for _ in range(64)]
    for stream in waiting:
        stream.put(b"x" * (KEPT_BYTES // 64 - 100))
    late = EventStream(2)
    late.put(b"x" * 8000)
    assert len(asked) == 64
    for _ in range(100):
        late.put(b"x" * 8000)
    assert len(asked) == 64, "nothing can be shed that could not be before"
    waiting[0].end()
    await read(waiting[0])
    late.put(b"x" * 8000)
    late.end()
    assert asked[64:] == [waiting[0]]
    assert len(await read(late)) > 8000


async def test_a_stream_that_is_broken_off_says_nothing_more_and_cannot_be_resumed() -> None:
    stream = EventStream(1)
    stream.put(b"secret")
    stream.abort()
    stream.put(b"more")
    assert not stream.can_resume(0)
    with pytest.raises((ClientPayloadError, ServerDisconnectedError)):
        await read(stream)


async def test_the_newest_connection_takes_a_stream_over() -> None:
    stream = EventStream(1)
    serving = asyncio.Event()

    async def serve(http: web.Request) -> web.StreamResponse:
        serving.set()
        return await stream.serve(http)

    app = web.Application()
    app.router.add_get("/", serve)
    async with TestClient(TestServer(app)) as client, client.get("/") as first:
        await serving.wait()
        async with client.get("/") as second:
            assert await first.read() == b""
            stream.put(b"1")
            stream.end()
            assert b"data: 1" in await second.read()


async def test_the_sessions_that_are_remembered_are_bounded_and_the_idle_ones_go_first() -> None:
    sessions = Sessions()
    busy = sessions.begin("crm", {})
    busy.requests[1] = cast("Any", object())
    idle = sessions.begin("crm", {"roots": {}})
    for _ in range(MAX_SESSIONS):
        sessions.begin("crm", {})
    assert len(sessions.all()) <= MAX_SESSIONS + 1
    assert sessions.get_or_create("crm", busy.id) is busy
    assert sessions.get_or_create("crm", idle.id).capabilities == {}


async def test_a_session_keeps_the_names_of_the_capabilities_that_matter_alone() -> None:
    declared = {"roots": {"listChanged": True}, "sampling": {"x": ["x"] * 1000}, "experimental": {"x": ["x"] * 1000}}
    assert Sessions().begin("crm", declared).capabilities == {"roots": {}, "sampling": {}}


async def test_a_session_keeps_a_few_finished_streams_and_every_open_one() -> None:
    session = Sessions().begin("crm", {})
    open_one = session.open_stream()
    for _ in range(20):
        session.open_stream().end()
    assert open_one.number in session.streams
    assert len(session.streams) <= 6


async def test_a_server_request_is_answered_once_even_if_the_session_ends() -> None:
    session, answers = Sessions().begin("crm", {}), []
    session.add_server_request(answers.append)
    session.abort()
    session.abort()
    assert [answer.error["message"] for answer in answers] == ["The client did not answer."]
