"""Status of an Agent: conditions, reasons, stage, enforcement and kill."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.config import JsonDict

from interlock.api.budget_status import BudgetStatus
from interlock.api.markers import kube
from interlock.api.rollout_status import MAX_EVENTS, MAX_PLACEMENT_STATUS, HistoryEntry, PlacementStatus, RolloutStatus
from interlock.api.shared_types import ApiModel, ScopeDimension, Timestamp
from interlock.api.text import EnvironmentName
from interlock_contract.bundle import MAX_BUNDLE_DIGESTS
from interlock_contract.work_counts import MAX_TEXT

MOST_PODS = 512
"""Most pods of one Agent that are read: more than its placements have. Anyone can label a pod."""


MAX_SOAKED_SECONDS = 10**9
"""More than any minimum duration has."""
MAX_BASELINE = MAX_TEXT
"""Longest text of a baseline, in characters."""


class ConditionType(StrEnum):
    """Condition types of an Agent: the four layers in order, then the conditions that follow from them."""

    GOVERNED = "Governed"
    """Layer 1: an owner, a purpose, a policy and a matrix row for every source."""
    ORCHESTRATED = "Orchestrated"
    """Layer 2: the rollout has a current stage."""
    ACTIONS_BOUND = "ActionsBound"
    """Layer 3: every source has exactly one binding in every stage, and permissions only narrow."""
    DEPLOYED = "Deployed"
    """Layer 4: all managed objects are up to date."""
    READY = "Ready"
    """The agent serves its current stage."""
    STALLED = "Stalled"
    """The operator cannot continue until a user changes an object."""
    KILLED = "Killed"
    """The kill switch is engaged."""
    POLICY_ENFORCED = "PolicyEnforced"
    """The self-test of every guard passed for the current bundle."""
    EGRESS_ENFORCED = "EgressEnforced"
    """Every agent pod can reach only its guard."""
    PROMOTION_PENDING = "PromotionPending"
    """A later stage waits for the current one."""
    SERVING = "Serving"
    """The work of the last stage's class of environment, such as production, is served as a whole."""
    PROGRESSING = "Progressing"
    """A revision is on its way through the stages."""
    ROLLOUT_PAUSED = "RolloutPaused"
    """A command holds the rollout."""
    DEGRADED = "Degraded"
    """The newest revision was stopped or breached a gate, or the last good one cannot run."""
    BUDGET_EXHAUSTED = "BudgetExhausted"
    """Too little is left of the budget for a call that a guard refused."""


MAX_MANAGED_OBJECTS = 160
"""Most objects of one Agent or MCPBinding that its status records: twice those of four placements, 40 KiB at most."""

MAX_LABELS = 64
"""Most labels of an Agent."""


def status_before_operator(which: str, reason: StrEnum) -> JsonDict:
    """Return the default status of a kind, which a new object has until the operator has processed it.

    Without it, tools such as kstatus would report the object as ready.

    Args:
        which: The object in the message, such as `this policy`.
        reason: The reason of its condition Ready.
    """
    return {
        "observedGeneration": -1,
        "conditions": [
            {
                "type": ConditionType.READY.value,
                "status": "Unknown",
                "reason": reason.value,
                "message": f"The operator has not seen {which}: if this stays, look at the operator's pods and logs",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            },
        ],
    }


