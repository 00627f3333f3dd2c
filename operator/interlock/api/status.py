"""Status of an Agent: conditions, reasons, stage, enforcement and kill."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.config import JsonDict

from interlock.api.agent_reasons import AgentReason
from interlock.api.budget_status import BudgetStatus
from interlock.api.markers import kube
from interlock.api.rollout_status import MAX_EVENTS, MAX_PLACEMENT_STATUS, HistoryEntry, PlacementStatus, RolloutStatus
from interlock.api.shared_types import ApiModel, ScopeDimension, Timestamp
from interlock.api.text import EnvironmentName
from interlock_contract.bundle import MAX_BUNDLE_DIGESTS
from interlock_contract.work_counts import MAX_TEXT

__all__ = ["AgentReason"]
"""Reasons belong to conditions: users of both import them from here."""

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
    """Every agent pod can reach only its guard, and what the policy opens."""
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
    GUARD_UPDATED = "GuardUpdated"
    """The guards are those of the operator's present version."""


MAX_MANAGED_OBJECTS = 288
"""Most objects of one Agent or MCPBinding that its status records: twice those of four placements, 72 KiB at most."""

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


MAX_POD_TEMPLATES = 16
"""Most Deployments whose pod templates are recorded: twice those of four placements."""


class PodTemplateRecord(ApiModel):
    """What the operator recorded about the pod template of a Deployment when it last wrote or kept it."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=253)
    """Name of the Deployment."""

    operator: str = Field(max_length=64)
    """SHA-256, in hex, of version and settings of the operator."""

    inputs: str = Field(max_length=64)
    """SHA-256, in hex, of the generations of the objects that the template was built from."""

    template: str = Field(max_length=64)
    """SHA-256, in hex, of the template as this operator writes it. The pods may keep that of an earlier one."""


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
    Progressing, RolloutPaused, Degraded, BudgetExhausted and GuardUpdated."""

    ready_replicas: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of pods of the current stage that are ready, of those that it must have."""

    ready_summary: str = Field(default="", max_length=16)
    """Ready pods and wanted pods, such as 2/3, for people."""

    replicas: int = Field(default=0, ge=0, json_schema_extra=kube(format="int32"))
    """Number of agent pods of the placement that serves the rest, which the scale subresource reports."""

    selector: str = Field(default="", max_length=1024)
    """Label selector of these pods, for autoscalers. Empty without such a placement, and if its stage has replicas of
    its own or the agent has claims: an autoscaler then does nothing."""

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

    pod_templates: tuple[PodTemplateRecord, ...] = Field(
        default=(), max_length=MAX_POD_TEMPLATES, json_schema_extra=kube(keys=("name",))
    )
    """The pod templates of Deployments. By them the operator tells a change of users from one of its own version."""

    budget: BudgetStatus | None = None
    """What the agent has spent in the environment of its current stage; absent if it calls nothing that costs money."""

    kill: KillStatus | None = None
    """The last kill; absent if there was none."""


NEW_AGENT = status_before_operator("this agent yet", AgentReason.WAITING_FOR_OPERATOR)
"""Status of a new Agent."""
