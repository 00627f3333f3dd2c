"""The scale-down of a placement: which pods go, and when they have nothing left to do. Pure.

A pod that is deleted breaks its tasks. So the operator chooses the pods that must go, no Service leads to them any
more, and only then the number of pods is lowered. An example: 3 pods, of which 1 is wanted from 8:00 on.

    8:00:00  3 pods, a and b are chosen and marked: Services lead to the third one alone
    8:00:01  a node that has not learned it yet sends a task to b, which serves it
    8:00:10  a has nothing under way, b still has that task
    8:00:17  b is done, so the Deployment is lowered to 1, and its controller deletes a and b

Where the agent has pods of its own, there are as many of them as of guards, and as many go. No guard sends a new task
to those. Both Deployments are lowered once the pods of both have nothing left to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from interlock_contract.bundle import MAX_DRAINING_PODS

_LONG_AGO: Final = timedelta(days=36500)


@dataclass(frozen=True)
class DrainingPod:
    """A pod that was chosen to go.

    Attributes:
        name: Its name.
        since: When it was chosen, or last seen without its mark: from then on, nodes learn to send it no new tasks.
    """

    name: str
    since: datetime


@dataclass(frozen=True)
class ScalablePod:
    """A pod with a guard or of a separate agent, of those that exist and are not being deleted.

    Attributes:
        name: Its name.
        ready_since: Since when it is Ready; None while it is not, so that no task reaches it.
        is_drained: Its guard says that nothing is under way, by the bundle that names it. For a pod without a guard,
            all guards say so of the agent's pods that go.
        is_marked: The ReplicaSet's controller deletes it before the others, and no Service leads to it. None where
            only one of the two holds.
        addresses: The IP addresses of a separate agent's pod.
    """

    name: str
    ready_since: datetime | None = None
    is_drained: bool = False
    is_marked: bool | None = False
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScaleDown:
    """How many pods a placement has now, and which of them go.

    Attributes:
        replicas: What each of its Deployments must ask for now.
        pods: The pods that go.
        next_at: When the passing of time alone changes this; None if it does not.
    """

    replicas: int
    pods: tuple[DrainingPod, ...] = ()
    next_at: datetime | None = None


def decide_scale_down(
    chosen: Sequence[DrainingPod],
    pods: Sequence[ScalablePod],
    now: datetime,
    *,
    wanted: int,
    live: int,
    timeout: timedelta,
    least: timedelta,
) -> ScaleDown:
    """Return how many pods a placement has, and which of them go.

    Args:
        chosen: The pods that were chosen before, as they are recorded.
        pods: The pods that exist.
        now: The time.
        wanted: The number of pods that must be left.
        live: The number that the Deployments ask for now.
        timeout: How long a pod drains at most.
        least: How long it drains at least, until no node sends new tasks to it any more.
    """
    existing = {pod.name: pod for pod in pods}
    # Where all pods go, no other one is there to serve the tasks, so that the time does not wait for the marks.
    kept = tuple(
        replace(one, since=_drains_since(one, existing[one.name], now, waits_for_mark=wanted > 0))
        for one in chosen
        if one.name in existing
    )
    if live <= wanted:
        # The number was lowered, and the controller still has to delete the pods; or more pods are wanted again.
        return ScaleDown(wanted, _longest(kept, len(pods) - wanted))
    lowered = max(wanted, live - MAX_DRAINING_PODS)
    # Of pods that do not exist, such as for a quota, none must go.
    going = _choose(kept, pods, min(live, len(pods)) - lowered, now)
    ends = [_end(one, existing[one.name], timeout, least) for one in going]
    is_order_known = wanted == 0 or all(existing[one.name].is_marked for one in going)
    if is_order_known and all(end <= now for end in ends):
        return ScaleDown(lowered, going)
    return ScaleDown(live, going, min((end for end in ends if end > now), default=None))


def join_scale_downs(first: ScaleDown, second: ScaleDown) -> ScaleDown:
    """Return the scale-down of a placement with two Deployments: both are lowered once both can be."""
    moments = [one.next_at for one in (first, second) if one.next_at is not None]
    replicas = max(first.replicas, second.replicas)
    return ScaleDown(replicas, first.pods + second.pods, min(moments, default=None))


def _choose(
    kept: tuple[DrainingPod, ...], pods: Sequence[ScalablePod], count: int, now: datetime
) -> tuple[DrainingPod, ...]:
    """Return the pods that go: those chosen before, then others in the order of the ReplicaSet's controller.

    The controller deletes pods that are not Ready first, and then those that became Ready last.
    """
    names = {one.name for one in kept}
    others = sorted(
        (pod for pod in pods if pod.name not in names),
        key=lambda pod: (pod.ready_since is not None, _age(pod, now), pod.name),
    )
    new = (DrainingPod(pod.name, now) for pod in others[: max(0, count - len(kept))])
    return (*_longest(kept, count), *new)


def _longest(kept: tuple[DrainingPod, ...], count: int) -> tuple[DrainingPod, ...]:
    """Return so many pods, those that have drained for the longest time."""
    return tuple(sorted(kept, key=lambda one: (one.since, one.name)))[: max(0, count)]


def _age(pod: ScalablePod, now: datetime) -> timedelta:
    return now - pod.ready_since if pod.ready_since is not None else _LONG_AGO


def _drains_since(one: DrainingPod, pod: ScalablePod, now: datetime, *, waits_for_mark: bool) -> datetime:
    """Return since when a chosen pod drains. Its time begins once it is marked, be it that a mark was refused before.

    A clock that went back must not make it drain for longer than its time.
    """
    return now if waits_for_mark and not pod.is_marked else min(one.since, now)


def _end(one: DrainingPod, pod: ScalablePod, timeout: timedelta, least: timedelta) -> datetime:
    """Return when a pod may go, as far as that is known now."""
    if pod.ready_since is None:
        return one.since
    return one.since + (min(least, timeout) if pod.is_drained else timeout)