class AgentReason(StrEnum):
    """Reasons of conditions and events: stable words that alerts may match."""

    GOVERNANCE_SATISFIED = "GovernanceSatisfied"
    """Governed: nothing is missing."""
    SPEC_INVALID = "SpecInvalid"
    """The object cannot be read as an Agent of this version."""
    BEING_DELETED = "BeingDeleted"
    """The Agent or its AgentPolicy has a deletionTimestamp, so nothing runs, whatever finalizers keep the object."""
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
    """The policy does not allow one of the agent's models or its Secret, or does not know its provider."""
    PRICE_MISSING = "PriceMissing"
    """One of the agent's models has no price, so no budget could hold."""
    TEMPLATE_NOT_ALLOWED = "TemplateNotAllowed"
    """The policy does not allow what the template of the agent, or of one of its stdio servers, asks for."""
    DIGEST_REQUIRED = "DigestRequired"
    """The policy requires images by digest, and one is named by a tag."""
    ENVIRONMENT_INVALID = "EnvironmentInvalid"
    """Neither or both of spec.environment and spec.rollout are set."""
    ENVIRONMENT_UNKNOWN = "EnvironmentUnknown"
    """The policy has no environment of the name that a stage has."""

    ROLLOUT_PLANNED = "RolloutPlanned"
    """Orchestrated: the stages are in order and the minimums are kept."""
    STAGES_INVALID = "StagesInvalid"
    """The stages go back, narrow, have no valid duration or weaker gates, or a scope that tasks cannot name."""
    REVISION_TOO_LARGE = "RevisionTooLarge"
    """Agent, policy and bindings together are more than one object of Kubernetes can store as a revision."""
    MINIMUM_NOT_REACHED = "MinimumNotReached"
    """The stages are shorter than the policy's minimums."""
    LIMITED_SCOPE_REQUIRED = "LimitedScopeRequired"
    """The policy requires a scoped stage before all of production."""

    BINDINGS_RESOLVED = "BindingsResolved"
    """ActionsBound: every source has its binding in every stage."""
    BINDING_MISSING = "BindingMissing"
    """No MCPBinding serves a source in the environment of a stage."""
    BINDING_AMBIGUOUS = "BindingAmbiguous"
    """More than one MCPBinding serves a source in the environment of a stage."""
    BINDING_NOT_REVIEWED = "BindingNotReviewed"
    """An MCPBinding that serves the agent has imported values that are not reviewed."""
    BINDING_NOT_VERIFIED = "BindingNotVerified"
    """The server of an MCPBinding is not verified, or its verification failed before the agent was attached."""
    BINDING_INVALID = "BindingInvalid"
    """An MCPBinding that serves the agent cannot be read."""
    NARROWING_INVALID = "NarrowingInvalid"
    """The agent's own permissions name a resource that binding or access matrix does not give."""

    APPLIED = "Applied"
    """Deployed: all managed objects are up to date."""
    APPLY_FAILED = "ApplyFailed"
    """The API server refused a child."""
    NAME_TAKEN = "NameTaken"
    """An object that does not belong to the agent has the name of a managed object."""
    LEDGER_MISSING = "LedgerMissing"
    """The BudgetLedger that the agent spends from does not exist yet, so no pod starts."""
    ENFORCEMENT_LOST = "EnforcementLost"
    """An object that enforcement rests on could not be restored within 10 s, so the agent has no pods."""
    RECONCILE_ERROR = "ReconcileError"
    """The operator failed on the object and retries; also the reason of ReconcileFailed on other kinds."""

    PODS_READY = "PodsReady"
    """Ready: all pods are ready."""
    PODS_NOT_READY = "PodsNotReady"
    """At least one pod is not ready."""
    KILL_CONTROLLER_AWAY = "KillControllerAway"
    """No new pod starts, since the kill controller has not renewed its Lease."""
    SCALED_TO_ZERO = "ScaledToZero"
    """Ready, with spec.replicas 0."""

    SELF_TEST_PASSED = "SelfTestPassed"
    """PolicyEnforced: every guard denied all synthetic calls that the bundle denies."""
    SELF_TEST_PENDING = "SelfTestPending"
    """At least one guard has no self-test result for the current bundle."""
    SELF_TEST_FAILED = "SelfTestFailed"
    """A guard would permit a call that the bundle denies. The guard is closed."""
    NO_GUARD = "NoGuard"
    """No pod is wanted, so no guard runs."""

    EGRESS_CLOSED = "EgressClosed"
    """EgressEnforced: every agent pod can reach only its guard."""
    EGRESS_CHECK_PENDING = "EgressCheckPending"
    """The egress check of at least one agent pod has no result."""
    NETWORK_OPEN = "NetworkOpen"
    """The cluster's network enforces no NetworkPolicy. Outside of development the agent does not start."""
    SHARED_POD = "SharedPod"
    """Agent and guard share a pod, so the network is no boundary between them."""

    WAITING_FOR_OPERATOR = "WaitingForOperator"
    """The operator has not processed the object."""
    WAITING_FOR_GOVERNANCE = "WaitingForGovernance"
    """A later layer waits for Governed."""
    WAITING_FOR_ORCHESTRATION = "WaitingForOrchestration"
    """A later layer waits for Orchestrated."""
    WAITING_FOR_ACTIONS = "WaitingForActions"
    """A later layer waits for ActionsBound."""
    WAITING_FOR_DEPLOYMENT = "WaitingForDeployment"
    """Ready waits for Deployed."""

    PROGRESSING = "Progressing"
    """Stalled=False: no action needed."""
    KILL_SWITCH = "KillSwitch"
    """The kill switch is engaged."""
    NOT_KILLED = "NotKilled"
    """The kill switch was never engaged."""
    RELEASED = "Released"
    """The kill switch was engaged and is off again."""

    SOAKING = "Soaking"
    """PromotionPending: the stage is Ready, and its minimum time is running."""
    WAITING_FOR_READY = "WaitingForReady"
    """PromotionPending: the stage is not Ready, so its minimum time does not run."""
    LAST_STAGE = "LastStage"
    """PromotionPending=False: no later stage is left."""

    NEW_REVISION_STARTING = "NewRevisionStarting"
    """The new revision was not Ready yet in its first stage."""
    ROLLOUT_COMPLETE = "RolloutComplete"
    """Progressing=False: the newest revision is the last good one."""
    ROLLOUT_PAUSED = "RolloutPaused"
    """A pause holds the newest revision in its stage."""
    NOT_PAUSED = "NotPaused"
    """RolloutPaused=False: no pause names the newest revision."""
    APPROVAL_REQUIRED = "ApprovalRequired"
    """The next stage is entered only once a promote names it."""
    GATE_PENDING = "GatePending"
    """A gate of the stage has too few samples."""
    GATE_WITHOUT_VERDICT = "GateWithoutVerdict"
    """A gate of the stage cannot be judged."""
    GATE_BREACHED = "GateBreached"
    """A gate of the stage is beyond its limit."""
    ABORTED = "Aborted"
    """A command aborted the newest revision."""
    ROLLED_BACK = "RolledBack"
    """A command went back to an earlier revision."""
    NOT_RUNNING = "NotRunning"
    """The agent is killed, or spec.replicas is 0, so its rollout does not go on."""
    WAITING_TO_START = "WaitingToStart"
    """A new revision is described, and does not start yet."""
    GOOD_REVISION_LOST = "GoodRevisionLost"
    """The content of the last good revision cannot be read, or the policy no longer allows it, so it does not run."""
    NOT_DEGRADED = "NotDegraded"
    """Degraded=False: no revision was stopped, and none breached a gate."""

    SERVED = "Served"
    """Serving: all of the work is served."""
    SERVED_IN_PART = "ServedInPart"
    """A part of the work is served, and no revision serves the rest."""
    NOT_SERVED = "NotServed"
    """No ready revision serves the work: none has reached the last stage's class of environment."""

    WITHIN_BUDGET = "WithinBudget"
    """BudgetExhausted=False: the budget has room."""
    NO_BUDGET = "NoBudget"
    """BudgetExhausted=False: the agent calls nothing that costs money."""
    BUDGET_EXHAUSTED = "BudgetExhausted"
    """A call was refused for which too little of the budget is left."""
    LEDGER_INVALID = "LedgerInvalid"
    """The status of a BudgetLedger cannot be read, so guards refuse calls that cost money."""


