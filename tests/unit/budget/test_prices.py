"""What a call costs by the rows of a model's price, and the highest rates that it may come to."""

import msgspec
import pytest

from interlock_contract.budget.prices import (
    MAX_RATE,
    ModelPrice,
    ModelUsage,
    PriceRow,
    PriceUnknown,
    dearest,
    price_of,
)
from interlock_contract.http_target import HttpTarget
from interlock_contract.model_access import Model, ModelAccess, Provider
from interlock_contract.strict_fields import BundleInvalid, dump_document, parse_document

DOLLAR = 1_000_000_000
NOW = 1_800_000_000
CHAT = ModelPrice(rows=(PriceRow(input=2 * DOLLAR, output=8 * DOLLAR, cached_input=DOLLAR // 2),))


def read(price: ModelPrice) -> ModelPrice:
    """Write a price as the bundle has it, and read it again."""
    return parse_document(dump_document(price), ModelPrice, 1, key="schemaVersion")


def test_each_class_of_tokens_has_its_own_rate() -> None:
    usage = ModelUsage(input=1_000_000, cached_input=1_000_000, output=1_000_000)
    assert price_of(CHAT, usage, at=NOW) == 10 * DOLLAR + DOLLAR // 2


def test_a_call_is_rounded_up_once() -> None:
    price = ModelPrice(rows=(PriceRow(input=400_000, output=400_000),))
    assert (
        price_of(price, ModelUsage(input=1, output=1), at=NOW) == 1
    )  # 0.8 nano-dollars; each rounded alone would be 2
    assert price_of(price, ModelUsage(input=1, output=2), at=NOW) == 2
    assert price_of(price, ModelUsage(), at=NOW) == 0


def test_a_declared_zero_is_a_price() -> None:
    assert price_of(ModelPrice(rows=(PriceRow(input=0, output=0),)), ModelUsage(input=10**9, output=10**9), at=NOW) == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("cached_input", 1), ("cache_write_5m", 5), ("cache_write_1h", 5), ("input_audio", 7), ("input_image", 2)),
        *(("cached_audio", 7), ("cached_image", 1), ("reasoning", 8), ("citation", 8), ("output_audio", 8)),
    ],
)
def test_a_class_without_a_rate_has_the_one_of_the_class_that_includes_it(name: str, expected: int) -> None:
    row = PriceRow(input=2, output=8, cached_input=1, cache_write_5m=5, input_audio=7)
    assert row.rate(name) == expected


def test_cached_audio_without_cached_text_is_priced_as_audio() -> None:
    assert PriceRow(input=2, output=8, input_audio=1).rate("cached_audio") == 1
    assert PriceRow(input=2, output=8).rate("cached_audio") == 2


def test_output_without_a_rate_is_refused() -> None:
    embedding = ModelPrice(rows=(PriceRow(input=DOLLAR),))
    assert price_of(embedding, ModelUsage(input=1_000_000), at=NOW) == DOLLAR
    for usage in (ModelUsage(output=1), ModelUsage(reasoning=1), ModelUsage(output_audio=1)):
        with pytest.raises(PriceUnknown):
            price_of(embedding, usage, at=NOW)
    assert dearest(embedding, at=NOW, input_tokens=1).output is None


def test_long_input_prices_every_token_of_the_call() -> None:
    price = ModelPrice(
        rows=(PriceRow(input=1_000_000, output=5_000_000), PriceRow(input=2_000_000, output=9_000_000, above_input=200))
    )
    assert price_of(price, ModelUsage(input=100, cached_input=100, output=1), at=NOW) == 205
    assert price_of(price, ModelUsage(input=100, cached_input=101, output=1), at=NOW) == 411
    assert dearest(price, at=NOW, input_tokens=200) == (1_000_000, 5_000_000, 0, 0, 0)
    assert dearest(price, at=NOW, input_tokens=201) == (2_000_000, 9_000_000, 0, 0, 0)


TIERS = ModelPrice(
    rows=(
        PriceRow(input=2_000_000, output=8_000_000),
        PriceRow(input=1_000_000, output=4_000_000, tier="flex"),
        PriceRow(input=4_000_000, output=16_000_000, tier="priority"),
    )
)


@pytest.mark.parametrize(("tier", "cost"), [("standard", 2), ("flex", 1), ("priority", 4), ("brand-new", 4)])
def test_an_unknown_service_tier_is_priced_as_the_dearest(tier: str, cost: int) -> None:
    assert price_of(TIERS, ModelUsage(input=1), at=NOW, tier=tier) == cost


