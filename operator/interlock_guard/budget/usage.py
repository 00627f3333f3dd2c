"""What an answer says that it used, read into classes that do not overlap. Pure.

A usage comes from outside, and money depends on it. A number that is negative, no integer, above 10^9 or absent makes
the whole usage unknown, so that it never lowers what a call costs. Where a dialect leaves open whether one number is a
part of another, the larger reading counts:

    prompt_tokens 100, cached_tokens 80    inside: 20 + 80 cached    outside and unknown: 100 + 80 cached
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from interlock_contract.budget.prices import STANDARD, ModelUsage
from interlock_guard.budget.dialects import COUNT_TOKENS, EMBEDDINGS, MESSAGES, RESPONSES, Dialect

MAX_COUNT: Final = 10**9
"""Largest number of tokens, or of searches, that is believed."""
_MAX_ITERATIONS: Final = 4096
_INPUT_DETAILS: Final = frozenset(
    {"cached_tokens", "cache_write_tokens", "cache_write_tokens_details", "audio_tokens", "image_tokens"}
)
_OUTPUT_DETAILS: Final = frozenset({"reasoning_tokens", "audio_tokens", "image_tokens"})
_MESSAGE: Final = frozenset(
    {
        *("input_tokens", "output_tokens", "cache_creation", "cache_creation_input_tokens", "cache_read_input_tokens"),
        *("server_tool_use", "type"),
    }
)
MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    "": _MESSAGE
    | {
        *("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"),
        *("input_tokens_details", "output_tokens_details", "prompt_cache_hit_tokens", "num_cached_tokens"),
        *("reasoning_tokens", "citation_tokens", "num_search_queries", "iterations"),
        *("service_tier", "speed", "inference_geo"),
    },
    "prompt_tokens_details": _INPUT_DETAILS,
    "input_tokens_details": _INPUT_DETAILS,
    "completion_tokens_details": _OUTPUT_DETAILS,
    "output_tokens_details": _OUTPUT_DETAILS,
    "cache_write_tokens_details": frozenset({"ttl_12h_tokens", "ttl_30m_tokens"}),
    "cache_creation": frozenset({"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"}),
    "server_tool_use": frozenset({"web_search_requests"}),
    "iteration": _MESSAGE,
}
"""Members that are read: of a usage, and of each object in it. Without a name here, an object has none."""
_MAX_WORD: Final = 256
_ANYWHERE: Final = frozenset({"global", "not_available"})
"""What Anthropic calls inference that may happen anywhere, and a model for which there is no choice."""
_STANDARD: Final = frozenset({"default", "standard", "standard_only", "on_demand"})
"""What OpenAI, Anthropic and Groq call the tier that costs the standard price."""
_CACHED: Final = ("prompt_cache_hit_tokens", "num_cached_tokens")
"""Names of DeepSeek and Mistral for `prompt_tokens_details.cached_tokens`, which both have as well today."""


class Unknown(NamedTuple):
    """A usage that cannot be read, and why. The reason quotes no value of the answer."""

    reason: str


class Answer(NamedTuple):
    """What is known about an answer when it has ended.

    Attributes:
        usage: What it used.
        model: The model that it names.
        tier: The service tier that it names, by the word of the price book: `standard`, `flex`, `priority`, or
            Anthropic's `fast`, `us` and `fast-us`.
        output_bytes: Bytes of text that were streamed to the agent; 0 for an answer that is no stream.
        counted: What the call has used at least: of a usage that is not the last one, and of several ones by the
            numbers of the last. None where there is no second reading.
    """

    usage: ModelUsage | Unknown
    model: str | None = None
    tier: str | None = None
    output_bytes: int = 0
    counted: ModelUsage | None = None


def build_answer(
    usage: ModelUsage | Unknown,
    *,
    model: Any,
    service_tier: Any,
    raw_usage: Any,
    output_bytes: int = 0,
    counted: ModelUsage | None = None,
) -> Answer:
    """Return what is known about an answer.

    Args:
        usage: What it used.
        model: Its member `model`.
        service_tier: Its member `service_tier`.
        raw_usage: Its member `usage`, in which Anthropic names tier, speed and region.
        output_bytes: Bytes of text that were streamed.
        counted: What the call has used at least, by another reading.
    """
    named = raw_usage if isinstance(raw_usage, Mapping) else {}
    tier = standard_name(service_tier or named.get("service_tier"))
    tier = with_region("fast" if named.get("speed") == "fast" else tier, _word(named.get("inference_geo")))
    return Answer(usage, _word(model), tier, output_bytes, counted)


def with_region(tier: str | None, region: str | None) -> str | None:
    """Return the price book's word for a tier in a region of inference: at Anthropic a region may cost more."""
    if region is None or region in _ANYWHERE:
        return tier
    return region if tier in (None, STANDARD) else f"{tier}-{region}"


