"""The compiled price book: for every model and usage what genai-prices says, and never less."""

import math
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from genai_prices import types
from genai_prices.data import providers

from interlock_contract.budget.price_book import BookEntry, BookHeader, BookProvider
from interlock_contract.budget.prices import (
    INPUT_CLASSES,
    OUTPUT_CLASSES,
    PER_UNITS,
    STANDARD,
    ModelPrice,
    ModelUsage,
    dearest,
    price_of,
)
from interlock_contract.strict_fields import dump_document, parse_document
from tests.requirements import requirement
from tools.prices import compiler
from tools.prices.__main__ import main
from tools.prices.compiler import INEXPRESSIBLE, PUBLISHED, CompileError, compile_book, compile_model
from tools.prices.rules import RuleUnknown, names_and_pattern

ROOT = Path(__file__).parents[3]
DAY = PUBLISHED[version("genai-prices")]
NANO = Decimal(10) ** 9
DEARER_BY_HOUR = {"deepseek-chat", "deepseek-flash", "deepseek-reasoner", "deepseek-v4-flash", "deepseek-v4-pro"}
"""Models whose price depends on the hour."""
DEARER_BY_CONTEXT = {
    model.id
    for one in providers
    for model in one.models
    for variant in model.price_variants or ()
    if not variant.when.keys() <= {"service_tier", "speed", "processing"}
}
"""Models whose price depends on what no answer names."""


@pytest.fixture(scope="module")
def entries() -> list[tuple[types.Provider, types.ModelInfo, BookEntry]]:
    """All models with their compiled entries."""
    return [(one, model, compile_model(model, DAY)) for one in providers for model in one.models]


def their_usage(usage: ModelUsage) -> types.Usage:
    """Return a usage as genai-prices counts it: a class includes its subclasses."""
    return types.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_input + usage.cached_audio + usage.cached_image,
        cache_write_tokens=usage.cache_write_5m + usage.cache_write_1h,
        cache_write_5m_tokens=usage.cache_write_5m,
        cache_write_1h_tokens=usage.cache_write_1h,
        input_audio_tokens=usage.input_audio + usage.cached_audio,
        cache_audio_read_tokens=usage.cached_audio,
        input_image_tokens=usage.input_image + usage.cached_image,
        cache_image_read_tokens=usage.cached_image,
        output_reasoning_tokens=usage.reasoning,
        output_citation_tokens=usage.citation,
        output_audio_tokens=usage.output_audio,
        output_image_tokens=usage.output_image,
        web_searches=usage.web_search,
        storage_searches=usage.file_search,
    )


def usages(drawn: random.Random, price: ModelPrice) -> Iterator[ModelUsage]:
    """Yield random usages: around each threshold of long input, and of every size."""
    outputs = OUTPUT_CLASSES if price.rows[0].output is not None else ()
    thresholds = sorted({row.above_input for row in price.rows} - {0})
    for total in (0, 1, drawn.randrange(1_000), drawn.randrange(10**6), *(t + d for t in thresholds for d in (0, 1))):
        cuts = sorted(drawn.randrange(total + 1) for _ in INPUT_CLASSES[1:])
        parts = [after - before for before, after in zip([0, *cuts], [*cuts, total], strict=True)]
        drawn.shuffle(parts)
        counts = dict(zip(INPUT_CLASSES, parts, strict=True))
        counts |= {name: drawn.choice([0, drawn.randrange(50_000)]) for name in outputs}  # type: ignore[misc]
        yield ModelUsage(**counts, web_search=drawn.randrange(3), file_search=drawn.randrange(3))  # type: ignore[arg-type]


def moments(price: ModelPrice) -> Iterator[datetime]:
    """Yield an hour of each period of a price, and each side of every later start."""
    yield datetime.combine(DAY, time(0), UTC)
    yield datetime.combine(DAY, time(14, 29), UTC)
    for start in {row.starts for row in price.rows} - {0}:
        yield datetime.fromtimestamp(start, UTC)
        yield datetime.fromtimestamp(start - 1, UTC)


