"""AgentPolicy: the governance that a set of Agents lives under."""

from typing import Literal

from interlock.api.meta import API_VERSION
from interlock.api.model import ApiModel, ObjectMeta


class DataAccessRow(ApiModel):
    """One row of the access matrix."""

    agents: tuple[str, ...]
    """Names of the Agents that the row speaks of."""

    source: str
    """The source that it speaks of."""

    read: tuple[str, ...] = ()
    """Resources that may be read; "*" is all of them."""

    write: tuple[str, ...] = ()
    """Resources that may be created or changed."""

    delete: tuple[str, ...] = ()
    """Resources that may be deleted."""


class RolloutMinimums(ApiModel):
    """No agent may go faster into production."""

    min_staging: str = "168h"
    """Least sum of all staging stages."""

    min_limited_scope: str = "48h"
    """Least sum of all scoped production stages."""

    require_limited_scope: bool = True
    """Whether production must start with a scoped stage."""


class AgentPolicySpec(ApiModel):
    """What is demanded."""

    data_access: tuple[DataAccessRow, ...] = ()
    """The access matrix: what is in no row is denied."""

    rollout: RolloutMinimums = RolloutMinimums()
    """No agent may go faster into production."""


class AgentPolicy(ApiModel):
    """Governance of a set of Agents."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["AgentPolicy"] = "AgentPolicy"
    metadata: ObjectMeta
    spec: AgentPolicySpec
