"""Scale-downs: pods that go take no new tasks, and end once nothing is under way, but not longer than drainTimeout."""

import copy
from dataclasses import replace
from datetime import timedelta

import pytest

from interlock.deployment.plan import LiveChild
from interlock.reconcile.agent import reconcile
from interlock_contract.bundle import BUNDLE_KEY, Bundle, digest, parse_bundle
from interlock_contract.drain_report import DrainReport, dump_drain
from interlock_contract.names import DRAIN_PREFIX
from tests.support.builders import AgentBuilder, a_binding, a_policy, a_snapshot, an_agent, seconds
from tests.support.simulation import Simulation

AGENT = an_agent().in_environment("development").taking_tasks()


def running(agent: AgentBuilder = AGENT, *, isolation: str = "Shared", replicas: int = 3) -> Simulation:
    policy = a_policy().isolating(development=isolation)
    agent = agent.with_replicas(replicas)
    simulation = Simulation(a_snapshot().of(agent).with_policy(policy).with_bindings(a_binding()))
    simulation.run()
    simulation.wait(seconds(60))
    return simulation


def scale(simulation: Simulation, replicas: int, agent: AgentBuilder = AGENT) -> Simulation:
    simulation.apply(agent.with_replicas(replicas))
    simulation.run()
    return simulation


def deployed(simulation: Simulation) -> set[int]:
    """Return the numbers of pods that the Deployments ask for."""
    kinds = ((key.kind, child.manifest) for key, child in simulation.snapshot.children.items())
    return {manifest["spec"]["replicas"] for kind, manifest in kinds if kind == "Deployment"}


def text_of(simulation: Simulation) -> str:
    return str(simulation.child_with(BUNDLE_KEY)["data"][BUNDLE_KEY])


def bundle(simulation: Simulation) -> Bundle:
    return parse_bundle(text_of(simulation))


def report_drained(simulation: Simulation, *pods: str) -> None:
    """Let the guards of these pods say that nothing is under way."""
    report(simulation, *pods, under_way=0)


def report(simulation: Simulation, *pods: str, under_way: int | None = None, leaving: int | None = None) -> None:
    """Let the guards of these pods say what is under way, and what is in pods of the agent that go."""
    lease = copy.deepcopy(simulation.child("Lease"))
    said = dump_drain(DrainReport(digest(text_of(simulation)), under_way, simulation.now, leaving))
    notes = lease["metadata"].setdefault("annotations", {})
    notes.update({f"{DRAIN_PREFIX}{pod}": said for pod in pods})
    simulation.edit(LiveChild(lease))


def agents(simulation: Simulation) -> dict[str, str]:
    """Return the names of a separate agent's pods by their addresses."""
    return {pod.addresses[0]: pod.name for pod in simulation.pods.reports if pod.addresses}


def guards(simulation: Simulation) -> set[str]:
    component = "guard" if any(pod.group.component == "guard" for pod in simulation.pods.reports) else "agent"
    return {pod.name for pod in simulation.pods.reports if pod.group.component == component}


@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_the_pods_that_go_drain_and_exactly_these_end(isolation: str) -> None:
    simulation = scale(running(isolation=isolation), 1)

    going = bundle(simulation).draining_pods
    assert (len(going), deployed(simulation)) == (2, {3})
    assert simulation.status.ready_summary == "1/1"
    kept = guards(simulation) - set(going)
    simulation.wait(seconds(10))
    report_drained(simulation, *going)
    if isolation == "Separate":
        report(simulation, *going, under_way=0, leaving=0)
        report(simulation, *kept, leaving=0)
    simulation.run()

    assert (deployed(simulation), guards(simulation)) == ({1}, kept)
    assert bundle(simulation).draining_pods == ()
    rollout = simulation.status.rollout
    assert rollout is not None
    assert rollout.scale_downs == ()


def test_of_a_separate_agent_exactly_the_pods_end_that_got_no_new_tasks() -> None:
    simulation = scale(running(isolation="Separate"), 1)
    before, addresses = agents(simulation), bundle(simulation).draining_addresses

    assert (len(before), len(addresses)) == (3, 2)
    simulation.wait(seconds(30))
    simulation.run()

    assert agents(simulation) == {one: name for one, name in before.items() if one not in addresses}
    assert bundle(simulation).draining_addresses == ()


@pytest.mark.parametrize("still", ["a guard that stays", "a guard that goes", "no report", "none"])
def test_a_separate_agents_pods_stay_while_any_guard_has_a_task_in_one_that_goes(still: str) -> None:
    simulation = scale(running(isolation="Separate"), 1)
    going = bundle(simulation).draining_pods
    [kept] = guards(simulation) - set(going)
    simulation.wait(seconds(10))

    report(simulation, *going, under_way=0, leaving=int(still == "a guard that goes"))
    if still != "no report":
        report(simulation, kept, leaving=int(still == "a guard that stays"))
    simulation.run()

    assert deployed(simulation) == ({1} if still == "none" else {3})


