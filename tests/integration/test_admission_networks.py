"""Who may open the network of agents with NetworkPolicies of their own, on a real API server."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.integration.attacks import DRY
from tests.integration.callers import MERGE, Caller, Json, Reply, path_of
from tests.integration.kubectl import Cluster
from tests.integration.protected import Protected, protect
from tests.integration.test_admission_protection import installed
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

POLICIES = ("managed-objects", "networks-reserved")
IN_FORCE_SECONDS = 15.0
GROUP = "networking.k8s.io"
MANAGED = "app.kubernetes.io/managed-by"
EVERYWHERE: Json = {"egress": [{}]}
CALLERS: Json = {"ingress": [{}]}


def named(component: str) -> Json:
    return {
        "matchLabels": {
            f"app.kubernetes.io/{key}": value
            for key, value in zip(("name", "component"), component.split(), strict=True)
        }
    }


def expression(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


SELECTING: dict[str, Json] = {
    "all pods": {},
    "an agent's pods": {"matchLabels": {"interlock.dev/agent": "triage"}},
    "pods of Interlock": {"matchLabels": {MANAGED: "interlock", "app.kubernetes.io/part-of": "interlock"}},
    "guards by their names": named("interlock-agent guard"),
    "notifiers by their names": named("interlock-notifier notifier"),
    "verifications by their names": named("interlock-verification verification"),
    "pods of one zone": {"matchLabels": {"topology.kubernetes.io/zone": "a"}},
    "pods of one ReplicaSet": {"matchLabels": {"pod-template-hash": "x"}},
    "pods of one Job": {"matchLabels": {"job-name": "x", "controller-uid": "x"}},
    "pods of a controller": {"matchLabels": {"controller-uid": "x"}},
    "agents by their names": named("interlock-agent agent"),
    "pods of old Jobs": expression("job-name", "Exists"),
    "pods of Jobs": expression("batch.kubernetes.io/job-name", "Exists"),
    "pods without a label": expression("app", "DoesNotExist"),
    "pods that are not another's": expression("app", "NotIn", "db"),
    "pods of several tools": expression(MANAGED, "In", "helm", "interlock"),
    "pods of any tool": expression(MANAGED, "Exists"),
    "pods not of another tool": expression(MANAGED, "NotIn", "helm"),
    "pods with a label of a template": {"matchLabels": {"example.com/team": "x"}},
    "pods with any value of a label of a template": expression("example.com/team", "Exists"),
    "pods by more requirements than are read": {
        "matchExpressions": [{"key": "app", "operator": "In", "values": ["own"]}] * 33
    },
}
OTHERS: dict[str, Json] = {
    "pods of a user's": {"matchLabels": {"app": "own", "interlock.dev/team": "x"}},
    "pods of another tool": {"matchLabels": {MANAGED: "helm"}},
    "parts of another program": {"matchLabels": {"app.kubernetes.io/part-of": "shop"}},
    "pods of another name": {"matchLabels": {"app.kubernetes.io/name": "shop"}},
    "pods of another component": {"matchLabels": {"app.kubernetes.io/component": "database"}},
    "pods with a label of a user's": expression("app", "Exists"),
    "pods with a value of a user's": expression("app", "In", "own"),
    "pods by more labels than ours have": {"matchLabels": {f"interlock.dev/{number}": "x" for number in range(33)}},
    "pods with a label of Kubernetes": {"matchLabels": {"apps.kubernetes.io/pod-index": "0"}},
    "pods with any value of a label of Kubernetes": expression("k8s.io/cluster", "Exists"),
    "pods not of Interlock": expression(MANAGED, "NotIn", "interlock"),
    "pods of no tool": expression(MANAGED, "DoesNotExist"),
    "pods of tools by name": expression(MANAGED, "In", "helm"),
}


def network_policy(selector: Json, rules: Json) -> Json:
    metadata = {"name": f"own-{uuid4().hex[:8]}"}
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": {"podSelector": selector, **rules},
    }


def create(at: Protected, caller: Caller, selector: Json, rules: Json) -> Reply:
    return caller.send("POST", at.path("networkpolicies", GROUP) + DRY, network_policy(selector, rules))


@pytest.fixture(scope="module")
def protected(kwok_cluster: Cluster) -> Iterator[Protected]:
    with installed(kwok_cluster, POLICIES) as admin:
        at = protect(admin)
        bounds.eventually(
            lambda: create(at, at.editor, {}, EVERYWHERE).was_denied_by("networks-reserved"),
            "in force",
            IN_FORCE_SECONDS,
        )
        bounds.eventually(
            lambda: create(at, at.owner, {}, EVERYWHERE).status == 201, "the role is known", IN_FORCE_SECONDS
        )
        yield at
        admin.send("DELETE", f"/api/v1/namespaces/{at.namespace}")


@requirement("protection.networks")
@pytest.mark.parametrize("rules", [EVERYWHERE, CALLERS], ids=["egress", "ingress"])
@pytest.mark.parametrize("selector", SELECTING.values(), ids=list(SELECTING))
def test_an_editor_does_not_open_the_network_of_agents(protected: Protected, selector: Json, rules: Json) -> None:
    reply = create(protected, protected.editor, selector, rules)
    assert reply.was_denied_by("networks-reserved"), reply.text
    assert "operator: NotIn, values: [interlock]" in reply.text
    assert create(protected, protected.owner, selector, rules).status == 201
    assert create(protected, protected.editor, selector, {"policyTypes": ["Ingress", "Egress"]}).status == 201


@requirement("protection.networks")
@pytest.mark.parametrize("selector", OTHERS.values(), ids=list(OTHERS))
def test_an_editor_opens_the_network_of_other_pods(protected: Protected, selector: Json) -> None:
    assert create(protected, protected.editor, selector, EVERYWHERE).status == 201


@requirement("protection.networks")
def test_the_operator_opens_what_agents_need(protected: Protected) -> None:
    at, manifest = protected, network_policy({}, EVERYWHERE)
    manifest["metadata"]["labels"] = {MANAGED: "interlock"}
    operator = at.admin.with_token(at.admin.token_of("interlock-system", "interlock"))
    assert operator.send("POST", at.path("networkpolicies", GROUP) + DRY, manifest).status == 201


@requirement("protection.networks")
def test_a_policy_from_before_changes_only_to_other_pods(protected: Protected) -> None:
    at, manifest = protected, network_policy({}, EVERYWHERE)
    at.admin.must("POST", at.path("networkpolicies", GROUP), manifest)
    path = path_of(manifest, at.namespace) + DRY

    def patch(body: Json) -> Reply:
        return at.editor.send("PATCH", path, body, MERGE)

    assert patch({"metadata": {"labels": {"team": "x"}}}).status == 200
    assert patch({"spec": {"ingress": [{}]}}).was_denied_by("networks-reserved")
    assert patch({"spec": {"podSelector": {"matchLabels": {"app": "own"}}}}).status == 200
    at.admin.must("DELETE", path_of(manifest, at.namespace))
