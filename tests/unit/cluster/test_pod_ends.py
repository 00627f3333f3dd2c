"""Pods that end are deleted with the grace period of a kill, before anything scales, replaces or deletes a workload."""

from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest

from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.child_cache import ChildCache
from interlock.deployment.names import ChildKey, Manifest, key_of
from interlock.deployment.ownership import AppliedObject
from interlock.deployment.plan import WORKLOAD, WritePlan, desired_children, plan_children
from interlock.reconcile.ended_pods import EndedPod
from interlock_contract.names import HAS_CLAIMS_LABEL
from interlock_kube.resource_types import DEPLOYMENT, POD, REPLICA_SET
from tests.requirements import requirement
from tests.support.builders import a_placement
from tests.support.fake_client import FakeClient

AGENT = ("agents", "triage")
LABELS = (("interlock.dev/agent", "triage"), ("pod-template-hash", "5d8"))
OLD = EndedPod("old", "uid-of-old", LABELS)
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "n", "namespace": "agents", "ownerReferences": [{"kind": "Agent", "uid": "u"}]},
    "spec": {},
}
[WORKLOAD_MANIFEST] = [one for one in desired_children(a_placement()) if one["kind"] == WORKLOAD]
KEY = key_of(WORKLOAD_MANIFEST)
STOPPED = {**WORKLOAD_MANIFEST, "spec": {**WORKLOAD_MANIFEST["spec"], "replicas": 0}}
POD_LABELS = WORKLOAD_MANIFEST["spec"]["template"]["metadata"]["labels"]


def a_cluster() -> Any:
    client: Any = FakeClient()
    for name, template in (("old", "5d8"), ("new", "7c9")):
        labels = {"interlock.dev/agent": "triage", "pod-template-hash": template}
        metadata = {"name": name, "uid": f"uid-of-{name}", "labels": labels}
        client.put(POD.path("agents", name), {"kind": "Pod", "metadata": metadata})
        client.put(REPLICA_SET.path("agents", name), {"kind": "ReplicaSet", "metadata": metadata})
    client.forget_requests()
    return client


class Placed:
    """An applier of an agent with one Deployment that runs, whose pod has the labels of its template."""

    def __init__(self) -> None:
        self.client: Any = a_cluster()
        self.store = ChildCache()
        live = self.client.put(DEPLOYMENT.path("agents", KEY.name), WORKLOAD_MANIFEST)
        live["metadata"]["uid"] = "uid-of-workload"
        self.store.put(WORKLOAD, live)
        self.client.put(POD.path("agents", "own"), {"kind": "Pod", "metadata": {"name": "own", "labels": POD_LABELS}})
        self.client.forget_requests()
        self.applied = {KEY: AppliedObject("uid-of-workload", "")}

    async def carry_out(self, plan: WritePlan, *ends: EndedPod) -> None:
        await Applier(self.client, self.store).carry_out(plan, *AGENT, self.applied, ends=ends)

    @property
    def writes(self) -> list[str]:
        """What was written, in order: the method, the kind, and the name if there is one."""
        found = []
        for method, path in self.client.writes():
            head, _, name = path.partition("?")[0].rpartition("/")
            is_collection = "?" in path
            kind = name if is_collection else head.rpartition("/")[2]
            found.append(f"{method} {kind}" if is_collection else f"{method} {kind}/{name}")
        return found


@requirement("egress.withdrawn")
async def test_exactly_these_pods_and_what_would_replace_them_by_their_like_are_deleted() -> None:
    client = a_cluster()

    await Applier(client, ChildCache()).end_pods("agents", [OLD])

    assert list(client.of_kind("ReplicaSet")) == [REPLICA_SET.path("agents", "new")]
    assert list(client.of_kind("Pod")) == [POD.path("agents", "new")]


async def test_a_pod_that_is_gone_needs_no_deletion() -> None:
    client: Any = FakeClient()

    await Applier(client, ChildCache()).end_pods("agents", [EndedPod("gone", "u")])

    assert client.objects == {}


async def test_a_deletion_that_is_refused_names_its_pod() -> None:
    client = a_cluster()
    client.refuse("DELETE", POD.path("agents", "old"), status=403)

    with pytest.raises(ApplyFailed, match="Pod old cannot be deleted"):
        await Applier(client, ChildCache()).end_pods("agents", [OLD])


@requirement("kill.order")
async def test_all_pods_of_a_workload_that_ends_are_deleted_before_it_is_scaled() -> None:
    placed = Placed()

    await placed.carry_out(WritePlan(workloads=(STOPPED,), ending=frozenset([KEY])))

    assert placed.writes == ["DELETE pods", f"PATCH deployments/{KEY.name}"]
    assert placed.client.bodies[0] == {"gracePeriodSeconds": 1}
    assert POD.path("agents", "own") not in placed.client.objects


async def test_the_controller_ends_the_pods_of_any_other_workload_with_their_own_grace_period() -> None:
    placed = Placed()

    await placed.carry_out(WritePlan(workloads=(STOPPED,)))

    assert placed.writes == [f"PATCH deployments/{KEY.name}"]


