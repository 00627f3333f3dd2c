"""Both protocol versions on either side: the official SDK's client and server, in all four combinations."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import mcp_types as types
import pytest
import pytest_asyncio
from mcp import Client as SdkClient
from mcp.shared.exceptions import MCPError

from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Client, Guard
from tests.integration.guard.known import (
    EVERYTHING,
    INSTRUCTIONS,
    PROMPTS,
    RESOURCES,
    TOOLS,
    Known,
    a_known_server,
    known_bundle,
)
from tests.requirements import requirement
from tests.support.bounds import WAIT_SECONDS, until, until_count
from tests.support.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENTS = ["legacy", "2026-07-28"]
SERVERS = ["--session-based", "--both"]
in_combinations = pytest.mark.parametrize(
    "mode", ["other version", pytest.param("same version", marks=pytest.mark.nightly)], indirect=True
)
"""A client of the other version than the server, between which the guard translates; at night one of the same too."""
KINDS = {
    "test_sampling": ("sampling/createMessage", "LLM response: sampled"),
    "test_elicitation": ("elicitation/create", 'content={"username": "ada"}'),
    "test_roots": ("roots/list", "file:///work"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=SERVERS)
async def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Known]:
    """One guard and one server for all tests of a protocol version: each test sets what it allows."""
    api = FakeApiServer(free_port())
    api.set_agent()
    api.set_bundle(known_bundle())
    await api.start()
    guard = Guard(api, tmp_path_factory.mktemp("known"))
    await guard.start()
    async with a_known_server(api, guard, request.param):
        yield Known(api, guard, request.param)
    await guard.stop()
    await api.stop()


@pytest.fixture
def mode(known: Known, request: pytest.FixtureRequest) -> str:
    """Return the client's mode, given whether it is to speak the same version as the server."""
    own, other = CLIENTS if known.protocol == "--session-based" else reversed(CLIENTS)
    return own if request.param == "same version" else other


class Answers:
    """A client's answers to server requests, and the requests that it received."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.logged: list[str] = []
        self.heard: list[str] = []

    async def sample(self, _context: Any, _params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        self.asked.append("sampling/createMessage")
        content = types.TextContent(type="text", text="sampled")
        return types.CreateMessageResult(role="assistant", content=content, model="none")

    async def elicit(self, _context: Any, _params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append("elicitation/create")
        return types.ElicitResult(action="accept", content={"username": "ada"})

    async def list_roots(self, _context: Any) -> types.ListRootsResult:
        self.asked.append("roots/list")
        return types.ListRootsResult(roots=[types.Root(uri="file:///work")])

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logged.append(str(params.data))

    async def hear(self, message: Any) -> None:
        self.heard.append(getattr(message, "method", ""))

    @asynccontextmanager
    async def client(self, guard: Guard, mode: str, **options: Any) -> AsyncIterator[SdkClient]:
        callbacks = {
            "sampling_callback": self.sample,
            "elicitation_callback": self.elicit,
            "list_roots_callback": self.list_roots,
            "logging_callback": self.log,
            "message_handler": self.hear,
        }
        async with asyncio.timeout(WAIT_SECONDS * 2), SdkClient(guard.url, mode=mode, **callbacks, **options) as client:
            yield client


async def subscribe(client: SdkClient, uri: str) -> None:
    """Subscribe; the client's own method is deprecated and warns."""
    request = types.SubscribeRequest(params=types.SubscribeRequestParams(uri=uri))
    await client.session.send_request(request, types.EmptyResult)


def text(result: Any) -> str:
    found: str = result.content[0].text
    return found


@pytest.mark.parametrize("mode", CLIENTS)
@requirement("guard.both-protocol-versions")
async def test_tools_resources_prompts_and_completions_pass_in_every_combination(known: Known, mode: str) -> None:
    await known.allow(*EVERYTHING)
    async with Answers().client(known.guard, mode) as client:
        assert "simple text" in text(await client.call_tool("test_simple_text", {}))
        assert (await client.call_tool("test_error_handling", {})).is_error
        read = await client.read_resource("test://static-text")
        assert "test://static-text" in str(read.contents)
        assert "123" in str((await client.read_resource("test://template/123/data")).contents)
        got = await client.get_prompt("test_prompt_with_arguments", {"arg1": "one", "arg2": "two"})
        assert "arg1='one'" in str(got.messages)
        ref = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
        completed = await client.complete(ref, {"name": "arg1", "value": "par"})
        assert completed.completion.values == ["par", "par-one", "par-two"]


