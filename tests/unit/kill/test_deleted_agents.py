"""The kill controller ends the pods of an Agent that is being deleted, whatever finalizers keep its object."""

from collections.abc import Callable
from typing import Any

import pytest

from interlock_kube.watch import ChangeEvent, ListEvent
from tests.requirements import requirement
from tests.support.builders import AgentBuilder, an_agent
from tests.unit.kill.conftest import DEPLOYMENT, KEY, PATH, PODS, Scene, a_pod, turns, until


def changed(agent: AgentBuilder) -> ChangeEvent:
    return ChangeEvent("MODIFIED", agent.to_kubernetes())


DEPLOYMENTS = DEPLOYMENT.rpartition("/")[0]


def recreated() -> dict[str, Any]:
    """Return another Agent of the same name."""
    again = an_agent().to_kubernetes()
    again["metadata"]["uid"] = "another uid"
    return again


def listed(agent: AgentBuilder) -> ListEvent:
    return ListEvent((agent.to_kubernetes(),))


@requirement("kill.deleted")
@pytest.mark.parametrize("event", [changed, listed])
async def test_the_pods_of_an_agent_that_is_being_deleted_end_whatever_finalizers_keep_it(
    scene: Scene, event: Callable[[AgentBuilder], ListEvent | ChangeEvent]
) -> None:
    scene.agents(event(an_agent().being_deleted("example.com/keep")))

    await until(lambda: scene.is_ended)
    await turns()
    assert scene.recorded == {}, "the deletion is no kill"
    assert scene.controller.killed(KEY) is None


@requirement("kill.deleted")
async def test_a_pod_that_starts_for_an_agent_that_is_being_deleted_is_ended(scene: Scene) -> None:
    scene.agents(changed(an_agent().being_deleted("example.com/keep")))
    await until(lambda: scene.is_ended)

    scene.client.put(f"{PODS}/p2", a_pod("p2"))
    scene.pods(ChangeEvent("ADDED", a_pod("p2")))

    await until(lambda: f"{PODS}/p2" not in scene.client.objects)


@requirement("kill.deleted")
async def test_the_end_of_a_deleted_agents_pods_goes_on_once_its_object_is_gone(scene: Scene) -> None:
    scene.client.refuse("DELETE", "/pods/p1", times=3)
    agent = an_agent().being_deleted("example.com/keep")

    scene.agents(changed(agent), ChangeEvent("DELETED", agent.to_kubernetes()))

    await until(lambda: scene.is_ended)


@requirement("kill.deleted")
async def test_a_release_brings_no_pod_of_a_deleted_agent_back_and_a_kill_is_recorded(scene: Scene) -> None:
    agent = an_agent().being_deleted("example.com/keep")
    scene.agents(changed(agent))
    await until(lambda: scene.is_ended)

    scene.show(agent.killed("runaway"))
    await until(lambda: "zeroPodsAt" in scene.recorded)
    scene.show(agent.killed("off"))
    await until(lambda: "releasedAt" in scene.recorded)

    scene.client.put(f"{PODS}/p2", a_pod("p2"))
    scene.pods(ChangeEvent("ADDED", a_pod("p2")))
    await until(lambda: f"{PODS}/p2" not in scene.client.objects)


@requirement("kill.gone")
async def test_the_pods_of_an_agent_that_was_deleted_end_whoever_owns_their_workload(scene: Scene) -> None:
    """The attack: a deletion that orphans the Deployment, which the garbage collector then never ends."""
    scene.agents(listed(an_agent()))
    scene.pods(ListEvent((a_pod("p1"),)))
    await turns()
    assert scene.client.writes() == []
    del scene.objects[PATH]

    scene.agents(ChangeEvent("DELETED", an_agent().to_kubernetes()))

    await until(lambda: scene.is_ended)


@requirement("kill.gone")
@pytest.mark.parametrize("is_agents_first", [True, False])
async def test_a_pod_whose_agent_was_deleted_while_no_controller_ran_ends(
    scene: Scene,
    is_agents_first: bool,  # noqa: FBT001
) -> None:
    del scene.objects[PATH]
    lists = [lambda: scene.agents(ListEvent(())), lambda: scene.pods(ListEvent((a_pod("p1"),)))]
    for show in lists if is_agents_first else reversed(lists):
        show()
        await turns()

    await until(lambda: scene.is_ended)


@requirement("kill.gone")
async def test_a_pod_whose_agent_the_watch_has_not_shown_yet_stays(scene: Scene) -> None:
    scene.agents(ListEvent(()))
    scene.pods(ListEvent((a_pod("p1"),)))
    await turns()
    scene.agents(ChangeEvent("DELETED", an_agent().to_kubernetes()))
    await turns()

    assert scene.client.writes() == [], "the API server has the Agent"


@requirement("kill.gone")
async def test_an_agent_that_was_deleted_and_created_again_keeps_its_pods(scene: Scene) -> None:
    scene.agents(listed(an_agent()))
    scene.objects[DEPLOYMENT]["metadata"]["ownerReferences"] = [{"uid": "another uid"}]

    scene.agents(ChangeEvent("DELETED", an_agent().to_kubernetes()), ChangeEvent("ADDED", recreated()))
    scene.pods(ChangeEvent("ADDED", a_pod("p1")))
    await turns()

    assert scene.client.writes() == []


@requirement("kill.gone")
@pytest.mark.parametrize("owners", [None, [], [{"uid": "uid-of-triage"}]], ids=["absent", "orphaned", "not collected"])
@pytest.mark.parametrize("seen", ["deleted and added", "changed", "at the start"])
async def test_an_agent_created_again_does_not_keep_the_workloads_of_the_earlier_one(
    scene: Scene, owners: list[dict[str, str]] | None, seen: str
) -> None:
    """The attack: an orphaning deletion, and another Agent of that name before the pods have ended."""
    if seen != "at the start":
        scene.agents(listed(an_agent()))
        scene.pods(ListEvent(()))
        await until(lambda: scene.controller.watch_problem() is None)
        await turns()
        assert scene.client.writes() == []
    team = {"interlock.dev/agent": "triage"}
    ours = team | {"app.kubernetes.io/managed-by": "interlock"}
    for name, labels, its in (("d1", ours, owners), ("d2", ours, [{"uid": "another uid"}]), ("of-a-team", team, [])):
        metadata = {"name": name, "generation": 1, "labels": labels, "ownerReferences": its}
        scene.client.put(f"{DEPLOYMENTS}/{name}", {"kind": "Deployment", "metadata": metadata, "spec": {"replicas": 2}})
    scene.client.put(PATH, recreated())

    if seen == "deleted and added":
        scene.agents(ChangeEvent("DELETED", an_agent().to_kubernetes()))
    scene.agents(ListEvent((recreated(),)) if seen == "at the start" else ChangeEvent("MODIFIED", recreated()))

    await until(lambda: scene.objects[f"{DEPLOYMENTS}/d1"]["spec"]["replicas"] == 0)
    await turns()
    for name in ("d2", "of-a-team"):
        assert scene.objects[f"{DEPLOYMENTS}/{name}"]["spec"]["replicas"] == 2
