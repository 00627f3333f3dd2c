"""The usage of a stream of events, read while the events pass. Pure.

Every event costs time, so none is parsed here: `AnswerScreen` has parsed it in its search for keys. Only an event that
is too large for that search is scanned for the few members that matter.

A usage counts only if the stream has come to its end: a provider counts from the beginning of the stream in each of
several usages, and charges what it counts last. Of several ones each number is the largest, or that of the last one
where that costs more: fewer cached tokens are dearer.

    chat completions    the chunk without choices, or a usage in or after a chunk with a finish_reason
    responses           the usage of response.completed, response.incomplete or response.failed
    messages            message_delta with a stop_reason, or message_stop after a message_delta

A usage is not the last one if more text comes after it, and neither is that of an event that reports an error. What it
has counted is then the least that the call costs.
"""

from typing import Any, Final

from interlock_contract.budget.prices import ModelUsage
from interlock_contract.strict_json import text_of
from interlock_guard.budget.body_usage import Watch
from interlock_guard.budget.dialects import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from interlock_guard.budget.member_scanner import MemberScanner, Path
from interlock_guard.budget.usage import Answer, Unknown, build_answer, merge_usage, read_usage

_RESPONSE_TEXTS: Final = frozenset(
    {
        *("response.output_text.delta", "response.refusal.delta", "response.shell_call_command.delta"),
        *("response.function_call_arguments.delta", "response.custom_tool_call_input.delta"),
    }
)
_REASONING: Final = "response.reasoning_text.delta"
"""Events whose `delta` is output. Summaries of reasoning are none: the reasoning itself is counted."""
_RESPONSE_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_TYPE: Final[Path] = ("type",)
_ROOTS: Final[dict[str, Path]] = {RESPONSES: ("response",), MESSAGES: ("message",)}
"""The member of an event that is like the whole answer."""


