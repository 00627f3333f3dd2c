"""The price book as the operator reads it: which price a model has, by URL, name of the provider and of the model."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot

from interlock.prices.book import PriceBook, PriceBookInvalid, PriceMissing
from interlock.runtime.price_file import PriceBookMissing, read_price_book
from interlock.telemetry import PRICE_BOOK_TIMESTAMP
from interlock_contract.budget.price_book import BookEntry, BookHeader, BookProvider, BookRegion
from interlock_contract.budget.prices import ModelPrice, PriceRow
from interlock_contract.clock import utc_now
from tests.requirements import requirement
from tools.prices.compiler import PUBLISHED, compile_book, compile_model

DOLLAR = 10**9
DAY = max(PUBLISHED.values())
OPENAI = "https://api.openai.com/v1"


def priced(
    name: str, dollars: int, *rows: PriceRow, pattern: str | None = None, names: tuple[str, ...] = ()
) -> BookEntry:
    price = ModelPrice(rows=(PriceRow(input=dollars * DOLLAR, output=dollars * DOLLAR), *rows), context_window=1000)
    return BookEntry(id=name, names=(name, *names), pattern=pattern, price=price)


def book_of(*found: BookProvider) -> PriceBook:
    raw = tuple(msgspec.Raw(msgspec.json.encode(one)) for one in found)
    return PriceBook.parse(msgspec.json.encode(BookHeader(format=1, source="a test", timestamp=0, providers=raw)))


ACME = BookProvider(
    id="acme",
    url=r"https://api\.acme\.com",
    domain="acme.com",
    regions=(BookRegion(url=r"https://eu\.api\.acme\.com/", percent=110),),
    entries=(
        BookEntry(id="speech", pattern=r"\Alarge-speech", unpriced="it is priced by hours of audio"),
        priced("large-2024-05-13", 5),
        priced("large", 2, names=("large-2024-08-06",)),
        priced("small", 1, pattern=r"\Asmall-\d{4}-\d{2}-\d{2}\Z"),
        priced("mid-2024-05-13", 5),
        priced("mid", 1, pattern=r"\Amid-\d{4}-\d{2}-\d{2}\Z"),
        priced("other", 7, pattern=r"\Alarge-"),
    ),
)
HOST = BookProvider(
    id="host",
    url=r"https://host\.example",
    fallbacks=("acme",),
    entries=(priced("own", 3),),
)
BOOK = book_of(ACME, HOST)


def dollars(provider: str, url: str, model: str, book: PriceBook = BOOK) -> float:
    return book.find(provider, url, model).rows[0].input / DOLLAR


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        *(("large", 2), ("LARGE", 2), ("large-2024-08-06", 2), ("large-2024-05-13", 5)),
        *(("small-2025-01-01", 1), ("small-20250101", 1), ("large-new", 7)),
    ],
)
def test_the_first_entry_that_a_name_fits_is_the_models(model: str, expected: float) -> None:
    assert dollars("acme", "https://api.acme.com/v1", model) == expected


@pytest.mark.parametrize(
    ("provider", "url", "model", "message"),
    [
        ("acme", "https://api.acme.com/v1", "small-x", "has no model small-x of acme"),
        ("acme", "https://api.acme.com/v1", "l" * 200, "has no model lll"),
        (
            "acme",
            "https://api.acme.com/v1",
            "large-speech-1",
            "large-speech-1 because it is priced by hours",
        ),
        ("mine", "https://llm.example/v1", "large", "has no provider mine and none at llm.example"),
        ("acme", "https://us.acme.com/v1", "large", "does not know what acme costs at us.acme.com"),
    ],
)
def test_a_model_without_a_price_is_refused_with_the_reason(provider: str, url: str, model: str, message: str) -> None:
    for _ in range(2):  # the second answer is a remembered one
        with pytest.raises(PriceMissing) as refused:
            BOOK.find(provider, url, model)
        assert message in str(refused.value)
        assert str(refused.value).startswith("the price book of 1970-01-01 ")


def test_the_url_decides_before_the_name_of_the_provider() -> None:
    assert dollars("acme", "https://host.example/v1", "own") == 3
    assert dollars("acme", "http://gateway.svc:8080/v1", "large") == 2


def test_a_region_that_costs_more_has_its_price_whatever_the_provider_is_called() -> None:
    assert dollars("mine", "https://eu.api.acme.com/v1", "large") == pytest.approx(2.2)


def test_a_provider_has_the_models_of_others_without_their_cheaper_tiers() -> None:
    flex, priority = (
        PriceRow(input=rate * DOLLAR, output=rate * DOLLAR, tier=tier) for rate, tier in ((1, "flex"), (3, "priority"))
    )
    acme = msgspec.structs.replace(ACME, entries=(priced("large", 2, flex, priority),))
    book = book_of(HOST, acme)
    assert book.find("acme", "https://api.acme.com/v1", "large").tiers(0) == {"standard", "flex", "priority"}
    assert book.find("host", "https://host.example/v1", "large").tiers(0) == {"standard", "priority"}


def test_answers_may_name_what_the_book_knows_as_the_same_model() -> None:
    def found(model: str) -> ModelPrice:
        return BOOK.find("acme", "https://api.acme.com/v1", model)

    assert found("large").is_price_of("large", "large-2024-08-06")
    assert not found("large").is_price_of("large", "large-2024-05-13"), "it has a dearer price of its own"
    assert not found("large").is_price_of("large", "large-2030-01-01"), "some dates are other models"
    assert not found("mid").is_price_of("mid", "mid-2024-05-13"), "the same, though all other dates are the model"
    assert found("small").is_price_of("small", "small-2030-01-01")
    assert found("small").is_price_of("small", "small-20300101")
    assert found("small-2025-01-01").is_price_of("small-2025-01-01", "small")


@pytest.fixture(scope="module")
def real() -> PriceBook:
    return PriceBook.parse(compile_book(providers))


URLS = {"openai": OPENAI, "anthropic": "https://api.anthropic.com/v1", "azure": "https://x.openai.azure.com/openai/v1"}


@requirement("budget.prices")
def test_every_model_is_found_by_the_names_that_genai_prices_knows(real: PriceBook) -> None:
    drawn, theirs = random.Random(19), DataSnapshot(providers, from_auto_update=False)  # noqa: S311 - repeatable
    for provider in providers:
        url = URLS.get(provider.id, f"https://gateway.example/{provider.id}")
        names = sorted({name for model in provider.models for name in (model.id, *equal_names(model.match))})
        for name in drawn.sample(names, k=min(12, len(names))):
            for tried in (name, f"{name}-20250807", f"{name}-2025-08-07"):
                expected = find(theirs, provider.id, tried)
                try:
                    window = real.find(provider.id, url, tried).context_window
                except PriceMissing:
                    assert expected is None or compile_model(expected, DAY).price is None, (provider.id, tried)
                    continue
                assert expected is not None, (provider.id, tried)
                assert window == (expected.context_window or None), (provider.id, tried)


def equal_names(match: Any) -> list[str]:
    return [clause.equals for clause in getattr(match, "or_", [match]) if hasattr(clause, "equals")]


def find(theirs: DataSnapshot, provider: str, name: str) -> Any:
    try:
        return theirs.find_provider_model(name, None, provider, None)[1]
    except LookupError:
        return None


def test_models_that_agents_use_have_a_price(real: PriceBook) -> None:
    for model in ("gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-5-mini", "text-embedding-3-small", "o3"):
        assert real.find("openai", OPENAI, model).rows, model
    for model in ("claude-opus-5-5", "claude-haiku-5-5-20261001", "claude-sonnet-5"):
        assert real.find("anthropic", URLS["anthropic"], model).rows, model
    assert real.find("openai", OPENAI, "gpt-4o").context_window == 128_000
    assert real.find("anthropic", URLS["anthropic"], "claude-opus-5-5").dated


def test_found_models_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.prices.book._REMEMBERED", 10)
    book = book_of(ACME)
    for number in range(100):
        with pytest.raises(PriceMissing):
            book.find("acme", "https://api.acme.com/v1", f"no-{number}")
    assert len(book._found) <= 10  # noqa: SLF001 - what is remembered has no other sign


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"format":1}', b'{"format":2,"source":"x","timestamp":0,"providers":[]}']
)
def test_a_file_that_is_no_book_stops_the_operator_with_the_way_out(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(PriceBookInvalid):
        PriceBook.parse(data)
    file = tmp_path / "prices.json"
    file.write_bytes(data)
    with pytest.raises(PriceBookMissing, match="run: make prices"):
        read_price_book(file)
    with pytest.raises(PriceBookMissing, match=r"none\.json with the prices of models cannot be read"):
        read_price_book(tmp_path / "none.json")


def test_the_date_of_the_book_is_a_metric(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_bytes(compile_book(providers))
    book = read_price_book(file)
    assert PRICE_BOOK_TIMESTAMP._value.get() == book.timestamp  # noqa: SLF001 - prometheus_client has no reader
    assert 0 < book.timestamp < utc_now().timestamp()
    assert len(book.digest) == 64
