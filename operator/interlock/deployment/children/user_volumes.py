"""Volumes, mounts and variables of a template, as they stand in a pod."""

from collections.abc import Iterable
from typing import Any, Final

from interlock.api.container_env import EnvVar
from interlock.api.policy import ContainerDefaults
from interlock.api.shared_types import ApiModel
from interlock.api.volumes import EmptyDirVolume, PodVolume, ProjectedSource, VolumeMount
from interlock.deployment.children.pod_parts import field_ref

USER_VOLUME: Final = "user-"
"""Beginning of the names of all volumes of a template, and of no volume of Interlock."""


def dump_part(part: ApiModel) -> dict[str, Any]:
    """Return a part of a template as Kubernetes writes it, without members that have their defaults."""
    return part.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")


def build_user_volumes(volumes: Iterable[PodVolume], defaults: ContainerDefaults) -> list[dict[str, Any]]:
    """Return the volumes of a template.

    Args:
        volumes: The volumes.
        defaults: The policy's, whose size limits those without one: the node's disk belongs to all.
    """
    return [{"name": f"{USER_VOLUME}{volume.name}", **_build_source(volume, defaults)} for volume in volumes]


def _build_source(volume: PodVolume, defaults: ContainerDefaults) -> dict[str, Any]:
    if volume.empty_dir is not None:
        return {"emptyDir": _build_empty_dir(volume.empty_dir, defaults)}
    if volume.projected is not None:
        return {"projected": {"sources": [_build_projected(one) for one in volume.projected.sources]}}
    raise ValueError(f"volume {volume.name} has no source")  # the API type refuses it


def _build_empty_dir(volume: EmptyDirVolume, defaults: ContainerDefaults) -> dict[str, Any]:
    return {**dump_part(volume), "sizeLimit": volume.size_limit or defaults.tmp_size_limit}


def _build_projected(source: ProjectedSource) -> dict[str, Any]:
    if source.downward_api is None:
        raise ValueError("a projected volume without a source")  # the API type refuses it
    items = [{"path": item.path, **field_ref(item.field_ref.field_path)} for item in source.downward_api.items]
    return {"downwardAPI": {"items": items}}


def build_user_mounts(mounts: Iterable[VolumeMount]) -> list[dict[str, Any]]:
    """Return the mounts of a template."""
    return [{**dump_part(mount), "name": f"{USER_VOLUME}{mount.name}"} for mount in mounts]


def build_env(variable: EnvVar) -> dict[str, Any]:
    """Return a variable of a template."""
    source = variable.value_from
    if source is None:
        return {"name": variable.name, "value": variable.value}
    if source.field_ref is not None:
        return {"name": variable.name, "valueFrom": field_ref(source.field_ref.field_path)}
    raise ValueError(f"variable {variable.name} has no source")  # the API type refuses it
