"""Budgets and prices of an AgentPolicy, and the annotation that raises the budget of one Agent for a time."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from interlock.api.markers import Rule, kube
from interlock.api.messages import ALERT_PERCENTS, BUDGET_EMPTY
from interlock.api.shared_types import ApiModel
from interlock.api.text import Duration, ModelGlob, Money, TimeZone

DEFAULT_MAX_OUTPUT_TOKENS = 4096
"""Output tokens of a call of a model that names no limit of its own."""
MAX_OUTPUT_TOKENS = 1_000_000
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


class OverrideLimits(ApiModel):
    """Bounds of what interlock.dev/budget-override adds to the budget of an Agent."""

    max_amount: Money = "100"
    """Most US dollars that one override adds. With 0 no override is accepted."""

    max_duration: Duration = "24h"
    """Longest time from an override to its until."""


class Budget(ApiModel):
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

    override: OverrideLimits = OverrideLimits()
    """Bounds of what users with the right to do so add to the budget of an Agent."""


class ModelPrice(ApiModel):
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
    Anthropic's API, where no lifetime of the cache costs more."""

    audio_input: Money | None = None
    """Price of input tokens of audio. Absent: that of input."""

    audio_output: Money | None = None
    """Price of output tokens of audio. Absent: that of output."""

    per_call: Money | None = None
    """US dollars of each call, in addition to its tokens. Absent: 0."""

    context_window: int | None = Field(
        default=None, ge=1, le=MAX_CONTEXT_WINDOW, json_schema_extra=kube(format="int32")
    )
    """Most tokens that the models read in one call. Absent: as Interlock knows it. Calls with images, or with content
    that they only refer to, are refused for models without a known one."""
