"""The requests of a kill: delete an Agent's pods, keep its Deployments at zero replicas, record it in `status.kill`.

A kill runs no layer, reads no spec and needs no policy, so that a broken object cannot stop it. The order comes from
measurements on a real kubelet: first the pods, with a grace period of one second, then replicas to zero. A ReplicaSet's
controller would delete pods with the grace period of their template, which a kubelet does not shorten afterwards. A
grace period of zero ends no process sooner, and removes the NetworkPolicy from a process that still runs.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from interlock_contract.clock import monotonic as system_monotonic
from interlock_contract.clock import read_time, write_time
from interlock_contract.kill import GRACE_SECONDS, shorten
from interlock_contract.names import (
    AGENT_LABEL,
    APP_MANAGED_BY_LABEL,
    KILL_ACCOUNT,
    KILL_FIELD_MANAGER,
    KILL_SWITCH,
    KILL_SWITCH_BY,
    KILL_SWITCH_OFF,
    MANAGED_BY,
)
from interlock_contract.pod import RESERVED_PREFIX
from interlock_kill.switch_author import SwitchAuthors, is_same_author
from interlock_kube.client import CONFLICT, JSON, METADATA_LIST, METADATA_ONLY, NOT_FOUND, ApiError, Json, KubeClient
from interlock_kube.resource_types import AGENT, DEPLOYMENT, POD, SERVICE_ACCOUNT
from interlock_kube.watch import read_pages

IN_FLIGHT: Final = 8
"""Most requests of one sweep at once: an agent with many pods takes no other agent's connections."""
MOST_DELETIONS: Final = 400
"""Most pods that one sweep deletes. The next sweep of the agent waits for its turn again."""
MOST_DEPLOYMENTS: Final = 100
"""Most Deployments that one sweep scales."""
MOST_ACCOUNTS: Final = 32
"""Most ServiceAccounts of one agent whose pods one sweep looks for: two for each placement, and those on their way out.
"""
READERS: Final = 2
"""Most pages of pods that all kills together read at once."""
SCALE_SECONDS: Final = 2.0
"""How long replicas stay for the deletions of a sweep. One that hangs does not keep the others' successors running."""


@dataclass(frozen=True, slots=True)
class Kill:
    """An engaged switch.

    Attributes:
        value: The annotation's value.
        by: Who set it, according to the annotation.
        since: When it was observed first.
    """

    value: str
    by: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Release:
    """A switch that was set to off.

    Attributes:
        at: When that was observed.
        by: Who set it, according to the annotation.
        of: The kill that it ended, where that was observed.
    """

    at: datetime
    by: str | None
    of: Kill | None


@dataclass(slots=True)
class Sweep:
    """What one sweep has found.

    Attributes:
        left: The uids of the pods that had not ended yet.
        deleted: How many of them it has deleted.
    """

    left: set[str]
    deleted: int = 0

    @property
    def is_full(self) -> bool:
        """Whether there may be more pods than one sweep deletes."""
        return self.deleted >= MOST_DELETIONS


