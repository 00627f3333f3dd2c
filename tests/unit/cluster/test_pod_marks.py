"""The marks of pods by which the ReplicaSet's controller deletes those first that a scale-down has chosen."""

from typing import Any

import pytest

from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.child_cache import ChildCache
from interlock.deployment.names import DELETED_FIRST, POD_DELETION_COST
from interlock.reconcile.scale_downs import PodMark
from interlock_kube.resource_types import POD
from tests.support.fake_client import FakeClient


async def test_pods_are_marked_so_that_the_controller_deletes_them_first_and_one_that_is_gone_needs_no_mark() -> None:
    client: Any = FakeClient()
    applier = Applier(client, ChildCache())
    paths = [POD.path("agents", name) for name in ("a", "b", "gone")]
    for path, notes in zip(paths[:2], ({}, {POD_DELETION_COST: DELETED_FIRST}), strict=True):
        client.put(path, {"kind": "Pod", "metadata": {"annotations": notes}})

    await applier.mark_pods(
        "agents", [PodMark("a", is_first=True), PodMark("b", is_first=False), PodMark("gone", is_first=True)]
    )

    found = [client.objects[path]["metadata"]["annotations"] for path in paths[:2]]
    assert found == [{POD_DELETION_COST: DELETED_FIRST}, {}]


async def test_a_mark_that_is_refused_names_its_pod() -> None:
    client: Any = FakeClient()
    applier = Applier(client, ChildCache())
    client.refuse("PATCH", POD.path("agents", "a"), status=403)

    with pytest.raises(ApplyFailed, match="Pod a cannot be marked for deletion"):
        await applier.mark_pods("agents", [PodMark("a", is_first=True)])
