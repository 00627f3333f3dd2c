"""Scale-downs against a real API server and its ReplicaSet controller: exactly the pods that were chosen end."""

import pytest

from tests.integration.operator.api import eventually
from tests.integration.operator.sandbox import Sandbox
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

COST = "controller.kubernetes.io/pod-deletion-cost"


@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_a_scale_down_ends_exactly_the_pods_that_took_no_new_tasks(
    operator: OperatorProcess, sandbox: Sandbox, isolation: str
) -> None:
    sandbox.apply_policy_and_bindings("triage", isolation=isolation)
    stage = {"name": "dev", "environment": "development", "replicas": 3}
    sandbox.create("triage", rollout={"stages": [stage], "drainTimeout": "5s"}, tasks={"port": 8080})
    sandbox.wait_ready("triage")
    before = guards(sandbox)
    assert len(before) == 3

    fewer = {"spec": {"rollout": {"stages": [stage | {"replicas": 1}]}}}
    sandbox.api.patch("agents", sandbox.namespace, "triage", fewer)
    going = eventually(lambda: draining(sandbox) or None, "pods are chosen")
    assert len(going) == 2
    eventually(lambda: set(sandbox.bundle("triage").get("drainingPods", ())) == going, "their guards know it")

    eventually(lambda: guards(sandbox) == before - going, "the chosen pods are gone, and the other one stayed")
    eventually(lambda: "drainingPods" not in sandbox.bundle("triage"), "nothing drains any more")
    eventually(lambda: sandbox.agent("triage")["status"]["readySummary"] == "1/1", "the status counts the stage's pods")
    assert not any(COST in (pod["metadata"].get("annotations") or {}) for pod in sandbox.pods("triage"))


def guards(sandbox: Sandbox) -> set[str]:
    """Return the names of the pods with a guard that are not being deleted."""
    found = [pod for pod in sandbox.pods("triage") if "deletionTimestamp" not in pod["metadata"]]
    own = [pod for pod in found if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "guard"]
    return {pod["metadata"]["name"] for pod in own or found}


def draining(sandbox: Sandbox) -> set[str]:
    """Return the names of the pods that the status says to drain."""
    rollout = sandbox.agent("triage")["status"].get("rollout") or {}
    return {pod["name"] for one in rollout.get("scaleDowns", ()) for pod in one["pods"]}
