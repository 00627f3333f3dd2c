"""Kill, hold, release: what the reconciler does about it. The kill controller is tested in unit/kill."""

from typing import Any

import pytest

from interlock.api.status import ConditionType
from interlock.deployment.names import key_of
from interlock.deployment.plan import LiveChild
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, a_snapshot, an_agent, seconds
from tests.support.simulation import Simulation, written_by


def a_ready_agent(replicas: int = 1) -> Simulation:
    simulation = Simulation(a_snapshot().of(an_agent().with_replicas(replicas)))
    simulation.run()
    assert simulation.condition(ConditionType.READY).status == "True"
    return simulation


def replicas(simulation: Simulation) -> int:
    """Return how many pods all placements want."""
    found = [child.manifest for key, child in simulation.snapshot.children.items() if key.kind == "Deployment"]
    assert found
    return sum(one["spec"]["replicas"] for one in found)


def scaled(simulation: Simulation, count: int) -> LiveChild:
    deployment: dict[str, Any] = simulation.child("Deployment")
    return LiveChild({**deployment, "spec": {**deployment["spec"], "replicas": count}})


@requirement("kill.zero")
@pytest.mark.parametrize("value", ["runaway", "", "Off", "true"])
def test_a_killed_agent_goes_to_zero_and_is_not_ready(value: str) -> None:
    simulation = a_ready_agent(3)

    simulation.kill(value)
    simulation.run()

    assert replicas(simulation) == 0
    assert simulation.condition(ConditionType.READY).reason == "KillSwitch"
    assert simulation.condition(ConditionType.KILLED).status == "True"


@requirement("kill.order")
@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_the_pods_of_a_killed_agent_end_before_its_deployments_are_scaled(isolation: str) -> None:
    policy = a_policy().isolating(development=isolation)
    agent = an_agent().in_environment("development")
    simulation = Simulation(a_snapshot().of(agent).with_policy(policy).with_bindings(a_binding()))
    simulation.run()

    simulation.kill()

    deployments = {key for key in simulation.snapshot.children if key.kind == "Deployment"}
    assert len(deployments) == (2 if isolation == "Separate" else 1)
    assert simulation.peek().plan.ending == deployments


@requirement("kill.zero")
def test_scaling_a_killed_agent_up_is_reverted() -> None:
    simulation = a_ready_agent()
    simulation.kill()
    simulation.run()

    simulation.edit(scaled(simulation, 5))
    (pending,) = written_by(simulation.peek().plan)

    assert pending["spec"]["replicas"] == 0
    simulation.run()
    assert replicas(simulation) == 0


def test_a_new_spec_does_not_bring_a_killed_agent_up() -> None:
    simulation = a_ready_agent()
    simulation.kill()
    simulation.run()

    simulation.apply(an_agent().with_template(image="example/agent:2").with_replicas(9).killed())
    simulation.run()

    assert replicas(simulation) == 0
    assert simulation.condition(ConditionType.READY).reason == "KillSwitch"


@requirement("kill.latched")
def test_removing_the_switch_brings_nothing_up() -> None:
    simulation = a_ready_agent()
    simulation.kill()
    simulation.run()

    simulation.remove_switch()
    simulation.run()

    assert replicas(simulation) == 0
    assert simulation.condition(ConditionType.KILLED).status == "True"


def test_only_off_brings_it_back() -> None:
    simulation = a_ready_agent(2)
    simulation.kill()
    simulation.run()

    simulation.release()
    simulation.run()

    assert replicas(simulation) == 2
    assert simulation.condition(ConditionType.READY).status == "True"
    killed = simulation.condition(ConditionType.KILLED)
    assert (killed.status, killed.reason) == ("False", "Released")


def test_a_released_agent_stays_up_when_the_annotation_is_removed_and_can_be_killed_again() -> None:
    simulation = a_ready_agent()
    simulation.kill()
    simulation.run()
    simulation.release()
    simulation.run()

    simulation.remove_switch()
    simulation.run()
    assert simulation.condition(ConditionType.READY).status == "True"

    simulation.kill("again")
    simulation.run()
    assert replicas(simulation) == 0


def test_a_kill_that_only_the_kill_path_has_seen_keeps_an_agent_down() -> None:
    simulation = a_ready_agent()
    simulation.snapshot = simulation.snapshot.seen_killed("runaway")

    simulation.run()

    assert replicas(simulation) == 0
    assert "killed: runaway" in simulation.condition(ConditionType.READY).message


def test_a_killed_agent_whose_policy_goes_loses_its_children_and_comes_back_only_with_both() -> None:
    simulation = a_ready_agent()
    simulation.kill()
    simulation.find_policy(None)
    simulation.run()
    assert simulation.snapshot.children == {}

    simulation.release()
    simulation.run()
    assert simulation.snapshot.children == {}
    simulation.find_policy(a_policy())
    simulation.run()
    assert replicas(simulation) == 1


@requirement("status.kill-untouched")
def test_the_reconciler_leaves_the_kill_paths_record_alone() -> None:
    simulation = a_ready_agent()
    simulation.kill()
    before = simulation.status.kill

    assert simulation.peek().status.kill is None
    simulation.run()
    assert simulation.status.kill == before


@requirement("status.events")
def test_kill_and_release_are_reported_once_each() -> None:
    simulation = a_ready_agent()
    simulation.events.clear()

    simulation.kill("runaway")
    simulation.run()
    simulation.run()
    simulation.wait(seconds(60))
    simulation.release()
    simulation.run()
    simulation.run()

    reported = [(note.type, note.reason) for note in simulation.events if note.reason in ("Killed", "Released")]
    assert reported == [("Warning", "Killed"), ("Normal", "Released")]


def test_nothing_is_written_while_a_kill_goes_on() -> None:
    simulation = a_ready_agent()
    simulation.kill()
    simulation.run()
    simulation.wait(seconds(600))

    outcome = simulation.peek()

    assert outcome.plan.is_empty
    assert outcome.status == simulation.status.model_copy(update={"kill": None})
    assert key_of(simulation.child("Deployment")).kind == "Deployment"