class Killer:
    """Makes the requests of kills to one API server.

    Each write of `status.kill` is decided from the Agent as just read, and names its version. A write that comes late,
    from another replica or from a request that was given up, is therefore refused with 409 or found to be unnecessary.
    """

    def __init__(self, client: KubeClient, monotonic: Callable[[], float] = system_monotonic) -> None:
        self._client, self._authors = client, SwitchAuthors(client, monotonic)
        self._reading = asyncio.Semaphore(READERS)

    async def end(
        self,
        namespace: str,
        agent: str,
        *,
        is_killed: Callable[[], bool] = lambda: True,
        on_asked: Callable[[], object] = lambda: None,
    ) -> Sweep:
        """Delete the agent's pods page by page.

        Pods are found by their label, and by the ServiceAccounts of the agent's placements, which cannot be changed in
        a pod. A pod with such a ServiceAccount and without the label is the agent's only if its variables say so (see
        `_is_ours`). Neither a page that cannot be read nor a refused deletion keeps another pod from its end.

        Args:
            namespace: The namespace of the agent.
            agent: The name of the agent.
            is_killed: Asked before each deletion: a release ends the sweep that is under way.
            on_asked: Called once all deletions have their answers, or after `SCALE_SECONDS`: replicas may follow.

        Raises:
            ApiError: The API server refused a request; the other requests were made nevertheless.
        """
        sweep, slots = Sweep(set()), asyncio.Semaphore(IN_FLIGHT)

        async def end_selected(selection: dict[str, str]) -> None:
            await self._end_pods(namespace, agent, selection, sweep, slots, is_killed)

        async def end_relabelled() -> None:
            await _gather(*(end_selected(one) for one in await self._accounts(namespace, agent)))

        timer = asyncio.get_running_loop().call_later(SCALE_SECONDS, on_asked)
        try:
            await _gather(end_selected({"labelSelector": f"{AGENT_LABEL}={agent}"}), end_relabelled())
        finally:
            timer.cancel()
            on_asked()
        return sweep

    async def hold_at_zero(
        self, namespace: str, agent: str, is_killed: Callable[[], bool] = lambda: True, *, but_of: str | None = None
    ) -> None:
        """Scale the agent's Deployments to zero, for as long as it is killed.

        Args:
            namespace: The namespace of the agent.
            agent: The name of the agent.
            is_killed: Asked before each Deployment.
            but_of: The uid of an Agent whose Deployments are left out; None for no Agent. With a uid, only Deployments
                with the label of managed objects count: a team may label its own with an agent's name.

        Raises:
            ApiError: The API server refused a request; the other requests were made nevertheless.
        """
        ours = f"{AGENT_LABEL}={agent}"
        selection = {"labelSelector": ours if but_of is None else f"{ours},{APP_MANAGED_BY_LABEL}={MANAGED_BY}"}
        pages = self._pages(DEPLOYMENT.within(namespace), selection)
        names = [
            one["metadata"]["name"]
            async for page in pages
            for one in page["items"] or ()
            if but_of is None or not _is_owned(one["metadata"], but_of)
        ][:MOST_DEPLOYMENTS]
        failure: ApiError | None = None
        for name in names:
            if not is_killed():
                return
            try:
                await self._scale_to_zero(namespace, name)
            except ApiError as error:
                failure = error
        if failure is not None:
            raise failure

    async def find_misplaced(self, namespace: str, agent: str) -> list[Json]:
        """Return what a deletion needs of pods that have a ServiceAccount of the agent and not its label."""
        found = [
            _summary(pod["metadata"])
            for selection in await self._accounts(namespace, agent)
            async for page in self._pages(POD.within(namespace), selection)
            for pod in page["items"] or ()
            if not _is_labelled(pod["metadata"], agent)
        ]
        return [one for one in found if await self._is_ours(namespace, one["name"])]

    async def agent_exists(self, namespace: str, agent: str) -> bool:
        """Return True if there is an Agent of this name."""
        return await self._find(AGENT.path(namespace, agent), METADATA_ONLY) is not None

    async def delete_pod(self, namespace: str, metadata: Json) -> None:
        """Delete exactly this pod, and none that was created with its name meanwhile."""
        options = {"gracePeriodSeconds": GRACE_SECONDS, "preconditions": {"uid": metadata["uid"]}}
        try:
            await self._client.delete(POD.path(namespace, metadata["name"]), options)
        except ApiError as error:
            if error.status not in (CONFLICT, NOT_FOUND):  # a conflict: another pod has the name now
                raise

    async def find_pod(self, namespace: str, name: str) -> Json | None:
        """Return the metadata of the pod of this name, None if there is none."""
        found = await self._find(POD.path(namespace, name), METADATA_ONLY)
        return found["metadata"] if found is not None else None

    async def set_switch(self, namespace: str, agent: str, uid: str, value: str) -> bool:
        """Set the kill switch of an Agent that is not killed; return whether this request has set it.

        Every other case leaves the Agent as it is: another one of this name, one that is being deleted or was killed
        already, and one whose last recorded kill has this very value, which was released meanwhile.

        Raises:
            ApiError: The API server refused; with 409 where the Agent has changed since it was read.
        """
        found = await self._read(namespace, agent, uid)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return False
        if _switch(found) not in (None, KILL_SWITCH_OFF) or _recorded(found).get("reason") == shorten(value):
            return False
        annotations = {KILL_SWITCH: value, KILL_SWITCH_BY: KILL_ACCOUNT}
        body = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"], "annotations": annotations}}
        await self._client.patch(AGENT.path(namespace, agent), body, KILL_FIELD_MANAGER)
        return True

    async def record(
        self, namespace: str, agent: str, uid: str, kill: Kill, zero_at: datetime | None
    ) -> datetime | None:
        """Write into `status.kill` what it does not have of this kill.

        Returns:
            The time of the request as recorded; None where the Agent is another one or was released meanwhile.

        Raises:
            ApiError: The API server refused; with 409 where the Agent has changed since it was read.
        """
        found = await self._read(namespace, agent, uid)
        if found is None or _switch(found) == KILL_SWITCH_OFF:
            return None
        known = _recorded(found)
        is_new = not known or bool(known.get("releasedAt"))
        fields: Json = {}
        if is_new:
            fields = await self._fresh(kill)
        elif known.get("reason") != shorten(kill.value) or not is_same_author(known.get("by"), kill.by):
            # A recorded name stays as it was verified, or not, when it was written.
            fields = {"reason": shorten(kill.value), "by": await self._authors.of_kill(kill.by)}
        if zero_at is not None and (is_new or not known.get("zeroPodsAt")):
            fields["zeroPodsAt"] = write_time(zero_at)
        if fields:
            await self._patch(found, fields)
        return kill.since if is_new else read_time(known.get("requestedAt"), kill.since)

    async def record_release(self, namespace: str, agent: str, uid: str, release: Release) -> None:
        """Write that the switch was set to off: into the recorded kill, or with a kill that was not recorded.

        Raises:
            ApiError: As in `record`.
        """
        found = await self._read(namespace, agent, uid)
        if found is None or _switch(found) != KILL_SWITCH_OFF:
            return  # killed again meanwhile: that kill stands
        known, of = _recorded(found), release.of
        by = await self._authors.of_release(release.by)
        released = {"releasedAt": write_time(release.at), "releasedBy": by}
        if known and not known.get("releasedAt"):
            await self._patch(found, released)
        elif of is not None and (not known or read_time(known["releasedAt"], of.since) < of.since):
            await self._patch(found, {**await self._fresh(of), **released})

    async def _fresh(self, kill: Kill) -> Json:
        """Return the record of a new kill; null removes the fields of an earlier one."""
        ended = dict.fromkeys(("zeroPodsAt", "releasedAt", "releasedBy"))
        by = await self._authors.of_kill(kill.by)
        return {"reason": shorten(kill.value), "by": by, "requestedAt": write_time(kill.since), **ended}

    async def _end_pods(
        self,
        namespace: str,
        agent: str,
        selection: dict[str, str],
        sweep: Sweep,
        slots: asyncio.Semaphore,
        is_killed: Callable[[], bool],
    ) -> None:
        async def delete(metadata: Json) -> None:
            async with slots:
                if is_killed():
                    await self.delete_pod(namespace, metadata)

        failure: BaseException | None = None
        pages = self._pages(POD.within(namespace), selection)
        while not sweep.is_full and is_killed():
            # All kills together hold few pages in memory, and of each nothing but what a deletion needs.
            async with self._reading:
                page = await anext(pages, None)
                if page is None:
                    break
                metadata = [pod["metadata"] for pod in page["items"] or ()]  # an empty list is null
                metadata = [one for one in metadata if not _has_ended(one)]
                pods = [_summary(one) for one in metadata if _is_labelled(one, agent)]
                doubtful = [_summary(one) for one in metadata if not _is_labelled(one, agent)]
                del page, metadata
            asked = [self._is_ours(namespace, one["name"]) for one in doubtful]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            pods += [one for one, answer in zip(doubtful, answers, strict=True) if answer is True]
            failure = next((one for one in answers if isinstance(one, BaseException)), failure)
            doomed = [one for one in pods if one["uid"] not in sweep.left and not is_ending(one)]
            sweep.left.update(one["uid"] for one in pods)
            sweep.deleted += len(doomed)
            for result in await asyncio.gather(*map(delete, doomed), return_exceptions=True):
                failure = result if isinstance(result, BaseException) else failure
        if failure is not None:
            raise failure

    async def _is_ours(self, namespace: str, name: str) -> bool:
        """Return True if a container of a pod has a variable that only Interlock sets, which no one can change.

        A team may run pods under a ServiceAccount of an agent that was created later and has the same name. They are
        not the agent's.
        """
        async with self._reading:  # a whole pod can be large
            pod = await self._find(POD.path(namespace, name))
        spec = pod["spec"] if pod is not None else {}
        containers = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
        names = (variable["name"] for one in containers for variable in one.get("env") or ())
        return any(name.startswith(RESERVED_PREFIX) for name in names)

    async def _accounts(self, namespace: str, agent: str) -> list[dict[str, str]]:
        """Return for each ServiceAccount of the agent the selection of its pods.

        Each placement has accounts of its own. Their labels are reserved, so no other account is among them.
        """
        selection = {"labelSelector": f"{AGENT_LABEL}={agent},{APP_MANAGED_BY_LABEL}={MANAGED_BY}"}
        pages = self._pages(SERVICE_ACCOUNT.within(namespace), selection)
        names = [one["metadata"]["name"] async for page in pages for one in page["items"] or ()]
        return [{"fieldSelector": f"spec.serviceAccountName={name}"} for name in names[:MOST_ACCOUNTS]]

    def _pages(self, path: str, selection: dict[str, str]) -> AsyncIterator[Json]:
        """Read the metadata of a collection's objects."""
        return read_pages(self._client, path, selection, accept=METADATA_LIST)

    async def _scale_to_zero(self, namespace: str, name: str) -> None:
        path = DEPLOYMENT.path(namespace, name, "scale")
        try:
            scale = await self._client.get(path)
            if scale["spec"].get("replicas", 0) != 0:
                await self._client.patch(path, {"spec": {"replicas": 0}}, KILL_FIELD_MANAGER)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise

    async def _read(self, namespace: str, agent: str, uid: str) -> Json | None:
        """Return the Agent; None where there is none, or another one of this name."""
        found = await self._find(AGENT.path(namespace, agent))
        return found if found is not None and found["metadata"]["uid"] == uid else None

    async def _find(self, path: str, accept: str = JSON) -> Json | None:
        """Return the object at a path, None if there is none."""
        try:
            return await self._client.get(path, accept=accept)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def _patch(self, found: Json, kill: Json) -> None:
        metadata = found["metadata"]
        path = AGENT.path(metadata["namespace"], metadata["name"], "status")
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": {"kill": kill}}
        await self._client.patch(path, body, KILL_FIELD_MANAGER)


