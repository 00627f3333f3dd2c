"""Look at MCPBindings as the queue asks for it: begin and end verifications, tell what they came to."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import aiohttp

from interlock.api.binding import MCPBinding
from interlock.api.shared_types import ObjectMeta
from interlock.api.verification import MCPBindingStatus
from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.resource_cache import Key, ResourceCache
from interlock.cluster.status_writer import StatusWriter
from interlock.deployment.names import mcp_container
from interlock.deployment.placement import ApiServerAddress
from interlock.reconcile.binding import BindingSnapshot, verify_binding
from interlock.reconcile.binding_status import binding_transitions
from interlock.reconcile.snapshot import Unreadable
from interlock.runtime.loop import WorkQueue
from interlock.telemetry import VERIFICATIONS
from interlock_kube.client import ApiError, Json, KubeClient
from interlock_kube.resource_types import POD

_log = logging.getLogger(__name__)

VERIFIERS = 4
"""How many bindings are looked at at the same time."""


@dataclass(frozen=True)
class BindingIO:
    """The I/O that a look needs."""

    client: KubeClient
    primaries: ResourceCache
    children: ChildCache
    applier: Applier
    reporter: StatusWriter
    guard_image: str
    api_server: Callable[[], ApiServerAddress]
    clock: Callable[[], datetime]


class BindingReconciler:
    """Looks at bindings.

    Args:
        edge: The I/O.
        queue: Asks for the looks.
        ask: Asks for a look at an agent.
    """

    def __init__(self, edge: BindingIO, queue: WorkQueue[Key], ask: Callable[[Key], None]) -> None:
        self._edge = edge
        self._queue = queue
        self._ask = ask
        self._events: set[asyncio.Task[None]] = set()
        self._drifts: dict[Key, datetime] = {}

    def hear_drift(self, key: Key, seen_at: datetime) -> None:
        """Hear that a guard has found a tool of a binding changed; one that was heard of already is no news."""
        if seen_at > self._drifts.get(key, seen_at - timedelta(seconds=1)):
            self._drifts[key] = seen_at
            self._queue.add(key)

    async def look(self, key: Key) -> bool:
        """Bring the verification of one binding to where it has to be; False asks for another try."""
        binding = self._edge.primaries.binding(key)
        if binding is None or isinstance(binding, Unreadable) or binding.metadata.deletion_timestamp is not None:
            self._queue.forget(key)  # what stands for it goes with it; of one that cannot be read its agents tell
            return True
        try:
            await self._carry_out(key, binding)
        except (ApiError, ApplyFailed, aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("verification not looked at", extra={"binding": "/".join(key), "error": str(error)})
            return False
        except Exception:  # noqa: BLE001 - a defect of ours on one binding must not end the operator for all others
            _log.exception("look at a verification crashed", extra={"binding": "/".join(key)})
            return False
        return True

    async def _carry_out(self, key: Key, binding: MCPBinding) -> None:
        world = BindingSnapshot(
            binding=binding,
            children=self._edge.children.of(key, binding.metadata.uid),
            guard_image=self._edge.guard_image,
            api_server=self._edge.api_server(),
            drift_seen_at=self._drifts.get(key),
        )
        now = self._edge.clock()
        outcome = verify_binding(world, now)
        if _has_ended(binding.status, outcome.status) and binding.spec.server.stdio is not None:
            world = replace(world, image_digest=await self._image_digest(world))
            outcome = verify_binding(world, now)
        # The status comes first: a run that is not recorded would be begun again under another number.
        written = await self._edge.reporter.report_binding(binding, outcome.status)
        if written is not None and self._edge.primaries.binding(key) is not None:
            for agent in self._edge.primaries.put_binding(written):
                self._ask(agent)
            if _has_changed(binding, written):
                self._queue.add(key)  # the watch will bring what is known by then, so it asks for no look
            self._tell(binding, outcome.status)
        await self._edge.applier.carry_out(outcome.plan, *key)
        self._queue.add_after(key, (outcome.look_again_at - self._edge.clock()).total_seconds())

    async def _image_digest(self, world: BindingSnapshot) -> str:
        """Return what stood behind the server's image in the run's pod; empty where the pod does not say."""
        run = world.run
        if run is None:
            return ""
        query = {"labelSelector": f"batch.kubernetes.io/job-name={run.job}"}
        found = await self._edge.client.get(POD.within(run.binding.metadata.namespace), query)
        name = mcp_container(run.binding.spec.source)
        for pod in found["items"]:
            for container in pod.get("status", {}).get("initContainerStatuses", []):
                if container["name"] == name and container.get("imageID"):
                    return str(container["imageID"])[:512]
        return ""

    def _tell(self, binding: MCPBinding, status: MCPBindingStatus) -> None:
        """Post the Events of what has changed, without waiting for them."""
        if _has_ended(binding.status, status):
            run = status.verification.run if status.verification else None
            VERIFICATIONS.labels("failed" if run is None or run.failures else "verified").inc()
        for note in binding_transitions(binding.status, status):
            name = f"{binding.metadata.namespace}/{binding.metadata.name}"
            _log.info(note.message, extra={"binding": name, "reason": note.reason})
            task = asyncio.create_task(self._edge.reporter.post(binding, note, self._edge.clock()))
            self._events.add(task)
            task.add_done_callback(self._events.discard)


def _has_ended(before: MCPBindingStatus | None, after: MCPBindingStatus) -> bool:
    """Tell whether a run has come to its end between the two."""
    old = before.verification.run if before and before.verification else None
    new = after.verification.run if after.verification else None
    if old is None or old.ended_at is not None or new is None:
        return False
    return new.ended_at is not None or (new.number > old.number and new.plan == old.plan)


def _has_changed(binding: MCPBinding, written: Json) -> bool:
    """Tell whether a user's change came between what was looked at and the status that was written onto it."""
    before, now = binding.metadata, ObjectMeta.model_validate(written["metadata"])
    return (before.generation, before.annotations) != (now.generation, now.annotations)
