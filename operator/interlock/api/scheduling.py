"""Where a pod may run: node selectors, tolerations, affinity and topology spread, as in a PodSpec."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from interlock.api.markers import Rule, cel_pattern, kube
from interlock.api.messages import LABEL_KEY, LABEL_VALUE, LABELS_INVALID
from interlock.api.shared_types import ApiModel
from interlock.api.template_messages import (
    AFFINITY_KEYS_INVALID,
    REQUIREMENT_INVALID,
    SPREAD_INVALID,
    TOLERATION_INVALID,
)
from interlock.api.text import LabelValue, checked

_LONGEST_KEY = 317

# Rules deep in affinities would cost the CRD tens of KiB, so Python alone checks these.
LabelKey = Annotated[str, Field(max_length=_LONGEST_KEY), checked(LABEL_KEY, LABELS_INVALID)]
"""The key of a label."""


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    for key, value in labels.items():
        if len(key) > _LONGEST_KEY or not re.fullmatch(LABEL_KEY[1:-1], key):
            raise ValueError(LABELS_INVALID)
        if not re.fullmatch(LABEL_VALUE[1:-1], value):
            raise ValueError(LABELS_INVALID)
    return labels


MatchLabels = Annotated[dict[str, LabelValue], Field(max_length=16), AfterValidator(_check_labels)]
"""Labels of pods with these very values."""

NodeLabels = Annotated[
    dict[str, LabelValue],
    Field(
        max_length=16,
        json_schema_extra=kube(
            Rule(
                rule=f"self.all(k, size(k) <= {_LONGEST_KEY} && k.matches({cel_pattern(LABEL_KEY)})"
                f" && self[k].matches({cel_pattern(LABEL_VALUE)}))",
                message=LABELS_INVALID,
            ),
        ),
    ),
    AfterValidator(_check_labels),
]
"""Labels that nodes must carry."""


class Toleration(ApiModel):
    """A taint of nodes that the pods tolerate."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="(has(self.key) && self.key != '' || has(self.operator) && self.operator == 'Exists')"
                " && (!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == '')"
                " && (!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute')",
                message=TOLERATION_INVALID,
            )
        )
    )

    key: LabelKey | None = None
    """Key of the taint; absent for all keys."""

    operator: Literal["Exists", "Equal"] | None = None
    """Exists: any value. Equal: the value. Absent: Equal."""

    value: LabelValue | None = None
    """Value of the taint."""

    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; absent for all effects."""

    toleration_seconds: int | None = Field(default=None, ge=0, le=86400 * 365, json_schema_extra=kube(format="int64"))
    """How long a pod stays on a node with the taint NoExecute; absent for ever."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        is_any = self.operator == "Exists"
        if (not self.key and not is_any) or (is_any and self.value):
            raise ValueError(TOLERATION_INVALID)
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError(TOLERATION_INVALID)
        return self


class _Requirement(ApiModel):
    key: LabelKey
    """Key of the label."""

    values: tuple[LabelValue, ...] = Field(default=(), max_length=16)
    """Values of In and NotIn."""


class LabelRequirement(_Requirement):
    """A requirement on one label of a pod."""

    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label is compared."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if (self.operator in {"In", "NotIn"}) != bool(self.values):
            raise ValueError(REQUIREMENT_INVALID)
        return self


class NodeRequirement(_Requirement):
    """A requirement on one label of a node."""

    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """How the label is compared."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        is_number = self.operator in {"Gt", "Lt"}
        if (self.operator in {"In", "NotIn"} or is_number) != bool(self.values):
            raise ValueError(REQUIREMENT_INVALID)
        if is_number and (len(self.values) != 1 or not re.fullmatch(r"-?[0-9]{1,18}", self.values[0])):
            raise ValueError(REQUIREMENT_INVALID)
        return self


class LabelSelector(ApiModel):
    """Selects pods by their labels."""

    match_labels: MatchLabels = Field(default_factory=dict)
    """Labels with these very values."""

    match_expressions: tuple[LabelRequirement, ...] = Field(default=(), max_length=8)
    """Further requirements."""

    @property
    def keys(self) -> frozenset[str]:
        """The labels that it compares."""
        return frozenset((*self.match_labels, *(one.key for one in self.match_expressions)))


class NodeSelectorTerm(ApiModel):
    """Requirements on the labels of one node."""

    match_expressions: tuple[NodeRequirement, ...] = Field(min_length=1, max_length=8)
    """All of them must hold."""


class NodeSelector(ApiModel):
    """Nodes that at least one term matches."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = Field(min_length=1, max_length=4)
    """The terms."""


