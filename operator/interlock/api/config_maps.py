"""How a container refers to ConfigMaps of its namespace: by key, as variables, and as files.

A revision keeps the content of what it refers to, so pods mount copies and never the ConfigMap itself.
"""

from typing import Annotated

from pydantic import AfterValidator, Field

from interlock.api.markers import kube
from interlock.api.messages import PATH_INVALID, VARIABLE, format_message, quoted
from interlock.api.shared_types import ApiModel
from interlock.api.template_messages import CONFIG_MAP_KEY_INVALID, ENV_PREFIX_INVALID
from interlock.api.text import ObjectName, checked, is_file_path

MAX_CONFIG_MAPS = 16
"""Most ConfigMaps that one agent and its stdio servers refer to together."""
_OPTIONAL = kube(default=False)
Mode = Annotated[int, Field(ge=0, le=0o777, json_schema_extra=kube(format="int32"))]
"""The permissions of a file as a decimal number, such as 292 for 0444."""


_KEY = r"^[A-Za-z0-9_.\-]+$"


def _check_path(path: str) -> str:
    # The kubelet writes the files of a volume below ..data and names with a time, which also begin with two dots.
    if not is_file_path(path) or path.startswith(".."):
        raise ValueError(format_message(PATH_INVALID, text=quoted(path)))
    return path


def _check_key(key: str) -> str:
    if key == "." or key.startswith(".."):
        raise ValueError(format_message(CONFIG_MAP_KEY_INVALID, text=quoted(key)))
    return key


# A template has so many of these that the rules of the API server would cost too much, so the operator checks them. It
# refuses what Kubernetes refuses in a pod: the Deployment of a revision would not be admitted.
ItemPath = Annotated[str, Field(max_length=255), AfterValidator(_check_path)]
"""A path in a volume."""

ConfigMapKey = Annotated[ObjectName, checked(_KEY, CONFIG_MAP_KEY_INVALID), AfterValidator(_check_key)]
"""A key of a ConfigMap."""

EnvPrefix = Annotated[str, Field(max_length=64), checked(rf"^({VARIABLE[1:-1]})?$", ENV_PREFIX_INVALID)]
"""What names of variables begin with, such as `my-app.`."""


class ConfigMapKeySelector(ApiModel):
    """One key of a ConfigMap in the same namespace, whose text is the value."""

    name: ObjectName
    """Name of the ConfigMap."""

    key: ConfigMapKey
    """Key in the ConfigMap."""

    optional: bool = Field(default=False, json_schema_extra=_OPTIONAL)
    """Whether the variable is left out if the ConfigMap or the key is missing."""


class ConfigMapEnvSource(ApiModel):
    """All keys of a ConfigMap in the same namespace."""

    name: ObjectName
    """Name of the ConfigMap."""

    optional: bool = Field(default=False, json_schema_extra=_OPTIONAL)
    """Whether the ConfigMap may be missing."""


class EnvFrom(ApiModel):
    """A source of variables: each key of a ConfigMap is one. A variable of env with the same name counts instead."""

    prefix: EnvPrefix = ""
    """Text in front of the name of each variable."""

    config_map_ref: ConfigMapEnvSource
    """The ConfigMap. Keys that would be variables of Interlock are refused."""


class KeyToPath(ApiModel):
    """One key as a file."""

    key: ConfigMapKey
    """Key in the ConfigMap."""

    path: ItemPath
    """Path of the file, relative to the volume."""

    mode: Mode | None = None
    """Permissions of the file; absent for those of the volume."""


class ConfigMapProjection(ApiModel):
    """Keys of a ConfigMap as files of a volume that has several sources."""

    name: ObjectName
    """Name of the ConfigMap."""

    items: tuple[KeyToPath, ...] = Field(default=(), max_length=64, json_schema_extra=kube(keys=("path",)))
    """The keys and the paths of their files; absent for all keys, each as a file of its own name."""

    optional: bool = Field(default=False, json_schema_extra=_OPTIONAL)
    """Whether the ConfigMap or one of the keys may be missing."""


class ConfigMapVolumeSource(ConfigMapProjection):
    """Keys of a ConfigMap as the files of a volume."""

    default_mode: Mode | None = None
    """Permissions of the files; absent for 420, which is 0644."""
