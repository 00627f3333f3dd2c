"""A pod that the operator deletes itself, before its workload changes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EndedPod:
    """A pod that must end now, with the grace period of a kill.

    Attributes:
        name: Its name.
        uid: Its uid.
        replica_set: The labels of its ReplicaSet, if that must not make another one from the same template; empty
            otherwise, and for a pod that has none.
    """

    name: str
    uid: str
    replica_set: tuple[tuple[str, str], ...] = ()