def context_of(tier: str, model: types.ModelInfo) -> dict[str, str]:
    """Return what selects a tier in genai-prices."""
    whens = [variant.when for variant in model.price_variants or () if tier in variant.when.values()]
    return whens[0] if whens else {}


def theirs(model: types.ModelInfo, usage: ModelUsage, at: datetime, context: dict[str, str]) -> Decimal:
    price: Decimal = model.get_prices(at, context).calc_price(their_usage(usage))["total_price"]
    return price * NANO


def compare(entries: Any, drawn: random.Random, rounds: int) -> tuple[int, set[str]]:
    """Compare all prices; return how many comparisons were made, and the models that are dearer than the original."""
    made, dearer = 0, set()
    for _, model, entry in entries:
        if entry.price is None:
            continue
        for _ in range(rounds):
            for usage in usages(drawn, entry.price):
                at = drawn.choice(list(moments(entry.price)))
                tier = drawn.choice(sorted(entry.price.tiers(at.timestamp())))
                ours = price_of(entry.price, usage, at=at.timestamp(), tier=tier)
                exact = theirs(model, usage, at, context_of(tier, model))
                made += 1
                assert ours >= exact, (model.id, tier, usage, at)
                if ours > math.ceil(exact):
                    dearer.add(model.id)
    return made, dearer


@requirement("budget.prices")
def test_every_model_and_usage_costs_what_genai_prices_says(entries: Any) -> None:
    made, dearer = compare(entries, random.Random(19), rounds=1)  # noqa: S311 - the same examples in each run
    assert made > 8_000
    assert dearer <= DEARER_BY_HOUR | DEARER_BY_CONTEXT | fractions(entries)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_many_usages_cost_what_genai_prices_says(entries: Any) -> None:
    made, dearer = compare(entries, random.Random(), rounds=10)  # noqa: S311 - other examples each night
    assert made > 80_000
    assert dearer <= DEARER_BY_HOUR | DEARER_BY_CONTEXT | fractions(entries)


def fractions(entries: Any) -> set[str]:
    """Return the models with a rate that is no whole number of nano-dollars for a million tokens."""
    found = set()
    for _, model, _ in entries:
        prices = [one.prices for one in model.prices] if isinstance(model.prices, list) else [model.prices]
        for price in [*prices, *(variant.prices for variant in model.price_variants or ())]:
            for value in vars(price).values():
                tiered = isinstance(value, types.TieredPrices)
                amounts = [value.base, *(tier.price for tier in value.tiers)] if tiered else [value]
                if any(amount is not None and amount * NANO % 1 for amount in amounts):
                    found.add(model.id)
    return found


def test_a_rate_that_is_no_whole_nano_dollar_is_dearer_by_less_than_one(entries: Any) -> None:
    usage = ModelUsage(input=1_000_000, cache_write_5m=1_000_000, output=1_000_000)
    rounded = fractions(entries) - DEARER_BY_HOUR
    found = [(model, entry) for _, model, entry in entries if model.id in rounded and entry.price is not None]
    assert found
    for model, entry in found:
        at = datetime.combine(DAY, time(0), UTC)
        exact = theirs(model, usage, at, {})
        assert exact <= price_of(entry.price, usage, at=at.timestamp()) < exact + 4, model.id


@pytest.mark.parametrize("hour", range(24))
def test_a_price_that_depends_on_the_hour_is_that_of_the_dearest(entries: Any, hour: int) -> None:
    usage = ModelUsage(input=1_000_000, cached_input=1_000_000, output=1_000_000)
    found = [(model, entry) for _, model, entry in entries if model.id in DEARER_BY_HOUR]
    assert len(found) >= len(DEARER_BY_HOUR)
    for model, entry in found:
        at = datetime.combine(DAY, time(hour), UTC)
        assert price_of(entry.price, usage, at=at.timestamp()) >= theirs(model, usage, at, {}), model.id


