"""Other pod templates of a revision: new pods are Ready first, then the earlier ones drain, and then they end."""

from dataclasses import replace
from datetime import timedelta

import pytest

from interlock.api.status import ConditionType
from interlock.deployment.names import Manifest
from interlock.deployment.plan import LiveChild
from interlock.deployment.pod_replacement import holds_pods
from interlock.orchestration.guard_waves import UpdateState
from interlock.reconcile.guard_updates import UPDATE_DEADLINE, state_of
from interlock_contract.names import ENDPOINT_LABEL
from tests.scenarios.test_guard_updates import (
    EARLIER,
    LATER,
    deployments,
    guard_update,
    images,
    may_update,
    update_operator,
)
from tests.scenarios.test_scale_downs import AGENT, agents, bundle, guards, report, report_drained, scale
from tests.support.builders import AgentBuilder, PolicyBuilder, a_binding, a_policy, a_snapshot, an_agent, seconds
from tests.support.simulation import Simulation

RESOURCES = {"limits": {"cpu": "300m"}}


def a_policy_for(isolation: str) -> PolicyBuilder:
    return a_policy().isolating(development=isolation)


def running(isolation: str = "Shared", agent: AgentBuilder = AGENT, policy: PolicyBuilder | None = None) -> Simulation:
    policy = policy or a_policy_for(isolation)
    simulation = Simulation(a_snapshot().of(agent).with_policy(policy).with_bindings(a_binding()))
    simulation.snapshot = replace(simulation.snapshot, guard_image=EARLIER, operator_version="1")
    simulation.run()
    simulation.wait(seconds(60))
    return simulation


def holds(simulation: Simulation) -> set[str]:
    """Return the Deployments that hold pods, by what runs in them."""
    return {name for name, one in deployments(simulation).items() if holds_pods(one)}


def internal_service(simulation: Simulation) -> Manifest:
    """Return the Service through which the pods of a separate agent reach guards."""
    found = [child.manifest for key, child in simulation.snapshot.children.items() if key.kind == "Service"]
    return next(one for one in found if any(port["name"] == "mcp" for port in one["spec"]["ports"]))


@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_guards_are_updated_without_a_cut_task(isolation: str) -> None:
    simulation = running(isolation)
    [before], of_agents = guards(simulation), agents(simulation)
    update_operator(simulation, waits="")
    simulation.settle()

    assert len(guards(simulation)) == 2
    assert (bundle(simulation).draining_pods, guard_update(simulation)) == ((), ("Unknown", "GuardUpdating"))

    simulation.run()
    assert bundle(simulation).draining_pods == (before,), "once its successor is ready"
    assert len(guards(simulation)) == 2
    assert simulation.condition(ConditionType.READY).status == "True"
    assert guard_update(simulation) == ("Unknown", "GuardUpdating"), "the next wave waits for drains"

    simulation.wait(seconds(9))
    report_drained(simulation, before)
    simulation.run()
    assert before in guards(simulation)
    simulation.wait(seconds(1))
    simulation.run()
    assert before not in guards(simulation)
    assert (len(guards(simulation)), bundle(simulation).draining_pods, holds(simulation)) == (1, (), set())
    assert guard_update(simulation) == ("True", "GuardCurrent")
    if isolation == "Separate":
        assert agents(simulation) == of_agents, "the agent's pods stay"


def test_a_task_that_does_not_end_keeps_a_pod_for_drain_timeout_and_is_not_given_the_grace_period_then() -> None:
    simulation = running()
    [before] = guards(simulation)
    update_operator(simulation, waits="")
    simulation.run()
    simulation.wait(seconds(29))
    simulation.run()
    assert before in guards(simulation)
    assert simulation.peek().overdue == ()

    simulation.wait(seconds(1))
    assert [one.name for one in simulation.peek().overdue] == [before]
    simulation.run()
    assert before not in guards(simulation)


