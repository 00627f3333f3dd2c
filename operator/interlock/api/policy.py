"""AgentPolicy: the governance that a set of Agents lives under."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from interlock.api.binding import TLS_RULES, CaSource, check_tls
from interlock.api.markers import Rule, cel_pattern, cel_sentence, kube
from interlock.api.messages import (
    AGENTS_OR_SELECTOR,
    LABEL_KEY,
    LABEL_VALUE,
    LABELS_INVALID,
    REDACT_WITHOUT_ARGUMENTS,
    SELECTOR_EMPTY,
    plain,
)
from interlock.api.shared_types import ApiModel, Environment, EnvSource, ObjectMeta
from interlock.api.status import Condition
from interlock.api.text import (
    AgentName,
    Duration,
    LabelValue,
    ModelGlob,
    ModelName,
    ModelUrl,
    Name,
    Pointer,
    Provider,
    ReadableResource,
    Resource,
)
from interlock_contract.bundle import Operation, RecordedArguments
from interlock_contract.http_target import Network
from interlock_contract.names import API_VERSION

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

    operation: Operation
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

    conditions: tuple[Condition, ...] = Field(default=(), max_length=8, json_schema_extra=kube(keys=("type",)))
    """ReconcileFailed while the operator fails on this policy; empty otherwise."""


Isolation = Literal["Shared", "Separate"]

DEFAULT_ISOLATION: dict[Environment, Isolation] = {
    Environment.DEVELOPMENT: "Shared",
    Environment.STAGING: "Separate",
    Environment.PRODUCTION: "Separate",
}
"""What holds where a policy says nothing."""


class DevelopmentRules(ApiModel):
    """What holds in development."""

    isolation: Isolation = Field(default=DEFAULT_ISOLATION[Environment.DEVELOPMENT])
    """Shared: agent and guard in one pod, no egress boundary; Separate: the agent's pod reaches its guard alone."""


class ProtectedRules(ApiModel):
    """What holds in an environment in which harm is done to others."""

    isolation: Isolation = Field(default=DEFAULT_ISOLATION[Environment.PRODUCTION])
    """Separate: the agent's pod reaches its guard alone; Shared: agent and guard in one pod, no egress boundary."""


class Environments(ApiModel):
    """What holds for agents in each environment."""

    development: DevelopmentRules = DevelopmentRules()
    """In development."""

    staging: ProtectedRules = ProtectedRules()
    """In staging."""

    production: ProtectedRules = ProtectedRules()
    """In production."""

    def isolation_in(self, environment: Environment) -> Isolation:
        """Return how far apart agent and guard stand in an environment."""
        rules: dict[Environment, DevelopmentRules | ProtectedRules] = {
            Environment.DEVELOPMENT: self.development,
            Environment.STAGING: self.staging,
            Environment.PRODUCTION: self.production,
        }
        return rules[environment].isolation


class ModelUpstream(ApiModel):
    """Where the models of one provider are."""

    model_config = ConfigDict(json_schema_extra=kube(*TLS_RULES))

    name: Provider
    """What the names of its models begin with. anthropic is spoken to as Anthropic's API, all others as OpenAI's."""

    url: ModelUrl
    """Its base URL, up to and with the version, such as https://llm.example.com/v1; redirects are not followed."""

    network: Network = Field(default="Public", json_schema_extra=kube(default="Public"))
    """Public: only globally routable addresses are dialled; Private: private ones too. Loopback, link-local: never."""

    ca_from: CaSource | None = None
    """CA certificates that alone are trusted for it; without it those of the guard's image."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_tls(self.url, self.network, self.ca_from)
        return self


class ModelPolicy(ApiModel):
    """Which models agents may call, and where they are."""

    allow: tuple[ModelGlob, ...] = Field(default=(), max_length=64)
    """Models, as provider/model; * at the end is whatever follows. Absent: none."""

    urls: tuple[ModelUpstream, ...] = Field(default=(), max_length=16, json_schema_extra=kube(keys=("name",)))
    """Providers besides openai (https://api.openai.com/v1) and anthropic (https://api.anthropic.com/v1), or instead."""


class ModelUse(ApiModel):
    """A model that the agent calls."""

    name: ModelName
    """The model, as provider/model, such as openai/gpt-4o-mini; the policy must allow it."""

    api_key_from: EnvSource
    """The provider's key, which only the guard reads; the agent gets another that is good for nothing elsewhere."""


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

    def applies_to(self, agent: ObjectMeta) -> bool:
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


class AuditPolicy(ApiModel):
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

    arguments: RecordedArguments = "Digest"
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

    audit: AuditPolicy = AuditPolicy()
    """What the records of calls hold of their arguments."""


class AgentPolicy(ApiModel):
    """The governance that a set of Agents lives under: access matrix and rollout minimums."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["AgentPolicy"] = "AgentPolicy"
    metadata: ObjectMeta
    spec: AgentPolicySpec
    status: AgentPolicyStatus | None = None
