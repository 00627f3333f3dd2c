"""Large requests to models: they pass whole, within the memory of the guard, or are told to come again."""

import asyncio
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web

from interlock_contract.model_access import MAX_REQUEST_BYTES
from interlock_guard.wire.large_messages import MAX_REQUEST_NODES
from tests.integration.guard.fake_provider import AGENT_KEY, MODEL, Handler, stream
from tests.integration.guard.model_rig import (
    API_KEY,
    BEARER,
    CHAT,
    MESSAGES,
    Rig,
    a_model_rig,
    as_sent,
    chat,
    messages,
    reason_of,
)
from tests.requirements import requirement
from tests.support.bounds import check_promise, limit, until

MEMORY_LIMIT = 128 + 5 * 32
"""MiB of the container of a guard with models, as the operator sets it."""
MIB = 1024 * 1024
PROBE_SECONDS = 0.5


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with a_model_rig(tmp_path) as found:
        yield found


async def restart(rig: Rig, **more: str) -> None:
    """Start the guard from nothing, as in a pod: its memory is its own."""
    rig.guard.is_forked, rig.guard.more = False, more
    await rig.restart()


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def with_image(size: int, said: str = "what is it? \U0001f600 \u00fc") -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoAAAANSUhEUg+/" * (size // 24)}
    content = [{"type": "image", "source": source}, {"type": "text", "text": said}]
    return messages(messages=[{"role": "user", "content": content}])


