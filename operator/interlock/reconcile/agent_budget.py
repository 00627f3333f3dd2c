"""The budget of one Agent: its status and condition, the ledgers that its pods wait for, and whether it is stopped."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.budget_status import BudgetStatus, ExhaustedBudget, ExhaustedPeriod
from interlock.api.policy import AgentPolicy
from interlock.api.status import AgentReason, ConditionType
from interlock.governance.budgets import EnvironmentBudget, LedgerIdentity, budget_of, costs_money
from interlock.reconcile.conditions import Finding
from interlock.reconcile.snapshot import Snapshot
from interlock_contract.budget.forecast import forecast_day, next_forecast
from interlock_contract.budget.leases import LedgerTerms, exhausts, room
from interlock_contract.budget.ledger import Ledger
from interlock_contract.budget.money import format_money, shorten_money
from interlock_contract.clock import write_time
from interlock_contract.names import BUDGET_OVERRIDE

WRITE_INTERVAL: Final = timedelta(seconds=10)
"""How often the spend alone is a reason to write the status."""

_PACED: Final = ("spent", "monthly_spent", "summary", "forecast", "observed_at")
"""Fields of the status that change with every call."""
_CONDITION = ConditionType.BUDGET_EXHAUSTED


@dataclass(frozen=True)
class BudgetReport:
    """What the budget of an agent comes to in one environment.

    Attributes:
        finding: The condition BudgetExhausted.
        budget: The ledgers and limits, None where the agent spends no money and has no rate limits.
        status: What the Agent's status shows, None where the agent spends no money or has no ledger yet.
        missing: The ledgers that must be created before a pod may start.
        is_stopped: Whether the agent has no pods until its budget has room again.
        requeue_at: When the passing of time may change this, None where it cannot.
    """

    finding: Finding
    budget: EnvironmentBudget | None = None
    status: BudgetStatus | None = None
    missing: tuple[LedgerIdentity, ...] = ()
    is_stopped: bool = False
    requeue_at: datetime | None = None


@dataclass(frozen=True)
class _Exhaustion:
    period: ExhaustedPeriod
    limit: int
    until: datetime

    def to_status(self) -> ExhaustedBudget:
        return ExhaustedBudget(period=self.period, limit=format_money(self.limit), until=self.until)


def report_budget(
    snapshot: Snapshot,
    agent: Agent,
    policy: AgentPolicy,
    bindings: Iterable[MCPBinding],
    environment: str,
    now: datetime,
) -> BudgetReport:
    """Return the report for the environment of one placement.

    Args:
        snapshot: The snapshot.
        agent: The Agent, as it holds for the placement's revision.
        policy: Its policy, likewise.
        bindings: Its bindings, likewise.
        environment: The environment.
        now: The time.
    """
    if not costs_money(agent, bindings) and policy.spec.rate_limits is None:
        message = "the agent calls no model, and no tool that has a cost"
        return BudgetReport(Finding(_CONDITION, "False", AgentReason.NO_BUDGET, message))
    budget = budget_of(agent, policy, environment, snapshot.spending.day_seconds)
    missing = tuple(one for one in budget.ledgers if one.name not in snapshot.spending.ledgers)
    ledger = snapshot.spending.ledgers.get(budget.identity.name)
    total = snapshot.spending.ledgers.get(budget.total.name) if budget.total is not None else None
    unreadable = next((found for found in (ledger, total) if isinstance(found, str)), None)
    if unreadable is not None:
        message = (
            f"{unreadable}, so guards refuse calls that cost money until the operator has repaired it; if that takes "
            "more than a minute, read the operator's log, and correct its status as an administrator of the cluster"
        )
        return BudgetReport(
            Finding(_CONDITION, "Unknown", AgentReason.LEDGER_INVALID, message), budget, missing=missing
        )
    if not isinstance(ledger, Ledger):
        message = f"waiting for BudgetLedger {budget.identity.name}"
        return BudgetReport(
            Finding(_CONDITION, "Unknown", AgentReason.LEDGER_MISSING, message), budget, missing=missing
        )
    recorded = agent.status.budget if agent.status else None
    found = _exhaustion(budget, ledger, total if isinstance(total, Ledger) else None, now)
    is_scaled = policy.spec.budget.on_exhausted == "ScaleToZero"
    if found is None and is_scaled:
        found = _still_stopped(_recorded_exhaustion(agent, environment), budget, ledger, now)
    fresh = _status(budget, ledger, found, now)
    status, written_at = _paced(recorded, fresh, now)
    until = None if found is None else found.until
    forecast_at = next_forecast(ledger, int(now.timestamp()))
    changes_at = None if forecast_at is None else datetime.fromtimestamp(forecast_at, UTC)
    times = [one for one in (until, written_at, status.resets_at, changes_at) if one is not None and one > now]
    return BudgetReport(
        _finding(agent, policy, budget, found, is_scaled=is_scaled),
        budget,
        status,
        missing,
        is_stopped=is_scaled and found is not None,
        requeue_at=min(times, default=None),
    )


def _exhaustion(budget: EnvironmentBudget, ledger: Ledger, total: Ledger | None, now: datetime) -> _Exhaustion | None:
    """Return the budget that has too little room for a call that a guard refused, None where all have enough.

    A guard's report alone does not count: the limit may have been raised since, or a slice have been given back.
    """
    found = _exhausted(ledger, budget.terms, "Day", "Month", now)
    if found is None and total is not None and budget.total_terms is not None:
        found = _exhausted(total, budget.total_terms, "TotalDay", "TotalMonth", now)
    return found


def _exhausted(
    ledger: Ledger, terms: LedgerTerms, day: ExhaustedPeriod, month: ExhaustedPeriod, now: datetime
) -> _Exhaustion | None:
    said, at = ledger.exhausted, int(now.timestamp())
    if said is None:
        return None
    window, limit = ledger.window(said.period), terms.limit(said.period)
    if limit is None or window.end <= at or room(ledger, terms, at) >= said.refused:
        return None
    if not exhausts(ledger, terms, said.period, said.refused, at):  # no guard records the refusal of such a call
        return None
    return _Exhaustion(
        day if said.period == "day" else month,
        limit + _credit(ledger, terms, at),
        datetime.fromtimestamp(window.end, UTC),
    )


def _credit(ledger: Ledger, terms: LedgerTerms, at: int) -> int:
    credit = None if terms.is_total else ledger.credit
    return credit.amount if credit is not None and credit.until > at else 0


def _recorded_exhaustion(agent: Agent, environment: str) -> ExhaustedBudget | None:
    """Return what the status says is exhausted in an environment: of the current stage, or of another placement."""
    status = agent.status
    if status is None:
        return None
    if status.budget is not None and status.budget.environment == environment:
        return status.budget.exhausted
    placements = (one for one in status.placements if one.environment == environment)
    return next((one.exhausted for one in placements if one.exhausted is not None), None)


def _still_stopped(
    recorded: ExhaustedBudget | None, budget: EnvironmentBudget, ledger: Ledger, now: datetime
) -> _Exhaustion | None:
    """Return the exhaustion for which an agent was stopped, as long as neither its window nor its limit is another.

    The guards of the pods that ended have given back what they did not spend. Without this, pods would start for that
    rest, and end again.
    """
    if recorded is None or recorded.until <= now:
        return None
    terms = budget.total_terms if recorded.period.startswith("Total") else budget.terms
    if terms is None:
        return None
    limit = terms.day if recorded.period.endswith("Day") else terms.month
    if limit is None:
        return None
    limit += _credit(ledger, terms, int(now.timestamp()))
    return _Exhaustion(recorded.period, limit, recorded.until) if format_money(limit) == recorded.limit else None


def _status(budget: EnvironmentBudget, ledger: Ledger, exhaustion: _Exhaustion | None, now: datetime) -> BudgetStatus:
    at = int(now.timestamp())
    day = ledger.day if ledger.day is not None and ledger.day.end > at else None
    month = ledger.month if ledger.month is not None and ledger.month.end > at else None
    spent, limit = day.spent if day else 0, budget.terms.day or 0
    forecast = forecast_day(ledger, at)
    return BudgetStatus(
        environment=budget.identity.environment,
        summary=f"{shorten_money(spent)}/{shorten_money(limit)}",
        spent=format_money(spent),
        daily_budget=format_money(limit),
        monthly_spent=format_money(month.spent) if month else "",
        monthly_budget="" if budget.terms.month is None else format_money(budget.terms.month),
        forecast="" if forecast is None else shorten_money(forecast).removeprefix("$"),
        resets_at=datetime.fromtimestamp(day.end, UTC) if day else None,
        exhausted=exhaustion.to_status() if exhaustion else None,
        observed_at=now.replace(microsecond=0),
    )


def _paced(recorded: BudgetStatus | None, fresh: BudgetStatus, now: datetime) -> tuple[BudgetStatus, datetime | None]:
    """Return the status to write, and when the next one is due.

    Only the spend changes all the time, so only a change of the spend waits. A clock that went back makes no one wait.
    """
    if recorded is None:
        return fresh, None
    if recorded == fresh.model_copy(update={"observed_at": recorded.observed_at}):
        return recorded, None
    spend = {name: getattr(recorded, name) for name in _PACED}
    due = recorded.observed_at + WRITE_INTERVAL
    if recorded == fresh.model_copy(update=spend) and recorded.observed_at <= now < due:
        return recorded, due
    return fresh, None


def _finding(
    agent: Agent, policy: AgentPolicy, budget: EnvironmentBudget, found: _Exhaustion | None, *, is_scaled: bool
) -> Finding:
    environment, name = budget.identity.environment, policy.metadata.name
    if found is None:
        return Finding(_CONDITION, "False", AgentReason.WITHIN_BUDGET, f"the budget in {environment} has room")
    window = "daily" if found.period.endswith("Day") else "monthly"
    if found.period.startswith("Total"):
        whose, field = f"total {window} budget of AgentPolicy {name}", "spec.budget.total"
    else:
        whose, field = f"{window} budget in {environment}", f"spec.environments[{environment}]"
    metadata, until = agent.metadata, write_time(found.until, "seconds")
    override = (
        ""
        if found.period.startswith("Total")
        else (
            f", or run: kubectl -n {metadata.namespace} annotate agents.interlock.dev {metadata.name} --overwrite "
            f"{BUDGET_OVERRIDE}='+10 USD until={until} reason=...'"
        )
    )
    follows = "the agent has no pods" if is_scaled else "calls that cost money are refused"
    message = (
        f"the {whose} of {shorten_money(found.limit)} is exhausted: its rest is smaller than what a "
        f"call may cost, so {follows} until {until}; to go on before, raise {field} of "
        f"AgentPolicy {name}{override}"
    )
    return Finding(_CONDITION, "True", AgentReason.BUDGET_EXHAUSTED, message)
