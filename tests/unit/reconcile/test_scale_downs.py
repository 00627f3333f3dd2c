"""Which placements drain pods that a scale-down ends, and which are lowered immediately."""

import pytest

from interlock.api.agent import Stage
from interlock.deployment.observed.readiness import Readiness
from interlock.orchestration.rollout_decision import DesiredPlacement
from interlock.orchestration.rollout_state import PlacementSeen, RevisionRef, RolloutFacts, RolloutRules
from interlock.orchestration.scale_down import DrainingPod, Replacing, ScalablePod, ScaleDown
from interlock.reconcile.observation import SeenPlacement
from interlock.reconcile.rollout_status import RolloutRecord
from interlock.reconcile.scale_downs import PodMark, marks_of, scale_down_of
from tests.support.builders import NOW, hours, seconds

REF = RevisionRef(1, "d" * 64)
STAGE = Stage(name="dev", environment="development")
SERVING = DesiredPlacement(REF, STAGE, is_serving=True)
DRAINING = DesiredPlacement(REF, STAGE, is_serving=False, is_draining=True)
STARTING = DesiredPlacement(REF, STAGE, is_serving=False)
RULES = RolloutRules(drain_timeout=seconds(30), least_drain=seconds(10))


def a_pod(name: str) -> ScalablePod:
    return ScalablePod(name, NOW - hours(1), is_drained=True, is_marked=True)


def seen(live: int = 3, *, agents: tuple[ScalablePod, ...] = ()) -> SeenPlacement:
    guards = tuple(a_pod(name) for name in ("a", "b", "c"))
    return SeenPlacement(PlacementSeen(), Readiness(wanted=live), guards, agents)


def decide(
    desired: DesiredPlacement = SERVING,
    found: SeenPlacement | None = None,
    *,
    chosen: tuple[DrainingPod, ...] = (),
    takes_tasks: bool = True,
    is_stopped: bool = False,
) -> ScaleDown:
    return scale_down_of(
        RolloutRecord(RolloutFacts(), scale_downs={desired.key: chosen}),
        desired,
        {} if found is None else {desired.key: found},
        NOW,
        wanted=1,
        rules=RULES,
        takes_tasks=takes_tasks,
        is_stopped=is_stopped,
    )


def test_pods_of_a_placement_that_serves_drain_for_the_least_time() -> None:
    found = decide(found=seen())

    assert (found.replicas, len(found.pods), found.next_at) == (3, 2, NOW + seconds(10))


def test_pods_that_were_chosen_before_go_on_draining() -> None:
    chosen = (DrainingPod("b", NOW - seconds(20)), DrainingPod("c", NOW - seconds(20)))

    assert decide(found=seen(), chosen=chosen) == ScaleDown(1, chosen)


@pytest.mark.parametrize(
    ("desired", "found", "takes_tasks"),
    [(SERVING, None, True), (SERVING, seen(), False), (STARTING, seen(), True)],
    ids=["without objects", "without a port for tasks", "not serving yet"],
)
def test_pods_without_tasks_end_immediately(
    desired: DesiredPlacement, found: SeenPlacement | None, *, takes_tasks: bool
) -> None:
    assert decide(desired, found, takes_tasks=takes_tasks) == ScaleDown(1)


def test_a_placement_that_is_stopped_has_no_pods() -> None:
    assert decide(found=seen(), is_stopped=True) == ScaleDown(0)


@pytest.mark.parametrize(("live", "replicas"), [(3, 3), (0, 1)])
def test_a_placement_that_drains_as_a_whole_keeps_its_pods(live: int, replicas: int) -> None:
    found = decide(DRAINING, seen(live))

    assert (found.replicas, found.pods, found.replacing) == (replicas, (), (Replacing.STARTING,))


def test_pods_of_a_separate_agent_are_chosen_too() -> None:
    found = seen(agents=tuple(a_pod(name) for name in ("x", "y", "z")))

    assert {one.name for one in decide(found=found).pods} == {"a", "b", "x", "y"}


def test_only_pods_are_marked_that_are_not_marked_as_what_they_are() -> None:
    pods = tuple(ScalablePod(name, is_marked=name in "bxz") for name in "abwxyz")
    found = SeenPlacement(PlacementSeen(), Readiness(), pods[:3], pods[3:])
    going = tuple(DrainingPod(name, NOW) for name in "axy")

    assert marks_of(ScaleDown(1, going), found) == (
        PodMark("a", goes=True, has_guard=True),
        PodMark("b", goes=False, has_guard=True),
        PodMark("y", goes=True, has_guard=False),
        PodMark("z", goes=False, has_guard=False),
    )


@pytest.mark.parametrize("goes", [True, False])
def test_a_pod_that_is_half_marked_is_marked_again(*, goes: bool) -> None:
    found = SeenPlacement(PlacementSeen(), Readiness(), (ScalablePod("a", is_marked=None),))
    going = (DrainingPod("a", NOW),) if goes else ()

    assert marks_of(ScaleDown(1, going), found) == (PodMark("a", goes, has_guard=True),)
