"""What a call has cost, once it has ended. Pure.

    not sent, 4xx, 503, 529                         nothing
    500, 502, 504, broken, timed out, cut by a kill unknown
    complete, with a usage that can be read         the usage, at the price of the model and tier that the answer names
    complete, without one                           unknown

Unknown is charged with the whole reservation. So the ledger is never lower than what the provider charges, except where
a provider counts less than it charges.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal

from interlock_contract.budget.prices import PER_UNITS, ModelPrice, ModelUsage, PriceUnknown, price_of
from interlock_guard.budget.dialects import COUNT_TOKENS
from interlock_guard.budget.usage import Answer, Unknown
from interlock_guard.budget.worst_case import Terms

BYTES_PER_TOKEN: Final = 16
"""Most bytes of streamed text for one token of output that are believed. Texts have about four."""
_FREE: Final = frozenset({503, 529})
_CLIENT_ERRORS: Final = range(400, 500)
_SUCCESS: Final = range(200, 300)

Basis = Literal["Usage", "Reservation", "Free"]
Alert = Literal[
    "UsageUnknown", "FewerTokensThanStreamed", "AboveReservation", "ModelUnknown", "TierUnknown", "PriceUnknown"
]


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
        is_complete: Whether its body came to its end. The body of a refusal does not matter.
    """
    if status in _FREE or status in _CLIENT_ERRORS:
        return End.FREE
    return End.COMPLETE if is_complete and status in _SUCCESS else End.UNKNOWN


def charge(end: End, terms: Terms, answer: Answer | None, find_price: Callable[[str], ModelPrice | None]) -> Charge:
    """Return what a call has cost.

    Args:
        end: How it ended.
        terms: What it was reserved for.
        answer: What its answer says, as far as it came; None without one.
        find_price: Returns the price of another model of the provider, by its name.
    """
    price = terms.price
    if end is End.FREE or terms.endpoint == COUNT_TOKENS or price is None:
        return Charge(0, "Free")
    usage = answer.usage if answer is not None else Unknown("no answer came")
    if answer is None or end is not End.COMPLETE or isinstance(usage, Unknown):
        is_odd = end is End.COMPLETE
        reason = usage.reason if isinstance(usage, Unknown) else "the answer did not come to its end"
        return _charge_reservation(terms, answer, reason, ("UsageUnknown",) if is_odd else ())
    alerts: list[Alert] = []
    least = answer.output_bytes // BYTES_PER_TOKEN
    if usage.output_tokens < least:
        usage = replace(usage, output=usage.output + least - usage.output_tokens)
        alerts.append("FewerTokensThanStreamed")
    try:
        nanos, odd = _price(terms, price, answer, usage, find_price)
    except PriceUnknown as error:
        return _charge_reservation(terms, answer, str(error), ("PriceUnknown",))
    alerts += odd
    if nanos > terms.nanos:
        alerts.append("AboveReservation")
    return Charge(nanos, "Usage", usage, tuple(alerts))


def _charge_reservation(terms: Terms, answer: Answer | None, reason: str, alerts: tuple[Alert, ...]) -> Charge:
    """Charge the whole reservation, or the text that was streamed where that costs more."""
    least = (answer.output_bytes if answer is not None else 0) // BYTES_PER_TOKEN
    streamed = -(-least * ((terms.rates.output if terms.rates is not None else None) or 0) // PER_UNITS)
    if streamed > terms.nanos:
        alerts = (*alerts, "AboveReservation")
    return Charge(max(terms.nanos, streamed), "Reservation", None, alerts, reason)


def _price(
    terms: Terms,
    price: ModelPrice,
    answer: Answer,
    usage: ModelUsage,
    find_price: Callable[[str], ModelPrice | None],
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
    tier = answer.tier or terms.tier
    if answer.tier is not None and answer.tier not in price.tiers(terms.at):
        tier = terms.tier
        alerts.append("TierUnknown")
    nanos = price_of(price, usage, at=terms.at, tier=tier)
    return (max(nanos, _cost_at_most(terms, usage)) if alerts else nanos), alerts


def _cost_at_most(terms: Terms, usage: ModelUsage) -> int:
    """Return what a usage costs at the rates of the reservation."""
    if terms.rates is None:
        return 0
    output = usage.output_tokens * (terms.rates.output or 0)
    return -(-(usage.input_tokens * terms.rates.input + output) // PER_UNITS) + terms.rates.request
