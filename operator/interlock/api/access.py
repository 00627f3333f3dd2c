"""What an AgentPolicy comes to: who may do what on which data, and which rule says so."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from interlock.api.markers import kube
from interlock.api.model import ApiModel
from interlock.api.scope import Environment

MAX_ROWS = 256
"""Rows that a policy's status has room for."""
MAX_ROW_RESOURCES = 64
"""Resources that one row names; more of them make more rows."""


class AccessRow(ApiModel):
    """One answer: what the guard decides for an agent, an operation and these kinds of data, and by which rule."""

    model_config = ConfigDict(extra="ignore")

    agent: str = Field(max_length=253)
    """Name of the Agent."""

    source: str = Field(max_length=63)
    """The source."""

    environment: Environment
    """The environment of a stage of the Agent; another binding may serve the source in another one."""

    operation: Literal["read", "write", "delete"]
    """What is done."""

    resources: tuple[Annotated[str, Field(max_length=63)], ...] = Field(min_length=1, max_length=MAX_ROW_RESOURCES)
    """The kinds of data that this is the answer for."""

    decision: Literal["Allow", "Deny"]
    """What the guard decides; a stage's scope and the rules on arguments can still deny single calls."""

    reason: str = Field(default="", max_length=63)
    """Why it is denied, as one stable word; see the guard's reasons."""

    rule: str = Field(default="", max_length=1024)
    """The rule that allows it, or that would have to change, such as agentpolicy/support/dataAccess[0]."""


class AgentPolicyStatus(ApiModel):
    """What the operator reports on an AgentPolicy."""

    model_config = ConfigDict(extra="ignore")

    observed_generation: int = Field(default=0, ge=0)
    """The generation of the spec that this status speaks of."""

    access: tuple[AccessRow, ...] = Field(default=(), max_length=MAX_ROWS)
    """What the policy comes to, together with bindings and the agents' own narrowing: by agent, source and so on."""

    agents_omitted: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """How many agents under the policy there was no room for; access has the first ones by name."""
