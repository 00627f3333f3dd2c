"""Habits of providers, of what stands in front of them, and of model clients, each tried on a guard."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web
from multidict import CIMultiDict

from tests.integration.guard.fake_provider import AGENT_KEY, MODEL, answer_of
from tests.integration.guard.model_rig import API_KEY, BEARER, CHAT, MESSAGES, Rig, a_model_rig, as_sent, chat, messages
from tests.requirements import requirement

PAGE = b"\n<!DOCTYPE html><html>Sign in to the network</html>"
EVENTS = b'data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with a_model_rig(tmp_path) as found:
        yield found


def answers(rig: Rig, body: bytes, *headers: tuple[str, str], status: int = 200) -> None:
    """Let the provider give this answer."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=CIMultiDict(headers))

    rig.provider.answer = answer


def whole_answer() -> bytes:
    return json.dumps(answer_of(CHAT, chat())).encode()


@requirement("models.pass")
@pytest.mark.parametrize("media_type", ["text/html", "text/html; charset=utf-8", "application/xhtml+xml"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_web_page_in_place_of_an_answer_is_refused_with_a_sentence(
    rig: Rig,
    media_type: str,
    is_stream: bool,  # noqa: FBT001 - a row of the table
) -> None:
    answers(rig, PAGE, ("Content-Type", media_type))
    async with rig.http.post(rig.url(CHAT), json=chat(stream=is_stream), headers=BEARER) as response:
        assert (response.status, response.headers["x-should-retry"]) == (502, "false")
        assert "a web page, not as an API of models does" in (await response.json())["error"]["message"]


@requirement("models.pass")
@pytest.mark.parametrize("body", [whole_answer(), EVENTS, b""], ids=["JSON", "events", "nothing"])
async def test_an_answer_that_a_relay_calls_a_web_page_passes(rig: Rig, body: bytes) -> None:
    answers(rig, body, ("Content-Type", "text/html"))
    async with rig.http.post(rig.url(CHAT), json=chat(stream=True), headers=BEARER) as response:
        assert (response.status, await response.read()) == (200, body)


@requirement("models.pass")
@pytest.mark.parametrize(
    ("is_stream", "media_type", "body"),
    [
        (False, "text/event-stream", EVENTS),
        (True, "application/json", whole_answer()),
        (True, "application/x-ndjson", b'{"a":1}\n{"a":2}\n'),
        (True, "text/event-stream", b"\xef\xbb\xbf: OPENROUTER PROCESSING\n\n:\n\n" + EVENTS),
        (True, "text/event-stream", EVENTS[:-1]),
        (True, "text/event-stream", b"event: ping\r\rdata: {}\r\r"),
    ],
    ids=["events unasked", "JSON for a stream", "lines", "comments", "no last blank line", "CR"],
)
async def test_an_answer_of_another_form_than_asked_for_passes_byte_for_byte(
    rig: Rig,
    is_stream: bool,  # noqa: FBT001 - a row of the table
    media_type: str,
    body: bytes,
) -> None:
    answers(rig, body, ("Content-Type", media_type))
    async with rig.http.post(rig.url(CHAT), json=chat(stream=is_stream), headers=BEARER) as response:
        assert (response.status, await response.read()) == (200, body)


@requirement("models.pass")
async def test_equal_lines_of_one_header_are_one(rig: Rig) -> None:
    twice = [("Content-Type", "application/json"), ("Retry-After", "3")] * 2
    answers(rig, b"{}", *twice, status=429)
    async with rig.http.post(rig.url(CHAT), json=chat(), headers=BEARER) as response:
        assert (response.status, await response.read()) == (429, b"{}")
        assert {name: response.headers.getall(name) for name, _ in twice} == {
            "Content-Type": ["application/json"],
            "Retry-After": ["3"],
        }


@requirement("models.pass")
@pytest.mark.parametrize("value", ["7", "0.5", "Fri, 31 Dec 2027 23:59:59 GMT"])
async def test_each_form_of_a_time_to_wait_passes(rig: Rig, value: str) -> None:
    answers(rig, b"{}", ("Retry-After", value), ("retry-after-ms", "1500"), status=529)
    async with rig.http.post(rig.url(MESSAGES), json=messages(), headers=API_KEY) as response:
        assert (response.status, response.headers["Retry-After"]) == (529, value)
        assert response.headers["retry-after-ms"] == "1500"


@requirement("models.streams")
async def test_empty_lines_before_an_answer_pass_as_they_come(rig: Rig) -> None:
    """A provider under load sends them, so that no client stops waiting."""
    goes_on = asyncio.Event()

    async def answer(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(http)
        await response.write(b"\n")
        await goes_on.wait()
        await response.write(whole_answer())
        return response

    rig.provider.answer = answer
    async with asyncio.timeout(30), rig.http.post(rig.url(CHAT), json=chat(), headers=BEARER) as response:
        assert await response.content.readexactly(1) == b"\n"
        goes_on.set()
        assert await response.read() == whole_answer()


@requirement("models.endpoints")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/openai/v1/models", "/openai/v1/models/", f"/anthropic/models/{MODEL['anthropic']}"])
async def test_lists_of_models_have_a_head(rig: Rig, method: str, path: str) -> None:
    async with rig.http.request(method, rig.url(path), headers=BEARER) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert bool(await response.read()) == (method == "GET")
    assert rig.provider.seen == []


@requirement("models.endpoints")
@pytest.mark.parametrize(
    ("method", "path", "named"),
    [
        ("POST", "/openai/v1/files", "files does not pass"),
        ("POST", "/openai/v1/audio/transcriptions", '"audio/transcriptions" does not pass'),
        ("POST", "/openai/v1/v1/chat/completions", '"v1/chat/completions" does not pass'),
        ("POST", "/openai/v1/chat/completions/", '"chat/completions/" does not pass'),
        ("POST", "/openai/chat/completions", "Send it to /openai/v1/chat/completions."),
        ("GET", "/openai/models", "Send it to /openai/v1/models."),
        ("POST", "/openai/v1/messages", "Only these do: chat/completions, completions, embeddings, responses."),
        ("POST", "/anthropic/v1/messages/batches", "Only these do: messages, messages/count_tokens."),
        ("GET", "/openai/v1/realtime?model=gpt-realtime", '"GET realtime" does not pass'),
        ("DELETE", f"/openai/v1/models/{MODEL['openai']}", "does not pass"),
        ("OPTIONS", "/openai/v1/chat/completions", '"OPTIONS chat/completions" does not pass'),
        ("POST", "/openai/v1/chat/completions?api-version=preview", 'The query "api-version=preview" does not pass'),
    ],
)
async def test_a_call_that_does_not_pass_is_named_whatever_its_body_is(
    rig: Rig, method: str, path: str, named: str
) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    async with rig.http.request(method, rig.url(path), data=b"--x--\r\n", headers={**BEARER, **form}) as response:
        error = (await response.json())["error"]
        assert (response.status, error.get("reason") or error["code"]) == (404, "MethodNotAllowed")
        assert named in error["message"]
    assert rig.provider.seen == []


@requirement("models.endpoints")
async def test_the_agents_key_in_a_path_is_not_taken_for_a_provider(rig: Rig) -> None:
    for path in ("mcp/crm/more", "files", "chat/completions", "v1/chat/completions", "v1/files"):
        async with rig.http.post(rig.url(f"/{AGENT_KEY}/{path}"), json=chat(), headers=BEARER) as response:
            assert response.status == 404
    assert AGENT_KEY not in rig.guard.log() + json.dumps(rig.guard.lines())


@requirement("models.endpoints")
async def test_a_model_that_is_not_the_agents_is_named_with_those_that_are(rig: Rig) -> None:
    async with openai.AsyncOpenAI(base_url=rig.url("/openai/v1"), api_key=AGENT_KEY) as client:
        said: Any = [{"role": "user", "content": "hello"}]
        with pytest.raises(
            openai.PermissionDeniedError, match=r'the model "openai/gpt-4o"\. Of openai it has gpt-4o-mini'
        ):
            await client.chat.completions.create(model="openai/gpt-4o", messages=said)


@requirement("models.limits")
@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b'{"model":"m","a":1e400}', "not strict JSON: number is not finite"),
        (b'{"model":"m","model":"n"}', "not strict JSON: duplicate key"),
        (b'{"model":"\\ud800"}', "not strict JSON: lone surrogate"),
        (b'\xef\xbb\xbf{"model":"m"}', "not JSON"),
        (b"", "not JSON"),
        (b'{"model":null}', "no JSON object with a model in it"),
    ],
    ids=["infinity", "twice", "surrogate", "byte order mark", "empty", "no model"],
)
async def test_a_body_that_is_no_request_is_named(rig: Rig, text: bytes, named: str) -> None:
    status, answer = await rig.post(CHAT, text)
    assert (status, f"The body is {named}." in answer["error"]["message"]) == (400, True), answer


