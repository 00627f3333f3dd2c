"""The applier of plans: creation, replacement of what is ours, deletion of surplus children.

An object is written only if it is new or ours. A foreign object of a child's name stays as it is. Secrets are created
and deleted, and never read: even the answers of the API server come without their content.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final

from interlock.api.status import AgentReason
from interlock.cluster.apply_failure import ApplyFailed, because, has_status
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.ledger_store import LedgerStore
from interlock.cluster.needed_by_pods import NeededByPods
from interlock.cluster.obstacles import find_obstacle
from interlock.cluster.pod_ends import (
    BACKGROUND,
    delete_replica_sets,
    delete_workload,
    end_all_pods,
    end_first,
    end_pods,
    join_labels,
)
from interlock.deployment.names import DELETED_FIRST, POD_DELETION_COST, ChildKey, Manifest, bundle_text, key_of
from interlock.deployment.observed.pod_reports import mounted_claims
from interlock.deployment.ownership import (
    AppliedObject,
    AppliedObjects,
    applied_object,
    is_left_over,
    is_owned,
    replacement,
)
from interlock.deployment.plan import JOB, OUTLIVES_PODS, SECRET, WORKLOAD, WritePlan, drifted_member
from interlock.governance.budgets import LedgerIdentity
from interlock.reconcile.ended_pods import EndedPod
from interlock.reconcile.scale_downs import PodMark
from interlock_contract.names import (
    AGENT_LABEL,
    APP_MANAGED_BY_LABEL,
    BINDING_LABEL,
    CLAIMS,
    ENDPOINT,
    ENDPOINT_LABEL,
    FIELD_MANAGER,
    HAS_CLAIMS_LABEL,
    MANAGED_BY,
)
from interlock_kube.client import (
    CONFLICT,
    INVALID,
    JSON_PATCH,
    METADATA_LIST,
    METADATA_ONLY,
    NOT_FOUND,
    UNREACHABLE,
    ApiError,
    Json,
    KubeClient,
    says_exists,
)
from interlock_kube.resource_types import BUDGET_LEDGER, BY_KIND, POD, is_object_name
from interlock_kube.watch import read_pages

__all__ = ["IN_FLIGHT", "Applier", "ApplyFailed", "because"]

IN_FLIGHT: Final = 8
"""Most writes for one namespace at once: a webhook that is slow there leaves connections for the others."""
ATTEMPTS = 6
"""Attempts to create or replace one object, since others write it at the same time, such as a Deployment's status."""
_WITH_CLAIMS: Final = f"{APP_MANAGED_BY_LABEL}={MANAGED_BY},{HAS_CLAIMS_LABEL}"
"""Pods of agents with claims. Others cannot set the label of managed objects, so no pod of theirs is waited for."""
_ALIVE: Final = "status.phase!=Failed,status.phase!=Succeeded"


