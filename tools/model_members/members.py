"""The generator of `interlock_guard.decision.sdk_members`, from the request types of the pinned official SDKs.

The types are TypedDicts, and models of pydantic where an answer may be sent back as input. All types that may be at one
position of a body become one *place* with the members of all of them: a discriminator such as `role` is not followed.
Left out, so that the guard refuses it as unknown: tools that the provider carries out, wherever a body has tools, other
models than the one that is decided on, and what `REFUSED_MEMBERS` names.
"""

import textwrap
import types
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import anthropic.types as anthropic_types
import anthropic.types.beta as beta_types
import openai.types as openai_types
import openai.types.chat as chat_types
import openai.types.responses as response_types
import typing_extensions
from anthropic.types.anthropic_beta_param import AnthropicBetaParam
from pydantic import BaseModel

from interlock_contract.model_access import Shape
from interlock_guard.decision.model_rules import ENDPOINTS, HOSTED_ENVIRONMENTS, REFUSED_MEMBERS, is_client_tool

_Types = frozenset[Any]

_REQUESTS: Final[Mapping[str, tuple[Any, ...]]] = {
    "chat/completions": (
        chat_types.completion_create_params.CompletionCreateParamsNonStreaming,
        chat_types.completion_create_params.CompletionCreateParamsStreaming,
    ),
    "completions": (
        openai_types.completion_create_params.CompletionCreateParamsNonStreaming,
        openai_types.completion_create_params.CompletionCreateParamsStreaming,
    ),
    "embeddings": (openai_types.EmbeddingCreateParams,),
    "responses": (
        response_types.response_create_params.ResponseCreateParamsNonStreaming,
        response_types.response_create_params.ResponseCreateParamsStreaming,
    ),
    "messages": (
        anthropic_types.message_create_params.MessageCreateParamsNonStreaming,
        anthropic_types.message_create_params.MessageCreateParamsStreaming,
        beta_types.message_create_params.MessageCreateParamsNonStreaming,
        beta_types.message_create_params.MessageCreateParamsStreaming,
    ),
    "messages/count_tokens": (anthropic_types.MessageCountTokensParams, beta_types.MessageCountTokensParams),
}
_SENT_BACK: Final[Mapping[tuple[str, str], Any]] = {
    ("chat/completions", "messages"): chat_types.ChatCompletionMessage,
    ("responses", "input"): response_types.ResponseOutputItem,
}
"""By endpoint and member, what agents append to their next request as it came."""
_EARLIER: Final[Mapping[str, tuple[str, ...]]] = {"messages": ("temperature", "top_k", "top_p")}
"""Members that earlier versions of the SDKs had, and that agents with these versions send."""
_HEADERS: Final = frozenset({"betas", "user_profile_id", "workspace_id"})
"""Parameters of the SDK's methods that it sends as headers."""
_BETA_FEATURES: Final = (
    *(
        "cache-diagnosis-",
        "compact-",
        "computer-use-",
        "context-",
        "extended-cache-ttl-",
        "fast-mode-",
        "inline-tools-",
    ),
    *("interleaved-thinking-", "message-threads-", "mid-conversation-", "model-context-window-", "output-", "pdfs-"),
    *("prompt-caching-", "structured-outputs-", "task-budgets-", "thinking-", "token-"),
)
"""Beginnings of the names of beta features that change how a model reads and answers, and nothing else."""
_EARLIER_BETAS: Final = frozenset(
    {
        *("effort-2025-11-24", "fine-grained-tool-streaming-2025-05-14", "max-tokens-3-5-sonnet-2024-07-15"),
        *("messages-2023-12-15", "tool-examples-2025-10-29", "tools-2024-04-04", "tools-2024-05-16"),
    }
)
"""Such features that agents' SDKs still send, although the API no longer needs the values."""
_WRAPPERS: Final = (Annotated, typing_extensions.Required, typing_extensions.NotRequired, list, Iterable, Sequence)
_SCALARS: Final = (str, int, float, bool, bytes, type(None))
_ANYTHING: Final = frozenset({"anything"})
_WIDTH: Final = 105


class TypeUnknownError(Exception):
    """A type of an SDK that the generator cannot read; the message names it."""


def generate() -> str:
    """Return the text of the generated module.

    Raises:
        TypeUnknownError: An SDK has a type that cannot be read.
    """
    places = _Places()
    for endpoint in _REQUESTS:
        places.add_endpoint(endpoint)
    values = get_args(next(one for one in get_args(AnthropicBetaParam) if get_origin(one) is Literal))
    betas = sorted(_EARLIER_BETAS.union(value for value in values if value.startswith(_BETA_FEATURES)))
    pins = " and ".join(f"{name} {version(name)}" for name in ("openai", "anthropic"))
    return "\n".join(
        [
            f'"""The members of bodies for models: generated from {pins}, see `body_members`.',
            "",
            "Run `make members` after a change of these versions, and review what is new. Do not edit this file.",
            '"""',
            "",
            "from collections.abc import Mapping",
            "from typing import Final",
            "",
            "ENDPOINTS: Final[Mapping[str, int]] = {",
            *(f'    "{endpoint}": {number},' for endpoint, number in places.endpoints.items()),
            "}",
            "PLACES: Final[tuple[str, ...]] = (",
            *(text for line in places.lines for text in _literal(line, "    ", ",")),
            ")",
            "BETAS: Final = (",
            *_literal(" ".join(betas), "    ", ""),
            ")",
            "HOSTED_TOOLS: Final = (",
            *_literal(" ".join(sorted(places.hosted)), "    ", ""),
            ")",
            "",
        ]
    )


