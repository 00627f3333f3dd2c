"""The key of a provider does not reach the agent, however and wherever the provider writes it."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

from tests.integration.guard.fake_provider import KEY_FILES, REAL_KEYS, stream
from tests.integration.guard.model_rig import BEARER, CHAT, Rig, a_model_rig, chat, reason_of
from tests.requirements import requirement
from tests.support.bounds import until_count

KEY = "Zm9v/YmFy+cXV4&MTIz=="  # of a gateway, in Base64
ESCAPES: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "PHP": lambda text: text.replace("/", "\\/"),
    "Go": lambda text: text.replace("&", "\\u0026"),
    ".NET": lambda text: text.replace("+", "\\u002B").replace("&", "\\u0026"),
    "JSON in JSON": lambda text: json.dumps(text.replace("/", "\\/"))[1:-1],
}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with a_model_rig(tmp_path) as found:
        (found.keys / KEY_FILES["openai"]).write_text(KEY)
        yield found


async def all_that_came(rig: Rig, **members: Any) -> tuple[int, bytes, str]:
    """Call a model; return the status, the body as far as it came, and the headers."""
    body = b""
    async with rig.http.post(rig.url(CHAT), json=chat(**members), headers=BEARER) as response:
        try:
            async for part in response.content.iter_any():
                body += part
        except aiohttp.ClientError:
            return 0, body, str(response.headers)
        return response.status, body, str(response.headers)


@requirement("models.keys")
@pytest.mark.parametrize("status", [200, 401])
@pytest.mark.parametrize("writer", ESCAPES)
async def test_a_key_in_an_answer_is_withheld_however_json_writes_it(rig: Rig, writer: str, status: int) -> None:
    text = ESCAPES[writer](json.dumps({"error": {"message": f"invalid key {KEY}"}}))

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type="application/json", status=status)

    rig.provider.answer = answer
    came, body, _ = await all_that_came(rig)
    assert (came, reason_of(json.loads(body))) == (502, "ServerUnavailable"), "nothing was sent before it"
    assert KEY not in rig.guard.log() + (rig.guard.folder / "records").read_text() + await rig.guard.metrics()


@requirement("models.keys")
@pytest.mark.parametrize(
    "form",
    [
        lambda value: value,
        lambda value: f"application/json; k={value}",
        lambda value: f"a/b; k={value}; charset=utf-7",
    ],
)
@pytest.mark.parametrize("header", ["x-request-id", "x-ratelimit-key", "content-type", "openai-version", "retry-after"])
async def test_a_key_in_a_header_that_passes_is_withheld(rig: Rig, header: str, form: Callable[[str], str]) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        headers = CIMultiDict({"Content-Type": "application/json"})
        headers[header] = form(KEY)  # in place of the one above
        return web.Response(body=b"{}", headers=headers)

    rig.provider.answer = answer
    status, body, headers = await all_that_came(rig)
    assert (status, reason_of(json.loads(body))) == (502, "ServerUnavailable")
    assert KEY not in headers + body.decode()


@requirement("models.keys")
async def test_a_key_that_was_rotated_during_a_call_is_withheld_from_its_answer_and_from_the_next(rig: Rig) -> None:
    goes_on = asyncio.Event()

    async def answer(http: web.Request) -> web.StreamResponse:
        await goes_on.wait()
        return web.json_response({"x": http.headers["Authorization"]}, status=403)

    async def shows_the_old_one(_: web.Request) -> web.StreamResponse:
        return web.json_response({"x": KEY}, status=403)

    rig.provider.answer = answer
    first = asyncio.create_task(all_that_came(rig))
    await until_count(lambda: len(rig.provider.seen), 1, "the provider has the call")
    (rig.keys / KEY_FILES["openai"]).write_text("another-key-0123456789")
    rig.provider.answer = None
    assert (await rig.post(CHAT, chat()))[0] == 200
    assert rig.provider.seen[-1].headers["Authorization"] == "Bearer another-key-0123456789"
    goes_on.set()
    assert (await first)[0] == 502
    rig.provider.answer = shows_the_old_one
    assert (await all_that_came(rig))[0] == 502


@requirement("models.keys")
@pytest.mark.parametrize(
    "parts",
    [
        ['data: {"a": "Zm9v/Ym', 'Fy+cXV4&MTIz=="}\n\n'],
        ['data: {"a": "Zm9v\\', "/YmFy\\u00", '2bcXV4\\u0026MTIz=="}\n\n'],
        ["event: Zm9v/YmFy+cXV4&MT", "Iz==\ndata: {}\n\n"],
        [": Zm9v/YmFy+cXV4&MT", "Iz==\n\n"],
    ],
)
async def test_nothing_of_a_key_in_an_event_passes_whatever_the_chunks(rig: Rig, parts: list[str]) -> None:
    goes_on = asyncio.Event()

    async def answer(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        await response.write(b"data: 1\n\n")
        await goes_on.wait()
        for part in parts:
            await response.write(part.encode())
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    rig.provider.answer = answer
    async with rig.http.post(rig.url(CHAT), json=chat(stream=True), headers=BEARER) as response:
        assert await response.content.readexactly(9) == b"data: 1\n\n"
        goes_on.set()
        with pytest.raises(aiohttp.ClientError):
            raise AssertionError(await response.content.readexactly(1))


@requirement("models.keys")
@pytest.mark.parametrize("media_type", ["text/event-stream; charset=utf-8", "application/json", "text/plain"])
async def test_a_key_in_pieces_of_several_events_does_not_arrive_whole(rig: Rig, media_type: str) -> None:
    """The SDKs read events from the answer to a call with `stream`, whatever its media type is."""
    pieces = [KEY[:5], KEY[5:9], KEY[9:]]
    events = [f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{piece}"}}}}]}}\n\n' for piece in pieces]

    async def answer(http: web.Request) -> web.StreamResponse:
        return await stream(http, [event.encode() for event in events], media_type)

    rig.provider.answer = answer
    status, body, _ = await all_that_came(rig, stream=True)
    assert status != 200, "it is broken off, or refused if no event has passed"
    assert pieces[2] not in body.decode()


@requirement("models.keys")
@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-16", "application/json", "text/plain; charset=cp037"]
)
async def test_an_answer_in_an_encoding_that_is_not_searched_is_withheld(rig: Rig, media_type: str) -> None:
    encoding = "cp037" if "cp037" in media_type else "utf-16"

    async def answer(_: web.Request) -> web.StreamResponse:
        text = json.dumps({"error": KEY}).encode(encoding)
        return web.Response(body=text, status=401, headers={"Content-Type": media_type})

    rig.provider.answer = answer
    status, body, _ = await all_that_came(rig)
    assert (status, reason_of(json.loads(body))) == (502, "ServerUnavailable")


@requirement("models.keys")
@pytest.mark.parametrize(
    "media_types",
    [
        ["application/json", "application/json; charset=utf-7"],
        ["application/json; charset=utf-8; charset=utf-7"],
        ["application/json; charset*=us-ascii''utf-7"],
        ['application/json; CHARSET="utf-7"'],
    ],
)
async def test_an_answer_that_states_its_encoding_in_two_ways_is_withheld(rig: Rig, media_types: list[str]) -> None:
    text = "".join(f"+{base64.b64encode(one.encode('utf-16-be')).decode().rstrip('=')}-" for one in KEY)
    assert text.encode().decode("utf-7") == KEY

    async def answer(_: web.Request) -> web.StreamResponse:
        headers = CIMultiDict(("Content-Type", one) for one in media_types)
        return web.Response(body=json.dumps({"error": text}).encode(), status=401, headers=headers)

    rig.provider.answer = answer
    status, body, _ = await all_that_came(rig)
    assert (status, reason_of(json.loads(body))) == (502, "ServerUnavailable")


@requirement("models.pass")
async def test_a_large_answer_without_a_key_passes_byte_for_byte(rig: Rig) -> None:
    text = json.dumps({"a": REAL_KEYS["anthropic"] + "\\/" * 300_000}).encode()

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=text, content_type="application/json")

    rig.provider.answer = answer
    assert (await all_that_came(rig))[:2] == (200, text)
