"""Budgets and prices of AgentPolicies, lower budgets of Agents, and the annotation that raises a budget for a time."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from interlock.api.environments import Environment
from interlock.api.markers import Rule, kube
from interlock.api.messages import (
    ALERT_PERCENTS,
    BUDGET_EMPTY,
    BUDGET_OVERRIDE,
    BUDGET_OVERRIDE_INVALID,
    RATES_EMPTY,
    format_message,
    quoted,
)
from interlock.api.shared_types import ApiModel
from interlock.api.text import Duration, EnvironmentName, ModelGlob, Money, TimeZone
from interlock_contract.budget.rates import MAX_CALLS, MAX_TOKENS
from interlock_contract.budget.tokens_per_byte import DEFAULT_CHANGE_PERCENT, DEFAULT_MINIMUM_CALLS
from interlock_contract.budget.velocity import DEFAULT_FACTOR

_PARTS = re.compile(r"\+(?P<amount>[0-9.]+) USD until=(?P<until>[^ ]+) reason=(?P<reason>.+)")

MAX_CONTEXT_WINDOW = 100_000_000


def _rising(percents: tuple[int, ...]) -> tuple[int, ...]:
    if list(percents) != sorted(set(percents)):
        raise ValueError(ALERT_PERCENTS)
    return percents


class TotalBudget(ApiModel):
    """A budget of all agents of the policy together. At least one of dailyBudget and monthlyBudget is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(Rule(rule="has(self.dailyBudget) || has(self.monthlyBudget)", message=BUDGET_EMPTY)),
    )

    daily_budget: Money | None = None
    """Most US dollars of one day."""

    monthly_budget: Money | None = None
    """Most US dollars of one month."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if self.daily_budget is None and self.monthly_budget is None:
            raise ValueError(BUDGET_EMPTY)
        return self


class AgentBudget(ApiModel):
    """A lower budget of the agent in one environment. At least one of dailyBudget and monthlyBudget is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(Rule(rule="has(self.dailyBudget) || has(self.monthlyBudget)", message=BUDGET_EMPTY)),
    )

    environment: EnvironmentName
    """The environment."""

    daily_budget: Money | None = None
    """Most US dollars of one day, at most those of the AgentPolicy; absent for those."""

    monthly_budget: Money | None = None
    """Most US dollars of one month, at most those of the AgentPolicy; absent for those."""


class OverrideLimits(ApiModel):
    """Bounds of what interlock.dev/budget-override adds to the budget of an Agent."""

    max_amount: Money = "100"
    """Most US dollars that one override adds. With 0 no override is accepted."""

    max_duration: Duration = "24h"
    """Longest time from an override to its until."""


class VelocityLimits(ApiModel):
    """Ten minutes whose spend is above factor times the median of the last day and above minimum raise an alert."""

    factor: int = Field(default=DEFAULT_FACTOR, ge=2, le=1000, json_schema_extra=kube(format="int32"))
    """How many times the median."""

    minimum: Money = "1"
    """US dollars below which no ten minutes raise an alert. With 1000000 there are none."""


class TokensPerByteLimits(ApiModel):
    """A model whose tokens per byte of an hour differ from the day before by more than changePercent is an alert."""

    change_percent: int = Field(default=DEFAULT_CHANGE_PERCENT, ge=5, le=10_000, json_schema_extra=kube(format="int32"))
    """How far they may differ."""

    minimum_calls: int = Field(
        default=DEFAULT_MINIMUM_CALLS, ge=1, le=1_000_000_000, json_schema_extra=kube(format="int32")
    )
    """Calls without which neither an hour nor a day is compared. With 1000000000 there are no such alerts."""


class PolicyBudget(ApiModel):
    """What holds for the budgets of all agents of the policy."""

    alert_percents: Annotated[
        tuple[Annotated[int, Field(ge=1, le=99, json_schema_extra=kube(format="int32"))], ...],
        AfterValidator(_rising),
    ] = Field(
        default=(50, 80),
        max_length=8,
        json_schema_extra=kube(
            Rule(rule="self.all(i, p, i == 0 || self[i - 1] < p)", message=ALERT_PERCENTS), default=[50, 80]
        ),
    )
    """Percentages of a budget whose settled spend raises an alert, once in each window."""

    time_zone: TimeZone = "UTC"
    """Time zone, as in the IANA database, in which days and months begin. A change holds from the end of the present
    window on."""

    on_exhausted: Literal["Block", "ScaleToZero"] = "Block"
    """Block: calls that cost money are refused until the next window. ScaleToZero: the agent also has no pods until
    then."""

    total: TotalBudget | None = None
    """A budget of all agents and environments of the policy together. Without it each new Agent is a new budget."""

    per_task: Money | None = None
    """Most US dollars that one task spends, in one pod. Absent: tasks have no limit of their own. A call that names no
    task under way counts against each of them."""

    velocity: VelocityLimits = VelocityLimits()
    """When the speed of a spend raises an alert."""

    tokens_per_byte: TokensPerByteLimits = TokensPerByteLimits()
    """When a provider that counts tokens otherwise than before raises an alert."""

    override: OverrideLimits = OverrideLimits()
    """Bounds of what users with the right to do so add to the budget of an Agent."""


