"""The prices that a policy declares, instead of those of the book."""

import pytest

from interlock.prices.book import PriceMissing
from interlock.prices.price_list import PriceList, PriceOverride
from interlock_contract.budget.money import MoneyInvalid
from interlock_contract.budget.price_book import BookEntry, BookProvider
from interlock_contract.budget.prices import ModelPrice, ModelUsage, PriceRow, price_of
from tests.unit.prices.test_price_book import BOOK, book_of

URL = "https://api.acme.com/v1"


def find(prices: PriceList, model: str, provider: str = "acme") -> ModelPrice:
    return prices.find(provider=provider, url=URL, shape="OpenAI", model=model)


def test_without_a_declared_price_the_book_has_it() -> None:
    prices = PriceList(BOOK)
    assert find(prices, "large") == BOOK.find("acme", URL, "large")
    assert prices.digest == BOOK.digest
    with pytest.raises(PriceMissing):
        find(prices, "nothing")


def test_a_declared_price_is_instead_of_the_book_and_its_tiers() -> None:
    prices = PriceList(BOOK, [PriceOverride(model="acme/large", input="0.5", output="1.000000001")])
    found = find(prices, "large")
    assert found.rows == (PriceRow(input=500_000_000, output=1_000_000_001),)
    assert found.context_window == 1000, "the book's, because the policy has none"
    assert found.is_price_of("large", "large-2024-08-06")
    assert find(prices, "small") == BOOK.find("acme", URL, "small")


def test_a_declared_price_makes_an_unknown_model_known() -> None:
    prices = PriceList(BOOK, [PriceOverride(model="local/*", input="0", output="0", context_window=8192)])
    found = prices.find(provider="local", url="http://vllm.svc/v1", shape="OpenAI", model="llama")
    assert price_of(found, ModelUsage(input=10**9, output=10**9), at=0) == 0
    assert found.context_window == 8192


@pytest.mark.parametrize(
    ("model", "expected"), [("large", 3), ("large-x", 2), ("lar", 1), ("small", 1), ("large-2024-08-06", 2)]
)
def test_the_most_exact_declared_price_counts(model: str, expected: int) -> None:
    entries = [("acme/*", "1"), ("acme/large", "3"), ("acme/large-*", "2"), ("other/large-x", "9"), ("acme/la*", "1")]
    for order in (entries, entries[::-1]):
        prices = PriceList(BOOK, [PriceOverride(model=name, input=dollars, output="0") for name, dollars in order])
        assert find(prices, model).rows[0].input == expected * 10**9


def searching(name: str, **rates: int) -> BookEntry:
    return BookEntry(id=name, names=(name,), price=ModelPrice(rows=(PriceRow(input=1, output=1, **rates),)))


SEARCHES = book_of(
    BookProvider(
        id="acme",
        url=r"https://api\.acme\.com",
        entries=(
            searching("gpt-4o", web_search=9),
            searching("gpt-4o-search-preview"),
            searching("gpt-5-search-api"),
            searching("o3-deep-research", web_search=9),
            searching("gpt-4o:online"),
            searching("groq/compound-mini"),
            searching("sonar", request=5),
            searching("sonar-pro", request=5, web_search=9),
            searching("sonar-deep-research", request=5, citation=2),
            searching("answers", request=5, citation=2),
        ),
    )
)
UNBOUNDED = [
    *("gpt-4o-search-preview", "gpt-5-search-api", "o3-deep-research", "gpt-4o:online", "groq/compound-mini"),
    *("sonar-pro", "sonar-deep-research", "answers"),
]


@pytest.mark.parametrize("model", UNBOUNDED)
def test_a_model_that_searches_by_itself_needs_a_declared_price_for_each_call(model: str) -> None:
    with pytest.raises(PriceMissing, match=f"{model} searches by itself.*perCall"):
        find(PriceList(SEARCHES), model)
    without = [PriceOverride(model="acme/*", input="1", output="2")]
    with pytest.raises(PriceMissing, match="perCall"):
        find(PriceList(SEARCHES, without), model)
    for per_call in ("0", "0.5"):
        declared = [*without, PriceOverride(model=f"acme/{model}", input="1", output="2", per_call=per_call)]
        found = find(PriceList(SEARCHES, declared), model)
        assert found.covers_searches
        assert found.rows[0].request == float(per_call) * 10**9


def test_a_model_whose_searches_are_asked_for_or_in_its_fee_has_the_price_of_the_book() -> None:
    for model in ("gpt-4o", "sonar"):
        found = find(PriceList(SEARCHES), model)
        assert found == SEARCHES.find("acme", URL, model)
        assert not found.covers_searches
    declared = [PriceOverride(model="acme/gpt-4o", input="1", output="2", per_call="1")]
    assert not find(PriceList(SEARCHES, declared), "gpt-4o").covers_searches


def test_each_member_has_its_class() -> None:
    declared = PriceOverride(
        model="m/m",
        input="1",
        output="2",
        cached_input="0.1",
        cache_write="1.25",
        audio_input="10",
        audio_output="20",
        per_call="1000000",
    )
    row = declared.row("OpenAI")
    usage = ModelUsage(input=10**6, output=10**6, cached_input=10**6, cache_write_5m=10**6)
    assert price_of(ModelPrice(rows=(row,)), usage, at=0) == (4_350_000_000 + 10**6 * 10**9)
    assert [row.rate(name) / 10**9 for name in ("input_audio", "cached_audio", "output_audio", "reasoning")] == [
        *(10, 10, 20, 2)
    ]


@pytest.mark.parametrize(
    ("shape", "declared", "short", "hour"),
    [("OpenAI", None, 4, 4), ("OpenAI", "5", 5, 5), ("Anthropic", None, 8, 8), ("Anthropic", "5", 5, 8)],
)
def test_what_anthropics_cache_costs_is_never_less_than_its_dearest_lifetime(
    shape: str, declared: str | None, short: int, hour: int
) -> None:
    row = PriceOverride(model="m/m", input="4", output="9", cache_write=declared).row(shape)  # type: ignore[arg-type]
    assert (row.rate("cache_write_5m"), row.rate("cache_write_1h")) == (short * 10**9, hour * 10**9)


def test_what_is_no_amount_of_dollars_is_refused() -> None:
    for text in ("-1", "1e3", "NaN", "1000001", "0.0000000001", ""):
        with pytest.raises(MoneyInvalid):
            PriceOverride(model="m/m", input=text, output="0").row("OpenAI")


def test_the_digest_names_the_book_and_the_declared_prices() -> None:
    one, two = (PriceOverride(model=f"m/{name}", input="1", output="2") for name in ("a", "b"))
    digests = {PriceList(BOOK, entries).digest for entries in ((), (one,), (two,), (one, two))}
    assert len(digests) == 4
    assert PriceList(BOOK, (one, two)).digest == PriceList(BOOK, (two, one)).digest
    assert all(len(digest) == 64 for digest in digests)
