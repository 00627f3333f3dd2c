"""Claims at a real API server: the old pod goes first in either direction, and no two agents share a claim."""

from typing import Any

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import Json, eventually
from tests.integration.operator.sandbox import ROLLOUT_SECONDS, Sandbox
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

FEATURES = ["EmptyDirs", "PersistentVolumeClaims"]
OLD, NEW = "registry.example.com/agent:1.0", "registry.example.com/agent:2.0"


def test_the_pod_of_the_old_revision_goes_first_and_so_does_that_of_the_new_one_at_a_rollback(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    serve(sandbox, "triage")
    first = sandbox.agent("triage")["status"]["stage"]["revisionName"]
    with sandbox.api.watching("pods", sandbox.namespace) as events:
        sandbox.api.patch("agents", sandbox.namespace, "triage", {"spec": {"template": template(NEW)}})
        sandbox.wait_good("triage", 2)
        sandbox.wait_ready("triage")
        assert mounted(sandbox) == [("notes", NEW)]

        annotations = {"interlock.dev/rollback": first, "interlock.dev/rollback-by": "kwok-admin"}
        sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"annotations": annotations}})
        eventually(lambda: mounted(sandbox) == [("notes", OLD)], "revision 1 is back", ROLLOUT_SECONDS)
    assert most_at_once(events) == 1


def test_the_pod_of_an_agent_with_claims_is_its_own_group_and_its_deployment_recreates_it(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    serve(sandbox, "triage", replicas=3)
    deployment = sandbox.child("triage", "Deployment", "agent")
    assert (deployment["spec"]["strategy"], deployment["spec"]["replicas"]) == ({"type": "Recreate"}, 1)
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["fsGroup"] == pod["containers"][0]["securityContext"]["runAsGroup"]
    guard = sandbox.child("triage", "Deployment", "guard")["spec"]["template"]["spec"]
    assert "fsGroup" not in guard["securityContext"]
    assert "3" in sandbox.condition("triage", "Ready")["message"]


def test_a_claim_of_another_agent_is_refused_until_that_agent_is_gone(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    serve(sandbox, "triage", others=("second",))
    sandbox.create("second", environment="staging", template=template(OLD))
    message = sandbox.wait_refused("second", "ClaimShared")
    assert "Agent triage" in message
    sandbox.api.delete("agents", sandbox.namespace, "triage")
    sandbox.wait_ready("second", ROLLOUT_SECONDS)
    assert mounted(sandbox) == [("notes", OLD)]


def test_a_claim_that_does_not_exist_is_named_by_the_status(operator: OperatorProcess, sandbox: Sandbox) -> None:
    apply_policy(sandbox, "triage")
    sandbox.create("triage", environment="staging", template=template(OLD))
    eventually(
        lambda: '"notes" not found' in sandbox.condition("triage", "Ready")["message"],
        "the scheduler says so",
    )


def template(image: str) -> Json:
    claims = {"claims": [{"environment": "staging", "claimName": "notes"}]}
    return {
        "image": image,
        "volumes": [{"name": "notes", "persistentVolumeClaim": claims}],
        "volumeMounts": [{"name": "notes", "mountPath": "/data"}],
    }


def apply_policy(sandbox: Sandbox, *agents: str) -> None:
    policy = objects.policy(*agents, isolation="Separate")
    policy["spec"]["podTemplate"] = {"allow": FEATURES}
    sandbox.api.create(policy, sandbox.namespace)
    sandbox.api.create(objects.binding(), sandbox.namespace)
    sandbox.wait_verified("crm-sandbox")


def serve(sandbox: Sandbox, name: str, *, others: tuple[str, ...] = (), **spec: Any) -> None:
    """Let an agent with a claim be Ready."""
    create_claim(sandbox)
    apply_policy(sandbox, name, *others)
    sandbox.create(name, environment="staging", template=template(OLD), **spec)
    sandbox.wait_ready(name, ROLLOUT_SECONDS)


def create_claim(sandbox: Sandbox) -> None:
    """Create a volume and a claim that is bound to it, as a storage driver would."""
    volume = f"notes-{sandbox.namespace}"
    common = {"accessModes": ["ReadWriteOncePod"], "storageClassName": ""}
    sandbox.api.request(
        "POST",
        "/api/v1/persistentvolumes",
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **common,
                "capacity": {"storage": "1Gi"},
                "hostPath": {"path": "/var/notes"},
                "claimRef": {"namespace": sandbox.namespace, "name": "notes"},
            },
        },
    )
    path = f"/api/v1/namespaces/{sandbox.namespace}/persistentvolumeclaims"
    sandbox.api.request(
        "POST",
        path,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "notes"},
            "spec": {**common, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}},
        },
    )


def mounted(sandbox: Sandbox) -> list[tuple[str, str]]:
    """Return claim and agent's image of each pod that mounts one."""
    pods = sandbox.api.listed("pods", sandbox.namespace, "interlock.dev/has-claims")
    return [
        (pod["metadata"]["annotations"]["interlock.dev/claims"], pod["spec"]["containers"][0]["image"]) for pod in pods
    ]


def most_at_once(events: list[Json]) -> int:
    """Return how many pods with the claim were there at once at most, by what a watch has seen."""
    present: set[str] = set()
    most = 0
    for event in list(events):
        metadata = event["object"]["metadata"]
        if "interlock.dev/has-claims" in metadata.get("labels", {}):
            (present.discard if event["type"] == "DELETED" else present.add)(metadata["uid"])
            most = max(most, len(present))
    return most