@in_combinations
@requirement("guard.both-protocol-versions")
async def test_every_list_is_filtered_item_by_item_in_every_combination(known: Known, mode: str) -> None:
    await known.allow(*EVERYTHING)
    async with Answers().client(known.guard, mode) as client:
        tools = await client.list_tools()
        assert {tool.name for tool in tools.tools} == set(TOOLS)
        assert {str(one.uri) for one in (await client.list_resources()).resources} == set(RESOURCES[:3])
        templates = (await client.list_resource_templates()).resource_templates
        assert [one.uri_template for one in templates] == ["test://template/{id}/data"]
        assert {one.name for one in (await client.list_prompts()).prompts} == set(PROMPTS)
        if mode != "legacy":
            assert (tools.ttl_ms, tools.cache_scope) == (5000, "private")


@in_combinations
@requirement("drift.prompts", "drift.instructions", "guard.descriptions")
async def test_a_client_reads_no_text_of_a_server_that_was_not_verified_or_asked_for(known: Known, mode: str) -> None:
    """A client gives all of these to its model before any call."""
    await known.allow(*EVERYTHING)
    async with Answers().client(known.guard, mode) as client:
        # The SDK's client of this version sends no server/discover, so it asks for no instructions.
        assert client.instructions == (INSTRUCTIONS if mode == "legacy" else None)
        assert {one.name for one in (await client.list_resources()).resources} != set(RESOURCES[:3])
    await known.withhold(PROMPTS[0])
    async with Answers().client(known.guard, mode) as client:
        assert client.instructions is None
        assert [one.name for one in (await client.list_prompts()).prompts] == [PROMPTS[0]]
        await client.get_prompt(PROMPTS[0], {})
        with pytest.raises(MCPError, match="has not been verified yet"):
            await client.get_prompt(PROMPTS[1], {"arg1": "one", "arg2": "two"})
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
        assert {one.name for one in resources} == set(RESOURCES[:3])
        assert [one.name for one in templates] == ["test://template/{id}/data"]
        assert {(one.title, one.description, one.icons) for one in (*resources, *templates)} == {(None, None, None)}


@in_combinations
@requirement("guard.both-protocol-versions")
async def test_what_is_not_mapped_is_refused_like_what_does_not_exist(known: Known, mode: str) -> None:
    await known.allow(*EVERYTHING)
    async with Answers().client(known.guard, mode) as client:
        unmapped, unknown = [await client.call_tool(name, {}) for name in ("test_unmapped", "test_nowhere")]
        assert unmapped.is_error
        assert unmapped.model_dump() == unknown.model_dump()
        errors = []
        for uri in ("test://secret", "test://nowhere", "secret://1"):
            with pytest.raises(MCPError) as refused:
                await client.read_resource(uri)
            errors.append(refused.value.error)
        assert errors[0] == errors[1] == errors[2]
        for name in ("test_unmapped_prompt", "test_nowhere"):
            with pytest.raises(MCPError, match="not available"):
                await client.get_prompt(name, {})


async def set_level(client: SdkClient, level: types.LoggingLevel) -> None:
    params = types.SetLevelRequestParams(level=level)
    await client.session.send_request(types.SetLevelRequest(params=params), types.EmptyResult)


@in_combinations
@requirement("guard.both-protocol-versions")
async def test_progress_and_logs_come_before_the_result_in_every_combination(known: Known, mode: str) -> None:
    steps: list[float] = []

    async def on_progress(progress: float, _total: float | None, _message: str | None) -> None:
        steps.append(progress)

    await known.allow(*EVERYTHING)
    answers = Answers()
    options: dict[str, Any] = {} if mode == "legacy" else {"log_level": "info"}
    async with answers.client(known.guard, mode, **options) as client:
        if mode == "legacy":
            await set_level(client, "info")
        await client.call_tool("test_tool_with_progress", {}, progress_callback=on_progress)
        assert steps == [0, 50, 100]
        await client.call_tool("test_tool_with_logging", {})
        await until_count(lambda: len(answers.logged), 3, "three lines were logged")


