"""Claims: the storage that an agent keeps over the pods of its revisions, named for each environment."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import override

from interlock.api.markers import kube, one_of
from interlock.api.shared_types import ApiModel, check_one_of
from interlock.api.template_messages import AGENT_VOLUME_SOURCE, CLAIM_NAME_INVALID
from interlock.api.text import ObjectName, checked
from interlock.api.volumes import PodVolume

MAX_AGENT_VOLUMES = 15
"""Most volumes of an agent."""
MAX_ENVIRONMENT_CLAIMS = 16
"""Most claims of one volume: one for each environment of a rollout with as many stages as there can be."""
MAX_CLAIMS = MAX_AGENT_VOLUMES * MAX_ENVIRONMENT_CLAIMS
"""Most claims that an Agent can name."""

_CLAIM_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"

ClaimName = Annotated[ObjectName, checked(_CLAIM_NAME, CLAIM_NAME_INVALID)]
"""The name of a PersistentVolumeClaim. The API server takes pods with any text here, and a pod of Interlock lists the
names of its claims with commas between them: `a,b` would be the claims of other agents. The operator checks it, since
an Agent has so many names that a rule of the API server would cost too much."""


class EnvironmentClaim(ApiModel):
    """The claim of one environment."""

    environment: str = Field(min_length=1, max_length=63)
    """The environment of a stage."""

    claim_name: ClaimName
    """Name of a PersistentVolumeClaim in the namespace, which no other agent, environment or volume names."""


class ClaimVolume(ApiModel):
    """A PersistentVolumeClaim for each environment. It exists already, and Interlock neither creates nor deletes it."""

    claims: tuple[EnvironmentClaim, ...] = Field(
        min_length=1, max_length=MAX_ENVIRONMENT_CLAIMS, json_schema_extra=kube(keys=("environment",))
    )
    """The claims by environment. Each environment of the stages needs one."""

    read_only: bool | None = None
    """Whether the agent may only read it."""

    def name_in(self, environment: str) -> str | None:
        """Return the name of an environment's claim, None if it has none."""
        return next((one.claim_name for one in self.claims if one.environment == environment), None)


_CLAIM = "persistent_volume_claim"
_KINDS = {name: str(field.alias) for name, field in PodVolume.model_fields.items() if name != "name"}
"""The kinds of volumes that servers have too, by their names in Python."""


class AgentVolume(PodVolume):
    """A volume of an agent; exactly one of its kinds is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(one_of(*_KINDS.values(), "persistentVolumeClaim", message=AGENT_VOLUME_SOURCE))
    )

    persistent_volume_claim: ClaimVolume | None = None
    """Storage that stays over the pods and revisions of the agent. It needs isolation Separate, and one pod uses it at
    a time: with a claim the agent has one pod in each stage, and the pod of the old revision ends first."""

    @model_validator(mode="after")
    @override
    def _refuse(self) -> Self:
        check_one_of(self, *_KINDS, _CLAIM, message=AGENT_VOLUME_SOURCE)
        return self
