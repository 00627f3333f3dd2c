"""Rollouts of an agent that serves already: the last good revision serves what the new one does not, all the way."""

from dataclasses import replace
from datetime import timedelta

import pytest

from interlock.api.status import ConditionType
from interlock.deployment.names import Manifest
from interlock.orchestration.rollout_state import Command, RolloutCommands
from interlock_contract.bundle import BUNDLE_KEY, Bundle, parse_bundle
from tests.requirements import requirement
from tests.support.builders import (
    AgentBuilder,
    BindingBuilder,
    a_binding,
    a_policy,
    a_snapshot,
    a_stage,
    an_agent,
    hours,
    seconds,
)
from tests.support.simulation import Simulation

REGION = {"region": ["eu-west"]}
STAGES = (
    a_stage("staging", lasting="168h"),
    a_stage("region", "production", scope=REGION, lasting="48h"),
    a_stage("everywhere", "production"),
)
AGENT = an_agent().with_stages(*STAGES)
CHANGED = AGENT.with_template(image="example/agent:2")


def a_served_agent(agent: AgentBuilder = AGENT) -> Simulation:
    """Return an agent whose first revision has passed all stages."""
    simulation = Simulation(a_snapshot().of(agent).with_policy(a_policy()).with_bindings(a_binding()))
    pass_stages(simulation)
    simulation.wait(seconds(30))
    simulation.run()
    assert simulation.condition(ConditionType.PROGRESSING).reason == "RolloutComplete"
    return simulation


def pass_stages(simulation: Simulation) -> None:
    for span in (seconds(0), hours(168), hours(48)):
        simulation.wait(span)
        simulation.run()


def workloads(simulation: Simulation) -> dict[str, Manifest]:
    """Return the Deployments by stage and image."""
    found = (child.manifest for key, child in simulation.snapshot.children.items() if key.kind == "Deployment")
    return {_placement(one): one for one in found}


def _placement(workload: Manifest) -> str:
    labels = workload["spec"]["template"]["metadata"]["labels"]
    [agent] = [one for one in workload["spec"]["template"]["spec"]["containers"] if one["name"] == "agent"]
    return f"{labels['interlock.dev/stage']} {agent['image'].rpartition(':')[2]}"


def bundles(simulation: Simulation) -> list[Bundle]:
    texts = (child.manifest.get("data") or {} for child in simulation.snapshot.children.values())
    return [parse_bundle(data[BUNDLE_KEY]) for data in texts if BUNDLE_KEY in data]


def serves(simulation: Simulation) -> list[tuple[str, str]]:
    """Return what each placement serves, as the status says it."""
    return [(one.stage, one.serves) for one in simulation.status.placements]


def command(simulation: Simulation, verb: str, revision: str, stage: str = "") -> None:
    """Let one command stand on the Agent."""
    given = RolloutCommands(**{verb: Command(revision, stage, by="ada@example.com", is_vouched=True)})
    simulation.snapshot = replace(simulation.snapshot, commands=given)


def newest_name(simulation: Simulation) -> str:
    rollout = simulation.status.rollout
    assert rollout is not None
    assert rollout.newest is not None
    return f"{rollout.newest.number}-{rollout.newest.digest[:10]}"


def test_the_last_good_revision_serves_all_that_the_new_one_does_not_and_is_never_restarted() -> None:
    simulation = a_served_agent()
    template = workloads(simulation)["everywhere 1"]["spec"]["template"]

    simulation.apply(CHANGED)
    simulation.run()
    assert serves(simulation) == [("staging", "all"), ("everywhere", "all")]
    assert workloads(simulation)["everywhere 1"]["spec"]["template"] == template

    simulation.wait(hours(168))
    simulation.run()
    assert serves(simulation) == [("region", "region=eu-west"), ("everywhere", "all but region=eu-west")]
    [rest] = [one for one in bundles(simulation) if one.stage == "everywhere"]
    assert [[(limit.dimension, limit.values) for limit in scope] for scope in rest.excluded] == [
        [("region", ("eu-west",))]
    ]
    assert workloads(simulation)["everywhere 1"]["spec"]["template"] == template
    assert simulation.condition(ConditionType.SERVING).status == "True"

    simulation.wait(hours(48))
    simulation.run()
    assert serves(simulation) == [("everywhere", "all")]
    assert set(workloads(simulation)) == {"everywhere 2"}
    assert simulation.condition(ConditionType.PROGRESSING).reason == "RolloutComplete"


