"""The pod template of an agent: its container, and what its pods may choose, with the names of a PodSpec.

What is not here does not exist for an agent: host namespaces and ports, privileges, init containers, Secrets, tokens of
ServiceAccounts, hooks, mount propagation. What an AgentPolicy allows of the rest is in `governance.pod_features`.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from interlock.api.claims import MAX_AGENT_VOLUMES, AgentVolume
from interlock.api.config_maps import EnvFrom
from interlock.api.container_env import EnvVar
from interlock.api.container_probes import PORT_NAME, ContainerProbe, PortNumber, ReadinessProbe, check_port
from interlock.api.markers import Rule, cel_pattern, kube
from interlock.api.messages import (
    DOTS_IN_PATH,
    LABEL_VALUE,
    LABELS_INVALID,
    format_message,
)
from interlock.api.scheduling import Affinity, NodeLabels, Toleration, TopologySpreadConstraint
from interlock.api.shared_types import ApiModel, Resources
from interlock.api.template_messages import (
    CLASS_NAME_INVALID,
    ID_RESERVED,
    METADATA_KEY_INVALID,
    METADATA_KEY_RESERVED,
    PORT_NAME_INVALID,
    PORT_NAME_RESERVED,
    PORT_NAME_TWICE,
    PRIORITY_RESERVED,
    SPREAD_TWICE,
    WORKING_DIR_INVALID,
)
from interlock.api.text import COMMAND_FITS, Argument, Image, LabelValue, ObjectName, checked, text_rule
from interlock.api.volumes import (
    MOUNT_PATH,
    MOUNTS_HAVE_VOLUMES,
    VolumeMount,
    check_mounts,
    is_mount_path,
)
from interlock_contract.names import GROUP
from interlock_contract.pod import FIRST_RESERVED_ID, GUARD_GID, LAST_RESERVED_ID, PORT_NAMES

ImagePullPolicy = Literal["Always", "IfNotPresent", "Never"]

_CLASS_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_RESERVED_PRIORITY = r"^(system-.*|interlock-kill)$"
_METADATA_KEY = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_RESERVED_KEY = r"^([-a-z0-9.]+\.)?(kubernetes\.io|k8s\.io|interlock\.dev)/"
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
"""The one annotation of Kubernetes' own that a template may set: it keeps a pod where it is, and opens nothing."""
USER_KEYS = f"user.{GROUP}/"
"""Beginning of the keys that are for users of templates: no program of Kubernetes or of a cluster obeys one."""
_LONGEST_KEY = 317

WorkingDir = Annotated[
    str,
    Field(
        max_length=255,
        json_schema_extra=kube(
            text_rule(
                f"self == '/' || self.matches({cel_pattern(MOUNT_PATH)}) && !self.matches({cel_pattern(DOTS_IN_PATH)})",
                WORKING_DIR_INVALID,
            )
        ),
    ),
]
"""The folder in which a container's program starts."""


def check_working_dir(text: str | None) -> None:
    """Hold a folder to `WorkingDir`.

    Raises:
        ValueError: It is no absolute path.
    """
    if text is not None and text != "/" and not is_mount_path(text):
        raise ValueError(format_message(WORKING_DIR_INVALID, text=text))


def _is_id_free(number: int) -> int:
    if number == GUARD_GID or FIRST_RESERVED_ID <= number <= LAST_RESERVED_ID:
        raise ValueError(ID_RESERVED)
    return number


ContainerId = Annotated[
    int,
    Field(
        ge=1,
        le=2147483647,
        json_schema_extra=kube(
            Rule(
                rule=f"self != {GUARD_GID} && (self < {FIRST_RESERVED_ID} || self > {LAST_RESERVED_ID})",
                message=ID_RESERVED,
            ),
            format="int64",
        ),
    ),
    AfterValidator(_is_id_free),
]
"""A user or group that no container of Interlock has, and never root."""


def _check_port_name(name: str) -> str:
    check_port(name)
    return name


PortName = Annotated[
    str,
    Field(
        max_length=15,
        json_schema_extra=kube(
            text_rule(f"self.matches({cel_pattern(PORT_NAME)})", PORT_NAME_INVALID),
            Rule(rule=f"!(self in {list(PORT_NAMES)})", message=PORT_NAME_RESERVED),
        ),
    ),
    checked(PORT_NAME, PORT_NAME_INVALID),
    AfterValidator(_check_port_name),
]
"""The name of a container's port."""


