"""Volumes of a pod template and where containers mount them."""

import re
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from interlock.api.config_maps import ConfigMapProjection, ConfigMapVolumeSource, ItemPath, KeyToPath
from interlock.api.container_env import FileFieldRef
from interlock.api.markers import Rule, cel_pattern, kube, one_of
from interlock.api.messages import DOTS_IN_PATH, NAME, NAME_INVALID, format_message, quoted
from interlock.api.shared_types import ApiModel, LimitQuantity, check_one_of
from interlock.api.template_messages import (
    MOUNT_PATH_INVALID,
    MOUNT_PATH_RESERVED,
    MOUNT_UNKNOWN,
    MOUNT_WITHOUT_VOLUME,
    PROJECTED_PATH_TWICE,
    PROJECTED_SOURCE,
    VOLUME_SOURCE,
    VOLUME_TWICE,
)
from interlock.api.text import FilePath, checked, text_rule

MOUNT_PATH = r"^(/[A-Za-z0-9_.@+\-]+)+$"
RESERVED_MOUNT = (
    r"^/(tmp|etc|run|var|var/run|var/lib"
    r"|etc/(hosts|hostname|resolv\.conf)(/.*)?"
    r"|(etc|run|var/run|var/lib)/interlock(/.*)?"
    r"|(run|var/run)/secrets(/.*)?"
    r"|(proc|sys|dev)(/.*)?)$"
)
"""Paths that Interlock or the kubelet mounts, what is below them, and the folders above them."""


def is_mount_path(text: str) -> bool:
    """Return True if a path is absolute, as the kernel would write it."""
    return bool(re.fullmatch(MOUNT_PATH[1:-1], text)) and not re.search(DOTS_IN_PATH, text)


def _check_mount(text: str) -> str:
    if not is_mount_path(text):
        raise ValueError(format_message(MOUNT_PATH_INVALID, text=quoted(text)))
    if re.fullmatch(RESERVED_MOUNT[1:-1], text):
        raise ValueError(format_message(MOUNT_PATH_RESERVED, text=quoted(text)))
    return text


MountPath = Annotated[
    str,
    Field(
        max_length=255,
        json_schema_extra=kube(
            text_rule(
                f"self.matches({cel_pattern(MOUNT_PATH)}) && !self.matches({cel_pattern(DOTS_IN_PATH)})",
                MOUNT_PATH_INVALID,
            ),
            text_rule(f"!self.matches({cel_pattern(RESERVED_MOUNT)})", MOUNT_PATH_RESERVED),
        ),
    ),
    AfterValidator(_check_mount),
]
"""Where a volume is mounted."""

# With the longest prefix that it has in a pod, the name of a volume has 63 characters.
VolumeName = Annotated[
    str,
    Field(max_length=57, json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(NAME)})", NAME_INVALID))),
    checked(NAME, NAME_INVALID),
]
"""The name of a volume. In the pod it has a prefix, so that it is never one of Interlock's."""


class EmptyDirVolume(ApiModel):
    """A folder that begins empty and ends with its pod."""

    medium: Literal["Memory"] | None = None
    """Memory: the files are in memory and count as the container's. Absent: on the node's disk."""

    size_limit: LimitQuantity | None = None
    """Largest size. A pod that writes more is evicted. Absent: spec.resources.tmpSizeLimit of the AgentPolicy, and at
    most its spec.podTemplate.max.emptyDir."""


class DownwardApiItem(ApiModel):
    """A file with a field of the pod."""

    path: ItemPath
    """Path of the file in the volume."""

    field_ref: FileFieldRef
    """The field."""


class DownwardApiSource(ApiModel):
    """Files with fields of the pod."""

    items: tuple[DownwardApiItem, ...] = Field(min_length=1, max_length=16, json_schema_extra=kube(keys=("path",)))
    """The files."""


class ProjectedSource(ApiModel):
    """One source of a projected volume."""

    model_config = ConfigDict(json_schema_extra=kube(one_of("configMap", "downwardAPI", message=PROJECTED_SOURCE)))

    config_map: ConfigMapProjection | None = None
    """Keys of a ConfigMap as files."""

    downward_api: DownwardApiSource | None = Field(default=None, alias="downwardAPI")
    """Files with fields of the pod."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_one_of(self, "config_map", "downward_api", message=PROJECTED_SOURCE)
        return self

    @property
    def items(self) -> tuple[KeyToPath | DownwardApiItem, ...]:
        """The files that are named one by one."""
        named = (self.config_map, self.downward_api)
        return tuple(item for one in named if one is not None for item in one.items)


class ProjectedVolume(ApiModel):
    """Several sources in one folder. A token of a ServiceAccount and a Secret can be none of them."""

    sources: tuple[ProjectedSource, ...] = Field(min_length=1, max_length=8)
    """The sources."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        used = Counter(item.path for source in self.sources for item in source.items)
        for path, count in used.items():
            if count > 1:
                raise ValueError(format_message(PROJECTED_PATH_TWICE, path=path))
        return self


class PodVolume(ApiModel):
    """A volume; exactly one of its kinds is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(one_of("configMap", "emptyDir", "projected", message=VOLUME_SOURCE))
    )

    name: VolumeName
    """Its name, by which volumeMounts name it."""

    config_map: ConfigMapVolumeSource | None = None
    """Keys of a ConfigMap as files, with the content that they have when a revision begins."""

    empty_dir: EmptyDirVolume | None = None
    """A folder that begins empty and ends with its pod."""

    projected: ProjectedVolume | None = None
    """Several sources in one folder."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_one_of(self, "config_map", "empty_dir", "projected", message=VOLUME_SOURCE)
        return self


class VolumeMount(ApiModel):
    """Where the container finds a volume."""

    name: VolumeName
    """Name of one of the volumes."""

    mount_path: MountPath
    """Absolute path. The folders of Interlock, of tokens, /tmp itself, /proc, /sys and /dev are refused."""

    sub_path: FilePath | None = None
    """Path in the volume; absent for all of it."""

    read_only: bool | None = None
    """Whether the container may only read it."""


_UNKNOWN_MOUNT = "!has(self.volumes) || !self.volumes.exists(v, v.name == m.name)"
MOUNTS_HAVE_VOLUMES = Rule(
    rule=f"!has(self.volumeMounts) || self.volumeMounts.all(m, !({_UNKNOWN_MOUNT}))",
    message=MOUNT_UNKNOWN,
    field_path=".volumeMounts",
)
"""A rule on what has volumes and volumeMounts; `check_mounts` checks the same in Python."""


def check_mounts(volumes: tuple[PodVolume, ...], mounts: tuple[VolumeMount, ...]) -> None:
    """Hold the mounts of a container to its volumes.

    Raises:
        ValueError: A mount names no volume, or two volumes or mounts are of one name or path.
    """
    known = {volume.name for volume in volumes}
    for mount in mounts:
        if mount.name not in known:
            raise ValueError(format_message(MOUNT_WITHOUT_VOLUME, name=mount.name))
    if len(known) < len(volumes) or len({mount.mount_path for mount in mounts}) < len(mounts):
        raise ValueError(VOLUME_TWICE)
