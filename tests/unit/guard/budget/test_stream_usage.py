"""The usage of streams: each shape that providers send, broken at each byte, and the chunk that is only ours."""

import json
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
from tests.support.model_streams import (
    AZURE_STREAM,
    DEEPSEEK_STREAM,
    GEMINI_STREAM,
    GROQ_STREAM,
    MESSAGES_STREAM,
    MOONSHOT_STREAM,
    OPENAI_STREAM,
    RESPONSES_STREAM,
    USAGE,
    XAI_STREAM,
    choice,
    chunk,
    write_events,
)

OPENAI = dialect_of("OpenAI", "openai", "https://api.openai.com/v1")
GEMINI = dialect_of("OpenAI", "gemini", "https://generativelanguage.googleapis.com/v1beta/openai")
ANTHROPIC = dialect_of("Anthropic", "anthropic", "https://api.anthropic.com")
KNOWN = ModelUsage(input=8, output=2)


def run(watch: Watch, stream: bytes, size: int = 1 << 20) -> tuple[Answer, bytes]:
    usage = StreamUsage(watch)
    screen = AnswerScreen(lambda _: False, is_events=True, usage=usage)
    passed = b"".join(screen.feed(stream[start : start + size]) for start in range(0, len(stream), size))
    return usage.finish(), passed + screen.finish()


def decode(stream: bytes) -> list[Any]:
    """Return the events as OpenAI's SDK reads them."""
    return [event.data for event in SSEDecoder().iter_bytes(iter([stream]))]


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
    stream = write_events(events, end)
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
    stream = write_events(events)
    known = 0
    for end in range(len(stream)):
        answer, passed = run(Watch(endpoint, dialect), stream[:end])
        assert passed == stream[:end]
        assert answer.output_bytes <= size
        if not isinstance(answer.usage, Unknown):
            known += 1
            assert answer.usage == usage
    assert known < len(write_events(events[-3:]))


@requirement("budget.unseen")
@pytest.mark.parametrize("events", [OPENAI_STREAM, AZURE_STREAM], ids=["openai", "azure"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_chunk_that_only_the_guard_asked_for_is_taken_out(events: list[Any], end: bytes) -> None:
    without = [event for event in events if not (isinstance(event, dict) and event.get("usage"))]
    for piece in (1 << 20, 17, 1):
        answer, passed = run(Watch(CHAT, OPENAI, takes_out=True), write_events(events, end), piece)
        assert passed == write_events(without, end)
        assert answer.usage == KNOWN
    assert decode(passed) == decode(write_events(without))


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
    assert run(Watch(CHAT, OPENAI, takes_out=True), write_events(events))[1] == write_events(events)


@requirement("budget.usage")
def test_a_stream_of_completions_is_read_as_well() -> None:
    events = [
        {"object": "text_completion", "choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]},
        {"object": "text_completion", "choices": [], "usage": USAGE},
    ]
    answer, passed = run(Watch(COMPLETIONS, OPENAI, takes_out=True), write_events(events))
    assert (answer.usage, answer.output_bytes, passed) == (KNOWN, 5, write_events(events[:1]))
    assert run(Watch(COMPLETIONS, OPENAI, echoes=True), write_events(events))[0].output_bytes == 0


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
    assert run(Watch(CHAT, OPENAI), write_events(events))[0].output_bytes == 2 + 3 + 2 + 2 + 2 + 3 + 1 + 2 + 2


@requirement("budget.usage")
def test_a_usage_before_the_end_of_the_stream_is_not_the_last_one() -> None:
    events = [chunk(choice("Hel"), usage=USAGE), chunk(choice("lo"), usage=USAGE)]
    assert run(Watch(CHAT, OPENAI), write_events(events))[0].usage == Unknown("the stream ended before its usage")
    start = run(Watch(MESSAGES, ANTHROPIC), write_events(MESSAGES_STREAM[:6]))[0]
    assert (start.usage, start.model) == (Unknown("the stream ended before its usage"), "claude-opus-4-6")


BIG = {"prompt_tokens": 900, "completion_tokens": 1, "total_tokens": 901}
COUNTED = ModelUsage(input=900, output=1)
DELTA = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "more"}}
NAMED = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}}
BROKEN = {"error": {"message": "overloaded"}, "usage": BIG}
FAILED = {"type": "response.failed", "response": {"model": "m", "usage": None}}
EARLY = {"type": "response.in_progress", "response": {"usage": {"input_tokens": 900, "output_tokens": 1}}}


@requirement("budget.usage")
@pytest.mark.parametrize(
    ("endpoint", "events", "counted"),
    [
        (CHAT, [chunk(usage=BIG), chunk(choice("more"))], COUNTED),  # before the text
        (CHAT, [chunk(choice("x", finish="stop"), usage=BIG), chunk(choice("more"))], COUNTED),
        (CHAT, [chunk(choice("x")), BROKEN], COUNTED),
        (CHAT, [chunk(choice("x", finish="stop"), usage=BIG), chunk(choice("y" * 70_000))], COUNTED),
        (MESSAGES, [*MESSAGES_STREAM[:-2], NAMED, DELTA, MESSAGES_STREAM[-1]], None),
        (MESSAGES, [*MESSAGES_STREAM, DELTA], None),
        (MESSAGES, [*MESSAGES_STREAM[:-2], {"type": "error", "error": {"type": "overloaded_error"}}], None),
        (RESPONSES, [EARLY, FAILED], COUNTED),
    ],
)
def test_a_usage_before_more_text_or_an_error_is_not_the_last_one(
    endpoint: str, events: list[Any], counted: ModelUsage | None
) -> None:
    answer = run(Watch(endpoint, OPENAI), write_events(events))[0]
    assert isinstance(answer.usage, Unknown)
    assert answer.counted is not None
    assert counted is None or answer.counted == counted


