"""The Lease in which the guards of a placement say which bundle they have proven on themselves."""

from interlock.deployment.child import Manifest, build_child
from interlock.deployment.labels import placement_labels
from interlock.deployment.names import name_of
from interlock.deployment.placement import Placement


def build_lease(placement: Placement) -> Manifest:
    """Return the Lease, empty: each guard adds an annotation of its own and nobody else writes to it."""
    labels = placement_labels(placement, "guard")
    return build_child(placement.agent, "coordination.k8s.io/v1", "Lease", name_of(placement), labels)
