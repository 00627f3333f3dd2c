"""The end of pods that were started with more than is open now."""

from typing import Any

import pytest

from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.child_cache import ChildCache
from interlock.reconcile.withdrawn_pods import WithdrawnPod
from interlock_kube.resource_types import POD, REPLICA_SET
from tests.requirements import requirement
from tests.support.fake_client import FakeClient

LABELS = (("interlock.dev/agent", "triage"), ("pod-template-hash", "5d8"))
OLD = WithdrawnPod("old", "uid-of-old", LABELS)


def a_cluster() -> Any:
    client: Any = FakeClient()
    for name, template in (("old", "5d8"), ("new", "7c9")):
        labels = {"interlock.dev/agent": "triage", "pod-template-hash": template}
        metadata = {"name": name, "uid": f"uid-of-{name}", "labels": labels}
        client.put(POD.path("agents", name), {"kind": "Pod", "metadata": metadata})
        client.put(REPLICA_SET.path("agents", name), {"kind": "ReplicaSet", "metadata": metadata})
    client.forget_requests()
    return client


@requirement("egress.withdrawn")
async def test_exactly_these_pods_and_what_would_replace_them_by_their_like_are_deleted() -> None:
    client = a_cluster()

    await Applier(client, ChildCache()).end_pods("agents", [OLD])

    assert list(client.of_kind("ReplicaSet")) == [REPLICA_SET.path("agents", "new")]
    assert list(client.of_kind("Pod")) == [POD.path("agents", "new")]


async def test_a_pod_that_is_gone_needs_no_deletion() -> None:
    client: Any = FakeClient()

    await Applier(client, ChildCache()).end_pods("agents", [WithdrawnPod("gone", "u")])

    assert client.objects == {}


async def test_a_deletion_that_is_refused_names_its_pod() -> None:
    client = a_cluster()
    client.refuse("DELETE", POD.path("agents", "old"), status=403)

    with pytest.raises(ApplyFailed, match="Pod old cannot be deleted"):
        await Applier(client, ChildCache()).end_pods("agents", [OLD])
