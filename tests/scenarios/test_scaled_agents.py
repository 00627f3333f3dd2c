"""The scale of an Agent: what `kubectl scale` and autoscalers read, and where the number that they write arrives."""

import pytest

from interlock.deployment.plan import LiveChild
from tests.requirements import requirement
from tests.scenarios.test_stage_replicas import POLICY, deployed, staged, wanted
from tests.support.builders import a_binding, a_policy, a_snapshot, an_agent, hours
from tests.support.simulation import Simulation

SEPARATE = a_policy().requiring(requireLimitedScope=False).isolating(staging="Separate", production="Separate")


def selectors(simulation: Simulation) -> set[str]:
    """Return the selectors of the Deployments that agents run in, as text."""
    found = (one.manifest["spec"] for key, one in simulation.snapshot.children.items() if key.kind == "Deployment")
    labels = (one["selector"]["matchLabels"] for one in found)
    return {
        ",".join(f"{name}={value}" for name, value in sorted(one.items()))
        for one in labels
        if one["app.kubernetes.io/component"] == "agent"
    }


@requirement("scale.subresource")
@pytest.mark.parametrize("policy", [POLICY, SEPARATE], ids=["Shared", "Separate"])
def test_the_scale_counts_and_selects_the_agents_pods_of_the_placement_that_serves(policy: object) -> None:
    simulation = deployed(staged(None, None), policy)  # type: ignore[arg-type]

    assert simulation.status.replicas == 3
    assert {simulation.status.selector} == selectors(simulation)


@requirement("scale.subresource")
def test_the_selector_follows_a_hand_over_and_a_stage_with_its_own_number_is_not_scaled() -> None:
    simulation = deployed(staged(2, None))
    assert (simulation.status.replicas, simulation.status.selector) == (2, ""), "staging has its own number"
    simulation.apply(staged(2, None).with_replicas(7))
    simulation.run()
    assert wanted(simulation) == {2}
    simulation.wait(hours(168))
    simulation.run()
    good = simulation.status.selector
    assert (wanted(simulation), {good}) == ({7}, selectors(simulation))

    simulation.apply(staged(2, None).with_replicas(7).with_template(image="registry.example.com/triage:2"))
    simulation.run()
    assert (wanted(simulation), simulation.status.selector) == ({2, 7}, good), "the good revision serves the rest"
    assert simulation.status.replicas == 7
    simulation.wait(hours(168))
    simulation.run()
    assert simulation.status.selector != good
    assert {simulation.status.selector} == selectors(simulation)


@requirement("scale.subresource")
def test_pods_that_a_deployment_asks_for_count_before_its_controller_has_counted_them() -> None:
    snapshot = a_snapshot().of(an_agent().with_replicas(2)).with_policy(a_policy()).with_bindings(a_binding())
    simulation = Simulation(snapshot)
    first = simulation.settle()
    assert (first.status.replicas, first.status.ready_replicas) == (2, 0), "its Deployment has no status yet"
    simulation.run()
    simulation.apply(an_agent().with_replicas(5))
    assert simulation.settle().status.replicas == 5
    simulation.run()
    simulation.apply(an_agent().with_replicas(1))
    assert simulation.settle().status.replicas == 5, "fewer pods are there once the controller has counted them"


@requirement("scale.subresource")
def test_pods_that_a_quota_refuses_do_not_count() -> None:
    simulation = deployed(an_agent().with_replicas(2))
    simulation.apply(an_agent().with_replicas(5))
    simulation.settle()
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"}
    deployment = simulation.child("Deployment")
    simulation.edit(LiveChild({**deployment, "status": {**deployment["status"], "conditions": [condition]}}))

    assert simulation.settle().status.replicas == 2


@requirement("scale.subresource")
def test_another_number_starts_no_revision_and_a_killed_agent_stays_without_pods() -> None:
    simulation = deployed(an_agent().with_replicas(2))
    number = simulation.status.rollout

    simulation.apply(an_agent().with_replicas(4))
    simulation.run()
    assert (wanted(simulation), simulation.status.rollout, simulation.status.replicas) == ({4}, number, 4)

    simulation.kill()
    simulation.run()
    simulation.apply(an_agent().with_replicas(9).killed())
    simulation.run()
    assert (wanted(simulation), simulation.status.replicas) == ({0}, 0)


@requirement("scale.subresource")
def test_an_agent_that_nothing_runs_of_has_no_selector() -> None:
    simulation = deployed(an_agent().without_owner())

    assert (simulation.status.replicas, simulation.status.selector) == (0, "")
