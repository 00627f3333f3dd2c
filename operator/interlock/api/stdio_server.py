"""A stdio MCP server: its container, and what the pods that it runs in may take from it, as in a PodSpec."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from interlock.api.config_maps import ConfigMapKeySelector, EnvFrom
from interlock.api.container_env import FieldRef
from interlock.api.container_probes import ExecAction
from interlock.api.markers import Rule, cel_sentence, kube, one_of
from interlock.api.messages import VARIABLE_VALUE, plain
from interlock.api.pod_template import ContainerId, ImagePullPolicy, ImagePullSecret, WorkingDir, check_working_dir
from interlock.api.scheduling import NodeLabels, Toleration
from interlock.api.shared_types import ApiModel, Resources, SecretKeyRef, check_one_of
from interlock.api.template_messages import SERVER_ENV_SOURCE
from interlock.api.text import COMMAND_FITS, Argument, Image, VariableName
from interlock.api.volumes import MOUNTS_HAVE_VOLUMES, PodVolume, VolumeMount, check_mounts


class ServerEnvSource(ApiModel):
    """Where a value comes from; exactly one of its members is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(one_of("secretKeyRef", "configMapKeyRef", "fieldRef", message=SERVER_ENV_SOURCE)),
    )

    secret_key_ref: SecretKeyRef | None = None
    """One key of a Secret. Only the MCP server gets it, never the agent."""

    config_map_key_ref: ConfigMapKeySelector | None = None
    """One key of a ConfigMap, with the value that it has when a revision of the agent begins."""

    field_ref: FieldRef | None = None
    """One field of the pod."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_one_of(self, "secret_key_ref", "config_map_key_ref", "field_ref", message=SERVER_ENV_SOURCE)
        return self


class ServerEnvVar(ApiModel):
    """An environment variable of the MCP server; exactly one of value and valueFrom is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="has(self.value) != has(self.valueFrom)",
                message=plain(VARIABLE_VALUE),
                message_expression=cel_sentence(VARIABLE_VALUE, name="self.name"),
            ),
        ),
    )

    name: VariableName
    """Its name; names that start with INTERLOCK_ are refused."""

    value: str | None = Field(default=None, max_length=4096)
    """Value, if it is no secret."""

    value_from: ServerEnvSource | None = None
    """Where the value comes from."""


class ServerReadinessProbe(ApiModel):
    """A command on which the readiness of the server's pod depends, in addition to the guard's own checks."""

    exec_action: ExecAction = Field(alias="exec")
    """A command in the container."""

    initial_delay_seconds: int | None = Field(default=None, ge=0, le=3600, json_schema_extra=kube(format="int32"))
    """Seconds before the first check."""

    timeout_seconds: int | None = Field(default=None, ge=1, le=300, json_schema_extra=kube(format="int32"))
    """Seconds after which a check has failed."""

    period_seconds: int | None = Field(default=None, ge=1, le=3600, json_schema_extra=kube(format="int32"))
    """Seconds between two checks."""

    failure_threshold: int | None = Field(default=None, ge=1, le=1000, json_schema_extra=kube(format="int32"))
    """Failures in a row that count."""

    success_threshold: int | None = Field(default=None, ge=1, le=100, json_schema_extra=kube(format="int32"))
    """Successes in a row after a failure."""


class ServerUser(ApiModel):
    """User of the server's program. Its group is Interlock's, by which it reaches its pipes."""

    run_as_user: ContainerId
    """User. The agent and each of its servers need users of their own."""


class StdioServer(ApiModel):
    """An MCP server that runs as a sidecar and uses its standard streams."""

    model_config = ConfigDict(json_schema_extra=kube(COMMAND_FITS, MOUNTS_HAVE_VOLUMES))

    image: Image
    """Image of the server. It needs no shell."""

    image_pull_policy: ImagePullPolicy | None = None
    """When the kubelet pulls the image; absent for IfNotPresent."""

    image_pull_secrets: tuple[ImagePullSecret, ...] = Field(
        default=(), max_length=8, json_schema_extra=kube(keys=("name",))
    )
    """Secrets with which the kubelet pulls images. They are named, never copied, and no container gets them."""

    command: tuple[Argument, ...] = Field(min_length=1, max_length=64)
    """The program; the image's entry point is not used."""

    args: tuple[Argument, ...] = Field(default=(), max_length=64)
    """Its arguments."""

    working_dir: WorkingDir | None = None
    """Folder in which the program starts; absent for that of the image."""

    env: tuple[ServerEnvVar, ...] = Field(default=(), max_length=64, json_schema_extra=kube(keys=("name",)))
    """Its environment variables."""

    env_from: tuple[EnvFrom, ...] = Field(default=(), max_length=16)
    """Sources of more environment variables. Of one name in several sources the last one counts."""

    network: Literal["None", "Public", "Private"] = Field(default="None", json_schema_extra=kube(default="None"))
    """Egress of the server in a separate guard pod. None: no egress. Public: globally routable addresses only.
    Private: private addresses too. Metadata services of clouds are never reachable."""

    resources: Resources | None = None
    """CPU and memory."""

    readiness_probe: ServerReadinessProbe | None = None
    """Command on which the readiness of its pod depends. The guard itself checks that the server starts and lives."""

    volume_mounts: tuple[VolumeMount, ...] = Field(
        default=(), max_length=16, json_schema_extra=kube(keys=("mountPath",))
    )
    """Where the container finds its volumes."""

    volumes: tuple[PodVolume, ...] = Field(default=(), max_length=15, json_schema_extra=kube(keys=("name",)))
    """Volumes that this server alone mounts."""

    node_selector: NodeLabels = Field(default_factory=dict)
    """Labels of nodes on which pods with this server may run. They may not contradict those of the agent or of another
    server of it."""

    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=16)
    """Taints of nodes that pods with this server tolerate."""

    security_context: ServerUser | None = None
    """User of the server's program; absent for one of Interlock's."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_working_dir(self.working_dir)
        check_mounts(self.volumes, self.volume_mounts)
        return self
