"""Identities at a cloud's API for the stdio servers of agents: `AgentPolicy.spec.cloudIdentity`."""

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from interlock.api.agent_selector import AgentSelector, agents_or_selector, selects
from interlock.api.markers import Rule, kube
from interlock.api.messages import (
    CLOUD_KEYS_INVALID,
    CLOUD_KEYS_MIXED,
    IDENTITY_AGENTS,
)
from interlock.api.shared_types import ApiModel, ObjectMeta
from interlock.api.text import AgentName, EnvironmentName, Name
from interlock_contract.names import AWS_ROLE, AZURE_CLIENT, CLOUD_KEYS, GOOGLE_ACCOUNT

MAX_IDENTITIES: Final = 32
"""Rows of one policy."""
_NAMING: Final = (AWS_ROLE, GOOGLE_ACCOUNT, AZURE_CLIENT)
"""The key of each cloud that names the identity. An account has exactly one of them."""

CloudValue = Annotated[str, Field(min_length=1, max_length=512)]


class CloudIdentity(ApiModel):
    """An identity at a cloud for the stdio servers of agents, in isolation Separate.

    Exactly one of agents and agentSelector is set.
    """

    model_config = ConfigDict(
        json_schema_extra=kube(
            agents_or_selector(IDENTITY_AGENTS, name="self.name"),
        ),
    )

    name: Name
    """Name of the row, unique in the policy."""

    agents: tuple[AgentName, ...] | None = Field(default=None, min_length=1, max_length=64)
    """Names of the Agents that the row applies to."""

    agent_selector: AgentSelector | None = None
    """Labels of the Agents that the row applies to. Anyone who can label an Agent can give it the identity."""

    environments: tuple[EnvironmentName, ...] = Field(default=(), max_length=16)
    """Environments in which the row applies; absent for all."""

    annotations: dict[str, CloudValue] = Field(
        max_length=8,
        json_schema_extra=kube(
            Rule(rule=f"self.all(k, k in {list(CLOUD_KEYS)})", message=CLOUD_KEYS_INVALID),
            Rule(
                rule=f"{list(_NAMING)}.filter(k, k in self).size() == 1"
                " && self.all(k, self.all(l, k.split('/')[0] == l.split('/')[0]))",
                message=CLOUD_KEYS_MIXED,
            ),
        ),
    )
    """Annotations of the guards' ServiceAccount, as the cloud documents them, such as eks.amazonaws.com/role-arn."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if not set(self.annotations) <= set(CLOUD_KEYS):
            raise ValueError(CLOUD_KEYS_INVALID)
        if sum(key in self.annotations for key in _NAMING) != 1 or len({_cloud(key) for key in self.annotations}) != 1:
            raise ValueError(CLOUD_KEYS_MIXED)
        return self

    def applies_to(self, agent: ObjectMeta) -> bool:
        """Return True if the row applies to this Agent. A row with both names and labels applies to none."""
        return selects(self.agents, self.agent_selector, agent)


def _cloud(key: str) -> str:
    return key.partition("/")[0]
