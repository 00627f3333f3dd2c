"""How many tokens a body may have as its input, at most. Pure.

A tokenizer makes at most one token of each byte of UTF-8. So the bytes of a body bound its tokens, where the body holds
everything; providers add a little for each message and tool. An image costs by its pixels, of which its bytes say
nothing, so it has a bound of its own. Files and what a body only refers to can be as large as the context window.

    {"role": "user", "content": "Hello"}                          bytes, and PER_MESSAGE
    {"type": "input_image", "image_url": "data:..."}              the bound for an image of the model
    {"type": "input_file", "file_data": "data:application/pdf"}   the context window: a PDF may unpack to any text
    "previous_response_id": "resp_1"                              the context window
    {"type": "video_url", "video_url": {"url": "data:..."}}       the context window: only the policy lets it pass
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from interlock_contract.strict_json import text_of
from interlock_guard.budget.dialects import COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from interlock_guard.wire.large_messages import Pace

PER_REQUEST: Final = 128
"""Tokens that a provider may add to a prompt: a system message, the beginning of the answer."""
PER_MESSAGE: Final = 32
PER_TOOL: Final = 128
"""Tokens for a tool that the body describes, in addition to its bytes."""
PER_KNOWN_TOOL: Final = 2048
"""Tokens for a tool of which the body has only the type, such as `bash_20250124`: the provider describes it."""
WITH_TOOLS: Final = 1024
"""Tokens of the instructions that a provider adds to a prompt with tools."""

_IMAGES: Final[tuple[tuple[re.Pattern[str], int], ...]] = (
    (re.compile(r"(?:.*/)?claude-"), 4784),  # 2576 pixels at the longest edge, in patches of 28 by 28
    (re.compile(r"(?:.*/)?gpt-4o-mini"), 2833 + 8 * 5667),  # 8 tiles of 2048 by 768 pixels
    (re.compile(r"(?:.*/)?(?:gpt-|chatgpt-|o1|o3|o4|codex-|computer-use)"), 24_600),  # 10 000 patches, times 2.46
)
"""Most tokens of one image, by the name of the model."""

_IMAGE_TYPES: Final = frozenset({"image", "image_url", "input_image", "computer_screenshot", "image_generation_call"})
_FILE_TYPES: Final = frozenset({"file", "input_file", "document", "container_upload"})
_HELD_SOURCES: Final = frozenset({"text", "content"})
"""Types of sources of a document that are in the body as text."""
_CONTENTS: Final = frozenset({"image_url", "source", "result", "file", "file_data", "file_url"})
"""Members of images and files that are no text."""
_FILE_MEMBERS: Final = frozenset({"file_data", "file_url"})
_CITATIONS: Final = re.compile(r".*(?:_citation|_location|file_path)\Z")
_REFERENCES: Final = frozenset(
    {"previous_response_id", "conversation", "file_id", "file_url", "cached_content", "vector_store_ids", "skill_id"}
)
"""Members that name content which the provider holds."""
_ID_ALONE: Final = frozenset({"id", "type"})
"""What a reference to an item has. Its type may be absent or null."""
_CACHE: Final = frozenset({"cache_control", "prompt_cache_options", "prompt_cache_breakpoint"})
_SHORT_LIFETIMES: Final = (None, "5m", "30m")
_OPAQUE: Final = frozenset(
    {
        *("parameters", "input_schema", "output_schema", "schema", "metadata", "logit_bias", "arguments", "env"),
        *("input_examples", "attributes", "variables"),
    }
)
"""Members that may hold anything, and in which a provider looks for no content."""
_DESCRIBED: Final = frozenset({"function", "custom", "parameters", "input_schema", "format", "tools"})
_ADDED_TEXTS: Final = frozenset(
    {"extra_content", "reasoning", "reasoning_content", "reasoning_details", "thinking_blocks"}
)
"""Members of messages that no official SDK has, and that are text: what a model has thought in an earlier turn, and
Google's signature of it."""
_ADDED_CONTENTS: Final = re.compile(r"audio|document|file|frame|image|media|url|video", re.IGNORECASE)
"""In the name of a member of a whole body that no official SDK has: it may bring content that is no text."""
_PLAIN_TYPES: Final = frozenset(
    {"text", "input_text", "output_text", "message", "tool_use", "tool_result", "function", "function_call", "thinking"}
)
"""Types of objects that say nothing of the input but what their members say."""
_MARKED: Final = _OPAQUE | _REFERENCES | _CACHE | _CONTENTS | {"audio", "tools", "functions", "input"}
"""Members for which an object is looked at closely."""
_STEP: Final = 1024
"""Values that are counted without a pause."""


