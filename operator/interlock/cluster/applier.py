"""The applier of plans: server-side apply, removal of fields that others added, deletion of surplus children."""

import asyncio
from collections.abc import Callable, Iterable

from interlock.cluster.child_cache import ChildCache
from interlock.deployment.names import ChildKey, Manifest
from interlock.deployment.ownership import hand_over, has_foreign_fields
from interlock.deployment.plan import WORKLOAD, WritePlan
from interlock_contract.kill import GRACE_SECONDS
from interlock_contract.names import FIELD_MANAGER
from interlock_kube.client import CONFLICT, JSON_PATCH, ApiError, Json, KubeClient
from interlock_kube.resource_types import BY_KIND, POD, REPLICA_SET

BACKGROUND = {"propagationPolicy": "Background"}
IN_FLIGHT = 40  # a small API server queues further requests


class ApplyFailed(Exception):  # noqa: N818 - it says what happened to a child
    """The API server refused a child; the message names the child and the reason."""


class Applier:
    """Writes children, and caches the answers of the API server."""

    def __init__(self, client: KubeClient, store: ChildCache) -> None:
        self._client = client
        self._store = store
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def carry_out(
        self, plan: WritePlan, namespace: str, agent: str, *, may_start_pods: Callable[[], bool] = lambda: True
    ) -> None:
        """Apply what workloads need, then the grants, then the workloads, then delete surplus children.

        Args:
            plan: The writes.
            namespace: The namespace of the owner.
            agent: The name of the owner.
            may_start_pods: Asked right before each write of a workload that wants pods. Where it says no, this write
                and all after it are left out: the owner was killed since its plan was made, or deleted.

        Raises:
            ApplyFailed: A child was refused. The groups after its group were not tried.
        """
        for group in (plan.prepare, plan.grants):
            await self._together(self._apply(manifest) for manifest in group)
        for manifest in plan.workloads:
            if not await self._apply(manifest, may_start_pods):
                return
        await self._together(self._prune(key, namespace, agent) for key in plan.prune)

    async def _together(self, writes: Iterable[object]) -> None:
        results = await asyncio.gather(*writes, return_exceptions=True)  # type: ignore[call-overload]
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _apply(self, manifest: Manifest, may_start_pods: Callable[[], bool] = lambda: True) -> bool:
        """Apply one child; return False if that would start pods, and none may start any longer."""
        kind = BY_KIND[manifest["kind"]]
        name = manifest["metadata"]["name"]
        path = kind.path(manifest["metadata"]["namespace"], name)
        starts_pods = manifest["kind"] == WORKLOAD and manifest["spec"].get("replicas", 1) != 0

        def may_write() -> bool:
            return not starts_pods or may_start_pods()

        with self._store.writing(kind.kind, manifest):
            try:
                async with self._slots:
                    if not may_write():
                        return False
                    live = await self._client.apply(path, manifest, FIELD_MANAGER)
                    if has_foreign_fields(live["metadata"].get("managedFields", [])):
                        await self._take_over(path, live)
                        if not may_write():
                            return False
                        live = await self._client.apply(path, manifest, FIELD_MANAGER)
            except ApiError as error:
                raise ApplyFailed(f"{kind.kind} {name}: {error.message}") from error
            self._store.put(kind.kind, live)
        return True

    async def _take_over(self, path: str, live: Json) -> None:
        """Take over all fields of others, so that the next apply removes those that the manifest does not name."""
        metadata = live["metadata"]
        patch = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": hand_over(metadata["managedFields"])},
        ]
        try:
            await self._client.patch(path, patch, FIELD_MANAGER, content_type=JSON_PATCH)
        except ApiError as error:
            if error.status != CONFLICT:
                raise

    async def _prune(self, key: ChildKey, namespace: str, agent: str) -> None:
        try:
            async with self._slots:
                path = BY_KIND[key.kind].path(namespace, key.name)
                await self._client.delete(path, BACKGROUND)
                if key.kind == WORKLOAD:
                    await self._delete_pods(namespace, self._store.selector_of((namespace, agent), key))
        except ApiError as error:
            raise ApplyFailed(f"{key.kind} {key.name} cannot be deleted: {error.message}") from error
        self._store.discard((namespace, agent), key)

    async def _delete_pods(self, namespace: str, selector: str) -> None:
        """Delete the ReplicaSets and pods of a deleted workload: the garbage collector may be busy with many others."""
        if selector:
            await self._client.delete_all(REPLICA_SET.within(namespace), selector, BACKGROUND)
            await self._client.delete_all(POD.within(namespace), selector, {"gracePeriodSeconds": GRACE_SECONDS})
