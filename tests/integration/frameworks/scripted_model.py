"""A model that asks for tools in a fixed order, and then repeats the last result that it was shown.

It speaks Chat Completions, whole and as a stream, and Responses as a whole. It keeps no state between requests: the
results in a request say which tool comes next. So an agent that sends a request twice changes nothing.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

USAGE = {"prompt_tokens": 30, "completion_tokens": 10, "total_tokens": 40}


@dataclass(frozen=True)
class ToolUse:
    """A tool to ask for. Frameworks may offer it with the name of its server in front."""

    name: str
    arguments: dict[str, Any]


@dataclass
class ScriptedModel:
    """The model, and what agents have sent to it.

    Attributes:
        uses: The tools to ask for, in their order.
        before: What to await before a tool is asked for the first time, by its position.
        offered: The names of the tools in each request.
        results: The results of tools in the last request.
    """

    uses: tuple[ToolUse, ...]
    before: dict[int, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    offered: list[list[str]] = field(default_factory=list)
    results: list[str] = field(default_factory=list)

    async def answer(self, http: web.Request) -> web.StreamResponse:
        """Answer one request."""
        asked: dict[str, Any] = json.loads(await http.read())
        if http.path.endswith("/responses"):
            return await self._respond(asked)
        self.offered.append([tool["function"]["name"] for tool in asked.get("tools", ())])
        self.results = [_text(one["content"]) for one in asked["messages"] if one["role"] == "tool"]
        turn = await self._begin_turn()
        message = self._message(turn)
        reason = "tool_calls" if "tool_calls" in message else "stop"
        base = {"id": f"chatcmpl-{turn}", "created": 1, "model": asked["model"]}
        if not asked.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": reason}
            return web.json_response({**base, "object": "chat.completion", "choices": [choice], "usage": USAGE})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        calls = [{"index": index, **call} for index, call in enumerate(message.get("tool_calls", ()))]
        delta = {**message, **({"tool_calls": calls} if calls else {})}
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
            {"choices": [], "usage": USAGE},
        ]
        for chunk in chunks:
            text = json.dumps({**base, "object": "chat.completion.chunk", **chunk})
            await response.write(f"data: {text}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _respond(self, asked: dict[str, Any]) -> web.StreamResponse:
        """Answer one request of the API Responses."""
        self.offered.append([tool["name"] for tool in asked.get("tools", ())])
        said = asked["input"] if isinstance(asked["input"], list) else []
        self.results = [_text(one["output"]) for one in said if one.get("type") == "function_call_output"]
        turn = await self._begin_turn()
        message = self._message(turn)
        if "tool_calls" in message:
            [call] = message["tool_calls"]
            item = {"type": "function_call", "id": f"fc_{turn}", "call_id": call["id"], **call["function"]}
        else:
            text = {"type": "output_text", "text": message["content"], "annotations": []}
            item = {"type": "message", "id": f"msg_{turn}", "role": "assistant", "content": [text]}
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        usage = {"input_tokens": 30, "output_tokens": 10, "total_tokens": 40, **details}
        rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "status": "completed", "usage": usage}
        head = {"id": f"resp_{turn}", "object": "response", "created_at": 1, "model": asked["model"]}
        return web.json_response({**head, "output": [{**item, "status": "completed"}], **rest})

    async def _begin_turn(self) -> int:
        turn = len(self.results)
        if (action := self.before.pop(turn, None)) is not None:
            await action()
        return turn

    def _message(self, turn: int) -> dict[str, Any]:
        if turn >= len(self.uses):
            return {"role": "assistant", "content": f"The last tool said: {self.results[-1]}"}
        use = self.uses[turn]
        [name] = [name for name in self.offered[-1] if name.endswith(use.name)]
        function = {"name": name, "arguments": json.dumps(use.arguments)}
        call = {"id": f"call_{turn}", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)