def _literal(line: str, indent: str, end: str) -> Sequence[str]:
    """Return a text as a literal of Python in lines that are not too long."""
    parts = textwrap.wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    if len(parts) == 1:
        return [f'{indent}"{parts[0]}"{end}']
    opened, closed = ("(", f"){end}") if end else ("", "")
    inner = f"{indent}    " if opened else indent
    lines = [f'{inner}"{part} "' for part in parts[:-1]] + [f'{inner}"{parts[-1]}"']
    return [f"{indent}{opened}", *lines, f"{indent}{closed}"] if opened else lines


class _Places:
    """Numbers the places as they are met."""

    def __init__(self) -> None:
        self.endpoints: dict[str, int] = {}
        self.hosted: set[str] = set()
        self.lines: list[str] = []
        self._numbers: dict[tuple[str, _Types], int] = {}
        self._left_out: frozenset[str] = frozenset()
        self._hosted: frozenset[str] = frozenset()
        self._shape: Shape = "OpenAI"

    def add_endpoint(self, endpoint: str) -> None:
        """Add the places of an endpoint's body."""
        self._shape = "Anthropic" if endpoint in ENDPOINTS["Anthropic"] else "OpenAI"
        self._left_out = frozenset(REFUSED_MEMBERS[self._shape]) | _HEADERS
        self._hosted = frozenset()
        requests = _REQUESTS[endpoint]
        tools = frozenset().union(*(_expand(_members(one).get("tools", str)) for one in requests))
        kinds = {kind for tool in tools for kind in _kinds(tool) or ()}
        self._hosted = frozenset(kind for kind in kinds if not is_client_tool(self._shape, kind))
        if endpoint == "responses":
            self._hosted |= HOSTED_ENVIRONMENTS
        self.hosted |= self._hosted
        more = {member: _expand(kind) for (name, member), kind in _SENT_BACK.items() if name == endpoint}
        self.endpoints[endpoint] = self._number(frozenset(requests), more, _EARLIER.get(endpoint, ()), is_root=True)

    def _number(
        self,
        found: _Types,
        more: Mapping[str, _Types] = types.MappingProxyType({}),
        earlier: Iterable[str] = (),
        *,
        is_root: bool = False,
    ) -> int:
        key = (self._shape, found)
        if key in self._numbers:
            return self._numbers[key]
        number = self._numbers[key] = len(self.lines)
        self.lines.append("")
        merged: dict[str, _Types] = {name: frozenset() for name in earlier}
        for one in found:
            for name, kind in _members(one).items():
                if name not in self._left_out and (is_root or name != "model"):
                    merged[name] = merged.get(name, frozenset()) | _expand(kind)
        for name, kinds in more.items():
            merged[name] |= kinds
        words = [self._word(name, kinds) for name, kinds in sorted(merged.items())]
        # An object whose own type has no `type` sends none. With one it would be an object that no SDK has there.
        values = [_kinds(one) for one in found if "type" in _members(one)]
        if values and None not in values:
            words += sorted({f"={value}" for some in values for value in some or ()})
            words += (
                ["="] if any(_may_be_null(_members(one)["type"]) for one in found if "type" in _members(one)) else []
            )
        self.lines[number] = " ".join(words)
        return number

    def _word(self, name: str, found: _Types) -> str:
        if found >= _ANYTHING:
            return f"{name}*"
        passing = frozenset(one for one in found if not self._is_hosted(one))
        return f"{name}:{self._number(passing)}" if passing else name

    def _is_hosted(self, one: Any) -> bool:
        kinds = _kinds(one)
        return bool(kinds) and self._hosted.issuperset(kinds or ())


def _expand(kind: Any) -> _Types:
    """Return the types of objects that may be at a position, or `_ANYTHING`; of a list those of its items."""
    origin, arguments = get_origin(kind), get_args(kind)
    if typing_extensions.is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return frozenset({kind})
    if origin in _WRAPPERS or getattr(origin, "__name__", "") == "SequenceNotStr":
        return _expand(arguments[0])
    if origin in (Union, types.UnionType):
        return frozenset().union(*map(_expand, arguments))
    if origin is Literal or kind in _SCALARS or _is_file(kind):
        return frozenset()
    if kind in (object, Any, dict) or origin in (dict, Mapping):
        return _ANYTHING
    raise TypeUnknownError(f"{kind!r} is a type that tools/model_members cannot read: teach it this type")


def _is_file(kind: Any) -> bool:
    """Return True for a file that the SDK reads and sends as text in Base64."""
    return (get_origin(kind) is not None and "IO[" in str(kind)) or getattr(kind, "__name__", "") == "PathLike"


def _members(one: Any) -> Mapping[str, Any]:
    if typing_extensions.is_typeddict(one):
        return typing_extensions.get_type_hints(one, include_extras=True)
    return {field.alias or name: field.annotation for name, field in one.model_fields.items()}


def _may_be_null(kind: Any) -> bool:
    while get_origin(kind) in _WRAPPERS:
        kind = get_args(kind)[0]
    return get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind)


def _kinds(one: Any) -> tuple[str, ...] | None:
    """Return the values that the member `type` of an object may have, or None if it is not bound to some."""
    if one == "anything":
        return None
    kind = _members(one).get("type", str)
    while get_origin(kind) in (typing_extensions.Required, typing_extensions.NotRequired, Annotated, Union):
        kind = get_args(kind)[0]
    return get_args(kind) if get_origin(kind) is Literal else None
