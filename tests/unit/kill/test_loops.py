"""Kills for loops: which report sets the switch, and that it does so once."""

from typing import Any

import pytest

from interlock_contract.loops import LoopReport, describe_loop, dump_loop
from interlock_kill.loop_reports import SELECTOR
from interlock_kube.watch import ChangeEvent, ListEvent
from tests.requirements import requirement
from tests.support.builders import NOW, an_agent
from tests.unit.kill.conftest import KEY, PATH, PODS, Scene, a_pod, turns, until

REPORT = LoopReport("crm/get_contact", 20, 60, "a" * 64, NOW)
VALUE = describe_loop("p1", REPORT)


def a_lease(*, pod: str = "p1", report: LoopReport | None = REPORT, **metadata: Any) -> dict[str, Any]:
    described = {
        "name": "triage-1",
        "namespace": "agents",
        "labels": {"interlock.dev/agent": "triage"},
        "ownerReferences": [{"uid": "uid-of-triage"}],
        "annotations": {} if report is None else {f"loops.interlock.dev/{pod}": dump_loop(report)},
        "resourceVersion": "9",
        **metadata,
    }
    return {"kind": "Lease", "metadata": described}


def switch_of(scene: Scene) -> str | None:
    return (scene.objects[PATH]["metadata"].get("annotations") or {}).get("interlock.dev/kill-switch")


async def start(scene: Scene, *leases: dict[str, Any]) -> None:
    """Let all watches have their first list."""
    scene.agents(ListEvent((an_agent().to_kubernetes(),), version="1"))
    scene.pods(ListEvent((a_pod("p1"),), version="1"))
    scene.leases(ListEvent(leases, version="1"))
    await until(lambda: scene.controller.problem() is None)
    scene.client.forget_requests()


def sets(scene: Scene) -> int:
    return sum(request == ("PATCH", PATH) for request in scene.client.requests)


@requirement("loops.kill")
async def test_a_report_sets_the_switch_with_its_evidence_and_the_controller_as_its_author(scene: Scene) -> None:
    await start(scene)
    scene.leases(ChangeEvent("MODIFIED", a_lease()))
    await until(lambda: switch_of(scene) is not None)
    annotations = scene.objects[PATH]["metadata"]["annotations"]
    assert annotations["interlock.dev/kill-switch"] == VALUE
    assert annotations["interlock.dev/kill-switch-by"] == "system:serviceaccount:interlock-system:interlock-kill"
    assert "20 identical calls of crm/get_contact in 60s" in VALUE

    scene.agents(ChangeEvent("MODIFIED", scene.objects[PATH]))
    await until(lambda: scene.is_ended and "zeroPodsAt" in scene.recorded)
    assert scene.recorded["reason"] == VALUE


@requirement("loops.kill")
async def test_a_report_from_before_the_start_is_obeyed_once_everything_is_known(scene: Scene) -> None:
    scene.leases(ListEvent((a_lease(),), version="1"))
    await turns()
    assert switch_of(scene) is None
    scene.pods(ListEvent((a_pod("p1"),), version="1"))
    scene.agents(ListEvent((an_agent().to_kubernetes(),), version="1"))
    await until(lambda: switch_of(scene) == VALUE)


@requirement("loops.kill")
async def test_a_report_that_comes_before_its_agent_is_obeyed(scene: Scene) -> None:
    scene.agents(ListEvent((), version="1"))
    scene.pods(ListEvent((), version="1"))
    scene.leases(ListEvent((a_lease(),), version="1"))
    await until(lambda: scene.controller.problem() is None)
    await turns()
    assert switch_of(scene) is None
    scene.agents(ChangeEvent("ADDED", an_agent().to_kubernetes()))
    await until(lambda: switch_of(scene) == VALUE)


@requirement("loops.kill")
async def test_a_report_kills_once_and_not_again_after_a_release(scene: Scene) -> None:
    await start(scene)
    both = a_lease()
    both["metadata"]["annotations"] |= a_lease(pod="p2")["metadata"]["annotations"]
    scene.client.put(f"{PODS}/p2", a_pod("p2"))
    scene.leases(ChangeEvent("MODIFIED", both))
    await until(lambda: switch_of(scene) == VALUE)
    scene.agents(ChangeEvent("MODIFIED", scene.objects[PATH]))
    await until(lambda: scene.controller.killed(KEY) == VALUE)

    scene.show(an_agent().killed("off"))
    await until(lambda: scene.controller.killed(KEY) is None)
    for name in ("p1", "p2"):
        scene.client.put(f"{PODS}/{name}", a_pod(name))  # released before they had ended
    scene.leases(ChangeEvent("MODIFIED", both))
    await turns()
    assert switch_of(scene) == "off"
    assert sets(scene) == 1


