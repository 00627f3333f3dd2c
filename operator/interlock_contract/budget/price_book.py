"""The price book: the prices of all known models as one file, compiled when the operator's image is built. No I/O.

`tools/prices` writes the book and `interlock.prices` reads it. The order of a provider's entries matters: the first one
whose names fit is the model's.
"""

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from interlock_contract.budget.prices import INPUT_CLASSES, OUTPUT_CLASSES, ModelPrice, PriceRow
from interlock_contract.strict_fields import StrictStruct, Text

BOOK_FORMAT: Final = 1
MAX_MODEL_NAME: Final = 192
"""Longest name of a model that is looked up."""

_COMPACT_DATE: Final = re.compile(r"-(20[0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])(?=-|:|$)")
"""`-20251211`, which some gateways write for `-2025-12-11`."""


class BookEntry(StrictStruct, frozen=True):
    """A model of a provider: which names are its, and its price or why it has none.

    A name fits if it is one of `names` or has a match of `pattern`, a regular expression of Python. Both are for names
    in lower case. An entry without a price keeps its place: a later entry must not price a name that belongs to it.
    """

    id: Text
    names: tuple[Text, ...] = ()
    pattern: Text | None = None
    price: ModelPrice | None = None
    unpriced: Text | None = None

    def fits(self, name: str) -> bool:
        """Return True if a name in lower case is one of this model."""
        return name in self.names or (self.pattern is not None and re.search(self.pattern, name) is not None)


class BookRegion(StrictStruct, frozen=True):
    """Endpoints of a provider that cost more: a regular expression for the beginning of their URLs, and the price.

    `percent` is the price of tokens there in percent of the listed one.
    """

    url: Text
    percent: Annotated[int, Meta(ge=100, le=1000)]


class BookProvider(StrictStruct, frozen=True):
    """A provider's models. `url` is a regular expression for the beginning of its API's URLs.

    `fallbacks` are the providers whose models it serves too, at their prices. `domain` is the provider's own: what a
    host in it costs is unknown unless the URL matches.
    """

    id: Text
    url: Text
    entries: tuple[BookEntry, ...]
    fallbacks: tuple[Text, ...] = ()
    regions: tuple[BookRegion, ...] = ()
    domain: Text | None = None


class BookHeader(StrictStruct, frozen=True):
    """The book: what it was made from, its date (seconds since 1970), and each provider as JSON of its own.

    A reader parses the providers that it needs, each as a `BookProvider`.
    """

    format: int
    source: Text
    timestamp: int
    providers: tuple[msgspec.Raw, ...]


def raise_price(row: PriceRow, percent: int) -> PriceRow:
    """Return a row with its token rates at this percentage, rounded up. Searches and requests cost what they did."""
    names = [*INPUT_CLASSES, *OUTPUT_CLASSES]
    rates = {name: -(-rate * percent // 100) for name in names if (rate := getattr(row, name)) is not None}
    return msgspec.structs.replace(row, **rates)


def find_entry(entries: tuple[BookEntry, ...], name: str) -> BookEntry | None:
    """Return the entry of a model by the provider's name for it, None where the provider has none."""
    return next((entry for entry in entries if entry.fits(name)), None)


def with_dashed_date(name: str) -> str:
    """Return a name in which a compact date is written with dashes."""
    return _COMPACT_DATE.sub(r"-\1-\2-\3", name)