_NEEDED: Final = ("name", "uid", "deletionTimestamp", "deletionGracePeriodSeconds")


def _is_labelled(metadata: Json, agent: str) -> bool:
    """Return True if a pod has the label of the agent."""
    return (metadata.get("labels") or {}).get(AGENT_LABEL) == agent


def _is_owned(metadata: Json, uid: str) -> bool:
    """Return True if an object names an owner with this uid."""
    return any(owner.get("uid") == uid for owner in metadata.get("ownerReferences") or ())


async def _gather(*requests: Coroutine[Any, Any, None]) -> None:
    """Wait for all of them, and raise what the first one has raised only after the last one has ended."""
    for result in await asyncio.gather(*requests, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _recorded(agent: Json) -> Json:
    """Return `status.kill` of an Agent, empty where there is none."""
    recorded: Json = agent.get("status", {}).get("kill") or {}
    return recorded


def is_ending(metadata: Json) -> bool:
    """Return True if a pod ends within the killer's grace period anyway."""
    return "deletionTimestamp" in metadata and metadata.get("deletionGracePeriodSeconds", 30) <= GRACE_SECONDS


def _has_ended(metadata: Json) -> bool:
    """Return True if a pod has ended and only a finalizer keeps its object.

    Its node confirms the end of its containers by a deletion without grace. A finalizer outlasts that, such as the one
    of `kubectl delete pod --cascade=foreground`, which any user who may delete the pod can set.
    """
    return "deletionTimestamp" in metadata and metadata.get("deletionGracePeriodSeconds") == 0


def _summary(metadata: Json) -> Json:
    """Return what a deletion needs of a pod's metadata, which can be large."""
    return {name: metadata[name] for name in _NEEDED if name in metadata}


def _switch(agent: Json) -> Any:
    return (agent["metadata"].get("annotations") or {}).get(KILL_SWITCH)