def standard_name(tier: Any) -> str | None:
    """Return the price book's word for a service tier, None where none is named."""
    word = _word(tier)
    return STANDARD if word in _STANDARD else word


def _word(value: Any) -> str | None:
    return value[:_MAX_WORD] if isinstance(value, str) and value else None


class _Unreadable(Exception):  # noqa: N818 - says what the usage is
    """A usage has no number where it must have one."""


def read_usage(endpoint: str, raw: Any, dialect: Dialect, *, has_hour_cache: bool = True) -> ModelUsage | Unknown:
    """Return what a member `usage` says.

    Args:
        endpoint: The path that was posted to.
        raw: The member, as JSON; None where the answer has none.
        dialect: How the provider counts.
        has_hour_cache: Whether the request may have written to a cache of a long lifetime. Tokens that were written
            with an unknown lifetime then count as such.
    """
    if endpoint == COUNT_TOKENS:
        return ModelUsage()  # free, and its answer has no usage
    if not isinstance(raw, Mapping):
        return Unknown("the answer has no usage" if raw is None else "usage is no object")
    try:
        if endpoint == MESSAGES:
            return _read_messages(raw, has_hour_cache=has_hour_cache)
        if endpoint == RESPONSES:
            return _read_responses(raw, dialect)
        return _read_completion(raw, dialect, has_output=endpoint != EMBEDDINGS)
    except _Unreadable as error:
        return Unknown(str(error))