@in_combinations
@requirement("guard.both-protocol-versions")
async def test_logs_without_a_subscriber_stay_with_the_guard(known: Known, mode: str) -> None:
    await known.allow(*EVERYTHING)
    answers = Answers()
    options: dict[str, Any] = {} if mode == "legacy" else {"log_level": "error"}
    async with answers.client(known.guard, mode, **options) as client:
        if mode == "legacy":
            await set_level(client, "error")
        await client.call_tool("test_tool_with_logging", {})
    assert answers.logged == []


@in_combinations
@requirement("guard.server-requests")
async def test_a_permitted_server_request_gets_the_clients_answer_in_every_combination(known: Known, mode: str) -> None:
    answers = Answers()
    await known.allow(*EVERYTHING)
    async with answers.client(known.guard, mode) as client:
        for tool, (_, expected) in KINDS.items():
            assert expected in text(await client.call_tool(tool, {"prompt": "hi", "message": "who?"}))
    assert answers.asked == [method for method, _ in KINDS.values()]
    allowed = {(one["method"], one["decision"]) for one in known.guard.records() if one["method"] in answers.asked}
    assert allowed == {(method, "Allow") for method in answers.asked}


@in_combinations
@requirement("guard.server-requests")
async def test_a_denied_server_request_gets_an_error_and_reaches_no_client(known: Known, mode: str) -> None:
    answers = Answers()
    await known.allow()
    before = len(known.guard.records())
    async with answers.client(known.guard, mode) as client:
        for tool in KINDS:
            try:
                assert (await client.call_tool(tool, {"prompt": "hi"})).is_error
            except MCPError as error:
                assert "does not let this server ask" in str(error)  # noqa: PT017 - either form is a refusal
    assert answers.asked == []
    denied = [(one["method"], one["reason"]) for one in known.guard.records()[before:] if one["decision"] == "Deny"]
    assert denied == [(method, "ServerRequestNotAllowed") for method, _ in KINDS.values()]


@pytest.mark.parametrize("allowed", EVERYTHING)
@requirement("guard.server-requests")
async def test_one_permitted_kind_of_server_request_permits_no_other(known: Known, allowed: Any) -> None:
    answers = Answers()
    await known.allow(allowed)
    async with answers.client(known.guard, "legacy") as client:
        for tool in KINDS:
            try:
                await client.call_tool(tool, {"prompt": "hi", "message": "who?"})
            except MCPError:
                continue
    wanted = {"Sampling": "sampling/createMessage", "Elicitation": "elicitation/create", "Roots": "roots/list"}
    assert answers.asked == [wanted[allowed]]


@requirement("guard.both-protocol-versions")
async def test_a_session_is_notified_of_changed_lists_and_of_its_subscriptions(known: Known) -> None:
    answers = Answers()
    await known.allow(*EVERYTHING)
    async with answers.client(known.guard, "legacy") as client:
        await subscribe(client, "test://watched-resource")
        await client.call_tool("test_change", {})
        kinds = {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}
        await until(lambda: kinds | {"notifications/resources/updated"} <= set(answers.heard), "all was heard")
        with pytest.raises(MCPError, match="not available"):
            await subscribe(client, "test://secret")


@requirement("guard.both-protocol-versions")
async def test_a_subscriber_gets_what_it_subscribed_to_and_may_read(known: Known) -> None:
    await known.allow(*EVERYTHING)
    async with Answers().client(known.guard, "2026-07-28") as client:
        uris = ["test://watched-resource", "test://secret"]
        async with client.listen(tools_list_changed=True, resource_subscriptions=uris) as listening:
            assert listening.honored.resource_subscriptions == uris[:1]
            assert listening.honored.prompts_list_changed is None
            heard = set()
            while len(heard) < 2:
                await client.call_tool("test_change", {})
                heard.add(type(await anext(listening)).__name__)
            assert heard == {"ToolsListChanged", "ResourceUpdated"}


@in_combinations
@requirement("guard.both-protocol-versions")
async def test_nothing_of_the_clients_meta_reaches_a_server_but_its_trace(known: Known, mode: str) -> None:
    meta: Any = {"authorization": "Bearer secret", "traceparent": "00-1-1-01", "mine": {"a": 1}}
    await known.allow(*EVERYTHING)
    async with Answers().client(known.guard, mode) as client:
        seen = json.loads(text(await client.call_tool("test_meta", {}, meta=meta)))
    assert seen.pop("traceparent").startswith("00-")
    seen.pop("tracestate", None)
    seen.pop("progressToken", None)
    seen.pop("progress_token", None)
    assert "secret" not in json.dumps(seen)
    own = {"protocolVersion", "clientInfo", "clientCapabilities"} if known.protocol == "--both" else set()
    assert {key.removeprefix("io.modelcontextprotocol/") for key in seen} == own
    assert seen.get("io.modelcontextprotocol/clientInfo", {"name": "interlock-guard"})["name"] == "interlock-guard"