@requirement("budget.usage")
@pytest.mark.parametrize("order", [1, -1], ids=["falls", "rises"])
def test_of_several_usages_the_largest_numbers_count_in_whatever_order_they_come(order: int) -> None:
    usages = [BIG, {"prompt_tokens": 3, "completion_tokens": 70, "total_tokens": 73}, USAGE][::order]
    events = [chunk(choice("x", finish="stop")), *(chunk(usage=usage) for usage in usages)]
    answer = run(Watch(CHAT, OPENAI), write_events(events))[0]
    assert answer.usage == ModelUsage(input=900, output=70)
    deltas = [
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": tokens}}
        for tokens in (9, 5, 7)[::order]
    ]
    answer = run(Watch(MESSAGES, ANTHROPIC), write_events([*MESSAGES_STREAM[:-2], *deltas]))[0]
    assert answer.usage == ModelUsage(input=8, cache_write_5m=300, output=9)


@requirement("budget.usage")
@pytest.mark.parametrize("cached", [(100, 0), (0, 100)], ids=["fewer", "more"])
def test_no_earlier_usage_makes_more_of_the_input_cheap(cached: tuple[int, int]) -> None:
    usages = [{**BIG, "prompt_tokens_details": {"cached_tokens": tokens}} for tokens in cached]
    events = [chunk(choice("x", finish="stop")), *(chunk(usage=usage) for usage in usages)]
    answer = run(Watch(CHAT, OPENAI), write_events(events))[0]
    last = ModelUsage(input=900 - cached[-1], cached_input=cached[-1], output=1)
    assert last in (answer.usage, answer.counted)
    assert (answer.counted is None) is (cached[-1] == 100)


@requirement("budget.usage")
def test_an_odd_usage_in_the_last_chunk_is_unknown() -> None:
    odds: list[Any] = [{**USAGE, "completion_tokens": -1}, {**USAGE, "completion_tokens": 1.5}, [], "x", {}]
    for odd in odds:
        events = [chunk(choice("x", finish="stop")), chunk(usage=odd)]
        assert isinstance(run(Watch(CHAT, OPENAI), write_events(events))[0].usage, Unknown)


@requirement("budget.usage")
@pytest.mark.parametrize("kind", ["response.incomplete", "response.failed"])
def test_a_response_that_is_cut_by_its_limit_or_fails_has_a_usage(kind: str) -> None:
    events = [*RESPONSES_STREAM[:-1], {**RESPONSES_STREAM[-1], "type": kind}]
    assert run(Watch(RESPONSES, OPENAI), write_events(events))[0].usage == KNOWN


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
        answer, passed = run(watch, write_events([fill(event, 4096) for event in RESPONSES_STREAM]), piece)
        assert passed == write_events([fill(event, None) for event in RESPONSES_STREAM])
        assert answer.usage == KNOWN


@requirement("budget.usage")
def test_events_that_are_too_large_to_be_parsed_are_read_too() -> None:
    large = "x" * 70_000
    events = [chunk(choice(large, finish="stop"), usage=USAGE)]
    assert run(Watch(CHAT, OPENAI), write_events(events))[0].usage == KNOWN
    events = [{**RESPONSES_STREAM[-1], "z": large}]
    assert run(Watch(RESPONSES, OPENAI), write_events(events))[0].usage == KNOWN
    created = {**RESPONSES_STREAM[0], "z": large}
    assert isinstance(run(Watch(RESPONSES, OPENAI), write_events([created]))[0].usage, Unknown)
    start, *rest = MESSAGES_STREAM
    answer = run(Watch(MESSAGES, ANTHROPIC), write_events([{**start, "z": large}, *rest]))[0]
    assert answer.usage == ModelUsage(input=8, cache_write_5m=300, output=2)


@requirement("budget.usage")
def test_tier_and_region_of_a_stream_are_known() -> None:
    answer = run(Watch(MESSAGES, ANTHROPIC), write_events(MESSAGES_STREAM))[0]
    assert (answer.model, answer.tier) == ("claude-opus-4-6", "us")
    answer = run(Watch(CHAT, OPENAI), write_events(OPENAI_STREAM))[0]
    assert (answer.model, answer.tier) == ("gpt-4o-mini-2024-07-18", "standard")
    answer = run(Watch(CHAT, OPENAI), write_events([chunk(choice("x"), service_tier="priority")]))[0]
    assert answer.tier == "priority"


@requirement("budget.usage")
def test_the_events_of_an_endpoint_without_streams_pass() -> None:
    stream = write_events([{"usage": USAGE}])
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
