"""Whatever JSON an agent or a provider sends: the budget's code refuses it in its own words and never fails on it."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from interlock_contract.budget.money import MAX_LIMIT
from interlock_contract.budget.prices import ModelPrice, PriceRow
from interlock_contract.strict_json import text_of
from interlock_guard.budget.cost_record import describe_cost
from interlock_guard.budget.dialects import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Dialect, dialect_of
from interlock_guard.budget.prompt_size import measure_prompt
from interlock_guard.budget.settlement import charge
from interlock_guard.budget.worst_case import ModelRequest, Refused, WorstCase, assess
from interlock_guard.llm.answer_screen import AnswerScreen
from interlock_guard.llm.metering import MeteredCall
from interlock_guard.tasks.outcome_classifier import is_last_word, outcome_of_message
from tests.requirements import requirement

PRICE = ModelPrice((PriceRow(input=10**9, output=4 * 10**9), PriceRow(input=1, output=1, tier="flex")), 128_000)
ENDPOINTS = [CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES]
DIALECTS = [
    dialect_of("OpenAI", "openai", "https://api.openai.com/v1"),
    dialect_of("OpenAI", "gateway", "http://llm.models.svc:8000/v1"),
    dialect_of("Anthropic", "anthropic", "https://api.anthropic.com"),
]
NAMES = [
    *("type", "model", "messages", "input", "content", "source", "tools", "functions", "thread", "conversation", "ttl"),
    *("context_management", "edits", "cache_control", "prediction", "audio", "file_id", "image_url", "id", "metadata"),
    *("max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "prompt", "stream", "background"),
    *("stream_options", "service_tier", "speed", "inference_geo", "modalities", "video_url"),
]
ANSWERED = [
    *("type", "model", "service_tier", "usage", "choices", "delta", "message", "response", "finish_reason", "error"),
    *("stop_reason", "x_groq", "content", "text", "tool_calls", "function", "index", "iterations", "cache_creation"),
    *("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "speed", "inference_geo"),
    *("output_tokens_details", "reasoning_tokens", "server_tool_use", "web_search_requests"),
]
TYPES = [
    *("text", "image", "document", "input_file", "function", "message_start", "content_block_delta", "message_delta"),
    *("message_stop", "response.completed", "response.output_text.delta", "stop", "flex", "auto", "fast", "us"),
]


def documents(names: list[str]) -> st.SearchStrategy[Any]:
    """Return JSON with these members; what should be text or a number may be anything."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(TYPES)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names), inner, max_size=5),
        max_leaves=15,
    )


async def assess_body(endpoint: str, body: dict[str, Any], dialect: Dialect) -> WorstCase | Refused:
    size = await measure_prompt(endpoint, body, lambda text: len(text.encode()), frozenset({"video_url"}))
    return assess(
        ModelRequest(
            endpoint=endpoint,
            body=body,
            size=size,
            model="m",
            price=PRICE,
            dialect=dialect,
            at=0.0,
            max_output_tokens=4096,
        )
    )


@requirement("budget.worst-case")
@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(NAMES), documents(NAMES), max_size=8), *map(st.sampled_from, (ENDPOINTS, DIALECTS))
)
def test_every_body_has_a_worst_case_or_is_refused(body: dict[str, Any], endpoint: str, dialect: Dialect) -> None:
    found = asyncio.run(assess_body(endpoint, body, dialect))
    assert isinstance(found, Refused) or (found.nanos > 0 and found.tokens > 0)


@requirement("budget.settled")
@settings(deadline=None)
@given(
    st.lists(documents(ANSWERED), max_size=5),
    *map(st.sampled_from, (ENDPOINTS, DIALECTS)),
    st.sampled_from([200, 302, 429, 500]),
    st.booleans(),
    st.sampled_from(["text/event-stream", "application/json"]),
)
def test_every_answer_has_a_cost(
    events: list[Any],
    endpoint: str,
    dialect: Dialect,
    status: int,
    is_complete: bool,  # noqa: FBT001 - hypothesis passes it
    media_type: str,
) -> None:
    worst = asyncio.run(assess_body(endpoint, {"model": "m", "stream": True}, dialect))
    assert isinstance(worst, WorstCase)
    absent: Any = None
    call = MeteredCall(worst, absent, absent, absent, "m", None, 60)
    answer: Any = SimpleNamespace(status=status, content_type=media_type)
    reader = call.begin_answer(answer, is_events=True)
    screen = AnswerScreen(lambda _: False, is_events=True, usage=reader)
    is_one = media_type == "application/json" and events
    texts = (
        [json.dumps(events[0]).encode()] if is_one else [b"data: %s\n\n" % json.dumps(one).encode() for one in events]
    )
    for text in texts:
        call.feed(screen.feed(text))
    call.feed(screen.finish())
    call.is_complete = is_complete
    seen = call.read_answer()
    found = charge(call.find_end(was_sent=True), worst.terms, seen, lambda _: None)
    assert 0 <= found.nanos <= MAX_LIMIT
    if found.basis == "Reservation":
        assert found.nanos >= worst.nanos
    describe_cost(found, reserved=worst.nanos, answered_model=seen.model if seen else None, price_book=None)


@requirement("budget.usage")
@given(documents([*ANSWERED, "jsonrpc", "code", "result", "status", "state", "kind", "task"]))
def test_every_answer_to_a_task_has_an_outcome_or_none(message: Any) -> None:
    outcome_of_message(message)
    is_last_word(message)


def test_a_value_that_is_no_text_is_looked_up_as_an_empty_one() -> None:
    values: list[Any] = [None, 1, True, [], {}, ["a"]]
    assert [text_of(value) for value in (*values, "a")] == [*[""] * len(values), "a"]
