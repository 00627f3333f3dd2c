"""The copies of ConfigMaps: pods refer to them, and never to the ConfigMap that the user named.

A copy holds what the revision keeps. It cannot be changed, so an edited ConfigMap reaches no pod but through a new
revision, and a rollback starts pods with the earlier content. The copies belong to the placement as its bundle does:
they are restored from the revision, and are deleted with the placement. A verification has copies of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from interlock.api.config_maps import (
    ConfigMapKeySelector,
    ConfigMapProjection,
    ConfigMapVolumeSource,
    EnvFrom,
)
from interlock.deployment.config_maps import ConfigMapContent, ConfigMaps
from interlock.deployment.names import Manifest, build_placement_child, config_map_copy, name_of
from interlock.deployment.placement import Placement
from interlock_contract.names import COPY_OF

COMPONENT = "config-map"
"""Value of the component label of a placement's copies."""


@dataclass(frozen=True)
class Copies:
    """The copies that the pods of one placement or verification refer to.

    Attributes:
        base: The name of the placement, or of the Job of the verification.
        kept: What is kept of ConfigMaps, by their names.
    """

    base: str
    kept: ConfigMaps

    def name(self, source: str) -> str:
        """Return the name of the copy of a ConfigMap."""
        return config_map_copy(self.base, self.kept, source)

    def manifests(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield each copy: its source, its name, and its members besides metadata."""
        for source in sorted(self.kept):
            members = {"data": self.kept[source].data, "binaryData": self.kept[source].binary_data}
            body = {member: dict(value) for member, value in members.items() if value}
            yield source, self.name(source), {"immutable": True, **body}

    def content(self, source: str) -> ConfigMapContent:
        """Return what is kept of a ConfigMap; nothing of one that is not kept."""
        return self.kept.get(source) or ConfigMapContent()


def copies_of(placement: Placement) -> Copies:
    """Return the copies of a placement."""
    return Copies(name_of(placement), placement.config_maps)


def build_config_map_copies(placement: Placement) -> tuple[Manifest, ...]:
    """Return a copy of each ConfigMap that the revision keeps, by name."""
    return tuple(
        with_source(build_placement_child(placement, "v1", "ConfigMap", name, COMPONENT, **body), source)
        for source, name, body in copies_of(placement).manifests()
    )


def with_source(manifest: Manifest, source: str) -> Manifest:
    """Return a copy with an annotation that names the ConfigMap that it is a copy of."""
    metadata = manifest["metadata"]
    return manifest | {"metadata": metadata | {"annotations": metadata.get("annotations", {}) | {COPY_OF: source}}}


def build_variable(name: str, reference: ConfigMapKeySelector, copies: Copies) -> dict[str, Any] | None:
    """Return an environment variable whose value is a key; None for an optional one without its key.

    Args:
        name: The name of the variable.
        reference: The key.
        copies: The copies of the pod.
    """
    if reference.optional and reference.key not in copies.content(reference.name).data:
        return None
    key = {"name": copies.name(reference.name), "key": reference.key}
    return {"name": name, "valueFrom": {"configMapKeyRef": key}}


def build_variables(source: EnvFrom, copies: Copies) -> dict[str, Any]:
    """Return an entry of a container's `envFrom`."""
    prefix = {"prefix": source.prefix} if source.prefix else {}
    return {**prefix, "configMapRef": {"name": copies.name(source.config_map_ref.name)}}


def build_projection(reference: ConfigMapProjection, copies: Copies) -> dict[str, Any]:
    """Return the `configMap` of a volume, or of a source of a projected volume.

    A copy always exists, so `optional` is left only where one of the keys is missing.
    """
    missing = {item.key for item in reference.items} - copies.content(reference.name).keys
    mode = reference.default_mode if isinstance(reference, ConfigMapVolumeSource) else None
    return {
        "name": copies.name(reference.name),
        **({"items": [item.to_kubernetes() for item in reference.items]} if reference.items else {}),
        **({"optional": True} if reference.optional and missing else {}),
        **({"defaultMode": mode} if mode is not None else {}),
    }
