"""Payments for calls of tools that cost: each call that is forwarded costs what the binding says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from interlock_contract.bundle import Bundle, BundleTool
from interlock_guard.budget.account import Reservation
from interlock_guard.budget.budget import Budget
from interlock_guard.budget.cost_record import describe_flat_cost
from interlock_guard.budget.spend_metrics import SpendMetrics
from interlock_guard.decision.decide import Decision, Deny, find_source


@dataclass(slots=True, eq=False)
class Payment:
    """What one call costs.

    Attributes:
        budget: Where it is reserved.
        metrics: Counts what was spent.
        reservation: What was reserved for it.
        source: The source that is called.
    """

    budget: Budget
    metrics: SpendMetrics
    reservation: Reservation
    source: str

    def settle(self) -> Mapping[str, Any]:
        """Charge it; return what the audit record says about the cost."""
        self.budget.settle(self.reservation, self.reservation.amount)
        self.metrics.count_tool(self.source, self.reservation.amount)
        return describe_flat_cost(self.reservation.amount)

    def cancel(self) -> None:
        """Charge nothing: the call was not forwarded."""
        self.budget.settle(self.reservation, 0)


class Payments:
    """Pays for calls of tools.

    Args:
        budget: The budget of the guard.
        metrics: Counts what was spent.
    """

    def __init__(self, budget: Budget, metrics: SpendMetrics) -> None:
        self._budget, self._metrics = budget, metrics

    def may_cost(self, bundle: Bundle | None, source: str) -> bool:
        """Return True if a call of a source may cost anything."""
        found = find_source(bundle, source)
        return found is not None and any(tool.cost_per_call for tool in (*found.tools, *found.prompts))

    async def prepare(self, decision: Decision) -> None:
        """Wait until there is money for a call that is allowed otherwise; where there is none, `pay` says so."""
        cost = _cost(decision)
        if cost and self._budget.terms is not None:
            await self._budget.ensure(cost)

    def pay(self, source: str, decision: Decision, task: str = "") -> tuple[Decision, Payment | None]:
        """Return the decision on a call, with its payment if it costs anything and is still allowed.

        Args:
            source: The source that is called.
            decision: The decision so far.
            task: The task that the call names; empty without one.
        """
        cost = _cost(decision)
        if not cost or self._budget.terms is None:
            return decision, None
        found = self._budget.reserve_now(cost, task)
        if isinstance(found, Deny):
            return replace(found, tool=decision.tool), None
        return decision, Payment(self._budget, self._metrics, found, source)


def _cost(decision: Decision) -> int:
    """Return what a call costs in nano-dollars; zero for one that is denied."""
    if isinstance(decision, Deny) or not isinstance(decision.tool, BundleTool):
        return 0
    return decision.tool.cost_per_call
