"""What the operator reports on an Agent."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.config import JsonDict

from interlock.api.markers import kube
from interlock.api.shared_types import ApiModel, Environment, ScopeDimension, Timestamp


class ConditionType(StrEnum):
    """Conditions of an Agent: the layers in order, then what they add up to."""

    GOVERNED = "Governed"
    """Layer 1: an owner, a purpose, a policy and a matrix row for every source."""
    ORCHESTRATED = "Orchestrated"
    """Layer 2: the rollout says which stage holds."""
    ACTIONS_BOUND = "ActionsBound"
    """Layer 3: every source has exactly one binding in every stage, and permissions only narrow."""
    DEPLOYED = "Deployed"
    """Layer 4: all children are as they should be at the API server."""
    READY = "Ready"
    """The agent serves its present stage."""
    STALLED = "Stalled"
    """Nothing will happen until somebody changes something."""
    KILLED = "Killed"
    """The kill switch is engaged."""
    POLICY_ENFORCED = "PolicyEnforced"
    """Every guard has proven on itself that it keeps the bundle that holds now."""
    EGRESS_ENFORCED = "EgressEnforced"
    """The agent's pods have seen on themselves that they reach their guard and nothing else."""
    PROMOTION_PENDING = "PromotionPending"
    """A later stage is waiting for the present one to pass."""


class AgentReason(StrEnum):
    """Reasons of conditions and events: stable words that alerts may match."""

    GOVERNANCE_SATISFIED = "GovernanceSatisfied"
    """Governed: nothing is missing."""
    SPEC_INVALID = "SpecInvalid"
    """The object cannot be read as an Agent of this version."""
    OWNER_MISSING = "OwnerMissing"
    """spec.owner, its name or its e-mail address is missing."""
    OWNER_NOT_A_PERSON = "OwnerNotAPerson"
    """spec.owner.email is no e-mail address, or that of a role."""
    PURPOSE_MISSING = "PurposeMissing"
    """spec.purpose is missing or blank."""
    POLICY_REF_MISSING = "PolicyRefMissing"
    """spec.policyRef is missing."""
    POLICY_NOT_FOUND = "PolicyNotFound"
    """The AgentPolicy named does not exist in the namespace."""
    POLICY_INVALID = "PolicyInvalid"
    """The AgentPolicy named cannot be read."""
    DATA_ACCESS_MISSING = "DataAccessMissing"
    """The policy's matrix has no row for the agent and one of its sources."""
    MODEL_NOT_ALLOWED = "ModelNotAllowed"
    """The policy does not allow one of the agent's models, or does not know its provider."""
    ENVIRONMENT_INVALID = "EnvironmentInvalid"
    """Neither or both of spec.environment and spec.rollout are set."""

    ROLLOUT_PLANNED = "RolloutPlanned"
    """Orchestrated: the stages are in order and the minimums are kept."""
    STAGES_INVALID = "StagesInvalid"
    """The stages go back, narrow, or have no valid duration."""
    MINIMUM_NOT_REACHED = "MinimumNotReached"
    """The stages are faster than the policy's minimums allow."""
    LIMITED_SCOPE_REQUIRED = "LimitedScopeRequired"
    """The policy demands a scoped stage before all of production."""

    BINDINGS_RESOLVED = "BindingsResolved"
    """ActionsBound: every source has its binding in every stage."""
    BINDING_MISSING = "BindingMissing"
    """No MCPBinding serves a source in the environment of a stage."""
    BINDING_AMBIGUOUS = "BindingAmbiguous"
    """More than one MCPBinding serves a source in the environment of a stage."""
    BINDING_NOT_REVIEWED = "BindingNotReviewed"
    """An MCPBinding that serves the agent holds guesses that nobody has looked at."""
    BINDING_NOT_VERIFIED = "BindingNotVerified"
    """The server of an MCPBinding was not verified yet, or failed when an agent was to be attached."""
    BINDING_INVALID = "BindingInvalid"
    """An MCPBinding that serves the agent cannot be read."""
    NARROWING_INVALID = "NarrowingInvalid"
    """The agent's own permissions name what binding or matrix do not give."""

    APPLIED = "Applied"
    """Deployed: every child is as it should be."""
    APPLY_FAILED = "ApplyFailed"
    """The API server refused a child."""
    RECONCILE_ERROR = "ReconcileError"
    """The operator failed on the object and retries; also the reason of ReconcileFailed on other kinds."""

    PODS_READY = "PodsReady"
    """Ready: all replicas serve."""
    PODS_NOT_READY = "PodsNotReady"
    """Some replica does not serve yet."""
    SCALED_TO_ZERO = "ScaledToZero"
    """Ready, with spec.replicas 0."""

    SELF_TEST_PASSED = "SelfTestPassed"
    """PolicyEnforced: every guard has refused all synthetic calls that the bundle has it refuse."""
    SELF_TEST_PENDING = "SelfTestPending"
    """Not every guard has proven the bundle that holds now yet."""
    SELF_TEST_FAILED = "SelfTestFailed"
    """A guard would let pass what the bundle has it refuse; it is closed."""
    NO_GUARD = "NoGuard"
    """No pod is wanted, so there is no guard that could prove anything."""

    EGRESS_CLOSED = "EgressClosed"
    """EgressEnforced: every pod of the agent has seen that all but its guard is closed to it."""
    EGRESS_CHECK_PENDING = "EgressCheckPending"
    """Not every pod of the agent has seen yet whether the network is closed to it."""
    NETWORK_OPEN = "NetworkOpen"
    """The cluster's network enforces no NetworkPolicy: outside of development the agent does not start."""
    SHARED_POD = "SharedPod"
    """Agent and guard share a pod, so that the network is no boundary between them."""

    WAITING_FOR_OPERATOR = "WaitingForOperator"
    """The operator has not seen the object yet."""
    WAITING_FOR_GOVERNANCE = "WaitingForGovernance"
    """A later layer waits for Governed."""
    WAITING_FOR_ORCHESTRATION = "WaitingForOrchestration"
    """A later layer waits for Orchestrated."""
    WAITING_FOR_ACTIONS = "WaitingForActions"
    """A later layer waits for ActionsBound."""
    WAITING_FOR_DEPLOYMENT = "WaitingForDeployment"
    """Ready waits for Deployed."""

    PROGRESSING = "Progressing"
    """Stalled=False: nothing is asked of anybody."""
    KILL_SWITCH = "KillSwitch"
    """The kill switch is engaged."""
    NOT_KILLED = "NotKilled"
    """The kill switch was never engaged."""
    RELEASED = "Released"
    """The kill switch was engaged and is off again."""

    SOAKING = "Soaking"
    """PromotionPending: the stage's minimum time is running."""
    WAITING_FOR_READY = "WaitingForReady"
    """PromotionPending: the time starts when the stage is Ready."""
    LAST_STAGE = "LastStage"
    """PromotionPending=False: no later stage is left."""


