"""Agent: one AI agent, its owner, purpose, tools, rollout and pods."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from interlock.api.budget import AgentBudget
from interlock.api.durations import DrainTimeout
from interlock.api.gates import MAX_TESTS, StageGates, StageTest
from interlock.api.markers import Rule, cel_pattern, cel_sentence, kube
from interlock.api.messages import (
    EMAIL,
    ENVIRONMENT_MISSING,
    ENVIRONMENT_TWICE,
    FILES_TOO_LARGE,
    MODEL_VARIABLE_TAKEN,
    MODEL_VARIABLES,
    OWNER_EMAIL_INVALID,
    OWNER_EMAIL_MISSING,
    OWNER_MISSING,
    OWNER_NAME_MISSING,
    OWNER_ROLE_ADDRESS,
    PATH_TWICE,
    POLICY_REF_MISSING,
    PORT_RESERVED,
    PURPOSE_MISSING,
    ROLE_ADDRESS,
    SCOPE_NARROWER,
    STAGE_RETURNS,
    STAGES_BACKWARDS,
    TASK_DIMENSION_MISSING,
    TASK_GATE_WITHOUT_TASKS,
    TASK_SCOPE,
    format_message,
    plain,
)
from interlock.api.pod_template import Template
from interlock.api.shared_types import (
    ApiModel,
    EnvironmentClass,
    EnvSource,
    ObjectMeta,
    Permissions,
    ScopeDimension,
)
from interlock.api.status import NEW_AGENT, AgentStatus
from interlock.api.text import (
    SELF,
    Duration,
    EnvironmentName,
    FilePath,
    ModelName,
    Name,
    ObjectName,
    Pointer,
    TaskHeader,
)
from interlock_contract.bundle import MAX_CONCURRENT_TASKS, MAX_DIMENSIONS
from interlock_contract.names import API_VERSION
from interlock_contract.pod import FIRST_RESERVED_PORT, LAST_RESERVED_PORT


def _is_free(port: int) -> int:
    if FIRST_RESERVED_PORT <= port <= LAST_RESERVED_PORT:
        raise ValueError(PORT_RESERVED)
    return port


class TaskScope(ApiModel):
    """Where a task names its values of a dimension; exactly one of header and pointer is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="has(self.header) != has(self.pointer)",
                message=plain(TASK_SCOPE),
                message_expression=cel_sentence(TASK_SCOPE, dimension="self.dimension"),
            ),
        ),
    )

    dimension: Name
    """The dimension, such as region."""

    header: TaskHeader | None = None
    """Header with the value, or with several that commas separate."""

    pointer: Pointer | None = None
    """JSON pointer (RFC 6901) into the body, to the value or a list of values."""

    @model_validator(mode="after")
    def _has_one(self) -> "TaskScope":
        if (self.header is None) == (self.pointer is None):
            raise ValueError(format_message(TASK_SCOPE, dimension=self.dimension))
        return self


class Tasks(ApiModel):
    """How tasks reach the agent."""

    port: Annotated[int, AfterValidator(_is_free)] = Field(
        ge=1,
        le=65535,
        json_schema_extra=kube(
            Rule(rule=f"self < {FIRST_RESERVED_PORT} || self > {LAST_RESERVED_PORT}", message=PORT_RESERVED),
            format="int32",
        ),
    )
    """Port at which the agent listens for HTTP, on all addresses of its pod. The guard forwards tasks to it."""

    max_concurrent_tasks: int = Field(
        default=8, ge=1, le=MAX_CONCURRENT_TASKS, json_schema_extra=kube(format="int32", default=8)
    )
    """Number of concurrent tasks in each pod. Four times as many wait for up to 10 s; the guard refuses others."""

    scope: tuple[TaskScope, ...] = Field(
        default=(), max_length=MAX_DIMENSIONS, json_schema_extra=kube(keys=("dimension",))
    )
    """Where tasks name their values, so that each reaches the placement that serves them. Absent: nowhere."""


