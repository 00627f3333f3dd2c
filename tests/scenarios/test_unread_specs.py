"""Specs that the API server takes and the operator cannot read: what runs goes on, and nothing new begins."""

from dataclasses import replace
from typing import Any

import pytest

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.status import ConditionType
from interlock.cluster.object_parser import parse_agent, parse_binding, parse_policy
from interlock.deployment.names import bundle_text
from interlock.deployment.plan import WORKLOAD
from interlock.reconcile.snapshot import Unreadable
from interlock_contract.bundle import parse_bundle
from tests.requirements import requirement
from tests.support.builders import (
    AgentBuilder,
    BindingBuilder,
    PolicyBuilder,
    a_binding,
    a_policy,
    a_snapshot,
    an_agent,
    hours,
)
from tests.support.pod_templates import ALL_FEATURES
from tests.support.simulation import Simulation

SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
TWICE = [SPREAD, SPREAD | {"maxSkew": 2}]
NO_PREFIX = [{"prefix": "a=b", "configMapRef": {"name": "settings"}}]
AGENT = an_agent().with_template(nodeSelector={"pool": "agents"})
POLICY = a_policy().with_pod_template(allow=ALL_FEATURES)


def settle(simulation: Simulation) -> None:
    for _ in range(3):
        simulation.run()
        simulation.wait(hours(1))
    simulation.run()


@pytest.fixture
def simulation() -> Simulation:
    """Return an agent that runs, and was given other places to run since its revision began."""
    simulation = Simulation(a_snapshot().of(AGENT).with_policy(POLICY).with_bindings(a_binding()))
    settle(simulation)
    simulation.apply(AGENT.with_template(topologySpreadConstraints=[SPREAD]))
    settle(simulation)
    assert pods(simulation)[0]["topologySpreadConstraints"][0]["topologyKey"] == "zone"
    return simulation


def pods(simulation: Simulation) -> list[dict[str, Any]]:
    """Return the specs of the pods that Deployments ask for."""
    children = simulation.snapshot.children.items()
    found = [child.manifest["spec"] for key, child in children if key.kind == WORKLOAD]
    return [dict(one["template"]["spec"]) for one in found if one["replicas"] > 0]


def revisions(simulation: Simulation) -> int:
    rollout = simulation.status.rollout
    assert rollout is not None
    return rollout.last_number


def found_unread(simulation: Simulation, found: object) -> Any:
    """Let the snapshot have an object that cannot be read as a whole, and return what can be read of it."""
    assert isinstance(found, Unreadable)
    others = tuple(one for one in simulation.snapshot.unreadable if one.kind != found.kind)
    simulation.snapshot = replace(simulation.snapshot, unreadable=(*others, found))
    return found.rest


def apply_unread(simulation: Simulation, agent: AgentBuilder) -> None:
    rest = found_unread(simulation, parse_agent(agent.to_kubernetes()))
    assert isinstance(rest, Agent)
    simulation.apply(AgentBuilder(rest.to_kubernetes()))


def find_unread_policy(simulation: Simulation, policy: PolicyBuilder) -> None:
    rest = found_unread(simulation, parse_policy(policy.to_kubernetes()))
    assert isinstance(rest, AgentPolicy)
    simulation.find_policy(PolicyBuilder(rest.to_kubernetes()))


def find_unread_binding(simulation: Simulation, binding: BindingBuilder) -> None:
    rest = found_unread(simulation, parse_binding(binding.to_kubernetes()))
    assert isinstance(rest, MCPBinding)
    simulation.find_bindings(BindingBuilder(rest.to_kubernetes()))


@requirement("operator.unreadable")
@pytest.mark.parametrize("members", [{"topologySpreadConstraints": TWICE}, {"envFrom": NO_PREFIX}], ids=str)
def test_an_agent_whose_template_cannot_be_read_runs_on_as_it_is(
    simulation: Simulation, members: dict[str, Any]
) -> None:
    before, number = pods(simulation), revisions(simulation)
    scheduling = {"topologySpreadConstraints": [SPREAD]} | members
    apply_unread(simulation, AGENT.with_template(image="example/agent:2", **scheduling))
    settle(simulation)
    assert pods(simulation) == before
    assert revisions(simulation) == number
    governed = simulation.condition(ConditionType.GOVERNED)
    assert (governed.status, governed.reason) == ("False", "SpecInvalid")
    assert f"spec.template.{next(iter(members))}" in governed.message
    assert "fix it; revisions that run go on, and none begins" in governed.message
    assert simulation.condition(ConditionType.SERVING).status == "True"

    simulation.snapshot = replace(simulation.snapshot, unreadable=())
    simulation.apply(AGENT.with_template(image="example/agent:2"))
    settle(simulation)
    assert revisions(simulation) == number + 1
    assert "example/agent:2" in str(pods(simulation))


