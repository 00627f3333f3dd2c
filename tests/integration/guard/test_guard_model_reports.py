"""What public bug reports tell of gateways in front of models, each habit tried on a guard."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import web

from tests.integration.guard.fake_provider import AGENT_KEY, MODEL, answer_of
from tests.integration.guard.model_rig import (
    API_KEY,
    BEARER,
    CHAT,
    MESSAGES,
    RESPONSES,
    Rig,
    a_model_rig,
    as_sent,
    chat,
    messages,
)
from tests.requirements import requirement
from tests.support.bounds import until_exactly

OBJECT = {"type": "object"}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with a_model_rig(tmp_path) as found:
        yield found


async def exchange(rig: Rig, head: list[str], body: bytes, *, then: bytes = b"") -> bytes:
    """Send a request as it is written here; return its answer, with the provisional one before it if `then` is sent."""
    lines = [*head, f"Host: 127.0.0.1:{rig.guard.port}", "Content-Type: application/json"]
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.guard.port)
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            before = b""
            if then:
                before = await reader.readuntil(b"\r\n\r\n")
                writer.write(then)
            return before + await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.close()


@requirement("models.pass")
async def test_every_line_of_beta_features_reaches_the_provider(rig: Rig) -> None:
    betas = ["context-1m-2025-08-07", "interleaved-thinking-2025-05-14"]  # a line each, as Anthropic's SDK for Go does
    headers = [*API_KEY.items(), *(("anthropic-beta", beta) for beta in betas)]
    async with rig.http.post(rig.url(MESSAGES), json=messages(), headers=headers) as response:
        assert response.status == 200
    values = [value.decode() for name, value in rig.provider.seen[0].raw_headers if name.lower() == b"anthropic-beta"]
    assert ", ".join(values).split(", ") == betas


@requirement("models.pass")
async def test_a_list_of_beta_features_passes_as_it_was_written(rig: Rig) -> None:
    listed = "pdfs-2024-09-25,token-counting-2024-11-01, context-1m-2025-08-07"
    assert (await rig.post(f"{MESSAGES}?beta=true", messages(), {**API_KEY, "anthropic-beta": listed}))[0] == 200
    assert rig.provider.seen[0].headers["anthropic-beta"] == listed


@requirement("models.pass")
async def test_every_line_of_a_header_of_the_provider_reaches_the_agent(rig: Rig) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        response = web.json_response({})
        response.headers.extend([("Cache-Control", "no-store"), ("Cache-Control", "private")])
        return response

    rig.provider.answer = answer
    async with rig.http.post(rig.url(CHAT), json=chat(), headers=BEARER) as response:
        assert ", ".join(response.headers.getall("Cache-Control")) == "no-store, private"


@requirement("models.pass")
@pytest.mark.parametrize(("size", "status"), [(15_000, 200), (17_000, 502)])
async def test_an_answer_with_a_large_header_that_no_agent_needs_passes_up_to_a_bound(
    rig: Rig, size: int, status: int
) -> None:
    async def answer(http: web.Request) -> web.StreamResponse:
        headers = {"Content-Security-Policy": "x" * size}
        return web.json_response(answer_of(http.path, chat()), headers=headers)

    rig.provider.answer = answer
    found, said = await rig.post(CHAT, chat())
    assert found == status
    if status != 200:
        assert "a header field of more than 16384 bytes" in said["error"]["message"]


@requirement("models.hosted-tools")
@pytest.mark.parametrize(
    "tool",
    [
        {"type": None, "name": "f", "input_schema": OBJECT},
        {"type": "custom", "name": "f", "input_schema": OBJECT},
        {"name": "f", "input_schema": OBJECT, "cache_control": {"type": "ephemeral"}},
        {"name": "f", "input_schema": OBJECT, "defer_loading": True, "eager_input_streaming": None},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "memory_20250818", "name": "memory"},
        {"type": "computer_20250124", "name": "computer", "display_width_px": 1, "display_height_px": 1},
    ],
    ids=lambda tool: json.dumps(tool)[:50],
)
async def test_an_anthropic_tool_of_the_agents_own_passes(rig: Rig, tool: dict[str, Any]) -> None:
    assert (await rig.post(MESSAGES, messages(tools=[tool]), API_KEY))[0] == 200
    assert rig.provider.seen[0].message["tools"] == [tool]


@requirement("models.members")
@pytest.mark.parametrize(
    "members",
    [
        {"mcp_servers": []},
        {"container": None},
        {"tools": []},
        {"tools": None},
        {"metadata": {"user_id": "u"}},
        {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"context_management": {"edits": []}},
    ],
    ids=lambda members: json.dumps(members)[:50],
)
async def test_members_of_messages_that_ask_for_nothing_of_the_provider_pass(rig: Rig, members: dict[str, Any]) -> None:
    assert (await rig.post(MESSAGES, messages(**members), API_KEY))[0] == 200
    assert rig.provider.seen[0].message == messages(**members)


@requirement("models.members")
@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
        {"web_search_options": None},
        {"functions": [{"name": "f"}]},
        {"stream_options": {"include_usage": True}},
        {"seed": 2**53 + 1},
        {"temperature": 1.0},
        {"logit_bias": {"50256": -100}},
        {"stop": None},
        {"user": "\u2028"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": OBJECT}}},
    ],
    ids=lambda members: json.dumps(members)[:50],
)
async def test_members_of_chat_completions_pass_with_their_types(rig: Rig, members: dict[str, Any]) -> None:
    assert (await rig.post(CHAT, chat(**members)))[0] == 200
    sent = rig.provider.seen[0].message
    assert all(sent[name] == value and type(sent[name]) is type(value) for name, value in members.items())


@requirement("models.hosted-tools")
@pytest.mark.parametrize(
    "tool",
    [
        {"type": "local_shell"},
        {"type": "apply_patch", "name": "f"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "computer_use_preview", "display_width": 9, "display_height": 9, "environment": "browser"},
        {"type": "custom", "name": "f"},
        {"type": "function", "name": "f"},
    ],
    ids=lambda tool: str(tool["type"]),
)
async def test_an_openai_tool_of_the_agents_own_passes(rig: Rig, tool: dict[str, Any]) -> None:
    body = {"model": MODEL["openai"], "input": "x", "tools": [tool]}
    assert (await rig.post(RESPONSES, body))[0] == 200
    assert rig.provider.seen[0].message == as_sent(RESPONSES, body)


@requirement("models.hosted-tools")
@pytest.mark.parametrize("environment", [None, {"type": "container_auto"}, {"type": "container_reference"}])
async def test_a_shell_in_a_container_of_the_provider_is_refused(rig: Rig, environment: Any) -> None:
    body = {"model": MODEL["openai"], "input": "x", "tools": [{"type": "shell", "environment": environment}]}
    assert await rig.refused(RESPONSES, body) == (403, "HostedToolNotAllowed")


STREAM = [
    b'event: message_start\r\ndata: {"type":"message_start","message":{"usage":{"input_tokens":1}}}\r\n\r\n',
    b'event: ping\ndata: {"type": "ping"}\n\n',
    b": keep-alive\n\n",
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"h\xc3',
    b'\xbc"}}\n\n',
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n',
    b"data: [DONE]\n\n",
    b"data: not json\n",
]
LENGTH = sum(map(len, STREAM))


@requirement("models.streams")
@pytest.mark.parametrize(
    ("version", "header"),
    [
        ("HTTP/1.1", "Transfer-Encoding: chunked"),
        ("HTTP/1.1", "Connection: close"),
        ("HTTP/1.0", "X-No: length"),
        ("HTTP/1.1", f"Content-Length: {LENGTH}"),
    ],
)
async def test_a_stream_passes_byte_for_byte_however_its_end_is_told(rig: Rig, version: str, header: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        head = f"{version} 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: r\r\n{header}\r\n\r\n"
        writer.write(head.encode())
        for part in STREAM:
            writer.write(b"%x\r\n%s\r\n" % (len(part), part) if "chunked" in header else part)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n" if "chunked" in header else b"")
        writer.close()

    await rig.provider.stop()
    server = await asyncio.start_server(serve, "127.0.0.1", rig.provider.port)
    sent = {**API_KEY, "Content-Type": "application/json"}
    body = json.dumps(messages(stream=True)).encode()
    async with server, rig.http.post(rig.url(MESSAGES), data=body, headers=sent) as response:
        assert (response.status, response.headers["X-Request-Id"]) == (200, "r")
        assert await response.read() == b"".join(STREAM)


async def read_request(reader: asyncio.StreamReader) -> None:
    """Read one request with a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    await reader.readexactly(length)


