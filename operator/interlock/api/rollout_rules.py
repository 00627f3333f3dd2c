"""The rules of an AgentPolicy for rollouts: minimum times, approvals, gates, and how many rollouts at the same time."""

from pydantic import Field

from interlock.api.durations import DrainTimeout, HistoryAge
from interlock.api.gates import GateLimits
from interlock.api.markers import kube
from interlock.api.rollout_status import MAX_PASSED
from interlock.api.shared_types import ApiModel, CountOrPercent, EnvironmentClass
from interlock.api.text import Duration


class RevisionHistory(ApiModel):
    """How many revisions of an Agent are kept, and for how long. The newest and those that run stay in any case."""

    count: int = Field(default=10, ge=1, le=MAX_PASSED, json_schema_extra=kube(format="int32", default=10))
    """How many that were good a rollback can name, and how many of the newest are stored."""

    max_age: HistoryAge | None = None
    """How old others become, by when they began; absent for no bound. They are deleted when a revision begins."""


class RolloutMinimums(ApiModel):
    """Rules for rollouts: minimum times, approvals, gates, and how many run at the same time."""

    min_staging: Duration = "168h"
    """Least sum of minDuration of all staging stages. Above 0s a staging stage is required before production."""

    min_limited_scope: Duration = "48h"
    """Least sum of minDuration of the production stages that have a scope and come before the first one without, where
    there are any."""

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

    history: RevisionHistory = Field(default_factory=RevisionHistory)
    """How many revisions of an Agent are kept, and for how long."""
