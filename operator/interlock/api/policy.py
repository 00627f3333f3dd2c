"""AgentPolicy: the governance of a set of Agents: access matrix, environments, rollout, models, budgets and audit."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from interlock.api.agent_selector import AgentSelector, agents_or_selector, selects
from interlock.api.binding import CA_RULE, TLS_RULES, CaSource, check_tls
from interlock.api.budget import (
    DeclaredPrice,
    PolicyBudget,
    RateLimitRules,
)
from interlock.api.cloud_identity import MAX_IDENTITIES, CloudIdentity
from interlock.api.egress import MAX_EGRESS, EgressRow
from interlock.api.environments import (
    FORMER_ENVIRONMENTS,
    MAX_ENVIRONMENTS,
    Environment,
    Environments,
    Isolation,
    find_environment,
)
from interlock.api.loops import LoopPolicy
from interlock.api.markers import Rule, kube
from interlock.api.messages import (
    AGENTS_OR_SELECTOR,
    IDENTITY_WITHHELD,
    REDACT_WITHOUT_ARGUMENTS,
)
from interlock.api.pod_policy import PodTemplatePolicy
from interlock.api.rollout_rules import RolloutMinimums
from interlock.api.shared_types import (
    ApiModel,
    EnvironmentClass,
    EnvSource,
    LimitQuantity,
    ObjectMeta,
    Quantity,
    ResourceAmounts,
    ResourceLimits,
)
from interlock.api.status import AgentReason, Condition, ManagedObject, status_before_operator
from interlock.api.text import (
    AgentName,
    BodyMember,
    ContentHost,
    EnvironmentName,
    ModelGlob,
    ModelUrl,
    Name,
    NoProxyHost,
    ObjectName,
    Pointer,
    Provider,
    ProxyUrl,
    ReadableResource,
    Resource,
)
from interlock_contract.addresses import Network
from interlock_contract.budget.bundle_budget import (
    DEFAULT_HANG_UP_SECONDS,
    DEFAULT_MAX_OUTPUT_TOKENS,
    MAX_HANG_UP_SECONDS,
    MAX_OUTPUT_TOKENS,
)
from interlock_contract.bundle import EnforcementMode, Operation, RecordedArguments
from interlock_contract.model_access import LEAST_REQUEST_BYTES, MAX_REQUEST_BYTES
from interlock_contract.names import API_VERSION
from interlock_contract.webhooks import MAX_WEBHOOKS, WebhookFormat

MAX_ROWS = 256
"""Rows that a policy's status has room for."""
MAX_ROW_RESOURCES = 64
"""Resources that one row names; more of them make more rows."""


class AccessRow(ApiModel):
    """One effective permission: the guard's decision for an agent, an operation and resources, with its rule."""

    model_config = ConfigDict(extra="ignore")

    agent: str = Field(max_length=253)
    """Name of the Agent."""

    source: str = Field(max_length=63)
    """The source."""

    environment: EnvironmentName
    """Environment of a stage of the Agent. Another binding may serve the source in another environment."""

    operation: Operation
    """The operation."""

    resources: tuple[Annotated[str, Field(max_length=63)], ...] = Field(min_length=1, max_length=MAX_ROW_RESOURCES)
    """The resources that the decision applies to."""

    decision: Literal["Allow", "Deny", "WouldDeny"]
    """The guard's decision. A stage's scope and argument rules can still deny single calls. WouldDeny: the call passes
    in mode Audit of the environment, and is recorded."""

    reason: str = Field(default="", max_length=63)
    """Reason of a denial in one stable word; see the guard's reasons."""

    rule: str = Field(default="", max_length=1024)
    """The rule that allows the call, or that must change to allow it, such as agentpolicy/support/dataAccess[0]."""