def merge_usage(old: Any, new: Any, within: str = "", *, replaces: bool = False) -> Any:
    """Return one raw usage made of two of the same stream, each of which counts from the stream's beginning.

    A number never falls, a list never gets shorter, a null changes nothing, and a number that cannot be read stays, so
    that it is noticed. A stream may be long and hostile. So only what is read is kept, and the time depends on `new`.

    Args:
        old: The one, None without one.
        new: The other.
        within: The member that they are values of, empty for usages; `iteration` for each of `iterations`.
        replaces: Whether a number of `new` counts also where it is smaller.
    """
    is_odd = not (old is None or _is_count(old) or isinstance(old, str | list | dict))
    if new is None or is_odd:
        return old
    if isinstance(new, dict):
        kept: dict[str, Any] = old if isinstance(old, dict) else {}
        names = MEMBERS.get(within, frozenset())
        merged = {
            name: merge_usage(kept.get(name), value, name, replaces=replaces)
            for name, value in new.items()
            if name in names
        }
        return {**kept, **merged}
    if isinstance(new, list):
        known: list[Any] = old if isinstance(old, list) else []
        taken = new[: _MAX_ITERATIONS + 1] if within == "iterations" else []  # one more than is read
        befores = (*known[: len(taken)], *[None] * (len(taken) - len(known)))
        both = [
            merge_usage(before, after, "iteration", replaces=replaces)
            for before, after in zip(befores, taken, strict=True)
        ]
        return [*both, *known[len(taken) :]]
    if _is_count(old) and _is_count(new) and not replaces:
        return max(old, new)
    return new[:_MAX_WORD] if isinstance(new, str) else new


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _count(raw: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Return a number of tokens; `default` where it is absent or null, unless it must be there.

    Raises:
        _Unreadable: It is none.
    """
    value: Any = raw.get(name)
    if value is None and default is not None:
        return default
    if not _is_count(value):
        raise _Unreadable(f"{name} is {'absent' if value is None else 'no number of tokens'}")
    return int(value)


def _object(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the object that details a number, an empty one where it is absent.

    Raises:
        _Unreadable: It is no object.
    """
    value = raw.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _Unreadable(f"{name} is no object")
    return value


def _read_completion(raw: Mapping[str, Any], dialect: Dialect, *, has_output: bool) -> ModelUsage:
    """Read the usage of a chat completion, a completion or an embedding."""
    prompt = _count(raw, "prompt_tokens")
    completion = _count(raw, "completion_tokens", None if has_output else 0)
    total = _count(raw, "total_tokens", 0)
    ins, outs = _object(raw, "prompt_tokens_details"), _object(raw, "completion_tokens_details")
    cached = max(_count(ins, "cached_tokens", 0), *(_count(raw, name, 0) for name in _CACHED))
    reasoning = max(_count(outs, "reasoning_tokens", 0), _count(raw, "reasoning_tokens", 0))
    if not has_output:
        prompt = max(prompt, total - completion)
    return ModelUsage(
        **_split_input(prompt, cached, ins, is_inside=dialect.cached == "inside"),
        **_split_output(completion, total - prompt, reasoning, outs, is_inside=dialect.reasoning == "inside"),
        citation=_count(raw, "citation_tokens", 0),
        web_search=_count(raw, "num_search_queries", 0),
    )


def _read_responses(raw: Mapping[str, Any], dialect: Dialect) -> ModelUsage:
    prompt, output = _count(raw, "input_tokens"), _count(raw, "output_tokens")
    total = _count(raw, "total_tokens", 0)
    ins, outs = _object(raw, "input_tokens_details"), _object(raw, "output_tokens_details")
    cached, reasoning = _count(ins, "cached_tokens", 0), _count(outs, "reasoning_tokens", 0)
    return ModelUsage(
        **_split_input(prompt, cached, ins, is_inside=dialect.cached == "inside"),
        **_split_output(output, total - prompt, reasoning, outs, is_inside=dialect.reasoning != "unknown"),
    )


def _split_input(prompt: int, cached: int, details: Mapping[str, Any], *, is_inside: bool) -> dict[str, int]:
    """Divide the tokens of a prompt.

    Args:
        prompt: The number that the provider calls the prompt's.
        cached: Those that were read from its cache.
        details: The rest of the details.
        is_inside: Whether the cached tokens, and those written to the cache, are a part of `prompt`.
    """
    written = _count(details, "cache_write_tokens", 0)
    lifetimes = _object(details, "cache_write_tokens_details")
    long = _count(lifetimes, "ttl_12h_tokens", 0)
    written = max(written, long + _count(lifetimes, "ttl_30m_tokens", 0))
    audio, image = _count(details, "audio_tokens", 0), _count(details, "image_tokens", 0)
    of_cache = cached + written
    # More tokens in the cache than in the prompt cannot be a part of it.
    rest = prompt - of_cache if is_inside and of_cache <= prompt else prompt
    return {
        "input": max(0, rest - audio - image),
        "cached_input": cached,
        "cache_write_5m": written - long,
        "cache_write_1h": long,
        "input_audio": audio,
        "input_image": image,
    }


def _split_output(
    completion: int, by_total: int, reasoning: int, details: Mapping[str, Any], *, is_inside: bool
) -> dict[str, int]:
    """Divide the tokens of an output.

    Args:
        completion: The number that the provider calls the output's.
        by_total: What is left of the total without the prompt. Some providers count thoughts only there.
        reasoning: The tokens of reasoning.
        details: The rest of the details.
        is_inside: Whether these are a part of `completion`.
    """
    output = completion if is_inside and reasoning <= completion else completion + reasoning
    audio, image = _count(details, "audio_tokens", 0), _count(details, "image_tokens", 0)
    return {
        "output": max(0, max(output, by_total) - reasoning - audio - image),
        "reasoning": reasoning,
        "output_audio": audio,
        "output_image": image,
    }


def _read_messages(raw: Mapping[str, Any], *, has_hour_cache: bool) -> ModelUsage:
    """Read the usage of Anthropic, which counts the cache apart, and a compaction in its iterations alone."""
    top = _read_message_counts(raw, has_hour_cache=has_hour_cache)
    iterations = raw.get("iterations")
    if iterations is None:
        return top
    if not isinstance(iterations, list) or len(iterations) > _MAX_ITERATIONS:
        raise _Unreadable("iterations is no list of a usual length")
    messages, others = ModelUsage(), ModelUsage()
    for iteration in iterations:
        if not isinstance(iteration, Mapping):
            raise _Unreadable("iterations has something else than objects")
        one = _read_message_counts(iteration, has_hour_cache=has_hour_cache)
        if iteration.get("type") == "message":
            messages = _join(messages, one, is_sum=True)
        else:
            others = _join(others, one, is_sum=True)
    return _join(_join(top, messages, is_sum=False), others, is_sum=True)


def _read_message_counts(raw: Mapping[str, Any], *, has_hour_cache: bool) -> ModelUsage:
    lifetimes = _object(raw, "cache_creation")
    short = _count(lifetimes, "ephemeral_5m_input_tokens", 0)
    long = _count(lifetimes, "ephemeral_1h_input_tokens", 0)
    rest = max(0, _count(raw, "cache_creation_input_tokens", 0) - short - long)
    tools = _object(raw, "server_tool_use")
    return ModelUsage(
        input=_count(raw, "input_tokens"),
        cached_input=_count(raw, "cache_read_input_tokens", 0),
        cache_write_5m=short + (0 if has_hour_cache else rest),
        cache_write_1h=long + (rest if has_hour_cache else 0),
        output=_count(raw, "output_tokens"),
        web_search=_count(tools, "web_search_requests", 0),
    )


def _join(one: ModelUsage, other: ModelUsage, *, is_sum: bool) -> ModelUsage:
    """Return the sum of two usages, or the larger one of each of their numbers.

    Raises:
        _Unreadable: A sum is larger than is believed.
    """
    numbers = {
        name: getattr(one, name) + getattr(other, name) if is_sum else max(getattr(one, name), getattr(other, name))
        for name in ModelUsage.__slots__
    }
    if max(numbers.values()) > MAX_COUNT:
        raise _Unreadable(f"the iterations have more than {MAX_COUNT} tokens together")
    return ModelUsage(**numbers)
