"""The kill controller ends the pods of an Agent that is being deleted, whatever finalizers keep its object."""

from collections.abc import Callable

import pytest

from interlock_kube.watch import ChangeEvent, ListEvent
from tests.requirements import requirement
from tests.support.builders import AgentBuilder, an_agent
from tests.unit.kill.conftest import KEY, PODS, Scene, a_pod, turns, until


def changed(agent: AgentBuilder) -> ChangeEvent:
    return ChangeEvent("MODIFIED", agent.to_kubernetes())


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