class AgentPolicyStatus(ApiModel):
    """Observed state of an AgentPolicy."""

    model_config = ConfigDict(extra="ignore")

    observed_generation: int = Field(default=-1, ge=-1)
    """Generation of the spec that this status was computed for; -1 before the operator has processed the object."""

    agents: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of Agents that name the policy."""

    violations: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of these Agents that the policy refuses: no row, model, minimum or permission allows what they ask for."""

    access: tuple[AccessRow, ...] = Field(default=(), max_length=MAX_ROWS)
    """Effective permissions: policy, bindings and the agents' own narrowing together, by agent and source."""

    agents_omitted: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of agents of the policy that access has no room for. It lists the first ones by name."""

    conditions: tuple[Condition, ...] = Field(default=(), max_length=8, json_schema_extra=kube(keys=("type",)))
    """Ready and Violated, Notifying with notify, and Enforced with an environment in mode Audit; ReconcileFailed while
    the operator fails on this policy."""

    managed_objects: tuple[ManagedObject, ...] = Field(
        default=(), max_length=16, json_schema_extra=kube(keys=("kind", "name"))
    )
    """The objects of the notifier as the operator left them. One that differs has been changed by others."""


class PolicyCondition(StrEnum):
    """Conditions of an AgentPolicy."""

    READY = "Ready"
    """The policy is in force."""
    VIOLATED = "Violated"
    """At least one Agent is refused because of the policy."""
    NOTIFYING = "Notifying"
    """The notifier runs, which posts alerts to the webhooks of notify."""
    ENFORCED = "Enforced"
    """Guards deny what the policy does not permit in all environments. Only there with an environment in mode Audit."""


class PolicyReason(StrEnum):
    """Reasons of an AgentPolicy's conditions: stable words that alerts may match."""

    IN_FORCE = "InForce"
    """The policy governs its Agents."""
    AGENTS_REFUSED = "AgentsRefused"
    """The policy refuses Agents that name it."""
    NO_VIOLATION = "NoViolation"
    """The policy refuses none of its Agents."""
    AUDIT = "Audit"
    """In at least one environment calls that the policy does not permit are recorded, and pass."""
    NOTIFIER_READY = "NotifierReady"
    """The notifier watches the ledgers of the policy."""
    WEBHOOK_FAILING = "WebhookFailing"
    """A webhook takes no alerts: a file of its Secret is missing or wrong, or its receiver refuses them for minutes."""
    NOTIFIER_NOT_READY = "NotifierNotReady"
    """The notifier's pod is not ready. Alerts wait in their ledgers."""
    SPEC_INVALID = "SpecInvalid"
    """The object cannot be read as an AgentPolicy of this version."""
    WAITING_FOR_OPERATOR = "WaitingForOperator"
    """The operator has not processed the object."""


NEW_POLICY = status_before_operator("this policy", PolicyReason.WAITING_FOR_OPERATOR)
"""Status of a new AgentPolicy."""

VIOLATIONS = (
    AgentReason.DATA_ACCESS_MISSING,
    AgentReason.MODEL_NOT_ALLOWED,
    AgentReason.MINIMUM_NOT_REACHED,
    AgentReason.LIMITED_SCOPE_REQUIRED,
    AgentReason.ENVIRONMENT_UNKNOWN,
    AgentReason.NARROWING_INVALID,
    AgentReason.PRICE_MISSING,
    AgentReason.TEMPLATE_NOT_ALLOWED,
    AgentReason.DIGEST_REQUIRED,
)
"""Reasons for which an AgentPolicy, and nothing else, refuses an Agent."""


