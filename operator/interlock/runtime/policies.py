"""The reconcile of one AgentPolicy: the effective permissions of its Agents in `status.access`, and its notifier."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy, AgentPolicyStatus, PolicyReason
from interlock.api.status import ManagedObject
from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.resource_cache import ResourceCache
from interlock.cluster.status_writer import StatusWriter
from interlock.deployment.placement import ApiServerAddress
from interlock.deployment.plan import NETWORK
from interlock.deployment.pod_users import DEFAULT_USERS, PodUsers
from interlock.reconcile.effective_permissions import build_access_request
from interlock.reconcile.managed_objects import record_applied
from interlock.reconcile.notifier import NotifierSnapshot, find_notifying, plan_notifier
from interlock.reconcile.policy_status import build_policy_conditions
from interlock.reconcile.snapshot import Unreadable
from interlock.runtime.worker_process import Compute
from interlock.settings import OperatorSettings
from interlock_kube.client import Json
from interlock_kube.resource_types import AGENT_POLICY, Key, ResourceType

PODS_SECONDS: Final = 5.0
"""Seconds until a NetworkPolicy is tried again that stays while it selects a pod."""


class NotifierApplier:
    """Keeps the objects of notifiers as they must be.

    Args:
        children: The objects.
        applier: Writes them.
        settings: The operator's settings.
        api_server: Returns the addresses of the API server.
    """

    def __init__(
        self,
        children: ChildCache,
        applier: Applier,
        *,
        settings: OperatorSettings,
        api_server: Callable[[], ApiServerAddress],
    ) -> None:
        self._children, self._applier = children, applier
        self._settings, self._api_server = settings, api_server
        self.users_in: Callable[[str], PodUsers] = lambda _: DEFAULT_USERS
        """Returns the users and groups of the pods of a namespace."""

    def read(self, key: Key, policy: AgentPolicy, status: AgentPolicyStatus | None) -> NotifierSnapshot:
        """Return the snapshot of a policy's notifier."""
        children = self._children.of(key, policy.metadata.uid)
        settings, address = self._settings, self._api_server()
        return NotifierSnapshot(
            policy,
            status,
            children,
            settings.guard_image,
            address,
            guard_resources=settings.guard_resources,
            pull_secrets=settings.pull_secrets,
            users=self.users_in(key[0]),
        )

    async def apply(
        self, key: Key, snapshot: NotifierSnapshot, record: Callable[[tuple[ManagedObject, ...]], Awaitable[None]]
    ) -> float | None:
        """Write what is pending.

        Args:
            key: The policy.
            snapshot: Its snapshot.
            record: Called with the objects as the writes left them, also where one failed.

        Returns:
            Seconds until the next reconcile where an object waits for the end of pods; else None.

        Raises:
            ApplyFailed: The API server refused an object.
        """
        plan, managed = plan_notifier(snapshot)
        try:
            written = await self._applier.carry_out(plan, *key, snapshot.applied)
        except ApplyFailed as failure:
            await record(record_applied(managed, snapshot.applied, failure.written))
            raise
        await record(record_applied(managed, snapshot.applied, written))
        return PODS_SECONDS if any(key.kind == NETWORK for key in plan.prune) else None


class PolicyReconciler:
    """Reconciles AgentPolicies.

    Args:
        cache: The objects that users apply.
        notifiers: Keeps the objects of notifiers.
        writer: Writes the status.
        handle_answer: Handles the answer to a write of the status, see `Router.handle_answer`.
        compute: Runs a computation in the worker process.
        clock: Returns the time.
    """

    def __init__(
        self,
        cache: ResourceCache,
        notifiers: NotifierApplier,
        writer: StatusWriter,
        handle_answer: Callable[[ResourceType, Json], object],
        compute: Compute,
        clock: Callable[[], datetime],
    ) -> None:
        self._clock = clock
        self._compute = compute
        self._cache, self._notifiers = cache, notifiers
        self._writer = writer
        self._handle_answer = handle_answer

    async def reconcile(self, key: Key) -> float | None:
        """Write the status of one AgentPolicy where it has changed, then the objects of its notifier.

        Returns:
            Seconds until the next reconcile; None where only an event is a reason for one.

        Raises:
            ApplyFailed: The API server refused an object of the notifier.
            ApiError: The API server refused the status.
            TooCostly: The table takes too much time or memory.
        """
        policy = self._cache.policy(key)
        if policy is None:
            return None
        if isinstance(policy, Unreadable):
            reason = PolicyReason.SPEC_INVALID  # the status of its Agents says so, too
            self._keep(await self._writer.write_unreadable(AGENT_POLICY, key, policy, reason, self._clock()))
            return None
        bindings = (binding for binding in self._cache.bindings(key[0]) if isinstance(binding, MCPBinding))
        names = sorted(self._cache.agents_under(key))
        agents, stricter = (self._cache.agent(name) for name in names), self._cache.stricter_environments(policy)
        request = build_access_request(policy, bindings, agents, len(names), stricter.all)
        table = AgentPolicyStatus.model_validate_json(await self._compute(key[0], "access", request))
        refused = {name[1]: one.violation for name in names if (one := self._cache.summary(name)) and one.violation}
        before = self._cache.policy_status(key)
        notifier = self._notifiers.read(key, policy, before)
        now, found = self._clock(), find_notifying(notifier)
        status = table.model_copy(
            update={
                "agents": len(names),
                "violations": len(refused),
                "conditions": build_policy_conditions(policy, before, len(names), refused, now, found),
                "managed_objects": before.managed_objects if before else (),
            }
        )
        self._keep(await self._writer.write_policy(policy, before, status))

        async def record(managed: tuple[ManagedObject, ...]) -> None:
            after = status.model_copy(update={"managed_objects": managed})
            self._keep(await self._writer.write_policy(policy, status, after))

        if policy.metadata.deletion_timestamp is not None:  # the policy takes its objects with it
            return None
        return await self._notifiers.apply(key, notifier, record)

    def _keep(self, written: Json | None) -> None:
        if written is not None:
            self._handle_answer(AGENT_POLICY, written)
