"""Which resources of a source may be read, written and deleted."""

from interlock.api.model import ApiModel


class Permissions(ApiModel):
    """Resources by operation; what is not listed is denied."""

    read: tuple[str, ...] = ()
    """Resources that may be read."""

    write: tuple[str, ...] = ()
    """Resources that may be created or changed."""

    delete: tuple[str, ...] = ()
    """Resources that may be deleted."""