def _is_not_reserved(name: str) -> str:
    if re.fullmatch(_RESERVED_PRIORITY[1:-1], name):
        raise ValueError(format_message(PRIORITY_RESERVED, text=name))
    return name


PriorityClassName = Annotated[
    str,
    Field(
        max_length=253,
        json_schema_extra=kube(
            text_rule(f"self.matches({cel_pattern(_CLASS_NAME)})", CLASS_NAME_INVALID),
            text_rule(f"!self.matches({cel_pattern(_RESERVED_PRIORITY)})", PRIORITY_RESERVED),
        ),
    ),
    checked(_CLASS_NAME, CLASS_NAME_INVALID),
    AfterValidator(_is_not_reserved),
]
"""The name of a PriorityClass."""

RuntimeClassName = Annotated[
    str,
    Field(
        max_length=253,
        json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(_CLASS_NAME)})", CLASS_NAME_INVALID)),
    ),
    checked(_CLASS_NAME, CLASS_NAME_INVALID),
]
"""The name of a RuntimeClass."""


class ImagePullSecret(ApiModel):
    """A Secret of the same namespace with the password of a registry. Only the kubelet reads it."""

    name: ObjectName
    """Name of the Secret."""


class ContainerPort(ApiModel):
    """A port of the container, for others to read. It opens nothing."""

    name: PortName | None = None
    """Its name, by which probes may name it."""

    container_port: PortNumber
    """Its number."""

    protocol: Literal["TCP", "UDP", "SCTP"] = Field(default="TCP", json_schema_extra=kube(default="TCP"))
    """Its protocol."""


class ContainerUser(ApiModel):
    """User and group of the container's programs."""

    run_as_user: ContainerId | None = None
    """User; absent for Interlock's choice, which is never root."""

    run_as_group: ContainerId | None = None
    """Group; absent for Interlock's choice, which is never root."""


def check_metadata_keys(keys: dict[str, str]) -> dict[str, str]:
    """Hold keys of labels or annotations to those that a template may set.

    Raises:
        ValueError: One has no prefix, or a reserved one.
    """
    for key in keys:
        if len(key) > _LONGEST_KEY or not re.fullmatch(_METADATA_KEY[1:-1], key):
            raise ValueError(METADATA_KEY_INVALID)
        if re.match(_RESERVED_KEY, key) and key != SAFE_TO_EVICT and not key.startswith(USER_KEYS):
            raise ValueError(METADATA_KEY_RESERVED)
    return keys


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    if SAFE_TO_EVICT in labels:
        raise ValueError(METADATA_KEY_RESERVED)
    if not all(re.fullmatch(LABEL_VALUE[1:-1], value) for value in labels.values()):
        raise ValueError(LABELS_INVALID)
    return labels


_KEYS_HAVE_PREFIXES = Rule(
    rule=f"self.all(k, size(k) <= {_LONGEST_KEY} && k.matches({cel_pattern(_METADATA_KEY)}))",
    message=METADATA_KEY_INVALID,
)


class PodMetadata(ApiModel):
    """Labels and annotations of the agent's pods."""

    labels: Annotated[dict[str, LabelValue], AfterValidator(check_metadata_keys), AfterValidator(_check_labels)] = (
        Field(
            default_factory=dict,
            max_length=8,
            json_schema_extra=kube(
                _KEYS_HAVE_PREFIXES,
                Rule(
                    rule=f"self.all(k, k.startsWith('{USER_KEYS}') || !k.matches({cel_pattern(_RESERVED_KEY)}))",
                    message=METADATA_KEY_RESERVED,
                ),
                Rule(rule=f"self.all(k, self[k].matches({cel_pattern(LABEL_VALUE)}))", message=LABELS_INVALID),
            ),
        )
    )
    """Labels with keys of user.interlock.dev, such as user.interlock.dev/team, or with those that the policy lists in
    metadataKeys. Other keys of Kubernetes and Interlock are refused."""

    annotations: Annotated[dict[str, Annotated[str, Field(max_length=1024)]], AfterValidator(check_metadata_keys)] = (
        Field(
            default_factory=dict,
            max_length=8,
            json_schema_extra=kube(
                _KEYS_HAVE_PREFIXES,
                Rule(
                    rule=f"self.all(k, k == '{SAFE_TO_EVICT}' || k.startsWith('{USER_KEYS}')"
                    f" || !k.matches({cel_pattern(_RESERVED_KEY)}))",
                    message=METADATA_KEY_RESERVED,
                ),
            ),
        )
    )
    """Annotations with keys of user.interlock.dev, or with those that the policy lists in metadataKeys. Of Kubernetes'
    own only cluster-autoscaler.kubernetes.io/safe-to-evict may be set."""


