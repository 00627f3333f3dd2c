"""The managed objects in the status of an Agent or MCPBinding: how each must stay until its next write."""

from collections.abc import Iterable

from interlock.api.status import ManagedObject
from interlock.deployment.names import ChildKey
from interlock.deployment.ownership import AppliedObject, AppliedObjects


def read_applied(recorded: Iterable[ManagedObject]) -> AppliedObjects:
    """Return what the status records of managed objects."""
    return {ChildKey(one.kind, one.name): AppliedObject(one.uid, one.digest) for one in recorded}


def record_applied(
    keys: Iterable[ChildKey], recorded: AppliedObjects, written: AppliedObjects
) -> tuple[ManagedObject, ...]:
    """Return what the status must record.

    Args:
        keys: The managed objects; others are forgotten.
        recorded: What the status has recorded until now.
        written: What the writes since then left.
    """
    known = {**recorded, **written}
    return tuple(
        ManagedObject(kind=key.kind, name=key.name, uid=known[key].uid, digest=known[key].digest)
        for key in sorted(keys)
        if key in known
    )
