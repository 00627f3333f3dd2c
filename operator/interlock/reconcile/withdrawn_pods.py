"""The pods that were started with a way past the guard or an identity at a cloud that is withdrawn."""

from typing import Final

from interlock.deployment.names import selector
from interlock.deployment.observed.pod_reports import TEMPLATE_HASH_LABEL, AgentPods, PodReport
from interlock.deployment.openings import is_withdrawn, openings_of
from interlock.deployment.placement import Placement
from interlock.reconcile.agent_events import EventNote, EventReason
from interlock.reconcile.ended_pods import EndedPod


def withdrawn_pods(placement: Placement, pods: AgentPods) -> tuple[EndedPod, ...]:
    """Return the pods of a placement that were started with more than they may use now.

    Their connections are not cut otherwise, and their successors may never be Ready.

    Pods of another isolation belong to Deployments that are pruned.

    Args:
        placement: The placement, as it is now.
        pods: The pods of its agent.
    """
    found = [
        one
        for one in pods.of(placement.stage.name, placement.revision)
        if one.openings and one.group.isolation == placement.isolation
    ]
    # Pods of one template say the same, and a long text takes long to compare.
    today = {component: openings_of(placement, component) for component in {one.group.component for one in found}}
    said = {(one.group.component, one.openings) for one in found}
    withdrawn = {(component, text) for component, text in said if is_withdrawn(text, today[component])}
    return tuple(
        EndedPod(one.name, one.uid, _replica_set(placement, one))
        for one in found
        if (one.group.component, one.openings) in withdrawn
    )


def withdrawal_notes(pods: tuple[EndedPod, ...]) -> tuple[EventNote, ...]:
    """Return the Event that says why pods were deleted, once for the same pods."""
    if not pods:
        return ()
    more = f" and {len(pods) - _MOST_NAMED} more" if len(pods) > _MOST_NAMED else ""
    text = (
        f"deleted pods {', '.join(one.name for one in pods[:_MOST_NAMED])}{more}, because they were started with a way "
        "out, a cloud identity or a network of a stdio server that AgentPolicy or MCPBinding no longer give them"
    )
    return (EventNote("Warning", EventReason.OPENINGS_WITHDRAWN, text, key="/".join(sorted(one.uid for one in pods))),)


_MOST_NAMED: Final = 3


def _replica_set(placement: Placement, pod: PodReport) -> tuple[tuple[str, str], ...]:
    if not pod.template_hash:
        return ()
    labels = {**selector(placement, pod.group.component), TEMPLATE_HASH_LABEL: pod.template_hash}
    return tuple(sorted(labels.items()))
