"""What a body for a model may have in it: all that the official SDKs send in their usual calls, and nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from multidict import CIMultiDict, CIMultiDictProxy
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

from interlock_contract.bundle import AgentIdentity, Bundle
from interlock_contract.http_target import HttpTarget
from interlock_contract.model_access import NEVER_MEMBERS, Model, ModelAccess, Provider
from interlock_guard.decision.body_members import BETAS
from interlock_guard.decision.decide import Allow, DecisionInput
from interlock_guard.decision.model_call import MODELS, decide_model
from interlock_guard.decision.model_rules import REFUSED_MEMBERS
from interlock_guard.llm.provider_client import read_betas
from interlock_guard.state import State
from tests.integration.guard.fake_provider import answer_of, events_of
from tests.requirements import requirement

OPENAI = Provider("openai", "OpenAI", HttpTarget("https://o.example/v1", "Public", ()), (Model("gpt", "0a"),))
ANTHROPIC = Provider(
    "anthropic", "Anthropic", HttpTarget("https://a.example/v1", "Public", ()), (Model("claude", "0b"),)
)
CHAT, RESPONSES, MESSAGES = "chat/completions", "responses", "messages"
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "model-providers.md"
IMAGE = "data:image/png;base64,AAAA"
SCHEMA = {"type": "object", "properties": {"whatever": {"x-anything": {"model": "in a schema"}}}}


class Weather(BaseModel):
    city: str
    degrees: float


def decide(
    method: str, body: Any, *betas: str, extra: tuple[str, ...] = (), hosts: tuple[str, ...] = ()
) -> tuple[str, str]:
    """Return the reason of a denial, or Allow, and the message."""
    name, model = ("anthropic", "claude") if method.startswith(MESSAGES) else ("openai", "gpt")
    providers = tuple(structs.replace(one, extra_members=extra, content_hosts=hosts) for one in (OPENAI, ANTHROPIC))
    identity = AgentIdentity("a", "agents", "u-1")
    bundle = Bundle(4, identity, "r", "staging", "staging", (), (), models=ModelAccess(providers))
    request = DecisionInput(MODELS, method, arguments=body, model=f"{name}/{model}", betas=betas)
    decision = decide_model(bundle, State(agent_uid="u-1", contact_at=0.0), request, 0.0)
    return ("Allow", "") if isinstance(decision, Allow) else (decision.reason.value, decision.message)


class Wire:
    """Answers an SDK as its provider would, and decides on each of its requests as the guard would."""

    def __init__(self) -> None:
        self.denied: list[tuple[str, str]] = []
        self.paths: list[str] = []

    def answer(self, request: Any) -> dict[str, Any]:
        """Return the arguments of a response, which each SDK makes with an HTTP client of its own."""
        path, body = request.url.path.removeprefix("/v1/"), json.loads(request.content)
        self.paths.append(path)
        betas = read_betas(CIMultiDictProxy(CIMultiDict(request.headers.multi_items())))
        found = decide(path, body, *betas)
        if found[0] != "Allow":
            self.denied.append(found)
        if not body.get("stream"):
            return {"status_code": 200, "json": answer_of(f"/{path}", body)}
        sent = b"".join(events_of(f"/{path}", body))
        return {"status_code": 200, "content": sent, "headers": {"Content-Type": "text/event-stream"}}


@pytest.fixture
def wire() -> Wire:
    return Wire()


@requirement("models.members")
def test_the_usual_calls_of_openais_sdk_pass(wire: Wire) -> None:
    http = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(**wire.answer(request))))
    client = openai.OpenAI(api_key="k", base_url="https://o.example/v1", http_client=http)
    function: Any = {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True},
    }
    call: Any = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answered = ChatCompletionMessage.model_validate(
        {"role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None, "tool_calls": [call]}
    )
    said: Any = [
        {"role": "developer", "content": "be brief"},
        {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "what is it?"},
                {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": IMAGE}},
            ],
        },
        answered,
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    client.chat.completions.create(
        model="gpt",
        messages=said,
        tools=[function],
        tool_choice="auto",
        temperature=0.5,
        max_completion_tokens=9,
        reasoning_effort="low",
        metadata={"any": "thing"},
        store=False,
        seed=1,
        user="u",
        logit_bias={"1": 2},
        parallel_tool_calls=False,
        prompt_cache_key="k",
        service_tier="auto",
        n=1,
        top_p=1,
        stop=["x"],
    )
    list(
        client.chat.completions.create(model="gpt", messages=said, stream=True, stream_options={"include_usage": True})
    )
    named: Any = {"type": "function", "function": {"name": "f"}}
    client.chat.completions.create(
        model="gpt", messages=said, tools=[function], tool_choice=named, response_format={"type": "json_object"}
    )
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA, "strict": True}}
    client.chat.completions.create(model="gpt", messages=said, response_format=wanted)
    with pytest.raises(ValueError, match="validation error"):  # the stand-in answers no JSON
        client.chat.completions.parse(model="gpt", messages=said, response_format=Weather)
    client.completions.create(model="gpt", prompt="a text", max_tokens=9)
    client.embeddings.create(model="gpt", input=["a", "b"], dimensions=2, encoding_format="float", user="u")
    tool: Any = {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
    grammar: Any = {"type": "custom", "name": "g", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}
    asked: Any = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "hello"}, {"type": "input_image", "image_url": IMAGE}],
        },
    ]
    first = client.responses.create(
        model="gpt",
        input=asked,
        tools=[tool, grammar],
        instructions="be brief",
        reasoning={"effort": "low", "summary": "auto"},
        store=False,
        include=["reasoning.encrypted_content"],
        max_output_tokens=9,
        background=False,
    )
    asked += first.output
    asked += [
        {"type": "reasoning", "id": "r1", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "id": "i1", "status": "completed"},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    ]
    client.responses.create(model="gpt", input=asked, previous_response_id="r", text={"format": {"type": "text"}})
    with pytest.raises(ValueError, match="validation error"):
        client.responses.parse(model="gpt", input=asked, text_format=Weather)
    assert wire.denied == []
    assert set(wire.paths) == {CHAT, "completions", RESPONSES, "embeddings"}


@requirement("models.members")
def test_the_usual_calls_of_anthropics_sdk_pass(wire: Wire) -> None:
    http = httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(**wire.answer(request))))
    client = anthropic.Anthropic(api_key="k", base_url="https://a.example", http_client=http)
    cached: Any = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    tools: Any = [
        {"name": "f", "description": "d", "input_schema": SCHEMA, **cached},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 9},
    ]
    said: Any = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is it?", **cached},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {
                    "type": "document",
                    "title": "t",
                    "citations": {"enabled": True},
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"anything": {"model": "in an input"}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "is_error": False,
                    "content": [{"type": "text", "text": "x"}],
                },
            ],
        },
    ]
    whole = client.messages.create(
        model="claude",
        max_tokens=9,
        messages=said,
        tools=tools,
        system=[{"type": "text", "text": "be brief", **cached}],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 1024},
        metadata={"user_id": "u"},
        stop_sequences=["x"],
        extra_body={"temperature": 1, "top_p": 0.5, "top_k": 4},
    )  # as earlier versions of the SDK send them
    said += [{"role": "assistant", "content": whole.content}, {"role": "user", "content": "go on"}]
    with client.messages.stream(model="claude", max_tokens=9, messages=said) as stream:
        stream.get_final_message()
    client.messages.count_tokens(model="claude", messages=said, tools=tools, system="be brief")
    with pytest.raises(ValueError, match="validation error"):  # the stand-in answers no JSON
        client.messages.parse(model="claude", max_tokens=9, messages=said, output_format=Weather)
    client.beta.messages.create(
        model="claude",
        max_tokens=9,
        messages=said,
        betas=["context-1m-2025-08-07"],
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
    )
    assert wire.denied == []
    assert set(wire.paths) == {MESSAGES, "messages/count_tokens"}


@requirement("models.members")
@pytest.mark.parametrize(
    ("method", "body", "path"),
    [
        *((CHAT, {name: ["x"]}, name) for name in ("models", "route", "provider", "transforms", "fallbacks")),
        (CHAT, {"web_search": True}, "web_search"),
        (CHAT, {"num_retries": None}, "num_retries"),
        (CHAT, {"temperature": {"models": []}}, "temperature.models"),
        (CHAT, {"messages": [{"role": "user"}, {"route": "x"}]}, "messages[1].route"),
        (CHAT, {"messages": [[{"route": "x"}]]}, "messages[0][0].route"),
        (CHAT, {"messages": [{"content": [{"type": "video_url"}]}]}, "messages[0].content[0].type video_url"),
        (CHAT, {"messages": [{"content": [{"type": {"a": "text"}}]}]}, 'messages[0].content[0].type ""'),
        (CHAT, {"response_format": {"model": "x"}}, "response_format.model"),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "url": "x"}}]}, "tools[0].function.url"),
        ("embeddings", {"messages": []}, "messages"),
        ("completions", {"models": []}, "models"),
        (RESPONSES, {"messages": []}, "messages"),
        (RESPONSES, {"input": [{"role": "user", "model": "x"}]}, "input[0].model"),
        (MESSAGES, {"models": []}, "models"),
        (MESSAGES, {"user_profile_id": "x"}, "user_profile_id"),
        (MESSAGES, {"messages": [{"content": [{"type": "text", "model": "x"}]}]}, "messages[0].content[0].model"),
        ("messages/count_tokens", {"stream": True}, "stream"),
        (CHAT, {"messages": [{"moderation": {"model": "x"}}]}, "messages[0].moderation"),
        (CHAT, {"messages": [{"background": False}]}, "messages[0].background"),
        (MESSAGES, {"messages": [{"content": [{"mcp_servers": [{}]}]}]}, "messages[0].content[0].mcp_servers"),
        (MESSAGES, {"tools": [{"name": "f", "container": {"skills": []}}]}, "tools[0].container"),
        *(
            (
                RESPONSES,
                {"input": [{"type": "additional_tools", "tools": [{"type": kind}]}]},
                f"input[0].tools[0].type {shown}",
            )
            for kind, shown in (
                ("web_search_20991231", "web_search_20991231"),
                ("Web_Search", "Web_Search"),
                ("gateway:web_search", '"gateway:web_search"'),
                (["web_search"], '""'),
            )
        ),
        (CHAT, {"a\nb": 1}, '"a\\nb"'),
        (CHAT, {"x" * 5000: 1}, f'"{"x" * 64}"'),
    ],
)
def test_what_no_sdk_has_there_is_refused_by_name(method: str, body: dict[str, Any], path: str) -> None:
    reason, message = decide(method, body)
    assert reason == "MemberNotAllowed"
    assert message.startswith(f"The guard does not know {path} in a request to {method}, ")
    assert message.endswith("AgentPolicy, spec.models.urls[].extraMembers.")


@requirement("models.members")
@pytest.mark.parametrize(
    ("method", "body", "reason"),
    [
        (RESPONSES, {"background": True}, "MemberNotAllowed"),
        (RESPONSES, {"background": 1}, "MemberNotAllowed"),
        (RESPONSES, {"background": "true"}, "MemberNotAllowed"),
        (RESPONSES, {"background_options": {"completion_window": "8h"}}, "MemberNotAllowed"),
        (CHAT, {"background": True}, "MemberNotAllowed"),
        (CHAT, {"moderation": {"model": "x"}}, "MemberNotAllowed"),
        (MESSAGES, {"fallbacks": [{"model": "x"}]}, "MemberNotAllowed"),
        (MESSAGES, {"fallbacks": "default"}, "MemberNotAllowed"),
        (MESSAGES, {"billing_policy": {"type": "billing_policy"}}, "MemberNotAllowed"),
        (MESSAGES, {"mcp_servers": [{}]}, "HostedToolNotAllowed"),
        (MESSAGES, {"container": {}}, "HostedToolNotAllowed"),
        (MESSAGES, {"container": "c"}, "HostedToolNotAllowed"),
        (CHAT, {"web_search_options": {}}, "HostedToolNotAllowed"),
        (CHAT, {"search_parameters": {"mode": "on"}}, "HostedToolNotAllowed"),
        (CHAT, {"plugins": [{"id": "web"}]}, "HostedToolNotAllowed"),
        (CHAT, {"enable_search": True}, "HostedToolNotAllowed"),
        (CHAT, {"search_options": {"forced_search": True}}, "HostedToolNotAllowed"),
        (
            RESPONSES,
            {"input": [{"type": "additional_tools", "tools": [{"type": "web_search"}]}]},
            "HostedToolNotAllowed",
        ),
        (RESPONSES, {"input": [{"type": "additional_tools", "tools": [{"type": "mcp"}]}]}, "HostedToolNotAllowed"),
        (
            MESSAGES,
            {
                "messages": [
                    {
                        "content": [
                            {
                                "type": "tool_addition",
                                "tool": {"type": "tool_definition", "definition": {"type": "web_fetch_20250910"}},
                            }
                        ]
                    }
                ]
            },
            "HostedToolNotAllowed",
        ),
    ],
)
def test_what_no_administrator_can_add_is_refused(method: str, body: dict[str, Any], reason: str) -> None:
    for extra in ((), ("web_search", "mcp", "web_fetch_20250910", "additional_tools", "route")):
        assert decide(method, body, extra=extra)[0] == reason


@requirement("models.hosted-tools")
@pytest.mark.parametrize(
    ("method", "tool", "reason"),
    [
        *(
            (RESPONSES, {"type": kind, **more}, "Allow")
            for kind, more in (
                ("local_shell", {}),
                ("apply_patch", {"allowed_callers": None}),
                ("computer", {}),
                ("computer_use_preview", {"display_height": 9, "display_width": 9, "environment": "browser"}),
                ("shell", {"environment": {"type": "local"}}),
                ("shell", {"environment": {"type": "local", "skills": [{"name": "s", "path": "/s"}]}}),
                ("tool_search", {"execution": "client", "parameters": SCHEMA}),
                ("namespace", {"name": "crm", "description": "d", "tools": [{"type": "function", "name": "f"}]}),
            )
        ),
        *(
            (RESPONSES, {"type": "shell", **more}, "HostedToolNotAllowed")
            for more in (
                *({}, {"environment": None}, {"environment": {}}, {"environment": "local"}, {"environment": ["local"]}),
                *({"environment": {"type": kind}} for kind in ("container_auto", "container_reference", "Local", None)),
                {"environment": [{"type": "local"}]},
                {"execution": "local"},
            )
        ),
        *(
            (RESPONSES, {"type": "tool_search", **more}, "HostedToolNotAllowed")
            for more in (
                {},
                {"execution": "server"},
                {"execution": {"type": "client"}},
                {"execution": None},
                {"environment": {"type": "client"}},
            )
        ),
        (RESPONSES, {"type": "namespace", "tools": [{"type": "web_search"}]}, "HostedToolNotAllowed"),
        (RESPONSES, {"type": "namespace", "tools": [{"type": "shell"}]}, "MemberNotAllowed"),
        (RESPONSES, {"type": "local_shell", "environment": {"type": "container_auto"}}, "HostedToolNotAllowed"),
        (RESPONSES, {"type": "programmatic_tool_calling"}, "HostedToolNotAllowed"),
        (CHAT, {"type": "local_shell"}, "MemberNotAllowed"),
        (CHAT, {"type": "shell"}, "MemberNotAllowed"),
        *(
            (MESSAGES, tool, "Allow")
            for tool in (
                {"type": None, "name": "f", "input_schema": {}},
                {"name": "f", "input_schema": {}},
                {"type": "custom", "name": "f", "input_schema": {}},
            )
        ),
        *(
            (MESSAGES, {"type": kind, "name": "f", "input_schema": {}}, "HostedToolNotAllowed")
            for kind in ("", "null", False, 0, [], {}, "web_search_20250305", "shell")
        ),
        (MESSAGES, {"type": None, "name": "f"}, "HostedToolNotAllowed"),
        (MESSAGES, {"type": None, "input_schema": None}, "HostedToolNotAllowed"),
        (RESPONSES, {"type": None, "name": "f", "input_schema": {}}, "HostedToolNotAllowed"),
    ],
    ids=str,
)
def test_a_tool_passes_if_the_agent_alone_executes_it(method: str, tool: dict[str, Any], reason: str) -> None:
    assert decide(method, {"tools": [tool]})[0] == reason
    if method == RESPONSES and tool["type"] is not None:  # at a depth, too
        added = {"input": [{"type": "additional_tools", "tools": [tool]}]}
        assert decide(method, added, extra=("environment", "execution"))[0] == reason


@requirement("models.hosted-tools")
def test_a_tool_that_does_not_say_who_executes_it_is_refused_with_the_member_that_does() -> None:
    for tools in ([{"type": "shell"}], [{"type": "function", "name": "f"}, {"type": "tool_search"}]):
        message = decide(RESPONSES, {"tools": tools})[1]
        assert message.startswith(f"tools[{len(tools) - 1}] does not say that the agent executes it")
        assert '"environment": {"type": "local"}' in message
    chosen = {"tools": [{"type": "shell", "environment": {"type": "local"}}], "tool_choice": {"type": "shell"}}
    assert decide(RESPONSES, chosen)[0] == "Allow"


@requirement("models.members")
@pytest.mark.parametrize(("method", "members"), [(MESSAGES, ANTHROPIC), (CHAT, OPENAI)])
def test_a_refused_member_that_asks_for_nothing_passes(method: str, members: Provider) -> None:
    for name in REFUSED_MEMBERS[members.shape]:
        for value in (None, False, []):
            assert decide(method, {name: value})[0] == "Allow"
        for value in ({}, "", [None], True, 1, 0, 0.0):
            assert decide(method, {name: value})[0] != "Allow"


@requirement("models.members")
def test_what_an_administrator_added_passes_at_every_depth_and_nothing_next_to_it() -> None:
    body = {"top_k": 4, "messages": [{"role": "assistant", "reasoning_content": {"any": ["thing"]}}]}
    assert decide(CHAT, body)[1].startswith("The guard does not know top_k in")
    assert decide(CHAT, body, extra=("top_k",))[1].startswith(
        "The guard does not know messages[0].reasoning_content in"
    )
    assert decide(CHAT, body, extra=("top_k", "reasoning_content"))[0] == "Allow"
    video = {"messages": [{"content": [{"type": "video_url", "video_url": {"url": "data:"}}]}]}
    assert decide(CHAT, video, extra=("video_url",))[0] == "Allow"
    assert decide(CHAT, {**body, "route": "x"}, extra=("top_k", "reasoning_content"))[0] == "MemberNotAllowed"


CALL = {"id": "1", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}
TEXT = {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
OF_OTHER_PROVIDERS: dict[str, dict[str, Any]] = {
    "reasoning_content": {"messages": [{"role": "assistant", "content": "hello", "reasoning_content": "Hm."}]},
    "top_k": {"top_k": 4},
    "min_p": {"min_p": 0.1},
    "repetition_penalty": {"repetition_penalty": 1.1},
    "chat_template_kwargs": {"chat_template_kwargs": {"enable_thinking": False}},
    "cache_control": {"messages": [{"role": "user", "content": [TEXT]}]},
    "index": {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]},
    "provider_specific_fields": {"messages": [{"role": "assistant", "provider_specific_fields": {"refusal": None}}]},
    "client_metadata": {"client_metadata": {"session": "s"}},
}


@requirement("models.recipes")
def test_each_member_that_the_page_on_providers_names_passes_once_it_is_added() -> None:
    rows = re.findall(r"^\| agents .* \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([a-z_]+)`", row)]
    assert named == list(OF_OTHER_PROVIDERS)
    for name, body in OF_OTHER_PROVIDERS.items():
        assert decide(CHAT, body)[0] == "MemberNotAllowed"
        assert decide(CHAT, body, extra=(name,))[0] == "Allow"


@requirement("models.hosted-tools")
@pytest.mark.parametrize(
    ("tool", "named"),
    [
        ({"type": "web_search"}, "tools[0].type web_search has the provider act"),
        ({"type": "a b" * 99}, 'tools[0].type "a ba ba ba b'),
        ({"googleSearch": {}}, "tools[0] has the provider act"),
        (None, "tools[0] has the provider act"),
    ],
    ids=["type", "long", "no type", "null"],
)
def test_a_refused_tool_is_named_with_its_type(tool: Any, named: str) -> None:
    reason, message = decide(CHAT, {"tools": [tool]})
    assert (reason, named in message, len(message) < 200) == ("HostedToolNotAllowed", True, True)


URL = "https://images.example.com/a.png?v=1"


def by_url(url: Any) -> list[tuple[str, dict[str, Any], str]]:
    """Return bodies that have the provider load a URL, with the path of the URL in them."""
    in_chat = [
        ({"type": "image_url", "image_url": {"url": url}}, "image_url.url"),
        ({"type": "image_url", "image_url": url}, "image_url"),
        ({"type": "file", "file": {"file_data": url}}, "file.file_data"),
        ({"type": "file", "file": {"file_id": url}}, "file.file_id"),
        ({"type": "input_audio", "input_audio": {"data": url, "format": "wav"}}, "input_audio.data"),
    ]
    in_responses = [
        ({"type": "input_image", "image_url": url}, "image_url"),
        ({"type": "input_file", "file_url": url}, "file_url"),
    ]
    in_messages = [
        ({"type": "image", "source": {"type": "url", "url": url}}, "source.url"),
        ({"type": "document", "source": {"url": url}}, "source.url"),
        (
            {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": url}}]},
            "content[0].source.url",
        ),
    ]
    screenshot = {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": url}}
    return [
        *((CHAT, {"messages": [{"content": [part]}]}, f"messages[0].content[0].{path}") for part, path in in_chat),
        *((RESPONSES, {"input": [{"content": [part]}]}, f"input[0].content[0].{path}") for part, path in in_responses),
        *(
            (MESSAGES, {"messages": [{"content": [part]}]}, f"messages[0].content[0].{path}")
            for part, path in in_messages
        ),
        (RESPONSES, {"input": [screenshot]}, "input[0].output.image_url"),
    ]


@requirement("models.remote-content")
@pytest.mark.parametrize(("method", "body", "path"), by_url(URL), ids=lambda value: str(value)[:24])
def test_content_by_url_is_refused_unless_its_host_is_allowed(method: str, body: dict[str, Any], path: str) -> None:
    reason, message = decide(method, body)
    assert reason == "RemoteContentNotAllowed"
    assert message.startswith(f"{path} has the provider load content from a URL that is not allowed.")
    assert decide(method, body, hosts=("cdn.example.com",))[0] == "RemoteContentNotAllowed"
    assert decide(method, body, hosts=("images.example.com",))[0] == "Allow"
    assert decide(method, body, hosts=("*",))[0] == "Allow"


@requirement("models.remote-content")
@pytest.mark.parametrize(
    "url",
    [
        "http://images.example.com/a.png",
        "file:///etc/passwd",
        "HTTPS://images.example.com/a.png",
        "//images.example.com/a.png",
        " https://images.example.com/a.png",
        "https://images.example.com:8443/a.png",
        "https://images.example.com@evil.example/a.png",
        "https://evil.example\\@images.example.com/a.png",
        "https://evil.example#@images.example.com/a.png",
        "https://images.example.com.evil.example/a.png",
        "https://images.example.com./a.png",
        "https://im\u0430ges.example.com/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://images.example.com/a\n.png",
        "DATA:image/png;base64,AAAA",
        ["https://evil.example/a.png"],
    ],
)
def test_a_url_that_could_be_read_as_another_host_is_refused(url: Any) -> None:
    for method, body, _ in by_url(url):
        if url != "//images.example.com/a.png" or "url" in json.dumps(body):  # Base64 may begin with slashes
            assert decide(method, body, hosts=("images.example.com",))[0] == "RemoteContentNotAllowed"


@requirement("models.remote-content")
def test_content_in_the_request_passes_and_a_url_that_is_not_loaded_too() -> None:
    for method, body, _ in by_url(IMAGE):
        assert decide(method, body)[0] == "Allow"
    for file in ({"file_data": "AA//AA=="}, {"file_id": "file-abc123"}):
        assert decide(CHAT, {"messages": [{"content": [{"type": "file", "file": file}]}]})[0] == "Allow"
    cited = {"type": "text", "text": URL, "citations": [{"type": "web_search_result_location", "url": URL}]}
    used = {"type": "tool_use", "name": "f", "input": {"image_url": URL, "source": {"url": URL}}}
    assert decide(MESSAGES, {"messages": [{"content": [cited, used]}]})[0] == "Allow"
    plain = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": f"see: {URL}"}}
    assert decide(MESSAGES, {"messages": [{"content": [plain]}]})[0] == "Allow"


@requirement("models.remote-content")
def test_a_url_in_a_member_that_an_administrator_added_is_checked_too() -> None:
    for video in ({"url": URL}, URL):
        body = {"messages": [{"content": [{"type": "video_url", "video_url": video}]}]}
        assert decide(CHAT, body, extra=("video_url",))[0] == "RemoteContentNotAllowed"
        assert decide(CHAT, body, extra=("video_url",), hosts=("images.example.com",))[0] == "Allow"


@requirement("models.members")
def test_what_an_administrator_added_stays_checked_where_the_sdks_have_it() -> None:
    body: dict[str, Any] = {"messages": [{"route": "x", "messages": {"any": "thing"}}]}
    assert decide(CHAT, body, extra=("messages",))[1].startswith("The guard does not know messages[0].route in")
    assert decide(CHAT, body, extra=("messages", "route"))[0] == "Allow"


@requirement("models.members")
@pytest.mark.parametrize(
    ("method", "beta"),
    [
        *(
            (MESSAGES, f"{name}")
            for name in ("mcp-client-2025-11-20", "code-execution-2025-05-22", "files-api-2025-04-14")
        ),
        (MESSAGES, "server-side-fallback-2026-07-01"),
        (MESSAGES, "new-feature-2027-01-01"),
        (MESSAGES, "pdfs-2024-09-25-x"),
        (CHAT, "assistants=v2"),
        (RESPONSES, "agents=v1"),
    ],
)
def test_a_beta_value_that_is_unknown_is_refused_by_name(method: str, beta: str) -> None:
    reason, message = decide(method, {}, "pdfs-2024-09-25", beta)
    assert reason == "MemberNotAllowed"
    assert f"the beta value {json.dumps(beta) if '=' in beta else beta} in" in message
    assert decide(method, {}, beta, extra=(beta,))[0] == "Allow"


def test_every_value_in_every_beta_header_is_read() -> None:
    headers = CIMultiDict([("Anthropic-Beta", "a, b,"), ("anthropic-beta", "c"), ("OpenAI-Beta", "d=v1")])
    assert read_betas(CIMultiDictProxy(headers)) == ("a", "b", "c", "d=v1")
    assert all(beta.isascii() and " " not in beta for beta in BETAS)


def test_what_is_refused_in_bodies_is_refused_in_policies_too() -> None:
    refused = {name for members in REFUSED_MEMBERS.values() for name in members}
    assert refused | {"model", "prompt", "tools", "type"} == set(NEVER_MEMBERS)


NAMES = st.sampled_from(["type", "messages", "content", "tools", "x", "role"])
JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
)


@given(st.sampled_from([CHAT, RESPONSES, "completions", "embeddings", MESSAGES, "messages/count_tokens"]), JSON)
def test_whatever_a_body_is_the_decision_is_one(method: str, value: Any) -> None:
    body = value if isinstance(value, dict) else {"messages": value, "input": value}
    assert decide(method, body)[0] in {"Allow", "MemberNotAllowed", "HostedToolNotAllowed"}
    assert decide(method, {**body, "x": 1})[0] != "Allow"
