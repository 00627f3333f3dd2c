"""The bytes of text in an answer that is no stream, counted as those of its stream would be. Pure.

{"choices": [{"message": {"content": "Hello"}}]}    5, as for {"choices": [{"delta": {"content": "Hello"}}]}
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from interlock_contract.strict_json import text_of
from interlock_guard.budget.body_usage import Watch
from interlock_guard.budget.dialects import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from interlock_guard.budget.stream_usage import StreamUsage

_TEXT_ENDPOINTS: Final = frozenset({CHAT, COMPLETIONS, MESSAGES, RESPONSES})
_RESPONSE_PARTS: Final = {
    "output_text": "response.output_text.delta",
    "refusal": "response.refusal.delta",
    "reasoning_text": "response.reasoning_text.delta",
}


class TextBytes(NamedTuple):
    """Bytes of text of an answer, and those of them that are reasoning."""

    all: int
    reasoning: int


def text_bytes(watch: Watch, body: Mapping[str, Any]) -> TextBytes | None:
    """Return the bytes of text of a whole answer, None for an endpoint whose answers are no text.

    Args:
        watch: What is known of its request.
        body: The answer.
    """
    if watch.endpoint not in _TEXT_ENDPOINTS:
        return None
    reader = StreamUsage(watch)
    for event in _EVENTS[watch.endpoint](body):
        reader.take(event, b"")
    return TextBytes(reader.output_bytes, reader.reasoning_bytes)


def _chunks(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for choice in _objects(body.get("choices")):
        yield {"choices": [{"delta": choice["message"]} if "message" in choice else {"text": choice.get("text")}]}


def _blocks(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for block in _objects(body.get("content")):
        # An answer may have numbers that strict JSON has not, such as 1e999.
        written = (
            {**block, "partial_json": json.dumps(block["input"], separators=(",", ":"))} if "input" in block else block
        )
        yield {"type": "content_block_delta", "delta": written}


def _items(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for item in _objects(body.get("output")):
        yield {"type": "response.function_call_arguments.delta", "delta": item.get("arguments")}
        yield {"type": "response.custom_tool_call_input.delta", "delta": item.get("input")}
        for part in _objects(item.get("content")):
            kind = text_of(part.get("type"))
            if kind in _RESPONSE_PARTS:
                yield {"type": _RESPONSE_PARTS[kind], "delta": part.get("refusal" if kind == "refusal" else "text")}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


_EVENTS: Final = {CHAT: _chunks, COMPLETIONS: _chunks, MESSAGES: _blocks, RESPONSES: _items}
