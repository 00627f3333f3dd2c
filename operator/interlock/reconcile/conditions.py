"""The builder of conditions: it keeps the time of the last transition until the status changes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from interlock.api.status import RECONCILE_FAILED, Condition, ConditionType
from interlock.reconcile.snapshot import Unreadable

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
        message=shorten(finding.message),
    )


def shorten(message: str) -> str:
    """Return as much of a message as a condition has room for."""
    return message[:_MOST_MESSAGE]


def build_unreadable_conditions(problem: Unreadable, reason: str, now: datetime) -> tuple[Condition, ...]:
    """Return the conditions of an AgentPolicy or MCPBinding that cannot be read: those that it has, and that.

    Stalled is the one by which waiting tools give up. The next version that can be read is without it.

    Args:
        problem: The object.
        reason: The reason for Ready and Stalled.
        now: The time.
    """
    until = problem.until_fixed or "its Agents have no pods"
    message = (
        f"{problem.kind} {problem.name} cannot be read because of {problem.message}; correct that field. Until then, "
        f"{until}"
    )
    findings = (
        Finding(ConditionType.READY, "False", reason, message),
        Finding(ConditionType.STALLED, "True", reason, message),
    )
    built = {one.type: build_condition(one, problem.generation, problem.conditions, now) for one in findings}
    known = {one.type: one for one in problem.conditions if one.type != RECONCILE_FAILED}
    return tuple((known | built).values())


def printable(text: str) -> str:
    """Return a text of others with a question mark for each character that a terminal may act on."""
    return "".join(one if one.isprintable() else "?" for one in text)