def a_call(tool: str, capabilities: dict[str, Any], **more: Any) -> tuple[str, dict[str, str]]:
    """Return body and headers of a call of the sessionless protocol."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }
    params = {"name": tool, "arguments": {"message": "who?"}, "_meta": meta, **more}
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}), headers


async def post(known: Known, tool: str, capabilities: dict[str, Any], **more: Any) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session:
        body, headers = a_call(tool, capabilities, **more)
        answer = await Client(session, known.guard.url).post(body, headers)
    found: dict[str, Any] = answer.body
    return found


@pytest.mark.parametrize("known", ["--session-based"], indirect=True)
@requirement("guard.server-requests")
async def test_a_server_request_that_interrupted_a_request_is_answered_once_and_for_that_request_only(
    known: Known,
) -> None:
    await known.allow(*EVERYTHING)
    asked = (await post(known, "test_elicitation", {"elicitation": {}}))["result"]
    assert asked["resultType"] == "input_required"
    [(key, question)] = asked["inputRequests"].items()
    assert (question["method"], question["params"]["message"]) == ("elicitation/create", "who?")
    more = {
        "requestState": asked["requestState"],
        "inputResponses": {key: {"action": "accept", "content": {"username": "ada", "email": "a@b.c"}}},
    }
    for other in ({"arguments": {"message": "whom?"}}, {"requestState": asked["requestState"][:-1]}):
        refused = await post(known, "test_elicitation", {"elicitation": {}}, **{**more, **other})
        assert refused["error"]["code"] == -32602
    assert (await post(known, "test_roots", {"roots": {}}, **more))["error"]["code"] == -32602
    answered = (await post(known, "test_elicitation", {"elicitation": {}}, **more))["result"]
    assert '"username": "ada"' in answered["content"][0]["text"]
    again = await post(known, "test_elicitation", {"elicitation": {}}, **more)
    assert again["error"]["code"] == -32602


@pytest.mark.parametrize("known", ["--session-based"], indirect=True)
@requirement("guard.server-requests")
async def test_an_interrupted_request_is_decided_on_again(known: Known) -> None:
    await known.allow(*EVERYTHING)
    asked = (await post(known, "test_elicitation", {"elicitation": {}}))["result"]
    await known.allow_no_tools()
    more = {"requestState": asked["requestState"], "inputResponses": {}}
    denied = (await post(known, "test_elicitation", {"elicitation": {}}, **more))["result"]
    assert denied["_meta"]["interlock.dev/denial"]["reason"] == "ToolNotMapped"


@requirement("guard.server-requests")
async def test_a_client_gets_no_server_request_that_it_does_not_support(known: Known) -> None:
    await known.allow(*EVERYTHING)
    answer = await post(known, "test_roots", {"sampling": {}})
    assert "inputRequests" not in json.dumps(answer)
    assert "error" in answer or answer["result"]["isError"]


@pytest.mark.parametrize("known", ["--both"], indirect=True)
@requirement("guard.server-requests")
async def test_a_server_without_permitted_requests_gets_no_answers_either(known: Known) -> None:
    await known.allow()
    answer = await post(known, "test_elicitation", {"elicitation": {}}, inputResponses={"q": {"action": "accept"}})
    assert answer["error"]["code"] == -32602


@pytest.mark.parametrize("known", ["--session-based"], indirect=True)
@requirement("guard.server-requests")
async def test_a_server_request_that_could_be_for_two_clients_reaches_neither(known: Known) -> None:
    await known.allow(*EVERYTHING)
    one, other = Answers(), Answers()
    async with one.client(known.guard, "legacy") as busy, other.client(known.guard, "legacy") as asking:
        waiting = asyncio.create_task(busy.call_tool("test_wait", {}))
        await until(lambda: "test_wait" in {entry["tool"] for entry in known.guard.records()}, "the first is busy")
        with pytest.raises(MCPError, match="cannot tell whose"):
            await asking.call_tool("test_roots", {})
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert one.asked == other.asked == []