@dataclass(slots=True)
class PromptSize:
    """What a body has as its input.

    Attributes:
        text: Most tokens of everything but images.
        images: How many images it has.
        reference: The member or type because of which the input may be as large as the context window; empty
            without one.
        has_audio: Whether it has audio, whose tokens are in `text`.
        writes_cache: Whether it asks for a cache.
        has_long_cache: Whether it asks for a cache that lives longer than half an hour.
        prediction: Most tokens of a predicted output.
        compacts: Whether the provider may summarise the conversation first, which is one more call.
        added: The members that the policy lets pass, which were taken into account.
    """

    text: int = PER_REQUEST
    images: int = 0
    reference: str = ""
    has_audio: bool = False
    writes_cache: bool = False
    has_long_cache: bool = False
    prediction: int = 0
    compacts: bool = False
    added: frozenset[str] = frozenset()

    @property
    def is_text_alone(self) -> bool:
        """Whether the model reads nothing but the text of the body."""
        return not (self.images or self.reference or self.has_audio or self.compacts)

    def input_tokens(self, model: str, window: int | None) -> int | None:
        """Return the most tokens of input, None if only an unknown context window bounds them.

        Args:
            model: The name of the model, which says what an image may cost.
            window: Its context window in tokens.
        """
        per_image = next((most for pattern, most in _IMAGES if pattern.match(model.lower())), None)
        if self.reference or (self.images and per_image is None):
            return None if window is None else max(self.text, window)
        return self.text + self.images * (per_image or 0)


async def measure_prompt(
    endpoint: str, body: Mapping[str, Any], length_of: Callable[[str], int], added: frozenset[str] = frozenset()
) -> PromptSize:
    """Return the size of a body's input, measured in steps.

    Args:
        endpoint: The path that is posted to.
        body: The body as the decision is made on it.
        length_of: Returns the bytes of one of its texts, with what was cut out of it.
        added: Members, and types of parts, that no official SDK has and the policy lets pass. Nothing is known of their
            tokens.
    """
    meter = _Meter(endpoint, length_of, added)
    meter.take_root(body)
    await _walk(meter)
    if body.get("prediction") is not None:
        part = _Meter(endpoint, length_of, added)
        part.take(body["prediction"])
        await _walk(part)
        meter.size.prediction = part.size.text
    return meter.size


async def _walk(meter: "_Meter") -> None:
    pace = Pace()
    while meter.step():
        await pace.pause()


