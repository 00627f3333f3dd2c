"""A NetworkPolicy is pruned after the pods that it selects are gone.

The process of a terminating pod lives on for a second or two, with the network that the API server knows.
"""

from dataclasses import replace

import pytest

from interlock.cluster.applier import Applier
from interlock.cluster.child_cache import ChildCache
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
async def test_a_networkpolicy_outlives_the_pods_that_it_selects(placement: Placement) -> None:
    client, store = FakeClient(pods_linger=True), ChildCache()
    applier = Applier(client, store)  # type: ignore[arg-type]
    desired = desired_children(replace(placement, guard_addresses=("10.96.0.41",)))
    applied = await applier.carry_out(plan_children(desired, {}, {}), *AGENT, {})
    policies = set(client.of_kind("NetworkPolicy"))
    assert policies
    for workload in client.of_kind("Deployment").values():
        name, labels = workload["metadata"]["name"], workload["spec"]["template"]["metadata"]["labels"]
        client.put(f"{PODS}/{name}", {"kind": "Pod", "metadata": {"name": name, "labels": labels}})

    await applier.carry_out(plan_children((), store.of(AGENT, UID), applied), *AGENT, applied)

    pods = client.of_kind("Pod")
    assert pods
    assert all("deletionTimestamp" in pod["metadata"] for pod in pods.values())
    assert set(client.objects) == policies | set(pods)
    assert pending(store).waits_for_pods

    for path in pods:
        del client.objects[path]
    await applier.carry_out(pending(store), *AGENT, {})

    assert client.objects == {}
    assert pending(store).is_empty
