from typing import Any

import pytest

from interlock.deployment.children.network import build_closed_policy
from interlock.deployment.names import AGENT_POD, pod_labels
from interlock.deployment.observed.foreign_policies import gives_egress
from tests.requirements import requirement
from tests.support.builders import a_separate_placement

MANAGED = "app.kubernetes.io/managed-by"
PLACEMENT = a_separate_placement()
CLOSED = build_closed_policy(PLACEMENT.agent)
EVERYWHERE: list[Any] = [{}]


def labels(**values: str) -> dict[str, Any]:
    return {"matchLabels": {f"app.kubernetes.io/{key.replace('_', '-')}": value for key, value in values.items()}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


def policy(selector: dict[str, Any], **rules: Any) -> dict[str, Any]:
    return {"metadata": {"name": "own"}, "spec": {"podSelector": selector, **rules}}


AGENTS: dict[str, dict[str, Any]] = {
    "all pods": {},
    "the agent's pods": {"matchLabels": {"interlock.dev/agent": "triage"}},
    "agents by their name": labels(name="interlock-agent", component="agent"),
    "pods of one zone": {"matchLabels": {"topology.kubernetes.io/zone": "a"}},
    "pods of one ReplicaSet": {"matchLabels": {"pod-template-hash": "x"}},
    "pods with a label that a template could set": {"matchLabels": {"example.com/team": "x"}},
    "pods with any value of such a label": expression("example.com/team", "Exists"),
    "a stage": expression("interlock.dev/stage", "In", "production"),
    "any stage": expression("interlock.dev/stage", "Exists"),
    "separate pods": {"matchLabels": {"interlock.dev/isolation": "Separate"}},
    "pods of several tools": expression(MANAGED, "In", "helm", "interlock"),
    "pods of any tool": expression(MANAGED, "Exists"),
    "pods not of another tool": expression(MANAGED, "NotIn", "helm"),
    "pods without a label": expression("app", "DoesNotExist"),
    "pods that are not another's": expression("app", "NotIn", "db"),
    "the pods by all their labels": {"matchLabels": pod_labels(PLACEMENT, AGENT_POD)},
}
OTHERS: dict[str, dict[str, Any]] = {
    "pods of a user's": {"matchLabels": {"app": "own", "interlock.dev/team": "x"}},
    "pods of another tool": {"matchLabels": {MANAGED: "helm"}},
    "parts of another program": labels(part_of="shop"),
    "pods of another name": labels(name="shop"),
    "pods of another component": labels(component="database"),
    "pods with a label of a user's": expression("app", "Exists"),
    "pods with a value of a user's": expression("app", "In", "own"),
    "pods with a label of Kubernetes": {"matchLabels": {"apps.kubernetes.io/pod-index": "0"}},
    "pods of another cluster": expression("k8s.io/cluster", "Exists"),
    "pods not of Interlock": expression(MANAGED, "NotIn", "interlock"),
    "pods of no tool": expression(MANAGED, "DoesNotExist"),
    "pods of tools by name": expression(MANAGED, "In", "helm"),
    "another agent's pods": {"matchLabels": {"interlock.dev/agent": "another"}},
    "another instance": labels(instance="another"),
    "guards": labels(name="interlock-agent", component="guard"),
    "shared pods": {"matchLabels": {"interlock.dev/isolation": "Shared"}},
}


@requirement("protection.networks")
@pytest.mark.parametrize("selector", AGENTS.values(), ids=list(AGENTS))
def test_a_policy_that_can_select_the_agent_gives_it_egress(selector: dict[str, Any]) -> None:
    assert gives_egress(policy(selector, egress=EVERYWHERE), CLOSED)
    assert not gives_egress(policy(selector, ingress=EVERYWHERE, egress=[]), CLOSED)
    assert not gives_egress(policy(selector, policyTypes=["Ingress", "Egress"]), CLOSED)


@requirement("protection.networks")
@pytest.mark.parametrize("selector", OTHERS.values(), ids=list(OTHERS))
def test_a_policy_for_other_pods_gives_the_agent_nothing(selector: dict[str, Any]) -> None:
    assert not gives_egress(policy(selector, egress=EVERYWHERE), CLOSED)


def test_a_policy_that_names_nothing_selects_all_pods() -> None:
    assert gives_egress({"metadata": {"name": "own"}, "spec": {"egress": EVERYWHERE}}, CLOSED)
    null = {"matchLabels": None, "matchExpressions": None}
    assert gives_egress(policy(null, egress=EVERYWHERE), CLOSED)
    assert not gives_egress({"metadata": {"name": "own"}}, CLOSED)
