"""The rules of an AgentPolicy for rollouts: minimum times, approvals, gates, and how many rollouts at the same time."""

from pydantic import Field

from interlock.api.durations import DrainTimeout
from interlock.api.gates import GateLimits
from interlock.api.shared_types import ApiModel, CountOrPercent, EnvironmentClass
from interlock.api.text import Duration


class RolloutMinimums(ApiModel):
    """Minimum times on the way into production."""

    min_staging: Duration = "168h"
    """Least sum of minDuration of all staging stages. Above 0s a staging stage is required before production."""

    min_limited_scope: Duration = "48h"
    """Least sum of minDuration of all production stages that have a scope, where there are any."""

    require_limited_scope: bool = True
    """Whether production must start with a scoped stage."""

    require_approval: tuple[EnvironmentClass, ...] = Field(default=(), max_length=3)
    """Classes of environments in which a stage is entered only if a promote names it."""

    gates: GateLimits | None = None
    """Gates of every stage but the last one of a rollout. A stage can only make them stricter."""

    max_concurrent: CountOrPercent = "10%"
    """How many of the policy's Agents may have a rollout at the same time that the policy or a binding began: a number,
    or a percentage of them, at least 1. The others wait. A change of an Agent's own spec does not wait."""

    max_drain_timeout: DrainTimeout = "5m"
    """Longest drainTimeout of an Agent."""
