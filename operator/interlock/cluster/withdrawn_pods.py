"""The end of pods that were started with more than their policy opens now."""

import asyncio
from collections.abc import Awaitable, Iterable

from interlock.cluster.apply_failure import ApplyFailed, because, has_status
from interlock.reconcile.withdrawn_pods import WithdrawnPod
from interlock_contract.kill import GRACE_SECONDS
from interlock_kube.client import CONFLICT, NOT_FOUND, UNREACHABLE, ApiError, Json, KubeClient
from interlock_kube.resource_types import POD, REPLICA_SET


async def end_pods(client: KubeClient, slots: asyncio.Semaphore, namespace: str, pods: Iterable[WithdrawnPod]) -> None:
    """Delete pods, and the ReplicaSets that would replace them by their like.

    Args:
        client: Speaks to the API server.
        slots: Bounds the requests for the namespace.
        namespace: The namespace of the pods.
        pods: The pods.

    Raises:
        ApplyFailed: The API server refused. A pod that is gone needs no deletion.
    """
    ended = tuple(pods)

    async def try_to(request: Awaitable[object], named: str) -> None:
        try:
            async with slots:
                await request
        except (ApiError, *UNREACHABLE) as error:
            if not has_status(error, NOT_FOUND, CONFLICT):
                raise ApplyFailed(f"{named} cannot be deleted: {because(error)}") from error

    # The pods first: the garbage collector would give them their own grace period, which no later deletion shortens.
    requests = (try_to(client.delete(POD.path(namespace, one.name), _exactly(one)), f"Pod {one.name}") for one in ended)
    for result in await asyncio.gather(*requests, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
    for labels in sorted({one.replica_set for one in ended if one.replica_set}):
        selector = ",".join(f"{name}={value}" for name, value in labels)
        path = REPLICA_SET.within(namespace)
        await try_to(
            client.delete_all(path, selector, {"propagationPolicy": "Background"}),
            f"ReplicaSet with the labels {selector}",
        )


def _exactly(pod: WithdrawnPod) -> Json:
    return {"gracePeriodSeconds": GRACE_SECONDS, "preconditions": {"uid": pod.uid}}