class ModelUpstream(ApiModel):
    """The API of one model provider."""

    model_config = ConfigDict(json_schema_extra=kube(*TLS_RULES))

    name: Provider
    """Beginning of its models' names. The guard speaks Anthropic's API with anthropic and OpenAI's with all others."""

    url: ModelUrl
    """Its base URL, up to and with the version, such as https://llm.example.com/v1; redirects are not followed."""

    network: Network = Field(default="Public", json_schema_extra=kube(default="Public"))
    """Public: the guard dials public addresses only. Private: private ones too. Never loopback and link-local."""

    ca_from: CaSource | None = None
    """CA certificates, the only ones trusted for it; absent for those of the guard's image."""

    extra_members: tuple[BodyMember, ...] = Field(default=(), max_length=32)
    """Members of request bodies, and values of beta headers, that pass in addition to those of the official SDKs."""

    content_hosts: tuple[ContentHost, ...] = Field(default=(), max_length=32)
    """Hosts from which the provider may load images and files that requests name by https URL. Without it none."""

    output_limit_member: Literal["max_completion_tokens", "max_tokens"] | None = None
    """Member of chat completions in which the guard writes the limit of output tokens. Absent: the one that is known
    for the provider."""

    stream_usage: Literal["Ask", "Never"] | None = None
    """Ask: the guard asks for the usage of streams, as OpenAI's API lets it. Never: the provider refuses that, so
    streams without usage are charged at their worst case. Absent: Never for providers known to refuse it, else Ask."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_tls(self.url, self.network, self.ca_from)
        return self


class ModelPolicy(ApiModel):
    """The models that agents may call, and their providers."""

    allow: tuple[ModelGlob, ...] = Field(default=(), max_length=64)
    """Allowed models, as provider/model. A * at the end matches any rest. Without it no model is allowed."""

    urls: tuple[ModelUpstream, ...] = Field(default=(), max_length=16, json_schema_extra=kube(keys=("name",)))
    """Providers besides openai (https://api.openai.com/v1) and anthropic (https://api.anthropic.com/v1), or instead."""

    request_bytes: int = Field(
        default=MAX_REQUEST_BYTES, ge=LEAST_REQUEST_BYTES, le=MAX_REQUEST_BYTES, json_schema_extra=kube(format="int32")
    )
    """Largest request to a model in bytes. The memory limit of guards follows it: 128Mi and five times this size."""

    secret_names: tuple[ObjectName, ...] = Field(default=(), max_length=64)
    """Secrets that Agents may name in apiKeyFrom. A provider receives the key that is sent to it. Without it none."""

    prices: tuple[DeclaredPrice, ...] = Field(default=(), max_length=64, json_schema_extra=kube(keys=("model",)))
    """Prices of models that Interlock does not know, or instead of those that it knows."""

    max_output_tokens: int = Field(
        default=DEFAULT_MAX_OUTPUT_TOKENS,
        ge=1,
        le=MAX_OUTPUT_TOKENS,
        json_schema_extra=kube(format="int32", default=DEFAULT_MAX_OUTPUT_TOKENS),
    )
    """Most output tokens of a call that sets no limit itself. The guard writes it into the call."""

    hang_up_seconds: int = Field(
        default=DEFAULT_HANG_UP_SECONDS,
        ge=0,
        le=MAX_HANG_UP_SECONDS,
        json_schema_extra=kube(format="int32", default=DEFAULT_HANG_UP_SECONDS),
    )
    """How long the guard reads the rest of an answer after the agent has hung up, to charge its usage. After that time
    it closes the connection and charges the worst case. 0: it closes immediately."""


class EgressProxy(ApiModel):
    """The HTTP proxy through which guards reach public servers and providers."""

    model_config = ConfigDict(json_schema_extra=kube(CA_RULE))

    url: ProxyUrl
    """URL of the proxy, such as http://proxy.example.com:3128. It must allow CONNECT to the servers' ports."""

    ca_from: CaSource | None = None
    """CA certificates, the only ones trusted for an https:// proxy itself; absent for those of the guard's image."""

    no_proxy: tuple[NoProxyHost, ...] = Field(default=(), max_length=64)
    """Public hosts that are reached directly: example.com with all below it, or .example.com for those alone."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_tls(self.url, "Private", self.ca_from)
        return self


class DataAccessRow(ApiModel):
    """One row of the access matrix; exactly one of agents and agentSelector is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            agents_or_selector(AGENTS_OR_SELECTOR, source="self.source"),
        ),
    )

    agents: tuple[AgentName, ...] | None = Field(default=None, min_length=1, max_length=64)
    """Names of the Agents that the row applies to."""

    agent_selector: AgentSelector | None = None
    """Labels of the Agents that the row applies to. Anyone who can label an Agent can grant it data."""

    source: Name
    """The source that the row applies to."""

    read: tuple[ReadableResource, ...] = Field(default=(), max_length=64)
    """Resources that may be read; "*" is all of them."""

    write: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be created or changed."""

    delete: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be deleted."""

    def applies_to(self, agent: ObjectMeta) -> bool:
        """Return True if the row applies to this Agent. A row with both names and labels applies to none."""
        return selects(self.agents, self.agent_selector, agent)


class AuditPolicy(ApiModel):
    """What audit records hold of the arguments of calls."""

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
    """Digest: only the SHA-256 of the arguments. Redacted: also the arguments, without those that redact names."""

    redact: tuple[Pointer, ...] = Field(default=(), max_length=32)
    """Pointers to argument values that records leave out. A value that a pointer cannot follow is left out whole."""


class DefaultLimits(ResourceLimits):
    """Limits of containers whose own specs state none."""

    memory: LimitQuantity | None = "1Gi"
    """Memory, such as 128Mi."""


class DefaultRequests(ResourceAmounts):
    """Requests of containers whose own specs state none."""

    cpu: Quantity | None = "10m"
    """CPU, such as 100m or 1."""

    memory: Quantity | None = "32Mi"
    """Memory, such as 128Mi."""


class ContainerDefaults(ApiModel):
    """What containers of agents and stdio MCP servers get where their own specs state nothing."""

    default: DefaultLimits = DefaultLimits()
    """Limits, as in a LimitRange."""

    default_request: DefaultRequests = DefaultRequests()
    """Requests, as in a LimitRange."""

    tmp_size_limit: LimitQuantity = "512Mi"
    """Size of /tmp of each container. A pod that writes more is evicted."""