RECONCILE_FAILED = "ReconcileFailed"
"""Condition of AgentPolicies and MCPBindings: the operator failed on the object and retries. Absent otherwise."""


def _whole_seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


class Condition(ApiModel):
    """One condition in the standard form of Kubernetes."""

    model_config = ConfigDict(extra="ignore")

    type: str = Field(min_length=1, max_length=316)
    """Type of the condition."""

    status: Literal["True", "False", "Unknown"]
    """Status of the condition."""

    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the spec that the condition was computed for."""

    last_transition_time: Annotated[Timestamp, AfterValidator(_whole_seconds)]
    """When the status last changed."""

    reason: str = Field(min_length=1, max_length=1024)
    """Reason for the status in one stable word. docs/reference/reasons.md has its meaning and its fix."""

    message: str = Field(max_length=32768)
    """Explanation for people, with the command or field that fixes it."""


def _summarize(stage: dict[str, Any]) -> str:
    scope: tuple[ScopeDimension, ...] = stage["scope"]
    return " ".join(f"{limit.dimension}={','.join(limit.values)}" for limit in scope) or "all"


class RestartedPod(ApiModel):
    """A pod in which the agent's container has ended."""

    model_config = ConfigDict(extra="ignore")

    uid: str = Field(max_length=64)
    """The pod's uid."""

    restarts: int = Field(ge=0, json_schema_extra=kube(format="int32"))
    """How often the container has ended in it, the ends before the soak included."""


