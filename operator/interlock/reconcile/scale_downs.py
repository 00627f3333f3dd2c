"""The pods of an agent's placements that go: who drains, and what Kubernetes' controllers must know about it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from interlock.deployment.observed.pod_reports import AgentPods
from interlock.orchestration.rollout_decision import DesiredPlacement
from interlock.orchestration.rollout_state import PlacementKey, RolloutRules
from interlock.orchestration.scale_down import (
    Replacing,
    ScalablePod,
    ScaleDown,
    decide_scale_down,
    join_scale_downs,
)
from interlock.reconcile.ended_pods import EndedPod
from interlock.reconcile.observation import SeenPlacement
from interlock.reconcile.rollout_status import RolloutRecord


@dataclass(frozen=True)
class PodMark:
    """A pod that must be marked as one that goes, or as one that stays.

    Attributes:
        name: Its name.
        goes: Whether the ReplicaSet's controller must delete it before the others, and no Service must lead to it.
        has_guard: Whether a guard runs in it, so that Services lead to it while it stays.
    """

    name: str
    goes: bool
    has_guard: bool


def scale_down_of(
    record: RolloutRecord,
    desired: DesiredPlacement,
    seen: Mapping[PlacementKey, SeenPlacement],
    now: datetime,
    *,
    wanted: int,
    rules: RolloutRules,
    takes_tasks: bool,
    is_stopped: bool,
) -> ScaleDown:
    """Return how many pods a placement has now, and which of them go.

    A kill and an exhausted budget end pods immediately, and a placement may have none for a claim. Pods of a revision
    without a port for tasks, and those of a placement that does not serve yet, have nothing under way. A placement that
    drains as a whole keeps its pods, also those of an earlier template.

    Args:
        record: What the status records.
        desired: What the rollout decided about the placement.
        seen: What is seen of the recorded placements.
        now: The time.
        wanted: How many pods it must have while the agent runs.
        rules: What spec and policy say about the rollout.
        takes_tasks: Whether the placement's revision has a port for tasks.
        is_stopped: Whether the agent is killed, its budget is exhausted, or the placement may have no pods.
    """
    known = seen.get(desired.key)
    if is_stopped:
        return ScaleDown(0)
    if known is None or not takes_tasks or not (desired.is_serving or desired.is_draining):
        return ScaleDown(wanted)
    live = known.readiness.wanted
    if desired.is_draining:
        kept = (Replacing.STARTING,) * (2 if known.agents else 1)
        return ScaleDown(max(wanted, live), replacing=kept)
    decide = partial(
        decide_scale_down,
        record.scale_downs.get(desired.key, ()),
        now=now,
        wanted=wanted,
        live=live,
        timeout=rules.drain_timeout,
        least=rules.least_drain,
    )
    return join_scale_downs(decide(known.guards), decide(known.agents))


def going(scale_down: ScaleDown, pods: Iterable[ScalablePod]) -> tuple[ScalablePod, ...]:
    """Return those of some pods that are chosen to go."""
    names = {one.name for one in scale_down.pods}
    return tuple(one for one in pods if one.name in names)


def marks_of(scale_down: ScaleDown, seen: SeenPlacement) -> tuple[PodMark, ...]:
    """Return the pods of a placement that are not marked as what they are.

    A pod that runs another image than its revision was Ready with is marked like one that is chosen to go: no Service
    leads to it, and it is the first to go once one goes.
    """
    chosen = {one.name for one in scale_down.pods} | seen.changed
    return tuple(
        PodMark(one.name, one.name in chosen, has_guard)
        for pods, has_guard in ((seen.guards, True), (seen.agents, False))
        for one in pods
        if one.is_marked != (one.name in chosen)
    )


def overdue_pods(scale_down: ScaleDown, seen: SeenPlacement, pods: AgentPods) -> tuple[EndedPod, ...]:
    """Return the chosen pods that had something under way until their time was over, once their controller ends them.

    It would end them with the grace period of their template, and their guards would wait for their tasks until it is
    over.

    Args:
        scale_down: The scale-down of the placement.
        seen: What is seen of the placement.
        pods: The pods of its agent.
    """
    is_lowered = scale_down.replicas < seen.readiness.wanted
    states = (*scale_down.replacing, Replacing.DONE, Replacing.DONE)
    ended = (
        one
        for found, state in zip((seen.guards, seen.agents), states, strict=False)
        for one in going(scale_down, found)
        if is_lowered or (one.is_earlier and state is Replacing.ENDING)
    )
    names = {one.name for one in ended if one.ready_since is not None and not one.is_drained}
    return tuple(EndedPod(one.name, one.uid) for one in pods.reports if one.name in names)