@requirement("models.pass")
@pytest.mark.parametrize(
    "lines",
    [
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB"],
        ["Connection: close", "TE: trailers"],
        ["Accept: application/json", "Accept: text/event-stream", "Accept-Encoding: gzip, br, zstd"],
        ["OpenAI-Organization: org-1", "OpenAI-Project: proj-1", "x-stainless-retry-count: 0", "Idempotency-Key: k"],
    ],
    ids=["HTTP/2 offered", "trailers", "lists", "SDK"],
)
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
async def test_a_request_passes_with_what_clients_add(rig: Rig, lines: list[str], version: str) -> None:
    body = json.dumps(chat()).encode()
    head = [
        *(f"POST {CHAT} {version}", f"Host: 127.0.0.1:{rig.guard.port}", f"authorization: bearer {AGENT_KEY}"),
        *("content-type: Application/JSON;charset=UTF-8", f"Content-Length: {len(body)}", *lines),
    ]
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.guard.port)
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        told = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert told.split()[1] == b"200"
    sent = {name.lower(): value for name, value in rig.provider.seen[0].headers.items()}
    assert rig.provider.seen[0].message == as_sent(CHAT, chat())
    assert not sent.keys() & {"openai-organization", "openai-project", "upgrade", "http2-settings", "te"}
    assert sent["accept-encoding"] == "identity"
