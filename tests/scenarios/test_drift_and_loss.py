"""Children that are changed, deleted or added to, and dependencies of an agent that are deleted."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from interlock.api.refusals import APPLY_GRACE
from interlock.api.status import AgentReason, ConditionType
from interlock.deployment.names import ChildKey, key_of
from interlock.deployment.plan import LiveChild
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, a_snapshot, an_agent, seconds
from tests.support.simulation import Simulation, written_by

KINDS = ("Deployment", "Service", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "ConfigMap")


def a_ready_agent() -> Simulation:
    simulation = Simulation(a_snapshot())
    simulation.run()
    assert simulation.condition(ConditionType.READY).status == "True"
    return simulation


def edited(simulation: Simulation, kind: str, edit: Callable[[Any], object]) -> LiveChild:
    live = copy.deepcopy(next(one for key, one in simulation.snapshot.children.items() if key.kind == kind).manifest)
    edit(live)
    return LiveChild(live)


@requirement("deployment.drift")
@pytest.mark.parametrize("kind", KINDS)
def test_a_deleted_child_comes_back_and_nothing_else_is_written(kind: str) -> None:
    simulation = a_ready_agent()
    before = set(simulation.snapshot.children)

    simulation.remove(kind)
    plan = simulation.peek().plan

    assert {manifest["kind"] for manifest in written_by(plan)} == {kind}
    simulation.run()
    assert set(simulation.snapshot.children) == before
    assert simulation.condition(ConditionType.READY).status == "True"


@requirement("deployment.additions")
@pytest.mark.parametrize("kind", KINDS)
def test_a_child_that_others_added_to_is_written_again(kind: str) -> None:
    simulation = a_ready_agent()
    key = next(known for known in simulation.snapshot.children if known.kind == kind)

    simulation.edit(LiveChild({**simulation.snapshot.children[key].manifest, "more": "x"}))

    assert [key_of(manifest) for manifest in written_by(simulation.peek().plan)] == [key]


@pytest.mark.parametrize(
    ("kind", "edit"),
    [
        ("Deployment", lambda live: live["spec"].update(replicas=7)),
        ("Role", lambda live: live["rules"][0]["verbs"].append("delete")),
        ("NetworkPolicy", lambda live: live["spec"]["ingress"].append({})),
        ("ServiceAccount", lambda live: live.update(automountServiceAccountToken=True)),
    ],
)
def test_a_changed_child_is_healed_and_the_change_is_gone(kind: str, edit: Callable[[Any], object]) -> None:
    simulation = a_ready_agent()
    healthy = simulation.snapshot.children

    simulation.edit(edited(simulation, kind, edit))
    simulation.run()

    assert {key: child.manifest.get("spec") for key, child in simulation.snapshot.children.items()} == {
        key: child.manifest.get("spec") for key, child in healthy.items()
    }
    assert simulation.peek().plan.is_empty


def test_an_agent_whose_workload_is_being_healed_is_not_called_ready() -> None:
    simulation = a_ready_agent()

    def replace_image(live: Any) -> None:
        live["spec"]["template"]["spec"]["containers"][0]["image"] = "example/other:1"

    simulation.edit(edited(simulation, "Deployment", replace_image))
    simulation.reconcile_once()

    assert simulation.condition(ConditionType.READY).reason == "PodsNotReady"
    simulation.run()
    assert simulation.condition(ConditionType.READY).status == "True"


def test_an_unknown_object_with_the_agents_label_is_pruned() -> None:
    simulation = a_ready_agent()
    stray = {"kind": "ConfigMap", "metadata": {"name": "stray", "namespace": "agents", "generation": 1}, "data": {}}

    simulation.edit(LiveChild(stray))

    assert simulation.peek().plan.prune == (ChildKey("ConfigMap", "stray"),)


@requirement("governance.pods-end")
@pytest.mark.parametrize(
    ("take_away", "give_back", "reason"),
    [
        (
            lambda one: one.find_policy(None),
            lambda one: one.find_policy(a_policy()),
            "PolicyNotFound",
        ),
        (
            lambda one: one.find_policy(a_policy().giving_nothing()),
            lambda one: one.find_policy(a_policy()),
            "DataAccessMissing",
        ),
        (
            lambda one: one.find_bindings(),
            lambda one: one.find_bindings(a_binding()),
            "BindingMissing",
        ),
        (
            lambda one: one.find_bindings(a_binding().serving("crm", "production")),
            lambda one: one.find_bindings(a_binding()),
            "BindingMissing",
        ),
        (
            lambda one: one.apply(an_agent().without_owner()),
            lambda one: one.apply(an_agent()),
            "OwnerMissing",
        ),
    ],
    ids=["policy", "row", "binding", "environment", "owner"],
)
def test_children_go_with_what_they_stood_on_and_come_back_with_it(
    take_away: Callable[[Simulation], None], give_back: Callable[[Simulation], None], reason: str
) -> None:
    simulation = a_ready_agent()

    take_away(simulation)
    plan = simulation.peek().plan
    assert plan.prune[0].kind == "Deployment"
    assert {key for key in plan.prune if key.kind != "Secret"} == set(simulation.snapshot.children)
    assert [key.kind for key in plan.prune].count("Secret") == 1, "which the operator does not see"
    simulation.run()
    assert simulation.snapshot.children == {}
    assert simulation.condition(ConditionType.READY).reason == reason
    simulation.wait(APPLY_GRACE)
    simulation.run()
    assert simulation.condition(ConditionType.STALLED).status == "True"

    give_back(simulation)
    simulation.run()
    assert simulation.condition(ConditionType.READY).status == "True"
    assert simulation.condition(ConditionType.STALLED).status == "False"


def test_a_matrix_that_gives_less_reaches_the_bundle_at_once_and_no_pod_is_restarted() -> None:
    simulation = a_ready_agent()

    simulation.find_policy(a_policy().giving_nothing().giving("triage", "crm", read=["contacts"]))
    (pending,) = written_by(simulation.peek().plan)

    assert "bundle.json" in pending["data"]
    assert "opportunities" not in pending["data"]["bundle.json"].split('"Matrix"')[1]


def test_a_changed_server_begins_a_revision_next_to_the_one_that_serves() -> None:
    simulation = a_ready_agent()
    before = simulation.child("Deployment")

    simulation.find_bindings(a_binding().with_server(image="example/crm:2"))
    pending = written_by(simulation.peek().plan)

    [workload] = [one for one in pending if one["kind"] == "Deployment"]
    assert workload["metadata"]["name"] != before["metadata"]["name"]
    simulation.run()
    assert simulation.child("Deployment")["metadata"]["name"] == workload["metadata"]["name"]


@requirement("status.conditions")
def test_a_condition_changes_its_time_only_with_its_status() -> None:
    simulation = a_ready_agent()
    governed = simulation.condition(ConditionType.GOVERNED).last_transition_time

    simulation.wait(seconds(60))
    simulation.find_policy(None)
    simulation.run()
    lost = simulation.condition(ConditionType.GOVERNED).last_transition_time
    assert lost == governed + seconds(60)
    simulation.wait(seconds(60))
    simulation.apply(an_agent().without_owner())  # another reason, the same status
    simulation.run()

    condition = simulation.condition(ConditionType.GOVERNED)
    assert (condition.reason, condition.last_transition_time) == ("OwnerMissing", lost)
    assert condition.observed_generation == 2


@requirement("status.events")
def test_each_change_of_a_layer_and_of_ready_is_reported_once() -> None:
    simulation = a_ready_agent()
    simulation.events.clear()

    simulation.find_policy(None)
    simulation.run()
    simulation.run()
    simulation.find_policy(a_policy())
    simulation.run()
    simulation.run()

    assert [(note.type, note.reason) for note in simulation.events] == [
        ("Warning", "PolicyNotFound"),
        ("Warning", "PolicyNotFound"),
        ("Normal", "GovernanceSatisfied"),
        ("Warning", "PodsNotReady"),
        ("Normal", "PodsReady"),
    ]
    assert [note.message.split(":")[0] for note in simulation.events] == [
        "Governed=False",
        "Ready=False",
        "Governed=True",
        "Ready=False",
        "Ready=True",
    ]


@requirement("governance.selector", "governance.pods-end")
def test_an_agent_that_loses_the_label_of_its_only_row_loses_its_children_and_gets_them_back_with_it() -> None:
    by_label = a_policy().giving_nothing().giving_labelled({"team": "support"}, "crm", read=["contacts"])
    simulation = Simulation(a_snapshot().of(an_agent().labelled(team="support")).with_policy(by_label))
    simulation.run()
    assert simulation.condition(ConditionType.READY).status == "True"

    simulation.apply(an_agent().labelled(team="sales"))
    simulation.run()
    assert simulation.condition(ConditionType.GOVERNED).reason == AgentReason.DATA_ACCESS_MISSING
    assert simulation.snapshot.children == {}

    simulation.apply(an_agent().labelled(team="support"))
    simulation.run()
    assert simulation.condition(ConditionType.READY).status == "True"


def test_a_policy_that_is_away_for_a_while_costs_no_revision_that_a_rollback_can_name() -> None:
    policy = a_policy().requiring(history={"count": 20})
    simulation = Simulation(a_snapshot().with_policy(policy))
    for number in range(12):
        simulation.apply(an_agent().with_template(image=f"example/agent:{number}"))
        simulation.run()
    assert simulation.status.rollout is not None
    passed = simulation.status.rollout.passed
    assert len(passed) == 12

    simulation.find_policy(None)
    simulation.run()
    simulation.find_policy(policy)
    simulation.run()
    assert simulation.status.rollout is not None
    assert simulation.status.rollout.passed == passed
