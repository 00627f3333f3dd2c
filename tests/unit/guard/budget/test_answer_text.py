"""The text of an answer that is no stream has the bytes that the same answer has as a stream."""

from typing import Any

import pytest

from interlock_guard.budget.answer_text import TextBytes, text_bytes
from interlock_guard.budget.body_usage import Watch
from interlock_guard.budget.dialects import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, dialect_of

OPENAI = dialect_of("OpenAI", "openai", "https://api.openai.com/v1")
CALL = {"type": "function", "function": {"name": "find", "arguments": '{"a":1}'}}

ANSWERS: list[tuple[str, dict[str, Any], tuple[int, int]]] = [
    (
        CHAT,
        {"choices": [{"message": {"role": "assistant", "content": "Grüße"}}, {"message": {"content": "b"}}]},
        (8, 0),
    ),
    (CHAT, {"choices": [{"message": {"content": None, "tool_calls": [CALL]}}]}, (11, 0)),
    (CHAT, {"choices": [{"message": {"content": "abc", "reasoning_content": "12345"}}]}, (8, 5)),
    (COMPLETIONS, {"choices": [{"text": "abc"}, {"text": "d"}]}, (4, 0)),
    (
        MESSAGES,
        {"content": [{"type": "text", "text": "abc"}, {"type": "tool_use", "name": "find", "input": {"a": 1}}]},
        (10, 0),
    ),
    (
        RESPONSES,
        {
            "output": [
                {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "12345"}], "summary": []},
                {"type": "message", "content": [{"type": "output_text", "text": "abc"}]},
                {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]},
                {"type": "function_call", "name": "find", "arguments": '{"a":1}'},
                {"type": "custom_tool_call", "input": "xy"},
            ]
        },
        (19, 5),
    ),
    *((endpoint, {}, (0, 0)) for endpoint in (CHAT, COMPLETIONS, MESSAGES, RESPONSES)),
    *(
        (CHAT, {"choices": odd}, (0, 0))
        for odd in (None, 3, "x", [None, 3, {"message": 3}, {"message": {"content": 3}}])
    ),
    *((MESSAGES, {"content": odd}, (0, 0)) for odd in ("x", [None, {"type": []}, {"type": "text", "text": 3}])),
    *((RESPONSES, {"output": odd}, (0, 0)) for odd in ("x", [None, {"content": [{"type": []}, 3]}])),
]


@pytest.mark.parametrize(("endpoint", "body", "expected"), ANSWERS)
def test_bytes_of_text_and_of_reasoning(endpoint: str, body: dict[str, Any], expected: tuple[int, int]) -> None:
    assert text_bytes(Watch(endpoint, OPENAI), body) == TextBytes(*expected)


def test_the_answer_to_an_embedding_has_no_text() -> None:
    assert text_bytes(Watch(EMBEDDINGS, OPENAI), {"data": []}) is None
