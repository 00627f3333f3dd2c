"""The price book in memory: the file's bytes, and the prices that were looked up in it.

The book has more than 2 000 models and an installation uses a few of them. Parsed as a whole it would take several
times its size, so that a provider is parsed when one of its models is looked up, and then dropped.
"""

import hashlib
import re
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec

from interlock_contract.budget.price_book import (
    BOOK_FORMAT,
    MAX_MODEL_NAME,
    BookEntry,
    BookHeader,
    BookProvider,
    BookRegion,
    find_entry,
    raise_price,
    with_dashed_date,
)
from interlock_contract.budget.prices import (
    INPUT_CLASSES,
    MAX_ALIASES,
    OUTPUT_CLASSES,
    STANDARD,
    ModelPrice,
    PriceRow,
    is_dated,
)

_REMEMBERED: Final = 1024
"""How many looked up models are remembered. Their number depends on what users write, so it has a bound."""
_ANY_DATE: Final = "-20991231"
"""A date that no model has yet: a name that ends with it belongs to a rule that takes all dates."""


class PriceBookInvalid(ValueError):  # noqa: N818 - says the state of a file, like BundleInvalid
    """The file is no price book of this version."""


class PriceMissing(LookupError):  # noqa: N818 - named like the condition's reason
    """A model has no price; the message says why, as a clause without a full stop."""


class _Head(msgspec.Struct, frozen=True):
    """What a provider is found by."""

    id: str
    url: str
    regions: tuple[BookRegion, ...] = ()
    domain: str | None = None

    def serves(self, url: str) -> bool:
        """Return True if the URL is one of the provider's API."""
        return any(re.match(pattern, url) for pattern in (self.url, *(region.url for region in self.regions)))


class PriceBook:
    """All known prices.

    Attributes:
        digest: SHA-256 of the file in hex, by which entries of spend name the book.
        source: What the book was compiled from, such as `genai-prices 0.2.3`.
        timestamp: The book's date in seconds since 1970.
    """

    def __init__(self, header: BookHeader, digest: str) -> None:
        self.digest = digest
        self.source = header.source
        self.timestamp = header.timestamp
        self._providers = [(msgspec.json.decode(one, type=_Head), one) for one in header.providers]
        self._found: dict[tuple[str, str, str], ModelPrice | str] = {}

    @classmethod
    def parse(cls, data: bytes) -> "PriceBook":
        """Read the file that `tools/prices` wrote.

        Raises:
            PriceBookInvalid: The bytes are no price book of this version.
        """
        try:
            header = msgspec.json.decode(data, type=BookHeader)
            if header.format != BOOK_FORMAT:
                raise PriceBookInvalid(f"it has format {header.format}, this program reads {BOOK_FORMAT}")
            return cls(header, hashlib.sha256(data).hexdigest())
        except msgspec.DecodeError as error:
            raise PriceBookInvalid(str(error)) from None

    @property
    def date(self) -> str:
        """The day of the book, such as 2026-11-10."""
        return datetime.fromtimestamp(self.timestamp, UTC).date().isoformat()

    def find(self, provider: str, url: str, model: str) -> ModelPrice:
        """Return the price of a model.

        Args:
            provider: The policy's name for the provider. It counts where the book knows no provider with this URL.
            url: The base URL of the provider's API.
            model: The provider's name for the model.

        Raises:
            PriceMissing: The book has no price for it.
        """
        key = (provider, url, model)
        found = self._found.get(key)
        if found is None:
            try:
                found = self._search(provider, url, model)
            except PriceMissing as missing:
                found = str(missing)
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[key] = found
        if isinstance(found, str):
            raise PriceMissing(found)
        return found

    def _search(self, name: str, url: str, model: str) -> ModelPrice:
        provider = self._parse(self._provider_id(name, url))
        price, entries = self._entry(provider, model)
        for region in provider.regions:
            if re.match(region.url, url):
                rows = tuple(raise_price(row, region.percent) for row in price.rows)
                price = msgspec.structs.replace(price, rows=rows)
        return _with_names(price, entries, model.lower())

    def _provider_id(self, name: str, url: str) -> str:
        """Return the book's id of the provider with this URL, else of the one with this name."""
        named = None
        for head, _ in self._providers:
            if head.serves(url):
                return head.id
            if head.id == name:
                named = head
        host = urlsplit(url).hostname or ""
        if named is None:
            raise PriceMissing(f"the price book of {self.date} has no provider {name} and none at {host}")
        if named.domain is not None and f".{host}".endswith(f".{named.domain}"):
            raise PriceMissing(f"the price book of {self.date} does not know what {name} costs at {host}")
        return named.id

    def _parse(self, provider_id: str) -> BookProvider:
        raw = next(raw for head, raw in self._providers if head.id == provider_id)
        return msgspec.json.decode(raw, type=BookProvider)

    def _entry(self, provider: BookProvider, model: str) -> tuple[ModelPrice, tuple[BookEntry, ...]]:
        """Return the price of a model, and the entries among which it was found."""
        lists = [provider.entries] if len(model) <= MAX_MODEL_NAME else []
        lists += [self._parse(other).entries for other in provider.fallbacks if lists]
        for name in dict.fromkeys((model.lower(), with_dashed_date(model.lower()))):
            for entries in lists:
                entry = find_entry(entries, name)
                if entry is None:
                    continue
                if entry.price is None:
                    why = entry.unpriced or "it has no price"
                    raise PriceMissing(f"the price book of {self.date} has no price for {model} because {why}")
                own = entries is provider.entries
                return (entry.price if own else _without_cheaper_tiers(entry.price)), entries
        raise PriceMissing(f"the price book of {self.date} has no model {model} of {provider.id}")


def _with_names(price: ModelPrice, entries: tuple[BookEntry, ...], model: str) -> ModelPrice:
    """Return a price with the names by which answers may name the model.

    `gpt-4o` has names with a date of its own price and another one, `gpt-4o-2024-05-13`, with a dearer price. Only the
    known ones are its names then.
    """
    found = _resolve(entries, model)
    aliases = [name for entry in entries if entry is found for name in (entry.id.lower(), *entry.names)]
    own = [name for name in dict.fromkeys(aliases) if name != model and find_entry(entries, name) is found]
    others = (name for entry in entries if entry is not found for name in entry.names)
    dated = _resolve(entries, model + _ANY_DATE) is found
    return msgspec.structs.replace(
        price, aliases=tuple(own[:MAX_ALIASES]), dated=dated and not any(is_dated(model, other) for other in others)
    )


def _resolve(entries: tuple[BookEntry, ...], name: str) -> BookEntry | None:
    return find_entry(entries, name) or find_entry(entries, with_dashed_date(name))


def _without_cheaper_tiers(price: ModelPrice) -> ModelPrice:
    """Return a price without the service tiers that cost less than the standard anywhere: another provider's tiers."""
    standard = {(row.starts, row.above_input): row for row in price.rows if row.tier == STANDARD}
    cheaper = {row.tier for row in price.rows if _is_cheaper(row, standard)}
    return msgspec.structs.replace(price, rows=tuple(row for row in price.rows if row.tier not in cheaper))


def _is_cheaper(row: PriceRow, standard: dict[tuple[int, int], PriceRow]) -> bool:
    usual = standard.get((row.starts, row.above_input))
    names = [*INPUT_CLASSES, *(OUTPUT_CLASSES if row.output is not None else ())]
    return usual is None or any(row.rate(name) < usual.rate(name) for name in names)
