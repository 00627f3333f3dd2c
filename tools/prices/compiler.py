"""The compiler of the price book: genai-prices' decimal prices as rows of integers, none cheaper than the original.

What a row cannot express is either priced dearer, as `DEARER` says, or has no price, as `INEXPRESSIBLE` says. A model
without a price is refused until the policy has one for it.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from typing import Any, Final

import msgspec
from genai_prices import types
from genai_prices.units import _get_registry

from interlock_contract.budget.price_book import (
    BOOK_FORMAT,
    BookEntry,
    BookHeader,
    BookProvider,
    BookRegion,
    raise_price,
)
from interlock_contract.budget.prices import MAX_RATE, MAX_ROWS, PER_UNITS, STANDARD, ModelPrice, PriceRow
from tools.prices.rules import names_and_pattern

PACKAGE: Final = "genai-prices"
PUBLISHED: Final[Mapping[str, date]] = {"0.2.3": date(2026, 11, 10)}
"""The day on which the pinned version was published: the date of the book. A build must not depend on its own day."""

CLASSES: Final[Mapping[str, str]] = {
    "input_mtok": "input",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "cache_audio_read_mtok": "cached_audio",
    "input_image_mtok": "input_image",
    "cache_image_read_mtok": "cached_image",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_citation_mtok": "citation",
    "output_audio_mtok": "output_audio",
    "output_image_mtok": "output_image",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
    "requests_kcount": "request",
}
"""The rate of a row by genai-prices' name for it."""

INEXPRESSIBLE: Final[Mapping[str, str]] = {
    "audio_hours": "it is priced by hours of audio, which no answer of a permitted endpoint counts",
    "input_audio_hours": "it is priced by hours of audio, which no answer of a permitted endpoint counts",
    "input_mchars": "it is priced by characters, which no answer of a permitted endpoint counts",
    "input_text_messages_kcount": "it is priced by messages, which no answer of a permitted endpoint counts",
    "input_document_kpages": "it is priced by pages, which no answer of a permitted endpoint counts",
    "input_annotated_document_kpages": "it is priced by pages, which no answer of a permitted endpoint counts",
    "input_video_mtok": "it has a price of video, whose tokens no answer of a permitted endpoint counts apart",
    "output_video_mtok": "it has a price of video, whose tokens no answer of a permitted endpoint counts apart",
}
"""Prices that leave a model without a price, each with the reason. So does any price that is in neither table."""

TIERS: Final = ("service_tier", "speed")
"""What selects a service tier in genai-prices. OpenAI's tier `default` is the standard."""

DEARER: Final[Mapping[str, str]] = {
    "time of day": "the dearest hour of the day counts, because a provider's clock decides on the price",
    "processing": "batches do not pass the guard, so the standard price counts",
    "route": "the answer does not name the route, so the dearest counts",
    "search_type": "the answer does not name the kind of search, so the dearest counts",
}
"""What a row cannot tell apart, each with the reason for the dearer price."""

REGIONS: Final[Mapping[str, tuple[BookRegion, ...]]] = {
    # https://developers.openai.com/api/docs/guides/your-data: 10 % for newer models. Here it counts for all of them.
    "openai": (BookRegion(url=r"https://[a-z]{2}\.api\.openai\.com(?=[:/]|$)", percent=110),),
    # https://cloud.google.com/vertex-ai/generative-ai/pricing: 10 % for regional and multi-region endpoints.
    "google": (
        BookRegion(url=r"https://[^/]*-aiplatform\.googleapis\.com(?=[:/]|$)", percent=110),
        BookRegion(url=r"https://[^/]*\.rep\.googleapis\.com(?=[:/]|$)", percent=110),
    ),
}
"""Endpoints that cost more than genai-prices says, by provider."""

US_TIERS: Final[Mapping[str, str]] = {STANDARD: "us", "fast": "fast-us"}
"""Anthropic's tiers with `inference_geo: us`, by the tier without it; not in genai-prices."""
US_PERCENT: Final = 110
"""https://platform.claude.com/docs/en/manage-claude/data-residency: 1.1 times the price of all tokens."""

