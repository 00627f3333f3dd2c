"""An AgentPolicy that was stored while environments were a map keeps its isolation on a real API server."""

import json
from collections.abc import Iterator

import pytest

from interlock.api.policy import AgentPolicy
from tests.integration.kubectl import AGENT, POLICY, ROOT, Cluster, Kubectl, edited, eventually
from tests.integration.operator.api import Json
from tests.requirements import requirement

pytestmark = pytest.mark.api

FORMER = {"development": {"isolation": "Separate"}, "staging": {"isolation": "Shared"}, "production": {}}
CRD = "crd/agentpolicies.interlock.dev"
REWRITTEN = [
    {"name": "development", "isolation": "Separate", "mode": "Enforce"},
    {"name": "staging", "isolation": "Shared", "mode": "Enforce"},
]


def to_a_map(crd: Json) -> list[Json]:
    """Return the JSON patch that makes the CRD what it was before environments were a list."""
    one = {"type": "object", "properties": {"isolation": {"type": "string", "enum": ["Shared", "Separate"]}}}
    environments = {"type": "object", "properties": dict.fromkeys(FORMER, one)}
    path = "/spec/versions/{}/schema/openAPIV3Schema/properties/spec/properties/environments"
    versions = range(len(crd["spec"]["versions"]))
    return [{"op": "replace", "path": path.format(number), "value": environments} for number in versions]


@pytest.fixture(scope="module")
def kubectl(kwok_cluster: Cluster) -> Iterator[Kubectl]:
    client = Kubectl(kwok_cluster)
    client.install_crds()
    file = str(ROOT / "manifests/admission/agents-create.yaml")
    client.must("apply", "--server-side", "--force-conflicts", "-f", file)
    yield client
    client.must("delete", "--ignore-not-found", "-f", file)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace with a policy that was stored under the former schema."""
    with kubectl.proxied() as server, server.namespace() as name:
        former = edited(POLICY, spec__environments=FORMER)
        crd = json.loads(kubectl.must("get", CRD, "-o", "json").text)
        try:
            kubectl.must("patch", CRD, "--type=json", "-p", json.dumps(to_a_map(crd)))
            eventually(lambda: server.try_create(former, name).ok, "the former schema is in force")
            assert server.create(former, name).ok
        finally:
            kubectl.install_crds()
        other = edited(former, metadata__name="other")
        refusal = 'must be of type array: "object"'
        eventually(lambda: refusal in server.try_create(other, name).text, "a new map is refused")
        yield name


def read(kubectl: Kubectl, namespace: str) -> AgentPolicy:
    return AgentPolicy.model_validate_json(kubectl.must("get", "agtpol", "support", "-n", namespace, "-o", "json").text)


def patch(kubectl: Kubectl, namespace: str, body: Json, *options: str) -> None:
    text = json.dumps(body)
    kubectl.must("patch", "agtpol", "support", "-n", namespace, "--type=merge", "-p", text, *options)


@requirement("budget.stored-policies")
def test_a_policy_that_was_stored_with_a_map_keeps_its_isolation(kubectl: Kubectl, namespace: str) -> None:
    def isolations() -> list[str]:
        spec = read(kubectl, namespace).spec
        return [spec.isolation_in(name) for name in FORMER]

    assert isolations() == ["Separate", "Shared", "Separate"]
    patch(kubectl, namespace, {"status": {"agents": 1}}, "--subresource=status")  # as the operator writes it
    kubectl.must("annotate", "agtpol", "support", "-n", namespace, "example.com/note=x")
    patch(kubectl, namespace, {"spec": {"rollout": {"minStaging": "1h"}}})
    assert isolations() == ["Separate", "Shared", "Separate"]

    patch(kubectl, namespace, {"spec": {"environments": REWRITTEN}})
    assert isolations() == ["Separate", "Shared", "Separate"]
    found = json.loads(kubectl.must("get", "agtpol", "support", "-n", namespace, "-o", "json").text)
    assert found["spec"]["environments"] == REWRITTEN


@requirement("budget.stored-policies")
def test_agents_are_admitted_under_a_policy_that_was_stored_with_a_map(kubectl: Kubectl, namespace: str) -> None:
    unknown = edited(AGENT, spec__environment="moon")
    with kubectl.proxied() as server:
        words = "AgentPolicy support has no environment moon"
        eventually(lambda: words in server.try_create(unknown, namespace).text, "admission judges by the policy")
        eventually(lambda: server.try_create(AGENT, namespace).ok, "an Agent is admitted")