@requirement("models.pass")
async def test_a_body_that_is_compressed_unasked_is_refused_with_a_sentence(rig: Rig) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x", headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    rig.provider.answer = answer
    async with rig.http.post(rig.url(CHAT), json=chat(), headers=BEARER) as response:
        assert (response.status, response.headers["x-should-retry"]) == (502, "false")
        assert "compressed body, which the guard had not asked for" in (await response.json())["error"]["message"]


@requirement("models.pass")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 429, 500, 502, 503, 529])
async def test_an_error_of_the_provider_passes_with_what_sdks_read(rig: Rig, status: int) -> None:
    said = {"type": "error", "error": {"type": "x", "message": "m"}}
    told = {
        "request-id": "r",
        "retry-after": "3",
        "x-should-retry": "true",
        "anthropic-ratelimit-requests-remaining": "0",
    }

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(said, status=status, headers=told)

    rig.provider.answer = answer
    async with rig.http.post(rig.url(MESSAGES), json=messages(), headers=API_KEY) as response:
        assert (response.status, await response.json()) == (status, said)
        assert {name: response.headers[name] for name in told} == told


@requirement("models.pass")
async def test_a_web_page_of_what_stands_in_front_of_the_provider_passes(rig: Rig) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="<html>bad gateway</html>", content_type="text/html")

    rig.provider.answer = answer
    assert await rig.post(CHAT, chat()) == (502, "<html>bad gateway</html>")