@requirement("budget.prices")
def test_no_usage_costs_more_than_the_dearest_rates_of_its_sizes(entries: Any) -> None:
    drawn = random.Random(19)  # noqa: S311 - the same examples in each run
    for _, model, entry in entries:
        if entry.price is None:
            continue
        for usage in usages(drawn, entry.price):
            at = drawn.choice(list(moments(entry.price))).timestamp()
            tier = drawn.choice([*sorted(entry.price.tiers(at)), "brand-new"])
            rates = dearest(
                entry.price, at=at, input_tokens=usage.input_tokens + drawn.choice([0, 10**6]), tiers=(tier, STANDARD)
            )
            worst = usage.input_tokens * rates.input + usage.output_tokens * (rates.output or 0)
            worst += usage.web_search * rates.web_search + usage.file_search * rates.file_search
            cost = price_of(entry.price, usage, at=at, tier=tier)
            assert cost <= -(-worst // PER_UNITS) + rates.request, (model.id, usage, tier)


def test_only_named_reasons_leave_a_model_without_a_price(entries: Any) -> None:
    reasons = {entry.unpriced for _, _, entry in entries if entry.price is None}
    assert reasons <= {*INEXPRESSIBLE.values(), "it has no price of input tokens"}
    assert all((entry.price is None) != (entry.unpriced is None) for _, _, entry in entries)


def test_models_without_a_price_are_few_and_none_of_them_chats(entries: Any) -> None:
    known = [(one.id, entry) for one, _, entry in entries if one.id in {"openai", "anthropic", "google", "mistral"}]
    without = {f"{provider}/{entry.id}" for provider, entry in known if entry.price is None}
    assert len(known) > 250
    assert not [name for name in without if name.startswith(("openai/gpt-4", "openai/gpt-5", "anthropic/"))]


def test_every_compiled_price_is_one_that_a_guard_reads(entries: Any) -> None:
    for _, _, entry in entries:
        if entry.price is not None:
            assert parse_document(dump_document(entry.price), ModelPrice, 1, key="schemaVersion") == entry.price


def test_every_rule_for_names_fits_the_same_names(entries: Any) -> None:
    drawn = random.Random(19)  # noqa: S311 - the same examples in each run
    for one in providers:
        listed = [entry for provider, _, entry in entries if provider is one]
        names = {name for entry in listed for name in (*entry.names, entry.id.lower())}
        ends = ("", "-2025-08-07", "-20250807", "-tts", "@001", "x")
        tried = drawn.sample([f"{name}{end}" for name in sorted(names) for end in ends], k=min(300, len(names)))
        for model, entry in zip(one.models, listed, strict=True):
            assert [name for name in tried if entry.fits(name) != model.is_match(name)] == [], (one.id, entry.id)


def test_inference_in_the_us_costs_a_tenth_more_at_anthropic() -> None:
    anthropic = compiler.compile_provider(next(one for one in providers if one.id == "anthropic"), DAY)
    prices = [entry.price for entry in anthropic.entries if entry.price is not None]
    for price in prices:
        us = price_of(price, ModelUsage(input=1_000_000, output=1_000_000), at=0, tier="us")
        assert us * 100 == price_of(price, ModelUsage(input=1_000_000, output=1_000_000), at=0) * 110
    assert any({"fast", "fast-us"} <= price.tiers(0) for price in prices)


def model_with(prices: Any, variants: list[types.PriceVariant] | None = None) -> types.ModelInfo:
    return types.ModelInfo(id="m", match=types.ClauseEquals("m"), prices=prices, price_variants=variants)


DOLLAR = types.ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(2))


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"audio_hours": Decimal(1)}, "hours of audio"),
        ({"input_mchars": Decimal(1)}, "characters"),
        ({"input_video_mtok": Decimal(1)}, "video"),
        ({"output_smell_mtok": Decimal(1)}, "a price of output_smell_mtok, which no row can express"),
        ({"input_mtok": None}, "no price of input tokens"),
        ({"input_mtok": Decimal(10**10)}, "out of bounds"),
        ({"input_mtok": types.TieredPrices(Decimal(1), [types.Tier(0, Decimal(2))])}, "changes at 0 input tokens"),
    ],
)
def test_a_price_that_no_row_can_express_is_none(extra: dict[str, Any], reason: str) -> None:
    entry = compile_model(model_with(types.ModelPrice(**(vars(DOLLAR) | extra))), DAY)
    assert entry.price is None
    assert reason in str(entry.unpriced)


