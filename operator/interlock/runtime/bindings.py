"""The reconcile of one MCPBinding: start and end verifications of its MCP server, and report their results."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from interlock.action.pins import describe_too_large
from interlock.api.binding import MCPBinding
from interlock.api.verification import BindingReason, MCPBindingStatus
from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.event_poster import EventPoster
from interlock.cluster.pod_warnings import read_warnings
from interlock.cluster.resource_cache import ResourceCache
from interlock.cluster.status_writer import StatusWriter
from interlock.deployment.children.verification_job import JOB
from interlock.deployment.config_maps import LiveConfigMaps, server_uses
from interlock.deployment.names import ChildKey, mcp_container
from interlock.deployment.observed.causes import PodCause, find_cause, without_figures
from interlock.deployment.ownership import AppliedObjects
from interlock.deployment.placement import ApiServerAddress
from interlock.deployment.pod_users import DEFAULT_USERS, PodUsers
from interlock.reconcile.binding import (
    BindingOutcome,
    BindingSnapshot,
    definitions_place,
    is_slow,
    verify_binding,
)
from interlock.reconcile.binding_status import binding_transitions
from interlock.reconcile.managed_objects import record_applied
from interlock.reconcile.snapshot import Unreadable
from interlock.reconcile.verification_rules import find_pod_rules, find_proxy, proxy_refusal
from interlock.runtime.worker_process import Compute
from interlock.settings import OperatorSettings
from interlock.telemetry import VERIFICATIONS
from interlock_contract.selftest_report import DROPPED_SUFFIX
from interlock_kube.client import UNREACHABLE, AnswerTooLarge, ApiError, Json, KubeClient
from interlock_kube.reconcile_loop import TooCostly
from interlock_kube.resource_types import MCP_BINDING, POD, Key, ResourceType

_log = logging.getLogger(__name__)


class BindingSnapshotReader:
    """Builds snapshots of MCPBindings.

    Args:
        cache: The objects that users apply.
        children: The children of MCPBindings.
        client: Reads the pod of a verification.
        settings: The operator's settings.
        api_server: Returns the addresses of the API server.
        drift_seen_at: Returns when a guard last found a tool of an MCPBinding changed, None where none has.
        dropped_at: Returns when a guard last dropped many messages of an MCPBinding's server, None where none has.
        compute: Runs a computation in the worker process.
    """

    def __init__(
        self,
        cache: ResourceCache,
        children: ChildCache,
        client: KubeClient,
        *,
        settings: OperatorSettings,
        api_server: Callable[[], ApiServerAddress],
        drift_seen_at: Callable[[Key], datetime | None],
        dropped_at: Callable[[Key], datetime | None] = lambda _: None,
        compute: Compute,
    ) -> None:
        self._compute = compute
        self._cache = cache
        self._children = children
        self._client = client
        self._settings = settings
        self.users_in: Callable[[str], PodUsers] = lambda _: DEFAULT_USERS
        """Returns the users and groups of the pods of a namespace."""
        self._api_server = api_server
        self._drift_seen_at, self._dropped_at = drift_seen_at, dropped_at
        self.config_maps_of: Callable[[str, Iterable[str]], LiveConfigMaps] = lambda *_: {}
        """Returns the ConfigMaps of a namespace with these names that are known."""

    def read(self, key: Key) -> BindingSnapshot | None:
        """Return the snapshot of an MCPBinding; None where there is none to reconcile.

        One that is being deleted takes its children with it. One that cannot be read is shown on its Agents.
        """
        binding = self._cache.binding(key)
        if binding is None or isinstance(binding, Unreadable) or binding.metadata.deletion_timestamp is not None:
            return None
        policies = self._cache.policies(key[0])
        users = self.users_in(key[0])
        named = self._cache.policies_of_users(key[0], binding.spec.source)
        pods = find_pod_rules(policies, binding, named, users.reserved)
        proxy = find_proxy(policies, binding.spec.source)
        return BindingSnapshot(
            binding=binding,
            children=self._children.of(key, binding.metadata.uid),
            guard_image=self._settings.guard_image,
            guard_resources=self._settings.guard_resources,
            pull_secrets=self._settings.pull_secrets,
            users=users,
            api_server=self._api_server(),
            drift_seen_at=self._drift_seen_at(key),
            proxy=proxy,
            pods=pods.rules,
            refusal=pods.refusal or proxy_refusal(policies, binding, proxy),
            dropped_at=self._dropped_at(key),
            agents=tuple(self._cache.agents_served_by(key)),
            config_maps=self.config_maps_of(key[0], {use.name for use in server_uses(binding)}),
        )

    async def read_image(self, snapshot: BindingSnapshot) -> BindingSnapshot:
        """Return the snapshot with the digest of the server's image in the pod of the run, if the pod has one.

        Raises:
            ApiError: The API server refused the pods.
        """
        run = snapshot.run
        if run is None:
            return snapshot
        query = {"labelSelector": f"batch.kubernetes.io/job-name={run.job}"}
        found = await self._client.get(POD.within(run.binding.metadata.namespace), query)
        name = mcp_container(run.binding.spec.source)
        for pod in found["items"]:
            for container in pod.get("status", {}).get("initContainerStatuses", []):
                if container["name"] == name and container.get("imageID"):
                    return replace(snapshot, image_digest=str(container["imageID"])[:512])
        return snapshot

    async def read_trouble(self, snapshot: BindingSnapshot) -> str | None:
        """Return why the pod of the current run does not start, or what of it fails.

        Empty where nothing says so, None where that cannot be known now.
        """
        run = snapshot.run
        if run is None:
            return None
        namespace = run.binding.metadata.namespace
        try:
            query = {"labelSelector": f"batch.kubernetes.io/job-name={run.job}", "limit": "1"}
            pods = (await self._client.get(POD.within(namespace), query))["items"]
            job = snapshot.children.get(ChildKey(JOB, run.job))
            cause = find_cause(pods[0]) if pods else PodCause(may_have_event=True)
            about = pods[0] if pods else job.manifest if job else {}
            uid = about.get("metadata", {}).get("uid", "")
            warning = (await read_warnings(self._client, namespace, {uid})).get(uid) if cause.may_have_event else None
        except (ApiError, AnswerTooLarge, *UNREACHABLE) as error:
            _log.info("pod of a verification not read", extra={"job": run.job, "error": str(error)})
            return None
        if not pods and warning is None:  # the end of a Job deletes its pod
            return None
        return cause.message if warning is None else warning.added_to(cause)

    async def read_diff(self, snapshot: BindingSnapshot, request: bytes) -> BindingSnapshot:
        """Return the snapshot with the differences of its tools, or with the sentence that they are too large.

        Args:
            snapshot: The snapshot.
            request: The `diff_request` of its reconcile.
        """
        try:
            diff = (await self._compute(snapshot.binding.metadata.namespace, "drift", request)).decode()
        except TooCostly:
            diff = describe_too_large("tools", definitions_place(snapshot.binding))
        return replace(snapshot, tool_diff=diff)


class BindingReconciler:
    """Reconciles MCPBindings.

    Args:
        cache: The objects that users apply.
        reader: Builds the snapshot of an MCPBinding.
        applier: Writes children.
        writer: Writes the status.
        events: Posts Events.
        clock: Returns the time.
        handle_answer: Handles the answer to a write of the status, see `Router.handle_answer`.
    """

    def __init__(
        self,
        *,
        cache: ResourceCache,
        reader: BindingSnapshotReader,
        applier: Applier,
        writer: StatusWriter,
        events: EventPoster,
        clock: Callable[[], datetime],
        handle_answer: Callable[[ResourceType, Json], bool],
    ) -> None:
        self._cache = cache
        self._reader = reader
        self._applier = applier
        self._writer = writer
        self._events = events
        self._clock = clock
        self._handle_answer = handle_answer
        self._troubles: dict[Key, tuple[str, str]] = {}
        """The trouble of the last slow run of each MCPBinding, with the name of its Job."""

    async def reconcile(self, key: Key) -> float | None:
        """Start or end a verification of one MCPBinding where that is due, and report its result.

        Returns:
            Seconds until the next reconcile; None where only an event is a reason for one.

        Raises:
            ApplyFailed: The API server refused a child.
            ApiError: The API server refused the status.
        """
        snapshot = self._reader.read(key)
        if snapshot is None:
            self._troubles.pop(key, None)
            await self._show_unreadable(key)
            return None
        binding, now = snapshot.binding, self._clock()
        snapshot = replace(snapshot, trouble=await self._find_trouble(key, snapshot, now))
        result = verify_binding(snapshot, now)
        if _has_ended(binding.status, result.status) and binding.spec.server.stdio is not None:
            snapshot = await self._reader.read_image(snapshot)
            result = verify_binding(snapshot, now)
        if result.diff_request:
            result = verify_binding(await self._reader.read_diff(snapshot, result.diff_request), now)
        # The status comes first: a run that is not recorded would be started again under another number.
        if await self._write_status(binding, result.status):
            self._report_changes(binding, result.status)
        try:
            written = await self._applier.carry_out(result.plan, *key, snapshot.applied)
        except ApplyFailed as failure:
            await self._record(snapshot, result, failure.written)
            raise
        await self._record(snapshot, result, written)
        return (result.requeue_at - self._clock()).total_seconds()

    async def _show_unreadable(self, key: Key) -> None:
        """Say on an MCPBinding that it cannot be read, if that is so. The status of its Agents says so, too."""
        problem = self._cache.binding(key)
        if isinstance(problem, Unreadable):
            reason = BindingReason.SPEC_INVALID
            self._keep(await self._writer.write_unreadable(MCP_BINDING, key, problem, reason, self._clock()))

    def _keep(self, written: Json | None) -> bool:
        """Handle the answer to a write; return False for no write, and where the MCPBinding was deleted meanwhile."""
        return written is not None and self._handle_answer(MCP_BINDING, written)

    async def _find_trouble(self, key: Key, snapshot: BindingSnapshot, now: datetime) -> str:
        """Return what is known of the current run's trouble: as read now if the run is slow, else as read last."""
        run = snapshot.run
        if run is None:
            return ""
        job, trouble = self._troubles.get(key, ("", ""))
        known = trouble if job == run.job else ""
        if not is_slow(snapshot.binding.status, now):
            return known
        found = await self._reader.read_trouble(snapshot)
        if found is not None:
            if without_figures(found) != without_figures(known):  # otherwise each new port would be a write
                known = found
            self._troubles[key] = (run.job, known)
        return known

    async def _record(self, snapshot: BindingSnapshot, result: BindingOutcome, written: AppliedObjects) -> None:
        """Record in the status how the writes have left the managed objects."""
        managed = record_applied(result.managed, snapshot.applied, written)
        status = result.status.model_copy(update={"managed_objects": managed})
        await self._write_status(snapshot.binding.model_copy(update={"status": result.status}), status)

    async def _write_status(self, binding: MCPBinding, status: MCPBindingStatus) -> bool:
        """Write the status where it differs from the binding's; return True if it was written."""
        return self._keep(await self._writer.write_binding(binding, status))

    def _report_changes(self, binding: MCPBinding, status: MCPBindingStatus) -> None:
        """Count a verification that has ended, and post the Events of what has changed."""
        if _has_ended(binding.status, status):
            run = status.verification.run if status.verification else None
            VERIFICATIONS.labels("failed" if run is None or run.failures else "verified").inc()
        for note in binding_transitions(binding.status, status):
            name = f"{binding.metadata.namespace}/{binding.metadata.name}"
            _log.info(note.message, extra={"binding": name, "reason": note.reason})
            self._events.post(binding, note)


