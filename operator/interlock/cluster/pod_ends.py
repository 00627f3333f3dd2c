"""The end of pods: whatever ends pods deletes them itself, with the grace period of a kill, and then their workload.

The controller of a ReplicaSet and the garbage collector delete pods with the grace period of their template, and a
kubelet does not shorten a deletion that is under way. So a workload that is scaled to zero, replaced or deleted first
would leave its pods running for that long, however soon a deletion of ours follows. An example with 300 s:

    pods are deleted with 1 s, then the Deployment is scaled to zero    the last process ends after 2 to 3 s
    the Deployment is scaled to zero, then the pods are deleted         a process that ignores SIGTERM runs for 300 s

Pods that the controller creates in between have just begun, and are deleted with their workload. A pod that mounts
claims must never run next to another one, though. Unless its agent is killed, it ends with its workload.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from interlock.cluster.apply_failure import ApplyFailed, because, has_status
from interlock.deployment.names import Manifest, key_of
from interlock.deployment.plan import WORKLOAD, WritePlan
from interlock.reconcile.ended_pods import EndedPod
from interlock_contract.kill import GRACE_SECONDS
from interlock_contract.names import HAS_CLAIMS_LABEL
from interlock_kube.client import CONFLICT, NOT_FOUND, UNREACHABLE, ApiError, Json, KubeClient
from interlock_kube.resource_types import POD, REPLICA_SET

BACKGROUND: Final[Json] = {"propagationPolicy": "Background"}
_SOON: Final[Json] = {"gracePeriodSeconds": GRACE_SECONDS}


async def end_pods(client: KubeClient, slots: asyncio.Semaphore, namespace: str, pods: Iterable[EndedPod]) -> None:
    """Delete exactly these pods.

    Args:
        client: Speaks to the API server.
        slots: Bounds the requests for the namespace.
        namespace: The namespace of the pods.
        pods: The pods.

    Raises:
        ApplyFailed: The API server refused one; the others were deleted. A pod that is gone needs no deletion.
    """
    requests = (
        _try_to(
            client.delete(POD.path(namespace, one.name), {**_SOON, "preconditions": {"uid": one.uid}}),
            slots,
            f"Pod {one.name}",
        )
        for one in pods
    )
    for result in await asyncio.gather(*requests, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def end_first(
    client: KubeClient, slots: asyncio.Semaphore, namespace: str, plan: WritePlan, pods: Iterable[EndedPod]
) -> ApplyFailed | None:
    """Delete the pods that end before the workloads of a plan are written.

    Args:
        client: Speaks to the API server.
        slots: Bounds the requests for the namespace.
        namespace: The namespace of the plan.
        plan: The plan. All pods of its workloads in `ending` end.
        pods: The pods that end besides.

    Returns:
        Why one could not be deleted; None if all were. That is for later: the workloads, once written, end them too.
    """

    async def end_those_of(workload: Manifest) -> None:
        selector = join_labels(workload["spec"]["selector"]["matchLabels"])
        deletion = end_all_pods(client, namespace, selector)
        await _try_to(deletion, slots, f"A pod of {WORKLOAD} {key_of(workload).name}")

    ending = (end_those_of(one) for one in plan.workloads if key_of(one) in plan.ending)
    for result in await asyncio.gather(*ending, end_pods(client, slots, namespace, pods), return_exceptions=True):
        if isinstance(result, ApplyFailed):
            return result
        if isinstance(result, BaseException):
            raise result
    return None


async def delete_replica_sets(
    client: KubeClient, slots: asyncio.Semaphore, namespace: str, pods: Iterable[EndedPod]
) -> None:
    """Delete the ReplicaSets that would replace pods by their like. The pods themselves were deleted before.

    Raises:
        ApplyFailed: The API server refused.
    """
    for labels in sorted({one.replica_set for one in pods if one.replica_set}):
        selector = join_labels(dict(labels))
        request = client.delete_all(REPLICA_SET.within(namespace), selector, BACKGROUND)
        await _try_to(request, slots, f"ReplicaSet with the labels {selector}")


async def end_all_pods(client: KubeClient, namespace: str, selector: str) -> None:
    """Delete all pods with these labels.

    Raises:
        ApiError: The API server refused.
    """
    await client.delete_all(POD.within(namespace), selector, _SOON)


async def delete_workload(client: KubeClient, path: str, namespace: str, selector: str, preconditions: Json) -> None:
    """Delete a Deployment, its ReplicaSets and its pods, the pods first and last, and those with claims last alone.

    The garbage collector may be busy with many others, so nothing waits for it. Where the first deletion is refused,
    the Deployment goes nevertheless: the garbage collector ends the pods then, if later.

    Args:
        client: Speaks to the API server.
        path: Path of the Deployment.
        namespace: Its namespace.
        selector: The label selector of its pods; empty where it is not known.
        preconditions: What the Deployment must still be like.

    Raises:
        ApiError: The API server refused.
    """
    if selector:
        with suppress(ApiError, *UNREACHABLE):
            await end_all_pods(client, namespace, f"{selector},!{HAS_CLAIMS_LABEL}")
    await client.delete(path, {**BACKGROUND, "preconditions": preconditions})
    if selector:
        await client.delete_all(REPLICA_SET.within(namespace), selector, BACKGROUND)
        await end_all_pods(client, namespace, selector)


def join_labels(labels: Mapping[str, str]) -> str:
    """Return the label selector of objects with these labels; empty for none."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


async def _try_to(request: Awaitable[object], slots: asyncio.Semaphore, named: str) -> None:
    try:
        async with slots:
            await request
    except (ApiError, *UNREACHABLE) as error:
        if not has_status(error, NOT_FOUND, CONFLICT):
            raise ApplyFailed(f"{named} cannot be deleted: {because(error)}") from error
