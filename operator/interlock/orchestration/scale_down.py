"""Pods of a placement that go, by a scale-down or by a replacement: which ones, and when they have nothing left to do.

A pod that is deleted breaks its tasks. So the operator chooses the pods that must go, no Service leads to them any
more, and only then the number of pods is lowered. An example: 3 pods, of which 1 is wanted from 8:00 on.

    8:00:00  3 pods, a and b are chosen and marked: Services lead to the third one alone
    8:00:01  a node that has not learned it yet sends a task to b, which serves it
    8:00:10  a has nothing under way, b still has that task
    8:00:17  b is done, so the Deployment is lowered to 1, and its controller deletes a and b

Where the agent has pods of its own, there are as many of them as of guards, and as many go. No guard sends a new task
to those. Both Deployments are lowered once the pods of both have nothing left to do.

A replacement has the same end: pods of another template were started next to those of the earlier one, and these go.

    8:00:00  another template is written: a new pod is started for each earlier one
    8:00:09  all new pods are Ready: the earlier ones are chosen and marked, and drain as above
    8:00:26  they have nothing under way, so the Deployment's controller may end them
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from interlock_contract.bundle import MAX_DRAINING_PODS

_LONG_AGO: Final = timedelta(days=36500)


class Replacing(Enum):
    """How far a Deployment is with the replacement of pods of an earlier template."""

    DONE = auto()
    """There are no such pods."""
    STARTING = auto()
    """The pods that follow them are not all Ready, or it is not known what is under way."""
    DRAINING = auto()
    """The pods that follow them are Ready, and they take no new tasks."""
    ENDING = auto()
    """Nothing is under way in them, or their time is over: its controller may end them."""


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
        is_earlier: It was started from an earlier template than the one that its Deployment has.
    """

    name: str
    ready_since: datetime | None = None
    is_drained: bool = False
    is_marked: bool | None = False
    addresses: tuple[str, ...] = ()
    is_earlier: bool = False


@dataclass(frozen=True)
class ScaleDown:
    """How many pods a placement has now, and which of them go.

    Attributes:
        replicas: What each of its Deployments must ask for now.
        pods: The pods that go.
        next_at: When the passing of time alone changes this; None if it does not.
        replacing: How far its Deployments are with a replacement: that of the guards, then that of a separate agent.
            Those that it does not name have none.
    """

    replicas: int
    pods: tuple[DrainingPod, ...] = ()
    next_at: datetime | None = None
    replacing: tuple[Replacing, ...] = ()


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

    A scale-down waits for a replacement: Kubernetes would take pods off both templates. One to 0 ends all pods, and
    does not wait.

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
    if wanted > 0 and any(pod.is_earlier for pod in pods):
        return _decide_replacement(kept, existing, now, replicas=max(wanted, live), timeout=timeout, least=least)
    if live <= wanted:
        # The number was lowered, and the controller still has to delete the pods; or more pods are wanted again.
        return ScaleDown(wanted, _longest(kept, len(pods) - wanted))
    lowered = max(wanted, live - MAX_DRAINING_PODS)
    # Of pods that do not exist, such as for a quota, none must go. To 0, those of an earlier template go as well.
    going = _choose(kept, pods, min(live, len(pods)) - lowered if lowered > 0 else len(pods), now)[:MAX_DRAINING_PODS]
    ends = [_end(one, existing[one.name], timeout, least) for one in going]
    is_order_known = wanted == 0 or all(existing[one.name].is_marked for one in going)
    if is_order_known and all(end <= now for end in ends):
        return ScaleDown(lowered, going)
    return ScaleDown(live, going, min((end for end in ends if end > now), default=None))


def _decide_replacement(
    kept: tuple[DrainingPod, ...],
    existing: Mapping[str, ScalablePod],
    now: datetime,
    *,
    replicas: int,
    timeout: timedelta,
    least: timedelta,
) -> ScaleDown:
    """Return which pods of an earlier template go: all, once each has a successor that is Ready.

    If a successor is not Ready any longer, they take tasks again.
    """
    successors = sum(pod.ready_since is not None and not pod.is_earlier for pod in existing.values())
    if successors < replicas:
        return ScaleDown(replicas, replacing=(Replacing.STARTING,))
    known = {one.name: one for one in kept}
    earlier = [known.get(pod.name, DrainingPod(pod.name, now)) for pod in existing.values() if pod.is_earlier]
    going = _longest(tuple(earlier), MAX_DRAINING_PODS)
    ends = [_end(one, existing[one.name], timeout, least) for one in going]
    if all(existing[one.name].is_marked for one in going) and all(end <= now for end in ends):
        return ScaleDown(replicas, going, replacing=(Replacing.ENDING,))
    next_at = min((end for end in ends if end > now), default=None)
    return ScaleDown(replicas, going, next_at, (Replacing.DRAINING,))


def join_scale_downs(first: ScaleDown, second: ScaleDown) -> ScaleDown:
    """Return the scale-down of a placement with two Deployments: both are lowered once both can be.

    Each of them ends its pods of an earlier template as soon as it can.
    """
    moments = [one.next_at for one in (first, second) if one.next_at is not None]
    replicas = max(first.replicas, second.replicas)
    replacing = tuple(state for one in (first, second) for state in one.replacing or (Replacing.DONE,))
    is_replacing = set(replacing) != {Replacing.DONE}
    return ScaleDown(replicas, first.pods + second.pods, min(moments, default=None), replacing if is_replacing else ())


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