class DriftReports:
    """The last report of each MCPBinding that a guard found a tool changed, and when the operator learned of it.

    Runs are compared with the second time: the clock of a guard's node may be behind that of the operator. Reports of
    dropped messages come under the name of the MCPBinding with `DROPPED_SUFFIX`.

    Args:
        enqueue: Enqueues an MCPBinding.
        clock: Returns the time.
    """

    def __init__(self, enqueue: Callable[[Key], None], clock: Callable[[], datetime]) -> None:
        self._enqueue = enqueue
        self._clock = clock
        self._reported_at: dict[Key, datetime] = {}
        self._learned_at: dict[Key, datetime] = {}

    def report(self, key: Key, reported_at: datetime) -> None:
        """Note a report, by the time of its guard; one that is not newer than the last one enqueues nothing."""
        known = self._reported_at.get(key)
        if known is None or reported_at > known:
            self._reported_at[key], self._learned_at[key] = reported_at, self._clock()
            self._enqueue((key[0], key[1].removesuffix(DROPPED_SUFFIX)))

    def dropped_at(self, key: Key) -> datetime | None:
        """Return when a guard last reported many dropped messages, by its own clock, None where none has."""
        return self._reported_at.get((key[0], f"{key[1]}{DROPPED_SUFFIX}"))

    def learned_at(self, key: Key) -> datetime | None:
        """Return when the operator learned of the last report, None where there was none."""
        return self._learned_at.get(key)


def _has_ended(before: MCPBindingStatus | None, after: MCPBindingStatus) -> bool:
    """Return True if a run has ended between the two."""
    old = before.verification.run if before and before.verification else None
    new = after.verification.run if after.verification else None
    if old is None or old.ended_at is not None or new is None:
        return False
    return new.ended_at is not None or (new.number > old.number and new.plan == old.plan)