class Owner(ApiModel):
    """The person who answers for the agent; a team cannot be the owner."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="has(self.name) && self.name.trim() != ''",
                message=OWNER_NAME_MISSING,
                field_path=".name",
            ),
            Rule(rule="has(self.email) && self.email != ''", message=OWNER_EMAIL_MISSING, field_path=".email"),
        ),
    )

    name: str = Field(default="", max_length=128)
    """Required. Name of the person, such as Ada Example."""

    email: str = Field(
        default="",
        max_length=254,
        json_schema_extra=kube(
            Rule(
                rule=f"self == '' || self.matches({cel_pattern(EMAIL)})",
                message=plain(OWNER_EMAIL_INVALID),
                message_expression=cel_sentence(OWNER_EMAIL_INVALID, email=SELF),
            ),
            Rule(
                rule=f"!self.lowerAscii().matches({cel_pattern(ROLE_ADDRESS)})",
                message=plain(OWNER_ROLE_ADDRESS),
                message_expression=cel_sentence(OWNER_ROLE_ADDRESS, email=SELF),
            ),
        ),
    )
    """Required. The person's own e-mail address. Addresses of roles and teams, such as support@, are refused."""


class PolicyRef(ApiModel):
    """The AgentPolicy that governs the agent."""

    name: ObjectName
    """Name of an AgentPolicy in the same namespace."""


class Stage(ApiModel):
    """One step of a rollout."""

    name: Name
    """Name of the stage, unique in the rollout."""

    environment: EnvironmentName
    """Where the agent runs in this stage."""

    scope: tuple[ScopeDimension, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=8,
        json_schema_extra=kube(keys=("dimension",)),
    )
    """The part of the work that the agent may touch; absent for all of it. Within one environment it only widens."""

    min_duration: Duration | None = None
    """How long the stage must be Ready before the next stage starts; absent for no minimum."""

    replicas: int | None = Field(default=None, ge=0, le=100, json_schema_extra=kube(format="int32"))
    """Number of pods in this stage; absent for spec.replicas. None while that is 0. A stage with 0 never passes."""

    approval: Literal["Required"] | None = None
    """Required: a promote must name the stage before it is entered. The policy may require this, too."""

    gates: StageGates | None = None
    """What the agent must do, and must not, before the next stage starts. The policy's gates are defaults."""

    tests: tuple[StageTest, ...] = Field(default=(), max_length=MAX_TESTS, json_schema_extra=kube(keys=("name",)))
    """Jobs that must succeed before the next stage starts. Each runs once in the stage for each run of a revision."""


_PREVIOUS = "self.stages[i - 1]"
_BACKWARDS = (
    f"i > 0 && (s.environment == 'development' && {_PREVIOUS}.environment != 'development'"
    f" || s.environment == 'staging' && {_PREVIOUS}.environment == 'production')"
)
_NARROWER = (
    f"i > 0 && {_PREVIOUS}.environment == s.environment && has(s.scope) && !(has({_PREVIOUS}.scope) && "
    f"s.scope.all(d, {_PREVIOUS}.scope.exists(e, e.dimension == d.dimension && e.values.all(v, v in d.values))))"
)
# Neighbours are enough for classes, which never go back. An environment of another name could come again.
_CLASSES = [one.value for one in EnvironmentClass]
_RETURNS = (
    f"i > 1 && !(s.environment in {_CLASSES}) && {_PREVIOUS}.environment != s.environment"
    " && self.stages.exists(j, t, j < i && t.environment == s.environment)"
)
_FIRST_RETURNS = f"self.stages.transformList(i, s, {_RETURNS}, i)[0]"
_FIRST_BACKWARDS = f"self.stages.transformList(i, s, {_BACKWARDS}, i)[0]"
_FIRST_NARROWER = f"self.stages.transformList(i, s, {_NARROWER}, i)[0]"


class Rollout(ApiModel):
    """The way into production."""

    # Comparing neighbours is enough for the scopes once environments never go back.
    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule=f"!self.stages.exists(i, s, {_BACKWARDS})",
                message=plain(STAGES_BACKWARDS),
                message_expression=cel_sentence(
                    STAGES_BACKWARDS,
                    stage=f"self.stages[{_FIRST_BACKWARDS}].name",
                    environment=f"self.stages[{_FIRST_BACKWARDS}].environment",
                    earlier=f"self.stages[{_FIRST_BACKWARDS} - 1].environment",
                ),
                field_path=".stages",
            ),
            Rule(
                rule=f"!self.stages.exists(i, s, {_RETURNS})",
                message=plain(STAGE_RETURNS),
                message_expression=cel_sentence(
                    STAGE_RETURNS,
                    stage=f"self.stages[{_FIRST_RETURNS}].name",
                    environment=f"self.stages[{_FIRST_RETURNS}].environment",
                ),
                field_path=".stages",
            ),
            Rule(
                rule=f"!self.stages.exists(i, s, {_NARROWER})",
                message=plain(SCOPE_NARROWER),
                message_expression=cel_sentence(
                    SCOPE_NARROWER,
                    stage=f"self.stages[{_FIRST_NARROWER}].name",
                    environment=f"self.stages[{_FIRST_NARROWER}].environment",
                ),
                field_path=".stages",
            ),
        ),
    )

    stages: tuple[Stage, ...] = Field(min_length=1, max_length=16, json_schema_extra=kube(keys=("name",)))
    """The stages in order of their environments' classes: development, staging, production, never back."""

    max_restarts: int = Field(default=0, ge=0, le=1000, json_schema_extra=kube(format="int32", default=0))
    """How often the agent's container may end by itself in a stage, in all pods, before the soak starts again."""

    drain_timeout: DrainTimeout | None = None
    """How long pods that must go may finish their tasks; absent for 30s, or the policy's maximum if that is less."""


