"""Objects of users from before an Agent, which would undo what the operator creates, at a real API server."""

import pytest

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
    """A pod keeps the name of its ServiceAccount, and would get tokens of the one that the operator creates later."""
    sandbox.apply_policy_and_bindings("triage")
    api, namespace = sandbox.api, sandbox.namespace
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "triage-guard"}}, namespace)
    api.create(early_pod("triage-guard"), namespace)
    api.delete("serviceaccounts", namespace, "triage-guard")
    sandbox.create("triage")
    wait_failed(sandbox, f"run: kubectl -n {namespace} delete pod early")
    assert "RoleBinding" not in sandbox.children("triage")
    with pytest.raises(Refused, match="accounts-reserved"):
        api.create(early_pod("triage-guard") | {"metadata": {"name": "late"}}, namespace)
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