class StreamUsage:
    """Reads the events of one stream.

    Args:
        watch: What is known of its request.

    Attributes:
        output_bytes: Bytes of text that the events have brought so far.
        reasoning_bytes: Those of them that are reasoning.
    """

    def __init__(self, watch: Watch) -> None:
        self.output_bytes = self.reasoning_bytes = 0
        self._watch = watch
        self._usage: Any = None
        self._last_usage: Any = None
        self._model: Any = None
        self._tier: Any = None
        self._has_stopped = False
        self._counted_at: int | None = None  # how much text the usage of a message_delta is for
        self._final_at: int | None = None  # how much text the last usage is for
        self._take = {
            CHAT: self._take_chunk,
            COMPLETIONS: self._take_chunk,
            RESPONSES: self._take_response,
            MESSAGES: self._take_message,
        }.get(watch.endpoint)

    def take(self, event: Any, data: bytes) -> bytes | None:
        """Take an event.

        Args:
            event: Its data as JSON; None where it was not parsed.
            data: Its data.

        Returns:
            The data that passes: `data` itself, or other data in its place. None for an event that must not pass, as
            the client has not asked for it.
        """
        if self._take is None:
            return data
        if isinstance(event, dict):
            return self._take(event, data)
        return data if event is not None or len(data) <= len(b"[DONE]") else self._scan(data)

    def finish(self) -> Answer:
        """Return what is known when the stream has ended."""
        count = 0 if self._watch.echoes else self.output_bytes
        usage: ModelUsage | Unknown = self._read(self._usage)
        other: ModelUsage | Unknown | None = None
        if self._final_at == self.output_bytes or self._take is None:
            last = merge_usage(self._usage, self._last_usage, replaces=True)
            other = None if last == self._usage else self._read(last)
        else:
            usage, other = Unknown("the stream ended before its usage"), usage
        return build_answer(
            usage,
            model=self._model,
            service_tier=self._tier,
            raw_usage=self._usage,
            output_bytes=count,
            counted=other if isinstance(other, ModelUsage) else None,
        )

    def _read(self, raw: Any) -> ModelUsage | Unknown:
        watch = self._watch
        return read_usage(watch.endpoint, raw, watch.dialect, has_hour_cache=watch.has_hour_cache)

    def _note(self, answer: dict[str, Any]) -> None:
        """Note what an event says about the whole answer."""
        self._model = answer.get("model") or self._model
        self._tier = answer.get("service_tier") or self._tier
        if (usage := answer.get("usage")) is not None:
            self._usage, self._last_usage = merge_usage(self._usage, usage), usage

    def _take_chunk(self, event: dict[str, Any], data: bytes) -> bytes | None:
        choices, usage = event.get("choices"), event.get("usage")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    self._count_choice(choice)
                    if choice.get("finish_reason") is not None:
                        self._has_stopped = True
                        usage = usage or choice.get("usage")  # where Moonshot has it
        if usage is None and isinstance(own := event.get("x_groq"), dict):
            usage = own.get("usage")
        self._model = event.get("model") or self._model
        if "service_tier" in event:
            self._tier = event["service_tier"] or self._tier
        if usage is None:
            return data
        self._usage, self._last_usage = merge_usage(self._usage, usage), usage
        if self._has_stopped or (not choices and "error" not in event):
            self._final_at = self.output_bytes
        is_ours = self._watch.takes_out and not choices and "error" not in event
        return None if is_ours else data

    def _count_choice(self, choice: dict[str, Any]) -> None:
        """Count the text of one choice of a chunk."""
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            self.output_bytes += _size(choice.get("text"))
            return
        for name, value in delta.items():
            if value is None or name == "role":
                continue
            if name in ("content", "refusal"):
                self.output_bytes += _size(value)
            elif name == "reasoning_content" or (name == "reasoning" and "reasoning_content" not in delta):
                self._count_reasoning(_size(value))  # gateways repeat one in the other
            elif name == "tool_calls" and isinstance(value, list):
                self.output_bytes += sum(_size_of_call(call.get("function")) for call in value if type(call) is dict)
            elif name == "function_call":
                self.output_bytes += _size_of_call(value)
            elif name == "audio" and isinstance(value, dict):
                self.output_bytes += _size(value.get("transcript"))

    def _count_reasoning(self, size: int) -> None:
        self.output_bytes += size
        self.reasoning_bytes += size

    def _take_response(self, event: dict[str, Any], data: bytes) -> bytes | None:
        kind = text_of(event.get("type"))
        if kind == _REASONING:
            self._count_reasoning(_size(event.get("delta")))
            return data
        if kind in _RESPONSE_TEXTS:
            self.output_bytes += _size(event.get("delta"))
            return data
        answer = event.get("response")
        if not isinstance(answer, dict):
            return data
        self._note(answer)
        if kind in _RESPONSE_ENDS and answer.get("usage") is not None:
            self._final_at = self.output_bytes
        return data if self._watch.set_back is None else self._scanner().feed(data)

    def _take_message(self, event: dict[str, Any], data: bytes) -> bytes | None:
        kind, delta = text_of(event.get("type")), event.get("delta")
        if kind == "content_block_delta":
            if isinstance(delta, dict):
                for name in ("text", "thinking", "partial_json"):
                    self.output_bytes += _size(delta.get(name))
        elif kind == "message_start":
            if isinstance(answer := event.get("message"), dict):
                self._note(answer)
        elif kind == "message_delta":
            self._note(event)
            self._counted_at = self.output_bytes if isinstance(event.get("usage"), dict) else None
            if isinstance(delta, dict) and delta.get("stop_reason") is not None:
                self._final_at = self._counted_at
        elif kind == "message_stop":
            self._final_at = self._counted_at
        return data

    def _scanner(self) -> MemberScanner:
        root = _ROOTS.get(self._watch.endpoint, ())
        paths = {(*root, name) for name in ("usage", "model", "service_tier")} | {_TYPE}
        back = self._watch.set_back
        return MemberScanner(paths, None if back is None else back._replace(path=(*root, *back.path)))

    def _scan(self, data: bytes) -> bytes | None:
        """Take an event that was not parsed."""
        scanner = self._scanner()
        passed = scanner.feed(data)
        root = _ROOTS.get(self._watch.endpoint, ())
        self._note({name: scanner.get((*root, name)) for name in ("model", "service_tier", "usage")})
        has_usage = scanner.get((*root, "usage")) is not None
        if not has_usage and data.lstrip().startswith(b"{"):
            self._counted_at = self._final_at = None  # it may be a text that no usage has counted
        elif self._watch.endpoint == RESPONSES:
            is_last = has_usage and text_of(scanner.get(_TYPE)) in _RESPONSE_ENDS
            self._final_at = self.output_bytes if is_last else self._final_at
        elif self._watch.endpoint != MESSAGES:
            self._final_at = self.output_bytes if has_usage else self._final_at
        return passed


def _size_of_call(function: Any) -> int:
    """Return the size of a call of a tool, or of a piece of one."""
    return _size(function.get("arguments")) + _size(function.get("name")) if isinstance(function, dict) else 0


def _size(value: Any, depth: int = 0) -> int:
    """Return the bytes of a text, or of the texts in a list of parts, as Mistral has them."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, list) and depth <= 1:
        parts = [part for part in value if isinstance(part, dict)]
        return sum(_size(part.get(name), depth + 1) for part in parts for name in ("text", "thinking"))
    return 0
