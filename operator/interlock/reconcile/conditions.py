"""The builder of conditions: it keeps the time of the last transition until the status changes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from interlock.api.status import Condition

_MOST_MESSAGE: Final = 1024

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Finding:
    """The content of one condition."""

    type: str
    status: Truth
    reason: str
    message: str


def build_condition(finding: Finding, generation: int, known: Iterable[Condition], now: datetime) -> Condition:
    """Return the condition; its time changes only with its status.

    Args:
        finding: Its content.
        generation: Of the object's spec.
        known: The object's conditions so far.
        now: The time of a change.
    """
    before = next((condition for condition in known if condition.type == finding.type), None)
    unchanged = before is not None and before.status == finding.status
    return Condition(
        type=finding.type,
        status=finding.status,
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before and unchanged else now,
        reason=finding.reason,
        message=finding.message[:_MOST_MESSAGE],
    )


def printable(text: str) -> str:
    """Return a text of others with a question mark for each character that a terminal may act on."""
    return "".join(one if one.isprintable() else "?" for one in text)
