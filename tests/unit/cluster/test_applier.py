from dataclasses import replace
from typing import Any

import pytest

from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.child_cache import ChildCache
from interlock.deployment.names import ChildKey, Manifest, key_of
from interlock.deployment.plan import WritePlan, desired_children, plan_children
from interlock_kube.resource_types import BY_KIND
from tests.requirements import requirement
from tests.support.builders import a_placement, an_agent
from tests.support.fake_client import FakeClient

DESIRED = desired_children(a_placement())
PLAN = plan_children(DESIRED, {})
AGENT = ("agents", "triage")
UID = "uid-of-triage"
FOREIGN = {"manager": "kubectl-edit", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:data": {"f:x": {}}}}


def path_of(manifest: Manifest) -> str:
    return BY_KIND[manifest["kind"]].path(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def paths(kind: str) -> list[str]:
    return [path_of(manifest) for manifest in DESIRED if manifest["kind"] == kind]


class Cluster:
    def __init__(self) -> None:
        self.client = FakeClient()
        self.store = ChildCache()
        self.applier = Applier(self.client, self.store)  # type: ignore[arg-type]

    async def carry_out(self, plan: WritePlan = PLAN) -> None:
        await self.applier.carry_out(plan, *AGENT)

    def pending(self) -> WritePlan:
        return plan_children(DESIRED, self.store.of(AGENT, UID))


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def test_an_applied_plan_has_nothing_pending(cluster: Cluster) -> None:
    await cluster.carry_out()

    assert cluster.pending().is_empty
    assert len(cluster.client.objects) == len(DESIRED)


@requirement("operator.late-events")
async def test_a_child_that_is_deleted_before_the_response_to_its_write_is_pending(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = cluster.client.apply

    async def apply_and_lose(path: str, manifest: Manifest, manager: str) -> Any:
        live = await apply(path, manifest, manager)
        key = live["metadata"]["namespace"], live["metadata"]["name"]
        cluster.store.drop(live["kind"], key, int(live["metadata"]["resourceVersion"]) + 1)
        return live

    monkeypatch.setattr(cluster.client, "apply", apply_and_lose)
    await cluster.carry_out()

    pending = cluster.pending()
    assert len([*pending.prepare, *pending.grants, *pending.workloads]) == len(DESIRED)


@requirement("deployment.workloads-last")
async def test_the_workload_is_written_after_all_the_others(cluster: Cluster) -> None:
    await cluster.carry_out()

    written = [path for _, path in cluster.client.writes()]
    assert written[-1:] == paths("Deployment")
    assert written[-2:-1] == paths("RoleBinding")


@requirement("operator.converges")
@pytest.mark.parametrize("manifest", DESIRED, ids=lambda manifest: f"{manifest['kind']}-{manifest['metadata']['name']}")
async def test_a_child_that_is_refused_is_named_and_the_next_try_writes_only_what_is_pending(
    cluster: Cluster, manifest: Manifest
) -> None:
    cluster.client.refuse("APPLY", path_of(manifest), status=403)

    with pytest.raises(ApplyFailed, match=f"^{manifest['kind']} {manifest['metadata']['name']}: no APPLY today$"):
        await cluster.carry_out()

    if manifest["kind"] != "Deployment":
        assert cluster.client.of_kind("Deployment") == {}
    kept = len(cluster.client.objects)
    cluster.client.forget_requests()
    await cluster.carry_out(cluster.pending())
    assert len(cluster.client.writes()) == len(DESIRED) - kept
    assert cluster.pending().is_empty


async def test_a_lost_connection_is_passed_on_and_the_next_try_converges(cluster: Cluster) -> None:
    cluster.client.break_with(TimeoutError(), "APPLY", paths("Role")[0])

    with pytest.raises(TimeoutError):
        await cluster.carry_out()

    await cluster.carry_out(cluster.pending())
    assert cluster.pending().is_empty


# Additions of others


async def touched(cluster: Cluster) -> str:
    """Add to a ConfigMap as another user, and update the store."""
    await cluster.carry_out()
    path = paths("ConfigMap")[0]
    cluster.client.add_foreign(path, FOREIGN, {"data": {"x": "smuggled"}})
    cluster.store.put("ConfigMap", cluster.client.objects[path])
    cluster.client.forget_requests()
    return path


@requirement("deployment.additions")
async def test_what_others_added_is_removed_and_nothing_is_pending_afterwards(cluster: Cluster) -> None:
    path = await touched(cluster)
    assert [key_of(manifest).kind for manifest in cluster.pending().prepare] == ["ConfigMap"]

    await cluster.carry_out(cluster.pending())

    assert "x" not in cluster.client.objects[path]["data"]
    assert [method for method, _ in cluster.client.writes()] == ["APPLY", "PATCH", "APPLY"]
    assert cluster.pending().is_empty


@pytest.mark.parametrize(("method", "nth"), [("APPLY", 1), ("PATCH", 1), ("APPLY", 2)])
async def test_a_heal_that_is_refused_half_way_is_reported_and_done_at_the_next_try(
    cluster: Cluster, method: str, nth: int
) -> None:
    path = await touched(cluster)
    if nth == 1:
        cluster.client.refuse(method, path, status=500)
    else:
        _refuse_second(cluster.client, path)

    with pytest.raises(ApplyFailed, match=r"^ConfigMap "):
        await cluster.carry_out(cluster.pending())

    assert not cluster.pending().is_empty
    await cluster.carry_out(cluster.pending())
    assert "x" not in cluster.client.objects[path]["data"]
    assert cluster.pending().is_empty


def _refuse_second(client: FakeClient, path: str) -> None:
    """Refuse the apply that follows the hand-over."""
    patch = client.patch

    async def then_refuse(*arguments: Any, **keywords: Any) -> Any:
        client.patch = patch  # type: ignore[method-assign]
        answer = await patch(*arguments, **keywords)
        client.refuse("APPLY", path)
        return answer

    client.patch = then_refuse  # type: ignore[method-assign]


async def test_an_object_that_changes_during_the_hand_over_is_left_for_the_next_reconcile(cluster: Cluster) -> None:
    path = await touched(cluster)
    cluster.client.refuse("PATCH", path, status=409)

    await cluster.carry_out(cluster.pending())

    assert not cluster.pending().is_empty
    await cluster.carry_out(cluster.pending())
    assert cluster.pending().is_empty


# Pruning


@requirement("deployment.prune")
async def test_what_is_pruned_goes_with_all_that_it_owns(cluster: Cluster) -> None:
    await cluster.carry_out()
    cluster.client.forget_requests()

    await cluster.carry_out(plan_children((), cluster.store.of(AGENT, UID)))

    assert cluster.client.objects == {}
    assert all("propagationPolicy" in body or "gracePeriodSeconds" in body for body in cluster.client.bodies)
    assert cluster.store.of(AGENT, UID) == {}


@requirement("deployment.prune")
async def test_a_pruned_workload_deletes_its_pods_without_kubernetes_gc(cluster: Cluster) -> None:
    await cluster.carry_out()
    [workload] = [manifest for manifest in DESIRED if manifest["kind"] == "Deployment"]
    pods = "/api/v1/namespaces/agents/pods"
    labels = workload["spec"]["template"]["metadata"]["labels"]
    for name, worn in (("own", labels), ("other", labels | {"interlock.dev/stage": "another"})):
        await cluster.client.create(pods, {"kind": "Pod", "metadata": {"name": name, "labels": worn}})
    cluster.client.forget_requests()

    await cluster.carry_out(WritePlan(prune=(key_of(workload),)))

    assert list(cluster.client.of_kind("Pod")) == [f"{pods}/other"]
    assert [path.partition("?")[0].rsplit("/", 1)[1] for _, path in cluster.client.writes()][1:] == [
        "replicasets",
        "pods",
    ]
    assert cluster.client.bodies[-1] == {"gracePeriodSeconds": 1}


async def test_a_pruning_that_is_refused_is_named_and_tried_again(cluster: Cluster) -> None:
    await cluster.carry_out()
    cluster.client.refuse("DELETE", paths("Role")[0], status=403)

    with pytest.raises(ApplyFailed, match=r"^Role triage-.* cannot be deleted: no DELETE today$"):
        await cluster.carry_out(plan_children((), cluster.store.of(AGENT, UID)))

    left = plan_children((), cluster.store.of(AGENT, UID)).prune
    assert left == (ChildKey("Role", paths("Role")[0].rsplit("/", 1)[1]),)
    await cluster.carry_out(WritePlan(prune=left))
    assert cluster.client.objects == {}


async def test_what_is_gone_already_is_pruned_without_complaint(cluster: Cluster) -> None:
    await cluster.carry_out(WritePlan(prune=(ChildKey("ConfigMap", "gone"),)))

    assert cluster.client.writes() == [("DELETE", "/api/v1/namespaces/agents/configmaps/gone")]


async def test_nothing_is_pruned_while_what_replaces_it_does_not_stand(cluster: Cluster) -> None:
    cluster.client.refuse("APPLY", paths("Deployment")[0])

    with pytest.raises(ApplyFailed):
        await cluster.carry_out(replace(PLAN, prune=(ChildKey("Deployment", "old"),)))

    assert [path for method, path in cluster.client.writes() if method == "DELETE"] == []


async def test_applying_again_what_stands_makes_no_new_version(cluster: Cluster) -> None:
    await cluster.carry_out()
    before = cluster.client.version

    await cluster.carry_out(PLAN)

    assert cluster.client.version == before


async def test_two_agents_are_kept_apart(cluster: Cluster) -> None:
    other = desired_children(a_placement(an_agent("other")))
    await cluster.carry_out()
    await cluster.applier.carry_out(plan_children(other, {}), "agents", "other")

    assert cluster.pending().is_empty
    assert len(cluster.store.of(("agents", "other"), "uid-of-other")) == len(other)


@requirement("kill.order")
async def test_no_workload_is_written_for_an_agent_that_was_killed_since_its_plan_and_nothing_is_pruned(
    cluster: Cluster,
) -> None:
    await cluster.carry_out()
    old = paths("Deployment")[0]
    plan = replace(plan_children(DESIRED, {}), prune=(ChildKey("Deployment", "another"),))
    cluster.client.forget_requests()

    await cluster.applier.carry_out(plan, *AGENT, may_start_pods=lambda: False)

    assert ("APPLY", old) not in cluster.client.requests
    assert [method for method, _ in cluster.client.writes() if method == "DELETE"] == []


async def test_a_workload_is_not_written_again_for_an_agent_that_was_killed_during_its_repair(cluster: Cluster) -> None:
    await cluster.carry_out()
    path = paths("Deployment")[0]
    cluster.client.add_foreign(path, FOREIGN, {"spec": {"x": 1}})
    answers = iter((True, False))
    cluster.client.forget_requests()

    await cluster.applier.carry_out(
        WritePlan(workloads=tuple(one for one in DESIRED if path_of(one) == path)),
        *AGENT,
        may_start_pods=lambda: next(answers),
    )

    assert cluster.client.requests.count(("APPLY", path)) == 1
