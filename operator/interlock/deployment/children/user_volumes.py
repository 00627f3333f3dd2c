"""Volumes, mounts and variables of a template, as they stand in a pod."""

from collections.abc import Iterable
from typing import Any, Final

from interlock.api.container_env import EnvVar
from interlock.api.policy import ContainerDefaults
from interlock.api.shared_types import ApiModel
from interlock.api.stdio_server import ServerEnvSource, ServerEnvVar
from interlock.api.volumes import EmptyDirVolume, PodVolume, ProjectedSource, VolumeMount
from interlock.deployment.children.config_maps import Copies, build_projection, build_variable
from interlock.deployment.children.pod_parts import field_ref

USER_VOLUME: Final = "user-"
"""Beginning of the names of all volumes of an agent's template, and of no volume of Interlock."""


def server_volume(index: int) -> str:
    """Return the beginning of the names of a stdio server's volumes, and of no other volume.

    Args:
        index: Position of its source among those of the agent.
    """
    return f"srv{index}-"


def dump_part(part: ApiModel) -> dict[str, Any]:
    """Return a part of a template as Kubernetes writes it, without members that have their defaults."""
    return part.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")


def build_user_volumes(
    beginning: str, volumes: Iterable[PodVolume], defaults: ContainerDefaults, copies: Copies
) -> list[dict[str, Any]]:
    """Return the volumes of a template.

    Args:
        beginning: Beginning of their names in the pod.
        volumes: The volumes.
        defaults: The policy's, whose size limits those without one: the node's disk belongs to all.
        copies: The copies of ConfigMaps that the pod refers to.
    """
    return [{"name": f"{beginning}{volume.name}", **_build_source(volume, defaults, copies)} for volume in volumes]


def _build_source(volume: PodVolume, defaults: ContainerDefaults, copies: Copies) -> dict[str, Any]:
    if volume.config_map is not None:
        return {"configMap": build_projection(volume.config_map, copies)}
    if volume.empty_dir is not None:
        return {"emptyDir": _build_empty_dir(volume.empty_dir, defaults)}
    if volume.projected is not None:
        return {"projected": {"sources": [_build_projected(one, copies) for one in volume.projected.sources]}}
    raise ValueError(f"volume {volume.name} has no source")  # the API type refuses it


def _build_empty_dir(volume: EmptyDirVolume, defaults: ContainerDefaults) -> dict[str, Any]:
    return {**dump_part(volume), "sizeLimit": volume.size_limit or defaults.tmp_size_limit}


def _build_projected(source: ProjectedSource, copies: Copies) -> dict[str, Any]:
    if source.config_map is not None:
        return {"configMap": build_projection(source.config_map, copies)}
    if source.downward_api is None:
        raise ValueError("a projected volume without a source")  # the API type refuses it
    items = [{"path": item.path, **field_ref(item.field_ref.field_path)} for item in source.downward_api.items]
    return {"downwardAPI": {"items": items}}


def build_user_mounts(beginning: str, mounts: Iterable[VolumeMount]) -> list[dict[str, Any]]:
    """Return the mounts of a template.

    Args:
        beginning: Beginning of the names of its volumes in the pod.
        mounts: The mounts.
    """
    return [{**dump_part(mount), "name": f"{beginning}{mount.name}"} for mount in mounts]


def build_env(variables: Iterable[EnvVar | ServerEnvVar], copies: Copies) -> list[dict[str, Any]]:
    """Return the variables of an agent or of a stdio server, without optional ones that have no value.

    Args:
        variables: The variables.
        copies: The copies of ConfigMaps that the pod refers to.
    """
    found = (_build_variable(variable, copies) for variable in variables)
    return [one for one in found if one is not None]


def _build_variable(variable: EnvVar | ServerEnvVar, copies: Copies) -> dict[str, Any] | None:
    source = variable.value_from
    if source is None:
        return {"name": variable.name, "value": variable.value or ""}
    if source.config_map_key_ref is not None:
        return build_variable(variable.name, source.config_map_key_ref, copies)
    if source.field_ref is not None:
        return {"name": variable.name, "valueFrom": field_ref(source.field_ref.field_path)}
    if isinstance(source, ServerEnvSource) and source.secret_key_ref is not None:
        key = source.secret_key_ref
        return {"name": variable.name, "valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}}}
    raise ValueError(f"variable {variable.name} has no source")  # the API type refuses it
