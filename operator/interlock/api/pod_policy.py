"""What an AgentPolicy allows the pod templates of its agents and of stdio servers, and what these get by default."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from interlock.api.markers import cel_pattern, kube
from interlock.api.pod_template import ImagePullSecret
from interlock.api.scheduling import NodeLabels, Toleration
from interlock.api.shared_types import ApiModel, LimitQuantity, Resources
from interlock.api.template_messages import METADATA_GLOB_INVALID
from interlock.api.text import checked, text_rule

_GLOB = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/(\*|[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)$"

MetadataGlob = Annotated[
    str,
    Field(
        max_length=317,
        json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(_GLOB)})", METADATA_GLOB_INVALID)),
    ),
    checked(_GLOB, METADATA_GLOB_INVALID),
]
"""A key of labels and annotations, or all keys of a prefix."""


class PodFeature(StrEnum):
    """What a policy can allow and withhold of a pod template."""

    IMAGE_PULL_SECRETS = "ImagePullSecrets"
    """imagePullSecrets and imagePullPolicy."""
    METADATA = "Metadata"
    """Labels and annotations."""
    SCHEDULING = "Scheduling"
    """nodeSelector, tolerations, affinity and topologySpreadConstraints."""
    PROBES = "Probes"
    """Probes of the container."""
    CONFIG_MAPS = "ConfigMaps"
    """Variables and files with keys of ConfigMaps."""
    DOWNWARD_API = "DownwardAPI"
    """Variables and files with fields of the pod."""
    EMPTY_DIRS = "EmptyDirs"
    """Volumes of kind emptyDir."""
    CONTAINER = "Container"
    """workingDir and ports."""
    PERSISTENT_VOLUME_CLAIMS = "PersistentVolumeClaims"
    """Volumes of kind persistentVolumeClaim, of agents alone."""
    RUNTIME_CLASSES = "RuntimeClasses"
    """runtimeClassName."""
    PRIORITY = "Priority"
    """priorityClassName."""
    CLOUD_IDENTITY = "CloudIdentity"
    """cloudIdentity of the policy."""
    USERS = "Users"
    """User and group of the container's programs."""


DEFAULT_FEATURES = (
    PodFeature.IMAGE_PULL_SECRETS,
    PodFeature.METADATA,
    PodFeature.SCHEDULING,
    PodFeature.PROBES,
    PodFeature.CONFIG_MAPS,
    PodFeature.DOWNWARD_API,
    PodFeature.EMPTY_DIRS,
    PodFeature.CONTAINER,
)
"""What a policy allows that says nothing."""


class PodDefaults(ApiModel):
    """What pods get where templates say nothing."""

    image_pull_secrets: tuple[ImagePullSecret, ...] = Field(
        default=(), max_length=8, json_schema_extra=kube(keys=("name",))
    )
    """Secrets with which the kubelet pulls images, in addition to those of templates."""

    node_selector: NodeLabels = Field(default_factory=dict)
    """Labels of nodes, in addition to those of templates. A template may not contradict them."""

    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=16)
    """Taints that pods tolerate, in addition to those of templates."""


class PodMaximums(ApiModel):
    """Largest amounts of a container and of a volume. A template that asks for more is refused."""

    cpu: LimitQuantity | None = None
    """CPU of a container, such as 2. A container without a limit of its own gets this one at most."""

    memory: LimitQuantity | None = None
    """Memory of a container, such as 4Gi. A container without a limit of its own gets this one at most."""

    empty_dir: LimitQuantity | None = None
    """Size of a volume of kind emptyDir, and of /tmp, such as 10Gi."""


class PodTemplatePolicy(ApiModel):
    """What templates of agents and stdio servers may use, and what their pods get by default."""

    allow: tuple[PodFeature, ...] | None = Field(default=None, max_length=16)
    """What templates may use. Absent: ImagePullSecrets, Metadata, Scheduling, Probes, ConfigMaps, DownwardAPI,
    EmptyDirs and Container. A pod that uses what is no longer allowed ends."""

    metadata_keys: tuple[MetadataGlob, ...] = Field(default=(), max_length=32)
    """More keys of labels and annotations that templates may set, such as example.com/team or example.com/*. Those of
    user.interlock.dev need no entry. Whatever runs in the cluster may obey a key: injectors, networks, collectors."""

    default: PodDefaults = PodDefaults()
    """What pods of agents, guards, verifications and the notifier get where templates say nothing."""

    maximum: PodMaximums = Field(default=PodMaximums(), alias="max")
    """Largest amounts that templates of agents and stdio servers may ask for. Absent: there is no bound."""

    max_termination_grace_period_seconds: int = Field(
        default=1, ge=1, le=300, json_schema_extra=kube(format="int32", default=1)
    )
    """Largest terminationGracePeriodSeconds of a template. A kill cannot shorten a deletion that is under way."""

    image_references: Literal["Any", "Digest"] = Field(default="Any", json_schema_extra=kube(default="Any"))
    """Digest: images of agents, of their tests and of stdio servers must be named by digest, as name@sha256:..."""

    guard_resources: Resources | None = None
    """CPU and memory of the guard, and of Interlock's other containers in pods of agents and verifications. Absent: as
    the installation states. A memory limit below what a container needs is raised to that."""

    @property
    def allowed(self) -> frozenset[PodFeature]:
        """The features that templates may use."""
        return frozenset(DEFAULT_FEATURES if self.allow is None else self.allow)