class PreferredNodes(ApiModel):
    """Nodes that are preferred."""

    weight: int = Field(ge=1, le=100, json_schema_extra=kube(format="int32"))
    """How much, from 1 to 100."""

    preference: NodeSelectorTerm
    """The nodes."""


class NodeAffinity(ApiModel):
    """Nodes on which pods may or should run."""

    required: NodeSelector | None = Field(default=None, alias="requiredDuringSchedulingIgnoredDuringExecution")
    """Nodes on which they may run."""

    preferred: tuple[PreferredNodes, ...] = Field(
        default=(), max_length=4, alias="preferredDuringSchedulingIgnoredDuringExecution"
    )
    """Nodes on which they should run."""


class PodAffinityTerm(ApiModel):
    """Pods of the same namespace near which, or away from which, pods run."""

    label_selector: LabelSelector | None = None
    """The pods; absent for none."""

    topology_key: LabelKey
    """Label of nodes. Nodes with the same value are one place."""

    match_label_keys: tuple[LabelKey, ...] = Field(default=(), max_length=4)
    """Labels of the pod whose values the other pods must have too."""

    mismatch_label_keys: tuple[LabelKey, ...] = Field(default=(), max_length=4)
    """Labels of the pod whose values the other pods must not have."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if set(self.match_label_keys) & set(self.mismatch_label_keys):
            raise ValueError(AFFINITY_KEYS_INVALID)
        return self


class PreferredPods(ApiModel):
    """Pods near which, or away from which, pods should run."""

    weight: int = Field(ge=1, le=100, json_schema_extra=kube(format="int32"))
    """How much, from 1 to 100."""

    pod_affinity_term: PodAffinityTerm
    """The pods."""


def _check_selectors(*terms: PodAffinityTerm) -> None:
    if any((one.match_label_keys or one.mismatch_label_keys) and one.label_selector is None for one in terms):
        raise ValueError(AFFINITY_KEYS_INVALID)


class PodAffinity(ApiModel):
    """Pods near which pods must or should run."""

    required: tuple[PodAffinityTerm, ...] = Field(
        default=(), max_length=4, alias="requiredDuringSchedulingIgnoredDuringExecution"
    )
    """Pods near which they must run."""

    preferred: tuple[PreferredPods, ...] = Field(
        default=(), max_length=4, alias="preferredDuringSchedulingIgnoredDuringExecution"
    )
    """Pods near which they should run."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        _check_selectors(*self.required, *(one.pod_affinity_term for one in self.preferred))
        return self


class PodAntiAffinity(ApiModel):
    """Pods away from which pods must or should run."""

    required: tuple[PodAffinityTerm, ...] = Field(
        default=(), max_length=4, alias="requiredDuringSchedulingIgnoredDuringExecution"
    )
    """Pods away from which they must run: among those of the agent itself, since a term keeps the others away too."""

    preferred: tuple[PreferredPods, ...] = Field(
        default=(), max_length=4, alias="preferredDuringSchedulingIgnoredDuringExecution"
    )
    """Pods away from which they should run."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        # A required term selects the agent's own pods in any case.
        _check_selectors(*(one.pod_affinity_term for one in self.preferred))
        return self


class Affinity(ApiModel):
    """Nodes and pods that decide where pods run."""

    node_affinity: NodeAffinity | None = None
    """By the labels of nodes."""

    pod_affinity: PodAffinity | None = None
    """Near other pods."""

    pod_anti_affinity: PodAntiAffinity | None = None
    """Away from other pods."""


class TopologySpreadConstraint(ApiModel):
    """How evenly pods are spread over places."""

    max_skew: int = Field(ge=1, le=1000, json_schema_extra=kube(format="int32"))
    """Largest difference between the numbers of pods in two places."""

    topology_key: LabelKey
    """Label of nodes. Nodes with the same value are one place."""

    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """What happens to a pod that would make the difference larger."""

    label_selector: LabelSelector | None = None
    """The pods that are counted; absent for those of the same placement."""

    min_domains: int | None = Field(default=None, ge=1, le=1000, json_schema_extra=kube(format="int32"))
    """Least number of places."""

    match_label_keys: tuple[LabelKey, ...] = Field(default=(), max_length=4)
    """Labels of the pod whose values the counted pods must have too."""

    node_affinity_policy: Literal["Honor", "Ignore"] | None = None
    """Whether nodes that affinity and nodeSelector exclude are counted."""

    node_taints_policy: Literal["Honor", "Ignore"] | None = None
    """Whether nodes with taints that are not tolerated are counted."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        counted = self.label_selector.keys if self.label_selector else frozenset()
        if counted & set(self.match_label_keys):
            raise ValueError(SPREAD_INVALID)
        if self.min_domains is not None and self.when_unsatisfiable != "DoNotSchedule":
            raise ValueError(SPREAD_INVALID)
        return self
