"""The killer of agents: it deletes an agent's pods and keeps its Deployments at zero replicas.

A kill runs no layer, reads no spec and needs no policy, so that a broken object cannot stop it. The order comes from
measurements on a real kubelet: first the pods, with a grace period of one second, then replicas to zero, then the pods
that were created in between. A grace period of zero ends no process sooner, and removes the NetworkPolicy from a
process that still runs.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from interlock_contract.names import AGENT_LABEL, KILL_FIELD_MANAGER
from interlock_kube.client import NOT_FOUND, ApiError, KubeClient
from interlock_kube.resource_types import AGENT, DEPLOYMENT, POD

GRACE_SECONDS = 1
_MOST_TEXT = 1024  # characters that the status has room for


@dataclass(frozen=True)
class Kill:
    """An engaged switch: its value, who set it according to the annotation, and when the operator saw it."""

    value: str
    by: str | None
    since: datetime


@dataclass(frozen=True)
class Release:
    """A switch that was set to off: when the operator saw it, who set it, and the kill that it ended, if known."""

    at: datetime
    by: str | None
    of: Kill | None


class Killer:
    """Kills agents through one API server.

    Each write of `status.kill` names the version of the Agent that it was computed from. A write that the API server
    carries out late, after this process gave it up for a newer one, is refused with 409 and undoes nothing.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def end(self, namespace: str, agent: str) -> int:
        """Delete the agent's pods, then scale its Deployments to zero; return how many pods are still there.

        Raises:
            ApiError: The API server refused a request; the other requests were made nevertheless.
        """
        try:
            return await self._delete_pods(namespace, agent)
        finally:  # no new pods may be created, even if the deletion failed
            await self._hold_at_zero(namespace, agent)

    async def record(self, namespace: str, agent: str, kill: Kill) -> datetime | None:
        """Write `status.kill` unless it records this kill already.

        Returns:
            The time of the request; None where the status records already that no pod was left.

        Raises:
            ApiError: The API server refused; with 409 where the Agent has changed since it was read.
        """
        found = await self._client.get(AGENT.path(namespace, agent))
        known = _recorded(found)
        if not known or known.get("releasedAt"):
            await self._patch(found, _fresh(kill))
            return kill.since
        fields = _value_and_author(kill)
        if any(known.get(name) != value for name, value in fields.items()):
            await self._patch(found, fields)
        return None if known.get("zeroPodsAt") else datetime.fromisoformat(known["requestedAt"])

    async def record_zero(self, namespace: str, agent: str, requested: datetime, now: datetime) -> None:
        """Write that no pod is left of the kill that was requested then, if that kill still stands.

        Raises:
            ApiError: As in `record`.
        """
        found = await self._client.get(AGENT.path(namespace, agent))
        known = _recorded(found)
        if known.get("requestedAt") == _text(requested) and not known.get("zeroPodsAt"):
            await self._patch(found, {"zeroPodsAt": _text(now)})

    async def record_release(self, namespace: str, agent: str, release: Release) -> None:
        """Write that the switch was set to off: into the recorded kill, or with a kill that was not recorded.

        Raises:
            ApiError: As in `record`.
        """
        found = await self._client.get(AGENT.path(namespace, agent))
        known = _recorded(found)
        released = {"releasedAt": _text(release.at), "releasedBy": _cut(release.by)}
        if known and not known.get("releasedAt"):
            await self._patch(found, released)
        elif release.of is not None and known.get("requestedAt") != _text(release.of.since):
            await self._patch(found, {**_fresh(release.of), **released})

    async def _delete_pods(self, namespace: str, agent: str) -> int:
        pods = await self._client.get(POD.within(namespace), _selection(agent))
        names = [pod["metadata"]["name"] for pod in pods["items"] if not _is_ending(pod)]
        options = {"gracePeriodSeconds": GRACE_SECONDS}
        await _all(self._client.delete(POD.path(namespace, name), options) for name in names)
        return len(pods["items"])

    async def _hold_at_zero(self, namespace: str, agent: str) -> None:
        deployments = await self._client.get(DEPLOYMENT.within(namespace), _selection(agent))
        names = [found["metadata"]["name"] for found in deployments["items"] if found["spec"].get("replicas", 1) != 0]
        zero = {"spec": {"replicas": 0}}
        await _all(self._client.patch(DEPLOYMENT.path(namespace, name), zero, KILL_FIELD_MANAGER) for name in names)

    async def _patch(self, found: dict[str, Any], kill: dict[str, Any]) -> None:
        metadata = found["metadata"]
        path = AGENT.path(metadata["namespace"], metadata["name"], "status")
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": {"kill": kill}}
        await self._client.patch(path, body, KILL_FIELD_MANAGER)


def _recorded(agent: dict[str, Any]) -> dict[str, Any]:
    recorded: dict[str, Any] = agent.get("status", {}).get("kill") or {}
    return recorded


def _selection(agent: str) -> dict[str, str]:
    return {"labelSelector": f"{AGENT_LABEL}={agent}"}


def _is_ending(pod: dict[str, Any]) -> bool:
    """Return True if the pod ends within the killer's grace period anyway."""
    metadata = pod["metadata"]
    return "deletionTimestamp" in metadata and metadata.get("deletionGracePeriodSeconds", 30) <= GRACE_SECONDS


async def _all(requests: Any) -> None:
    """Make all requests, then raise the first failure; an object that no longer exists is none."""
    for result in await asyncio.gather(*requests, return_exceptions=True):
        if isinstance(result, ApiError) and result.status == NOT_FOUND:
            continue
        if isinstance(result, BaseException):
            raise result


def _fresh(kill: Kill) -> dict[str, Any]:
    """Return the record of a new kill; null removes the fields of an earlier one."""
    ended = dict.fromkeys(("zeroPodsAt", "releasedAt", "releasedBy"))
    return {**_value_and_author(kill), "requestedAt": _text(kill.since), **ended}


def _value_and_author(kill: Kill) -> dict[str, str | None]:
    return {"reason": kill.value[:_MOST_TEXT], "by": _cut(kill.by)}


def _cut(text: str | None) -> str | None:
    return text[:_MOST_TEXT] if text else None


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
