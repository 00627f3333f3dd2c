"""The pods that were started with a way past the guard or an identity at a cloud that is withdrawn."""

from dataclasses import dataclass

from interlock.deployment.names import selector
from interlock.deployment.observed.pod_reports import TEMPLATE_HASH_LABEL, AgentPods, PodReport
from interlock.deployment.openings import is_withdrawn, openings_of
from interlock.deployment.placement import Placement


@dataclass(frozen=True)
class WithdrawnPod:
    """A pod that must end now: its connections are not cut otherwise, and its successor may never be Ready.

    Attributes:
        name: Its name.
        uid: Its uid.
        replica_set: The labels of its ReplicaSet, which would make another one from the same template; empty if it has
            none.
    """

    name: str
    uid: str
    replica_set: tuple[tuple[str, str], ...] = ()


def withdrawn_pods(placement: Placement, pods: AgentPods) -> tuple[WithdrawnPod, ...]:
    """Return the pods of a placement that were started with more than they may use now.

    Pods of another isolation belong to Deployments that are pruned.

    Args:
        placement: The placement, as it is now.
        pods: The pods of its agent.
    """
    return tuple(
        WithdrawnPod(one.name, one.uid, _replica_set(placement, one))
        for one in pods.of(placement.stage.name, placement.revision)
        if one.openings and one.group.isolation == placement.isolation
        if is_withdrawn(one.openings, openings_of(placement, one.group.component))
    )


def _replica_set(placement: Placement, pod: PodReport) -> tuple[tuple[str, str], ...]:
    if not pod.template_hash:
        return ()
    labels = {**selector(placement, pod.group.component), TEMPLATE_HASH_LABEL: pod.template_hash}
    return tuple(sorted(labels.items()))
