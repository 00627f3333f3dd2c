"""The prices under one policy: those that the policy declares, and the book for all other models."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from interlock.prices.book import PriceBook, PriceMissing
from interlock.prices.searches import has_bound, searches_by_itself
from interlock_contract.budget.money import parse_money
from interlock_contract.budget.prices import ModelPrice, PriceRow
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.model_access import Shape

_UNBOUNDED: Final = (
    "{model} searches by itself, and no member of a request bounds what that costs: its price needs perCall, the most "
    "that a call costs besides its prompt and the limit of its output"
)
_HOUR_WRITE: Final = 2
"""Anthropic's price of input that is cached for an hour, as a multiple of input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceOverride:
    """A price that a policy declares, in US dollars for a million tokens as decimal strings.

    `model` is provider/model, or the beginning of such a name and a `*`. `per_call` is dollars for each call. Tokens
    without a price of their own cost what `input` and `output` cost. Where Anthropic's API writes to its cache, writes
    cost twice `input` without `cache_write`. Writes for an hour cost at least that. Zero is a price. For a model that
    searches by itself, `per_call` is the most that a call costs besides its prompt and the limit of its output.
    """

    model: str
    input: str
    output: str
    cached_input: str | None = None
    cache_write: str | None = None
    audio_input: str | None = None
    audio_output: str | None = None
    per_call: str | None = None
    context_window: int | None = None

    def fits(self, name: str) -> bool:
        """Return True if the price is for a model, by its name as provider/model."""
        if self.model.endswith("*"):
            return name.startswith(self.model.removesuffix("*"))
        return name == self.model

    def row(self, shape: Shape) -> PriceRow:
        """Return the price as a row, for a provider with an API of this shape.

        A rate is nano-dollars for a million tokens, which is the same number as the nano-dollars of `input`.

        Raises:
            MoneyInvalid: A price is no amount of dollars.
        """
        tokens = parse_money(self.input)
        hour_write = tokens * _HOUR_WRITE if shape == "Anthropic" else None
        write = hour_write if self.cache_write is None else parse_money(self.cache_write)
        return PriceRow(
            input=tokens,
            output=parse_money(self.output),
            cached_input=_optional(self.cached_input),
            cache_write_5m=write,
            cache_write_1h=None if write is None else max(write, hour_write or 0),
            input_audio=_optional(self.audio_input),
            cached_audio=_optional(self.audio_input),
            output_audio=_optional(self.audio_output),
            request=_optional(self.per_call) or 0,
        )


class PriceList:
    """What each model costs under one policy.

    Attributes:
        digest: SHA-256 in hex of the book and the policy's own prices, by which entries of spend name the prices.
    """

    def __init__(self, book: PriceBook, overrides: Sequence[PriceOverride] = ()) -> None:
        self._book = book
        self._overrides = overrides
        self.digest = book.digest
        if overrides:
            declared = canonicalize([asdict(override) for override in sorted(overrides, key=lambda one: one.model)])
            self.digest = digest_of(f"{book.digest}{declared}")

    def find(self, *, provider: str, url: str, shape: Shape, model: str) -> ModelPrice:
        """Return the price of a model.

        Args:
            provider: The policy's name for the provider.
            url: The base URL of its API.
            shape: Whose API it is like.
            model: The provider's name for the model.

        Raises:
            PriceMissing: Neither the policy nor the book has a price that bounds a call; the message says why.
        """
        fitting = [one for one in self._overrides if one.fits(f"{provider}/{model}")]
        if not fitting:
            price = self._book.find(provider, url, model)
            if searches_by_itself(model, price) and not has_bound(price):
                raise PriceMissing(_UNBOUNDED.format(model=model))
            return price
        # A name without * is the most exact one, then the longest beginning.
        declared = max(fitting, key=lambda one: (not one.model.endswith("*"), len(one.model)))
        known = self._known(provider, url, model)
        searches = searches_by_itself(model, known)
        if searches and declared.per_call is None:
            raise PriceMissing(_UNBOUNDED.format(model=model))
        window = declared.context_window or (known.context_window if known else None)
        return ModelPrice(
            rows=(declared.row(shape),),
            context_window=window,
            aliases=known.aliases if known else (),
            dated=known.dated if known else False,
            covers_searches=searches,
        )

    def _known(self, provider: str, url: str, model: str) -> ModelPrice | None:
        """Return the book's price of a model, for its context window and names alone."""
        try:
            return self._book.find(provider, url, model)
        except PriceMissing:
            return None


def _optional(dollars: str | None) -> int | None:
    return None if dollars is None else parse_money(dollars)