class StageStatus(ApiModel):
    """The current stage."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=63)
    """Name of the stage."""

    environment: EnvironmentName
    """Its environment."""

    scope: tuple[ScopeDimension, ...] = Field(default=(), max_length=8, json_schema_extra=kube(keys=("dimension",)))
    """Scope of the stage; empty without limits."""

    scope_summary: str = Field(default_factory=_summarize, max_length=32768)
    """Scope in one line, such as region=eu-west, or all without limits."""

    number: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of the revision; 0 from versions that gave none."""

    revision: str = Field(max_length=64)
    """The revision that it runs: a SHA-256 in hex."""

    revision_name: str = Field(default="", max_length=63)
    """Its name, such as 7-3f2a91c04b, which the commands about a rollout name."""

    collision_count: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """How often the names of the stage's objects were those of another placement's objects. It is part of the names."""

    entered_at: Timestamp
    """When the stage was entered."""

    ready_since: Timestamp | None = None
    """Since when the stage is Ready without a break. Absent while it is not."""

    soaked_seconds: int = Field(default=0, ge=0, le=MAX_SOAKED_SECONDS, json_schema_extra=kube(format="int64"))
    """How long the stage was Ready before readySince. Both times together count towards its minimum duration."""

    restarts: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """How often the agent's container ended by itself since the soak began, in all pods together."""

    restarted_pods: tuple[RestartedPod, ...] = Field(
        default=(), max_length=MOST_PODS, json_schema_extra=kube(keys=("uid",))
    )
    """The pods whose ends are counted already, so that no end counts twice."""

    soak_restarted_at: Timestamp | None = None
    """When the soak last started again because of more restarts than spec.rollout.maxRestarts. Absent if never."""

    passed_staging_seconds: int = Field(default=0, ge=0, le=MAX_SOAKED_SECONDS, json_schema_extra=kube(format="int64"))
    """How long the agent was Ready in the stages of staging that this revision has passed. minStaging counts it."""

    passed_limited_seconds: int = Field(default=0, ge=0, le=MAX_SOAKED_SECONDS, json_schema_extra=kube(format="int64"))
    """The same for stages of production with a scope. minLimitedScope counts it."""

    baseline: str = Field(default="", max_length=MAX_BASELINE)
    """What the stage's guards had counted when its soak began, as in their Lease. Gates judge what came since."""

    next_name: str = Field(default="", max_length=63)
    """Name of the next stage; empty in the last one."""

    next_at: Timestamp | None = None
    """When the next stage starts if this one stays Ready. Absent while it is not Ready, and in the last one."""


class EnforcementStatus(ApiModel):
    """The policy for which the self-test of every guard passed."""

    model_config = ConfigDict(extra="ignore")

    bundle_digest: str = Field(max_length=64)
    """SHA-256 of the bundle's text in hex, as in the ConfigMap, the guards' logs and audit records."""

    generation: int = Field(ge=0)
    """Generation of the Agent's spec that the bundle was compiled from."""

    guards: int = Field(ge=0, json_schema_extra=kube(format="int32"))
    """Number of guards whose self-test passed."""


