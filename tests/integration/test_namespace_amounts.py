"""A LimitRange and a ResourceQuota of a namespace, and the pods of an agent: what a real API server says to them."""

import copy
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from interlock.deployment.children.workload import build_workloads
from interlock.deployment.observed.pod_refusals import find_way_out
from tests.integration.callers import Caller, Json, Reply
from tests.integration.kubectl import Cluster
from tests.requirements import requirement
from tests.support import bounds
from tests.support.builders import a_placement, a_separate_placement

pytestmark = pytest.mark.api

WAIT_SECONDS = 30.0


class Namespace:
    """A namespace in which pods are only tried."""

    def __init__(self, admin: Caller) -> None:
        self.admin, self.name = admin, f"test-{uuid4().hex[:10]}"
        self.path = f"/api/v1/namespaces/{self.name}"
        admin.must("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})

    def limit(self, **amounts: Json) -> None:
        """Have one LimitRange, with these amounts of containers."""
        self.admin.send("DELETE", f"{self.path}/limitranges/one")
        body = {"metadata": {"name": "one"}, "spec": {"limits": [{"type": "Container", **amounts}]}}
        self.admin.must("POST", f"{self.path}/limitranges", body)

    def try_pod(self, pod: Json) -> Reply:
        """Try to create a pod, once its ServiceAccount exists."""
        account = {"metadata": {"name": pod["serviceAccountName"]}}
        self.admin.send("POST", f"{self.path}/serviceaccounts", account)
        body = {"metadata": {"generateName": "x-"}, "spec": copy.deepcopy(pod)}
        return self.admin.send("POST", f"{self.path}/pods?dryRun=All", body)

    def wait_until_refused(self, pod: Json, words: str) -> str:
        """Wait until a pod is refused with these words; return what the status of its Agent would say."""

        def refused() -> str | None:
            reply = self.try_pod(pod)
            return reply.text if reply.status == 403 and words in reply.text else None

        return find_way_out(bounds.eventually(refused, words, WAIT_SECONDS), self.name)


@pytest.fixture
def namespace(kwok_cluster: Cluster) -> Iterator[Namespace]:
    made = Namespace(Caller.administrator(Path(kwok_cluster.kubeconfig)))
    yield made
    made.admin.send("DELETE", made.path)


def pods() -> list[Json]:
    found = [one for place in (a_placement(), a_separate_placement()) for one in build_workloads(place)]
    return [one["spec"]["template"]["spec"] for one in found]


@requirement("pods.bounded")
def test_a_limit_range_changes_none_of_our_containers(namespace: Namespace) -> None:
    namespace.limit(default={"cpu": "100m", "memory": "64Mi"}, defaultRequest={"cpu": "10m", "memory": "16Mi"})
    agent = pods()[0]["containers"][0]["name"]

    def limits_of(pod: Json) -> dict[str, Json]:
        made = namespace.try_pod(pod).json()["spec"]
        return {one["name"]: one["resources"] for one in (*made.get("initContainers", ()), *made["containers"])}

    bounds.eventually(lambda: limits_of(pods()[0])[agent]["limits"]["cpu"] == "100m", "it is in force", WAIT_SECONDS)
    for pod in pods():
        stated = {one["name"]: one["resources"] for one in (*pod.get("initContainers", ()), *pod["containers"])}
        found = limits_of(pod)
        for name in {"guard", "launcher", "egress-check"} & found.keys():
            assert found[name] == stated[name]
            assert found[name]["limits"]["cpu"] == "1"


@requirement("status.quotas")
def test_what_a_limit_range_refuses_has_a_way_out(namespace: Namespace) -> None:
    [shared, *_] = pods()
    for amounts, words in (
        ({"max": {"cpu": "500m"}}, "maximum cpu usage per Container"),
        ({"min": {"cpu": "100m", "memory": "64Mi"}}, "minimum cpu usage per Container"),
        ({"maxLimitRequestRatio": {"cpu": "4"}}, "cpu max limit to request ratio per Container"),
    ):
        namespace.limit(**amounts)
        assert namespace.wait_until_refused(shared, words).startswith(f"a LimitRange of namespace {namespace.name}")


@requirement("status.quotas")
def test_what_a_quota_refuses_has_a_way_out_that_names_it(namespace: Namespace) -> None:
    [shared, *_] = pods()
    for name, hard, words in (
        ("unstated", {"limits.cpu": "100"}, "must specify limits.cpu"),
        ("small", {"requests.cpu": "1m"}, "exceeded quota: small"),
    ):
        quota = {"metadata": {"name": name}, "spec": {"hard": hard}}
        namespace.admin.must("POST", f"{namespace.path}/resourcequotas", quota)
        assert namespace.wait_until_refused(shared, words).startswith(f"ResourceQuota {name} ")
        namespace.admin.send("DELETE", f"{namespace.path}/resourcequotas/{name}")