class BindingUse(ApiModel):
    """A source that the agent uses."""

    source: Name
    """Name of the source; in every stage exactly one MCPBinding must serve it."""

    permissions: Permissions | None = None
    """Narrows the permissions of binding and access matrix; absent for all of them."""


class ModelUse(ApiModel):
    """A model that the agent calls."""

    name: ModelName
    """The model, as provider/model, such as openai/gpt-4o-mini; the policy must allow it."""

    api_key_from: EnvSource
    """The provider's key, which only the guard reads. The agent gets a key that works with its guard only."""


class File(ApiModel):
    """A file that the agent finds below INTERLOCK_FILES."""

    path: FilePath
    """Path relative to INTERLOCK_FILES, such as prompts/system.md."""

    content: str = Field(default="", max_length=32768)
    """Content of the file."""


_TAKEN = f"v.name in {list(MODEL_VARIABLES)}"
_FILES_SIZE = "self.map(f, has(f.content) ? size(f.content) : 0).sum()"
_FILE_AND_FOLDER = "self.exists(g, g.path.startsWith(f.path + '/'))"


_UNNAMED = "!self.tasks.scope.exists(t, t.dimension == d.dimension)"
_SERVES_NO_TASK = f"has(s.scope) && s.scope.exists(d, {_UNNAMED})"
_STAGE_WITHOUT_TASKS = f"self.rollout.stages[self.rollout.stages.transformList(i, s, {_SERVES_NO_TASK}, i)[0]]"
_FIRST_UNNAMED = f"{_STAGE_WITHOUT_TASKS}.scope.transformList(i, d, {_UNNAMED}, i)[0]"
_NEEDS_TASKS = "has(s.gates) && (has(s.gates.minTasks) || has(s.gates.maxCostPerTask))"