def test_a_restart_of_the_operator_changes_no_drain() -> None:
    simulation = running(agent=AGENT.with_replicas(3))
    before = guards(simulation)
    update_operator(simulation, waits="")
    simulation.settle()
    simulation.forget()
    simulation.run()
    for span in (seconds(20), seconds(9)):
        simulation.wait(span)
        simulation.forget()
        simulation.run()
        assert set(bundle(simulation).draining_pods) == before
    simulation.wait(seconds(1))
    simulation.forget()
    simulation.run()
    assert not guards(simulation) & before
    assert len(guards(simulation)) == 3


def test_a_kill_ends_a_drain_immediately() -> None:
    simulation = running()
    update_operator(simulation, waits="")
    simulation.run()
    simulation.kill()
    simulation.run()
    assert {one["spec"]["replicas"] for one in deployments(simulation).values()} == {0}
    assert (guards(simulation), holds(simulation)) == (set(), set())


def test_pods_without_tasks_are_replaced_immediately() -> None:
    simulation = running(agent=an_agent().in_environment("development"))
    update_operator(simulation, waits="")
    simulation.settle()
    assert (images(simulation), holds(simulation)) == ({LATER}, set())


def test_what_users_change_drains_too_in_the_pods_of_guards_and_agents() -> None:
    simulation = running("Separate")
    before, of_agents = guards(simulation), agents(simulation)
    simulation.apply(AGENT.with_template(nodeSelector={"pool": "agents"}))
    simulation.run()
    assert holds(simulation) == {"agent", "guard"}
    assert set(bundle(simulation).draining_pods) == before
    assert set(bundle(simulation).draining_addresses) == set(of_agents)

    simulation.wait(seconds(10))
    report(simulation, *before, under_way=0, leaving=0)
    report(simulation, *(guards(simulation) - before), leaving=1)
    simulation.run()
    assert not guards(simulation) & before, "each Deployment ends its own"
    assert of_agents.keys() < agents(simulation).keys()

    report(simulation, *guards(simulation), leaving=0)
    simulation.run()
    assert not agents(simulation).keys() & of_agents.keys()
    assert holds(simulation) == set()


def test_what_a_policy_changes_drains_too() -> None:
    simulation = running()
    simulation.find_policy(a_policy_for("Shared").with_guard_resources(**RESOURCES))
    simulation.settle()
    assert holds(simulation) == {"agent"}


def test_separate_agents_reach_the_guards_that_stay_while_others_drain() -> None:
    simulation = running("Separate")
    assert ENDPOINT_LABEL not in internal_service(simulation)["spec"]["selector"]
    update_operator(simulation, waits="")
    simulation.run()
    assert ENDPOINT_LABEL in internal_service(simulation)["spec"]["selector"]

    simulation.wait(seconds(30))
    simulation.run()
    assert ENDPOINT_LABEL not in internal_service(simulation)["spec"]["selector"]


def test_a_separate_agents_tasks_reach_guards_that_go_if_none_stays() -> None:
    simulation = scale(running("Separate"), 0)
    assert len(bundle(simulation).draining_pods) == 1
    assert ENDPOINT_LABEL not in internal_service(simulation)["spec"]["selector"]


def test_a_third_template_waits_while_pods_drain_and_for_no_wave_then() -> None:
    simulation = running()
    update_operator(simulation, waits="")
    simulation.run()
    second = guards(simulation) - set(bundle(simulation).draining_pods)
    simulation.find_policy(a_policy_for("Shared").with_guard_resources(**RESOURCES))
    update_operator(simulation, version="2")  # other agents may be updated now, and this one may not
    simulation.run()
    assert second < guards(simulation), "what took over goes on"

    simulation.wait(seconds(30))
    simulation.run()
    assert set(bundle(simulation).draining_pods) == second
    [guard] = [one for one in deployments(simulation).values() if holds_pods(one)]
    found = next(one for one in guard["spec"]["template"]["spec"]["initContainers"] if one["name"] == "guard")
    assert found["resources"]["limits"]["cpu"] == "300m"


