"""Stages with a number of pods of their own, and the time that pods have to drain."""

from typing import Any

import pytest

from interlock.api.status import ConditionType
from interlock_contract.bundle import BUNDLE_KEY, parse_bundle
from tests.support.builders import (
    AgentBuilder,
    PolicyBuilder,
    a_binding,
    a_policy,
    a_snapshot,
    a_stage,
    an_agent,
    hours,
    seconds,
)
from tests.support.simulation import Simulation

POLICY = a_policy().requiring(requireLimitedScope=False)


def staged(staging: int | None, production: int | None, **rollout: Any) -> AgentBuilder:
    numbers = [{} if one is None else {"replicas": one} for one in (staging, production)]
    stages = (
        a_stage("staging", lasting="168h") | numbers[0],
        a_stage("everywhere", "production") | numbers[1],
    )
    return an_agent().with_stages(*stages, **rollout).with_replicas(3)


def deployed(agent: AgentBuilder, policy: PolicyBuilder = POLICY) -> Simulation:
    simulation = Simulation(a_snapshot().of(agent).with_policy(policy).with_bindings(a_binding()))
    simulation.run()
    return simulation


def wanted(simulation: Simulation) -> set[int]:
    return {
        one.manifest["spec"]["replicas"]
        for key, one in simulation.snapshot.children.items()
        if key.kind == "Deployment"
    }


def test_each_stage_has_its_own_number_of_pods_and_a_stage_without_one_that_of_the_spec() -> None:
    simulation = deployed(staged(2, None))

    assert wanted(simulation) == {2}
    assert simulation.status.ready_summary == "2/2"
    assert simulation.condition(ConditionType.READY).message == "2 of 2 pods ready"
    assert simulation.status.enforcement is None or simulation.status.enforcement.guards == 2

    simulation.wait(hours(168))
    simulation.settle()
    assert [(one.stage, one.wanted) for one in simulation.status.placements] == [("everywhere", 3), ("staging", 2)]
    simulation.run()
    assert wanted(simulation) == {3}
    assert simulation.status.ready_summary == "3/3"


def test_another_number_of_pods_in_a_stage_starts_no_revision_and_keeps_its_soak() -> None:
    simulation = deployed(staged(2, None))
    before = simulation.status.stage
    simulation.wait(hours(24))

    simulation.apply(staged(4, None))
    simulation.run()

    after = simulation.status.stage
    assert before is not None
    assert after is not None
    assert (wanted(simulation), after.number) == ({4}, before.number)
    assert simulation.snapshot.build().agent.spec.stages[0].replicas == 4
    assert after.soaked_seconds + (simulation.now - (after.ready_since or simulation.now)).total_seconds() >= 24 * 3600


def test_a_stage_with_no_pods_never_passes_and_the_stage_says_why() -> None:
    simulation = deployed(staged(2, None))
    simulation.apply(staged(0, None))
    simulation.run()
    simulation.wait(hours(999))
    simulation.run()

    assert (simulation.stage, wanted(simulation)) == ("staging", {0})
    ready = simulation.condition(ConditionType.READY)
    assert (ready.status, ready.reason) == ("True", "ScaledToZero")
    assert ready.message == "0 pods ready because replicas of stage staging is 0"


def test_a_last_stage_without_pods_leaves_the_work_to_the_stage_before() -> None:
    simulation = deployed(staged(2, 0))
    simulation.wait(hours(168))
    simulation.run()

    assert [(one.stage, one.wanted) for one in simulation.status.placements] == [("everywhere", 0), ("staging", 2)]
    assert simulation.condition(ConditionType.PROGRESSING).message.endswith(
        "is in stage everywhere: it has no pods because replicas of stage everywhere is 0"
    )


def test_a_placement_without_pods_says_nothing_about_egress_next_to_one_with_pods() -> None:
    policy = a_policy().requiring(requireLimitedScope=False).isolating(staging="Separate", production="Separate")
    simulation = deployed(staged(2, 0), policy)
    simulation.wait(hours(168))
    simulation.run()

    assert [one.wanted for one in simulation.status.placements] == [0, 2]
    assert simulation.condition(ConditionType.EGRESS_ENFORCED).reason == "EgressCheckPending"


def test_no_stage_has_pods_while_the_spec_wants_none() -> None:
    simulation = deployed(staged(2, 5).with_replicas(0))

    assert wanted(simulation) <= {0}
    assert simulation.condition(ConditionType.READY).message == "0 pods ready because spec.replicas is 0"


@pytest.mark.parametrize(
    ("own", "most", "expected"),
    [(None, "5m", 30), ("2m", "5m", 120), ("10m", "5m", 300), (None, "20s", 20)],
    ids=["default", "own", "above the policy's maximum", "default above the policy's maximum"],
)
def test_pods_drain_for_the_time_of_the_agent_within_that_of_the_policy(
    own: str | None, most: str, expected: int
) -> None:
    agent = staged(None, None, **({} if own is None else {"drainTimeout": own})).taking_tasks()
    simulation = deployed(agent)
    simulation.find_policy(a_policy().requiring(requireLimitedScope=False, maxDrainTimeout=most))
    simulation.run()
    simulation.wait(hours(168))
    simulation.run()

    bundles = [
        parse_bundle(text)
        for one in simulation.snapshot.children.values()
        if (text := (one.manifest.get("data") or {}).get(BUNDLE_KEY))
    ]
    assert {one.tasks.drain_seconds for one in bundles if one.tasks is not None} == {expected}
    assert len(bundles) == 2, "one of them drains"
    simulation.wait(seconds(expected - 1))
    simulation.run()
    assert {one.stage for one in simulation.status.placements} == {"staging", "everywhere"}
    simulation.wait(seconds(1))
    simulation.run()
    assert {one.stage for one in simulation.status.placements} == {"everywhere"}


def test_a_stage_without_pods_does_not_pass_while_its_last_pods_drain() -> None:
    simulation = deployed(staged(2, None).taking_tasks())
    simulation.wait(hours(168) - seconds(10))

    simulation.apply(staged(0, None).taking_tasks())
    simulation.run()
    simulation.wait(seconds(20))
    simulation.run()

    assert wanted(simulation) == {2}, "they drain"
    assert simulation.stage == "staging"
