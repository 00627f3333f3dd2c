"""The keys of agents and of the operator on a real API server: made with the right to create, and never read."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from interlock_contract.agent_key import agent_key_digest
from interlock_kube.client import METADATA_ONLY, ApiError, KubeClient
from interlock_kube.resource_types import SECRET
from interlock_process.kubeconfig import KubeconfigCredentials
from tests.integration.operator.api import Api, Refused, eventually
from tests.integration.operator.conftest import OPERATOR_NAMESPACE, Operators
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

OWN = "interlock-key"


def secrets_of(sandbox: Sandbox, agent: str) -> list[Any]:
    selector = f"interlock.dev/agent={agent}"
    return sandbox.api.listed("secrets", sandbox.namespace, selector)


@requirement("agent-key.on-an-api-server")
def test_an_agent_has_one_secret_that_its_pods_mount_and_its_bundle_knows_by_digest(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")

    [secret] = secrets_of(sandbox, "triage")
    key = base64.b64decode(secret["data"]["key"]).decode()
    bundle = json.loads(sandbox.child("triage", "ConfigMap", "bundle")["data"]["bundle.json"])
    template = sandbox.child("triage", "Deployment")["spec"]["template"]
    assert secret["immutable"] is True
    assert secret["metadata"]["ownerReferences"][0]["name"] == "triage"
    assert bundle["agentKeyDigest"] == agent_key_digest(key)
    assert secret["metadata"]["name"] in json.dumps(template)
    everything = [json.dumps(one) for found in sandbox.children("triage").values() for one in found]
    everything += [json.dumps(sandbox.agent("triage")), *map(json.dumps, sandbox.pods("triage"))]
    assert not [text for text in everything if key in text]
    assert key not in operator.tail()


@requirement("agent-key.on-an-api-server")
def test_another_revision_has_another_secret_and_the_one_before_is_pruned(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    [before] = secrets_of(sandbox, "triage")

    sandbox.api.patch("agents", sandbox.namespace, "triage", {"spec": {"template": {"image": "example/agent:2"}}})

    def others() -> bool:
        names = [one["metadata"]["name"] for one in secrets_of(sandbox, "triage")]
        return len(names) == 1 and names != [before["metadata"]["name"]]

    eventually(others, "another Secret took its place")
    sandbox.api.delete("agentpolicies", sandbox.namespace, sandbox.policy()["metadata"]["name"])
    eventually(lambda: not secrets_of(sandbox, "triage"), "a refused agent has none")


@requirement("agent-key.on-an-api-server")
async def test_the_operators_rights_create_and_delete_its_secrets_and_read_none(
    operators: Operators, sandbox: Sandbox
) -> None:
    operators.use()
    sandbox.apply_policy_and_bindings("triage")
    uid = sandbox.create("triage")["metadata"]["uid"]
    owner = {"apiVersion": "interlock.dev/v1alpha1", "kind": "Agent", "name": "triage", "uid": uid, "controller": True}
    labels = {"app.kubernetes.io/managed-by": "interlock", "interlock.dev/agent": "triage"}
    metadata = {"name": "triage-0123456789-key", "labels": labels, "ownerReferences": [owner]}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"key": "c2VjcmV0"}}
    collection = SECRET.within(sandbox.namespace)
    path, theirs = f"{collection}/{metadata['name']}", f"{collection}/theirs"
    sandbox.api.request("POST", collection, {**manifest, "metadata": {"name": "theirs"}})
    client = KubeClient(KubeconfigCredentials(operators.kubeconfig()))
    try:
        created = await client.create(collection, manifest, accept=METADATA_ONLY)
        assert (created["metadata"]["name"], "data" in created) == (metadata["name"], False)
        for reading in (client.get(path), client.get(collection), client.patch(path, {}, "interlock")):
            with pytest.raises(ApiError, match=r"cannot (get|list|patch) resource") as refused:
                await reading
            assert refused.value.status == 403
        for options in ({}, {"dryRun": ["All"], "propagationPolicy": "Foreground"}):  # the latter would return its data
            with pytest.raises(ApiError, match="which does not belong to an Agent, AgentPolicy or MCPBinding"):
                await client.delete(theirs, options)
        await client.delete(path, {"propagationPolicy": "Background"}, accept=METADATA_ONLY)
        assert metadata["name"] not in [one["metadata"]["name"] for one in secrets_of(sandbox, "triage")]
    finally:
        await client.close()


@requirement("agent-key.on-an-api-server")
def test_the_first_start_makes_the_operators_key_and_a_later_one_does_not_replace_it(
    operators: Operators, api: Api, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    path = SECRET.path(OPERATOR_NAMESPACE, OWN)
    try:
        operators.use(INTERLOCK_KEY_FILE=str(file))
        made = api.request("GET", path)
        assert len(base64.b64decode(made["data"]["key"])) == 64

        operators.stop()
        file.write_bytes(base64.b64decode(made["data"]["key"]))  # as the kubelet does
        operators.use(INTERLOCK_KEY_FILE=str(file))
        assert api.request("GET", path)["metadata"]["uid"] == made["metadata"]["uid"]
        with pytest.raises(Refused):
            api.patch("secrets", OPERATOR_NAMESPACE, OWN, {"data": {"key": "b3RoZXI="}})
    finally:
        operators.stop()
        api.request("DELETE", path)
