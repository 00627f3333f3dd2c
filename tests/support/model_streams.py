"""Streams of events as providers send them, for the fakes of providers and for tests of what reads them."""

import json
from collections.abc import Iterable
from typing import Any

USAGE = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
"""The usage of each stream of chat completions here."""


def chunk(*choices: Any, **members: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o-mini-2024-07-18", "choices": [*choices]} | (
        members
    )


def choice(text: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    content = {} if text is None else {"content": text}
    return {"index": 0, "delta": {**content, **delta}, "logprobs": None, "finish_reason": finish}


def write_events(events: Iterable[Any], end: bytes = b"\n") -> bytes:
    """Return events as a stream; those with a `type` have names."""
    out = []
    for event in events:
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        name = event.get("type") if isinstance(event, dict) else None
        out += [b"event: %s" % name.encode()] if name else []
        out += [b"data: " + data, b""]
    return end.join([*out, b""])


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
            "type": "message",
            "role": "assistant",
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
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "x" * 500}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"usage":1}'}},
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
