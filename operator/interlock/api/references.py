"""Values that stand in other objects of the same namespace."""

from interlock.api.model import ApiModel
from interlock.api.text import ObjectName


class SecretKeyRef(ApiModel):
    """One key of a Secret in the same namespace."""

    name: ObjectName
    """Name of the Secret."""

    key: ObjectName
    """Key in the Secret."""


class ConfigMapKeyRef(ApiModel):
    """One key of a ConfigMap in the same namespace."""

    name: ObjectName
    """Name of the ConfigMap."""

    key: ObjectName
    """Key in the ConfigMap."""


class EnvSource(ApiModel):
    """Where a value comes from."""

    secret_key_ref: SecretKeyRef
    """One key of a Secret."""
