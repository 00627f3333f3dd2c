from collections.abc import Mapping
from typing import Any

import pytest

from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.obstacles import MOST_POLICIES, PAGE, find_obstacle
from interlock.deployment.children.verification_job import VerificationTarget, build_support
from interlock.deployment.names import Manifest, guard_account
from interlock.deployment.placement import ApiServerAddress
from interlock.deployment.plan import desired_children, plan_children
from interlock_kube.client import JSON, METADATA_LIST, Json
from tests.requirements import requirement
from tests.support.builders import GUARD_IMAGE, a_binding, a_separate_placement
from tests.support.fake_client import FakeClient

PLACEMENT = a_separate_placement()
DESIRED = desired_children(PLACEMENT)
ACCOUNT = guard_account(PLACEMENT)
PODS = "/api/v1/namespaces/agents/pods"
POLICIES = "/apis/networking.k8s.io/v1/namespaces/agents/networkpolicies"
MANAGED = {"app.kubernetes.io/managed-by": "interlock"}


def child(kind: str, end: str = "") -> Manifest:
    return next(one for one in DESIRED if one["kind"] == kind and one["metadata"]["name"].endswith(end))


def pod(account: str, labels: Json | None = None) -> Json:
    metadata = {"name": "early", "namespace": "agents", "labels": labels or {}}
    return {"kind": "Pod", "metadata": metadata, "spec": {"serviceAccountName": account}}


def opening(name: str, labels: Json | None = None) -> Json:
    metadata = {"name": name, "namespace": "agents", "labels": labels or {}}
    return {"kind": "NetworkPolicy", "metadata": metadata, "spec": {"podSelector": {}, "egress": [{}]}}


async def found(client: Any, manifest: Manifest) -> str | None:
    return await find_obstacle(client, manifest)


@requirement("protection.identity")
async def test_a_pod_under_the_name_of_an_account_keeps_it_from_rights() -> None:
    client, grant = FakeClient(), child("RoleBinding")
    assert await found(client, grant) is None
    client.put(f"{PODS}/early", pod(ACCOUNT))
    obstacle = await found(client, grant)
    assert obstacle is not None
    assert obstacle.startswith(f"pod early runs under the name of ServiceAccount {ACCOUNT}")
    assert obstacle.endswith("run: kubectl -n agents delete pod early")


@requirement("protection.identity")
async def test_a_verifiers_account_is_kept_from_rights_too() -> None:
    run = VerificationTarget(a_binding("crm").build(), 1, GUARD_IMAGE)
    (grant,) = (one for one in build_support(run, ApiServerAddress()) if one["kind"] == "RoleBinding")
    client = FakeClient()
    assert await found(client, grant) is None
    client.put(f"{PODS}/early", pod("crm-verify"))
    assert await found(client, grant) is not None


@requirement("protection.identity")
@pytest.mark.parametrize("other", [pod("another-guard"), pod(ACCOUNT, MANAGED)], ids=["another's", "ours"])
async def test_other_pods_are_no_obstacle(other: Json) -> None:
    client = FakeClient()
    client.put(f"{PODS}/early", other)
    assert await found(client, child("RoleBinding")) is None


@requirement("protection.networks")
async def test_a_policy_that_opens_the_network_keeps_it_from_being_closed() -> None:
    client, closed = FakeClient(), child("NetworkPolicy", "-closed")
    client.put(f"{POLICIES}/ours", opening("ours", MANAGED))
    assert await found(client, closed) is None
    client.put(f"{POLICIES}/dns", opening("dns"))
    obstacle = await found(client, closed)
    assert obstacle is not None
    assert obstacle.startswith("NetworkPolicy dns gives egress to these pods, whose network must be closed")
    assert "operator: NotIn, values: [interlock]" in obstacle


async def test_nothing_is_read_for_other_objects() -> None:
    client = FakeClient()
    for manifest in DESIRED:
        if manifest["kind"] != "RoleBinding" and not manifest["metadata"]["name"].endswith("-closed"):
            assert await found(client, manifest) is None
    assert client.requests == []


