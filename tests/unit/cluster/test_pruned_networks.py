"""What a guard's pod needs until its end is pruned after the pods of its placement are gone.

The process of a terminating pod lives on for a second or two, with the network that the API server knows. A guard
settles what it has spent in this time.
"""

from dataclasses import replace

import pytest

from interlock.cluster.applier import Applier
from interlock.cluster.child_cache import ChildCache
from interlock.deployment.names import guard_account, pod_labels
from interlock.deployment.placement import Placement
from interlock.deployment.plan import WritePlan, desired_children, plan_children
from tests.requirements import requirement
from tests.support.builders import a_placement, a_separate_placement
from tests.support.fake_client import FakeClient

AGENT = ("agents", "triage")
UID = "uid-of-triage"
PODS = "/api/v1/namespaces/agents/pods"


def pending(store: ChildCache) -> WritePlan:
    """Return the plan of an agent that is refused."""
    return plan_children((), store.of(AGENT, UID), {})


@requirement("deployment.prune-networks")
@pytest.mark.parametrize("placement", [a_placement(), a_separate_placement()], ids=["shared", "separate"])
async def test_networks_and_identities_outlive_the_pods_that_they_are_for(placement: Placement) -> None:
    client, store = FakeClient(pods_linger=True), ChildCache()
    applier = Applier(client, store)  # type: ignore[arg-type]
    desired = desired_children(replace(placement, guard_addresses=("10.96.0.41",)))
    applied = await applier.carry_out(plan_children(desired, {}, {}), *AGENT, {})
    kinds = ("NetworkPolicy", "Role", "RoleBinding", "Lease", "ServiceAccount")
    kept = {path for kind in kinds for path in client.of_kind(kind)}
    for workload in client.of_kind("Deployment").values():
        pod = workload["spec"]["template"]
        name, labels = workload["metadata"]["name"], pod["metadata"]["labels"]
        account = {"serviceAccountName": pod["spec"]["serviceAccountName"]}
        client.put(f"{PODS}/{name}", {"kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": account})

    client.forget_requests()
    await applier.carry_out(plan_children((), store.of(AGENT, UID), applied), *AGENT, applied)

    accounts, networks = client.of_kind("ServiceAccount"), client.of_kind("NetworkPolicy")
    asked = client.requests.count(("GET", PODS))
    assert asked <= len(accounts) + len(networks), "what one account's pods need is asked once"
    pods = client.of_kind("Pod")
    assert pods
    assert all("deletionTimestamp" in pod["metadata"] for pod in pods.values())
    assert set(client.objects) == kept | set(pods)
    assert pending(store).waits_for_pods

    for path in pods:
        del client.objects[path]
    await applier.carry_out(pending(store), *AGENT, {})

    assert client.objects == {}
    assert pending(store).is_empty


async def test_the_account_of_separate_agents_goes_where_agent_and_guard_share_a_pod_from_now_on() -> None:
    """Role and Lease have the same names in both isolations, and the pods of the other one stay."""
    client, store = FakeClient(pods_linger=True), ChildCache()
    applier = Applier(client, store)  # type: ignore[arg-type]
    before = desired_children(a_separate_placement())
    applied = await applier.carry_out(plan_children(before, {}, {}), *AGENT, {})
    after = a_placement()
    labels = {**pod_labels(after, "agent")}
    spec = {"serviceAccountName": guard_account(after)}
    client.put(f"{PODS}/new", {"kind": "Pod", "metadata": {"name": "new", "labels": labels}, "spec": spec})

    await applier.carry_out(plan_children(desired_children(after), store.of(AGENT, UID), applied), *AGENT, applied)

    accounts = {one["metadata"]["name"] for one in client.of_kind("ServiceAccount").values()}
    assert accounts == {guard_account(after)}


@pytest.mark.parametrize("kind", ["Role", "RoleBinding", "Lease"])
async def test_a_twin_with_the_labels_of_a_placement_goes_while_its_pods_run(kind: str) -> None:
    client, store = FakeClient(), ChildCache()
    applier = Applier(client, store)  # type: ignore[arg-type]
    placement = a_placement()
    desired = desired_children(placement)
    applied = await applier.carry_out(plan_children(desired, {}, {}), *AGENT, {})
    spec = {"serviceAccountName": guard_account(placement)}
    labels = pod_labels(placement, "agent")
    client.put(f"{PODS}/new", {"kind": "Pod", "metadata": {"name": "new", "labels": labels}, "spec": spec})
    path, own = next(iter(client.of_kind(kind).items()))
    twin = own | {"metadata": own["metadata"] | {"name": "triage-twin", "uid": "uid-of-twin"}}
    client.put(f"{path.rpartition('/')[0]}/triage-twin", twin)
    store.put(kind, twin)

    await applier.carry_out(plan_children(desired, store.of(AGENT, UID), applied), *AGENT, applied)

    assert list(client.of_kind(kind)) == [path]
