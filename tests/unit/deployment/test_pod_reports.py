"""What an agent's pods prove: since when and until when they were Ready, and how often the agent's container ended."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.deployment.observed.causes import PodCause
from interlock.deployment.observed.egress_check import EgressCheckVerdict
from interlock.deployment.observed.pod_reports import AgentPods, PodGroup, PodReport, ReadySpan, deletion_of, read_pod
from tests.requirements import requirement
from tests.support.builders import NOW, seconds

AGENT = PodGroup("staging", "r1", "Shared", "agent")
SEPARATE = replace(AGENT, isolation="Separate")
GUARD = replace(SEPARATE, component="guard")
STARTED = "2026-03-02T09:00:00Z"  # is NOW


def at(offset: float) -> datetime:
    return NOW + seconds(offset)


def ready(since: float | None, group: PodGroup = AGENT) -> PodReport:
    return PodReport("a", group, None if since is None else at(since))


def span(since: float, until: float, group: PodGroup = AGENT) -> ReadySpan:
    return ReadySpan(group, at(since), at(until))


def since_of(*reports: PodReport, wanted: int = 1, isolation: Any = "Shared") -> datetime | None:
    return AgentPods(reports).ready_since("staging", "r1", isolation, wanted)


def until_of(pods: AgentPods, *, since: float = 10, wanted: int = 1, now: float = 100) -> datetime:
    return pods.ready_until("staging", "r1", at(since), wanted, at(now))


# Since when


def test_so_many_pods_are_ready_since_the_last_of_the_first_ones() -> None:
    assert since_of(ready(3), ready(1), ready(2)) == at(1)
    assert since_of(ready(3), ready(1), ready(2), wanted=2) == at(2)
    assert since_of(ready(3), ready(None), wanted=2) is None
    assert since_of() is None


def test_as_many_pods_are_ready_as_of_the_deployment_with_the_fewest() -> None:
    pods = AgentPods((ready(3, SEPARATE), ready(None, SEPARATE), ready(5, GUARD), ready(6, GUARD), ready(3)))
    assert pods.ready_count("staging", "r1", "Separate") == 1
    assert pods.ready_count("staging", "r1", "Shared") == 1
    assert pods.ready_count("staging", "r2", "Shared") == 0


def test_separate_pods_are_ready_since_both_are() -> None:
    assert since_of(ready(3, SEPARATE), isolation="Separate") is None
    assert since_of(ready(3, SEPARATE), ready(5, GUARD), isolation="Separate") == at(5)


@pytest.mark.parametrize("other", [{"stage": "another"}, {"revision": "r2"}, {"isolation": "Separate"}])
def test_pods_of_another_group_show_nothing(other: dict[str, str]) -> None:
    pod = ready(3, replace(AGENT, **other))

    assert since_of(pod) is None


# Until when


@requirement("rollout.unproven")
def test_a_pod_that_is_still_ready_proves_the_time_until_now() -> None:
    assert until_of(AgentPods((ready(10),))) == at(100)
    assert until_of(AgentPods((ready(11),))) == at(10), "it was not Ready at that moment"


def test_a_pod_that_is_gone_proves_the_time_until_its_end() -> None:
    assert until_of(AgentPods((ready(61),), (span(5, 60),))) == at(60)
    assert until_of(AgentPods((), (span(5, 500),))) == at(100), "nothing is proven of the future"


def test_one_of_two_pods_proves_nothing_of_the_other() -> None:
    assert until_of(AgentPods((ready(5), ready(50))), wanted=2) == at(10)
    assert until_of(AgentPods((ready(5), ready(50)), (span(5, 40),)), wanted=2) == at(40)
    assert until_of(AgentPods((ready(5), ready(50)), (span(5, 40),)), wanted=1) == at(100)


def test_separate_pods_show_the_time_in_which_both_were_ready() -> None:
    assert until_of(AgentPods((ready(5, SEPARATE),), (span(5, 30, GUARD),))) == at(30)
    assert until_of(AgentPods((ready(5, SEPARATE),))) == at(10)


def test_an_isolation_that_changes_loses_no_time_of_the_old_pods() -> None:
    assert until_of(AgentPods((ready(90, SEPARATE),), (span(5, 70),))) == at(70)


TIMES = st.integers(0, 100)


@given(st.lists(st.tuples(TIMES, TIMES), max_size=6), st.lists(TIMES, max_size=6), TIMES, st.integers(1, 3))
def test_so_many_pods_were_ready_at_every_moment_of_what_is_proven(
    past: list[tuple[int, int]], present: list[int], since: int, wanted: int
) -> None:
    pods = AgentPods(tuple(map(ready, present)), tuple(span(*one) for one in past))
    until = until_of(pods, since=since, wanted=wanted, now=max(100, since))

    for offset in range(since, int((until - NOW).total_seconds())):
        serving = sum(begin <= offset < end for begin, end in [*past, *((begin, 10_000) for begin in present)])
        assert serving >= wanted


# Reading


def a_pod(**status: Any) -> dict[str, Any]:
    labels = {
        "interlock.dev/stage": "staging",
        "interlock.dev/revision": "r1",
        "interlock.dev/isolation": "Shared",
        "app.kubernetes.io/component": "agent",
    }
    return {"metadata": {"uid": "a", "labels": labels}, "status": status}


def container(
    count: int = 0, state: str = "running", last: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    last_state = {"terminated": last} if last else {}
    return {"name": "agent", "restartCount": count, "state": {state: more}, "lastState": last_state}


def ends_of(*statuses: dict[str, Any], **status: Any) -> tuple[int, bool]:
    found = read_pod(a_pod(containerStatuses=list(statuses), **status))
    return found.ends, found.is_last_lost


def test_a_pod_is_certainly_ready_from_the_second_after_the_one_that_it_names() -> None:
    """The kubelet writes 9:00:00 for every moment before 9:00:01."""
    found = read_pod(a_pod(conditions=[{"type": "Ready", "status": "True", "lastTransitionTime": STARTED}]))

    assert (found.uid, found.group, found.ready_since, found.ready_until) == ("a", AGENT, at(1), None)


@requirement("rollout.node-clocks")
def test_a_pod_whose_clock_is_behind_is_ready_no_sooner_than_it_was_created() -> None:
    pod = a_pod(conditions=[{"type": "Ready", "status": "True", "lastTransitionTime": STARTED}])
    pod["metadata"]["creationTimestamp"] = at(3600).isoformat()

    assert read_pod(pod).ready_since == at(3600)


def test_a_pod_that_is_not_ready_says_since_when() -> None:
    found = read_pod(a_pod(conditions=[{"type": "Ready", "status": "False", "lastTransitionTime": STARTED}]))

    assert (found.ready_since, found.ready_until) == (None, NOW)


@pytest.mark.parametrize(
    "status", [{}, {"conditions": None}, {"conditions": [{"type": "Ready", "status": "True"}]}, {"phase": "Pending"}]
)
def test_a_pod_that_does_not_say_since_when_proves_nothing(status: dict[str, Any]) -> None:
    assert read_pod(a_pod(**status)).ready_since is None


ENDED = {"exitCode": 0, "reason": "Completed"}
OF_NODE = {"exitCode": 255, "reason": "Unknown"}


@requirement("rollout.restarts")
@pytest.mark.parametrize(
    ("status", "ends"),
    [
        (container(), 0),
        (container(state="waiting", reason="ContainerCreating"), 0),
        (container(2, last=ENDED), 2),
        (container(2, "terminated", **ENDED), 3),
        (container(2, "terminated", reason="OOMKilled", exitCode=137, last=ENDED), 3),
        (container(2, "waiting", reason="CrashLoopBackOff", last=ENDED), 3),
    ],
)
def test_every_end_of_the_container_counts_once(status: dict[str, Any], ends: int) -> None:
    assert ends_of(status) == (ends, False)


@pytest.mark.parametrize(
    "whole",
    [
        {"phase": "Failed", "reason": "Evicted"},
        {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]},
    ],
)
def test_an_end_with_the_whole_pod_does_not_count_and_those_before_it_do(whole: dict[str, Any]) -> None:
    assert ends_of(container(2, "terminated", reason="Error", exitCode=137, last=ENDED), **whole) == (2, False)


def test_an_end_with_the_node_is_told_from_others() -> None:
    assert ends_of(container(1, last=OF_NODE)) == (1, True)
    assert ends_of(container(0, "terminated", **OF_NODE)) == (1, True)
    assert ends_of(container(1, "terminated", **ENDED, last=OF_NODE)) == (2, False)


def test_the_ends_of_other_containers_do_not_count() -> None:
    assert ends_of({**container(7, last=ENDED), "name": "guard"}) == (0, False)


def test_only_a_separate_agents_pod_has_an_egress_check() -> None:
    separate = a_pod(initContainerStatuses=[{"name": "egress-check", "state": {"terminated": {"exitCode": 0}}}])
    assert read_pod(separate).egress_check is None
    separate["metadata"]["labels"]["interlock.dev/isolation"] = "Separate"
    found = read_pod(separate).egress_check
    assert found is not None
    assert found.verdict is EgressCheckVerdict.CLOSED


def test_a_container_that_keeps_failing_is_named() -> None:
    waiting = {
        "name": "agent",
        "restartCount": 1,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "denied"}},
    }

    assert read_pod(a_pod(containerStatuses=[waiting])).cause.message == (
        'container agent is in ErrImagePull ("denied")'
    )


def test_a_deletion_was_requested_before_its_grace_period() -> None:
    pod = a_pod()
    assert deletion_of(pod) is None
    pod["metadata"] |= {"deletionTimestamp": STARTED, "deletionGracePeriodSeconds": 30}
    assert deletion_of(pod) == NOW - timedelta(seconds=30)


# Why not


def cause_of(*causes: PodCause) -> str:
    return AgentPods(tuple(PodReport(str(index), AGENT, cause=one) for index, one in enumerate(causes))).cause(
        "staging", "r1"
    )


@requirement("status.causes")
def test_each_different_cause_of_several_pods_is_said_once_in_an_order_of_their_own() -> None:
    probe, other, node = PodCause("probe of 10.0.0.1"), PodCause("probe of 10.0.0.2"), PodCause("a pod has no node")
    assert cause_of(probe, node, other) == cause_of(other, probe, node) == "a pod has no node; probe of 10.0.0.1"
    assert cause_of(PodCause(), probe) == "probe of 10.0.0.1"
    assert cause_of() == cause_of(PodCause()) == ""


def test_a_pod_that_has_ended_is_said_only_without_another_cause() -> None:
    evicted = PodCause("a pod ended: Evicted", is_over=True)
    assert cause_of(evicted, PodCause("probe")) == "probe"
    assert cause_of(evicted, PodCause()) == "a pod ended: Evicted"


def test_so_many_causes_are_said_as_a_condition_has_room_for() -> None:
    said = cause_of(*(PodCause(f"{letter * 270}") for letter in "abcd"))
    assert said == f"{'a' * 270}; {'b' * 270}; other pods have 2 more causes"
    assert cause_of(PodCause("a" * 900)) == f"{'a' * 557}..."


@pytest.mark.parametrize(
    ("isolation", "component", "addresses"),
    [("Separate", "agent", ("10.0.0.7", "fd00::7")), ("Separate", "guard", ()), ("Shared", "agent", ())],
)
def test_the_addresses_of_a_separate_agents_pod_are_read_in_their_canonical_form(
    isolation: str, component: str, addresses: tuple[str, ...]
) -> None:
    labels = {"interlock.dev/isolation": isolation, "app.kubernetes.io/component": component}
    status = {"podIPs": [{"ip": "10.0.0.7"}, {"ip": "FD00:0::7"}]}

    assert read_pod({"metadata": {"labels": labels}, "status": status}).addresses == addresses
    assert read_pod({"metadata": {"labels": labels}, "status": {}}).addresses == ()


FIRST = {"controller.kubernetes.io/pod-deletion-cost": "-1000"}
LED_TO = {"interlock.dev/guard": "triage", "interlock.dev/endpoint": "true"}


@pytest.mark.parametrize(
    ("labels", "notes", "is_marked"),
    [
        (LED_TO, {}, False),
        (LED_TO, FIRST, None),
        (LED_TO | {"interlock.dev/endpoint": "false"}, {}, None),
        ({"interlock.dev/guard": "triage"}, {}, None),
        ({"interlock.dev/guard": "triage"}, FIRST, True),
        ({}, FIRST, True),
        ({}, {}, False),
    ],
)
def test_a_pod_is_marked_if_it_is_deleted_first_and_no_service_leads_to_it(
    labels: dict[str, str], notes: dict[str, str], *, is_marked: bool | None
) -> None:
    assert read_pod({"metadata": {"labels": labels, "annotations": notes}}).is_marked is is_marked


def test_only_a_separate_agent_has_pods_without_a_guard() -> None:
    pods = AgentPods((ready(3, SEPARATE), ready(4, GUARD), ready(5)))

    assert pods.separate_agents("staging", "r1", "Separate") == (ready(3, SEPARATE),)
    assert pods.separate_agents("staging", "r1", "Shared") == ()