@requirement("kill.order", "egress.withdrawn")
async def test_pods_that_end_are_deleted_once_their_way_is_closed_and_before_their_workload_is_replaced() -> None:
    placed = Placed()
    plan = WritePlan(prepare=(POLICY,), workloads=(WORKLOAD_MANIFEST,), missing=frozenset([key_of(POLICY)]))

    await placed.carry_out(plan, OLD)

    assert placed.writes == [
        "POST networkpolicies/n",
        "DELETE pods/old",
        f"PATCH deployments/{KEY.name}",
        "DELETE replicasets",
    ]


@requirement("kill.order")
@pytest.mark.parametrize("known", ["cached", "lost", "of an earlier owner"])
async def test_a_workload_that_is_deleted_is_so_between_two_deletions_of_its_pods(known: str) -> None:
    """The garbage collector gives pods the grace period of their template, and the controller makes new ones."""
    placed = Placed()
    plan = WritePlan(prune=(KEY,))
    if known == "lost":
        placed.store.drop(WORKLOAD, ("agents", KEY.name), placed.client.version + 1)
    if known == "of an earlier owner":
        [owner] = WORKLOAD_MANIFEST["metadata"]["ownerReferences"]
        metadata = {**WORKLOAD_MANIFEST["metadata"], "ownerReferences": [owner | {"uid": "another"}]}
        plan = WritePlan(workloads=({**WORKLOAD_MANIFEST, "metadata": metadata},))

    await placed.carry_out(plan)

    deletions = [one for one in placed.writes if one.startswith("DELETE")]
    assert deletions == ["DELETE pods", f"DELETE deployments/{KEY.name}", "DELETE replicasets", "DELETE pods"]


async def test_a_pod_with_claims_is_not_deleted_before_a_workload_that_would_make_another_one() -> None:
    placed = Placed()

    await placed.carry_out(WritePlan(prune=(KEY,)))

    first, last = [unquote(path) for method, path in placed.client.writes() if method == "DELETE" and "/pods?" in path]
    assert f",!{HAS_CLAIMS_LABEL}" in first
    assert HAS_CLAIMS_LABEL not in last


@requirement("kill.order")
@pytest.mark.parametrize("refused", ["pods of the workload", "a pod"])
async def test_a_refused_end_of_pods_keeps_no_workload_and_is_told(refused: str) -> None:
    """An end with the grace period of the template comes late, but none would never come."""
    placed = Placed()
    path = POD.path("agents", "old") if refused == "a pod" else f"{POD.within('agents')}?"
    placed.client.refuse("DELETE", path, status=403)

    with pytest.raises(ApplyFailed, match=r"[Pp]od .*cannot be deleted: no DELETE today") as failure:
        await placed.carry_out(WritePlan(workloads=(STOPPED,), ending=frozenset([KEY])), OLD)

    assert placed.client.objects[DEPLOYMENT.path("agents", KEY.name)]["spec"]["replicas"] == 0
    assert set(failure.value.written) == {KEY}, "what was written is recorded"


@requirement("kill.order")
async def test_a_refused_first_deletion_of_pods_keeps_no_workload_that_is_deleted() -> None:
    placed = Placed()
    placed.client.refuse("DELETE", f"{POD.within('agents')}?", status=500)

    await placed.carry_out(WritePlan(prune=(KEY,)))

    assert not placed.client.of_kind("Deployment")
    assert POD.path("agents", "own") not in placed.client.objects


def ending(
    live: int = 2,
    wanted: int = 0,
    *,
    is_stopped: bool = False,
    is_touched: bool = False,
    starts_pods: bool = True,
    grace: int | None = 1,
) -> frozenset[ChildKey]:
    """Return the Deployments whose pods end before they are written, of one whose number of pods changes."""

    def of(replicas: int) -> tuple[Manifest, ...]:
        return desired_children(replace(a_placement(), replicas=replicas))

    placed = {key_of(one): one for one in of(live)}
    store = ChildCache()
    pod = placed[KEY]["spec"]["template"]["spec"]
    assert pod.pop("terminationGracePeriodSeconds") == 1
    pod |= {} if grace is None else {"terminationGracePeriodSeconds": grace}
    for key, one in placed.items():
        metadata = one["metadata"] | {"uid": "u", "resourceVersion": "1"}
        store.put(key.kind, {**one, "metadata": metadata})
    applied = {key: AppliedObject("u", "of another content" if is_touched else "") for key in placed}
    [owner] = WORKLOAD_MANIFEST["metadata"]["ownerReferences"]
    plan = plan_children(
        of(wanted),
        store.of(AGENT, owner["uid"]),
        applied if is_touched else {},
        starts_pods=starts_pods,
        stopped=frozenset([KEY] if is_stopped else []),
    )
    return plan.ending


@requirement("kill.order")
def test_pods_end_first_where_a_kill_or_a_budget_stops_them_or_they_may_be_those_of_others() -> None:
    assert ending(is_stopped=True) == {KEY}
    assert ending(is_stopped=True, starts_pods=False) == {KEY}
    assert ending(live=0, is_stopped=True) == frozenset(), "it has none"
    assert ending() == frozenset(), "a user scales it down"
    assert ending(wanted=2, is_touched=True, starts_pods=False) == {KEY}, "changed by others while no pod may start"
    assert ending(wanted=2, is_touched=True) == frozenset(), "changed by others, and repaired"
    for grace in (2, None):
        assert ending(wanted=2, is_touched=True, grace=grace) == {KEY}, "others gave them a longer period"
        assert ending(wanted=2, grace=grace) == frozenset(), "an earlier version gave them a longer period"