class _Meter:
    """Walks through one body."""

    def __init__(self, endpoint: str, length_of: Callable[[str], int], added: frozenset[str]) -> None:
        self.size = PromptSize(added=added)
        self._added, self._unknown = added, added - _ADDED_TEXTS - _CACHE - _OPAQUE
        self._marked = _MARKED | self._unknown
        self._length_of = length_of
        self._endpoint = endpoint
        self._has_tokens = endpoint in (COMPLETIONS, EMBEDDINGS)  # a prompt may be a list of tokens
        self._waiting: list[Any] = []
        self._opaque: list[Any] = []
        self._work = 0  # values counted in the present step

    def take_root(self, body: Mapping[str, Any]) -> None:
        """Note what only the top of a body can have, and begin."""
        size = self.size
        for name in ("messages", "input"):
            items = body.get(name)
            if isinstance(items, list):
                size.text += PER_MESSAGE * sum(isinstance(item, dict) for item in items)
        thread = body.get("thread")
        if isinstance(thread, dict) and thread.get("type") != "create":
            size.reference = "thread"
        if isinstance(body.get("conversation"), dict):
            size.reference = "conversation"
        context = body.get("context_management")
        edits = context.get("edits") if isinstance(context, dict) else context
        size.compacts = isinstance(edits, list) and any(
            isinstance(edit, dict) and text_of(edit.get("type")).startswith("compact") for edit in edits
        )
        for name in self._added.intersection(body):
            if body[name] and _ADDED_CONTENTS.search(name) is not None:
                size.reference = size.reference or name
        self._take_object({name: value for name, value in body.items() if name != "prediction"}, is_root=True)

    def take(self, value: Any) -> None:
        """Begin with a value that is a part of a body."""
        self._waiting.append(value)

    def step(self) -> bool:
        """Take some values; return False when all are taken."""
        self._work = 0
        while self._work < _STEP:
            if self._waiting:
                self._take(self._waiting.pop())
            elif self._opaque:
                self._add(self._opaque.pop(), self._opaque)
            else:
                return False
        return True

    def _take(self, value: Any) -> None:
        if not isinstance(value, dict):
            self._add(value, self._waiting)
            return
        self._take_object(value)

    def _take_object(self, value: dict[str, Any], *, is_root: bool = False) -> None:
        kind = value.get("type")
        is_plain = self._marked.isdisjoint(value) and (kind is None or text_of(kind) in _PLAIN_TYPES)
        if is_plain and not (self._endpoint == RESPONSES and _ID_ALONE.issuperset(value)):
            self._add(value, self._waiting)
            return
        if not is_root:
            self._take_added(value, text_of(kind))
        self._take_marked(value, text_of(kind))

    def _take_added(self, value: dict[str, Any], kind: str) -> None:
        """Note a part of a type, or with a member, of which nothing is known."""
        unknown = [kind] if kind in self._added else []
        unknown += [
            name
            for name in self._unknown.intersection(value)
            if isinstance(value[name], str | dict | list) and value[name]
        ]
        if unknown:
            self.size.reference = self.size.reference or min(unknown)

    def _add(self, value: Any, waiting: list[Any]) -> None:
        """Count the bytes of a value, as JSON has them; objects and lists in it wait."""
        if isinstance(value, list) and len(value) > _STEP:
            waiting += [value[start : start + _STEP] for start in range(0, len(value), _STEP)]
            return
        self._work += 1 + (len(value) if isinstance(value, list | dict) else 0)
        length, text = self._length_of, 2
        if isinstance(value, dict):
            text += 4 * len(value)
            items: Iterable[Any] = value.values()
            for name in value:
                text += length(name)
        else:
            items = value if isinstance(value, list) else (value,)
            if self._has_tokens and isinstance(value, list) and all(type(item) is int for item in value):
                self.size.text += len(value) + 2  # each is a token
                return
        for item in items:
            if isinstance(item, str):
                text += length(item) + 3
            elif isinstance(item, dict | list):
                waiting.append(item)
            else:
                text += len(str(item)) + 1
        self.size.text += text

    def _take_marked(self, value: dict[str, Any], kind: str) -> None:
        """Take an object that may be an image or a file, or that has a member which says something of the input."""
        size = self.size
        source = value.get("source")
        is_held = isinstance(source, dict) and text_of(source.get("type")) in _HELD_SOURCES
        is_image = kind in _IMAGE_TYPES or "image_url" in value
        is_file = not is_image and not is_held and (kind in _FILE_TYPES or not _FILE_MEMBERS.isdisjoint(value))
        if is_image:
            size.images += 1
        elif is_file:
            size.reference = size.reference or kind or "file"
        elif kind == "item_reference" or (
            self._endpoint == RESPONSES and _ID_ALONE.issuperset(value) and "id" in value
        ):
            size.reference = size.reference or "item_reference"
        if kind == "input_audio":
            self._take_audio(value.get("input_audio"))
        is_citation = _CITATIONS.match(kind) is not None
        rest = {}
        for name, item in value.items():
            if (is_image or is_file) and name in _CONTENTS:
                continue
            if name in _OPAQUE or (name == "input" and self._endpoint == MESSAGES):
                size.text += self._length_of(name) + 4
                self._opaque.append([item])
                continue
            rest[name] = item
            if name in _REFERENCES:
                if item is not None and not is_citation and not is_image:
                    size.reference = size.reference or name
            else:
                self._take_member(name, item)
        self._add(rest, self._waiting)

    def _take_audio(self, audio: Any) -> None:
        """Note audio. The bytes of a URL that the provider loads say nothing; Base64 has no colon."""
        data = text_of(audio.get("data")) if isinstance(audio, dict) else ""
        self.size.has_audio = True
        if ":" in data and not data.startswith("data:"):
            self.size.reference = self.size.reference or "input_audio"

    def _take_member(self, name: str, item: Any) -> None:
        size = self.size
        if name == "audio" and isinstance(item, dict) and "id" in item:
            size.reference = size.reference or name  # an answer with audio that the provider still has
        elif name in _CACHE and isinstance(item, dict):
            size.writes_cache = True
            size.has_long_cache = size.has_long_cache or item.get("ttl") not in _SHORT_LIFETIMES
        elif name in ("tools", "functions") and isinstance(item, list) and item:
            size.text += WITH_TOOLS
            tools = [tool for tool in item if isinstance(tool, dict)]
            size.text += sum(PER_KNOWN_TOOL if _DESCRIBED.isdisjoint(tool) else PER_TOOL for tool in tools)