@requirement("loops.kill")
async def test_a_new_loop_after_a_release_kills_again(scene: Scene) -> None:
    await start(scene)
    scene.leases(ChangeEvent("MODIFIED", a_lease()))
    await until(lambda: switch_of(scene) == VALUE)
    scene.agents(ChangeEvent("MODIFIED", scene.objects[PATH]))
    await until(lambda: scene.is_ended)
    scene.show(an_agent().killed("off"))
    await until(lambda: scene.controller.killed(KEY) is None)

    scene.client.put(f"{PODS}/p9", a_pod("p9"))
    scene.leases(ChangeEvent("MODIFIED", a_lease(pod="p9")))
    await until(lambda: switch_of(scene) == describe_loop("p9", REPORT))


@requirement("loops.kill")
async def test_a_controller_that_restarts_after_a_release_does_not_kill_again(scene: Scene) -> None:
    released = {"reason": VALUE, "requestedAt": "2026-01-01T00:00:00Z", "releasedAt": "2026-01-01T00:00:01Z"}
    scene.show(an_agent().killed("off"))
    scene.client.put(PATH, {**an_agent().killed("off").to_kubernetes(), "status": {"kill": released}})
    await start(scene)
    scene.leases(ChangeEvent("MODIFIED", a_lease()))
    await turns()
    assert switch_of(scene) == "off"


@requirement("loops.kill")
async def test_an_agent_that_a_person_killed_keeps_that_switch(scene: Scene) -> None:
    await start(scene)
    scene.client.put(PATH, an_agent().killed("runaway", by="ada").to_kubernetes())  # the watch is late
    scene.leases(ChangeEvent("MODIFIED", a_lease()))
    await until(lambda: ("GET", PATH) in scene.client.requests)
    await turns()
    assert switch_of(scene) == "runaway"
    assert sets(scene) == 0


@requirement("loops.kill")
async def test_a_kill_for_a_loop_goes_on_while_the_api_server_refuses(scene: Scene) -> None:
    await start(scene)
    scene.client.refuse("PATCH", PATH, status=503, times=10)
    scene.client.refuse("GET", f"{PODS}/p1", status=503, times=3)
    scene.leases(ChangeEvent("MODIFIED", a_lease()))
    await until(lambda: switch_of(scene) == VALUE)


@requirement("loops.forged")
@pytest.mark.parametrize(
    "lease",
    [
        a_lease(ownerReferences=[{"uid": "uid-of-an-earlier-agent"}]),
        a_lease(ownerReferences=[]),
        a_lease(namespace="another-tenant"),
        a_lease(labels={"interlock.dev/agent": "other"}),
        a_lease(pod="gone"),
        a_lease(pod="ending"),
        a_lease(pod="foreign"),
        a_lease(report=None),
    ],
    ids=["an earlier agent", "no owner", "a namespace", "another agent", "gone", "ending", "foreign", "no report"],
)
async def test_a_report_that_is_not_of_an_own_guard_kills_nothing(scene: Scene, lease: dict[str, Any]) -> None:
    await start(scene)
    scene.client.put(f"{PODS}/ending", a_pod("ending", deletionTimestamp="2026-03-02T09:00:00Z"))
    scene.client.put(f"{PODS}/foreign", a_pod("foreign", agent="other"))
    scene.leases(ChangeEvent("MODIFIED", lease))
    await turns()
    assert sets(scene) == 0
    assert switch_of(scene) is None


@requirement("loops.forged")
def test_only_leases_that_the_operator_alone_can_label_are_read() -> None:
    assert SELECTOR == "app.kubernetes.io/managed-by=interlock,interlock.dev/agent,interlock.dev/on-loop=Kill"


async def test_leases_that_cannot_be_watched_are_a_problem_that_holds_up_no_pods(scene: Scene) -> None:
    await start(scene)
    scene.now += 80
    scene.agents(ChangeEvent("MODIFIED", an_agent().to_kubernetes()))
    scene.pods(ChangeEvent("MODIFIED", a_pod("p1")))
    await until(lambda: scene.controller.lease_problem() is None)
    assert scene.controller.problem() == "the watch of Leases had no contact to the API server for 80 s"
