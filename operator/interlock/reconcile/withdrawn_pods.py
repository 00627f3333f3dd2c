"""The pods that were started with a way past the guard or an identity at a cloud that is withdrawn."""

from dataclasses import dataclass
from typing import Final

from interlock.api.status import AgentReason, AgentStatus, Condition, ConditionType
from interlock.deployment.names import selector
from interlock.deployment.observed.pod_reports import TEMPLATE_HASH_LABEL, AgentPods, PodReport
from interlock.deployment.openings import all_openings_of, is_withdrawn, short_openings
from interlock.deployment.placement import Placement
from interlock.reconcile.agent_events import EventNote, EventReason
from interlock.reconcile.conditions import shorten
from interlock.reconcile.ended_pods import EndedPod
from interlock_contract.names import APP_MANAGED_BY_LABEL, MANAGED_BY, OPENINGS


@dataclass(frozen=True)
class WithdrawnPod(EndedPod):
    """A pod that was started with more than it may use now.

    Attributes:
        group: Stage, revision and component of its placement.
        today: What its component may use now.
    """

    group: tuple[str, ...] = ()
    today: str = ""


def withdrawn_pods(placement: Placement, pods: AgentPods) -> tuple[WithdrawnPod, ...]:
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
    today = {component: all_openings_of(placement, component) for component in {one.group.component for one in found}}
    said = {(one.group.component, one.openings) for one in found}
    withdrawn = {(component, text) for component, text in said if is_withdrawn(text, today[component])}
    return tuple(
        WithdrawnPod(
            one.name,
            one.uid,
            _replica_set(placement, one),
            group=(one.group.stage, one.group.revision, one.group.component),
            today=short_openings(today[one.group.component]),
        )
        for one in found
        if (one.group.component, one.openings) in withdrawn
    )


def withdrawal_notes(pods: tuple[WithdrawnPod, ...]) -> tuple[EventNote, ...]:
    """Return the Event that says why pods were deleted, once for the same pods."""
    if not pods:
        return ()
    text = (
        f"deleted pods {_named(pods)}, because they were started with a way out, a cloud identity or a network of a "
        "stdio server that AgentPolicy or MCPBinding no longer give them"
    )
    return (EventNote("Warning", EventReason.OPENINGS_WITHDRAWN, text, key=_key_of(pods)),)


def brake_notes(held: tuple[WithdrawnPod, ...], rounds: int) -> tuple[EventNote, ...]:
    """Return the Event that says why pods like those that were deleted wait, once for the same pods.

    Args:
        held: The pods that wait.
        rounds: How many times pods like these were deleted.
    """
    if not held:
        return ()
    text = f"pods {_named(held)} {_altered_message(rounds)}"
    return (EventNote("Warning", AgentReason.OPENINGS_ALTERED, text, key=_key_of(held)),)


def with_brake(status: AgentStatus, held: tuple[WithdrawnPod, ...], rounds: int) -> AgentStatus:
    """Return a status whose condition EgressEnforced says that pods wait for their end, if any do.

    The network is as closed as before, so its status stays. The message names no pods, since there are others after
    each round.

    Args:
        status: The status.
        held: The pods that wait.
        rounds: How many times pods like these were deleted.
    """
    if not held:
        return status
    return status.model_copy(
        update={"conditions": tuple(_with_cause(one, rounds) if _is_egress(one) else one for one in status.conditions)}
    )


def is_altered(status: AgentStatus | None) -> bool:
    """Return True if a status says that pods waited for their end, see `with_brake`."""
    found = status.conditions if status is not None else ()
    return any(_is_egress(one) and one.reason == AgentReason.OPENINGS_ALTERED for one in found)


def _is_egress(condition: Condition) -> bool:
    return condition.type == ConditionType.EGRESS_ENFORCED


def _with_cause(condition: Condition, rounds: int) -> Condition:
    message = shorten(f"new pods {_altered_message(rounds)}; {condition.message}")
    return condition.model_copy(update={"reason": AgentReason.OPENINGS_ALTERED, "message": message})


def _altered_message(rounds: int) -> str:
    return (
        f"say that they were started with more than AgentPolicy and MCPBinding give them, after {rounds} deletions of "
        "pods that did: something else than Interlock, such as an admission webhook, changes their annotation "
        f"{OPENINGS}; exempt pods with the label {APP_MANAGED_BY_LABEL}={MANAGED_BY} from it. They have no more than "
        "is given, and are deleted in turn, with growing pauses"
    )


def _named(pods: tuple[WithdrawnPod, ...]) -> str:
    more = f" and {len(pods) - _MOST_NAMED} more" if len(pods) > _MOST_NAMED else ""
    return f"{', '.join(one.name for one in pods[:_MOST_NAMED])}{more}"


def _key_of(pods: tuple[WithdrawnPod, ...]) -> str:
    return "/".join(sorted(one.uid for one in pods))


_MOST_NAMED: Final = 3


def _replica_set(placement: Placement, pod: PodReport) -> tuple[tuple[str, str], ...]:
    if not pod.template_hash:
        return ()
    labels = {**selector(placement, pod.group.component), TEMPLATE_HASH_LABEL: pod.template_hash}
    return tuple(sorted(labels.items()))