@requirement("operator.unreadable")
def test_a_new_agent_whose_template_cannot_be_read_has_no_pods() -> None:
    simulation = Simulation(a_snapshot().with_policy(POLICY))
    apply_unread(simulation, an_agent().with_template(envFrom=NO_PREFIX))
    settle(simulation)
    assert pods(simulation) == []
    assert simulation.condition(ConditionType.READY).reason == "SpecInvalid"


@requirement("operator.unreadable")
def test_a_kill_ends_the_pods_of_an_agent_whose_template_cannot_be_read(simulation: Simulation) -> None:
    apply_unread(simulation, AGENT.with_template(topologySpreadConstraints=TWICE))
    settle(simulation)
    assert pods(simulation) != []
    simulation.kill()
    settle(simulation)
    assert pods(simulation) == []


@requirement("operator.unreadable")
def test_the_rest_of_a_spec_holds_as_it_is_today(simulation: Simulation) -> None:
    broken = AGENT.with_template(topologySpreadConstraints=TWICE)
    apply_unread(simulation, broken.with_replicas(0))
    settle(simulation)
    assert pods(simulation) == []
    apply_unread(simulation, broken.with_replicas(1))
    settle(simulation)
    assert len(pods(simulation)) == 1
    apply_unread(simulation, broken.without_owner())
    settle(simulation)
    assert pods(simulation) == [], "no one answers for it"


def test_what_a_template_says_no_longer_about_where_pods_run_is_gone(simulation: Simulation) -> None:
    assert pods(simulation)[0]["nodeSelector"] == {"pool": "agents"}
    simulation.apply(an_agent())
    settle(simulation)
    assert {"nodeSelector", "topologySpreadConstraints"} & pods(simulation)[0].keys() == set()
    assert revisions(simulation) == 1, "no revision has them"


@requirement("operator.unreadable")
def test_scheduling_that_the_policy_withdraws_is_kept_no_longer(simulation: Simulation) -> None:
    apply_unread(simulation, an_agent().with_template(topologySpreadConstraints=TWICE))
    settle(simulation)
    assert all("topologySpreadConstraints" in one for one in pods(simulation))
    allowed = [one for one in ALL_FEATURES if one != "Scheduling"]
    simulation.find_policy(POLICY.with_pod_template(allow=allowed))
    settle(simulation)
    assert pods(simulation) != []
    assert not any("topologySpreadConstraints" in one for one in pods(simulation))


@requirement("operator.unreadable")
def test_no_pod_starts_while_no_one_knows_where_it_must_run(simulation: Simulation) -> None:
    simulation.apply(AGENT.with_template(image="example/agent:2"))
    settle(simulation)
    apply_unread(simulation, AGENT.with_template(image="example/agent:2", topologySpreadConstraints=TWICE))
    children = {key: child for key, child in simulation.snapshot.children.items() if key.kind != WORKLOAD}
    simulation.snapshot = replace(simulation.snapshot, children=children)
    settle(simulation)
    assert pods(simulation) == []


@requirement("operator.unreadable")
@pytest.mark.parametrize("kind", ["policy", "binding"])
def test_what_others_write_and_cannot_be_read_begins_nothing_and_ends_nothing(
    simulation: Simulation, kind: str
) -> None:
    before, number = pods(simulation), revisions(simulation)
    if kind == "policy":
        find_unread_policy(simulation, POLICY.with_resources(default={"memory": 0}))
    else:
        find_unread_binding(simulation, a_binding().with_server(envFrom=NO_PREFIX))
    simulation.apply(AGENT.with_template(topologySpreadConstraints=[SPREAD], image="example/agent:2"))
    settle(simulation)
    assert pods(simulation) == before
    assert revisions(simulation) == number
    layer, reason = {
        "policy": (ConditionType.GOVERNED, "PolicyInvalid"),
        "binding": (ConditionType.ACTIONS_BOUND, "BindingInvalid"),
    }[kind]
    assert simulation.condition(layer).reason == reason
    assert "revisions that run go on, and none begins" in simulation.condition(layer).message


