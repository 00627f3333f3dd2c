"""The usage of streams: each shape that providers send, broken at each byte, and the chunk that is only ours."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from interlock_contract.budget.prices import ModelUsage
from interlock_guard.budget.body_usage import Watch
from interlock_guard.budget.dialects import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Dialect, dialect_of
from interlock_guard.budget.member_scanner import SetBack
from interlock_guard.budget.stream_usage import StreamUsage
from interlock_guard.budget.usage import Answer, Unknown
from interlock_guard.llm.answer_screen import AnswerScreen
from tests.requirements import requirement

OPENAI = dialect_of("OpenAI", "openai", "https://api.openai.com/v1")
GEMINI = dialect_of("OpenAI", "gemini", "https://generativelanguage.googleapis.com/v1beta/openai")
ANTHROPIC = dialect_of("Anthropic", "anthropic", "https://api.anthropic.com")
USAGE = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
KNOWN = ModelUsage(input=8, output=2)


def chunk(*choices: Any, **members: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o-mini-2024-07-18", "choices": [*choices]} | (
        members
    )


def choice(text: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    content = {} if text is None else {"content": text}
    return {"index": 0, "delta": {**content, **delta}, "logprobs": None, "finish_reason": finish}


def write(events: Iterable[Any], end: bytes = b"\n") -> bytes:
    """Return events as a stream; those with a `type` have names."""
    out = []
    for event in events:
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        name = event.get("type") if isinstance(event, dict) else None
        out += [b"event: %s" % name.encode()] if name else []
        out += [b"data: " + data, b""]
    return end.join([*out, b""])


def run(watch: Watch, stream: bytes, size: int = 1 << 20) -> tuple[Answer, bytes]:
    usage = StreamUsage(watch)
    screen = AnswerScreen(lambda _: False, is_events=True, usage=usage)
    passed = b"".join(screen.feed(stream[start : start + size]) for start in range(0, len(stream), size))
    return usage.finish(), passed + screen.finish()


def decode(stream: bytes) -> list[Any]:
    """Return the events as OpenAI's SDK reads them."""
    return [event.data for event in SSEDecoder().iter_bytes(iter([stream]))]