def test_a_price_that_depends_on_something_unknown_stops_the_build() -> None:
    variant = types.PriceVariant({"moon": "full"}, types.ModelPrice(input_mtok=Decimal(5)))
    with pytest.raises(CompileError, match="m: the price depends on moon"):
        compile_model(model_with(DOLLAR, [variant]), DAY)


def test_a_rule_of_an_unknown_kind_stops_the_build() -> None:
    with pytest.raises(RuleUnknown):
        names_and_pattern("starts with a")


def test_what_the_answer_does_not_name_costs_the_dearest() -> None:
    dearer = types.PriceVariant({"route": "eu"}, types.ModelPrice(input_mtok=Decimal(3)))
    cheaper = types.PriceVariant({"processing": "batch"}, types.ModelPrice(output_mtok=Decimal(1)))
    price = compile_model(model_with(DOLLAR, [dearer, cheaper]), DAY).price
    assert price is not None
    assert [(row.tier, row.input, row.output) for row in price.rows] == [(STANDARD, 3 * 10**9, 2 * 10**9)]


def test_a_price_that_starts_later_has_rows_with_its_start_and_past_prices_have_none() -> None:
    later = DAY + timedelta(days=20)
    prices = [
        types.ConditionalPrice(prices=replace_input(9)),
        types.ConditionalPrice(types.StartDateConstraint(DAY - timedelta(days=1)), prices=replace_input(1)),
        types.ConditionalPrice(types.StartDateConstraint(later), prices=replace_input(4)),
    ]
    price = compile_model(model_with(prices), DAY).price
    assert price is not None
    starts = int(datetime.combine(later, time(0), UTC).timestamp())
    assert [(row.starts, row.input) for row in price.rows] == [(0, 10**9), (starts, 4 * 10**9)]


def replace_input(dollars: int) -> types.ModelPrice:
    return types.ModelPrice(input_mtok=Decimal(dollars), output_mtok=Decimal(2))


def test_the_book_is_the_same_in_each_build_and_has_the_date_of_its_source(tmp_path: Path) -> None:
    assert main([str(tmp_path / "prices.json")]) == 0
    written = (tmp_path / "prices.json").read_bytes()
    assert written == compile_book(providers)
    book = msgspec.json.decode(written, type=BookHeader)
    assert book.timestamp == datetime.combine(DAY, time(0), UTC).timestamp()
    assert book.source == f"genai-prices {version('genai-prices')}"
    read = [msgspec.json.decode(one, type=BookProvider) for one in book.providers]
    assert [one.id for one in read] == [one.id for one in providers]
    assert [path.name for path in tmp_path.iterdir()] == ["prices.json"]


def test_a_version_without_a_date_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(compiler, "PUBLISHED", {"0.0.1": date(2026, 1, 1)})
    assert main([str(tmp_path / "prices.json")]) == 1
    assert "add the day of its publication" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_image_the_tests_and_the_book_use_one_version() -> None:
    pins = [(ROOT / "requirements" / name).read_text(encoding="utf-8") for name in ("prices.txt", "dev.txt")]
    assert all(f"genai-prices=={version('genai-prices')} " in text for text in pins)
