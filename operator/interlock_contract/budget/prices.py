"""The prices of a language model, and what a call costs. No I/O, integers only.

A price is a list of rows, as a provider's price list is. One row is in force for a call: by when the call began, by its
service tier, and by the number of its input tokens. A row prices classes of tokens that do not overlap.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from interlock_contract.budget.money import Nanos
from interlock_contract.strict_fields import StrictStruct, like

PER_UNITS: Final = 1_000_000
"""How many tokens or searches each rate is for."""
MAX_RATE: Final = 2**53 - 1
"""Largest rate in nano-dollars for a million units: 9 dollars a token."""
MAX_ROWS: Final = 64
MAX_ALIASES: Final = 64
STANDARD: Final = "standard"
"""The service tier of a call for which neither the body nor the answer names another."""

Rate = Annotated[int, Meta(ge=0, le=MAX_RATE)]
"""Nano-dollars for a million units: a dollar for a million tokens is 1_000_000_000."""
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Tier = Annotated[str, like(r"[a-z0-9]([-a-z0-9_]{0,30}[a-z0-9])?", "the name of a service tier")]
Alias = Annotated[str, Meta(min_length=1, max_length=192)]
_DATE: Final = re.compile(r"[-@]20[0-9]{2}(-?)(0[1-9]|1[0-2])\1(0[1-9]|[12][0-9]|3[01])")
"""The end of the name of a model that is pinned to a day."""

InputClass = Literal[
    "input",
    "cached_input",
    "cache_write_5m",
    "cache_write_1h",
    "input_audio",
    "cached_audio",
    "input_image",
    "cached_image",
]
OutputClass = Literal["output", "reasoning", "citation", "output_audio", "output_image"]

INPUT_CLASSES: Final[tuple[InputClass, ...]] = (
    *("input", "cached_input", "cache_write_5m", "cache_write_1h"),
    *("input_audio", "cached_audio", "input_image", "cached_image"),
)
OUTPUT_CLASSES: Final[tuple[OutputClass, ...]] = ("output", "reasoning", "citation", "output_audio", "output_image")
_USED: Final = (*INPUT_CLASSES, *OUTPUT_CLASSES, "web_search", "file_search")
_inputs_of: Final = attrgetter(*INPUT_CLASSES)
_outputs_of: Final = attrgetter(*OUTPUT_CLASSES)
_counts_of: Final = attrgetter(*_USED)
_BROADER: Final[dict[str, tuple[str, ...]]] = {
    "cached_input": ("input",),
    "cache_write_5m": ("input",),
    "cache_write_1h": ("cache_write_5m",),
    "input_audio": ("input",),
    "cached_audio": ("cached_input", "input_audio"),
    "input_image": ("input",),
    "cached_image": ("cached_input", "input_image"),
    "reasoning": ("output",),
    "citation": ("output",),
    "output_audio": ("output",),
    "output_image": ("output",),
}
"""The classes that include a class of tokens."""


class PriceUnknown(ValueError):  # noqa: N818 - says what is missing, as the guard's denial is named
    """A usage has tokens for which the price has no rate; the message names the class."""


class PriceRow(StrictStruct, frozen=True):
    """Rates in nano-dollars for a million tokens, and the calls that they are for.

    A row is for calls that began at `starts` (seconds since 1970) or later, of the service tier `tier`, whose input
    has more than `above_input` tokens, all classes of input together. Among the rows that fit, the latest `starts`
    counts, then the highest `above_input`. A row prices all tokens of a call, not only those above the threshold.

    A class without a rate of its own has that of a broader class: see `rate`. Only `output` may be absent for good,
    in the price of a model that answers without tokens, such as one for embeddings. `web_search` and `file_search` are
    nano-dollars for a million searches. `request` is the nano-dollars of each call. Without them it costs nothing.
    """

    input: Rate
    output: Rate | None = None
    cached_input: Rate | None = None
    cache_write_5m: Rate | None = msgspec.field(default=None, name="cacheWrite5m")
    cache_write_1h: Rate | None = msgspec.field(default=None, name="cacheWrite1h")
    input_audio: Rate | None = None
    cached_audio: Rate | None = None
    input_image: Rate | None = None
    cached_image: Rate | None = None
    reasoning: Rate | None = None
    citation: Rate | None = None
    output_audio: Rate | None = None
    output_image: Rate | None = None
    web_search: Rate = 0
    file_search: Rate = 0
    request: Nanos = 0
    starts: Count = 0
    tier: Tier = STANDARD
    above_input: Count = 0

    def rate(self, name: str) -> int:
        """Return the rate of a class of tokens or of searches.

        A class without a rate has that of the class which includes it. Where two classes include it, such as cached
        audio, the dearer counts.

        Raises:
            PriceUnknown: The row has no rate for tokens of output.
        """
        own: int | None = getattr(self, name)
        if own is not None:
            return own
        broader = _BROADER.get(name)
        if broader is None:
            raise PriceUnknown(f"the price has no rate for {name} tokens")
        if len(broader) == 1:
            return self.rate(broader[0])
        # Cached audio is audio, and it is cached. Where only one of the two has a rate, the other is no candidate.
        priced = [part for part in broader if getattr(self, part) is not None]
        return max(self.rate(part) for part in priced or broader)


class ModelPrice(StrictStruct, frozen=True):
    """All rows of a model's price, the most input tokens that the model takes, and the names that it answers by.

    `context_window` is absent where it is not known. `aliases` are other names of models with this very price, in
    lower case. If `dated`, a name with a date at its end is the same model too, as `gpt-5-mini-2025-08-07` is
    `gpt-5-mini`. If `covers_searches`, the model searches by itself, and `request` is the most that a call costs
    besides its prompt and the limit of its output, as an administrator has stated it.
    """

    rows: Annotated[tuple[PriceRow, ...], Meta(min_length=1, max_length=MAX_ROWS)]
    context_window: Annotated[int, Meta(ge=1, le=2**53 - 1)] | None = None
    aliases: Annotated[tuple[Alias, ...], Meta(max_length=MAX_ALIASES)] = ()
    dated: bool = False
    covers_searches: bool = False

    def check(self) -> None:
        """Refuse rows among which a call could have none, or two."""
        keys = [(row.starts, row.tier, row.above_input) for row in self.rows]
        for index, (starts, tier, above) in enumerate(keys):
            if (starts, tier, above) in keys[:index]:
                raise ValueError(f".rows[{index}]: is for the same calls as an earlier row")
            if above and (starts, tier, 0) not in keys:
                raise ValueError(f".rows[{index}]: there is no row of the same start and tier without aboveInput")
            if tier != STANDARD and (starts, STANDARD, 0) not in keys:
                raise ValueError(f".rows[{index}]: there is no row of the same start for the tier {STANDARD}")
        if (0, STANDARD, 0) not in keys:
            raise ValueError(f".rows: must have one without starts, tier and aboveInput, for the tier {STANDARD}")

    def is_price_of(self, asked: str, answered: str) -> bool:
        """Return True if the model that an answer names has the price of the model that was asked.

        Args:
            asked: The name of the model that this price was found for.
            answered: The name in the answer.
        """
        asked, answered = asked.lower(), answered.lower()
        if answered == asked or answered in self.aliases:
            return True
        return self.dated and is_dated(asked, answered)

    def in_force(self, at: float) -> list[PriceRow]:
        """Return the rows of all tiers that are for calls which began at `at`, in seconds since 1970."""
        starts = max(row.starts for row in self.rows if row.starts <= max(at, 0))
        return [row for row in self.rows if row.starts == starts]

    def tiers(self, at: float) -> frozenset[str]:
        """Return the service tiers that have a price at `at`, in seconds since 1970."""
        return frozenset(row.tier for row in self.in_force(at))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage:
    """What one call used, as the provider counted it. No token is in two classes.

    `input` are text tokens that were neither read from the provider's cache nor written to it. `output` are text
    tokens without reasoning and citations. `reasoning` tokens are those that the provider bills besides `output`.
    """

    input: int = 0
    cached_input: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    input_audio: int = 0
    cached_audio: int = 0
    input_image: int = 0
    cached_image: int = 0
    output: int = 0
    reasoning: int = 0
    citation: int = 0
    output_audio: int = 0
    output_image: int = 0
    web_search: int = 0
    file_search: int = 0

    def __post_init__(self) -> None:
        """Refuse a negative count.

        Raises:
            ValueError: A count is negative. Such a usage must never lower what a call costs.
        """
        for name, count in zip(_USED, _counts_of(self), strict=True):
            if count < 0:
                raise ValueError(f"a usage has a negative count of {name}")

    @property
    def input_tokens(self) -> int:
        """All tokens of input, which decide on the price for long input."""
        return sum(_inputs_of(self))

    @property
    def output_tokens(self) -> int:
        """All tokens of output."""
        return sum(_outputs_of(self))


class Dearest(NamedTuple):
    """The highest rates that a call may come to, in nano-dollars for a million units, `request` for the call.

    `output` is None where the model has no price of output.
    """

    input: int
    output: int | None
    web_search: int
    file_search: int
    request: int


def is_dated(name: str, other: str) -> bool:
    """Return True if `other` is `name` with a date at its end, both in lower case."""
    return other.startswith(name) and _DATE.fullmatch(other, len(name)) is not None


def price_of(price: ModelPrice, usage: ModelUsage, *, at: float, tier: str = STANDARD) -> int:
    """Return what a call costs in nano-dollars, rounded up once.

    Args:
        price: The price of the model that answered.
        usage: What the answer says.
        at: When the call began, in seconds since 1970.
        tier: The service tier that served the call. A tier that the price does not know (`ModelPrice.tiers`) is priced
            as the dearest of all tiers.

    Raises:
        PriceUnknown: The usage has output, and the price has no rate for it.
    """
    rows = price.in_force(at)
    tiers = {row.tier for row in rows}
    tokens = usage.input_tokens
    costs = []
    for name in [tier] if tier in tiers else tiers:
        fitting = [row for row in rows if row.tier == name and (row.above_input == 0 or tokens > row.above_input)]
        costs.append(_cost(max(fitting, key=lambda row: row.above_input), usage))
    return -(-max(costs) // PER_UNITS)


def dearest(
    price: ModelPrice,
    *,
    at: float,
    input_tokens: int,
    tiers: Collection[str] | None = None,
    input_classes: Iterable[InputClass] = INPUT_CLASSES,
    output_classes: Iterable[OutputClass] = OUTPUT_CLASSES,
) -> Dearest:
    """Return the highest rates that a call may come to, for its worst case.

    Args:
        price: The price of the model that is asked.
        at: When the call begins, in seconds since 1970.
        input_tokens: The most tokens of input that the call can have. Rows for longer input do not count.
        tiers: The service tiers that may serve the call. None is every tier, and so is a tier without a price.
        input_classes: The classes of input that the body allows.
        output_classes: The classes of output that the body allows.
    """
    rows = [row for row in price.in_force(at) if row.above_input == 0 or input_tokens > row.above_input]
    if tiers is not None and {row.tier for row in rows}.issuperset(tiers):
        rows = [row for row in rows if row.tier in tiers]
    inputs, outputs = list(input_classes), list(output_classes)
    has_output = all(row.output is not None for row in rows)
    return Dearest(
        input=max(row.rate(name) for row in rows for name in inputs),
        output=max(row.rate(name) for row in rows for name in outputs) if has_output else None,
        web_search=max(row.web_search for row in rows),
        file_search=max(row.file_search for row in rows),
        request=max(row.request for row in rows),
    )


def _cost(row: PriceRow, usage: ModelUsage) -> int:
    """Return the cost of a call by one row, in nano-dollars times PER_UNITS."""
    cost = row.request * PER_UNITS
    for name, count in zip(_USED, _counts_of(usage), strict=True):
        if count:
            cost += row.rate(name) * count
    return cost
