"""The scale-down of a placement: which pods go, and when the number of pods is lowered."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from interlock.orchestration.scale_down import (
    DrainingPod,
    ScalablePod,
    ScaleDown,
    decide_scale_down,
    join_scale_downs,
)
from tests.support.builders import NOW, hours, seconds

TIMEOUT, LEAST = seconds(30), seconds(10)
PODS = tuple(ScalablePod(name, NOW - hours(age)) for name, age in (("a", 1), ("b", 3), ("c", 2)))


def decide(
    chosen: tuple[DrainingPod, ...] = (),
    pods: tuple[ScalablePod, ...] = PODS,
    now: datetime = NOW,
    *,
    wanted: int = 1,
    live: int = 3,
    timeout: timedelta = TIMEOUT,
) -> ScaleDown:
    return decide_scale_down(chosen, pods, now, wanted=wanted, live=live, timeout=timeout, least=LEAST)


def names(found: ScaleDown) -> list[str]:
    return [one.name for one in found.pods]


def drained(*names: str) -> tuple[ScalablePod, ...]:
    """Return the pods as they are once these have nothing under way; they are marked."""
    return tuple(replace(pod, is_drained=pod.name in names, is_marked=True) for pod in PODS)


def test_the_pods_that_became_ready_last_are_chosen_and_the_number_stays_until_they_are_drained() -> None:
    found = decide()

    assert (found.replicas, names(found)) == (3, ["a", "c"])
    assert found.next_at == NOW + TIMEOUT


def test_a_pod_that_is_not_ready_is_chosen_first_and_is_not_waited_for() -> None:
    pods = (*PODS, ScalablePod("d", is_marked=True))

    found = decide(pods=pods, wanted=3, live=4)

    assert (found.replicas, names(found)) == (3, ["d"])


@pytest.mark.parametrize(
    ("span", "done", "replicas"),
    [
        (seconds(9), ("a", "c"), 3),
        (seconds(10), ("a", "c"), 1),
        (seconds(10), ("a",), 3),
        (seconds(29), ("a",), 3),
        (seconds(30), (), 1),
    ],
    ids=["least time", "all are drained", "one is not drained", "before the timeout", "timeout"],
)
def test_the_number_is_lowered_once_all_chosen_pods_are_drained_or_out_of_time(
    span: timedelta, done: tuple[str, ...], replicas: int
) -> None:
    found = decide(decide().pods, drained(*done), NOW + span)

    assert (found.replicas, names(found)) == (replicas, ["a", "c"])


def test_a_pod_that_is_drained_is_not_waited_for_again() -> None:
    found = decide(decide().pods, drained("a"), NOW + seconds(10))

    assert found.next_at == NOW + TIMEOUT


def test_a_drained_pod_goes_after_the_timeout_if_that_is_less_than_the_least_time() -> None:
    short = seconds(5)

    assert decide(decide().pods, drained("a", "c"), NOW + short, timeout=short).replicas == 1


def test_no_pod_goes_where_others_that_were_wanted_do_not_exist() -> None:
    assert decide(pods=PODS[:1]) == ScaleDown(1)
    assert names(decide(pods=PODS[:2])) == ["a"]


def test_pods_above_the_number_of_the_deployment_are_its_controllers_business() -> None:
    assert names(decide(pods=(*PODS, ScalablePod("d", NOW - hours(4))))) == ["a", "c"]


def test_of_more_pods_than_a_bundle_can_name_some_go_later() -> None:
    pods = tuple(ScalablePod(f"p{number:03}", NOW, is_marked=True) for number in range(150))
    chosen = decide(pods=pods, live=150).pods

    found = decide(chosen, pods, NOW + TIMEOUT, live=150)

    assert (len(chosen), found.replicas) == (100, 50)


@pytest.mark.parametrize("mark", [False, None], ids=["no", "half a"])
def test_the_number_is_not_lowered_before_the_controllers_know_which_pods_go(*, mark: bool | None) -> None:
    unmarked = tuple(replace(pod, is_marked=mark) for pod in drained("a", "c"))

    assert decide(decide().pods, unmarked, NOW + TIMEOUT).replicas == 3


def test_a_pod_drains_for_the_least_time_after_services_no_longer_lead_to_it() -> None:
    late = NOW + seconds(25)
    done = drained("a", "c")
    found = decide(decide().pods, tuple(replace(pod, is_marked=None) for pod in done), late)

    assert [one.since for one in found.pods] == [late, late]
    assert decide(found.pods, done, late + seconds(9)).replicas == 3
    assert decide(found.pods, done, late + seconds(10)).replicas == 1


def test_chosen_pods_take_no_tasks_until_the_controller_has_deleted_them() -> None:
    chosen = decide().pods

    assert names(decide(chosen, drained("a", "c"), NOW + TIMEOUT, live=1)) == ["a", "c"]
    assert names(decide(chosen, drained("a", "c")[1:], NOW + TIMEOUT, live=1)) == ["c"]
    assert names(decide(chosen, drained()[1:2], NOW + TIMEOUT, live=1)) == []


def test_pods_take_tasks_again_if_they_are_wanted_again() -> None:
    chosen = decide().pods

    assert decide(chosen, wanted=3) == ScaleDown(3)
    assert names(decide(chosen, wanted=2)) == ["a"]
    more = (*PODS, ScalablePod("d", NOW - hours(4)))
    assert names(decide(chosen, more, wanted=3, live=4)) == ["a"]
    assert names(decide(chosen, (PODS[0], PODS[2]), wanted=3)) == []


def test_of_the_chosen_pods_those_that_have_drained_for_longest_go() -> None:
    chosen = (DrainingPod("a", NOW), DrainingPod("c", NOW - seconds(1)))

    assert names(decide(chosen, drained(), wanted=2)) == ["c"]


def test_a_chosen_pod_that_was_replaced_is_followed_by_another_which_drains_for_its_own_time() -> None:
    chosen = decide().pods
    pods = (*drained()[1:], ScalablePod("new", NOW))

    found = decide(chosen, pods, NOW + seconds(20))

    assert found.pods == (DrainingPod("c", NOW), DrainingPod("new", NOW + seconds(20)))


def test_more_pods_that_must_go_join_those_that_drain() -> None:
    first = decide(wanted=2)

    found = decide(first.pods, now=NOW + seconds(5), wanted=0)

    assert found.pods[0] == first.pods[0]
    assert names(found) == ["a", "c", "b"]


def test_a_placement_whose_pods_do_not_exist_yet_is_lowered_immediately() -> None:
    assert decide(pods=()) == ScaleDown(1)


def test_no_order_of_deletion_is_needed_where_all_pods_go() -> None:
    found = decide(decide(wanted=0).pods, now=NOW + TIMEOUT, wanted=0)

    assert (found.replicas, names(found)) == (0, ["a", "b", "c"])


def test_a_clock_that_goes_back_makes_a_pod_drain_for_one_more_timeout_at_most() -> None:
    earlier = NOW - hours(1)

    found = decide(decide().pods, drained(), earlier)

    assert (found.replicas, found.next_at) == (3, earlier + TIMEOUT)
    assert decide(found.pods, drained(), earlier + TIMEOUT).replicas == 1


def test_two_deployments_are_lowered_once_both_can_be() -> None:
    done, early, late = decide(pods=()), decide(), decide(now=NOW + seconds(5))

    assert join_scale_downs(done, early) == early
    assert join_scale_downs(late, early).next_at == early.next_at
    assert join_scale_downs(late, early).pods == late.pods + early.pods
    assert join_scale_downs(done, done).replicas == 1
