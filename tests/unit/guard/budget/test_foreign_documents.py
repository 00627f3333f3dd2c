"""Whatever JSON an agent or a provider sends: the budget's code refuses it in its own words and never fails on it."""

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
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
from interlock_guard.decision.body_members import find_refused_member
from interlock_guard.decision.model_call import find_hosted_tool
from interlock_guard.llm.answer_screen import AnswerScreen
from interlock_guard.llm.metering import MeteredCall
from interlock_guard.tasks.outcome_classifier import is_last_word, outcome_of_message
from tests.requirements import requirement
from tests.support.model_streams import (
    GROQ_STREAM,
    MESSAGES_STREAM,
    MOONSHOT_STREAM,
    OPENAI_STREAM,
    RESPONSES_STREAM,
    XAI_STREAM,
)

PRICE = ModelPrice((PriceRow(input=10**9, output=4 * 10**9), PriceRow(input=1, output=1, tier="flex")), 128_000)
ENDPOINTS = [CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES]
DIALECTS = [
    dialect_of("OpenAI", "openai", "https://api.openai.com/v1"),
    dialect_of("OpenAI", "gateway", "http://llm.models.svc:8000/v1"),
    dialect_of("Anthropic", "anthropic", "https://api.anthropic.com"),
]
ODD: list[Any] = [None, [], {}, [{}], "", "x", 0, -1, 1.5, 10**30, float("inf"), True]
"""What stands in a document in place of each of its values."""
PARTS: list[Any] = [
    {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    {"type": "image_url", "image_url": {"url": "data:"}},
    {"type": "image", "source": {"type": "base64", "data": "A"}},
    {"type": "document", "source": {"type": "text", "data": "x"}},
    {"type": "input_file", "file_id": "f"},
    {"type": "input_audio", "input_audio": {"data": "A"}},
    {"type": "video_url", "video_url": {"url": "data:"}},
]
BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": PARTS}, {"role": "assistant", "audio": {"id": "a"}}],
    "input": [{"type": "item_reference", "id": "i"}, {"role": "user", "content": PARTS}],
    "prompt": ["x", [1, 2]],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}, {"type": "bash_1"}],
    "thread": {"type": "create"},
    "conversation": {"id": "c"},
    "context_management": {"edits": [{"type": "compact_20260112"}]},
    "prediction": {"type": "content", "content": "x"},
    "stream_options": {"include_usage": True},
    "max_tokens": 1,
    "max_completion_tokens": 1,
    "max_output_tokens": 1,
    "n": 1,
    "best_of": 1,
    "stream": True,
    "service_tier": "flex",
    "speed": "fast",
    "inference_geo": "us",
    "modalities": ["text"],
    "background": False,
}
MESSAGE = {
    "type": "message",
    "model": "m",
    "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "x"}, {"type": "tool_use", "name": "f", "input": {"a": 1}}],
    "usage": {
        "input_tokens": 1,
        "output_tokens": 1,
        "service_tier": "standard",
        "inference_geo": "us",
        "speed": "fast",
        "cache_creation": {"ephemeral_5m_input_tokens": 1},
        "server_tool_use": {"web_search_requests": 1},
        "iterations": [{"type": "compaction", "input_tokens": 1, "output_tokens": 1}],
    },
}
COMPLETION = {
    "model": "m",
    "service_tier": "default",
    "choices": [{"message": {"content": "x", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}],
    "usage": {
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "total_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens_details": {"ttl_12h_tokens": 1}},
        "completion_tokens_details": {"reasoning_tokens": 1},
    },
}
RESPONDED = {
    **RESPONSES_STREAM[-1]["response"],
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}], "arguments": "{}"}],
}
ANSWERS = {CHAT: COMPLETION, COMPLETIONS: COMPLETION, EMBEDDINGS: COMPLETION, RESPONSES: RESPONDED, MESSAGES: MESSAGE}
STREAMS = [
    *((CHAT, events) for events in (OPENAI_STREAM, GROQ_STREAM, MOONSHOT_STREAM, XAI_STREAM)),
    (RESPONSES, RESPONSES_STREAM),
    (MESSAGES, MESSAGES_STREAM),
]
TASK = {
    "jsonrpc": "2.0",
    "error": {"code": -32601, "message": "x"},
    "result": {"kind": "task"},
    "status": {"state": "failed"},
    "task": {"status": {"state": "completed"}},
    "message": {"parts": []},
}
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


BODIES = st.dictionaries(st.sampled_from(NAMES), documents(NAMES), max_size=8)
ENDPOINT, DIALECT = st.sampled_from(ENDPOINTS), st.sampled_from(DIALECTS)


