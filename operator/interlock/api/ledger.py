"""BudgetLedger: what one agent has spent in one environment, or all agents of a policy together.

The operator creates a ledger before the first pod, and guards write to its status what they take and spend. All amounts
are integer nano-dollars (10^-9 US dollars). This module describes the kind to the API server; the programs read
and write the status by `interlock_contract.budget`, which has the meaning of its members.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from interlock.api.markers import Rule, kube
from interlock.api.messages import LEDGER_IDENTITY
from interlock.api.shared_types import ApiModel, ObjectMeta, Timestamp
from interlock.api.text import AgentName, EnvironmentName, ObjectName
from interlock_contract.budget.ledger import (
    MAX_ALERTS,
    MAX_DAYS,
    MAX_MONTHS,
    MAX_SLICES,
    MAX_STEPS,
    MAX_VELOCITY_ALERTS,
)
from interlock_contract.budget.money import MAX_LIMIT, MAX_MONEY
from interlock_contract.budget.rates import MAX_RATE_SLICES
from interlock_contract.budget.tokens_per_byte import MAX_COUNT, MAX_HOURS, MAX_TOKEN_ALERTS, MAX_TOKEN_MODELS
from interlock_contract.names import API_VERSION
from interlock_contract.strict_fields import MAX_TEXT

Nanos = Annotated[int, Field(ge=0, le=MAX_MONEY, json_schema_extra=kube(format="int64"))]
Limit = Annotated[int, Field(ge=0, le=MAX_LIMIT, json_schema_extra=kube(format="int64"))]
LedgerTime = Annotated[
    Timestamp,
    Field(json_schema_extra=kube(pattern="^(19[7-9][0-9]|20[0-9]{2})-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")),
]
"""A moment as ledgers write it: guards refuse a ledger with another form, so no one may store it."""
Percent = Annotated[int, Field(ge=1, le=100, json_schema_extra=kube(format="int32"))]
Period = Literal["day", "month"]


class _StatusModel(ApiModel):
    model_config = ConfigDict(extra="ignore")


class BudgetLedgerSpec(ApiModel):
    """Whose ledger it is. It never changes."""

    model_config = ConfigDict(
        json_schema_extra=kube(Rule(rule="has(self.agent) == has(self.environment)", message=LEDGER_IDENTITY)),
    )

    policy: ObjectName
    """The AgentPolicy with the limits."""

    agent: AgentName | None = None
    """The Agent. Absent: the ledger counts all agents and environments of the policy together."""

    environment: EnvironmentName | None = None
    """The environment of the Agent that the ledger counts. Absent with agent."""

    @model_validator(mode="after")
    def _refuse(self) -> "BudgetLedgerSpec":
        if (self.agent is None) != (self.environment is None):
            raise ValueError(LEDGER_IDENTITY)
        return self


class LedgerPeriod(_StatusModel):
    """A day or a month, and what was spent in it."""

    start: LedgerTime | None = None
    """When it began."""

    end: LedgerTime | None = None
    """When it ends. The next one begins then."""

    spent: Nanos | None = None
    """Settled spend, and the slices of holders that were closed, in nano-dollars. It never falls."""

    credited: Nanos | None = None
    """What an override pays of spend and slices in it."""


class LedgerSlice(_StatusModel):
    """Money that one guard process may spend without asking again."""

    holder: str = Field(min_length=1, max_length=128)
    """The guard process: uid of its pod and its start."""

    pod_uid: str = Field(min_length=1, max_length=64)
    """uid of its pod."""

    amount: Nanos
    """What it was granted and has not settled, in nano-dollars."""

    day_start: LedgerTime
    """Start of the day that the slice belongs to."""

    month_start: LedgerTime
    """Start of the month that it belongs to."""

    settled: Nanos | None = None
    """What the holder has settled of the slice so far."""

    wanted: Nanos | None = None
    """What the holder lacks for a request that waits. Others return what they have not reserved."""

    renewed_at: LedgerTime
    """When the holder wrote the slice last."""


class LedgerCredit(_StatusModel):
    """What an override adds to the budget."""

    amount: Limit
    """Amount in nano-dollars. 0: it was refused or withdrawn."""

    spent: Nanos | None = None
    """How much of it is spent or in slices."""

    until: LedgerTime
    """When it is gone."""

    reason: str = Field(min_length=1, max_length=256)
    """Reason that the user gave."""

    by: str | None = Field(default=None, min_length=1, max_length=1024)
    """User who set it."""

    given_at: LedgerTime
    """When the operator recorded it."""

    id: str | None = Field(default=None, min_length=1, max_length=64)
    """Digest of the annotation and the uid of the Agent: one override is given or refused once. Absent if withdrawn."""


class LedgerAlert(_StatusModel):
    """An alert that was raised."""

    percent: Percent
    """Percentage of the limit that settled spend had reached."""

    period: Period
    """Whether it is about a day or a month."""

    window_start: LedgerTime
    """Start of that day or month."""

    at: LedgerTime
    """When it was raised."""

    limit: Nanos
    """The limit at that moment in nano-dollars."""

    spent: Nanos
    """The spend at that moment in nano-dollars."""


class LedgerRecentSpend(_StatusModel):
    """What was settled in steps of ten minutes."""

    start: LedgerTime
    """Start of the newest step."""

    spent: tuple[Nanos, ...] = Field(default=(), max_length=MAX_STEPS)
    """Amounts in nano-dollars, the newest first: the newest step and a day before it."""


class LedgerVelocityAlert(_StatusModel):
    """Ten minutes that cost far more than usual."""

    window_start: LedgerTime
    """Start of the ten minutes."""

    at: LedgerTime
    """When the alert was raised."""

    spent: Nanos
    """What they had cost at that moment in nano-dollars."""

    median: Nanos
    """The median of the ten minutes of the last day in nano-dollars."""


Count = Annotated[int, Field(ge=0, le=MAX_COUNT, json_schema_extra=kube(format="int64"))]
Model = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class LedgerModelTokens(_StatusModel):
    """What answers of a model said that they used, and the text that it stands for, by hours, the newest first."""

    model: Model
    """The model, as provider/model."""

    start: LedgerTime
    """Start of the newest hour."""

    calls: tuple[Count, ...] = Field(default=(), max_length=MAX_HOURS)
    """Calls that are counted."""

    input_bytes: tuple[Count, ...] = Field(default=(), max_length=MAX_HOURS)
    """Bytes of requests of text alone."""

    input_tokens: tuple[Count, ...] = Field(default=(), max_length=MAX_HOURS)
    """Tokens of input of these requests, cached ones included."""

    output_bytes: tuple[Count, ...] = Field(default=(), max_length=MAX_HOURS)
    """Bytes of text in answers."""

    output_tokens: tuple[Count, ...] = Field(default=(), max_length=MAX_HOURS)
    """Tokens of output of these answers."""


class LedgerTokenAlert(_StatusModel):
    """A model that reported other tokens per byte in an hour than on the day before."""

    model: Model
    """The model, as provider/model."""

    direction: Literal["input", "output"]
    """Whether it is about tokens of input or of output."""

    window_start: LedgerTime
    """Start of the day of the budget. A model has one alert a day."""

    hour_start: LedgerTime
    """Start of the hour."""

    at: LedgerTime
    """When the alert was raised."""

    tokens: Count
    """Tokens of the hour at that moment."""

    bytes: Count
    """Bytes that they stand for."""

    day_tokens: Count
    """Tokens of the day before that hour."""

    day_bytes: Count
    """Bytes that these stand for."""


class LedgerRateSlice(_StatusModel):
    """Calls and tokens that one guard process may use in the minute."""

    holder: str = Field(min_length=1, max_length=128)
    """The guard process: uid of its pod and its start."""

    pod_uid: str = Field(min_length=1, max_length=64)
    """uid of its pod."""

    calls: Nanos | None = None
    """Calls that it has made and may make."""

    tokens: Nanos | None = None
    """Tokens that it has used and may use."""

    wanted_calls: Nanos | None = None
    """Calls that it lacks. Others return what they do not use."""

    wanted_tokens: Nanos | None = None
    """Tokens that it lacks. Others return what they do not use."""

    asked_at: LedgerTime | None = None
    """When it lacked something last."""


class LedgerRate(_StatusModel):
    """The calls and tokens of one minute. All slices together never exceed the rate limits."""

    start: LedgerTime | None = None
    """When the minute began."""

    slices: tuple[LedgerRateSlice, ...] = Field(default=(), max_length=MAX_RATE_SLICES)
    """What guards have used and may use."""


class LedgerExhausted(_StatusModel):
    """A request that was refused since the budget had not enough left."""

    at: LedgerTime
    """When it was refused."""

    period: Period
    """Whether the day's or the month's limit refused it."""

    refused: Limit
    """Smallest worst case that was refused, in nano-dollars."""

    holder: str = Field(min_length=1, max_length=128)
    """The guard process that wrote it."""


class BudgetLedgerStatus(_StatusModel):
    """What was spent, and what guards hold."""

    day: LedgerPeriod | None = None
    """The present day. Absent before the first."""

    month: LedgerPeriod | None = None
    """The present month. Absent before the first."""

    slices: tuple[LedgerSlice, ...] = Field(default=(), max_length=MAX_SLICES)
    """Slices that guards hold. Spend and slices together never exceed the limit."""

    credit: LedgerCredit | None = None
    """The last override."""

    days: tuple[LedgerPeriod, ...] = Field(default=(), max_length=MAX_DAYS)
    """Closed days, the newest first."""

    months: tuple[LedgerPeriod, ...] = Field(default=(), max_length=MAX_MONTHS)
    """Closed months, the newest first."""

    alerts: tuple[LedgerAlert, ...] = Field(default=(), max_length=MAX_ALERTS)
    """Alerts that were raised."""

    recent: LedgerRecentSpend | None = None
    """What was settled in the last day, in steps of ten minutes."""

    velocity_alerts: tuple[LedgerVelocityAlert, ...] = Field(default=(), max_length=MAX_VELOCITY_ALERTS)
    """Alerts about ten minutes that cost far more than usual, at most one an hour."""

    tokens: tuple[LedgerModelTokens, ...] = Field(default=(), max_length=MAX_TOKEN_MODELS)
    """Tokens and bytes of the last day by model. Totals have none."""

    token_alerts: tuple[LedgerTokenAlert, ...] = Field(default=(), max_length=MAX_TOKEN_ALERTS)
    """Alerts about models whose tokens per byte have changed, at most one for a model and a day."""

    exhausted: LedgerExhausted | None = None
    """Present from the first refusal on, until the next window or an override."""

    rate: LedgerRate | None = None
    """The last minute in which an agent with rate limits has called."""


class BudgetLedger(ApiModel):
    """What one agent has spent in one environment, or all agents of a policy together, and what its guards hold."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["BudgetLedger"] = "BudgetLedger"
    metadata: ObjectMeta
    spec: BudgetLedgerSpec
    status: BudgetLedgerStatus | None = None
