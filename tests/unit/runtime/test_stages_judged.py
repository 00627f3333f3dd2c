"""What the runtime does for gates of stages: it reads pods of tests, asks for metrics, and adds up counts."""

from typing import Any

import pytest

from interlock.api.gates import MetricGate
from interlock.cluster.ended_counts import add_up_counts
from interlock.cluster.pods_of_tests import read_test_pods
from interlock.deployment.names import ChildKey
from interlock.deployment.observed.work_counts import MOST_ENDED
from interlock.deployment.plan import LiveChild
from interlock.orchestration.gates import MetricResult
from interlock_contract.work_counts import SettledCounts, WorkCounts, dump_counts
from interlock_kube.client import CONFLICT, ApiError
from interlock_kube.resource_types import Key
from tests.support.builders import a_stage, an_agent
from tests.support.fake_client import FakeClient
from tests.unit.runtime.test_agent_reconciler import KEY, PATH, PODS, Operator

LEASES = "/apis/coordination.k8s.io/v1/namespaces/agents/leases"
METRIC = {"name": "quality", "query": "avg(quality)", "min": "0.9"}
STAGING = a_stage("staging", lasting="1h")
EVERYWHERE = a_stage("everywhere", "production")


async def test_the_pod_of_an_ended_test_is_read_once_and_its_result_outlives_it() -> None:
    operator = Operator()
    test = {"name": "smoke", "image": "example/smoke:1"}
    operator.apply(an_agent().taking_tasks().with_stages(STAGING | {"tests": [test]}, EVERYWHERE))
    services = list((await converged(operator)).client.of_kind("Service"))
    for path in services:  # the API server assigns addresses
        found = operator.client.objects[path]
        operator.client.put(path, {**found, "spec": {**found["spec"], "clusterIP": "10.96.0.41"}})
    operator.watch()
    await converged(operator)
    [(path, job)] = operator.client.of_kind("Job").items()
    name = job["metadata"]["name"]
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    operator.client.put(path, {**job, "status": {"conditions": [failed]}})
    operator.client.put(f"{PODS}/{name}-x", a_test_pod(name))
    operator.client.forget_requests()
    operator.watch()

    await converged(operator.restart())

    assert [one for one in operator.client.requests if one == ("GET", PODS)] == [("GET", PODS)]
    del operator.client.objects[f"{PODS}/{name}-x"]
    again = await converged(operator.restart())
    [kept] = operator.client.objects[PATH]["status"]["rollout"]["tests"]
    assert (kept["outcome"], kept["exitCode"], kept["log"]) == ("Failed", 3, "answer 42 expected")
    assert "test smoke failed with exit code 3" in again.condition("Degraded").message
    assert [one["reason"] for one in operator.client.of_kind("Event").values()].count("TestEnded") == 1


async def converged(operator: Operator) -> Operator:
    await operator.converge()
    return operator


def a_test_pod(job: str) -> dict[str, Any]:
    state = {"terminated": {"exitCode": 3, "message": "answer 42 expected"}}
    labels = {"batch.kubernetes.io/job-name": job}
    metadata = {"name": f"{job}-x", "namespace": "agents", "labels": labels}
    return {"kind": "Pod", "metadata": metadata, "status": {"containerStatuses": [{"name": "test", "state": state}]}}


async def test_a_list_without_pods_is_none_of_them() -> None:
    class Empty(FakeClient):
        async def get(self, *_: Any, **__: Any) -> Any:
            return {"items": None}  # as the API server answers

    assert await read_test_pods(Empty(), "agents", "job") == ()  # type: ignore[arg-type]


async def test_only_the_gates_of_the_current_stage_are_asked_for_and_none_of_an_agent_that_is_gone() -> None:
    operator = Operator()
    asked: list[list[str]] = []

    def ask(_key: Key, gates: Any) -> dict[str, MetricResult]:
        asked.append([gate.name for gate in gates if isinstance(gate, MetricGate)])
        return {}

    operator.reader.metrics_of = ask
    operator.apply(an_agent().with_stages(STAGING | {"gates": {"metrics": [METRIC]}}, EVERYWHERE))
    await operator.converge()
    assert asked[-1] == ["quality"]
    assert operator.condition("PromotionPending").reason == "Soaking"

    operator.resources.drop_agent(KEY)
    await operator.reconciler.reconcile(KEY)
    assert asked[-1] == []


def a_lease(pods: int) -> dict[ChildKey, LiveChild]:
    text = dump_counts(SettledCounts("a" * 16, WorkCounts(task_buckets=(1,))))
    annotations = {f"counts.interlock.dev/pod-{number}": text for number in range(pods)}
    metadata = {"name": "triage-0", "namespace": "agents", "uid": "u", "resourceVersion": "7"}
    manifest = {"kind": "Lease", "metadata": metadata | {"annotations": annotations}}
    return {ChildKey("Lease", "triage-0"): LiveChild(manifest), ChildKey("Role", "r"): LiveChild({"metadata": {}})}


class Patched:
    """Takes any patch."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def patch(self, path: str, *_: Any, **__: Any) -> None:
        self.paths.append(path)


@pytest.mark.parametrize(("pods", "patches"), [(MOST_ENDED, 0), (MOST_ENDED + 1, 1)])
async def test_the_counts_of_many_pods_that_are_gone_become_one(pods: int, patches: int) -> None:
    client = Patched()
    await add_up_counts(client, "agents", a_lease(pods), ())  # type: ignore[arg-type]
    assert client.paths == [f"{LEASES}/triage-0"] * patches


async def test_a_guard_that_writes_meanwhile_lets_the_reconcile_go_on() -> None:
    client = FakeClient()
    client.break_with(ApiError(CONFLICT, "it was changed"), "PATCH", LEASES)
    await add_up_counts(client, "agents", a_lease(MOST_ENDED + 1), ())  # type: ignore[arg-type]
