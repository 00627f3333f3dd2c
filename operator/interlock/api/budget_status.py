"""The budget of an Agent as its status shows it."""

from typing import Literal

from pydantic import ConfigDict, Field

from interlock.api.shared_types import ApiModel, Timestamp

ExhaustedPeriod = Literal["Day", "Month", "TotalDay", "TotalMonth"]


class ExhaustedBudget(ApiModel):
    """A budget of which too little is left for a call that was refused."""

    model_config = ConfigDict(extra="ignore")

    period: ExhaustedPeriod
    """The window: of the agent's own budget, or of the total of all agents of the policy."""

    limit: str = Field(max_length=32)
    """US dollars of that budget, with those of an override."""

    until: Timestamp
    """End of the window."""


class BudgetStatus(ApiModel):
    """What the agent has spent in the environment of its current stage."""

    model_config = ConfigDict(extra="ignore")

    environment: str = Field(max_length=63)
    """The environment."""

    summary: str = Field(max_length=64)
    """Spent and daily budget in one column, such as $12.40/$50."""

    spent: str = Field(max_length=32)
    """US dollars of the present day that are settled, or were lost with a guard that ended."""

    daily_budget: str = Field(max_length=32)
    """US dollars of a day."""

    monthly_spent: str = Field(default="", max_length=32)
    """US dollars of the present month, empty before the first call."""

    monthly_budget: str = Field(default="", max_length=32)
    """US dollars of a month; empty without such a budget."""

    forecast: str = Field(default="", max_length=32)
    """US dollars of the present day if the spend of the last three hours goes on until its end, rounded up to a cent.
    Empty while the first spend is younger than an hour."""

    resets_at: Timestamp | None = None
    """End of the present day; absent before the first call of a day."""

    exhausted: ExhaustedBudget | None = None
    """The budget that is exhausted; absent while none is."""

    observed_at: Timestamp
    """When the spend was read. It is written at most every 10 seconds."""
