"""What calls of tools take of the agent's limits: one call of its minute, and the money that the binding says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from interlock_contract.budget.rates import NOTHING
from interlock_contract.bundle import Bundle, BundleTool
from interlock_guard.budget.account import Reservation
from interlock_guard.budget.budget import Budget
from interlock_guard.budget.cost_record import describe_flat_cost
from interlock_guard.budget.denials import deny_unlimited
from interlock_guard.budget.minute_limiter import MinuteLimiter, RateReservation
from interlock_guard.budget.spend_metrics import SpendMetrics
from interlock_guard.decision.decide import TOOLS_CALL, Decision, DecisionInput, Deny, find_source


@dataclass(slots=True, eq=False)
class Payment:
    """What one call costs. It is charged as soon as the call may be forwarded, so nothing stays reserved for it.

    Attributes:
        budget: Where it is reserved.
        metrics: Counts what was spent.
        reservation: What was reserved for it.
        source: The source that is called.
        rates: Where it is counted.
        counted: What it counts.
    """

    budget: Budget
    metrics: SpendMetrics
    reservation: Reservation | None
    source: str
    rates: MinuteLimiter
    counted: RateReservation

    def settle(self) -> Mapping[str, Any] | None:
        """Charge it; return what the audit record of the outcome says about the cost."""
        if self.reservation is None:
            return None
        self.budget.settle(self.reservation, self.reservation.amount)
        self.metrics.count_tool(self.source, self.reservation.amount)
        return describe_flat_cost(self.reservation.amount)

    def cancel(self) -> None:
        """Charge nothing: the call is not forwarded."""
        if self.reservation is not None:
            self.budget.settle(self.reservation, 0)
        self.rates.cancel(self.counted)


class Payments:
    """Pays for calls of tools, and counts them.

    Args:
        budget: The budget of the guard.
        rates: Counts calls.
        metrics: Counts what was spent.
    """

    def __init__(self, budget: Budget, rates: MinuteLimiter, metrics: SpendMetrics) -> None:
        self._budget, self._rates, self._metrics = budget, rates, metrics

    def is_limited(self, bundle: Bundle | None, request: DecisionInput) -> bool:
        """Return True if a request may cost anything, or counts against a limit."""
        found = find_source(bundle, request.source)
        if found is None:
            return False
        is_counted = request.method == TOOLS_CALL and self._rates.limits is not None
        return is_counted or any(tool.cost_per_call for tool in (*found.tools, *found.prompts))

    async def prepare(self, request: DecisionInput, decision: Decision) -> None:
        """Wait until there is room for a call that is allowed otherwise; where there is none, `pay` says so."""
        if isinstance(decision, Deny) or self._budget.terms is None:
            return
        cost, is_counted = _cost(decision), request.method == TOOLS_CALL
        if is_counted:
            await self._rates.ensure()
        if cost:
            await self._budget.ensure(cost)
        if cost and is_counted:
            # A minute may have begun. Otherwise this waits for nothing, so no other call takes the money in between.
            await self._rates.ensure()

    def pay(self, request: DecisionInput, decision: Decision, task: str = "") -> tuple[Decision, Payment | None]:
        """Return the decision on a call, with its payment if it is limited and still allowed.

        Args:
            request: The call.
            decision: The decision so far.
            task: The task that the call names; empty without one.
        """
        cost, is_counted = _cost(decision), request.method == TOOLS_CALL
        if isinstance(decision, Deny) or not (cost or is_counted):
            return decision, None
        if self._budget.terms is None:
            return (replace(deny_unlimited(), tool=decision.tool) if cost else decision), None
        counted = self._rates.reserve_now() if is_counted else RateReservation(0, NOTHING)
        if isinstance(counted, Deny):
            return replace(counted, tool=decision.tool), None
        found = self._budget.reserve_now(cost, task) if cost else None
        if isinstance(found, Deny):
            self._rates.cancel(counted)
            return replace(found, tool=decision.tool), None
        return decision, Payment(self._budget, self._metrics, found, request.source, self._rates, counted)


def _cost(decision: Decision) -> int:
    """Return what a call costs in nano-dollars; zero for one that is denied."""
    if isinstance(decision, Deny) or not isinstance(decision.tool, BundleTool):
        return 0
    return decision.tool.cost_per_call