def test_ready_is_false_until_the_new_revision_was_ready_once() -> None:
    simulation = a_served_agent()

    simulation.apply(CHANGED)
    simulation.settle()

    ready = simulation.condition(ConditionType.READY)
    assert (ready.status, ready.reason) == ("False", "NewRevisionStarting")
    assert simulation.condition(ConditionType.SERVING).status == "True"
    simulation.run()
    assert simulation.condition(ConditionType.READY).status == "True"
    progressing = simulation.condition(ConditionType.PROGRESSING)
    assert (progressing.status, progressing.reason) == ("True", "Soaking")


def test_a_spec_that_a_layer_refuses_leaves_the_last_good_revision_running() -> None:
    simulation = a_served_agent()
    before = workloads(simulation)

    simulation.apply(AGENT.using("crm", "mail"))
    simulation.run()

    ready = simulation.condition(ConditionType.READY)
    assert (ready.status, ready.reason) == ("False", "DataAccessMissing")
    assert workloads(simulation) == before
    assert simulation.condition(ConditionType.SERVING).status == "True"


def test_a_policy_that_takes_a_row_away_ends_the_last_good_revision_too() -> None:
    simulation = a_served_agent()
    simulation.apply(CHANGED)
    simulation.run()

    simulation.find_policy(a_policy().giving_nothing())
    simulation.run()

    assert simulation.snapshot.children == {}
    assert simulation.condition(ConditionType.SERVING).status == "False"


@pytest.mark.parametrize("spans", [(), (hours(168),)], ids=["in staging", "in one region"])
def test_an_abort_ends_the_pods_of_the_new_revision_and_the_good_one_serves_all(spans: tuple[timedelta, ...]) -> None:
    simulation = a_served_agent()
    simulation.apply(CHANGED)
    simulation.run()
    for span in spans:
        simulation.wait(span)
        simulation.run()
    aborted = newest_name(simulation)

    command(simulation, "abort", aborted)
    simulation.run()

    assert set(workloads(simulation)) == {"everywhere 1"}
    assert serves(simulation) == [("everywhere", "all")]
    assert simulation.condition(ConditionType.READY).status == "True"
    degraded = simulation.condition(ConditionType.DEGRADED)
    assert (degraded.status, degraded.reason) == ("True", "Aborted")
    assert simulation.status.history[-1].by == "ada@example.com"
    simulation.wait(hours(999))
    simulation.forget()
    simulation.run()
    assert set(workloads(simulation)) == {"everywhere 1"}, "nothing retries by itself"


def test_a_retry_names_the_aborted_revision_and_runs_it_under_a_new_number() -> None:
    simulation = a_served_agent()
    simulation.apply(CHANGED)
    simulation.run()
    aborted = newest_name(simulation)
    command(simulation, "abort", aborted)
    simulation.run()

    command(simulation, "retry", aborted)
    simulation.run()

    assert simulation.stage == "staging"
    assert newest_name(simulation).partition("-")[2] == aborted.partition("-")[2]
    assert newest_name(simulation) != aborted


def test_a_revision_after_an_aborted_one_is_rolled_out() -> None:
    simulation = a_served_agent()
    simulation.apply(CHANGED)
    simulation.run()
    command(simulation, "abort", newest_name(simulation))
    simulation.run()

    simulation.apply(AGENT.with_template(image="example/agent:3"))
    simulation.run()

    assert set(workloads(simulation)) == {"staging 3", "everywhere 1"}


def test_a_rollback_brings_an_earlier_revision_back_before_the_present_one_goes() -> None:
    simulation = a_served_agent()
    first = newest_name(simulation)
    simulation.apply(CHANGED)
    pass_stages(simulation)
    assert set(workloads(simulation)) == {"everywhere 2"}

    command(simulation, "rollback", first)
    simulation.settle()
    assert set(workloads(simulation)) == {"everywhere 1", "everywhere 2"}, "the new pods are not Ready yet"
    simulation.run()

    assert set(workloads(simulation)) == {"everywhere 1"}
    assert simulation.condition(ConditionType.READY).status == "True"
    assert simulation.condition(ConditionType.DEGRADED).reason == "RolledBack"


def test_a_kill_in_mid_rollout_ends_every_pod_and_a_release_brings_both_revisions_back() -> None:
    simulation = a_served_agent()
    simulation.apply(CHANGED)
    simulation.run()

    simulation.kill()
    simulation.run()
    assert {one["spec"]["replicas"] for one in workloads(simulation).values()} == {0}
    assert simulation.condition(ConditionType.SERVING).reason == "KillSwitch"

    simulation.release()
    simulation.run()
    assert set(workloads(simulation)) == {"staging 2", "everywhere 1"}
    assert {one["spec"]["replicas"] for one in workloads(simulation).values()} == {1}


