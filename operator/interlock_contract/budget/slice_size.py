"""How much a holder takes at once, how often it settles, and when it returns what it does not use.

Large slices make few writes. Small slices leave money for other holders, cost less when a holder dies, and let the
spend be seen in time: no slice reaches across an alert line, unless one request alone does.
"""

from typing import Final

from interlock_contract.budget.leases import PERIODS, LedgerTerms, roll, room
from interlock_contract.budget.ledger import Ledger
from interlock_contract.budget.windows import Period

SLICE_SECONDS: Final = 15
"""Seconds of recent spend that a slice lasts."""
TOTAL_SLICE_SECONDS: Final = 60
"""Seconds of recent spend that a slice of a policy's total lasts. It is longer because that ledger has more writers."""
IDLE_SECONDS: Final = 30
"""Seconds after which a holder returns a slice that it does not use."""
SETTLE_SECONDS: Final = 15
NEAR_SETTLE_SECONDS: Final = 2
"""Seconds between two writes of a holder whose spend has changed: usually, and near an alert line or the limit."""
NEAR_PERCENT: Final = 5
"""Near is within this percentage of the limit."""


def slice_want(
    ledger: Ledger,
    terms: LedgerTerms,
    holder: str,
    *,
    need: int,
    per_second: int,
    now: int,
    seconds: int = SLICE_SECONDS,
) -> int:
    """Return how much a holder should take in addition to its present slice, the `want` of `leases.take`.

    Args:
        ledger: The ledger.
        terms: Its limits.
        holder: Which holder.
        need: What the next request needs in addition, in nano-dollars. The result is at least this.
        per_second: The holder's recent spend in nano-dollars a second.
        now: Seconds since the epoch, of the API server.
        seconds: How long the slice should last.
    """
    ledger = roll(ledger, terms, now)
    present = [one for one in ledger.slices if one.key == ledger.present_key(one.holder)]
    others = [one for one in present if one.holder != holder]
    if any(one.wanted for one in others):
        return need  # the other holders wait for this money
    share = room(ledger, terms, now) // (2 * (len(others) + 1))
    return max(need, min(per_second * seconds, share, *_distances(ledger, terms)))


def settle_seconds(ledger: Ledger, terms: LedgerTerms) -> int:
    """Return after how many seconds a holder settles what it has spent."""
    return NEAR_SETTLE_SECONDS if any(_is_near(ledger, terms, period) for period in PERIODS) else SETTLE_SECONDS


def _distances(ledger: Ledger, terms: LedgerTerms) -> list[int]:
    """Return what may be committed in each limited window until the next alert line of its settled spend."""
    found = []
    for period in PERIODS:
        limit, spent = terms.limit(period), ledger.window(period).spent
        lines = [] if limit is None else [limit * percent // 100 for percent in terms.alert_percents]
        ahead = [line for line in lines if line > spent]
        if ahead:
            found.append(max(0, min(ahead) - ledger.committed(period)))
    return found


def _is_near(ledger: Ledger, terms: LedgerTerms, period: Period) -> bool:
    limit, spent = terms.limit(period), ledger.window(period).spent
    if limit is None:
        return False
    lines = (limit * percent // 100 for percent in (*terms.alert_percents, 100))
    committed = ledger.committed(period)
    # Between `spent` and `committed` the true spend can be anywhere, so a line in between is near, too.
    return any(spent < line <= committed + limit * NEAR_PERCENT // 100 for line in lines)