RECONCILE_FAILED = "ReconcileFailed"
"""Condition of AgentPolicies and MCPBindings: the operator failed on the object and retries. Absent otherwise."""


def _whole_seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


class Condition(ApiModel):
    """One observation, in the form that all of Kubernetes uses."""

    model_config = ConfigDict(extra="ignore")

    type: str = Field(min_length=1, max_length=316)
    """What is observed; see `ConditionType`."""

    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""

    observed_generation: int | None = Field(default=None, ge=0)
    """The generation of the spec that it speaks of."""

    last_transition_time: Annotated[Timestamp, AfterValidator(_whole_seconds)]
    """When `status` last changed."""

    reason: str = Field(min_length=1, max_length=1024)
    """Why, as one stable word; see `Reason`."""

    message: str = Field(max_length=32768)
    """Why, as one sentence for people, with the way out where there is one."""


def _summarize(stage: dict[str, Any]) -> str:
    scope: tuple[ScopeDimension, ...] = stage["scope"]
    return " ".join(f"{limit.dimension}={','.join(limit.values)}" for limit in scope) or "all"


class StageStatus(ApiModel):
    """The stage that holds now."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=63)
    """Name of the stage."""

    environment: Environment
    """Its environment."""

    scope: tuple[ScopeDimension, ...] = Field(default=(), max_length=8, json_schema_extra=kube(keys=("dimension",)))
    """Its scope; empty without limit."""

    scope_summary: str = Field(default_factory=_summarize, max_length=32768)
    """Its scope in one line for people, such as region=eu-west; all without limit. Made from scope."""

    revision: str = Field(max_length=63)
    """The revision that it runs."""

    entered_at: Timestamp
    """When the stage was entered."""

    ready_since: Timestamp | None = None
    """When its placement was first Ready: the soak counts from here; absent while killed."""

    next_at: Timestamp | None = None
    """When the next stage may be entered, if nothing happens before."""


class EnforcementStatus(ApiModel):
    """The policy that every guard of the stage has proven on itself."""

    model_config = ConfigDict(extra="ignore")

    bundle_digest: str = Field(max_length=64)
    """SHA-256 of the bundle's text, in hex: the ConfigMap's, the guards' log's and the records'."""

    generation: int = Field(ge=0)
    """The generation of the Agent's spec that the bundle was compiled from."""

    guards: int = Field(ge=0, json_schema_extra=kube(format="int32"))
    """How many guards have proven it."""


class KillStatus(ApiModel):
    """The last time that the kill switch was engaged."""

    model_config = ConfigDict(extra="ignore")

    reason: str = Field(max_length=1024)
    """The value of the annotation, cut at 1024 characters."""

    by: str | None = Field(default=None, max_length=1024)
    """Who set it, by interlock.dev/kill-switch-by; the API server vouches for it where it stamps that annotation."""

    requested_at: Timestamp
    """When the operator saw it."""

    zero_pods_at: Timestamp | None = None
    """When no pod was left."""

    released_at: Timestamp | None = None
    """When it was set to off."""

    released_by: str | None = Field(default=None, max_length=1024)
    """Who set it to off, vouched for as by is."""


class AgentStatus(ApiModel):
    """What the operator knows about an Agent."""

    model_config = ConfigDict(extra="ignore")

    observed_generation: int = Field(default=-1, ge=-1)
    """The generation of the spec that this status speaks of; -1 before the operator has seen the object."""

    conditions: tuple[Condition, ...] = Field(default=(), max_length=32, json_schema_extra=kube(keys=("type",)))
    """The layers in order, then Ready, Stalled, Killed, PolicyEnforced, EgressEnforced and PromotionPending."""

    stage: StageStatus | None = None
    """The stage that holds now; absent before the first."""

    enforcement: EnforcementStatus | None = None
    """What PolicyEnforced speaks of; absent unless it is True."""

    kill: KillStatus | None = None
    """The last kill; absent if there was none."""


NEW_AGENT: JsonDict = {
    "observedGeneration": -1,
    "conditions": [
        {
            "type": ConditionType.READY.value,
            "status": "Unknown",
            "reason": AgentReason.WAITING_FOR_OPERATOR.value,
            "message": "The operator has not seen this agent yet: if this stays, look at the operator's pods and logs",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        },
    ],
}
"""Status of an Agent that the operator has not seen: without it, tools such as kstatus would take it for ready."""
