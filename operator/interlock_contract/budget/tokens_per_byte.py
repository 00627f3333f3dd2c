"""Tokens per byte: an alert where a provider suddenly counts otherwise than on the day before. Pure.

Money depends on the tokens that a provider reports, and no one else counts them. The same kind of text has about the
same number of tokens for each byte. So a ledger keeps, for each model and hour, the tokens that answers reported and
the bytes that these tokens stand for. Guards write them together with a settlement, so there is no further write.

    last hour    30 000 tokens of input for 100 000 bytes     0.30 for a byte
    day before  400 000 tokens of input for 2 000 000 bytes   0.20 for a byte    50 % more: an alert

Input and output are compared each for itself. Both directions are wrong: more tokens cost more than they should, and
fewer let a budget buy more than it should.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, NamedTuple, get_args

from msgspec import Meta

from interlock_contract.budget.ledger_fields import Seconds
from interlock_contract.strict_fields import StrictStruct, Text

HOUR: Final = 3600
"""Seconds of a step. Steps begin at its multiples since the epoch."""
MAX_HOURS: Final = 25
"""Steps that a ledger keeps of a model: the newest one, and a day before it."""
MAX_TOKEN_MODELS: Final = 16
"""Models that a ledger keeps: as many as an Agent may have."""
MAX_TOKEN_ALERTS: Final = 32
LEAST_BYTES: Final = 10_000
"""Fewest bytes in the hour, and in the day before it, that say anything."""
DEFAULT_CHANGE_PERCENT: Final = 25
DEFAULT_MINIMUM_CALLS: Final = 20

MAX_COUNT: Final = 2**53 - 1
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Hours = Annotated[tuple[Count, ...], Meta(max_length=MAX_HOURS)]
Direction = Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """A model whose tokens per byte differ by more than `change_percent` from the day before raises an alert.

    Neither an hour nor a day with fewer than `minimum_calls` is compared.
    """

    change_percent: int = DEFAULT_CHANGE_PERCENT
    minimum_calls: int = DEFAULT_MINIMUM_CALLS


class TokenCount(NamedTuple):
    """Tokens that answers reported, and the bytes of text that they stand for.

    The bytes of a direction are 0 if nothing can be said of it, and its tokens then as well.
    """

    calls: int = 0
    input_bytes: int = 0
    input_tokens: int = 0
    output_bytes: int = 0
    output_tokens: int = 0

    def plus(self, other: "TokenCount") -> "TokenCount":
        """Return the sum."""
        return TokenCount(*(min(MAX_COUNT, one + more) for one, more in zip(self, other, strict=True)))

    def minus(self, other: "TokenCount") -> "TokenCount":
        """Return the difference."""
        return TokenCount(*(one - less for one, less in zip(self, other, strict=True)))

    def of(self, direction: Direction) -> tuple[int, int]:
        """Return the tokens and the bytes of a direction."""
        if direction == "input":
            return self.input_tokens, self.input_bytes
        return self.output_tokens, self.output_bytes


class ModelTokens(StrictStruct, frozen=True):
    """The counts of one model, hour by hour, the newest first. `start` is that of the newest hour.

    Hours at the end of a list in which nothing was counted are left out.
    """

    model: Text
    start: Seconds
    calls: Hours = ()
    input_bytes: Hours = ()
    input_tokens: Hours = ()
    output_bytes: Hours = ()
    output_tokens: Hours = ()

    @property
    def hours(self) -> list[TokenCount]:
        """The counts of each hour, the newest first."""
        lists = (self.calls, self.input_bytes, self.input_tokens, self.output_bytes, self.output_tokens)
        longest = max(map(len, lists))
        padded = ((*one, *(0,) * (longest - len(one))) for one in lists)
        return [TokenCount(*hour) for hour in zip(*padded, strict=True)]


class TokenAlert(StrictStruct, frozen=True):
    """A model that reported other tokens per byte than on the day before, with both counts as they were then.

    `window_start` is the start of the budget's day: a model has at most one such alert a day.
    """

    model: Text
    direction: Direction
    window_start: Seconds
    hour_start: Seconds
    at: Seconds
    tokens: Count
    bytes: Count
    day_tokens: Count
    day_bytes: Count


def add_tokens(known: tuple[ModelTokens, ...], counted: Mapping[str, TokenCount], now: int) -> tuple[ModelTokens, ...]:
    """Return the counts of a ledger with those that a guard adds; of too many models, the last ones.

    Args:
        known: The counts of the ledger.
        counted: What is added, by the name of the model.
        now: Seconds since the epoch. A time before the newest hour of a model counts to that one.
    """
    by_name = {one.model: one for one in known}
    for model, count in counted.items():
        by_name[model] = _add(by_name.get(model), model, count, now - now % HOUR)
    last = sorted(by_name.values(), key=lambda one: one.start)[-MAX_TOKEN_MODELS:]
    return tuple(one for one in by_name.values() if one in last)


def find_token_alerts(
    known: Sequence[ModelTokens], raised: Sequence[TokenAlert], terms: TokenTerms, *, window_start: int, now: int
) -> Iterator[TokenAlert]:
    """Yield the alerts that are due: one for each model and day of the budget, and as many a day as a ledger keeps.

    Guards write the models, and one that an attacker has taken over could name ever new ones.

    Args:
        known: The counts of the ledger.
        raised: The alerts that it has.
        terms: What is compared, and how far it may differ.
        window_start: Start of the present day of the budget.
        now: Seconds since the epoch.
    """
    done = {one.model for one in raised if one.window_start == window_start}
    for one in known:
        hours = one.hours
        if one.model in done or not hours or len(done) >= MAX_TOKEN_ALERTS:
            continue
        newest, day = hours[0], TokenCount()
        for earlier in hours[1:]:
            day = day.plus(earlier)
        if min(newest.calls, day.calls) < terms.minimum_calls:
            continue
        for direction in get_args(Direction):
            (tokens, size), (day_tokens, day_size) = newest.of(direction), day.of(direction)
            if min(size, day_size) < LEAST_BYTES:
                continue
            # tokens / size against day_tokens / day_size, in integers
            if abs(tokens * day_size - day_tokens * size) * 100 > terms.change_percent * day_tokens * size:
                done.add(one.model)
                yield TokenAlert(one.model, direction, window_start, one.start, now, tokens, size, day_tokens, day_size)
                break


def per_kilobyte(tokens: int, size: int) -> str:
    """Return the tokens for 1000 bytes as a whole number for people; `size` is the number of bytes, not 0."""
    return f"{tokens * 1000 / size:.0f}"


def _add(known: ModelTokens | None, model: str, count: TokenCount, start: int) -> ModelTokens:
    if known is None or known.start > start + HOUR:  # no clock is so far behind: the hour was not written by a clock
        known = ModelTokens(model, start)
    passed = min(max(0, start - known.start) // HOUR, MAX_HOURS)
    newest, *earlier = [*[TokenCount()] * passed, *known.hours] or [TokenCount()]
    columns = zip(*[newest.plus(count), *earlier][:MAX_HOURS], strict=True)
    return ModelTokens(model, max(start, known.start), *map(_trim, columns))


def _trim(column: tuple[int, ...]) -> tuple[int, ...]:
    last = next((index for index in range(len(column), 0, -1) if column[index - 1]), 0)
    return column[:last]
