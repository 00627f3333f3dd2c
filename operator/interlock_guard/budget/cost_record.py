"""What an audit record says about the cost of a request. Pure.

{"cost": "0.00042", "costBasis": "Usage", "reserved": "0.0131", "usage": {"inputTokens": 812, "outputTokens": 190},
"answeredModel": "gpt-4o-mini-2024-07-18", "priceBook": "9f2c..."}
"""

from typing import Any, Final

from interlock_contract.budget.money import format_money
from interlock_contract.budget.prices import ModelUsage
from interlock_guard.budget.settlement import Charge

_MAX_MODEL: Final = 256
_MEMBERS: Final[dict[str, tuple[str, ...]]] = {
    "inputTokens": ("input", "input_image"),
    "cachedInputTokens": ("cached_input", "cached_audio", "cached_image"),
    "cacheWrite5mTokens": ("cache_write_5m",),
    "cacheWrite1hTokens": ("cache_write_1h",),
    "outputTokens": ("output", "citation", "output_image"),
    "reasoningTokens": ("reasoning",),
    "inputAudioTokens": ("input_audio",),
    "outputAudioTokens": ("output_audio",),
}
"""The members of `usage`, and the classes of tokens that each counts. Each class is counted once."""


def describe_usage(usage: ModelUsage) -> dict[str, int]:
    """Return the tokens that a call used; their sum is all of its tokens."""
    return {member: sum(getattr(usage, name) for name in names) for member, names in _MEMBERS.items()}


def describe_cost(
    charge: Charge, *, reserved: int, answered_model: str | None, price_book: str | None
) -> dict[str, Any]:
    """Return the members of the record of a call of a model.

    Args:
        charge: What it has cost.
        reserved: What was reserved for it, in nano-dollars.
        answered_model: The model that the answer names, as the provider wrote it.
        price_book: The digest of the prices.
    """
    fields: dict[str, Any] = {
        "cost": format_money(charge.nanos),
        "costBasis": charge.basis,
        "reserved": format_money(reserved),
    }
    if charge.usage is not None:
        fields["usage"] = describe_usage(charge.usage)
    if answered_model:
        fields["answeredModel"] = "".join(one if one.isprintable() else "?" for one in answered_model[:_MAX_MODEL])
    if price_book:
        fields["priceBook"] = price_book
    return fields


def describe_flat_cost(nanos: int) -> dict[str, Any]:
    """Return the members of the record of a call of a tool, whose cost is always the same."""
    return {"cost": format_money(nanos), "costBasis": "Flat" if nanos else "Free", "reserved": format_money(nanos)}