OPENAI_STREAM = [
    chunk(choice("", role="assistant"), service_tier="default", usage=None),
    chunk(choice("Hello"), service_tier="default", usage=None),
    chunk(choice(" wörld"), service_tier="default", usage=None),
    chunk(choice(finish="stop"), service_tier="default", usage=None),
    chunk(service_tier="default", usage=USAGE),
    b"[DONE]",
]
AZURE_STREAM = [
    {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [{"prompt_index": 0}]},
    *OPENAI_STREAM,
]
GEMINI_STREAM = [
    chunk(choice("Hel"), usage={**USAGE, "completion_tokens": 1, "total_tokens": 9}),
    chunk(choice("lo", finish="stop"), usage=USAGE),
    b"[DONE]",
]
DEEPSEEK_STREAM = [
    chunk(choice(reasoning_content="Hm"), usage=None),
    chunk(choice("", finish="stop"), usage={**USAGE, "prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": 8}),
    b"[DONE]",
]
GROQ_STREAM = [
    chunk(choice("Hi"), x_groq={"id": "req_1"}),
    chunk(choice(finish="stop"), x_groq={"id": "req_1", "usage": {**USAGE, "queue_time": 0.1}}),
    b"[DONE]",
]
XAI_STREAM = [chunk(choice("Hi")), chunk(choice(finish="stop"), usage=USAGE), chunk(), b"[DONE]"]
MOONSHOT_STREAM = [chunk(choice("Hi")), chunk({**choice("", finish="stop"), "usage": USAGE}), b"[DONE]"]
RESPONSE = {"id": "r", "object": "response", "model": "gpt-5-mini", "service_tier": "default", "output": []}
RESPONSES_STREAM: list[dict[str, Any]] = [
    {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "max_output_tokens": 4096}},
    {"type": "response.in_progress", "sequence_number": 1, "response": {**RESPONSE, "max_output_tokens": 4096}},
    {"type": "response.output_text.delta", "delta": "Hello", "obfuscation": "x" * 500, "sequence_number": 2},
    {"type": "response.function_call_arguments.delta", "delta": '{"a":', "sequence_number": 3},
    {"type": "response.output_text.done", "text": "Hello" * 500, "sequence_number": 4},
    {
        "type": "response.completed",
        "sequence_number": 5,
        "response": {
            **RESPONSE,
            "max_output_tokens": 4096,
            "usage": {
                "input_tokens": 8,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 2,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 10,
            },
        },
    },
]
MESSAGES_STREAM: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "m",
            "model": "claude-opus-4-6",
            "content": [],
            "usage": {
                "input_tokens": 8,
                "output_tokens": 1,
                "cache_creation_input_tokens": 300,
                "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 0},
                "service_tier": "standard",
                "inference_geo": "us",
            },
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "x" * 500}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"usage":1}'}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
STREAMS: list[tuple[str, str, Dialect, list[Any], ModelUsage, int]] = [
    ("openai", CHAT, OPENAI, OPENAI_STREAM, KNOWN, 12),
    ("azure", CHAT, OPENAI, AZURE_STREAM, KNOWN, 12),
    ("gemini", CHAT, GEMINI, GEMINI_STREAM, KNOWN, 5),
    ("deepseek", CHAT, OPENAI, DEEPSEEK_STREAM, KNOWN, 2),
    ("groq", CHAT, OPENAI, GROQ_STREAM, KNOWN, 2),
    ("xai", CHAT, OPENAI, XAI_STREAM, KNOWN, 2),
    ("moonshot", CHAT, OPENAI, MOONSHOT_STREAM, KNOWN, 2),
    ("responses", RESPONSES, OPENAI, RESPONSES_STREAM, KNOWN, 10),
    ("messages", MESSAGES, ANTHROPIC, MESSAGES_STREAM, ModelUsage(input=8, cache_write_5m=300, output=2), 18),
]
NAMES = [stream[0] for stream in STREAMS]