def test_a_template_whose_pods_do_not_start_is_corrected_immediately() -> None:
    simulation = running()
    update_operator(simulation, waits="")
    simulation.settle()
    update_operator(simulation, version="3", image="registry.example.com/guard:3", waits="")
    simulation.settle()
    [found] = deployments(simulation).values()
    assert "registry.example.com/guard:3" in str(found["spec"]["template"])


def draining(isolation: str = "Shared") -> Simulation:
    """Return an agent whose tasks may go on for an hour after its update, and do."""
    agent = AGENT.with_stages({"name": "dev", "environment": "development"}, drainTimeout="1h")
    simulation = running(isolation, agent, a_policy_for(isolation).requiring(maxDrainTimeout="1h"))
    update_operator(simulation, waits="")
    simulation.run()
    assert guard_update(simulation) == ("Unknown", "GuardUpdating")
    return simulation


@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_a_drain_that_outlasts_the_deadline_of_an_update_fails_nothing_and_keeps_no_other_agent_waiting(
    isolation: str,
) -> None:
    simulation = draining(isolation)
    simulation.wait(UPDATE_DEADLINE + timedelta(minutes=1))
    outcome = simulation.settle()
    assert guard_update(simulation) == ("False", "GuardDraining")
    assert state_of(simulation.status) is UpdateState.UPDATED
    assert outcome.requeue_at is not None
    assert outcome.requeue_at > simulation.now

    simulation.wait(timedelta(minutes=30))
    simulation.run()
    assert guard_update(simulation) == ("False", "GuardDraining")
    simulation.wait(timedelta(minutes=30))
    simulation.run()
    assert guard_update(simulation) == ("True", "GuardCurrent")


def test_a_version_that_comes_while_pods_drain_waits_for_them_and_fails_nothing() -> None:
    simulation = draining()
    update_operator(simulation, version="3", image="registry.example.com/guard:3", waits="")
    for _ in range(9):
        simulation.run()
        assert guard_update(simulation) == ("False", "GuardDraining")
        assert images(simulation) == {LATER}
        simulation.wait(timedelta(minutes=6))
    update_operator(simulation, version="3", image="registry.example.com/guard:3")  # others have their turn now
    simulation.wait(timedelta(minutes=6))
    simulation.run()
    assert guard_update(simulation) == ("False", "GuardUpdateWaiting")

    may_update(simulation)
    simulation.settle()
    assert guard_update(simulation) == ("Unknown", "GuardUpdating")
    simulation.wait(UPDATE_DEADLINE - seconds(1))
    simulation.settle()
    assert guard_update(simulation) == ("Unknown", "GuardUpdating"), "it has its own time"
    assert "GuardUpdateFailed" not in {one.reason for one in simulation.events}


def test_a_version_that_comes_while_a_change_by_users_drains_fails_nothing() -> None:
    agent = AGENT.with_stages({"name": "dev", "environment": "development"}, drainTimeout="1h")
    simulation = running(agent=agent, policy=a_policy_for("Shared").requiring(maxDrainTimeout="1h"))
    simulation.apply(agent.with_template(nodeSelector={"pool": "agents"}))
    simulation.run()
    assert guard_update(simulation) == ("True", "GuardCurrent")
    update_operator(simulation, waits="")
    for _ in range(4):
        simulation.run()
        assert guard_update(simulation) == ("False", "GuardDraining")
        simulation.wait(timedelta(minutes=6))


def test_a_template_that_others_changed_is_not_given_time() -> None:
    simulation = running()
    [(key, child)] = [(key, one) for key, one in simulation.snapshot.children.items() if key.kind == "Deployment"]
    spec, pod = child.manifest["spec"], child.manifest["spec"]["template"]["spec"]
    others = [one | {"image": "registry.example.com/of-others"} for one in pod["containers"]]
    template = spec["template"] | {"spec": pod | {"containers": others}}
    simulation.edit(LiveChild(child.manifest | {"spec": spec | {"template": template}}))
    simulation.reconcile_once()
    assert "of-others" not in str(simulation.snapshot.children[key].manifest)
    assert holds(simulation) == set()
