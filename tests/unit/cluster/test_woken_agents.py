"""Which change of an AgentPolicy or MCPBinding wakes its Agents: every one on which their reconcile depends."""

import pytest

from interlock.cluster.resource_cache import ResourceCache
from interlock.reconcile.agent import reconcile
from interlock.runtime.router import agents_with_cidrs
from tests.requirements import requirement
from tests.support.builders import (
    NOW,
    BindingBuilder,
    PolicyBuilder,
    a_binding,
    a_policy,
    a_snapshot,
    an_agent,
)

TRIAGE = ("agents", "triage")
BINDINGS = [
    a_binding(),
    a_binding().unverified(),
    a_binding().verified_for(),
    a_binding().waiting_for_review(),
    a_binding().being_deleted("example.com/keep"),
    a_binding().serving("crm", "production"),
    a_binding().serving("mail", "development"),
    a_binding().with_tools(),
    a_binding().permitting(read=["contacts"]),
    a_binding().showing_descriptions(),
    a_binding().over_http(),
]
POLICIES = [
    a_policy(),
    a_policy().giving_nothing(),
    a_policy().being_deleted("example.com/keep"),
    a_policy().isolating(development="Separate"),
    a_policy().recording("Redacted"),
]


@requirement("egress.nodes")
@pytest.mark.parametrize(
    ("policy", "woken"),
    [
        (a_policy(), set()),
        (a_policy().opening({"to": [{"podSelector": {"matchLabels": {"app": "pg"}}}]}), set()),
        (a_policy().opening({}), {TRIAGE}),
        (a_policy("another").opening({}), set()),
    ],
)
def test_nodes_concern_the_agents_whose_policies_open_addresses(policy: PolicyBuilder, woken: set[object]) -> None:
    resources = cached()
    resources.put_policy(policy.at_version(2).to_kubernetes())

    assert agents_with_cidrs(resources) == woken


def cached() -> ResourceCache:
    resources = ResourceCache()
    resources.put_agent(an_agent().to_kubernetes())
    return resources


@requirement("operator.woken")
@pytest.mark.parametrize("after", range(len(BINDINGS)))
@pytest.mark.parametrize("before", range(len(BINDINGS)))
def test_a_binding_wakes_its_agents_by_every_change_of_what_they_depend_on(before: int, after: int) -> None:
    def wanted(binding: BindingBuilder) -> object:
        return reconcile(a_snapshot().with_bindings(binding).build(), NOW)

    known, resources = [BINDINGS[before], BINDINGS[after]], cached()
    resources.put_binding(known[0].at_version(2).to_kubernetes())
    woken = resources.put_binding(known[1].at_version(3).to_kubernetes())

    assert woken == {TRIAGE} or wanted(known[0]) == wanted(known[1])


@requirement("operator.woken")
@pytest.mark.parametrize("after", range(len(POLICIES)))
@pytest.mark.parametrize("before", range(len(POLICIES)))
def test_a_policy_wakes_its_agents_by_every_change_of_what_they_depend_on(before: int, after: int) -> None:
    def wanted(policy: PolicyBuilder) -> object:
        return reconcile(a_snapshot().with_policy(policy).build(), NOW)

    known, resources = [POLICIES[before], POLICIES[after]], cached()
    resources.put_policy(known[0].at_version(2).to_kubernetes())
    woken = resources.put_policy(known[1].at_version(3).to_kubernetes())

    assert woken == {TRIAGE} or wanted(known[0]) == wanted(known[1])