class AgentSpec(ApiModel):
    """Desired state of an Agent."""

    # Checked here and not by `required`, which would only say "Required value".
    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(rule="has(self.owner)", message=OWNER_MISSING, field_path=".owner"),
            Rule(
                rule="has(self.purpose) && self.purpose.trim() != ''",
                message=PURPOSE_MISSING,
                field_path=".purpose",
            ),
            Rule(rule="has(self.policyRef)", message=POLICY_REF_MISSING, field_path=".policyRef"),
            Rule(rule="has(self.environment) || has(self.rollout)", message=ENVIRONMENT_MISSING),
            Rule(
                rule=f"has(self.tasks) || !has(self.rollout) || !self.rollout.stages.exists(s, {_NEEDS_TASKS})",
                message=plain(TASK_GATE_WITHOUT_TASKS),
                message_expression=cel_sentence(
                    TASK_GATE_WITHOUT_TASKS,
                    stage=f"self.rollout.stages[self.rollout.stages.transformList(i, s, {_NEEDS_TASKS}, i)[0]].name",
                ),
                field_path=".rollout",
            ),
            Rule(
                rule="!has(self.tasks) || !has(self.tasks.scope) || self.tasks.scope.size() == 0 || !has(self.rollout)"
                f" || !self.rollout.stages.exists(s, {_SERVES_NO_TASK})",
                message=plain(TASK_DIMENSION_MISSING),
                message_expression=cel_sentence(
                    TASK_DIMENSION_MISSING,
                    dimension=f"{_STAGE_WITHOUT_TASKS}.scope[{_FIRST_UNNAMED}].dimension",
                    stage=f"{_STAGE_WITHOUT_TASKS}.name",
                ),
                field_path=".tasks",
            ),
            Rule(rule="!(has(self.environment) && has(self.rollout))", message=ENVIRONMENT_TWICE),
            Rule(
                rule="!has(self.models) || self.models.size() == 0 || !has(self.template.env)"
                f" || !self.template.env.exists(v, {_TAKEN})",
                message=MODEL_VARIABLE_TAKEN,
                field_path=".template.env",
            ),
        ),
    )

    owner: Owner | None = None
    """Required. The person who answers for the agent."""

    purpose: str | None = Field(default=None, max_length=1024)
    """Required. What the agent is for, in one sentence."""

    policy_ref: PolicyRef | None = None
    """Required. The AgentPolicy that governs the agent."""

    environment: EnvironmentName | None = None
    """One stage without scope, named like the environment; exactly one of environment and rollout is set."""

    rollout: Rollout | None = None
    """Stages on the way into production; exactly one of environment and rollout is set."""

    tasks: Tasks | None = None
    """How tasks reach the agent. Without it the agent takes no tasks."""

    bindings: tuple[BindingUse, ...] = Field(default=(), max_length=32, json_schema_extra=kube(keys=("source",)))
    """The sources that the agent uses. Each needs a row in the policy's access matrix."""

    models: tuple[ModelUse, ...] = Field(default=(), max_length=16, json_schema_extra=kube(keys=("name",)))
    """The language models that the agent calls through its guard. The policy must allow each of them."""

    budget: tuple[AgentBudget, ...] = Field(default=(), max_length=16, json_schema_extra=kube(keys=("environment",)))
    """Lower budgets than those of the policy, by environment. An agent cannot raise its budget."""

    files: tuple[File, ...] = Field(
        default=(),
        max_length=32,
        json_schema_extra=kube(
            Rule(rule=f"{_FILES_SIZE} <= 65536", message=FILES_TOO_LARGE),
            Rule(
                rule=f"!self.exists(f, {_FILE_AND_FOLDER})",
                message=plain(PATH_TWICE),
                message_expression=cel_sentence(
                    PATH_TWICE,
                    path=f"self[self.transformList(i, f, {_FILE_AND_FOLDER}, i)[0]].path",
                ),
            ),
            keys=("path",),
        ),
    )
    """Prompts and configuration, read-only below INTERLOCK_FILES and part of the revision."""

    template: Template
    """The agent's container, and what its pods may choose. The policy's podTemplate says what is allowed."""

    replicas: int = Field(default=1, ge=0, le=100, json_schema_extra=kube(format="int32"))
    """Number of pods of a stage that has no number of its own. With 0 the agent is Ready with reason ScaledToZero."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The rollout's stages, or the one stage of `environment`; empty if neither is set."""
        if self.rollout is not None:
            return self.rollout.stages
        if self.environment is not None:
            return (Stage(name=self.environment, environment=self.environment),)
        return ()

    def replicas_in(self, stage: str) -> int:
        """Return how many pods a placement has in a stage. If `replicas` is 0, no stage has any.

        Args:
            stage: Name of the stage. One that is no longer in the spec has `replicas`.
        """
        asked = self.asked_replicas_in(stage)
        return min(asked, 1) if self.has_claims else asked

    def asked_replicas_in(self, stage: str) -> int:
        """Return how many pods the spec asks for in a stage. With claims, a placement has one of them at most."""
        own = self._own_replicas(stage)
        return self.replicas if own is None or self.replicas == 0 else own

    @property
    def has_claims(self) -> bool:
        """Whether a volume of the agent is a PersistentVolumeClaim, which one pod uses at a time."""
        return any(volume.persistent_volume_claim is not None for volume in self.template.volumes)

    def is_scaled(self, stage: str) -> bool:
        """Return True if `replicas` is the number of pods in a stage: it has no number of its own."""
        return self._own_replicas(stage) is None

    def _own_replicas(self, stage: str) -> int | None:
        return next((one.replicas for one in self.stages if one.name == stage), None)


class Agent(ApiModel):
    """One AI agent: owner, purpose, policy, tools, rollout and pods. No pod runs until all layers are satisfied."""

    api_version: Literal["interlock.dev/v1alpha1"] = API_VERSION
    kind: Literal["Agent"] = "Agent"
    metadata: ObjectMeta
    spec: AgentSpec
    status: AgentStatus | None = Field(default=None, json_schema_extra=kube(default=NEW_AGENT))
