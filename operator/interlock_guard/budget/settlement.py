"""What a call has cost, once it has ended. Pure.

    not sent, 3xx, 4xx, 503, 529                    nothing
    1xx, 500, 502, 504, broken, timed out, killed   unknown
    complete, with a usage that can be read         the usage, at the price of the model and tier that the answer names
    complete, without one                           unknown

Unknown is charged with the whole reservation, or with what the answer has counted so far where that is more. So the
ledger is never lower than what the provider charges, except where a provider counts less than it charges.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal

from interlock_contract.budget.money import MAX_LIMIT
from interlock_contract.budget.prices import PER_UNITS, ModelPrice, ModelUsage, PriceUnknown, price_of
from interlock_guard.budget.dialects import COUNT_TOKENS
from interlock_guard.budget.usage import Answer, Unknown
from interlock_guard.budget.worst_case import Terms

BYTES_PER_TOKEN: Final = 16
"""Most bytes of streamed text for one token of output that are believed. Texts have about four."""
MAX_CHARGE: Final = MAX_LIMIT
"""Most nano-dollars that one call is charged: the largest budget. More would stop nothing else, and the sums of a
ledger have a bound."""
_FREE: Final = frozenset({503, 529})
_REDIRECTS: Final = range(300, 400)
"""The guard follows none, so nothing was generated."""
_CLIENT_ERRORS: Final = range(400, 500)
_SUCCESS: Final = range(200, 300)

Basis = Literal["Usage", "Reservation", "Free"]
Alert = Literal[
    "UsageUnknown",
    "FewerTokensThanStreamed",
    "AboveReservation",
    "AboveEveryBudget",
    "ModelUnknown",
    "TierUnknown",
    "PriceUnknown",
]
FindPrice = Callable[[str], ModelPrice | None]
"""Returns the price of another model of the provider, by its name."""


class End(Enum):
    """How a call ended."""

    FREE = "Free"
    """The provider charges nothing: it got nothing of the request, or refused it."""
    COMPLETE = "Complete"
    """The whole answer came."""
    UNKNOWN = "Unknown"
    """What the provider charges cannot be known."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call has cost.

    Attributes:
        nanos: In nano-dollars.
        basis: What that is based on.
        usage: What was priced; None where nothing was.
        alerts: What is wrong with the answer.
        reason: Why the usage is unknown; empty where it is known.
    """

    nanos: int
    basis: Basis
    usage: ModelUsage | None = None
    alerts: tuple[Alert, ...] = ()
    reason: str = ""


def end_of(status: int, *, is_complete: bool) -> End:
    """Return how a call ended that was sent.

    Args:
        status: The HTTP status of the answer.
        is_complete: Whether its body came to its end. The body of a refusal does not matter, nor how it is encoded.
    """
    if status in _FREE or status in _CLIENT_ERRORS or status in _REDIRECTS:
        return End.FREE
    return End.COMPLETE if is_complete and status in _SUCCESS else End.UNKNOWN


def charge(end: End, terms: Terms, answer: Answer | None, find_price: FindPrice) -> Charge:
    """Return what a call has cost, at most `MAX_CHARGE` unless more was reserved.

    Args:
        end: How it ended.
        terms: What it was reserved for.
        answer: What its answer says, as far as it came; None without one.
        find_price: Returns the price of another model of the provider, by its name.
    """
    found = _charge(end, terms, answer, find_price)
    most = max(MAX_CHARGE, terms.nanos)
    if found.nanos <= most:
        return found
    return replace(found, nanos=most, alerts=(*found.alerts, "AboveEveryBudget"))


def _charge(end: End, terms: Terms, answer: Answer | None, find_price: FindPrice) -> Charge:
    price = terms.price
    if end is End.FREE or terms.endpoint == COUNT_TOKENS or price is None:
        return Charge(0, "Free")
    usage = answer.usage if answer is not None else Unknown("no answer came")
    if answer is None or end is not End.COMPLETE or isinstance(usage, Unknown):
        is_odd = end is End.COMPLETE
        reason = usage.reason if isinstance(usage, Unknown) else "the answer did not come to its end"
        return _charge_reservation(terms, price, answer, find_price, reason, ("UsageUnknown",) if is_odd else ())
    least = answer.output_bytes // BYTES_PER_TOKEN
    readings = []
    try:
        for reading in (usage,) if answer.counted is None else (usage, answer.counted):
            alerts: list[Alert] = ["FewerTokensThanStreamed"] if reading.output_tokens < least else []
            whole = replace(reading, output=reading.output + max(0, least - reading.output_tokens))
            nanos, odd = _price(terms, price, answer, whole, find_price)
            readings.append((nanos, whole, [*alerts, *odd]))
    except PriceUnknown as error:
        return _charge_reservation(terms, price, answer, find_price, str(error), ("PriceUnknown",))
    nanos, usage, alerts = max(readings, key=lambda one: one[0])
    if nanos > terms.nanos:
        alerts.append("AboveReservation")
    return Charge(nanos, "Usage", usage, tuple(alerts))


def _charge_reservation(
    terms: Terms,
    price: ModelPrice,
    answer: Answer | None,
    find_price: FindPrice,
    reason: str,
    alerts: tuple[Alert, ...],
) -> Charge:
    """Charge the whole reservation, or what was streamed or counted where that costs more."""
    nanos = max(terms.nanos, 0 if answer is None else _cost_so_far(terms, price, answer, find_price))
    if nanos > terms.nanos:
        alerts = (*alerts, "AboveReservation")
    return Charge(nanos, "Reservation", None, alerts, reason)


def _cost_so_far(terms: Terms, price: ModelPrice, answer: Answer, find_price: FindPrice) -> int:
    """Return what the text that was streamed costs, or what the answer has counted where that is more."""
    least = answer.output_bytes // BYTES_PER_TOKEN
    nanos = -(-least * ((terms.rates.output if terms.rates is not None else None) or 0) // PER_UNITS)
    counted = answer.counted if isinstance(answer.usage, Unknown) else answer.usage
    if counted is None:
        return nanos
    try:
        return max(nanos, _price(terms, price, answer, counted, find_price)[0])
    except PriceUnknown:
        return nanos


def _price(
    terms: Terms, price: ModelPrice, answer: Answer, usage: ModelUsage, find_price: FindPrice
) -> tuple[int, list[Alert]]:
    """Return what a usage costs, and what is wrong with the names in the answer.

    Raises:
        PriceUnknown: A class of its tokens has no price.
    """
    alerts: list[Alert] = []
    if answer.model is not None and not price.is_price_of(terms.model, answer.model):
        other = find_price(answer.model)
        if other is None:
            alerts.append("ModelUnknown")
        else:
            price = other
    tiers = terms.tiers
    if answer.tier is not None:
        if answer.tier in price.tiers(terms.at):
            tiers = (answer.tier,)
        else:
            alerts.append("TierUnknown")
    nanos = max(price_of(price, usage, at=terms.at, tier=tier) for tier in tiers)
    if alerts:
        nanos = max(nanos, _cost_at_most(terms, usage))
    if price.covers_searches:
        # The flat price is there for what exceeds the rest of the reservation, so it does not come on top of that.
        flat = max(row.request for row in price.in_force(terms.at))
        nanos = max(min(nanos, terms.nanos), nanos - flat)
    return nanos, alerts


def _cost_at_most(terms: Terms, usage: ModelUsage) -> int:
    """Return what a usage costs at the rates of the reservation."""
    if terms.rates is None:
        return 0
    rates = terms.rates
    searches = usage.web_search * rates.web_search + usage.file_search * rates.file_search
    tokens = usage.input_tokens * rates.input + usage.output_tokens * (rates.output or 0)
    return -(-(tokens + searches) // PER_UNITS) + rates.request
