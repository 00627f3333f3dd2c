"""What providers with the same API do differently: names of members, and what their numbers of tokens include. Pure.

A dialect is chosen by the host of a provider's URL. A provider that the table does not know has the dialect `_UNKNOWN`,
whose numbers are read in the larger way. An administrator can set the two members that a wrong guess would break.

    reported        completion_tokens 10, reasoning_tokens 30
    inside          10 tokens of output, which is impossible, so 40
    outside         40 tokens of output
    unknown         40 tokens of output: the larger of the readings
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import urlsplit

from interlock_contract.model_access import Shape

CHAT: Final = "chat/completions"
COMPLETIONS: Final = "completions"
EMBEDDINGS: Final = "embeddings"
RESPONSES: Final = "responses"
MESSAGES: Final = "messages"
COUNT_TOKENS: Final = "messages/count_tokens"

LimitMember = Literal["max_completion_tokens", "max_tokens"]
"""The member of a chat completion that limits its output."""
Reading = Literal["inside", "outside", "unknown"]
"""Whether a number of tokens is a part of the number that it is reported next to, or comes on top of it."""

_COPIES: Final = ("n", "best_of", "num_return_sequences", "candidate_count")
COPIES: Final = {CHAT: _COPIES, COMPLETIONS: _COPIES}
"""By endpoint, the members that say how many answers are generated. The largest counts.

A chat completion has others than `n` only where an administrator has added them, such as `best_of` of vLLM.
"""
OTHER_LIMITS: Final = ("max_new_tokens", "max_gen_len", "n_predict", "num_predict")
"""Names that servers have for the limit of the output, if an administrator has added them. The largest limit counts."""
STREAM_OPTION_ENDPOINTS: Final = frozenset({CHAT, COMPLETIONS})
"""Endpoints whose streams report their usage only where `stream_options.include_usage` asks for it."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one provider differs.

    Attributes:
        limit_member: What limits the output of a chat completion. Providers refuse the other member, or ignore it.
        reasoning: Where tokens of reasoning are, next to `completion_tokens`. In responses they are always inside of
            `output_tokens`, except where nothing is known.
        cached: Where tokens that were read from the cache are, next to `prompt_tokens`.
        takes_usage_option: Whether a stream may be asked for its usage. Mistral refuses the question with 422, and
            sends the usage anyway.
        standard_tier: The value of `service_tier` that asks for the standard price. None where the member is not known
            to pass: the provider then chooses the tier.
        is_standard_by_default: Whether the provider documents that a body without `service_tier` costs the standard
            price. Elsewhere the project or the deployment may have a dearer tier as its default.
        takes_zero_as_limit: Whether a limit of 0 tokens generates nothing, as Anthropic has it for writing a cache.
        has_automatic_cache: Whether prompts may be written to the cache although the body does not ask for it.
    """

    limit_member: LimitMember
    reasoning: Reading
    cached: Reading
    takes_usage_option: bool = True
    standard_tier: str | None = None
    is_standard_by_default: bool = False
    takes_zero_as_limit: bool = False
    has_automatic_cache: bool = True

    def limit_of(self, endpoint: str) -> str | None:
        """Return the member that limits the output of an endpoint, None for one without output."""
        return self.limit_member if endpoint == CHAT else _LIMITS[endpoint]


_LIMITS: Final = {
    COMPLETIONS: "max_tokens",
    RESPONSES: "max_output_tokens",
    MESSAGES: "max_tokens",
    EMBEDDINGS: None,
    COUNT_TOKENS: None,
}
_OPENAI: Final = Dialect("max_completion_tokens", "inside", "inside", standard_tier="default")
_ANTHROPIC_HOST: Final = "anthropic.com"
_ANTHROPIC: Final = Dialect("max_tokens", "inside", "outside", has_automatic_cache=False)
_UNKNOWN: Final = Dialect("max_tokens", "unknown", "unknown")
_HOSTS: Final[tuple[tuple[re.Pattern[str], Dialect], ...]] = tuple(
    (re.compile(rf"(?:.*\.)?{host}\Z"), dialect)
    for host, dialect in (
        (r"openai\.com", _OPENAI),
        (r"(?:openai\.azure\.com|services\.ai\.azure\.com|cognitiveservices\.azure\.com)", _OPENAI),
        # DeepSeek ignores max_completion_tokens without a word.
        (r"deepseek\.com", Dialect("max_tokens", "inside", "inside")),
        (r"groq\.com", Dialect("max_completion_tokens", "inside", "inside", standard_tier="on_demand")),
        (r"mistral\.ai", Dialect("max_tokens", "inside", "inside", takes_usage_option=False)),
        (r"openrouter\.ai", Dialect("max_tokens", "inside", "inside")),
        # "Reasoning tokens will be counted separately from completion_tokens", says xAI.
        (r"x\.ai", Dialect("max_completion_tokens", "outside", "inside")),
        # Google reports thoughts only in total_tokens, or next to completion_tokens.
        (r"googleapis\.com", Dialect("max_tokens", "outside", "inside", is_standard_by_default=True)),
    )
)


@lru_cache(maxsize=256)
def dialect_of(
    shape: Shape,
    name: str,
    url: str,
    *,
    limit_member: LimitMember | None = None,
    takes_usage_option: bool | None = None,
) -> Dialect:
    """Return the dialect of a provider.

    Args:
        shape: Whose API it has.
        name: Its name in the policy. `openai` means OpenAI's API also behind another URL.
        url: Its base URL.
        limit_member: What the administrator says limits the output of its chat completions.
        takes_usage_option: Whether the administrator says that its streams may be asked for their usage.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    if shape == "Anthropic":
        is_own = host == _ANTHROPIC_HOST or host.endswith(f".{_ANTHROPIC_HOST}")
        return replace(_ANTHROPIC, standard_tier="standard_only", takes_zero_as_limit=True) if is_own else _ANTHROPIC
    found = next((dialect for pattern, dialect in _HOSTS if pattern.match(host)), None)
    dialect = found or (_OPENAI if name == "openai" else _UNKNOWN)
    return replace(
        dialect,
        limit_member=limit_member or dialect.limit_member,
        takes_usage_option=dialect.takes_usage_option if takes_usage_option is None else takes_usage_option,
    )