_LITERAL_URL: Final = re.compile(r"https://(?:\w+\\\.)*(\w+)\\\.(\w+)(?:\(\?:/\|\$\))?")
_CONTEXTS: Final = frozenset({*TIERS, *DEARER})
_Context = Mapping[str, str]


class CompileError(ValueError):
    """genai-prices has something that the compiler must be taught first."""


class _Unpriced(ValueError):  # noqa: N818 - an answer, not a failure
    """A model has a price that no row can express; the message is the reason."""


def compile_book(providers: Sequence[types.Provider]) -> bytes:
    """Return the book as it stands in the file, the same bytes for the same version of genai-prices.

    Raises:
        CompileError: The version has no date in `PUBLISHED`, or a price depends on something unknown.
    """
    found = version(PACKAGE)
    if found not in PUBLISHED:
        raise CompileError(f"{PACKAGE} {found} has no date in tools/prices/compiler.py: add the day of its publication")
    day = PUBLISHED[found]
    book = BookHeader(
        format=BOOK_FORMAT,
        source=f"{PACKAGE} {found}",
        timestamp=_midnight(day),
        providers=tuple(msgspec.Raw(msgspec.json.encode(compile_provider(one, day))) for one in providers),
    )
    return msgspec.json.encode(book) + b"\n"


def compile_provider(provider: types.Provider, day: date) -> BookProvider:
    """Return a provider with all its models, in the order in which their names are tried."""
    entries = [compile_model(model, day) for model in provider.models]
    if provider.id == "anthropic":
        entries = [_with_us_tiers(entry) for entry in entries]
    literal = _LITERAL_URL.fullmatch(provider.api_pattern)
    return BookProvider(
        id=provider.id,
        url=provider.api_pattern,
        entries=tuple(entries),
        fallbacks=tuple(provider.fallback_model_providers or ()),
        regions=REGIONS.get(provider.id, ()),
        domain=None if literal is None else ".".join(literal.groups()),
    )


def compile_model(model: types.ModelInfo, day: date) -> BookEntry:
    """Return a model with its price on a day and all prices that start later, or the reason for having none.

    Raises:
        CompileError: A price depends on something unknown.
    """
    names, pattern = names_and_pattern(model.match)
    try:
        price = ModelPrice(rows=_rows(model, day), context_window=model.context_window or None)
    except _Unpriced as reason:
        return BookEntry(id=model.id, names=names, pattern=pattern, unpriced=str(reason))
    return BookEntry(id=model.id, names=names, pattern=pattern, price=price)


def _with_us_tiers(entry: BookEntry) -> BookEntry:
    """Return an entry of Anthropic with the tiers for inference in the US alone."""
    if entry.price is None:
        return entry
    rows = entry.price.rows
    more = [
        msgspec.structs.replace(raise_price(row, US_PERCENT), tier=US_TIERS[row.tier])
        for row in rows
        if row.tier in US_TIERS
    ]
    return msgspec.structs.replace(entry, price=msgspec.structs.replace(entry.price, rows=(*rows, *more)))


def _rows(model: types.ModelInfo, day: date) -> tuple[PriceRow, ...]:
    """Return the rows of a model, those of the first period with `starts` 0."""
    rows: list[PriceRow] = []
    before: list[PriceRow] = []
    for start in [day, *sorted(later for later in _starts(model) if later > day)]:
        period = _period(model, start)
        if period != before:
            starts = 0 if start == day else _midnight(start)
            rows += [msgspec.structs.replace(row, starts=starts) for row in period]
        before = period
    if len(rows) > MAX_ROWS:
        raise _Unpriced(f"its price has more than {MAX_ROWS} rows")
    return tuple(rows)


