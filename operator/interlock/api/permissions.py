"""Which resources of a source may be read, written and deleted."""

from pydantic import Field

from interlock.api.model import ApiModel
from interlock.api.text import Resource


class Permissions(ApiModel):
    """Resources by operation; what is not listed is denied."""

    read: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be read."""

    write: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be created or changed."""

    delete: tuple[Resource, ...] = Field(default=(), max_length=64)
    """Resources that may be deleted."""
