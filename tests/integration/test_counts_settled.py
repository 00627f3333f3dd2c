"""The settler of counts on a real API server: it refuses a write that names a text which is no longer there."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from interlock_contract.names import COUNTS_PREFIX
from interlock_contract.work_counts import WorkCounts, read_counts
from interlock_guard.counts_settler import CountsSettler
from interlock_kube.client import ApiError, KubeClient
from interlock_process.kubeconfig import KubeconfigCredentials
from tests.integration.kubectl import Cluster

pytestmark = pytest.mark.api

LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
LEASE = f"{LEASES}/counted"


@pytest.fixture
async def client(kwok_cluster: Cluster) -> AsyncIterator[KubeClient]:
    made = KubeClient(KubeconfigCredentials(Path(kwok_cluster.kubeconfig)))
    await made.create(LEASES, {"metadata": {"name": "counted"}, "spec": {}})
    yield made
    await made.delete(LEASE, {})
    await made.close()


class Pod:
    """The processes of one pod's guard, one after the other."""

    def __init__(self, client: KubeClient, name: str) -> None:
        self.client, self.name, self.processes = client, name, 0

    def start(self, cost: int) -> CountsSettler:
        """Return the settler of a new process, which has counted this cost."""
        self.processes += 1
        return CountsSettler(
            self.client,
            LEASE,
            self.name,
            run=f"{self.processes:016x}",
            count=lambda: WorkCounts(cost=cost),
            is_wanted=lambda: True,
        )


async def counts_in(client: KubeClient) -> WorkCounts:
    found: Any = await client.get(LEASE)
    return read_counts(found["metadata"]["annotations"])


async def test_processes_of_several_pods_settle_side_by_side_and_one_after_the_other(client: KubeClient) -> None:
    first, second = Pod(client, "a-0"), Pod(client, "a-1")
    for _ in range(3):
        await first.start(1).settle()
        await second.start(100).settle()
    assert await counts_in(client) == WorkCounts(cost=303)


async def test_a_write_that_arrives_after_the_next_process_has_written_is_refused(client: KubeClient) -> None:
    pod, cost = Pod(client, "a-0"), 1
    earlier = pod.start(0)
    earlier._count = lambda: WorkCounts(cost=cost)  # noqa: SLF001 - counts that grow
    late_first = pod.start(1)
    late_first._take_over((await client.get(LEASE))["metadata"])  # noqa: SLF001 - it reads, and its write is late
    await earlier.settle()
    with pytest.raises(ApiError, match="409"):
        await late_first._replace("late")
    await pod.start(10).settle()
    cost = 5
    with pytest.raises(ApiError, match="422"):
        await earlier._replace("late")
    assert await counts_in(client) == WorkCounts(cost=11)
    found: Any = await client.get(LEASE)
    assert list(found["metadata"]["annotations"]) == [f"{COUNTS_PREFIX}a-0"]
