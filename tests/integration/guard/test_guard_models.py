"""Calls of language models: what passes passes byte for byte, and nothing else passes at all."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from msgspec import structs

from interlock_contract.bundle import dump_bundle, parse_bundle
from tests.integration.guard.fake_provider import (
    AGENT_KEY,
    KEY_FILES,
    MODEL,
    REAL_KEYS,
    a_bundle_with_models,
    answer_of,
    endless_stream,
    events_of,
)
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
from tests.support.bounds import until, until_count, until_exactly


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with a_model_rig(tmp_path) as found:
        yield found


@requirement("models.pass")
async def test_a_call_reaches_the_provider_with_the_real_key_and_only_headers_that_may_pass(rig: Rig) -> None:
    own = {
        "User-Agent": "an SDK",
        "OpenAI-Organization": "org-of-another",
        "Cookie": "a=b",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
        "X-Stainless-Lang": "python",
    }
    status, answer = await rig.post(CHAT, chat(temperature=0.5), {**BEARER, **own})
    assert (status, answer) == (200, answer_of(CHAT, chat()))
    (seen,) = rig.provider.seen
    assert (seen.path, seen.message) == (CHAT, as_sent(CHAT, chat(temperature=0.5)))
    names = {name.decode().lower() for name, _ in seen.raw_headers}
    assert names == {
        *("host", "accept", "accept-encoding", "user-agent", "content-type", "content-length", "authorization"),
        "x-stainless-lang",
    }
    assert seen.headers["Authorization"] == f"Bearer {REAL_KEYS['openai']}"
    assert seen.headers["Accept-Encoding"] == "identity"


@requirement("models.pass")
async def test_anthropics_key_goes_into_its_own_header_whichever_the_agent_used(rig: Rig) -> None:
    for headers in (API_KEY, BEARER, {**API_KEY, **BEARER}):
        version = {"anthropic-version": "2023-06-01", "anthropic-beta": "pdfs-2024-09-25"}
        assert (await rig.post(f"{MESSAGES}?beta=true", messages(), {**headers, **version}))[0] == 200
    for seen in rig.provider.seen:
        assert seen.path == f"{MESSAGES}?beta=true"
        assert seen.headers["x-api-key"] == REAL_KEYS["anthropic"]
        assert seen.headers["anthropic-version"] == "2023-06-01"
        assert "Authorization" not in seen.headers
    counted = {name: value for name, value in messages().items() if name != "max_tokens"}
    assert (await rig.post(f"{MESSAGES}/count_tokens", counted))[1] == {"input_tokens": 3}


async def test_headers_of_the_answer_pass_where_they_may(rig: Rig) -> None:
    async with rig.http.post(rig.url(CHAT), json=chat(), headers=BEARER) as response:
        assert response.headers["x-request-id"] == "req-1"
        assert "Set-Cookie" not in response.headers


@requirement("models.streams")
async def test_a_stream_passes_byte_for_byte_and_each_event_as_it_comes(rig: Rig) -> None:
    goes_on = asyncio.Event()
    events = events_of(CHAT, chat())

    async def answer(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        for event in events:
            await response.write(event)
            await goes_on.wait()
            goes_on.clear()
        await response.write_eof()
        return response

    rig.provider.answer = answer
    async with rig.http.post(rig.url(CHAT), json=chat(stream=True), headers=BEARER) as response:
        for event in events:  # the next one is not even made before this one has arrived whole
            assert await asyncio.wait_for(response.content.readexactly(len(event)), 30) == event
            goes_on.set()
        assert await response.content.read() == b""


@requirement("models.streams")
async def test_a_stream_that_the_provider_breaks_off_is_broken_off_for_the_agent_too(rig: Rig) -> None:
    async def answer(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        await response.write(b"data: 1\n\n")
        assert http.transport is not None
        http.transport.abort()
        return response

    rig.provider.answer = answer
    with pytest.raises(aiohttp.ClientError):
        await rig.post(CHAT, chat(stream=True))
    await until(lambda: rig.guard.lines()[-1].get("outcome") == "ServerUnavailable", "the outcome is recorded")


@requirement("models.hang-up")
async def test_an_agent_that_hangs_up_ends_its_call_at_the_provider(rig: Rig) -> None:
    async def answer(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        while True:
            await response.write(b": still here\n\n")
            await asyncio.sleep(0.01)

    rig.provider.answer = answer
    async with rig.http.post(rig.url(CHAT), json=chat(stream=True), headers=BEARER) as response:
        assert await response.content.readany()
        response.close()
    await asyncio.wait_for(rig.provider.hung_up.wait(), 30)
    await until(lambda: rig.guard.lines()[-1].get("outcome") == "Abandoned", "the outcome is recorded")


@requirement("models.endpoints")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/openai/v1/files"),
        ("POST", "/openai/v1/batches"),
        ("POST", "/openai/v1/images/generations"),
        ("POST", "/openai/v1/chat/completions/"),
        ("POST", "/openai/v1/chat%2Fcompletions"),
        ("POST", "/openai/v1/%63hat/completions"),
        ("POST", "/openai/v1/files/%2e%2e/chat/completions"),
        ("POST", "/openai/v1/chat/completions?api-version=1"),
        ("POST", "/openai/v1/messages"),
        ("GET", "/openai/v1/chat/completions"),
        ("GET", "/openai/v1/responses/r"),
        ("GET", "/openai/v1/models/another"),
        ("DELETE", "/openai/v1/models/gpt-4o-mini"),
        ("PUT", "/openai/v1/chat/completions"),
        ("OPTIONS", "/openai/v1/chat/completions"),
        ("POST", "/anthropic/v1/messages/batches"),
        ("POST", "/anthropic/v1/chat/completions"),
        ("POST", "/anthropic/v1/complete"),
        ("GET", "/anthropic/v1/organizations/users"),
    ],
)
async def test_whatever_is_not_on_the_list_reaches_no_provider(rig: Rig, method: str, path: str) -> None:
    body = json.dumps(messages() if path.startswith("/anthropic") else chat())
    headers = {**BEARER, "Content-Type": "application/json"}
    url = rig.url(path)
    async with rig.http.request(method, aiohttp.client.URL(url, encoded=True), data=body, headers=headers) as response:
        assert (response.status, reason_of(await response.json())) == (404, "MethodNotAllowed")
    assert rig.provider.seen == []


@requirement("models.allowed")
@pytest.mark.parametrize(
    "model",
    ["gpt-4o", "gpt-4o-mini ", "GPT-4o-mini", "openai/gpt-4o-mini", "gpt-4o-mini\u0000", "", "claude-haiku-4-5", "*"],
)
async def test_a_model_that_is_not_one_of_the_agents_is_refused(rig: Rig, model: str) -> None:
    assert await rig.refused(CHAT, chat(model=model)) == (403, "ModelNotAllowed")
    assert await rig.refused("/unknown/v1/chat/completions", chat()) == (403, "ModelNotAllowed")
    assert await rig.refused("/mcp/v1/chat/completions", chat()) == (403, "ModelNotAllowed")


@requirement("models.allowed")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"no json",
        b'{"messages": []}',
        b'{"model": ["gpt-4o-mini"]}',
        b'{"model": null}',
        b'{"model": "gpt-4o", "model": "gpt-4o-mini"}',
        b'{"model": "gpt-4o-mini", "mod\\u0065l": "gpt-4o"}',
        b'\xef\xbb\xbf{"model": "gpt-4o-mini"}',
        b'{"model": "gpt-4o-mini", "temperature": NaN}',
        b'{"model": "gpt-4o-mini"}{"model": "gpt-4o"}',
        '{"model": "gpt-4o-mini"}'.encode("utf-16"),
        b'{"model": "gpt-4o-mini", "x": ' + b"[" * 70 + b"]" * 70 + b"}",
    ],
    ids=repr,
)
async def test_a_body_that_two_parsers_could_read_differently_is_refused(rig: Rig, body: bytes) -> None:
    assert await rig.refused(CHAT, body) == (400, "BadRequest")


@requirement("models.hosted-tools")
@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/openai/v1/responses", {"tools": [{"type": "mcp", "server_url": "https://evil.example.com"}]}),
        ("/openai/v1/responses", {"tools": [{"type": "function", "name": "f"}, {"type": "web_search"}]}),
        ("/openai/v1/responses", {"tools": [{"type": "code_interpreter"}]}),
        ("/openai/v1/responses", {"tools": {"0": {"type": "mcp"}}}),
        ("/openai/v1/responses", {"tools": {}}),
        ("/openai/v1/responses", {"tools": 5}),
        ("/openai/v1/responses", {"tools": [{}]}),
        ("/openai/v1/responses", {"tools": ["mcp"]}),
        ("/openai/v1/responses", {"prompt": {"id": "pmpt_1"}}),
        (CHAT, {"web_search_options": {}}),
        (MESSAGES, {"mcp_servers": [{"type": "url", "url": "https://evil.example.com"}]}),
        (MESSAGES, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        (MESSAGES, {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]}),
        (MESSAGES, {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}),
        (MESSAGES, {"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}),
        (MESSAGES, {"tools": [{"type": None, "name": "x"}]}),
        (MESSAGES, {"container": {"skills": []}}),
    ],
)
async def test_what_would_have_the_provider_act_by_itself_is_refused(
    rig: Rig, path: str, members: dict[str, Any]
) -> None:
    body = messages(**members) if path == MESSAGES else chat(**members)
    assert await rig.refused(path, body) == (403, "HostedToolNotAllowed")


@requirement("models.remote-content")
async def test_content_by_url_reaches_no_provider_unless_its_host_is_allowed(rig: Rig) -> None:
    url = {"url": "https://images.example.com/?secret=1"}
    body = chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": url}]}])
    assert await rig.refused(CHAT, body) == (403, "RemoteContentNotAllowed")
    bundle = parse_bundle(a_bundle_with_models(rig.provider.port))
    assert bundle.models is not None
    more = tuple(structs.replace(one, content_hosts=("images.example.com",)) for one in bundle.models.providers)
    models = structs.replace(bundle.models, providers=more)
    rig.api.set_bundle(dump_bundle(structs.replace(bundle, revision="1", models=models)))

    async def passes() -> bool:
        return (await rig.post(CHAT, body))[0] == 200

    await until(passes, "the bundle is in force")
    assert rig.provider.seen[-1].message == as_sent(CHAT, body)


@requirement("models.members")
@pytest.mark.parametrize(
    "members",
    [
        *({name: ["another"]} for name in ("models", "fallbacks", "provider", "transforms", "route")),
        {"web_search": True},
        {"background": True},
        {"messages": [{"role": "user", "content": "x", "models": ["another"]}]},
    ],
)
async def test_a_member_that_could_pick_another_model_or_a_tool_reaches_no_provider(
    rig: Rig, members: dict[str, Any]
) -> None:
    assert await rig.refused(CHAT, chat(**members)) == (403, "MemberNotAllowed")
    _, answer = await rig.post(CHAT, chat(**members))
    assert next(iter(members)) in answer["error"]["message"]


@requirement("models.members")
async def test_work_that_outlives_a_kill_is_refused(rig: Rig) -> None:
    body = {"model": MODEL["openai"], "input": "x", "store": True}
    assert await rig.refused("/openai/v1/responses", {**body, "background": True}) == (403, "MemberNotAllowed")
    assert (await rig.post("/openai/v1/responses", {**body, "background": False}))[0] == 200


@requirement("models.members")
async def test_a_beta_value_that_no_sdk_has_reaches_no_provider_in_whichever_header_it_is(rig: Rig) -> None:
    known, unknown = "pdfs-2024-09-25", "mcp-client-2025-11-20"
    for values in ([unknown], [f"{known}, {unknown}"], [known, unknown], [unknown, known]):
        headers = [("x-api-key", AGENT_KEY), *(("anthropic-beta", value) for value in values)]
        async with rig.http.post(rig.url(MESSAGES), json=messages(), headers=headers) as response:
            assert (response.status, reason_of(await response.json())) == (403, "MemberNotAllowed")
    assert rig.provider.seen == []
    assert await rig.refused(CHAT, chat(), {**BEARER, "OpenAI-Beta": "assistants=v2"}) == (403, "MemberNotAllowed")


@requirement("models.members")
async def test_what_an_administrator_added_reaches_the_provider(rig: Rig) -> None:
    bundle = parse_bundle(a_bundle_with_models(rig.provider.port))
    assert bundle.models is not None
    more = tuple(structs.replace(one, extra_members=("top_k", "x=v1")) for one in bundle.models.providers)
    models = structs.replace(bundle.models, providers=more)
    rig.api.set_bundle(dump_bundle(structs.replace(bundle, revision="1", models=models)))

    async def passes() -> bool:
        return (await rig.post(CHAT, chat(top_k=4), {**BEARER, "OpenAI-Beta": "x=v1"}))[0] == 200

    await until(passes, "the bundle is in force")
    assert rig.provider.seen[-1].message["top_k"] == 4
    assert rig.provider.seen[-1].headers["OpenAI-Beta"] == "x=v1"


async def test_tools_that_the_agent_carries_out_itself_pass(rig: Rig) -> None:
    function = {"type": "function", "function": {"name": "f"}}
    assert (await rig.post(CHAT, chat(tools=[function])))[0] == 200
    own = [
        {"name": "f", "input_schema": {}},
        {"type": "custom", "name": "g"},
        {"type": "bash_20250124", "name": "bash"},
    ]
    assert (await rig.post(MESSAGES, messages(tools=own)))[0] == 200
    assert (await rig.post("/openai/v1/completions", {"model": MODEL["openai"], "prompt": "a text"}))[0] == 200


@requirement("models.keys")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer sk-of-the-agents-own"},
        {"Authorization": AGENT_KEY},
        {"Authorization": f"Basic {AGENT_KEY}"},
        {"Authorization": f"Bearer {AGENT_KEY} "[:-2]},
        {"x-api-key": ""},
        {**API_KEY, "Authorization": "Bearer sk-of-the-agents-own"},
    ],
)
async def test_a_request_without_the_agents_own_key_is_refused(rig: Rig, headers: dict[str, str]) -> None:
    assert await rig.refused(CHAT, chat(), headers) == (403, "ModelKeyRefused")


@requirement("models.keys")
async def test_a_key_that_is_there_twice_is_refused(rig: Rig) -> None:
    headers = [("Authorization", f"Bearer {AGENT_KEY}"), ("Authorization", "Bearer sk-other")]
    async with rig.http.post(rig.url(CHAT), json=chat(), headers=headers) as response:
        assert response.status == 400
    assert rig.provider.seen == []


@requirement("models.keys")
async def test_a_key_that_was_rotated_is_used_by_the_next_call_and_a_missing_one_stops_it(rig: Rig) -> None:
    (rig.keys / KEY_FILES["openai"]).write_text("sk-rotated-0123456789")
    await rig.post(CHAT, chat())
    assert rig.provider.seen.pop().headers["Authorization"] == "Bearer sk-rotated-0123456789"
    (rig.keys / KEY_FILES["openai"]).unlink()
    assert await rig.refused(CHAT, chat()) == (502, "ServerUnavailable")


async def test_an_error_of_the_provider_passes_as_it_is(rig: Rig) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        body = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
        return web.json_response(body, status=429, headers={"retry-after": "7", "x-ratelimit-remaining-requests": "0"})

    rig.provider.answer = answer
    async with rig.http.post(rig.url(CHAT), json=chat(), headers=BEARER) as response:
        assert response.status == 429
        assert (response.headers["retry-after"], response.headers["x-ratelimit-remaining-requests"]) == ("7", "0")
        assert (await response.json())["error"]["code"] == "rate_limit_exceeded"
    await until_exactly(rig.outcomes, ["Error"], "the end of the call is recorded")


@requirement("models.ssrf")
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed(rig: Rig, status: int) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": f"http://127.0.0.1:{rig.provider.port}/elsewhere"})

    rig.provider.answer = answer
    code, found = await rig.post(CHAT, chat())
    assert (code, reason_of(found)) == (502, "ServerUnavailable")
    assert [seen.path for seen in rig.provider.seen] == [CHAT]


@requirement("models.ssrf")
async def test_a_provider_at_an_address_that_may_not_be_dialled_is_not_dialled(rig: Rig) -> None:
    rig.guard.may_dial_loopback = False
    await rig.restart()
    assert await rig.refused(CHAT, chat()) == (502, "ServerUnavailable")
    assert "may not be dialled: it is loopback" in rig.guard.log()


@requirement("models.ssrf")
async def test_no_proxy_of_the_environment_is_used(rig: Rig) -> None:
    rig.guard.more = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    await rig.restart()
    assert (await rig.post(CHAT, chat()))[0] == 200


@requirement("models.kill")
async def test_a_kill_cuts_an_open_stream_and_refuses_the_next_call(rig: Rig) -> None:
    rig.provider.answer = endless_stream
    async with rig.http.post(rig.url(CHAT), json=chat(stream=True), headers=BEARER) as response:
        assert await response.content.readany() == b"data: 1\n\n"
        rig.api.kill("data leak")
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(response.content.read(), 5)
    await asyncio.wait_for(rig.provider.hung_up.wait(), 5)
    rig.provider.seen.clear()
    status, found = await rig.post(CHAT, chat())
    assert (status, reason_of(found), "data leak" in found["error"]["message"]) == (503, "Killed", True)
    assert rig.provider.seen == []
    await until_exactly(rig.outcomes, ["Killed"], "the end of the call is recorded")


@requirement("models.kill")
async def test_a_kill_answers_a_call_that_has_no_answer_yet_with_503(rig: Rig) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    rig.provider.answer = answer
    call = asyncio.create_task(rig.post(MESSAGES, messages(), API_KEY))
    await until_count(lambda: len(rig.provider.seen), 1, "the provider has the call")
    rig.api.kill("data leak")
    status, found = await asyncio.wait_for(call, 5)
    assert (status, reason_of(found)) == (503, "Killed")
    await asyncio.wait_for(rig.provider.hung_up.wait(), 5)


@requirement("models.kill")
async def test_a_stale_guard_and_one_without_a_bundle_refuse(rig: Rig) -> None:
    rig.guard.lease_seconds = 1.0
    await rig.restart()
    rig.api.talks.clear()
    rig.api.expire_watches()

    async def is_stale() -> bool:
        return not await rig.guard.probe("/readyz")

    await until(is_stale, "the lease has run out")
    assert await rig.refused(CHAT, chat()) == (503, "StaleState")
    rig.api.talks.set()
    await until(lambda: rig.guard.probe("/readyz"), "the guard is open")
    rig.api.set_bundle(None)

    async def has_no_bundle() -> bool:  # on a slow machine the short lease may run out again before
        return await rig.refused(CHAT, chat()) == (503, "NoBundle")

    await until(has_no_bundle, "the bundle is gone")


@requirement("models.allowed")
async def test_a_model_that_is_taken_away_is_refused_at_once(rig: Rig) -> None:
    assert (await rig.post(CHAT, chat()))[0] == 200
    rig.provider.seen.clear()
    bundle = parse_bundle(a_bundle_with_models(rig.provider.port))
    assert bundle.models is not None
    less = type(bundle.models)(bundle.models.providers[1:])
    rig.api.set_bundle(dump_bundle(structs.replace(bundle, revision="1", models=less)))

    async def is_refused() -> bool:
        return (await rig.post(CHAT, chat()))[0] == 403

    await until(is_refused, "the model is refused")


@requirement("models.limits")
async def test_a_body_or_a_header_beyond_its_limit_is_refused(rig: Rig) -> None:
    large = chat(messages=[{"role": "user", "content": "x" * (32 * 1024 * 1024)}])
    assert await rig.refused(CHAT, large) == (413, "BadRequest")
    async with rig.http.post(rig.url(CHAT), json=chat(), headers={**BEARER, "X-Long": "x" * 9000}) as response:
        assert response.status == 431
    assert rig.provider.seen == []
    almost = chat(messages=[{"role": "user", "content": "x" * (32 * 1024 * 1024 - 1024)}])
    assert (await rig.post(CHAT, almost))[0] == 200


@requirement("models.limits", "models.retries")
async def test_one_call_more_than_may_be_under_way_is_refused_and_sdks_may_try_again(rig: Rig) -> None:
    lets_go = asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        await lets_go.wait()
        return web.json_response({})

    rig.provider.answer = answer
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        many = Rig(rig.api, rig.guard, rig.provider, http)
        calls = [asyncio.create_task(many.post(CHAT, chat())) for _ in range(64)]
        await until_count(lambda: len(rig.provider.seen), 64, "all are under way")
        async with http.post(many.url(CHAT), json=chat(), headers=BEARER) as response:
            assert (response.status, reason_of(await response.json())) == (429, "ServerUnavailable")
            assert int(response.headers["Retry-After"]) > 0
            assert "x-should-retry" not in response.headers
        async with http.post(many.url(MESSAGES), json=messages(), headers=API_KEY) as response:
            assert (response.status, (await response.json())["error"]["type"]) == (429, "rate_limit_error")
        lets_go.set()
        assert {status for status, _ in await asyncio.gather(*calls)} == {200}
        assert (await many.post(CHAT, chat()))[0] == 200


async def test_a_caller_from_elsewhere_is_refused(rig: Rig) -> None:
    for headers in ({"Host": "evil.example.com"}, {"Origin": "https://evil.example.com"}):
        async with rig.http.post(rig.url(CHAT), json=chat(), headers={**BEARER, **headers}) as response:
            assert response.status == 403
    async with rig.http.post(rig.url(CHAT), data=b"x", headers={**BEARER, "Content-Type": "text/plain"}) as response:
        assert response.status == 415
    assert rig.provider.seen == []


@requirement("models.recorded")
async def test_each_call_is_recorded_and_counted_and_nothing_of_what_was_said_is(rig: Rig) -> None:
    await rig.post(
        CHAT, chat(messages=[{"role": "user", "content": "canary-of-a-prompt"}]), {**BEARER, "Interlock-Task": "t-1"}
    )
    await rig.post(CHAT, chat(model="another"))
    allowed, denied = rig.guard.records()
    said = ("source", "method", "tool", "decision", "reason", "rule", "task")
    assert [allowed[name] for name in said] == [
        *("models", "chat/completions", "openai/gpt-4o-mini", "Allow", ""),
        *("agent/support-triage/models[openai/gpt-4o-mini]", "t-1"),
    ]
    assert [denied[name] for name in said[:5]] == [
        "models",
        "chat/completions",
        "openai/another",
        "Deny",
        "ModelNotAllowed",
    ]
    assert (allowed["argumentsDigest"], denied["argumentsDigest"]) == ("", "")
    await until_exactly(rig.outcomes, ["Answered"], "the end of the call is recorded")
    (outcome,) = [line for line in rig.guard.lines() if line["kind"] == "outcome"]
    assert outcome["of"] == allowed["seq"]
    text = (rig.guard.folder / "records").read_text() + rig.guard.log()
    assert "canary-of-a-prompt" not in text
    metrics = await rig.guard.metrics()
    assert 'interlock_guard_decisions_total{decision="Allow",reason="",source="models"} 1' in metrics
    assert 'interlock_guard_decisions_total{decision="Deny",reason="ModelNotAllowed",source="models"} 1' in metrics


@requirement("models.endpoints")
async def test_the_list_of_models_is_the_agents_and_reaches_no_provider(rig: Rig) -> None:
    async def got(path: str, headers: dict[str, str] = BEARER) -> tuple[int, Any]:
        async with rig.http.get(rig.url(path), headers=headers) as response:
            return response.status, await response.json()

    status, found = await got("/openai/v1/models")
    assert (status, [model["id"] for model in found["data"]]) == (200, ["gpt-4o-mini"])
    assert (await got("/anthropic/v1/models"))[1]["data"][0]["id"] == "claude-haiku-4-5"
    assert (await got("/openai/v1/models/gpt-4o-mini"))[1]["id"] == "gpt-4o-mini"
    assert (await got("/openai/v1/models", {}))[0] == 403
    assert (await got("/other/v1/models"))[0] == 403
    assert rig.provider.seen == []


@requirement("models.selftest")
async def test_the_self_test_shows_that_the_guard_refuses_other_models(rig: Rig) -> None:
    def reported() -> list[dict[str, Any]]:
        return [json.loads(text) for text in (rig.api.lease or {}).values()]

    await until(lambda: bool(reported()), "the guard has reported its self-test")
    assert [one["calls"] for one in reported()] == [26]
