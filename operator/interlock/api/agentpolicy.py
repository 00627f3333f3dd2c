"""AgentPolicy: the governance that a set of Agents lives under."""

from typing import Literal

from pydantic import Field

from interlock.api.meta import API_VERSION
from interlock.api.model import ApiModel, ObjectMeta
from interlock.api.text import AgentName, Duration, Name, ReadableResource, Resource


class DataAccessRow(ApiModel):
    """One row of the access matrix."""

    agents: tuple[AgentName, ...] = Field(min_length=1, max_length=64)
    """Names of the Agents that the row speaks of."""

    source: Name
    """The source that it speaks of."""

    read: tuple[ReadableResource, ...] = Field(default=(), max_length=64)
    """Resources that may be read; "*" is all of them."""

    write: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be created or changed."""

    delete: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be deleted."""


class RolloutMinimums(ApiModel):
    """No agent may go faster into production."""

    min_staging: Duration = "168h"
    """Least sum of minDuration of all staging stages; above 0s a staging stage is obligatory before production."""

    min_limited_scope: Duration = "48h"
    """Least sum of minDuration of all production stages that have a scope, where there are any."""

    require_limited_scope: bool = True
    """Whether production must start with a scoped stage."""


class AgentPolicySpec(ApiModel):
    """What is demanded."""

    data_access: tuple[DataAccessRow, ...] = Field(default=(), max_length=256)
    """The access matrix: what is in no row is denied."""

    rollout: RolloutMinimums = RolloutMinimums()
    """No agent may go faster into production."""


class AgentPolicy(ApiModel):
    """The governance that a set of Agents lives under: access matrix and rollout minimums."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["AgentPolicy"] = "AgentPolicy"
    metadata: ObjectMeta
    spec: AgentPolicySpec