class WebhookReceiver(ApiModel):
    """An HTTPS endpoint that alerts are posted to."""

    url_from: EnvSource
    """Its https:// URL, which is a secret: anyone who knows it can post. Redirects are not followed."""

    signing_key_from: EnvSource | None = None
    """Key of the signature: Base64 of 24 to 64 bytes, or two of them while it is rotated. Without it there is none."""

    network: Network = Field(default="Public", json_schema_extra=kube(default="Public"))
    """Public: the notifier dials public addresses only. Private: private ones too. Never loopback and link-local."""

    ca_from: CaSource | None = None
    """CA certificates, the only ones trusted for it; absent for those of the guard's image."""

    format: WebhookFormat = Field(default="Slack", json_schema_extra=kube(default="Slack"))
    """Slack: a body with text alone. Standard: also type, timestamp and data, as Standard Webhooks specifies them."""


class NotifyTarget(ApiModel):
    """A receiver of alerts."""

    name: Name
    """Its name, for metrics, logs and the record of what was delivered. Another name gets all alerts again."""

    webhook: WebhookReceiver
    """The endpoint."""


class AgentPolicySpec(ApiModel):
    """Rules for the Agents of a policy."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="!has(self.cloudIdentity) || self.cloudIdentity.size() == 0 || (has(self.podTemplate)"
                " && has(self.podTemplate.allow) && 'CloudIdentity' in self.podTemplate.allow)",
                message=IDENTITY_WITHHELD,
                field_path=".cloudIdentity",
            )
        )
    )

    data_access: tuple[DataAccessRow, ...] = Field(default=(), max_length=256)
    """The access matrix. The guard denies everything that is in no row."""

    environments: Environments = Field(
        default=(),
        max_length=MAX_ENVIRONMENTS,
        json_schema_extra=kube(keys=("name",), additionalProperties=FORMER_ENVIRONMENTS),
    )
    """Rules for agents by environment. There are always development, staging and production."""

    rollout: RolloutMinimums = RolloutMinimums()
    """Rules for rollouts: minimum times, approvals, gates, and how many run at the same time."""

    budget: PolicyBudget = PolicyBudget()
    """What holds for the budgets of all agents."""

    rate_limits: RateLimitRules | None = None
    """Most calls and tokens of each agent in a minute. Absent for no limit."""

    models: ModelPolicy = ModelPolicy()
    """The language models that agents may call, their providers and prices."""

    egress_proxy: EgressProxy | None = None
    """The proxy for servers and providers of network Public. Those of network Private are reached directly."""

    egress: tuple[EgressRow, ...] = Field(default=(), max_length=MAX_EGRESS, json_schema_extra=kube(keys=("name",)))
    """Ways out past the guard, such as to a database, in isolation Separate. Without a row there are none."""

    resources: ContainerDefaults = ContainerDefaults()
    """What containers of agents and stdio MCP servers get where their own specs state nothing."""

    cloud_identity: tuple[CloudIdentity, ...] = Field(
        default=(), max_length=MAX_IDENTITIES, json_schema_extra=kube(keys=("name",))
    )
    """Identities at a cloud for stdio servers, in isolation Separate. They need CloudIdentity in podTemplate.allow."""

    pod_template: PodTemplatePolicy = PodTemplatePolicy()
    """What templates of agents and stdio servers may use, and what their pods get by default."""

    loops: LoopPolicy | None = None
    """When identical calls are a loop. Without it any call may be repeated."""

    audit: AuditPolicy = AuditPolicy()
    """What audit records hold of the arguments of calls."""

    notify: tuple[NotifyTarget, ...] = Field(
        default=(), max_length=MAX_WEBHOOKS, json_schema_extra=kube(keys=("name",))
    )
    """Receivers of alerts: a budget has reached a percentage of budget.alertPercents, or is spent."""

    def environment(self, name: str) -> Environment | None:
        """Return what holds in an environment, None if the policy has none of that name."""
        return find_environment(self.environments, name)

    def class_of(self, environment: str) -> EnvironmentClass:
        """Return the class of an environment. An unknown one is held to the rules of production."""
        found = self.environment(environment)
        return EnvironmentClass.PRODUCTION if found is None else found.environment_class

    def mode_in(self, environment: str) -> EnforcementMode:
        """Return whether guards deny, or only record, what is not mapped and not granted in an environment."""
        found = self.environment(environment)
        is_development = found is not None and found.environment_class is EnvironmentClass.DEVELOPMENT
        return found.mode if found is not None and is_development else "Enforce"

    def isolation_in(self, environment: str) -> Isolation:
        """Return whether agent and guard share a pod in an environment. In an unknown one they do not."""
        found = self.environment(environment)
        return "Separate" if found is None else found.isolation


class AgentPolicy(ApiModel):
    """The governance of a set of Agents: access matrix, environments, rollout, models, budgets and audit."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["AgentPolicy"] = "AgentPolicy"
    metadata: ObjectMeta
    spec: AgentPolicySpec
    status: AgentPolicyStatus | None = Field(default=None, json_schema_extra=kube(default=NEW_POLICY))
