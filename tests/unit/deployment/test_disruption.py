"""PodDisruptionBudgets: one for each Deployment with more than one pod."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from interlock.deployment.children.disruption import build_disruption_budgets
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.names import key_of
from interlock.deployment.ownership import applied_object
from interlock.deployment.plan import LiveChild, desired_children, plan_children
from tests.requirements import requirement
from tests.support.builders import a_placement, a_separate_placement

BUDGET = "PodDisruptionBudget"


@requirement("pods.disruption")
@pytest.mark.parametrize("place", [a_placement, a_separate_placement])
def test_each_deployment_of_several_pods_has_one_that_selects_exactly_its_pods(place: Any) -> None:
    placement = replace(place(), replicas=2)
    found = {one["metadata"]["name"]: one["spec"] for one in build_disruption_budgets(placement)}

    workloads = {one["metadata"]["name"]: one["spec"]["selector"] for one in build_workloads(placement)}
    assert {name: spec["selector"] for name, spec in found.items()} == workloads
    for spec in found.values():
        assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


@requirement("pods.disruption")
@pytest.mark.parametrize("replicas", [0, 1])
def test_one_pod_alone_and_an_agent_without_pods_have_none_and_an_earlier_one_is_deleted(replicas: int) -> None:
    placement = a_placement()
    before = desired_children(replace(placement, replicas=2))
    live = {key_of(one): LiveChild(one) for one in before}
    after = desired_children(replace(placement, replicas=replicas))

    assert not [one for one in after if one["kind"] == BUDGET]
    plan = plan_children(after, live, {key_of(one): applied_object(one) for one in before})
    assert [key.kind for key in plan.prune] == [BUDGET]


@requirement("pods.disruption")
def test_one_that_others_changed_is_repaired() -> None:
    desired = desired_children(replace(a_placement(), replicas=2))
    applied = {key_of(one): applied_object(one) for one in desired}
    live = {key_of(one): LiveChild(deepcopy(one)) for one in desired}
    (changed,) = (one.manifest for key, one in live.items() if key.kind == BUDGET)
    changed["spec"]["maxUnavailable"] = 0

    plan = plan_children(desired, live, applied)

    assert [one["kind"] for one in plan.prepare] == [BUDGET]
    assert not plan.workloads