def odd_versions(document: Any) -> Iterator[Any]:
    """Yield a document with each of its values, at every depth, replaced by each odd one."""
    yield from ODD
    items = (
        enumerate(document) if isinstance(document, list) else document.items() if isinstance(document, dict) else ()
    )
    for key, value in items:
        for odd in odd_versions(value):
            copy = document.copy()
            copy[key] = odd
            yield copy


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


def check_body(endpoint: str, body: dict[str, Any], dialect: Dialect) -> None:
    find_hosted_tool("Anthropic" if endpoint == MESSAGES else "OpenAI", body)
    find_refused_member(endpoint, body, extra=frozenset({"video_url"}), hosts=frozenset())
    found = asyncio.run(assess_body(endpoint, body, dialect))
    assert isinstance(found, Refused) or (found.nanos > 0 and found.tokens > 0)


def check_answer(
    endpoint: str,
    parts: list[Any],
    dialect: Dialect,
    *,
    status: int = 200,
    is_complete: bool = True,
    is_one: bool = False,
) -> None:
    """Settle a call with an answer: one document, or a stream of events."""
    worst = WORST[endpoint, dialect]
    absent: Any = None
    call = MeteredCall(worst, absent, absent, absent, "m", None, 60, reads_text_alone=True)
    answer: Any = SimpleNamespace(status=status, content_type="application/json" if is_one else "text/event-stream")
    screen = AnswerScreen(lambda _: False, is_events=True, usage=call.begin_answer(answer, is_events=True))
    for part in parts:
        text = part if isinstance(part, bytes) else json.dumps(part).encode()
        call.feed(screen.feed(text if is_one else b"data: %s\n\n" % text))
    call.feed(screen.finish())
    call.is_complete = is_complete
    seen = call.read_answer()
    found = charge(call.find_end(was_sent=True), worst.terms, seen, lambda _: None)
    assert 0 <= found.nanos <= MAX_LIMIT
    if found.basis == "Reservation":
        assert found.nanos >= worst.nanos
    if found.usage is not None:
        call.count_tokens(found.usage)
    describe_cost(found, reserved=worst.nanos, answered_model=seen.model if seen else None, price_book=None)


def _reserve(endpoint: str, dialect: Dialect) -> WorstCase:
    worst = asyncio.run(assess_body(endpoint, {"model": "m", "stream": True}, dialect))
    assert isinstance(worst, WorstCase)
    return worst


WORST = {(endpoint, dialect): _reserve(endpoint, dialect) for endpoint in ENDPOINTS for dialect in DIALECTS}


@requirement("budget.worst-case")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_body_with_any_odd_value_has_a_worst_case_or_is_refused(endpoint: str) -> None:
    for body in odd_versions(BODY):
        if isinstance(body, dict):
            check_body(endpoint, body, DIALECTS[0])


@requirement("budget.worst-case")
@settings(deadline=None)
@given(BODIES, ENDPOINT, DIALECT)
def test_every_body_has_a_worst_case_or_is_refused(body: dict[str, Any], endpoint: str, dialect: Dialect) -> None:
    check_body(endpoint, body, dialect)


@requirement("budget.settled")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_answer_with_any_odd_value_has_a_cost(endpoint: str) -> None:
    for answer in odd_versions(ANSWERS[endpoint]):
        check_answer(endpoint, [answer], DIALECTS[0], is_one=True)


@requirement("budget.settled")
@pytest.mark.parametrize(("endpoint", "events"), STREAMS)
def test_a_stream_with_any_odd_value_has_a_cost(endpoint: str, events: list[Any]) -> None:
    for index, event in enumerate(events):
        for odd in odd_versions(event):
            check_answer(endpoint, [*events[:index], odd, *events[index + 1 :]], DIALECTS[0])


@requirement("budget.settled")
@settings(deadline=None)
@given(
    st.lists(documents(ANSWERED), max_size=5), ENDPOINT, DIALECT, st.sampled_from([200, 302, 500]), *[st.booleans()] * 2
)
def test_every_answer_has_a_cost(
    parts: list[Any],
    endpoint: str,
    dialect: Dialect,
    status: int,
    is_complete: bool,  # noqa: FBT001 - hypothesis passes it
    is_one: bool,  # noqa: FBT001 - hypothesis passes it
) -> None:
    check_answer(endpoint, parts, dialect, status=status, is_complete=is_complete, is_one=is_one)


@requirement("budget.usage")
def test_an_answer_to_a_task_with_any_odd_value_has_an_outcome_or_none() -> None:
    without = {name: value for name, value in TASK.items() if name != "jsonrpc"}
    for message in (*odd_versions(TASK), *odd_versions(without)):
        outcome_of_message(message)
        is_last_word(message)


def test_a_value_that_is_no_text_is_looked_up_as_an_empty_one() -> None:
    values: list[Any] = [None, 1, True, [], {}, ["a"]]
    assert [text_of(value) for value in (*values, "a")] == [*[""] * len(values), "a"]