def test_a_placement_with_a_port_for_tasks_drains_before_it_is_deleted() -> None:
    simulation = a_served_agent(AGENT.taking_tasks())
    simulation.apply(CHANGED.taking_tasks())
    pass_stages(simulation)

    assert [one.is_draining for one in bundles(simulation)].count(True) == 2
    assert simulation.peek().requeue_at == simulation.now + seconds(10), "the least time, in which nodes learn of it"
    simulation.wait(seconds(10))
    assert simulation.peek().requeue_at == simulation.now + seconds(20)
    simulation.wait(seconds(20))
    simulation.run()
    assert set(workloads(simulation)) == {"everywhere 2"}


def test_a_revision_without_a_port_for_tasks_lets_the_tasks_of_the_one_before_it_end() -> None:
    simulation = a_served_agent(AGENT.taking_tasks())
    simulation.apply(CHANGED)
    pass_stages(simulation)

    assert [one.stage for one in bundles(simulation) if one.is_draining and one.tasks is not None] == ["everywhere"]
    assert simulation.peek().requeue_at == simulation.now + seconds(10)
    simulation.wait(seconds(10))
    simulation.run()
    assert set(workloads(simulation)) == {"everywhere 1", "everywhere 2"}, "its guards have not said that none is left"
    simulation.wait(seconds(20))
    simulation.run()
    assert set(workloads(simulation)) == {"everywhere 2"}


def test_fewer_pods_of_a_revision_with_tasks_drain_whatever_the_newest_revision_takes() -> None:
    simulation = a_served_agent(AGENT.taking_tasks().with_replicas(3))
    simulation.apply(CHANGED.with_replicas(1))
    simulation.run()

    assert {name: one["spec"]["replicas"] for name, one in workloads(simulation).items()} == {
        "staging 2": 1,
        "everywhere 1": 3,
    }
    simulation.wait(seconds(30))
    simulation.run()
    assert workloads(simulation)["everywhere 1"]["spec"]["replicas"] == 1


@requirement("revision.contents", "rollout.starts-again")
def test_another_policy_starts_at_the_first_stage() -> None:
    simulation = a_served_agent()
    simulation.find_policy(a_policy("lax"))
    simulation.apply(AGENT.under("lax"))
    simulation.run()
    assert simulation.stage == "staging"


def test_a_good_revision_whose_content_is_lost_does_not_run_and_says_so() -> None:
    simulation = a_served_agent()
    simulation.apply(CHANGED)
    simulation.run()
    simulation.forget()
    simulation.revisions = {name: one for name, one in simulation.revisions.items() if "-1-" not in name}

    simulation.run()

    assert set(workloads(simulation)) == {"staging 2"}
    degraded = simulation.condition(ConditionType.DEGRADED)
    assert (degraded.status, degraded.reason) == ("True", "GoodRevisionLost")
    assert "triage-1-" in degraded.message


def test_a_newest_revision_whose_content_is_lost_is_stored_again() -> None:
    simulation = a_served_agent()
    before = workloads(simulation)
    simulation.forget()
    kept, simulation.revisions = simulation.revisions, {}

    simulation.run()

    assert simulation.revisions.keys() == kept.keys()
    assert workloads(simulation) == before


def test_a_policy_that_loosens_waits_for_the_rollouts_of_others_and_the_agent_stays_ready() -> None:
    simulation = a_served_agent()
    before = workloads(simulation)
    simulation.snapshot = replace(simulation.snapshot, may_start="3 of 3 rollouts are under way")

    simulation.find_policy(a_policy().giving("triage", "crm", delete=["contacts"]))
    simulation.run()

    assert workloads(simulation) == before
    assert simulation.condition(ConditionType.READY).status == "True"
    progressing = simulation.condition(ConditionType.PROGRESSING)
    assert (progressing.reason, "3 of 3" in progressing.message) == ("WaitingToStart", True)
    simulation.snapshot = replace(simulation.snapshot, may_start="")
    simulation.run()
    assert simulation.stage == "staging"


def test_the_first_revision_waits_until_the_present_spec_of_its_binding_is_judged() -> None:
    judged = a_binding()
    status = judged.build().status
    assert status is not None
    earlier = status.model_copy(update={"observed_generation": judged.build().metadata.generation - 1})
    simulation = Simulation(a_snapshot().of(AGENT).with_policy(a_policy()).with_bindings(judged.with_status(earlier)))
    simulation.run()
    assert workloads(simulation) == {}
    ready = simulation.condition(ConditionType.READY)
    assert (ready.status, ready.reason) == ("False", "NewRevisionStarting")
    assert ready.message == "the new revision waits: MCPBinding crm is being verified"
    simulation.find_bindings(judged)
    simulation.run()
    assert set(workloads(simulation)) == {"staging 1"}


def test_the_event_of_a_new_revision_says_what_it_changes() -> None:
    simulation = a_served_agent()
    simulation.apply(CHANGED)

    [started] = [one for one in simulation.peek().events if one.reason == "RolloutStarted"]

    assert started.message.endswith('starts in staging: agent.template.image: "example/agent:1" -> "example/agent:2"')