def _period(model: types.ModelInfo, start: date) -> list[PriceRow]:
    """Return the rows of a model for the period that begins with a day, with `starts` 0."""
    tiers: dict[str, list[_Context]] = {STANDARD: [{}]}
    for variant in model.price_variants or ():
        if unknown := variant.when.keys() - _CONTEXTS:
            raise CompileError(f"{model.id}: the price depends on {', '.join(unknown)}, which is in no table")
        selected = {variant.when[key] for key in variant.when.keys() & set(TIERS)} - {"default"}
        tiers.setdefault(selected.pop() if len(selected) == 1 else STANDARD, []).append(variant.when)
    hours = _hours(model)
    prices = {
        tier: [model.get_prices(datetime.combine(start, hour, UTC), when) for when in contexts for hour in hours]
        for tier, contexts in tiers.items()
    }
    thresholds = sorted({0, *(above for price in itertools.chain(*prices.values()) for above in _thresholds(price))})
    rows: list[PriceRow] = []
    for tier, alternatives in prices.items():
        before: PriceRow | None = None
        for above in thresholds:
            row = _dearest([_row(price, above) for price in alternatives], tier)
            if row != before:
                rows.append(msgspec.structs.replace(row, above_input=above))
            before = row
    standard = [row for row in rows if row.tier == STANDARD]
    return standard + [row for row in rows if row.tier != STANDARD]


def _row(price: types.ModelPrice, above: int) -> PriceRow:
    """Return a price as a row for input of more than `above` tokens, or of any size for 0.

    Raises:
        _Unpriced: No row can express it.
    """
    rates: dict[str, int] = {}
    for key, value in _priced(price):
        if key not in CLASSES:
            raise _Unpriced(INEXPRESSIBLE.get(key, f"it has a price of {key}, which no row can express"))
        rates[CLASSES[key]] = _rate(key, value, above)
    if "input" not in rates:
        raise _Unpriced("it has no price of input tokens")
    return PriceRow(**rates)  # type: ignore[arg-type]


def _rate(key: str, value: Any, above: int) -> int:
    """Return the nano-dollars for a million units, or for one request, rounded up."""
    amount: Decimal = value
    if isinstance(value, types.TieredPrices):
        # Without a threshold below the first one, genai-prices compares with 0 tokens: see calc_unit_price.
        amount = next((tier.price for tier in reversed(value.tiers) if above >= tier.start and above), value.base)
    units = 1 if CLASSES[key] == "request" else PER_UNITS
    scaled = amount * 10**9 * units / _get_registry().unit_for_price_key(key).per
    rate = int(scaled) + (scaled != int(scaled))
    if not 0 <= rate <= MAX_RATE:
        raise _Unpriced(f"its price of {key} is out of bounds")
    return rate


def _dearest(rows: Sequence[PriceRow], tier: str) -> PriceRow:
    """Return one row of a tier with the dearest rate of each class."""
    if len({row.output is None for row in rows}) > 1:
        raise _Unpriced("it has a price of output tokens at some times only")
    own = [name for name in CLASSES.values() if any(getattr(row, name) is not None for row in rows)]
    rates = {name: max(row.rate(name) for row in rows) for name in own}
    return PriceRow(**rates, tier=tier)


def _priced(price: types.ModelPrice) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in vars(price).items() if value is not None)


def _thresholds(price: types.ModelPrice) -> Iterator[int]:
    """Yield the numbers of input tokens above which another price holds."""
    for _, value in _priced(price):
        for tier in value.tiers if isinstance(value, types.TieredPrices) else ():
            if tier.start == 0:
                raise _Unpriced("its price changes at 0 input tokens")
            yield tier.start


def _constraints(model: types.ModelInfo) -> Iterable[Any]:
    prices = model.prices if isinstance(model.prices, list) else []
    return (one.constraint for one in [*prices, *(model.price_variants or ())] if one.constraint is not None)


def _starts(model: types.ModelInfo) -> set[date]:
    """Return the days on which a price starts."""
    return {one.start_date for one in _constraints(model) if isinstance(one, types.StartDateConstraint)}


def _hours(model: types.ModelInfo) -> list[time]:
    """Return one time of day for each price of a day."""
    daily = [one for one in _constraints(model) if isinstance(one, types.TimeOfDateConstraint)]
    return [time(0), *(moment.replace(tzinfo=None) for one in daily for moment in (one.start_time, one.end_time))]


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(0), UTC).timestamp())
