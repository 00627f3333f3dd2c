"""Metrics of what calls have cost and of the guard's part of the budget. No label has a text of the agent."""

from collections import Counter
from typing import Final

from interlock_contract.budget.money import format_money
from interlock_contract.exposition import Metric
from interlock_guard.budget.budget import Budget
from interlock_guard.budget.cost_record import describe_usage
from interlock_guard.budget.minute_limiter import MinuteLimiter
from interlock_guard.budget.settlement import Charge
from interlock_guard.work_counter import WorkCounter

SPENT: Final = Metric(
    "interlock_guard_spent_dollars_total", "counter", "What calls have cost, by the price book.", ("source", "model")
)
TOKENS: Final = Metric(
    "interlock_guard_tokens_total", "counter", "Tokens that calls of models have used.", ("source", "model", "type")
)
COST_ALERTS: Final = Metric(
    "interlock_guard_cost_alerts_total", "counter", "Answers whose usage was missing, odd or unexpected.", ("alert",)
)
FREE: Final = Metric(
    "interlock_guard_budget_free_dollars", "gauge", "What the guard may reserve without a write to a ledger."
)
REFUSED: Final = Metric("interlock_guard_budget_refused_total", "counter", "Calls that were refused for lack of money.")
WRITES: Final = Metric("interlock_guard_budget_writes_total", "counter", "Writes of the guard to ledgers.")
AWAY: Final = Metric("interlock_guard_budget_away", "gauge", "1 while a ledger cannot be read or written.")


RATE_REFUSED: Final = Metric(
    "interlock_guard_rate_refused_total", "counter", "Calls that were refused because of the limits of a minute."
)


class SpendMetrics:
    """Counts what was spent.

    Args:
        budget: The budget of the guard.
        rates: Its limits of calls and tokens.
        work: Adds up the cost for the gates of stages.
    """

    def __init__(self, budget: Budget, rates: MinuteLimiter, work: WorkCounter | None = None) -> None:
        self._work = work or WorkCounter()
        self._budget, self._rates = budget, rates
        self._spent: Counter[tuple[str, str]] = Counter()
        self._tokens: Counter[tuple[str, str, str]] = Counter()
        self._alerts: Counter[tuple[str]] = Counter()

    def count(self, source: str, model: str, charge: Charge) -> None:
        """Count what a call of a model has cost.

        Args:
            source: The provider.
            model: The model, by its name in the bundle.
            charge: The cost.
        """
        self._spent[source, model] += charge.nanos
        self._work.spend(charge.nanos)
        if charge.usage is not None:
            for kind, tokens in describe_usage(charge.usage).items():
                if tokens:
                    self._tokens[source, model, kind.removesuffix("Tokens")] += tokens
        for alert in charge.alerts:
            self._alerts[(alert,)] += 1

    def count_tool(self, source: str, nanos: int) -> None:
        """Count what a call of a tool has cost."""
        self._spent[source, ""] += nanos
        self._work.spend(nanos)

    def lines(self) -> list[str]:
        """Return the metrics in Prometheus' text format; none for an agent without a budget."""
        if self._budget.terms is None:
            return []
        return [
            *SPENT.render_by((labels, format_money(nanos)) for labels, nanos in sorted(self._spent.items())),
            *TOKENS.render_by(sorted(self._tokens.items())),
            *COST_ALERTS.render_by(sorted(self._alerts.items())),
            *FREE.render(format_money(max(0, self._budget.free))),
            *REFUSED.render(self._budget.refusals),
            *WRITES.render(self._budget.ledger_writes),
            *([] if self._rates.limits is None else RATE_REFUSED.render(self._rates.refusals)),
            *AWAY.render(int(self._budget.is_away)),
        ]
