"""A small price book, so that no test depends on the prices of a provider."""

import msgspec

from interlock.prices.book import PriceBook
from interlock_contract.budget.price_book import BOOK_FORMAT, BookEntry, BookHeader, BookProvider
from interlock_contract.budget.prices import ModelPrice, PriceRow

PRICE = ModelPrice((PriceRow(input=150_000_000, output=600_000_000),), 128_000)
"""$0.15 and $0.60 for a million tokens."""


def a_price_book() -> PriceBook:
    """Return a book with one price for all models of OpenAI and Anthropic."""
    urls = {"openai": r"https://api\.openai\.com/", "anthropic": r"https://api\.anthropic\.com/"}
    providers = (
        BookProvider(id=name, url=url, entries=(BookEntry(id="any", pattern=".", price=PRICE),))
        for name, url in urls.items()
    )
    raw = tuple(msgspec.Raw(msgspec.json.encode(one)) for one in providers)
    return PriceBook.parse(msgspec.json.encode(BookHeader(BOOK_FORMAT, "a test", 0, raw)))
