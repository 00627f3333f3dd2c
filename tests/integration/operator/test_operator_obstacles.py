"""Objects of users from before an Agent, which would undo what the operator creates, at a real API server."""

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import Json, Refused, eventually
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

REFUSED_SECONDS = 20.0


def wait_failed(sandbox: Sandbox, part: str) -> None:
    """Wait until the condition of the Agent has this text, and check that the Agent has no workload."""
    eventually(
        lambda: part in sandbox.condition("triage", "Ready").get("message", ""),
        f"the Agent reports {part}; it reports {sandbox.condition('triage', 'Ready')}",
        REFUSED_SECONDS,
    )
    assert "Deployment" not in sandbox.children("triage")


def early_pod(account: str) -> Json:
    """Return a pod that Pod Security `restricted` admits."""
    security = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "a", "image": "registry.example.com/a:1", "securityContext": security}
    spec = {"serviceAccountName": account, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "early"}, "spec": spec}


@requirement("protection.identity")
def test_an_account_that_a_pod_of_a_user_waits_for_gets_no_rights(operator: OperatorProcess, sandbox: Sandbox) -> None:
    """A pod keeps the name of its ServiceAccount, and would get tokens of the one that the operator creates later.

    The name is known once the Agent has run, and is free while its policy has no row for it.
    """
    sandbox.apply_policy_and_bindings("triage", "other")
    api, namespace = sandbox.api, sandbox.namespace
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    account = sandbox.child("triage", "ServiceAccount")["metadata"]["name"]
    rows = sandbox.policy()["spec"]["dataAccess"]
    others = [row | {"agents": ["other"]} for row in rows]
    api.patch("agentpolicies", namespace, objects.POLICY, {"spec": {"dataAccess": others}})
    sandbox.wait_refused("triage", "DataAccessMissing")
    eventually(lambda: not sandbox.children("triage"), "its objects are gone")
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}, namespace)
    api.create(early_pod(account), namespace)
    api.delete("serviceaccounts", namespace, account)
    api.patch("agentpolicies", namespace, objects.POLICY, {"spec": {"dataAccess": rows}})
    wait_failed(sandbox, f"run: kubectl -n {namespace} delete pod early")
    assert "RoleBinding" not in sandbox.children("triage")
    with pytest.raises(Refused, match="accounts-reserved"):
        api.create(early_pod(account) | {"metadata": {"name": "late"}}, namespace)
    api.delete("pods", namespace, "early")
    sandbox.wait_ready("triage")


@requirement("protection.networks")
def test_no_network_is_closed_under_a_policy_that_opens_it(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage", isolation="Separate")
    opening = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "dns"},
        "spec": {"podSelector": {}, "egress": [{}]},
    }
    for name in ("a", "b", "c", "d", "e"):  # more than one page
        closing = {**opening, "metadata": {"name": name}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
        sandbox.api.create(closing, sandbox.namespace)
    sandbox.api.create(opening, sandbox.namespace)
    sandbox.create("triage")
    wait_failed(sandbox, "NetworkPolicy dns gives egress to these pods")
    others = [{"key": "app.kubernetes.io/managed-by", "operator": "NotIn", "values": ["interlock"]}]
    body = {"spec": {"podSelector": {"matchExpressions": others}}}
    sandbox.api.patch("networkpolicies", sandbox.namespace, "dns", body)
    eventually(lambda: len(sandbox.children("triage").get("Deployment", [])) == 2, "agent and guard have a Deployment")