@requirement("budget.usage")
@pytest.mark.parametrize(("endpoint", "dialect", "events", "usage", "size"), [one[1:] for one in STREAMS], ids=NAMES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_stream_is_read_and_passes_byte_for_byte(
    endpoint: str, dialect: Dialect, events: list[Any], usage: ModelUsage, size: int, end: bytes
) -> None:
    stream = write(events, end)
    for piece in (1 << 20, 13, 1):
        answer, passed = run(Watch(endpoint, dialect), stream, piece)
        assert passed == stream
        assert answer.usage == usage
        assert answer.output_bytes == size


@requirement("budget.usage")
@pytest.mark.parametrize(("endpoint", "dialect", "events", "usage", "size"), [one[1:] for one in STREAMS], ids=NAMES)
def test_a_stream_that_ends_at_any_byte_has_its_whole_usage_or_an_unknown_one(
    endpoint: str, dialect: Dialect, events: list[Any], usage: ModelUsage, size: int
) -> None:
    stream = write(events)
    known = 0
    for end in range(len(stream)):
        answer, passed = run(Watch(endpoint, dialect), stream[:end])
        assert passed == stream[:end]
        assert answer.output_bytes <= size
        if not isinstance(answer.usage, Unknown):
            known += 1
            assert answer.usage == usage
    assert known < len(write(events[-3:]))


@requirement("budget.unseen")
@pytest.mark.parametrize("events", [OPENAI_STREAM, AZURE_STREAM], ids=["openai", "azure"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_chunk_that_only_the_guard_asked_for_is_taken_out(events: list[Any], end: bytes) -> None:
    without = [event for event in events if not (isinstance(event, dict) and event.get("usage"))]
    for piece in (1 << 20, 17, 1):
        answer, passed = run(Watch(CHAT, OPENAI, takes_out=True), write(events, end), piece)
        assert passed == write(without, end)
        assert answer.usage == KNOWN
    assert decode(passed) == decode(write(without))


@requirement("budget.unseen")
@pytest.mark.parametrize(
    "events",
    [
        DEEPSEEK_STREAM,
        GEMINI_STREAM,
        GROQ_STREAM,
        XAI_STREAM,
        [chunk(choice("x", finish="stop")), {"error": {"message": "no"}, "usage": USAGE}],
    ],
    ids=["deepseek", "gemini", "groq", "xai", "error"],
)
def test_a_chunk_with_more_than_the_usage_passes(events: list[Any]) -> None:
    assert run(Watch(CHAT, OPENAI, takes_out=True), write(events))[1] == write(events)


@requirement("budget.usage")
def test_a_stream_of_completions_is_read_as_well() -> None:
    events = [
        {"object": "text_completion", "choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]},
        {"object": "text_completion", "choices": [], "usage": USAGE},
    ]
    answer, passed = run(Watch(COMPLETIONS, OPENAI, takes_out=True), write(events))
    assert (answer.usage, answer.output_bytes, passed) == (KNOWN, 5, write(events[:1]))
    assert run(Watch(COMPLETIONS, OPENAI, echoes=True), write(events))[0].output_bytes == 0


@requirement("budget.usage")
def test_the_text_of_every_kind_of_delta_is_counted_once() -> None:
    deltas = [
        {"role": "assistant", "content": "ab"},
        {
            "content": [
                {"type": "text", "text": "cd"},
                {"type": "thinking", "thinking": [{"type": "text", "text": "e"}]},
            ]
        },
        {"reasoning_content": "fg", "reasoning": "fg", "reasoning_details": [{"text": "fg"}]},
        {"reasoning": "hi"},
        {"refusal": "jk"},
        {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "l", "arguments": "mn"}}, 7]},
        {"function_call": {"name": "o", "arguments": None}},
        {"audio": {"id": "a", "data": "QUJD" * 100, "transcript": "pq"}},
        {"content": "\u00e9"},
        {"content": None, "other": "x" * 100},
    ]
    events = [chunk({"index": 0, "delta": delta}) for delta in deltas]
    assert run(Watch(CHAT, OPENAI), write(events))[0].output_bytes == 2 + 3 + 2 + 2 + 2 + 3 + 1 + 2 + 2


@requirement("budget.usage")
def test_a_usage_before_the_end_of_the_stream_is_not_the_last_one() -> None:
    events = [chunk(choice("Hel"), usage=USAGE), chunk(choice("lo"), usage=USAGE)]
    assert run(Watch(CHAT, OPENAI), write(events))[0].usage == Unknown("the stream ended before its usage")
    start = run(Watch(MESSAGES, ANTHROPIC), write(MESSAGES_STREAM[:6]))[0]
    assert (start.usage, start.model) == (Unknown("the stream ended before its usage"), "claude-opus-4-6")


@requirement("budget.usage")
def test_an_odd_usage_in_the_last_chunk_is_unknown() -> None:
    odds: list[Any] = [{**USAGE, "completion_tokens": -1}, {**USAGE, "completion_tokens": 1.5}, [], "x", {}]
    for odd in odds:
        events = [chunk(choice("x", finish="stop")), chunk(usage=odd)]
        assert isinstance(run(Watch(CHAT, OPENAI), write(events))[0].usage, Unknown)


@requirement("budget.usage")
@pytest.mark.parametrize("kind", ["response.incomplete", "response.failed"])
def test_a_response_that_is_cut_by_its_limit_or_fails_has_a_usage(kind: str) -> None:
    events = [*RESPONSES_STREAM[:-1], {**RESPONSES_STREAM[-1], "type": kind}]
    assert run(Watch(RESPONSES, OPENAI), write(events))[0].usage == KNOWN


@requirement("budget.unseen")
@pytest.mark.parametrize("filler", [0, 70_000], ids=["small", "large"])
def test_the_limit_that_the_guard_has_set_is_in_no_event(filler: int) -> None:
    def fill(event: dict[str, Any], limit: int | None) -> dict[str, Any]:
        if "response" not in event:
            return event
        tools = [{"type": "function", "parameters": {"max_output_tokens": 4096}, "description": "x" * filler}]
        return {**event, "response": {**event["response"], "max_output_tokens": limit, "tools": tools}}

    watch = Watch(RESPONSES, OPENAI, set_back=SetBack(("max_output_tokens",), 4096))
    for piece in (1 << 20, 4096):
        answer, passed = run(watch, write([fill(event, 4096) for event in RESPONSES_STREAM]), piece)
        assert passed == write([fill(event, None) for event in RESPONSES_STREAM])
        assert answer.usage == KNOWN


@requirement("budget.usage")
def test_events_that_are_too_large_to_be_parsed_are_read_too() -> None:
    large = "x" * 70_000
    events = [chunk(choice(large, finish="stop"), usage=USAGE)]
    assert run(Watch(CHAT, OPENAI), write(events))[0].usage == KNOWN
    events = [{**RESPONSES_STREAM[-1], "z": large}]
    assert run(Watch(RESPONSES, OPENAI), write(events))[0].usage == KNOWN
    created = {**RESPONSES_STREAM[0], "z": large}
    assert isinstance(run(Watch(RESPONSES, OPENAI), write([created]))[0].usage, Unknown)
    start, *rest = MESSAGES_STREAM
    answer = run(Watch(MESSAGES, ANTHROPIC), write([{**start, "z": large}, *rest]))[0]
    assert answer.usage == ModelUsage(input=8, cache_write_5m=300, output=2)


@requirement("budget.usage")
def test_tier_and_region_of_a_stream_are_known() -> None:
    answer = run(Watch(MESSAGES, ANTHROPIC), write(MESSAGES_STREAM))[0]
    assert (answer.model, answer.tier) == ("claude-opus-4-6", "us")
    answer = run(Watch(CHAT, OPENAI), write(OPENAI_STREAM))[0]
    assert (answer.model, answer.tier) == ("gpt-4o-mini-2024-07-18", "standard")
    answer = run(Watch(CHAT, OPENAI), write([chunk(choice("x"), service_tier="priority")]))[0]
    assert answer.tier == "priority"


@requirement("budget.usage")
def test_the_events_of_an_endpoint_without_streams_pass() -> None:
    stream = write([{"usage": USAGE}])
    answer, passed = run(Watch(EMBEDDINGS, OPENAI), stream)
    assert passed == stream
    assert isinstance(answer.usage, Unknown)


@requirement("budget.unseen")
def test_other_lines_of_an_event_that_is_changed_stay() -> None:
    data = b'data: {"type":"response.created",\r\ndata: "response":{"max_output_tokens":9}}'
    event = b"\xef\xbb\xbfid: 7\r\nevent: x\r\n" + data + b"\r\n\r\n"
    watch = Watch(RESPONSES, OPENAI, set_back=SetBack(("max_output_tokens",), 9))
    passed = run(watch, event)[1]
    assert passed.startswith(b"id: 7\nevent: x\ndata: ")
    [read] = decode(passed)
    assert json.loads(read) == {"type": "response.created", "response": {"max_output_tokens": None}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "usage", "type", "response", "message", "content", "tool_calls", "x_groq", "text"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@requirement("budget.usage")
@given(JSON, st.sampled_from([CHAT, COMPLETIONS, RESPONSES, MESSAGES]))
def test_whatever_an_event_is_the_stream_goes_on(event: Any, endpoint: str) -> None:
    usage = StreamUsage(Watch(endpoint, OPENAI, set_back=SetBack(("max_output_tokens",), 9)))
    data = json.dumps(event).encode()
    assert usage.take(event, data) == data
    assert usage.take(None, data) == data
    usage.finish()
