"""The marks of pods that a scale-down has chosen: the controller deletes them first, and no Service leads to them."""

from typing import Any

import pytest

from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.child_cache import ChildCache
from interlock.deployment.names import DELETED_FIRST, POD_DELETION_COST
from interlock.reconcile.scale_downs import PodMark
from interlock_contract.names import ENDPOINT, ENDPOINT_LABEL, GUARD_LABEL
from interlock_kube.resource_types import POD
from tests.support.fake_client import FakeClient

STAYS: dict[str, Any] = {"annotations": {}, "labels": {GUARD_LABEL: "triage", ENDPOINT_LABEL: ENDPOINT}}
GOES: dict[str, Any] = {"annotations": {POD_DELETION_COST: DELETED_FIRST}, "labels": {GUARD_LABEL: "triage"}}
AGENT_STAYS: dict[str, Any] = {"annotations": {}, "labels": {}}
AGENT_GOES: dict[str, Any] = {"annotations": {POD_DELETION_COST: DELETED_FIRST}, "labels": {}}


@pytest.mark.parametrize(
    ("before", "after", "goes", "has_guard"),
    [
        (STAYS, GOES, True, True),
        (GOES, STAYS, False, True),
        (AGENT_STAYS, AGENT_GOES, True, False),
        (AGENT_GOES, AGENT_STAYS, False, False),
    ],
    ids=["a guard goes", "a guard stays after all", "an agent goes", "an agent stays after all"],
)
async def test_a_pod_is_marked_as_one_that_goes_or_as_one_that_stays(
    before: dict[str, Any], after: dict[str, Any], *, goes: bool, has_guard: bool
) -> None:
    client: Any = FakeClient()
    path = POD.path("agents", "a")
    client.put(path, {"kind": "Pod", "metadata": {"name": "a", **before}})

    await Applier(client, ChildCache()).mark_pods("agents", [PodMark("a", goes, has_guard)])

    found = client.objects[path]["metadata"]
    assert {key: found[key] for key in after} == after


async def test_a_pod_that_is_gone_needs_no_mark() -> None:
    client: Any = FakeClient()

    await Applier(client, ChildCache()).mark_pods("agents", [PodMark("gone", goes=True, has_guard=True)])

    assert client.objects == {}


async def test_a_mark_that_is_refused_names_its_pod() -> None:
    client: Any = FakeClient()
    client.refuse("PATCH", POD.path("agents", "a"), status=403)

    with pytest.raises(ApplyFailed, match="Pod a cannot be marked for deletion"):
        await Applier(client, ChildCache()).mark_pods("agents", [PodMark("a", goes=True, has_guard=True)])
