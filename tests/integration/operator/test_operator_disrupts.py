"""PodDisruptionBudgets against a real API server and its controllers: drains, drift, fewer pods, and a kill."""

import pytest

from tests.integration.operator.api import Json, Refused, eventually
from tests.integration.operator.sandbox import Sandbox
from tests.integration.operator.test_operator_kills import switch, wait_killed
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

BUDGETS = "poddisruptionbudgets"


@requirement("pods.disruption")
def test_a_drain_evicts_one_pod_at_a_time_and_a_kill_does_not_wait_for_it(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage", replicas=3)
    sandbox.wait_ready("triage")
    budget = sandbox.child("triage", "PodDisruptionBudget")["metadata"]["name"]
    sandbox.api.patch(BUDGETS, sandbox.namespace, budget, {"spec": {"maxUnavailable": 3}})
    eventually(lambda: spec(sandbox, budget)["maxUnavailable"] == 1, "the change of another is repaired")
    eventually(lambda: allowed(sandbox, budget) == 1, "one pod may be evicted")

    # Nothing replaces a pod meanwhile: the Deployment of a killed agent, and the pods of one that lost a node, alike.
    first, second, _ = (pod["metadata"]["name"] for pod in sandbox.pods("triage"))
    unready(sandbox, first)
    eventually(lambda: allowed(sandbox, budget) == 0, "one pod is unavailable already")
    with pytest.raises(Refused, match="429"):
        evict(sandbox, second)
    evict(sandbox, first)  # it is not ready, so it serves nothing

    switch(sandbox, "triage", "it sends nonsense")
    wait_killed(sandbox, "triage")
    eventually(lambda: "PodDisruptionBudget" not in sandbox.children("triage"), "an agent without pods has none")


@requirement("pods.disruption")
def test_it_goes_with_the_second_pod(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage", isolation="Separate")
    sandbox.create("triage", replicas=2)
    sandbox.wait_ready("triage")
    assert len(sandbox.children("triage")["PodDisruptionBudget"]) == 2

    sandbox.api.patch("agents", sandbox.namespace, "triage", {"spec": {"replicas": 1}})

    eventually(lambda: "PodDisruptionBudget" not in sandbox.children("triage"), "one pod alone has none")
    assert sandbox.wait_ready("triage")["status"]["readySummary"] == "1/1"


def spec(sandbox: Sandbox, budget: str) -> Json:
    found: Json = sandbox.api.get(BUDGETS, sandbox.namespace, budget)["spec"]
    return found


def allowed(sandbox: Sandbox, budget: str) -> int | None:
    status = sandbox.api.get(BUDGETS, sandbox.namespace, budget).get("status", {})
    return status.get("disruptionsAllowed") if status.get("expectedPods") == 3 else None


def unready(sandbox: Sandbox, pod: str) -> None:
    """Let a pod not be ready, as its node would report it."""
    path = f"/api/v1/namespaces/{sandbox.namespace}/pods/{pod}/status"
    conditions = [{"type": "Ready", "status": "False"}]
    body = {"status": {"conditions": conditions}}
    sandbox.api.request("PATCH", path, body, "application/strategic-merge-patch+json")


def evict(sandbox: Sandbox, pod: str) -> None:
    """Evict a pod, as `kubectl drain` does."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": sandbox.namespace}}
    sandbox.api.request("POST", f"/api/v1/namespaces/{sandbox.namespace}/pods/{pod}/eviction", body)
