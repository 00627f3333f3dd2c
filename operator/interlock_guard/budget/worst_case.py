"""The most that a call can cost, and the body that keeps it to that. Pure.

    input tokens at the dearest rate of the classes, tiers and sizes that the body allows
    + limit of the output x number of answers at the dearest rate of output
    + what a request itself costs

A body without a limit gets one, in the member that the provider takes. One that leaves the service tier to the provider
gets the standard tier. Nothing else of it changes, except that a stream is asked for its usage.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from interlock_contract.budget.money import MAX_MONEY
from interlock_contract.budget.prices import (
    PER_UNITS,
    STANDARD,
    Dearest,
    InputClass,
    ModelPrice,
    OutputClass,
    dearest,
)
from interlock_guard.budget.body_usage import Watch
from interlock_guard.budget.dialects import (
    CHAT,
    COMPLETIONS,
    COPIES,
    COUNT_TOKENS,
    MESSAGES,
    OTHER_LIMITS,
    RESPONSES,
    STREAM_OPTION_ENDPOINTS,
    Dialect,
)
from interlock_guard.budget.member_scanner import SetBack
from interlock_guard.budget.prompt_size import PromptSize
from interlock_guard.budget.usage import standard_name, with_region

_MAX_TOKENS: Final = 2**53 - 1
"""Largest number of tokens that a limit of a minute is compared with."""
_LONG_CONTEXT: Final = "context-1m"
"""Beginning of the beta value that gives a model of Anthropic a context window of a million tokens."""
_LONG_WINDOW: Final = 1_000_000
_US: Final = "us"
"""The region of inference that has a price of its own. A workspace may have it as its default."""
_CHEAPER: Final = frozenset({"flex"})
"""Tiers that cost no more than the standard tier, and so may be without a price. A provider without such a tier, or
without room in it, may serve the call at the standard price."""
_FAST: Final = ("priority", "fast")
"""Two names of OpenAI for one tier."""
_CHOSEN_BY_ANTHROPIC: Final = frozenset({STANDARD, "priority"})
"""Tiers of Anthropic that a body gets without asking. All others are speeds and regions."""
_WITH_TIERS: Final = frozenset({CHAT, RESPONSES, MESSAGES})
"""Endpoints that take `service_tier`."""
_WAY_OUT: Final = "Set one in the policy's models.prices."
_MAX_QUOTED: Final = 64

Reason = Literal["PriceUnknown", "BadRequest", "MemberNotAllowed"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that no budget can allow.

    Attributes:
        reason: `PriceUnknown`: something that the body asks for has no price. `BadRequest`: its limits cannot be read.
            `MemberNotAllowed`: it would go on at the provider.
        message: Why, and the way out.
    """

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What a call was reserved for, which its settlement needs.

    Attributes:
        endpoint: The path that is posted to.
        model: The model that is asked.
        price: Its price; None for a call that costs nothing.
        at: When it began, in seconds since 1970.
        nanos: The reservation, in nano-dollars.
        tiers: The tiers that may serve it, by the price book's words. An answer that names none costs the dearest.
        rates: The dearest rates that it allows.
    """

    endpoint: str
    model: str
    price: ModelPrice | None
    at: float
    nanos: int
    tiers: tuple[str, ...] = (STANDARD,)
    rates: Dearest | None = None


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The most that a call can cost.

    Attributes:
        nanos: In nano-dollars; 0 for a call that costs nothing, such as one that counts tokens.
        tokens: The most tokens of input and output; 0 for a call that only counts tokens.
        body: What is sent in place of the client's body.
        terms: For the settlement.
        watch: For the reading of the answer.
    """

    nanos: int
    tokens: int
    body: dict[str, Any]
    terms: Terms
    watch: Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A request, and what its worst case depends on.

    Attributes:
        endpoint: The path that is posted to.
        body: The body that was decided on.
        size: Of its input.
        model: The provider's name for the model.
        price: The price of the model.
        dialect: How the provider differs.
        at: When the call begins, in seconds since 1970.
        max_output_tokens: The limit of the output of a body without one.
        betas: Values of the headers that switch on features in beta.
    """

    endpoint: str
    body: Mapping[str, Any]
    size: PromptSize
    model: str
    price: ModelPrice | None
    dialect: Dialect
    at: float
    max_output_tokens: int
    betas: Collection[str] = ()


class _Refusal(Exception):  # noqa: N818 - says what becomes of the call
    """The call is refused; the argument says why."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.refused = Refused(reason, message)


