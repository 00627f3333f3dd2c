"""What official SDKs see of calls that are metered, and what the guard reads of each shape of usage that is sent."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import web

from interlock_contract.budget.money import format_money
from tests.integration.guard.budget_rig import BudgetRig, a_budget_rig, cost_of
from tests.integration.guard.fake_provider import MODEL, stream
from tests.requirements import requirement
from tests.support.keys import AGENT_KEY
from tests.support.model_streams import (
    AZURE_STREAM,
    DEEPSEEK_STREAM,
    GEMINI_STREAM,
    GROQ_STREAM,
    MESSAGES_STREAM,
    MOONSHOT_STREAM,
    OPENAI_STREAM,
    RESPONSES_STREAM,
    XAI_STREAM,
    write_events,
)

GPT, CLAUDE = MODEL["openai"], MODEL["anthropic"]
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
PNG = "data:image/png;base64,iVBORw0KGgo="
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CHAT_STREAMS = [
    OPENAI_STREAM,
    AZURE_STREAM,
    GEMINI_STREAM,
    DEEPSEEK_STREAM,
    GROQ_STREAM,
    XAI_STREAM,
    MOONSHOT_STREAM,
]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[BudgetRig]:
    async with a_budget_rig(tmp_path) as found:
        yield found


@pytest.fixture
async def gpt(rig: BudgetRig) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://127.0.0.1:{rig.guards[0].port}/openai/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=AGENT_KEY, max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(rig: BudgetRig) -> AsyncIterator[anthropic.AsyncAnthropic]:
    url = f"http://127.0.0.1:{rig.guards[0].port}/anthropic"
    async with anthropic.AsyncAnthropic(base_url=url, api_key=AGENT_KEY, max_retries=0) as client:
        yield client


def answer_with(rig: BudgetRig, events: list[Any], model: str) -> None:
    """Have the provider send a stream in which its model is the one that is asked."""
    text = write_events(events)
    for name in ("gpt-4o-mini-2024-07-18", "gpt-5-mini", "claude-opus-4-6"):
        text = text.replace(name.encode(), model.encode())
    parts = [text[start : start + 100] for start in range(0, len(text), 100)]

    async def answer(http: web.Request) -> web.StreamResponse:
        return await stream(http, parts)

    rig.provider.answer = answer


def answer_json(rig: BudgetRig, body: dict[str, Any]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body)

    rig.provider.answer = answer


@requirement("budget.unseen")
async def test_the_sdk_of_openai_reads_each_stream_of_a_chat_whether_or_not_it_asks_for_usage(
    rig: BudgetRig, gpt: openai.AsyncOpenAI
) -> None:
    streams = [(events, asks) for asks in (False, True) for events in CHAT_STREAMS]
    for events, asks in streams:
        options: Any = {"stream_options": {"include_usage": True}} if asks else {}
        answer_with(rig, events, GPT)
        seen = [
            one async for one in await gpt.chat.completions.create(model=GPT, messages=HELLO, stream=True, **options)
        ]
        sent = [event for event in events if isinstance(event, dict)]
        bare = [event for event in sent if not event["choices"] and event.get("usage")]
        assert len(seen) == len(sent) - (0 if asks else len(bare))
        assert [one for one in seen if not one.choices and one.usage] == [] or asks
        assert rig.provider.seen[-1].message["stream_options"] == {"include_usage": True}
        assert rig.provider.seen[-1].message["max_completion_tokens"] == 4096
    costs = await rig.costs(rig.guards[0], len(streams))
    for one in costs:
        assert (one["cost"], one["costBasis"]) == (format_money(cost_of(8, 2)), "Usage")
        assert (one["usage"]["inputTokens"], one["usage"]["outputTokens"]) == (8, 2)
    await rig.settled(len(streams) * cost_of(8, 2))


@requirement("budget.unseen")
async def test_the_sdk_of_openai_reads_a_stream_of_responses(rig: BudgetRig, gpt: openai.AsyncOpenAI) -> None:
    answer_with(rig, RESPONSES_STREAM, GPT)
    seen = [one async for one in await gpt.responses.create(model=GPT, input="hello", stream=True)]
    assert [one.type for one in seen] == [event["type"] for event in RESPONSES_STREAM]
    answers = [one.response for one in seen if one.type in ("response.created", "response.completed")]
    assert [one.max_output_tokens for one in answers] == [None, None]
    assert rig.provider.seen[-1].message["max_output_tokens"] == 4096
    (one,) = await rig.costs(rig.guards[0], 1)
    assert (one["cost"], one["costBasis"]) == (format_money(cost_of(8, 2)), "Usage")


@requirement("budget.usage")
async def test_the_sdk_of_anthropic_reads_a_stream_of_messages(
    rig: BudgetRig, claude: anthropic.AsyncAnthropic
) -> None:
    answer_with(rig, MESSAGES_STREAM, CLAUDE)
    async with claude.messages.stream(model=CLAUDE, max_tokens=9, messages=HELLO) as reading:
        message = await reading.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert (message.usage.output_tokens, message.stop_reason) == (2, "end_turn")
    (one,) = await rig.costs(rig.guards[0], 1)
    assert one["usage"]["cacheWrite5mTokens"] == 300
    assert one["usage"]["outputTokens"] == 2


@requirement("budget.usage")
async def test_answers_that_are_no_streams_are_charged_by_their_usage(rig: BudgetRig, gpt: openai.AsyncOpenAI) -> None:
    message = {"role": "assistant", "content": "hi"}
    chat = {"id": "c", "object": "chat.completion", "created": 1, "model": GPT}
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    answer_json(rig, {**chat, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})
    content: Any = [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": PNG}}]
    found = await gpt.chat.completions.create(
        model=GPT, messages=[{"role": "user", "content": content}], tools=[TOOL], n=2, max_tokens=99
    )
    assert found.usage is not None
    assert found.usage.total_tokens == 150
    asked = rig.provider.seen[-1].message
    assert (asked["max_completion_tokens"], asked["n"], "max_tokens" in asked) == (99, 2, False)
    vectors = [{"object": "embedding", "index": 0, "embedding": [0.5] * 20_000}]
    answer_json(
        rig, {"object": "list", "data": vectors, "model": GPT, "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    )
    await gpt.embeddings.create(model=GPT, input="hello", encoding_format="float")
    first, second = await rig.costs(rig.guards[0], 2)
    assert first["cost"] == format_money(cost_of(100, 50))
    assert first["usage"]["cachedInputTokens"] == 20
    assert (first["usage"]["outputTokens"], first["usage"]["reasoningTokens"]) == (10, 40)
    assert float(first["reserved"]) > (48_169 * 1000 + 2 * 99 * 4000) / 1e9  # the image and both answers
    assert (second["cost"], second["usage"]["inputTokens"]) == (format_money(cost_of(7, 0)), 7)


@requirement("budget.settled")
async def test_a_message_that_is_cached_and_a_count_of_tokens(rig: BudgetRig, claude: anthropic.AsyncAnthropic) -> None:
    usage = {
        "input_tokens": 5,
        "output_tokens": 3,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 200,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 200},
        "service_tier": "standard",
    }
    body = {"id": "m", "type": "message", "role": "assistant", "model": CLAUDE, "content": [], "usage": usage}
    answer_json(rig, {**body, "stop_reason": "end_turn"})
    system: Any = [{"type": "text", "text": "long", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    found = await claude.messages.create(model=CLAUDE, max_tokens=9, messages=HELLO, system=system)
    assert found.usage.output_tokens == 3
    answer_json(rig, {"input_tokens": 2095})
    counted = await claude.messages.count_tokens(model=CLAUDE, messages=HELLO)
    assert counted.input_tokens == 2095
    first, second = await rig.costs(rig.guards[0], 2)
    assert first["cost"] == format_money(cost_of(1205, 3))
    assert first["usage"]["cacheWrite1hTokens"] == 200
    assert (second["cost"], second["costBasis"]) == (format_money(0), "Free")


@requirement("budget.settled")
async def test_an_answer_that_is_refused_by_its_head_costs_what_its_status_says(
    rig: BudgetRig, gpt: openai.AsyncOpenAI
) -> None:
    heads = [
        (307, {"Location": "/elsewhere"}),
        (429, {"Content-Encoding": "gzip"}),
        (200, {"Content-Encoding": "gzip"}),
    ]

    async def answer(_: web.Request) -> web.Response:
        status, headers = heads[len(rig.provider.seen) - 1]
        return web.Response(status=status, headers=headers, body=b"\x1f\x8b")

    rig.provider.answer = answer
    for _ in heads:
        with pytest.raises(openai.APIStatusError):
            await gpt.chat.completions.create(model=GPT, messages=HELLO)
    costs = await rig.costs(rig.guards[0], len(heads))
    assert [one["costBasis"] for one in costs] == ["Free", "Free", "Reservation"]


@requirement("budget.settled")
async def test_a_stream_without_a_usage_costs_its_whole_reservation(rig: BudgetRig, gpt: openai.AsyncOpenAI) -> None:
    answer_with(rig, OPENAI_STREAM[:4], GPT)
    seen = [one async for one in await gpt.chat.completions.create(model=GPT, messages=HELLO, stream=True)]
    assert len(seen) == 4
    (one,) = await rig.costs(rig.guards[0], 1)
    assert (one["cost"], one["costBasis"]) == (one["reserved"], "Reservation")
    assert 'interlock_guard_cost_alerts_total{alert="UsageUnknown"} 1' in await rig.guards[0].metrics()
