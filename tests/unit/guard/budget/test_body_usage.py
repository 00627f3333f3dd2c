"""The usage of answers that are no streams: usage, model and tier are known in the end, and the bytes pass."""

import json
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.responses import Response

from interlock_contract.budget.prices import ModelUsage
from interlock_guard.budget.body_usage import BodyUsage, Watch
from interlock_guard.budget.dialects import CHAT, COUNT_TOKENS, EMBEDDINGS, MESSAGES, RESPONSES, dialect_of
from interlock_guard.budget.member_scanner import SetBack
from interlock_guard.budget.usage import Unknown
from tests.requirements import requirement

OPENAI = dialect_of("OpenAI", "openai", "https://api.openai.com/v1")
USAGE = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
CHAT_ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": '"usage": {"prompt_tokens": 0}'}}],
    "usage": USAGE,
}


def read(watch: Watch, text: bytes, size: int = 1000) -> tuple[BodyUsage, bytes]:
    reader = BodyUsage(watch)
    return reader, b"".join(reader.feed(text[start : start + size]) for start in range(0, len(text), size))


@requirement("budget.usage")
@pytest.mark.parametrize("filler", [0, 100_000])
def test_a_small_and_a_large_answer_are_read_alike(filler: int) -> None:
    text = json.dumps({"filler": ["x", 1.5] * filler, **CHAT_ANSWER}).encode()
    reader, passed = read(Watch(CHAT, OPENAI), text)
    assert passed == text
    answer = reader.finish()
    assert answer.usage == ModelUsage(input=8, output=2)
    assert (answer.model, answer.tier, answer.output_bytes) == ("gpt-4o-mini-2024-07-18", "standard", 0)


@requirement("budget.usage")
@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"<html>", b"\xff", b'{"usage": null}', b"{" * 2000])
@pytest.mark.parametrize("set_back", [None, SetBack(("max_output_tokens",), 4096)])
def test_an_answer_that_cannot_be_read_has_an_unknown_usage(text: bytes, set_back: SetBack | None) -> None:
    reader, passed = read(Watch(RESPONSES, OPENAI, set_back=set_back), text)
    assert passed == text
    assert isinstance(reader.finish().usage, Unknown)


@requirement("budget.usage")
def test_an_answer_that_is_cut_off_has_an_unknown_usage() -> None:
    for text in (json.dumps(CHAT_ANSWER).encode(), json.dumps({"x": "y" * 100_000, **CHAT_ANSWER}).encode()):
        reader, _ = read(Watch(CHAT, OPENAI), text[:-20])
        assert isinstance(reader.finish().usage, Unknown)


@requirement("budget.usage")
def test_an_event_of_a_stream_is_not_taken_for_the_whole_answer() -> None:
    event = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\n'
    for text in (event * 5000, event[len("data: ") :] * 5000):
        reader, passed = read(Watch(CHAT, OPENAI), text, 4096)
        assert passed == text
        assert isinstance(reader.finish().usage, Unknown)


@requirement("budget.usage")
def test_megabytes_of_embeddings_take_no_memory() -> None:
    vectors = [{"object": "embedding", "index": index, "embedding": [0.123456789] * 1536} for index in range(100)]
    body = {"object": "list", "data": vectors, "model": "text-embedding-3-small", "usage": {"prompt_tokens": 8}}
    text = json.dumps({**body, "usage": {"prompt_tokens": 8, "total_tokens": 8}}).encode()
    CreateEmbeddingResponse.model_validate_json(text)
    reader, _ = read(Watch(EMBEDDINGS, OPENAI), text, 65_536)
    assert reader.finish().usage == ModelUsage(input=8)
    assert not reader._text  # noqa: SLF001 - what is held is the point


RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "created_at": 1,
    "object": "response",
    "model": "gpt-5-mini-2025-08-07",
    "service_tier": "default",
    "max_output_tokens": 4096,
    "metadata": {"max_output_tokens": "4096"},
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [{"type": "function", "name": "f", "parameters": {"max_output_tokens": 4096}, "strict": False}],
    "usage": {
        "input_tokens": 5,
        "output_tokens": 9,
        "total_tokens": 14,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 4},
    },
}


@requirement("budget.unseen")
def test_the_limit_that_the_guard_has_set_is_not_in_the_answer() -> None:
    for text in (json.dumps(RESPONSE).encode(), json.dumps(RESPONSE, indent=2).encode()):
        reader, passed = read(Watch(RESPONSES, OPENAI, set_back=SetBack(("max_output_tokens",), 4096)), text, 7)
        seen = Response.model_validate_json(passed)
        assert seen.max_output_tokens is None
        assert json.loads(passed) == {**RESPONSE, "max_output_tokens": None}
        assert reader.finish().usage == ModelUsage(input=5, output=5, reasoning=4)


@requirement("budget.usage")
def test_the_answer_of_anthropic_names_tier_and_region_in_its_usage() -> None:
    body = {
        "model": "claude-opus-4-6",
        "usage": {"input_tokens": 1, "output_tokens": 2, "service_tier": "standard", "inference_geo": "us"},
    }
    dialect = dialect_of("Anthropic", "anthropic", "https://api.anthropic.com")
    answer = read(Watch(MESSAGES, dialect), json.dumps(body).encode())[0].finish()
    assert (answer.usage, answer.tier) == (ModelUsage(input=1, output=2), "us")


@requirement("budget.usage")
def test_a_count_of_tokens_costs_nothing() -> None:
    dialect = dialect_of("Anthropic", "anthropic", "https://api.anthropic.com")
    assert read(Watch(COUNT_TOKENS, dialect), b'{"input_tokens": 2095}')[0].finish().usage == ModelUsage()
