"""The replacement of pods: those of an earlier template go once each has a successor, and not before they drained."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from interlock.orchestration.scale_down import (
    DrainingPod,
    Replacing,
    ScalablePod,
    ScaleDown,
    decide_scale_down,
    join_scale_downs,
)
from tests.support.builders import NOW, hours, seconds

EARLIER = tuple(ScalablePod(name, NOW - hours(1), is_earlier=True) for name in ("a", "b"))
MARKED = tuple(replace(pod, is_marked=True) for pod in EARLIER)
DRAINED = tuple(replace(pod, is_drained=True) for pod in MARKED)
NEW = tuple(ScalablePod(name, NOW) for name in ("c", "d"))


def decide(
    *pods: ScalablePod, now: datetime = NOW, chosen: tuple[DrainingPod, ...] = (), wanted: int = 2, live: int = 2
) -> ScaleDown:
    return decide_scale_down(chosen, pods, now, wanted=wanted, live=live, timeout=seconds(30), least=seconds(10))


CHOSEN = decide(*EARLIER, *NEW).pods


@pytest.mark.parametrize("successors", [(), NEW[:1], (NEW[0], replace(NEW[1], ready_since=None))])
def test_no_pod_goes_before_each_has_a_successor_that_is_ready(successors: tuple[ScalablePod, ...]) -> None:
    assert decide(*MARKED, *successors, chosen=CHOSEN) == ScaleDown(2, replacing=(Replacing.STARTING,))


def test_all_pods_of_the_earlier_template_go_then_and_no_others() -> None:
    found = decide(*EARLIER, *NEW)

    assert ([one.name for one in found.pods], found.replacing) == (["a", "b"], (Replacing.DRAINING,))
    assert (found.replicas, found.next_at) == (2, NOW + seconds(30))


@pytest.mark.parametrize(
    ("span", "earlier", "state"),
    [
        (seconds(9), DRAINED, Replacing.DRAINING),
        (seconds(10), DRAINED, Replacing.ENDING),
        (seconds(10), (DRAINED[0], MARKED[1]), Replacing.DRAINING),
        (seconds(30), MARKED, Replacing.ENDING),
        (seconds(30), EARLIER, Replacing.DRAINING),
    ],
    ids=["least time", "all are drained", "one is not drained", "timeout", "Services still lead to them"],
)
def test_they_may_end_once_all_are_drained_or_out_of_time(
    span: timedelta, earlier: tuple[ScalablePod, ...], state: Replacing
) -> None:
    found = decide(*earlier, *NEW, now=NOW + span, chosen=CHOSEN)

    assert ([one.name for one in found.pods], found.replacing) == (["a", "b"], (state,))


def test_a_scale_down_waits_and_more_pods_do_not() -> None:
    assert decide(*EARLIER, *NEW, wanted=1).replicas == 2
    assert decide(*EARLIER, *NEW, wanted=3) == ScaleDown(3, replacing=(Replacing.STARTING,))


def test_a_scale_down_to_0_ends_the_pods_of_both_templates() -> None:
    assert len(decide(*EARLIER, *NEW, wanted=0).pods) == 4


def test_each_deployment_of_a_placement_ends_its_own_pods() -> None:
    guards, agents = decide(*EARLIER, *NEW), decide(*NEW)

    assert join_scale_downs(guards, agents).replacing == (Replacing.DRAINING, Replacing.DONE)
    assert join_scale_downs(agents, guards).replacing == (Replacing.DONE, Replacing.DRAINING)
    assert join_scale_downs(agents, agents).replacing == ()