def with_text(size: int) -> dict[str, Any]:
    return messages(messages=[{"role": "user", "content": "a word, " * (size // 8)}])


def keep_digests(rig: Rig) -> list[str]:
    """Have the provider keep digests of bodies in place of the bodies."""
    found: list[str] = []

    async def answer(_: web.Request) -> web.StreamResponse:
        seen = rig.provider.seen.pop()
        found.append(digest(seen.body))
        return web.json_response({})

    rig.provider.answer = answer
    return found


@requirement("models.large")
@pytest.mark.parametrize("build", [with_image, with_text])
async def test_a_request_of_almost_32_mib_passes_whole_and_fits_the_memory(rig: Rig, build: Any) -> None:
    await restart(rig)
    received = keep_digests(rig)
    body = build(MAX_REQUEST_BYTES - 4096)
    for _ in range(2):
        assert (await rig.post(MESSAGES, body, API_KEY))[0] == 200
    assert received == [digest(json.dumps(as_sent(MESSAGES, body), separators=(",", ":")).encode())] * 2
    assert rig.guard.peak_memory() <= MEMORY_LIMIT


@requirement("models.large")
async def test_a_request_beyond_32_mib_is_refused(rig: Rig) -> None:
    assert await rig.refused(MESSAGES, with_image(MAX_REQUEST_BYTES + 24), API_KEY) == (413, "BadRequest")


@requirement("models.large")
async def test_the_bound_is_the_one_of_the_policy(rig: Rig) -> None:
    await restart(rig, INTERLOCK_MODEL_REQUEST_BYTES=str(MIB))
    assert await rig.refused(CHAT, with_text(MIB), BEARER) == (413, "BadRequest")
    assert (await rig.post(MESSAGES, with_text(MIB - 4096), API_KEY))[0] == 200


@requirement("models.large")
@pytest.mark.parametrize(
    "item", [b"1", *(pytest.param(item, marks=pytest.mark.nightly) for item in (b"[]", b"9e-9", b'""'))], ids=repr
)
async def test_a_body_of_many_values_is_refused_by_their_number(rig: Rig, item: bytes) -> None:
    await restart(rig)
    count = (MAX_REQUEST_BYTES - 64) // (len(item) + 1)
    body = b'{"model":"%s","input":[%s]}' % (MODEL["openai"].encode(), b",".join([item] * count))
    status, answer = await rig.post("/openai/v1/embeddings", body)
    assert status == 400
    assert f"more than {MAX_REQUEST_NODES} values and keys" in answer["error"]["message"]
    assert rig.provider.seen == []
    assert rig.guard.peak_memory() <= MEMORY_LIMIT


@requirement("models.large")
async def test_many_large_requests_at_once_are_each_served_or_told_to_come_again(rig: Rig) -> None:
    await restart(rig)
    received = keep_digests(rig)
    image, text = (json.dumps(build(MAX_REQUEST_BYTES - 4096)).encode() for build in (with_image, with_text))
    sent = {**API_KEY, "Content-Type": "application/json"}
    async with limit(90, "all are answered"), aiohttp.ClientSession() as http:

        async def post(body: bytes) -> tuple[int, str | None]:
            async with http.post(rig.url(MESSAGES), data=io.BytesIO(body), headers=sent) as response:
                await response.read()
                return response.status, response.headers.get("Retry-After")

        answers = await asyncio.gather(*(post(body) for body in [image, text] * 4))
    assert set(answers) <= {(200, None), (429, "2")}
    assert answers.count((200, None)) == len(received) > 0
    assert rig.guard.peak_memory() <= MEMORY_LIMIT


@requirement("models.large")
async def test_a_request_without_room_is_told_when_to_come_again_in_the_providers_shape(rig: Rig) -> None:
    await restart(rig, INTERLOCK_MODEL_REQUEST_BYTES=str(MIB))
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{rig.guard.port}\r\nAuthorization: Bearer {AGENT_KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {MIB}\r\n\r\n"
    )
    stalled = [await asyncio.open_connection("127.0.0.1", rig.guard.port) for _ in range(3)]
    for _, writer in stalled:
        writer.write(head.encode())
    body, asked = chat(user="x" * 9000), messages(system="x" * 9000)

    async def is_full() -> bool:
        openai_answer, anthropic_answer = await asyncio.gather(
            rig.http.post(rig.url(CHAT), json=body, headers=BEARER),
            rig.http.post(rig.url(MESSAGES), json=asked, headers=API_KEY),
        )
        async with openai_answer as one, anthropic_answer as other:
            if one.status == 200 or other.status == 200:  # the heads have not been read yet
                return False
            assert (one.status, one.headers["Retry-After"], "x-should-retry" in one.headers) == (429, "2", False)
            assert (other.status, other.headers["Retry-After"]) == (429, "2")
            told, said = (await one.json())["error"], await other.json()
            assert (told["type"], told["code"]) == ("rate_limit_error", "ServerUnavailable")
            assert (said["type"], said["error"]["type"]) == ("error", "rate_limit_error")
            assert "no room in memory" in told["message"]
            return True

    await until(is_full, "no room is left", seconds=60)
    assert (await rig.post(CHAT, chat()))[0] == 200  # a small one needs no room
    for _, writer in stalled:
        writer.close()
    async with openai.AsyncOpenAI(base_url=rig.url("/openai/v1"), api_key=AGENT_KEY) as client:
        said: Any = [{"role": "user", "content": "x" * 9000}]
        assert (await client.chat.completions.create(model=MODEL["openai"], messages=said)).choices


@requirement("models.large")
@requirement("models.kill")
async def test_a_kill_is_seen_while_large_requests_come_in(rig: Rig) -> None:
    await restart(rig)
    keep_digests(rig)
    bodies = [json.dumps(build(MAX_REQUEST_BYTES - 4096)).encode() for build in (with_image, with_text)]
    sent = {**API_KEY, "Content-Type": "application/json"}
    waits: list[float] = []

    async def post(body: bytes) -> int:
        async with rig.http.post(rig.url(MESSAGES), data=io.BytesIO(body), headers=sent) as response:
            return response.status

    calls = [asyncio.create_task(post(body)) for body in bodies]
    while not all(call.done() for call in calls):
        began = time.monotonic()
        assert await rig.guard.probe("/healthz")
        waits.append(time.monotonic() - began)
    assert {await call for call in calls} == {200}
    check_promise(max(waits), PROBE_SECONDS, "slowest probe while requests of 32 MiB come in")


@requirement("models.large")
@requirement("models.kill")
async def test_a_kill_stops_a_large_request_that_the_provider_has_not_read(rig: Rig) -> None:
    read, closed = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal read
        read += len(await reader.readuntil(b"\r\n\r\n"))
        has_head.set()
        await goes_on.wait()
        try:
            while chunk := await reader.read(MIB):
                read += len(chunk)
        except ConnectionError:
            pass
        closed.set()
        writer.close()

    has_head, goes_on = asyncio.Event(), asyncio.Event()
    await rig.provider.stop()
    async with await asyncio.start_server(serve, "127.0.0.1", rig.provider.port):
        call = asyncio.create_task(rig.post(MESSAGES, with_image(MAX_REQUEST_BYTES - 4096), API_KEY))
        async with limit(30, "the request is stopped"):
            await has_head.wait()
            rig.api.kill("data leak")
            status, answer = await call
            assert (status, answer["error"]["reason"]) == (503, "Killed")
            goes_on.set()
            await closed.wait()
    assert read < MAX_REQUEST_BYTES // 2


def a_large_event(size: int) -> Handler:
    """Return a provider that answers with a stream of one event."""

    async def answer(http: web.Request) -> web.StreamResponse:
        return await stream(http, [b"data: " + b"x y " * (size // 4) + b"\n\n"])

    return answer


@requirement("models.large")
async def test_calls_that_failed_take_no_room_from_the_next_ones(rig: Rig) -> None:
    """Every call of this test fails at the provider; what it kept is given back with it."""
    rig.provider.answer = a_large_event(9 * 1024 * 1024)
    for _ in range(3):
        async with rig.http.post(rig.url(CHAT), json=chat(stream=True), headers=BEARER) as response:
            with suppress(aiohttp.ClientError):  # it is broken off, or refused if its head has not passed yet
                assert reason_of(json.loads(await response.read())) == "ServerUnavailable"
    rig.provider.answer = a_large_event(6 * 1024 * 1024)
    async with rig.http.post(rig.url(CHAT), json=chat(stream=True), headers=BEARER) as response:
        assert len(await response.read()) > 6 * 1024 * 1024
    assert "no room in memory" not in rig.guard.log()


@requirement("models.large")
async def test_requests_to_a_provider_that_is_down_take_no_room_from_the_next_ones(rig: Rig) -> None:
    await rig.provider.stop()
    text = b"x" * (24 * 1024 * 1024)
    body = json.dumps(chat(messages=[{"role": "user", "content": "TEXT"}])).encode().replace(b"TEXT", text)
    for _ in range(6):
        status, answer = await rig.post(CHAT, body)
        assert (status, reason_of(answer)) == (502, "ServerUnavailable")


@requirement("models.large")
@pytest.mark.parametrize("is_read", [True, False], ids=["before the answer", "while it is sent"])
async def test_agents_that_hang_up_take_no_room_from_the_next_ones(rig: Rig, is_read: bool) -> None:  # noqa: FBT001
    """A provider of raw bytes, which never answers, and reads a request or not."""
    await rig.provider.stop()
    heads, is_over = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heads
        await reader.readuntil(b"\r\n\r\n")
        heads += 1
        while is_read and await reader.read(65536):
            pass
        await is_over.wait()
        writer.close()

    body = json.dumps(chat(messages=[{"role": "user", "content": "x" * (24 * MIB)}])).encode()
    async with await asyncio.start_server(serve, "127.0.0.1", rig.provider.port):
        for number in range(6):
            call = asyncio.create_task(rig.post(CHAT, body))
            await until(lambda least=number: heads > least, "the provider has the head")
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        is_over.set()