@requirement("models.endpoints")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/anthropic/v1/models?limit=1000", 200),
        ("/anthropic/v1/models", 200),
        ("/openai/v1/models", 200),
        (f"/openai/v1/models/{MODEL['openai']}", 200),
        (f"/anthropic/v1/models/{MODEL['anthropic']}", 200),
        ("/anthropic/", 404),
        ("/openai/chat/completions", 404),
    ],
)
async def test_lists_of_models_are_answered_and_other_paths_are_not(rig: Rig, path: str, status: int) -> None:
    async with rig.http.get(rig.url(path), headers=BEARER) as response:
        assert response.status == status
    assert rig.provider.seen == []


@requirement("models.endpoints")
async def test_sdks_that_add_no_version_to_anthropics_base_url_reach_the_same_paths(rig: Rig) -> None:
    assert (await rig.post("/anthropic/messages", messages(), API_KEY))[0] == 200
    assert (await rig.post("/anthropic/messages/count_tokens", messages_to_count(), API_KEY))[0] == 200
    assert [one.path for one in rig.provider.seen] == [MESSAGES, f"{MESSAGES}/count_tokens"]
    async with rig.http.get(rig.url("/anthropic/models"), headers=API_KEY) as response:
        assert [model["id"] for model in (await response.json())["data"]] == [MODEL["anthropic"]]
    rig.provider.seen.clear()
    for path, body, refused in [
        ("/anthropic/messages", messages(model="claude-opus"), (403, "ModelNotAllowed")),
        ("/anthropic/messages", messages(mcp_servers=[{}]), (403, "HostedToolNotAllowed")),
        ("/anthropic/messages/batches", messages(), (404, "MethodNotAllowed")),
        ("/anthropic/v2/messages", messages(), (404, "MethodNotAllowed")),
        ("/anthropic//v1/messages", messages(), (404, "MethodNotAllowed")),
        ("/anthropic/openai/v1/chat/completions", chat(), (404, "MethodNotAllowed")),
    ]:
        assert await rig.refused(path, body, API_KEY) == refused, path
    assert await rig.refused("/anthropic/messages", messages(), {}) == (403, "ModelKeyRefused")


@requirement("models.limits")
@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}], ids=str)
async def test_a_body_that_is_no_plain_json_is_refused_in_the_providers_shape(
    rig: Rig, headers: dict[str, str]
) -> None:
    assert await rig.refused(MESSAGES, messages(), {**API_KEY, **headers}) == (415, "BadRequest")
    assert await rig.refused(CHAT, chat(), {**BEARER, **headers}) == (415, "BadRequest")


EARLIER_BETAS = ["fine-grained-tool-streaming-2025-05-14", "effort-2025-11-24", "tools-2024-05-16"]


@requirement("models.pass")
@pytest.mark.parametrize("value", EARLIER_BETAS)
async def test_a_beta_value_of_earlier_sdks_passes(rig: Rig, value: str) -> None:
    assert (await rig.post(MESSAGES, messages(), {**API_KEY, "anthropic-beta": value}))[0] == 200
    assert rig.provider.seen[0].headers["anthropic-beta"] == value


