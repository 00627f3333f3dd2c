"""The forecast of a day's spend: what was spent, and the spend of the last hours until the day ends. Pure.

    3 hours, 18 full steps of ten minutes          $3.60 in all, which is $1.20 an hour
    spent until the last full step, 14 h are left  $12.40 + 14 x $1.20 = $29.20

A forecast changes when a step of ten minutes is full, and not at every call. The hours may reach into the day before,
so a day has a forecast from its first minute on. A spend that a budget will stop is forecast as if there were none.
"""

from typing import Final

from interlock_contract.budget.ledger import Ledger
from interlock_contract.budget.velocity import STEP_SECONDS

RATE_SECONDS: Final = 3 * 3600
"""The hours whose spend is expected to go on."""
LEAST_SECONDS: Final = 3600
"""How old the first spend of a ledger must be: the first minutes say little about a day."""


def forecast_day(ledger: Ledger, now: int) -> int | None:
    """Return what the present day will have cost when it ends, in nano-dollars, None where nothing is known yet.

    Args:
        ledger: The ledger.
        now: Seconds since the epoch.
    """
    day, recent, step = ledger.day, ledger.recent, now - now % STEP_SECONDS
    if recent is None or not day.start <= now < day.end:
        return None
    covered = min(RATE_SECONDS, step - _first_step(ledger))
    if covered < LEAST_SECONDS:
        return None
    unfinished = sum(nanos for start, nanos in _steps(ledger) if start >= step)
    until_step = max(0, day.spent - unfinished)
    rest = -(-_spent_lately(ledger, step) * (day.end - max(step, day.start)) // covered)
    return max(day.spent, until_step + rest)


def next_forecast(ledger: Ledger, now: int) -> int | None:
    """Return when the passing of time alone changes the forecast, in seconds since the epoch; None where it does not.

    Args:
        ledger: The ledger.
        now: Seconds since the epoch.
    """
    following = now - now % STEP_SECONDS + STEP_SECONDS
    is_idle = not any(nanos for start, nanos in _steps(ledger) if start >= following - STEP_SECONDS - RATE_SECONDS)
    return None if is_idle or now >= ledger.day.end else following


def _steps(ledger: Ledger) -> list[tuple[int, int]]:
    """Return the steps that the ledger keeps: start and spend, the newest first."""
    recent = ledger.recent
    if recent is None:
        return []
    return [(recent.start - index * STEP_SECONDS, nanos) for index, nanos in enumerate(recent.spent)]


def _first_step(ledger: Ledger) -> int:
    return min((start for start, _ in _steps(ledger)), default=0)


def _spent_lately(ledger: Ledger, step: int) -> int:
    """Return the spend of the full steps of the last hours."""
    return sum(nanos for start, nanos in _steps(ledger) if step - RATE_SECONDS <= start < step)