def test_the_event_of_a_new_revision_names_eight_changes_at_most() -> None:
    def agent(value: str) -> AgentBuilder:
        return AGENT.with_template(env=[{"name": f"N{number}", "value": value} for number in range(20)])

    simulation = a_served_agent(agent("1"))
    simulation.apply(agent("2"))

    [started] = [one for one in simulation.peek().events if one.reason == "RolloutStarted"]

    assert started.message.count("; ") == 7
    assert started.message.endswith("and 13 more")


def test_a_placement_ends_whose_binding_is_gone_though_the_agent_has_moved_to_other_stages() -> None:
    """What is described is the same revision, and the layers allow it in the stages that the Agent has now."""
    dev, staging = a_stage("dev", "development"), a_stage("staging")
    in_dev = a_binding().serving("crm", "development")
    both = in_dev, a_binding("crm-staging").serving("crm", "staging")
    snapshot = a_snapshot().of(an_agent().with_stages(dev, staging)).with_policy(a_policy())
    simulation = Simulation(snapshot.with_bindings(*both))
    simulation.run()
    simulation.apply(an_agent().with_stages(dev))
    simulation.settle()
    assert set(workloads(simulation)) == {"dev 1", "staging 1"}
    simulation.find_bindings(in_dev)
    simulation.settle()
    assert set(workloads(simulation)) == {"dev 1"}


def moved_from_staging() -> tuple[Simulation, BindingBuilder]:
    """Return an agent that was good in staging when its spec lost that stage, and its binding for what is left."""
    dev, lab = a_stage("dev", "development", lasting="24h"), a_stage("lab", "lab")
    shared = {"name": "staging", "isolation": "Shared"}
    policy = a_policy().declaring({"name": "lab", "class": "development"}, shared)
    for_dev = a_binding().serving("crm", "development", "lab")
    both = for_dev, a_binding("crm-staging").serving("crm", "staging")
    agent = an_agent().with_stages(dev, lab, a_stage("staging"))
    simulation = Simulation(a_snapshot().of(agent).with_policy(policy).with_bindings(*both))
    simulation.run()
    simulation.wait(hours(24))
    simulation.run()
    assert simulation.stage == "staging"
    simulation.apply(an_agent().with_stages(dev, lab))
    return simulation, for_dev


def test_the_status_says_that_the_good_revision_may_not_run_in_a_stage_that_the_spec_has_lost() -> None:
    simulation, for_dev = moved_from_staging()
    simulation.settle()
    assert set(workloads(simulation)) == {"dev 1", "staging 1"}
    simulation.find_bindings(for_dev)
    simulation.settle()
    assert set(workloads(simulation)) == {"dev 1"}
    degraded = simulation.condition(ConditionType.DEGRADED)
    assert (degraded.status, degraded.reason) == ("True", "GoodRevisionLost")
    assert "does not run in stage staging" in degraded.message


def test_a_stage_that_the_spec_has_lost_is_checked_before_the_revision_can_begin_again() -> None:
    """Nothing can be stored, so that the revision is in that stage as before."""
    simulation, for_dev = moved_from_staging()
    simulation.snapshot = replace(simulation.snapshot, may_number="no revision can be stored")
    simulation.find_bindings(for_dev)
    simulation.settle()
    assert set(workloads(simulation)) == set()


@requirement("rollout.kept")
def test_what_serves_before_a_revision_is_good_goes_on_when_another_one_follows() -> None:
    soaking = an_agent().with_stages(*STAGES[:2], STAGES[2] | {"minDuration": "24h"})
    simulation = Simulation(a_snapshot().of(soaking).with_policy(a_policy()).with_bindings(a_binding()))
    pass_stages(simulation)
    assert serves(simulation) == [("everywhere", "all")]
    template = workloads(simulation)["everywhere 1"]["spec"]["template"]

    simulation.apply(soaking.with_template(image="example/agent:2"))
    simulation.run()

    assert serves(simulation) == [("staging", "all"), ("everywhere", "all")]
    assert workloads(simulation)["everywhere 1"]["spec"]["template"] == template
    serving = simulation.condition(ConditionType.SERVING)
    assert (serving.status, serving.message.partition(" in ")[0]) == ("True", f"revision {_first(simulation)}")

    command(simulation, "abort", newest_name(simulation))
    simulation.run()
    assert set(workloads(simulation)) == {"everywhere 1"}
    assert f"was stopped; revision {_first(simulation)} runs" in simulation.condition(ConditionType.DEGRADED).message


def _first(simulation: Simulation) -> str:
    return next(one.revision for one in simulation.status.placements if one.stage == "everywhere")