@requirement("models.endpoints")
@pytest.mark.parametrize(
    "path",
    ["/v1/messages", "/anthropic/", "/anthropic", "/", "/anthropic/v1/messages/", "/openai/v1//chat/completions"],
)
async def test_a_path_that_is_almost_one_of_the_api_is_not_found(rig: Rig, path: str) -> None:
    assert (await rig.post(path, messages(), API_KEY))[0] == 404
    assert rig.provider.seen == []
    assert (await rig.post("/anthropic/v1/messages/count_tokens?beta=true", messages_to_count(), API_KEY))[0] == 200


def messages_to_count() -> dict[str, Any]:
    return {name: value for name, value in messages().items() if name != "max_tokens"}


@requirement("models.pass")
async def test_a_client_that_waits_before_its_body_is_told_to_go_on(rig: Rig) -> None:
    body = json.dumps(chat()).encode()
    head = [
        *(f"POST {CHAT} HTTP/1.1", f"Authorization: Bearer {AGENT_KEY}"),
        *(f"Content-Length: {len(body)}", "Expect: 100-continue"),
    ]
    answered = await exchange(rig, head, b"", then=body)
    assert answered.startswith(b"HTTP/1.1 100")
    assert b"HTTP/1.1 200" in answered


@requirement("models.pass")
@pytest.mark.parametrize(
    ("text", "status"),
    [(rb"\ud83c", 400), (rb"\ud83c\udf89", 200), (b"\xe2\x80\xa8", 200)],
    ids=["half an emoji", "an emoji", "a line separator"],
)
async def test_a_text_that_is_no_text_is_refused_and_others_pass(rig: Rig, text: bytes, status: int) -> None:
    body = b'{"model":"%s","messages":[{"role":"user","content":"%s"}]}' % (MODEL["openai"].encode(), text)
    assert (await rig.post(CHAT, body))[0] == status
    assert len(rig.provider.seen) == (status == 200)


@requirement("models.members")
async def test_a_deep_schema_of_a_tool_passes(rig: Rig) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(26):
        schema = {"type": "object", "properties": {"a": schema}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert (await rig.post(CHAT, chat(tools=[tool])))[0] == 200


@requirement("models.retries")
async def test_sdks_try_again_after_a_connection_that_broke(rig: Rig) -> None:
    tried = 0

    async def answer(http: web.Request) -> web.StreamResponse:
        nonlocal tried
        tried += 1
        if tried % 2:
            assert http.transport is not None
            http.transport.abort()
        return web.json_response(answer_of(http.path, rig.provider.seen[-1].message))

    rig.provider.answer = answer
    said: Any = [{"role": "user", "content": "hello"}]
    async with openai.AsyncOpenAI(base_url=rig.url("/openai/v1"), api_key=AGENT_KEY, max_retries=1) as client:
        whole = await client.chat.completions.create(model=MODEL["openai"], messages=said)
        assert whole.choices[0].message.content == "hello"
    async with anthropic.AsyncAnthropic(base_url=rig.url("/anthropic"), api_key=AGENT_KEY, max_retries=1) as claude:
        told = await claude.messages.create(model=MODEL["anthropic"], max_tokens=9, messages=said)
        assert told.content[0].text == "hello"  # type: ignore[union-attr]
    assert tried == 4
    await until_exactly(rig.outcomes, ["ServerUnavailable", "Answered"] * 2, "the ends of all calls are recorded")


@requirement("models.retries")
async def test_sdks_do_not_try_again_what_is_refused_for_good(rig: Rig) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    rig.provider.answer = answer
    said: Any = [{"role": "user", "content": "hello"}]
    async with openai.AsyncOpenAI(base_url=rig.url("/openai/v1"), api_key=AGENT_KEY, max_retries=3) as client:
        with pytest.raises(openai.InternalServerError, match="redirect"):
            await client.chat.completions.create(model=MODEL["openai"], messages=said)
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model="gpt-4o", messages=said)
    assert len(rig.provider.seen) == 1
    assert len(rig.guard.records()) == 2


@requirement("models.large")
async def test_an_image_of_five_megabytes_passes(rig: Rig) -> None:
    data = base64.b64encode(b"x" * 3_700_000).decode()
    content = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}]
    assert (await rig.post(MESSAGES, messages(messages=[{"role": "user", "content": content}]), API_KEY))[0] == 200
