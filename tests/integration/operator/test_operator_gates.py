"""Gates of stages on a real API server: what a guard counts, and a Job proves, decides who goes on."""

import pytest

from interlock_contract.work_counts import SettledCounts, WorkCounts, dump_counts
from tests.integration.callers import MERGE, Caller
from tests.integration.operator.api import Json, eventually
from tests.integration.operator.conftest import Operators
from tests.integration.operator.sandbox import Sandbox
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

AGENT = "triage"
SOAK = "2s"
OLD, NEW = "registry.example.com/agent:1.0", "registry.example.com/agent:2.0"


def a_rollout(**staging: Json | list[Json]) -> Json:
    """Two stages, and what staging needs besides its soak."""
    first = {"name": "staging", "environment": "staging", "minDuration": SOAK, **staging}
    return {"stages": [first, {"name": "everywhere", "environment": "production"}]}


def a_served_agent(sandbox: Sandbox) -> Json:
    """Return an Agent whose first revision is good."""
    sandbox.apply_policy_and_bindings(AGENT, production=True)
    sandbox.create(AGENT, rollout=a_rollout())
    eventually(lambda: sandbox.condition(AGENT, "Progressing").get("reason") == "RolloutComplete", "it is good")
    return sandbox.agent(AGENT)


def change(sandbox: Sandbox, rollout: Json) -> None:
    """Apply another image with another rollout, and wait until its pods are Ready in staging."""
    template = sandbox.agent(AGENT)["spec"]["template"] | {"image": NEW}
    sandbox.api.patch("agents", sandbox.namespace, AGENT, {"spec": {"template": template, "rollout": rollout}})
    eventually(lambda: stage_of(sandbox).get("number") == 2 and "readySince" in stage_of(sandbox), "staging is Ready")


def stage_of(sandbox: Sandbox) -> Json:
    found: Json = sandbox.agent(AGENT)["status"]["stage"]
    return found


def images(sandbox: Sandbox) -> set[str]:
    """Return the images of the agent that run."""
    deployments = sandbox.children(AGENT).get("Deployment", [])
    containers = [one for found in deployments for one in found["spec"]["template"]["spec"]["containers"]]
    return {one["image"] for one in containers if one["name"] == "agent"}


def good_pods(sandbox: Sandbox) -> set[str]:
    """Return the uids of the pods in the last stage."""
    pods = sandbox.pods(AGENT)
    return {one["metadata"]["uid"] for one in pods if one["metadata"]["labels"]["interlock.dev/stage"] == "everywhere"}


def lease_of(sandbox: Sandbox) -> Json:
    [found] = [
        one
        for one in sandbox.children(AGENT)["Lease"]
        if one["metadata"]["labels"]["interlock.dev/stage"] == "staging"
        and one["metadata"]["labels"]["interlock.dev/revision"] == stage_of(sandbox)["revision"][:63]
    ]
    return found


def annotations_of(sandbox: Sandbox) -> Json:
    """Return the annotations with counts of the Lease in staging."""
    found: Json = lease_of(sandbox)["metadata"].get("annotations", {})
    return {name: value for name, value in found.items() if "counts" in name}


def leave_behind(sandbox: Sandbox, pods: int) -> None:
    """Let there be counts of pods that are gone, each with one call, which has failed."""
    text = dump_counts(SettledCounts("0123456789abcdef", WorkCounts(call_buckets=(1,), calls_failed=1)))
    annotations = {f"counts.interlock.dev/gone-{number}": text for number in range(pods)}
    name = lease_of(sandbox)["metadata"]["name"]
    sandbox.api.patch("leases", sandbox.namespace, name, {"metadata": {"annotations": annotations}})


def count_as_guard(operators: Operators, sandbox: Sandbox, calls: int, failed: int) -> None:
    """Write what the guard in staging has counted, with the identity of its pod."""
    lease = lease_of(sandbox)["metadata"]["name"]
    [pod] = [
        one for one in sandbox.pods(AGENT) if one["spec"]["serviceAccountName"] in (f"{lease}-agent", f"{lease}-guard")
    ]
    name = pod["metadata"]["name"]
    guard = Caller.administrator(operators.cluster.kubeconfig).impersonating(
        f"system:serviceaccount:{sandbox.namespace}:{lease}-guard",
        "system:serviceaccounts",
        "system:authenticated",
        pod=name,
        pod_uid=pod["metadata"]["uid"],
    )
    counts = dump_counts(SettledCounts("0123456789abcdef", WorkCounts(call_buckets=(calls,), calls_failed=failed)))
    path = f"/apis/coordination.k8s.io/v1/namespaces/{sandbox.namespace}/leases/{lease}"
    guard.must("PATCH", path, {"metadata": {"annotations": {f"counts.interlock.dev/{name}": counts}}}, MERGE)


def test_a_revision_that_has_too_many_failed_calls_is_rolled_back_by_itself_while_the_old_one_never_stops(
    operators: Operators, operator: OperatorProcess, sandbox: Sandbox
) -> None:
    a_served_agent(sandbox)
    good = good_pods(sandbox)
    gates = {"minCalls": 20, "maxErrorPercent": 5, "onBreach": "Rollback"}
    change(sandbox, a_rollout(minDuration="1h", gates=gates))
    assert images(sandbox) == {OLD, NEW}
    operator.kill()  # another process judges from the same baseline
    operator.start()
    eventually(lambda: "baseline" in stage_of(sandbox), "the baseline is recorded")
    leave_behind(sandbox, pods=17)  # all of their calls failed, and they are fewer than minCalls
    eventually(lambda: "interlock.dev/counts-ended" in annotations_of(sandbox), "they are added up")
    assert len(annotations_of(sandbox)) == 1
    assert images(sandbox) == {OLD, NEW}

    count_as_guard(operators, sandbox, 100, 6)

    eventually(lambda: images(sandbox) == {OLD}, "the revision is gone")
    eventually(lambda: sandbox.condition(AGENT, "Degraded")["reason"] == "GateBreached", "the status says why")
    degraded = sandbox.condition(AGENT, "Degraded")
    assert "error rate 20 % of calls, at most 5 %" in degraded["message"]
    assert sandbox.condition(AGENT, "Serving")["status"] == "True"
    assert [one["event"] for one in sandbox.agent(AGENT)["status"]["history"]].count("Breached") == 1
    assert good_pods(sandbox) == good


def test_a_test_runs_once_as_a_locked_job_and_its_success_lets_the_rollout_go_on(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    a_served_agent(sandbox)
    change(sandbox, a_rollout(tests=[{"name": "smoke", "image": "registry.example.com/smoke:1.0"}]))
    eventually(lambda: sandbox.condition(AGENT, "Progressing").get("reason") == "RolloutComplete", "it is good")
    status = sandbox.agent(AGENT)["status"]
    assert [(one["name"], one["outcome"], one["exitCode"]) for one in status["rollout"]["tests"]] == [
        ("smoke", "Passed", 0)
    ]
    eventually(lambda: images(sandbox) == {NEW}, "the revision before it is gone")
    eventually(lambda: "Job" not in sandbox.children(AGENT), "the Job goes with its placement")