class Pages:
    """Lists so many NetworkPolicies of users in pages, of which the last one opens the network."""

    def __init__(self, count: int) -> None:
        self.policies = [{**opening(f"own-{number}"), "spec": {"podSelector": {}}} for number in range(count)]
        self.policies[-1] = opening("last")
        self.asked: list[Mapping[str, str]] = []

    async def get(
        self,
        path: str,
        query: Mapping[str, str],
        *,
        accept: str = JSON,
        most: int = 0,  # noqa: ARG002 - as the client has it
    ) -> Json:
        assert (path, accept) == (POLICIES, JSON)
        self.asked.append(query)
        first, size = int(query.get("continue", "0")), int(query["limit"])
        rest = {"continue": str(first + size)} if first + size < len(self.policies) else {}
        return {"items": self.policies[first : first + size], "metadata": rest}


@requirement("protection.networks")
async def test_policies_are_read_in_small_pages_to_the_last_one() -> None:
    pages = Pages(3 * PAGE)
    obstacle = await found(pages, child("NetworkPolicy", "-closed"))
    assert obstacle is not None
    assert obstacle.startswith("NetworkPolicy last ")
    assert [one["limit"] for one in pages.asked] == [str(PAGE)] * 3
    assert {one["labelSelector"] for one in pages.asked} == {"app.kubernetes.io/managed-by!=interlock"}


@requirement("protection.networks")
async def test_more_policies_than_are_read_leave_the_network_unopened() -> None:
    pages = Pages(MOST_POLICIES + 1)
    obstacle = await found(pages, child("NetworkPolicy", "-closed"))
    assert obstacle is not None
    assert obstacle.startswith("namespace agents has more than 512 NetworkPolicies of users")


async def test_pods_are_asked_for_by_their_account_and_without_their_content() -> None:
    class Asked:
        async def get(self, path: str, query: Mapping[str, str], *, accept: str = JSON) -> Json:
            assert path == PODS
            assert query["fieldSelector"] == f"spec.serviceAccountName={ACCOUNT}"
            assert (query["limit"], accept) == ("1", METADATA_LIST)
            return {"items": None, "metadata": {}}  # as an API server answers

    assert await found(Asked(), child("RoleBinding")) is None


@requirement("protection.identity")
@pytest.mark.parametrize(
    ("path", "obstacle", "named"),
    [
        (f"{PODS}/early", pod(ACCOUNT), "RoleBinding triage-"),
        (f"{POLICIES}/dns", opening("dns"), "NetworkPolicy triage-closed: NetworkPolicy dns gives egress"),
    ],
    ids=["a pod", "a policy"],
)
async def test_the_child_is_refused_until_the_obstacle_is_gone(path: str, obstacle: Json, named: str) -> None:
    client, store = FakeClient(), ChildCache()
    applier = Applier(client, store)  # type: ignore[arg-type]
    client.put(path, obstacle)
    plan = plan_children(DESIRED, {}, {})
    with pytest.raises(ApplyFailed, match=f"^{named}"):
        await applier.carry_out(plan, "agents", "triage", {})
    assert client.of_kind("Deployment") == {}
    assert not any(at.endswith("-closed") for at in client.objects) or named.startswith("RoleBinding")
    del client.objects[path]
    await applier.carry_out(plan, "agents", "triage", {})
    assert client.of_kind("Deployment")


@requirement("protection.networks")
@pytest.mark.parametrize("collection", [PODS, POLICIES])
async def test_a_check_that_fails_refuses_the_child(collection: str) -> None:
    client = FakeClient()
    applier = Applier(client, ChildCache())  # type: ignore[arg-type]
    client.refuse("GET", collection, status=500)
    with pytest.raises(ApplyFailed, match=r"no GET today$"):
        await applier.carry_out(plan_children(DESIRED, {}, {}), "agents", "triage", {})
    assert client.of_kind("Deployment") == {}