def test_a_worst_case_counts_only_the_tiers_that_may_serve_the_call() -> None:
    assert dearest(TIERS, at=NOW, input_tokens=1, tiers=("flex",)).output == 4_000_000
    assert dearest(TIERS, at=NOW, input_tokens=1, tiers=("flex", "standard")).output == 8_000_000
    assert dearest(TIERS, at=NOW, input_tokens=1).output == 16_000_000
    assert dearest(TIERS, at=NOW, input_tokens=1, tiers=("flex", "brand-new")).output == 16_000_000


def test_a_worst_case_counts_only_the_classes_that_the_body_allows() -> None:
    price = ModelPrice(rows=(PriceRow(input=2, output=8, cache_write_1h=4, output_audio=80, web_search=7, request=5),))
    assert dearest(price, at=NOW, input_tokens=1) == (4, 80, 7, 0, 5)
    least = dearest(
        price, at=NOW, input_tokens=1, input_classes=("input", "cached_input"), output_classes=("output", "reasoning")
    )
    assert least == (2, 8, 7, 0, 5)


def test_searches_and_the_request_cost_besides_tokens() -> None:
    price = ModelPrice(rows=(PriceRow(input=0, output=0, web_search=10_000_000, file_search=2_000_000, request=5),))
    assert price_of(price, ModelUsage(web_search=2, file_search=1), at=NOW) == 27
    assert price_of(price, ModelUsage(), at=NOW) == 5


def test_a_price_holds_from_its_start() -> None:
    price = ModelPrice(rows=(PriceRow(input=1_000_000, output=0), PriceRow(input=3_000_000, output=0, starts=NOW)))
    assert price_of(price, ModelUsage(input=1), at=NOW - 1) == 1
    assert price_of(price, ModelUsage(input=1), at=NOW) == 3
    assert dearest(price, at=NOW - 1, input_tokens=1).input == 1_000_000


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((PriceRow(input=1, tier="flex"),), "rows[0]: there is no row of the same start for the tier standard"),
        ((PriceRow(input=1, starts=5),), "rows: must have one without starts"),
        ((PriceRow(input=1), PriceRow(input=2)), "rows[1]: is for the same calls"),
        ((PriceRow(input=1, above_input=5),), "rows[0]: there is no row of the same start and tier without"),
        ((PriceRow(input=1), PriceRow(input=1, starts=9, tier="flex")), "rows[1]: there is no row of the same start"),
        ((PriceRow(input=-1),), "rows[0].input"),
        ((PriceRow(input=MAX_RATE + 1),), "rows[0].input"),
        ((), "rows"),
    ],
)
def test_rows_of_which_a_call_could_have_none_or_two_are_refused(rows: tuple[PriceRow, ...], message: str) -> None:
    with pytest.raises(BundleInvalid) as refused:
        read(ModelPrice(rows=rows))
    assert str(refused.value).startswith(message)


def test_what_is_written_is_read_and_defaults_are_left_out() -> None:
    assert read(TIERS) == TIERS
    assert dump_document(CHAT) == '{"rows":[{"cachedInput":500000000,"input":2000000000,"output":8000000000}]}'


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="negative count of cached_input"):
        ModelUsage(input=5, cached_input=-1)


def test_models_without_prices_are_written_as_before() -> None:
    target = HttpTarget(url="https://a.example/v1", network="Public", headers=())
    provider = Provider(name="p", shape="OpenAI", target=target, models=(Model(name="m", key_file="k"),))
    written = dump_document(ModelAccess(providers=(provider,)))
    assert "price" not in written
    priced = msgspec.structs.replace(provider, models=(Model(name="m", key_file="k", price=TIERS),))
    access = ModelAccess(providers=(priced,), price_book="0" * 64)
    assert parse_document(dump_document(access), ModelAccess, 1, key="schemaVersion") == access


NAMED = ModelPrice(rows=CHAT.rows, aliases=("gpt-5-mini-latest",), dated=True)


@pytest.mark.parametrize(
    ("answered", "same"),
    [
        *(("gpt-5-mini", True), ("GPT-5-mini", True), ("gpt-5-mini-latest", True), ("gpt-5-mini-2025-08-07", True)),
        *(("gpt-5-mini-20250807", True), ("gpt-5-mini@20250807", True), ("gpt-5", False), ("gpt-5-mini-high", False)),
        *(("gpt-5-mini-2025-0807", False), ("gpt-5-mini-2025-13-01", False), ("gpt-5-mini-2025-08-07-x", False)),
    ],
)
def test_an_answer_may_name_the_model_with_a_date(answered: str, *, same: bool) -> None:
    assert NAMED.is_price_of("gpt-5-mini", answered) == same


def test_without_known_dates_a_date_makes_another_model() -> None:
    assert not CHAT.is_price_of("gpt-4o", "gpt-4o-2024-05-13")
