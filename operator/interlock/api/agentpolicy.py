"""AgentPolicy: the governance that a set of Agents lives under."""

from typing import Literal

from pydantic import ConfigDict, Field

from interlock.api.access import AgentPolicyStatus
from interlock.api.isolation import Environments
from interlock.api.markers import Rule, cel_pattern, cel_sentence, kube
from interlock.api.meta import API_VERSION
from interlock.api.model import ApiModel, ObjectMeta
from interlock.api.models import ModelPolicy
from interlock.api.sentences import (
    AGENTS_OR_SELECTOR,
    LABEL_KEY,
    LABEL_VALUE,
    LABELS_INVALID,
    REDACT_WITHOUT_ARGUMENTS,
    SELECTOR_EMPTY,
    plain,
)
from interlock.api.text import AgentName, Duration, LabelValue, Name, Pointer, ReadableResource, Resource


class AgentSelector(ApiModel):
    """Selects Agents by labels of theirs."""

    match_labels: dict[str, LabelValue] = Field(
        max_length=8,
        json_schema_extra=kube(
            Rule(rule="size(self) > 0", message=SELECTOR_EMPTY),
            Rule(
                rule=f"self.all(k, size(k) <= 317 && k.matches({cel_pattern(LABEL_KEY)})"
                f" && self[k].matches({cel_pattern(LABEL_VALUE)}))",
                message=LABELS_INVALID,
            ),
        ),
    )
    """Labels that an Agent must carry, all of them with these very values; at least one."""


class DataAccessRow(ApiModel):
    """One row of the access matrix; exactly one of agents and agentSelector is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="has(self.agents) != has(self.agentSelector)",
                message=plain(AGENTS_OR_SELECTOR),
                message_expression=cel_sentence(AGENTS_OR_SELECTOR, source="self.source"),
            ),
        ),
    )

    agents: tuple[AgentName, ...] | None = Field(default=None, min_length=1, max_length=64)
    """Names of the Agents that the row speaks of."""

    agent_selector: AgentSelector | None = None
    """Labels of the Agents that the row speaks of: whoever may label an Agent decides on what it gives."""

    source: Name
    """The source that it speaks of."""

    read: tuple[ReadableResource, ...] = Field(default=(), max_length=64)
    """Resources that may be read; "*" is all of them."""

    write: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be created or changed."""

    delete: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be deleted."""

    def speaks_of(self, agent: ObjectMeta) -> bool:
        """Tell whether the row is about this Agent; one that names agents and labels at once is about none."""
        if self.agent_selector is None:
            return self.agents is not None and agent.name in self.agents
        wanted = self.agent_selector.match_labels.items()
        return self.agents is None and bool(wanted) and wanted <= agent.labels.items()


class RolloutMinimums(ApiModel):
    """No agent may go faster into production."""

    min_staging: Duration = "168h"
    """Least sum of minDuration of all staging stages; above 0s a staging stage is obligatory before production."""

    min_limited_scope: Duration = "48h"
    """Least sum of minDuration of all production stages that have a scope, where there are any."""

    require_limited_scope: bool = True
    """Whether production must start with a scoped stage."""


class RecordPolicy(ApiModel):
    """What the records of calls hold of their arguments."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="!has(self.redact) || self.redact.size() == 0"
                " || (has(self.arguments) && self.arguments == 'Redacted')",
                message=REDACT_WITHOUT_ARGUMENTS,
                field_path=".redact",
            ),
        ),
    )

    arguments: Literal["Digest", "Redacted"] = "Digest"
    """Digest records the SHA-256 of the arguments alone; Redacted also the arguments, without what redact names."""

    redact: tuple[Pointer, ...] = Field(default=(), max_length=32)
    """Where in the arguments stands what records must not hold; what a pointer cannot follow is left out whole."""


class AgentPolicySpec(ApiModel):
    """What is demanded."""

    data_access: tuple[DataAccessRow, ...] = Field(default=(), max_length=256)
    """The access matrix: what is in no row is denied."""

    environments: Environments = Environments()
    """What holds for agents by the environment that they are in."""

    rollout: RolloutMinimums = RolloutMinimums()
    """No agent may go faster into production."""

    models: ModelPolicy = ModelPolicy()
    """Which language models agents may call, and where they are."""

    records: RecordPolicy = RecordPolicy()
    """What the records of calls hold of their arguments."""


class AgentPolicy(ApiModel):
    """The governance that a set of Agents lives under: access matrix and rollout minimums."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["AgentPolicy"] = "AgentPolicy"
    metadata: ObjectMeta
    spec: AgentPolicySpec
    status: AgentPolicyStatus | None = None