class RateLimitRules(ApiModel):
    """Most calls and tokens of one agent in one environment in a minute, over all its guards. At least one is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(Rule(rule="has(self.callsPerMinute) || has(self.tokensPerMinute)", message=RATES_EMPTY)),
    )

    calls_per_minute: int | None = Field(default=None, ge=1, le=MAX_CALLS, json_schema_extra=kube(format="int32"))
    """Most calls of models and tools in a minute. Absent for no limit."""

    tokens_per_minute: int | None = Field(default=None, ge=1, le=MAX_TOKENS, json_schema_extra=kube(format="int32"))
    """Most tokens of input and output that calls of models use in a minute. A call is counted with the most that it may
    use until its answer says what it has used. Absent for no limit."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if self.calls_per_minute is None and self.tokens_per_minute is None:
            raise ValueError(RATES_EMPTY)
        return self


class DeclaredPrice(ApiModel):
    """Prices of models, instead of those that Interlock knows. They are US dollars for a million tokens."""

    model: ModelGlob
    """The models, as provider/model. A * at the end matches any rest. The longest match applies."""

    input: Money
    """Price of input tokens. 0 is a price."""

    output: Money
    """Price of output tokens, with those of reasoning."""

    cached_input: Money | None = None
    """Price of input tokens that the provider reads from its cache. Absent: that of input."""

    cache_write: Money | None = None
    """Price of input tokens that the provider writes to its cache. Absent: that of input, and twice that with
    Anthropic's API, where writes for an hour cost at least that."""

    audio_input: Money | None = None
    """Price of input tokens of audio. Absent: that of input."""

    audio_output: Money | None = None
    """Price of output tokens of audio. Absent: that of output."""

    per_call: Money | None = None
    """US dollars of each call, in addition to its tokens. Absent: 0. The price of a model that searches by itself must
    have it: the most that a call costs besides its prompt and the limit of its output."""

    context_window: int | None = Field(
        default=None, ge=1, le=MAX_CONTEXT_WINDOW, json_schema_extra=kube(format="int32")
    )
    """Most tokens that the models read in one call. Absent: as Interlock knows it. Calls with images, or with content
    that they only refer to, are refused for models without a known one."""


@dataclass(frozen=True)
class BudgetOverride:
    """What the annotation interlock.dev/budget-override of an Agent says.

    Attributes:
        amount: US dollars as a decimal string, which day and month get in addition to their limits.
        until: When the rest of it is gone, in UTC.
        reason: Why, for the ledger.
    """

    amount: str
    until: datetime
    reason: str


def parse_override(text: str) -> BudgetOverride:
    """Read the value of the annotation, such as `+100 USD until=2026-12-01T18:00:00Z reason=quarter end`.

    Raises:
        ValueError: It is none. The message says what to write.
    """
    found = _PARTS.fullmatch(text) if re.fullmatch(BUDGET_OVERRIDE, text) else None
    if found is None:
        raise ValueError(format_message(BUDGET_OVERRIDE_INVALID, text=quoted(text)))
    try:
        until = datetime.fromisoformat(found["until"]).astimezone(UTC)
    except (ValueError, OverflowError):  # such as February 30
        raise ValueError(format_message(BUDGET_OVERRIDE_INVALID, text=quoted(text))) from None
    return BudgetOverride(found["amount"], until, found["reason"])


@dataclass(frozen=True)
class BudgetLimits:
    """The limits of one agent in one environment, in US dollars as decimal strings; None is no limit."""

    daily: str
    monthly: str | None


def limits_of(environment: Environment, own: Iterable[AgentBudget]) -> BudgetLimits:
    """Return the limits that hold: those of the policy, or lower ones of the agent itself.

    Args:
        environment: The environment, as the agent's policy has it.
        own: `spec.budget` of the agent. What it says above the policy's limits is without effect.
    """
    mine = [budget for budget in own if budget.environment == environment.name]
    daily = [environment.daily_budget, *(one.daily_budget for one in mine)]
    monthly = [environment.monthly_budget, *(one.monthly_budget for one in mine)]
    return BudgetLimits(_least(daily) or environment.daily_budget, _least(monthly))


def _least(amounts: Iterable[str | None]) -> str | None:
    given = [amount for amount in amounts if amount is not None]
    return min(given, key=Decimal, default=None)
