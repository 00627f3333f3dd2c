"""The velocity of a spend: an alert where ten minutes cost far more than ten minutes of the last day usually do.

A ledger keeps what was settled in steps of ten minutes, for a day. Guards write a step together with a settlement, so
there is no further write. A slice that is closed is no step: no one knows whether it was spent, nor when.

    steps, newest first, in dollars: 9 | 1 1 2 0 1 1 ...     median of the earlier ones 1, factor 5, minimum 1
    9 > 5 x 1 and 9 > 1: an alert
"""

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from interlock_contract.budget.ledger import MAX_STEPS, MAX_VELOCITY_ALERTS, Ledger, RecentSpend, VelocityAlert
from interlock_contract.budget.money import NANOS, add_money

STEP_SECONDS: Final = 600
LEAST_STEPS: Final = 6
"""Earlier steps without which nothing is usual yet: an hour."""
QUIET_SECONDS: Final = 3600
"""How long after an alert no other one is raised: a spend that stays high is one alert an hour."""
DEFAULT_FACTOR: Final = 5


@dataclass(frozen=True, slots=True)
class VelocityTerms:
    """A step above `factor` times the median of the last day, and above `minimum` nano-dollars, raises an alert."""

    factor: int = DEFAULT_FACTOR
    minimum: int = NANOS


def add_recent(ledger: Ledger, nanos: int, now: int) -> Ledger:
    """Add settled money to the step of a time.

    Args:
        ledger: The ledger.
        nanos: What was settled.
        now: Seconds since the epoch. A time before the newest step counts to that one.
    """
    if nanos <= 0:
        return ledger
    start = now - now % STEP_SECONDS
    known = ledger.recent or RecentSpend(start)
    passed = max(0, (start - known.start) // STEP_SECONDS)
    newest, *earlier = (0,) * min(passed, MAX_STEPS) + (known.spent or (0,))
    spent = (add_money(newest, nanos), *earlier)[:MAX_STEPS]
    return replace(ledger, recent=RecentSpend(max(start, known.start), spent))


def median(amounts: tuple[int, ...]) -> int:
    """Return the middle of some amounts, rounded down; 0 without any."""
    ordered, middle = sorted(amounts), len(amounts) // 2
    if not ordered:
        return 0
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


def record_velocity(ledger: Ledger, terms: VelocityTerms, now: int) -> Ledger:
    """Record an alert if the newest step is above what the terms allow; at most one an hour.

    Args:
        ledger: The ledger.
        terms: What is allowed.
        now: Seconds since the epoch.
    """
    recent = ledger.recent
    if recent is None or len(recent.spent) <= LEAST_STEPS:
        return ledger
    newest, usual = recent.spent[0], median(recent.spent[1:])
    last = ledger.velocity_alerts[-1].window_start if ledger.velocity_alerts else None
    is_quiet = last is not None and recent.start - last < QUIET_SECONDS
    if is_quiet or newest <= terms.minimum or newest <= terms.factor * usual:
        return ledger
    alert = VelocityAlert(recent.start, now, newest, usual)
    return replace(ledger, velocity_alerts=(*ledger.velocity_alerts, alert)[-MAX_VELOCITY_ALERTS:])