def assess(request: ModelRequest) -> WorstCase | Refused:
    """Return the most that a call can cost, and what is sent for it."""
    endpoint, dialect = request.endpoint, request.dialect
    if endpoint == COUNT_TOKENS:
        terms = Terms(endpoint, request.model, None, request.at, 0)
        return WorstCase(0, 0, dict(request.body), terms, Watch(endpoint, dialect))
    try:
        return _assess(request)
    except _Refusal as refusal:
        return refusal.refused


def _assess(request: ModelRequest) -> WorstCase:
    endpoint, body, size = request.endpoint, request.body, request.size
    if body.get("background") not in (None, False, []):
        raise _Refusal("MemberNotAllowed", "background goes on at the provider, so nothing bounds its cost.")
    price = request.price
    if price is None:
        raise _Refusal("PriceUnknown", f"The model {_quote(request.model)} has no price. {_WAY_OUT}")
    passes = 2 if size.compacts else 1
    tokens_in = _input_tokens(request, price) * passes
    tiers, changes = _choose_tiers(request, price)
    limit = _limit(request)
    tokens_out = 0 if limit is None else limit * _copies(request) * passes + size.prediction
    rates = dearest(
        price,
        at=request.at,
        input_tokens=tokens_in,
        tiers=tiers,
        input_classes=_input_classes(size, request.dialect),
        output_classes=_output_classes(body),
    )
    if rates.output is None and limit is not None:
        raise _Refusal("PriceUnknown", f"The model {_quote(request.model)} has no price of output. {_WAY_OUT}")
    nanos = -(-(tokens_in * rates.input + tokens_out * (rates.output or 0)) // PER_UNITS) + rates.request
    nanos = min(nanos, MAX_MONEY)
    terms = Terms(endpoint, request.model, price, request.at, nanos, tiers, rates)
    options = _ask_for_usage(request)
    changes |= {} if options is None else {"stream_options": options}
    return WorstCase(
        nanos,
        min(tokens_in + tokens_out, _MAX_TOKENS),
        _change(request, limit, changes),
        terms,
        _watch(request, limit, is_asked=options is not None),
    )


def _watch(request: ModelRequest, limit: int | None, *, is_asked: bool) -> Watch:
    member = request.dialect.limit_of(request.endpoint)
    is_repeated = request.endpoint == RESPONSES and member is not None and request.body.get(member) is None
    return Watch(
        request.endpoint,
        request.dialect,
        takes_out=is_asked,
        set_back=SetBack((member,), limit) if is_repeated and member is not None and limit is not None else None,
        has_hour_cache=request.size.has_long_cache,
        echoes=request.endpoint == COMPLETIONS and bool(request.body.get("echo")),
    )


def _change(request: ModelRequest, limit: int | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with the limit in the member that the provider takes, and with other changes."""
    body = {**request.body, **changes}
    member = request.dialect.limit_of(request.endpoint)
    if member is not None:
        for other in _limit_members(request):
            body.pop(other, None)
        body[member] = limit
    return body


def _input_tokens(request: ModelRequest, price: ModelPrice) -> int:
    window = price.context_window
    if window is not None and any(beta.startswith(_LONG_CONTEXT) for beta in request.betas):
        window = max(window, _LONG_WINDOW)
    tokens = request.size.input_tokens(request.model, window)
    if tokens is None:
        what = request.size.reference or "an image"
        raise _Refusal(
            "PriceUnknown",
            f"The body has {_quote(what)}, whose tokens only the context window bounds, and that of "
            f"{_quote(request.model)} is not known. Set contextWindow in the policy's models.prices.",
        )
    return tokens


def _choose_tiers(request: ModelRequest, price: ModelPrice) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the tiers that may serve the call, and what is sent.

    A body that leaves the tier to the provider may get the dearest: a project of OpenAI can have `priority` as its
    default. So the guard sets the tier where the provider is known to take it.
    """
    known = price.tiers(request.at)
    asked, dialect = request.body.get("service_tier"), request.dialect
    if asked is None and request.endpoint not in _WITH_TIERS:  # a policy can let it pass elsewhere, too
        return (STANDARD,), {}
    own = dialect.standard_tier
    is_open = asked in (None, "auto")
    changes = {"service_tier": own} if is_open and own is not None else {}
    if not is_open or own is not None or (asked is None and dialect.is_standard_by_default):
        names = _named_tiers("service_tier", STANDARD if is_open else standard_name(asked), known)
    else:
        chosen = known & _CHOSEN_BY_ANTHROPIC if request.endpoint == MESSAGES else known
        names = tuple(sorted(chosen))
    speed = request.body.get("speed")
    if speed not in (None, "standard"):
        names = _named_tiers("speed", speed, known)
    return _with_regions(request, names, known), changes


def _named_tiers(member: str, asked: Any, known: Collection[str]) -> tuple[str, ...]:
    """Return the tiers of the price that a body asks for by name."""
    if not isinstance(asked, str):
        raise _Refusal("BadRequest", f"{member} is no text.")
    wanted = _FAST if asked in _FAST else (asked, STANDARD) if asked in _CHEAPER else (asked,)
    names = tuple(name for name in wanted if name in known)
    if not names:
        raise _Refusal("PriceUnknown", f"The {member} {_quote(asked)} has no price. {_WAY_OUT}")
    return names


def _with_regions(request: ModelRequest, names: tuple[str, ...], known: Collection[str]) -> tuple[str, ...]:
    """Return the tiers in the regions of inference that a body allows."""
    region = request.body.get("inference_geo")
    if request.endpoint != MESSAGES:
        return names
    if region is None:  # the workspace chooses
        regional = [name for tier in names if (name := str(with_region(tier, _US))) in known]
        return (*names, *regional)
    if not isinstance(region, str):
        raise _Refusal("BadRequest", "inference_geo is no text.")
    within = tuple(str(with_region(tier, region)) for tier in names)
    if not set(within).issubset(known):
        raise _Refusal("PriceUnknown", f"The inference_geo {_quote(region)} has no price. {_WAY_OUT}")
    return within


def _limit_members(request: ModelRequest) -> tuple[str, ...]:
    """Return the members that may limit the output."""
    member = request.dialect.limit_of(request.endpoint)
    if request.endpoint == CHAT:
        return ("max_completion_tokens", "max_tokens")
    return () if member is None else (member,)


def _limit(request: ModelRequest) -> int | None:
    """Return the limit of the output of one answer; None for an endpoint without output.

    Some providers take 0 for no limit, and others refuse it. Only Anthropic is known to generate nothing then.
    """
    members, least = _limit_members(request), 0 if request.dialect.takes_zero_as_limit else 1
    stated = [name for name in (*members, *OTHER_LIMITS) if request.body.get(name) is not None]
    given = [_number(request.body, name, least=least) for name in stated]
    return max(given, default=request.max_output_tokens) if members else None


def _copies(request: ModelRequest) -> int:
    """Return how many answers are generated; a completion has as many for each prompt of a list."""
    body, members = request.body, COPIES.get(request.endpoint, ())
    copies = max((_number(body, member, least=1) for member in members if body.get(member) is not None), default=1)
    prompt = body.get("prompt") if request.endpoint == COMPLETIONS else None
    is_many = isinstance(prompt, list) and any(isinstance(one, str | list) for one in prompt)
    return copies * len(prompt) if is_many and isinstance(prompt, list) else copies


def _number(body: Mapping[str, Any], member: str, *, least: int) -> int:
    """Return a number that limits the cost. Some providers take another value for no limit at all."""
    value = body[member]
    if type(value) is not int or value < least:
        raise _Refusal("BadRequest", f"{member} must be an integer of at least {least}, because it limits the cost.")
    return value


def _input_classes(size: PromptSize, dialect: Dialect) -> list[InputClass]:
    """Return the classes of input that a body allows. A file may have images and audio in it."""
    classes: list[InputClass] = ["input", "cached_input"]
    if size.writes_cache or dialect.has_automatic_cache:
        classes.append("cache_write_5m")
    if size.has_long_cache:
        classes.append("cache_write_1h")
    if size.has_audio or size.reference:
        classes += ["input_audio", "cached_audio"]
    if size.images or size.reference:
        classes += ["input_image", "cached_image"]
    return classes


def _output_classes(body: Mapping[str, Any]) -> list[OutputClass]:
    """Return the classes of output that a body allows. Some models make images without being asked."""
    classes: list[OutputClass] = ["output", "reasoning", "citation", "output_image"]
    return [*classes, "output_audio"] if body.get("modalities") or body.get("audio") else classes


def _ask_for_usage(request: ModelRequest) -> dict[str, Any] | None:
    """Return the options of a stream that ask for its usage, None where nothing must change."""
    body = request.body
    may_ask = request.endpoint in STREAM_OPTION_ENDPOINTS and request.dialect.takes_usage_option
    if not may_ask or not body.get("stream"):
        return None
    options = body.get("stream_options")
    if options is None:
        return {"include_usage": True}
    if not isinstance(options, dict):
        raise _Refusal("BadRequest", "stream_options is no object.")
    return None if options.get("include_usage") is True else {**options, "include_usage": True}


def _quote(name: str) -> str:
    return repr(name[:_MAX_QUOTED])