def test_a_guard_that_is_not_ready_is_not_asked_about_a_separate_agents_pods() -> None:
    simulation = scale(running(isolation="Separate"), 2)
    [going] = bundle(simulation).draining_pods
    unready, ready = sorted(guards(simulation) - {going})
    simulation.wait(seconds(10))
    report(simulation, ready, leaving=0)
    report(simulation, going, under_way=0, leaving=0)

    simulation.lose_readiness(unready)
    simulation.run()

    assert deployed(simulation) == {2}


def test_a_kill_in_the_middle_changes_no_order_of_deletion() -> None:
    simulation = scale(running(), 1)

    simulation.kill()

    assert simulation.peek().marks == ()


def test_guards_stay_until_a_separate_agents_pods_can_go_as_well() -> None:
    simulation = scale(running(isolation="Separate"), 1)
    going = bundle(simulation).draining_pods
    simulation.wait(seconds(10))

    report(simulation, *guards(simulation), leaving=0)
    simulation.run()

    assert (deployed(simulation), bundle(simulation).draining_pods) == ({3}, going)


def test_a_pod_that_the_bundle_does_not_name_yet_is_not_drained_by_what_guards_say_of_others() -> None:
    simulation = scale(running(isolation="Separate"), 2)
    simulation.wait(seconds(10))
    [going] = bundle(simulation).draining_pods
    report(simulation, *guards(simulation), leaving=0)
    report(simulation, going, under_way=0, leaving=0)

    simulation.apply(AGENT.with_replicas(1))

    assert simulation.peek().requeue_at == simulation.now + seconds(30)


def test_a_task_that_does_not_end_keeps_a_pod_for_the_timeout_and_no_longer() -> None:
    simulation = scale(running(), 2)

    assert simulation.peek().requeue_at == simulation.now + seconds(30)
    simulation.wait(seconds(29))
    simulation.run()
    assert deployed(simulation) == {3}
    simulation.wait(seconds(1))
    simulation.run()
    assert deployed(simulation) == {2}


def overdue(simulation: Simulation) -> set[str]:
    found = simulation.peek().overdue
    assert {one.uid for one in found} <= {pod.uid for pod in simulation.pods.reports}
    return {one.name for one in found}


@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_pods_with_a_task_when_their_time_is_over_end_before_the_number_is_lowered(isolation: str) -> None:
    """The ReplicaSet's controller would give them the grace period of their template, and the task as much time."""
    simulation = scale(running(isolation=isolation), 1)
    going = set(bundle(simulation).draining_pods)
    addresses = bundle(simulation).draining_addresses
    simulation.wait(seconds(29))
    assert overdue(simulation) == set()
    simulation.wait(seconds(1))

    assert overdue(simulation) == going | {agents(simulation)[one] for one in addresses}

    held = replace(simulation.snapshot.build(), starts_pods=False)
    assert reconcile(held, simulation.now).overdue == (), "until it is lowered, their controller makes others"


def test_a_pod_that_is_drained_has_its_grace_period() -> None:
    simulation = scale(running(), 1)
    first, second = bundle(simulation).draining_pods
    simulation.wait(seconds(30))

    report_drained(simulation, first)
    assert overdue(simulation) == {second}

    report_drained(simulation, second)
    assert overdue(simulation) == set()


@pytest.mark.parametrize("replicas", [0, 1])
def test_an_operator_that_is_restarted_goes_on_where_it_was(replicas: int) -> None:
    simulation = scale(running(), replicas)
    going = bundle(simulation).draining_pods

    for span in (seconds(20), seconds(9)):
        simulation.wait(span)
        simulation.forget()
        simulation.run()
        assert (bundle(simulation).draining_pods, deployed(simulation)) == (going, {3})
    simulation.wait(seconds(1))
    simulation.run()
    assert deployed(simulation) == {replicas}


def test_a_kill_does_not_wait_for_a_drain() -> None:
    simulation = scale(running(), 1)

    simulation.kill()
    simulation.run()

    assert deployed(simulation) == {0}


@pytest.mark.parametrize("wait", [seconds(0), seconds(15)])
def test_pods_that_are_wanted_again_take_tasks_again(wait: timedelta) -> None:
    simulation = scale(running(), 1)
    before = guards(simulation)
    simulation.wait(wait)

    scale(simulation, 3)

    assert (bundle(simulation).draining_pods, deployed(simulation)) == ((), {3})
    assert guards(simulation) == before
    assert not any(pod.is_marked for pod in simulation.pods.reports)


def test_an_agent_without_a_port_for_tasks_is_scaled_down_immediately() -> None:
    agent = an_agent().in_environment("development")

    assert deployed(scale(running(agent), 1, agent)) == {1}


def test_fewer_pods_of_a_stage_drain_as_well() -> None:
    def agent(replicas: int) -> AgentBuilder:
        stage = {"name": "dev", "environment": "development", "replicas": replicas}
        return an_agent().with_stages(stage).taking_tasks()

    simulation = running(agent(4), replicas=1)
    assert deployed(simulation) == {4}

    simulation.apply(agent(2))
    simulation.run()

    assert (len(bundle(simulation).draining_pods), deployed(simulation)) == (2, {4})
