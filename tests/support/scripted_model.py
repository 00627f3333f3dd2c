"""What a model answers that does not think: messages and tool calls, as Chat Completions and as Responses.

Nothing here opens a connection, and the standard library is all that is imported: tests serve these answers in their
own process, and a pod serves the same ones (`tests/e2e/programs/model.py`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

USAGE = {"prompt_tokens": 30, "completion_tokens": 10, "total_tokens": 40}
"""Tokens of each answer, unless a test says otherwise."""


@dataclass(frozen=True)
class ToolUse:
    """A tool to ask for. Frameworks may offer it with the name of its server in front."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """One request, as far as a script looks at it.

    Attributes:
        path: Of the request: it ends with the name of the API.
        asked: The body.
        offered: The names of the tools that the agent offers.
        results: The results of tools that the agent has had so far, the oldest first.
    """

    path: str
    asked: dict[str, Any]
    offered: tuple[str, ...]
    results: tuple[str, ...]


@dataclass(frozen=True)
class Reply:
    """An answer: one part of JSON, or a part for each event of a stream."""

    media_type: str
    parts: tuple[bytes, ...]


def read_turn(path: str, asked: dict[str, Any]) -> Turn:
    """Return what a request says. Its results say how far the agent is, so a request that is sent twice is harmless."""
    if path.endswith("/responses"):
        said = asked["input"] if isinstance(asked["input"], list) else []
        results = [_text(one["output"]) for one in said if one.get("type") == "function_call_output"]
        offered = [tool["name"] for tool in asked.get("tools", ())]
    else:
        results = [_text(one["content"]) for one in asked["messages"] if one["role"] == "tool"]
        offered = [tool["function"]["name"] for tool in asked.get("tools", ())]
    return Turn(path, asked, tuple(offered), tuple(results))


def scripted_reply(turn: Turn, uses: Sequence[ToolUse]) -> Reply:
    """Ask for the next of the tools, or repeat the last result once the agent has had one of each."""
    number = len(turn.results)
    if number < len(uses):
        [name] = [name for name in turn.offered if name.endswith(uses[number].name)]
        message = tool_call(f"call_{number}", name, uses[number].arguments)
    else:
        message = {"role": "assistant", "content": f"The last tool said: {turn.results[-1]}"}
    if turn.path.endswith("/responses"):
        return responses_reply(turn.asked, str(number), message)
    return chat_reply(turn.asked, f"chatcmpl-{number}", message)


def tool_call(identity: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the message of a model that asks for one tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": identity, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def chat_reply(
    asked: dict[str, Any], identity: str, message: dict[str, Any], usage: dict[str, Any] | None = None
) -> Reply:
    """Return a message as Chat Completions have it, streamed if the request says so."""
    usage = usage or USAGE
    reason = "tool_calls" if "tool_calls" in message else "stop"
    base = {"id": identity, "created": 1, "model": asked["model"]}
    if not asked.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return _whole({**base, "object": "chat.completion", "choices": [choice], "usage": usage})
    calls = [{"index": index, **call} for index, call in enumerate(message.get("tool_calls", ()))]
    delta = {**message, **({"tool_calls": calls} if calls else {})}
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        {"choices": [], "usage": usage},
    ]
    events = [json.dumps({**base, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
    return Reply("text/event-stream", tuple(f"data: {event}\n\n".encode() for event in [*events, "[DONE]"]))


def responses_reply(asked: dict[str, Any], identity: str, message: dict[str, Any]) -> Reply:
    """Return a message as Responses have it, never streamed."""
    if "tool_calls" in message:
        [call] = message["tool_calls"]
        item = {"type": "function_call", "id": f"fc_{identity}", "call_id": call["id"], **call["function"]}
    else:
        text = {"type": "output_text", "text": message["content"], "annotations": []}
        item = {"type": "message", "id": f"msg_{identity}", "role": "assistant", "content": [text]}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    tokens = {"input_tokens": USAGE["prompt_tokens"], "output_tokens": USAGE["completion_tokens"]}
    usage = {**tokens, "total_tokens": USAGE["total_tokens"], **details}
    rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "status": "completed", "usage": usage}
    head = {"id": f"resp_{identity}", "object": "response", "created_at": 1, "model": asked["model"]}
    return _whole({**head, "output": [{**item, "status": "completed"}], **rest})


def _whole(body: dict[str, Any]) -> Reply:
    return Reply("application/json", (json.dumps(body).encode(),))


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)