class Applier:
    """Writes children, and caches the answers of the API server.

    Args:
        client: Speaks to the API server.
        store: The children.
        ledgers: The ledgers, None for an owner that spends no money.
    """

    def __init__(self, client: KubeClient, store: ChildCache, ledgers: LedgerStore | None = None) -> None:
        self._client = client
        self._store = store
        self._ledgers = ledgers
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(IN_FLIGHT))

    async def create_ledgers(self, namespace: str, ledgers: Iterable[LedgerIdentity], addressee: str) -> None:
        """Create the ledgers that do not exist.

        Args:
            namespace: Their namespace.
            ledgers: Whose they are.
            addressee: The owner of the Agent.

        Raises:
            ApplyFailed: One could not be created.
        """
        for identity in ledgers:
            try:
                async with self._slots[namespace]:
                    if self._ledgers is not None:
                        await self._ledgers.create(namespace, identity, addressee if identity.agent else "")
            except (ApiError, *UNREACHABLE) as error:
                message = f"{BUDGET_LEDGER.kind} {identity.name} cannot be created: {because(error)}"
                raise ApplyFailed(message, AgentReason.LEDGER_MISSING) from error

    async def carry_out(
        self,
        plan: WritePlan,
        namespace: str,
        owner: str,
        applied: AppliedObjects,
        *,
        ends: Collection[EndedPod] = (),
        may_start_pods: Callable[[], bool] = lambda: True,
    ) -> AppliedObjects:
        """Write what workloads need and the grants, end pods, write the workloads, then prune (see `prune`).

        Pods end only once what they need is written: what they were started with is closed by then, so those that
        follow get no connection. They end before their workload changes, see `pod_ends`.

        Args:
            plan: The writes.
            namespace: The namespace of the owner.
            owner: The name of the owner.
            applied: What earlier writes left. An object whose uid is in there is ours.
            ends: Pods to delete besides those of the plan's workloads that end (`plan.ending`).
            may_start_pods: Asked right before each write of a workload that wants pods. Where it says no, this write
                and all after it are left out: the owner was killed since its plan was made, or deleted.

        Returns:
            What the writes of this plan left.

        Raises:
            ApplyFailed: A child could not be written, and the groups after its group were not tried. Or the end of a
                pod was refused, and all else was done, since a workload that is scaled down ends it as well.
        """
        written: dict[ChildKey, AppliedObject] = {}

        async def write(manifest: Manifest) -> bool:
            key = key_of(manifest)
            if key.kind == SECRET:
                written[key] = await self._create_secret(manifest, applied.get(key))
                return True
            starts_pods = key.kind in (WORKLOAD, JOB) and manifest["spec"].get("replicas", 1) != 0
            may_write = may_start_pods if starts_pods else _always
            if starts_pods and key.kind == WORKLOAD:
                await self._check_claims(manifest)
            live = await self._write(
                manifest,
                applied.get(key),
                may_write,
                is_missing=key in plan.missing,
                keeps_content=key in plan.others_content,
            )
            if live is None:
                return False
            if key.kind == WORKLOAD:  # it has pods now, and what enforcement rests on is as it must be
                written[key] = applied_object(live)
            _check_answer(key, manifest, live)
            written[key] = applied_object(live)
            return True

        try:
            for group in (plan.prepare, plan.shrink, plan.grants):
                await self._together(write(manifest) for manifest in group)
            refusal = await end_first(self._client, self._slots[namespace], namespace, plan, ends)
            if await _in_order(write(manifest) for manifest in plan.workloads):
                await delete_replica_sets(self._client, self._slots[namespace], namespace, ends)
                await self.prune(plan.prune, namespace, owner, applied)
            if refusal is not None:
                raise refusal
        except ApplyFailed as failure:
            failure.written = written
            raise
        return written

    async def mark_pods(self, namespace: str, marks: Iterable[PodMark]) -> None:
        """Mark pods as ones that go, or as ones that stay.

        The ReplicaSet's controller deletes pods that go before the others. Their Services no longer lead to them, since
        the label by which these select is taken off. It is put back on a pod that stays after all.

        Raises:
            ApplyFailed: The API server refused a mark. A pod that is gone needs none.
        """

        async def mark(one: PodMark) -> None:
            marked: Json = {"annotations": {POD_DELETION_COST: DELETED_FIRST if one.goes else None}}
            if one.has_guard:
                marked["labels"] = {ENDPOINT_LABEL: None if one.goes else ENDPOINT}
            try:
                async with self._slots[namespace]:
                    body = {"metadata": marked}
                    await self._client.patch(POD.path(namespace, one.name), body, FIELD_MANAGER)
            except (ApiError, *UNREACHABLE) as error:
                if not has_status(error, NOT_FOUND):
                    raise ApplyFailed(f"Pod {one.name} cannot be marked for deletion: {because(error)}") from error

        await self._together(mark(one) for one in marks)

    async def end_pods(self, namespace: str, pods: Collection[EndedPod]) -> None:
        """Delete pods, and the ReplicaSets that would replace them by their like.

        Raises:
            ApplyFailed: The API server refused.
        """
        await end_pods(self._client, self._slots[namespace], namespace, pods)
        await delete_replica_sets(self._client, self._slots[namespace], namespace, pods)

    async def prune(self, keys: Iterable[ChildKey], namespace: str, owner: str, applied: AppliedObjects) -> None:
        """Delete children, also those that are not cached because they lost their owner or labels.

        An object of the same name that is not known as a child, or has another uid by now, stays. A key that no object
        can have, which the status of another version may record, is ignored.

        The kinds of `OUTLIVES_PODS` come last, and stay while their placement has a pod: its processes live on for a
        second or two after the deletion of the pod, would have an open network, and a guard could settle nothing. A
        later call deletes such an object.

        Raises:
            ApplyFailed: A child could not be deleted.
        """
        cached, pods = self._store.keys_of((namespace, owner)), NeededByPods(self._client, namespace)
        known = [
            key
            for key in keys
            if (key in cached or key in applied) and key.kind in BY_KIND and is_object_name(key.name)
        ]
        for group in (
            [key for key in known if key.kind not in OUTLIVES_PODS],
            [key for key in known if key.kind in OUTLIVES_PODS],
        ):
            await self._together(
                self._prune(key, namespace, owner, pods)
                if key in cached
                else self._prune_lost(key, namespace, applied[key])
                for key in group
            )

    async def _together(self, writes: Iterable[Awaitable[object]]) -> None:
        results = await asyncio.gather(*writes, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _write(
        self,
        manifest: Manifest,
        applied: AppliedObject | None,
        may_write: Callable[[], bool],
        *,
        is_missing: bool,
        keeps_content: bool,
    ) -> Json | None:
        """Write one child and return it; return None if that would start pods, and none may start any longer."""
        key = key_of(manifest)
        with self._store.writing(key.kind, manifest):
            try:
                async with self._slots[manifest["metadata"]["namespace"]]:
                    for _ in range(ATTEMPTS):
                        if not may_write():
                            return None
                        if is_missing:
                            live = await self._create(manifest)
                        else:
                            live = await self._replace(manifest, applied, may_write, keeps_content=keeps_content)
                        if live is not None:
                            self._store.put(key.kind, live)
                            return live
                        is_missing = not is_missing
            except (ApiError, *UNREACHABLE) as error:
                raise ApplyFailed(f"{key.kind} {key.name}: {because(error)}") from error
        raise ApplyFailed(f"{key.kind} {key.name}: the object was changed by others during {ATTEMPTS} attempts")

    async def _check_claims(self, workload: Manifest) -> None:
        """Check that no pod of another placement, agent or earlier owner uses a claim of a workload that wants pods.

        The plan waits for the pods that the cache knows. This asks the API server itself, also for those of an Agent
        that is gone.

        Raises:
            ApplyFailed: Such a pod is still there.
        """
        claims = mounted_claims(workload["spec"]["template"]["spec"])
        if not claims:
            return
        key, namespace = key_of(workload), workload["metadata"]["namespace"]
        own = workload["spec"]["selector"]["matchLabels"].items()
        query = {"labelSelector": _WITH_CLAIMS, "fieldSelector": _ALIVE}
        try:
            async for page in read_pages(self._client, POD.within(namespace), query, accept=METADATA_LIST):
                for pod in (one["metadata"] for one in page["items"] or ()):  # an empty list of metadata is null
                    named = claims.intersection((pod.get("annotations") or {}).get(CLAIMS, "").split(","))
                    if named and not own <= (pod.get("labels") or {}).items():
                        raise ApplyFailed(
                            f"{key.kind} {key.name} waits for the end of pod {pod['name']}, because both use claim "
                            f"{' and '.join(sorted(named))}"
                        )
        except (ApiError, *UNREACHABLE) as error:
            raise ApplyFailed(f"{key.kind} {key.name}: {because(error)}") from error

    async def _create_secret(self, manifest: Manifest, applied: AppliedObject | None) -> AppliedObject:
        """Create a Secret; one of its name is the same, since a digest of its content is part of the name."""
        try:
            async with self._slots[manifest["metadata"]["namespace"]]:
                created = await self._client.create(_collection(manifest), manifest, accept=METADATA_ONLY)
        except (ApiError, *UNREACHABLE) as error:
            if not isinstance(error, ApiError) or not says_exists(error):
                raise ApplyFailed(f"{SECRET} {manifest['metadata']['name']}: {because(error)}") from error
            return applied or AppliedObject("", "")
        return AppliedObject(created["metadata"]["uid"], "")

    async def _create(self, manifest: Manifest) -> Json | None:
        """Create a child; return None if an object of its name exists.

        Raises:
            ApplyFailed: An object of a user would undo the child.
        """
        obstacle = await find_obstacle(self._client, manifest)
        if obstacle is not None:
            key = key_of(manifest)
            raise ApplyFailed(f"{key.kind} {key.name}: {obstacle}")
        try:
            return await self._client.create(_collection(manifest), manifest)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            return None

    async def _replace(
        self,
        manifest: Manifest,
        applied: AppliedObject | None,
        may_write: Callable[[], bool],
        *,
        keeps_content: bool,
    ) -> Json | None:
        """Replace the content of a child, unless another program writes it, and its metadata.

        Returns:
            The child; None if it does not exist, or has changed since it was read.
        """
        path = f"{_collection(manifest)}/{manifest['metadata']['name']}"
        try:
            found = await self._client.get(path)
            if not await self._may_replace(path, found, manifest, applied) or not may_write():
                return None
            patch = replacement(manifest, found, keeps_content=keeps_content)
            return await self._client.patch(path, patch, FIELD_MANAGER, content_type=JSON_PATCH)
        except ApiError as error:
            if error.status in (CONFLICT, NOT_FOUND):
                return None
            if error.status != INVALID or keeps_content or not await self._could_be_created(manifest):
                raise
        # A member that cannot be changed, such as the data of an immutable ConfigMap.
        await self._delete(path, found)
        live = await self._create(manifest)
        if live is not None and live["kind"] == "ConfigMap" and bundle_text(manifest) is None:
            await self._replace_pods(manifest)
        return live

    async def _may_replace(self, path: str, found: Json, manifest: Manifest, applied: AppliedObject | None) -> bool:
        """Return True if an object is ours; delete what an earlier owner of the same name has left.

        Raises:
            ApplyFailed: The object is foreign, or is being deleted.
        """
        key, owner = key_of(manifest), manifest["metadata"]["ownerReferences"][0]
        if found["metadata"].get("deletionTimestamp"):
            waits_for = ", ".join(found["metadata"].get("finalizers", ())) or "the garbage collector"
            raise ApplyFailed(f"{key.kind} {key.name}: the object is being deleted and waits for {waits_for}")
        if is_left_over(found, owner):
            await self._delete(path, found)
            return False
        if not is_owned(found, owner, applied):
            raise ApplyFailed(
                f"{key.kind} {key.name} exists and does not belong to this {owner['kind']}; rename the "
                f"{owner['kind']}, or run: kubectl -n {manifest['metadata']['namespace']} delete "
                f"{BY_KIND[key.kind].plural} {key.name}",
                AgentReason.NAME_TAKEN,
            )
        return True

    async def _could_be_created(self, manifest: Manifest) -> bool:
        """Return True if the API server would take the manifest as a new object under another name."""
        metadata = {name: value for name, value in manifest["metadata"].items() if name != "name"}
        named = {**manifest, "metadata": {**metadata, "generateName": "interlock-"}}
        try:
            await self._client.create(_collection(manifest), named, is_dry_run=True)
        except ApiError:
            return False
        return True

    async def _delete(self, path: str, found: Json) -> None:
        """Delete exactly this object, and the pods of a Deployment."""
        uid = {"uid": found["metadata"]["uid"]}
        if found["kind"] == WORKLOAD:
            selected = join_labels(found["spec"]["selector"].get("matchLabels", {}))
            await delete_workload(self._client, path, found["metadata"]["namespace"], selected, uid)
        else:
            await self._client.delete(path, {**BACKGROUND, "preconditions": uid})

    async def _replace_pods(self, manifest: Manifest) -> None:
        """Delete the pods that mount a recreated ConfigMap: the kubelet does not follow an immutable one."""
        labels: Mapping[str, str] = manifest["metadata"]["labels"]
        owner = {name: labels[name] for name in (AGENT_LABEL, BINDING_LABEL) if name in labels}
        if not owner:  # no pod is known by less
            return
        await end_all_pods(self._client, manifest["metadata"]["namespace"], join_labels(owner))

    async def _prune(self, key: ChildKey, namespace: str, owner: str, pods: NeededByPods) -> None:
        try:
            async with self._slots[namespace]:
                if key.kind in OUTLIVES_PODS:
                    selector = self._store.selector_of((namespace, owner), key)
                    if await pods.is_needed(key, selector):
                        return
                path = BY_KIND[key.kind].path(namespace, key.name)
                only = {"uid": self._store.uid_of((namespace, owner), key)}
                if key.kind == WORKLOAD:
                    selector = self._store.selector_of((namespace, owner), key)
                    await delete_workload(self._client, path, namespace, selector, only)
                else:
                    await self._client.delete(path, {**BACKGROUND, "preconditions": only})
        except (ApiError, *UNREACHABLE) as error:
            if not has_status(error, CONFLICT):  # a conflict: another object has the name now
                raise ApplyFailed(f"{key.kind} {key.name} cannot be deleted: {because(error)}") from error
        self._store.discard((namespace, owner), key)

    async def _prune_lost(self, key: ChildKey, namespace: str, applied: AppliedObject) -> None:
        """Delete a child that the cache does not hold; an object that took its name since then stays."""
        path = BY_KIND[key.kind].path(namespace, key.name)
        try:
            async with self._slots[namespace]:
                if key.kind == SECRET:
                    only = {"preconditions": {"uid": applied.uid}} if applied.uid else {}
                    await self._client.delete(path, {**BACKGROUND, **only}, accept=METADATA_ONLY)
                    return
                found = await self._client.get(path)
                if found["metadata"]["uid"] == applied.uid:
                    await self._delete(path, found)
        except (ApiError, *UNREACHABLE) as error:
            if not has_status(error, NOT_FOUND, CONFLICT):
                raise ApplyFailed(f"{key.kind} {key.name} cannot be deleted: {because(error)}") from error


def _check_answer(key: ChildKey, manifest: Manifest, live: Json) -> None:
    """Check that the API server left what was written: otherwise each reconcile would write the same, in vain.

    Raises:
        ApplyFailed: A mutating admission webhook or policy has changed what the manifest names.
    """
    member = drifted_member(manifest, live)
    if member is not None:
        raise ApplyFailed(
            f"{key.kind} {key.name}: an admission webhook or policy of the cluster changed {member} while it was "
            "written; exempt objects with the label app.kubernetes.io/managed-by=interlock from it"
        )


def _collection(manifest: Manifest) -> str:
    return BY_KIND[manifest["kind"]].within(manifest["metadata"]["namespace"])


async def _in_order(writes: Iterable[Awaitable[bool]]) -> bool:
    """Make one write after the other, until one of them may not be made; return True if all were made."""
    for write in writes:
        if not await write:
            return False
    return True


def _always() -> bool:
    return True