class ManagedObject(ApiModel):
    """A managed object as the operator left it."""

    model_config = ConfigDict(extra="ignore")

    kind: str = Field(max_length=63)
    """Its kind."""

    name: str = Field(max_length=253)
    """Its name."""

    uid: str = Field(max_length=128)
    """Its metadata.uid. Empty for a Secret that existed when the operator created it."""

    digest: str = Field(max_length=64)
    """SHA-256, in hex, of its content in the API server's answer to the operator's last write. Empty for a Secret."""


class KillStatus(ApiModel):
    """The last time that the kill switch was engaged."""

    model_config = ConfigDict(extra="ignore")

    reason: str = Field(max_length=1024)
    """The value of the annotation, cut at 1024 characters."""

    by: str | None = Field(default=None, max_length=1024)
    """User in interlock.dev/kill-switch-by, with the prefix unverified: if the API server did not write the name."""

    requested_at: Timestamp
    """When the kill controller observed the kill switch."""

    zero_pods_at: Timestamp | None = None
    """When the last pod was gone."""

    released_at: Timestamp | None = None
    """When the switch was set to off."""

    released_by: str | None = Field(default=None, max_length=1024)
    """User who set the switch to off, with the same prefix if admission policies did not check the name."""


class AgentStatus(ApiModel):
    """Observed state of an Agent."""

    model_config = ConfigDict(extra="ignore")

    observed_generation: int = Field(default=-1, ge=-1)
    """Generation of the spec that this status was computed for; -1 before the operator has processed the object."""

    conditions: tuple[Condition, ...] = Field(default=(), max_length=32, json_schema_extra=kube(keys=("type",)))
    """The layers in order, then Ready, Stalled, Killed, PolicyEnforced, EgressEnforced, PromotionPending, Serving,
    Progressing, RolloutPaused, Degraded and BudgetExhausted."""

    ready_replicas: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of pods of the current stage that are ready, of those that it must have."""

    ready_summary: str = Field(default="", max_length=16)
    """Ready pods and wanted pods, such as 2/3, for people."""

    replicas: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of agent pods of the placement that serves the rest, which the scale subresource reports."""

    selector: str = Field(default="", max_length=1024)
    """Label selector of these pods, for autoscalers. Empty without such a placement, and if its stage has replicas of
    its own: an autoscaler then does nothing."""

    stage: StageStatus | None = None
    """The current stage of the newest revision, or of the last good one once the newest was stopped."""

    rollout: RolloutStatus | None = None
    """What the operator remembers about the rollout; absent before it began."""

    placements: tuple[PlacementStatus, ...] = Field(
        default=(), max_length=MAX_PLACEMENT_STATUS, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """The placements, the newest first: which revision runs in which stage, and what it serves."""

    history: tuple[HistoryEntry, ...] = Field(
        default=(), max_length=MAX_EVENTS, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """What has happened to the rollout, the newest last."""

    enforcement: EnforcementStatus | None = None
    """Details of PolicyEnforced; absent unless it is True."""

    bundle_digests: tuple[Annotated[str, Field(max_length=64)], ...] = Field(
        default=(), max_length=MAX_BUNDLE_DIGESTS, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """SHA-256, in hex, of the bundles that guards obey: one for each placement, and in a change those before them."""

    managed_objects: tuple[ManagedObject, ...] = Field(
        default=(), max_length=MAX_MANAGED_OBJECTS, json_schema_extra=kube(keys=("kind", "name"))
    )
    """The managed objects as the operator left them. An object that differs has been changed by others."""

    budget: BudgetStatus | None = None
    """What the agent has spent in the environment of its current stage; absent if it calls nothing that costs money."""

    kill: KillStatus | None = None
    """The last kill; absent if there was none."""


NEW_AGENT = status_before_operator("this agent yet", AgentReason.WAITING_FOR_OPERATOR)
"""Status of a new Agent."""