def _each_once(constraints: tuple[TopologySpreadConstraint, ...]) -> tuple[TopologySpreadConstraint, ...]:
    if len({(one.topology_key, one.when_unsatisfiable) for one in constraints}) < len(constraints):
        raise ValueError(SPREAD_TWICE)
    return constraints


_NAMED_ONCE = "!has(p.name) || self.ports.exists_one(q, has(q.name) && q.name == p.name)"


class Template(ApiModel):
    """The agent's container, and what its pods may choose."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            COMMAND_FITS,
            MOUNTS_HAVE_VOLUMES,
            Rule(
                rule=f"!has(self.ports) || self.ports.all(p, {_NAMED_ONCE})",
                message=PORT_NAME_TWICE,
                field_path=".ports",
            ),
        )
    )

    image: Image
    """Image of the agent."""

    image_pull_policy: ImagePullPolicy | None = None
    """When the kubelet pulls the image; absent for IfNotPresent."""

    image_pull_secrets: tuple[ImagePullSecret, ...] = Field(
        default=(), max_length=8, json_schema_extra=kube(keys=("name",))
    )
    """Secrets with which the kubelet pulls images. They are named, never copied, and no container gets them."""

    command: tuple[Argument, ...] = Field(default=(), max_length=64)
    """Replaces the image's entry point."""

    args: tuple[Argument, ...] = Field(default=(), max_length=64)
    """Replaces the image's arguments."""

    working_dir: WorkingDir | None = None
    """Folder in which the program starts; absent for that of the image."""

    env: tuple[EnvVar, ...] = Field(default=(), max_length=64, json_schema_extra=kube(keys=("name",)))
    """Environment variables."""

    env_from: tuple[EnvFrom, ...] = Field(default=(), max_length=16)
    """Sources of more environment variables. Of one name in several sources the last one counts."""

    ports: tuple[ContainerPort, ...] = Field(default=(), max_length=16)
    """Ports of the container, for others to read. None of them is opened by this."""

    resources: Resources | None = None
    """CPU and memory."""

    startup_probe: ContainerProbe | None = None
    """Check that the program has started. Until then the other probes wait."""

    liveness_probe: ContainerProbe | None = None
    """Check whose failure ends the container, so that it starts again."""

    readiness_probe: ReadinessProbe | None = None
    """Check on which readiness depends; absent for a connection to the port of tasks, if the agent takes tasks."""

    volume_mounts: tuple[VolumeMount, ...] = Field(
        default=(), max_length=16, json_schema_extra=kube(keys=("mountPath",))
    )
    """Where the container finds its volumes."""

    volumes: tuple[AgentVolume, ...] = Field(
        default=(), max_length=MAX_AGENT_VOLUMES, json_schema_extra=kube(keys=("name",))
    )
    """Volumes of the agent's pods, which the agent's container alone mounts."""

    metadata: PodMetadata | None = None
    """Labels and annotations of the agent's pods, in addition to those of Interlock."""

    node_selector: NodeLabels = Field(default_factory=dict)
    """Labels of nodes on which pods of agent and guard may run."""

    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=16)
    """Taints of nodes that pods of agent and guard tolerate."""

    affinity: Affinity | None = None
    """Nodes and pods that decide where pods of agent and guard run."""

    topology_spread_constraints: Annotated[tuple[TopologySpreadConstraint, ...], AfterValidator(_each_once)] = Field(
        default=(), max_length=4
    )
    """How evenly pods of agent and guard are spread."""

    priority_class_name: PriorityClassName | None = None
    """PriorityClass of pods of agent and guard."""

    runtime_class_name: RuntimeClassName | None = None
    """RuntimeClass of the agent's pods."""

    termination_grace_period_seconds: int | None = Field(
        default=None, ge=1, le=300, json_schema_extra=kube(format="int64")
    )
    """How long the tasks of an evicted pod, and then the agent, may take to end; absent for 1, up to the policy's
    maximum. A kill waits 1 s at most for a pod that is not being deleted already."""

    security_context: ContainerUser | None = None
    """User and group of the agent's programs."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_working_dir(self.working_dir)
        check_mounts(self.volumes, self.volume_mounts)
        names = [port.name for port in self.ports if port.name is not None]
        if len(set(names)) < len(names):
            raise ValueError(PORT_NAME_TWICE)
        return self