UNREAD_RULE = {
    "name": "delete_contact",
    "operation": "delete",
    "resource": "contacts",
    "arguments": [{"pointer": "/a", "maximum": -1}],
}


@requirement("operator.unreadable")
def test_a_tool_whose_row_cannot_be_read_is_denied_and_the_others_are_called(simulation: Simulation) -> None:
    before, number = pods(simulation), revisions(simulation)
    known = a_binding().to_kubernetes()["spec"]["tools"]
    find_unread_binding(simulation, a_binding().with_tools(UNREAD_RULE, *known))
    settle(simulation)
    assert pods(simulation) == before
    assert revisions(simulation) == number
    bound = simulation.condition(ConditionType.ACTIONS_BOUND)
    assert (bound.status, bound.reason) == ("False", "BindingInvalid")
    assert bound.message.endswith("and none begins; calls under tools[delete_contact] are denied")
    assert simulation.condition(ConditionType.SERVING).status == "True"
    (text,) = filter(None, (bundle_text(one.manifest) for one in simulation.snapshot.children.values()))
    (source,) = parse_bundle(text).sources
    assert {tool.name for tool in source.tools} == {one["name"] for one in known}, "it was never reviewed"

    broken = [one | {"costPerCall": "much"} for one in known]
    find_unread_binding(simulation, a_binding().with_tools(*broken))
    settle(simulation)
    assert pods(simulation) == before
    (text,) = filter(None, (bundle_text(one.manifest) for one in simulation.snapshot.children.values()))
    (source,) = parse_bundle(text).sources
    assert all(tool.resource not in grant.delete for tool in source.tools for grant in source.grants)
    assert {tool.operation for tool in source.tools} == {"delete"}

    simulation.snapshot = replace(simulation.snapshot, unreadable=())
    simulation.find_bindings(a_binding())
    settle(simulation)
    assert revisions(simulation) == number


@requirement("operator.unreadable")
def test_amounts_of_guards_that_cannot_be_read_stay_as_they_are_and_no_other_pod_starts(
    simulation: Simulation,
) -> None:
    stated = POLICY.with_pod_template(allow=ALL_FEATURES, guardResources={"limits": {"cpu": "2"}})
    simulation.find_policy(stated)
    settle(simulation)
    before = pods(simulation)
    assert "'limits': {'cpu': '2'" in str(before)
    find_unread_policy(simulation, POLICY.with_pod_template(allow=ALL_FEATURES, guardResources={"limits": {"cpu": 0}}))
    settle(simulation)
    assert pods(simulation) == before

    children = {key: child for key, child in simulation.snapshot.children.items() if key.kind != WORKLOAD}
    simulation.snapshot = replace(simulation.snapshot, children=children)
    settle(simulation)
    assert pods(simulation) == []


@requirement("operator.unreadable")
def test_a_binding_of_another_environment_that_cannot_be_read_holds_nothing(simulation: Simulation) -> None:
    number = revisions(simulation)
    other = a_binding("other").serving("crm", "staging").with_server(envFrom=NO_PREFIX)
    rest = found_unread(simulation, parse_binding(other.to_kubernetes()))
    simulation.find_bindings(a_binding(), BindingBuilder(rest.to_kubernetes()))
    simulation.apply(AGENT.with_template(image="example/agent:2"))
    settle(simulation)
    assert revisions(simulation) == number + 1
    assert simulation.condition(ConditionType.ACTIONS_BOUND).status == "True"


@requirement("operator.unreadable")
def test_a_policy_in_which_a_budget_cannot_be_read_ends_the_pods(simulation: Simulation) -> None:
    broken = POLICY.with_environments({"name": "development", "dailyBudget": "much"})
    found = parse_policy(broken.to_kubernetes())
    assert isinstance(found, Unreadable)
    assert found.rest is None
    simulation.snapshot = replace(simulation.snapshot, unreadable=(found,), policy=None)
    settle(simulation)
    assert pods(simulation) == []
    assert simulation.condition(ConditionType.GOVERNED).message.endswith("fix it or delete it")
