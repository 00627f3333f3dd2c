"""The reconcile of one AgentPolicy: keep `status.access`, the effective permissions of its Agents, up to date."""

from collections.abc import Callable
from datetime import datetime

from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicyStatus, PolicyReason
from interlock.cluster.resource_cache import ResourceCache
from interlock.cluster.status_writer import StatusWriter
from interlock.reconcile.effective_permissions import build_access_request
from interlock.reconcile.policy_status import build_policy_conditions
from interlock.reconcile.snapshot import Unreadable
from interlock.runtime.worker_process import Compute
from interlock_kube.client import Json
from interlock_kube.resource_types import AGENT_POLICY, Key


class PolicyReconciler:
    """Reconciles AgentPolicies.

    Args:
        cache: The objects that users apply.
        writer: Writes the status.
        enqueue_agent: Enqueues an Agent.
        compute: Runs a computation in the worker process.
        clock: Returns the time.
    """

    def __init__(
        self,
        cache: ResourceCache,
        writer: StatusWriter,
        enqueue_agent: Callable[[Key], None],
        compute: Compute,
        clock: Callable[[], datetime],
    ) -> None:
        self._clock = clock
        self._compute = compute
        self._cache = cache
        self._writer = writer
        self._enqueue_agent = enqueue_agent

    async def reconcile(self, key: Key) -> None:
        """Write the status of one AgentPolicy where it has changed.

        Raises:
            ApiError: The API server refused the status.
            TooCostly: The table takes too much time or memory.
        """
        policy = self._cache.policy(key)
        if policy is None:
            return
        if isinstance(policy, Unreadable):
            reason = PolicyReason.SPEC_INVALID  # the status of its Agents says so, too
            self._keep(key, await self._writer.write_unreadable(AGENT_POLICY, key, policy, reason, self._clock()))
            return
        bindings = (binding for binding in self._cache.bindings(key[0]) if isinstance(binding, MCPBinding))
        names = sorted(self._cache.agents_under(key))
        request = build_access_request(policy, bindings, (self._cache.agent(name) for name in names), len(names))
        table = AgentPolicyStatus.model_validate_json(await self._compute(key[0], "access", request))
        refused = {name[1]: one.violation for name in names if (one := self._cache.summary(name)) and one.violation}
        before = self._cache.policy_status(key)
        conditions = build_policy_conditions(policy, before, len(names), refused, self._clock())
        status = table.model_copy(update={"agents": len(names), "violations": len(refused), "conditions": conditions})
        self._keep(key, await self._writer.write_policy(policy, before, status))

    def _keep(self, key: Key, written: Json | None) -> None:
        """Cache the answer to a write, unless the AgentPolicy was deleted meanwhile."""
        if written is not None and self._cache.policy(key) is not None:
            for agent in self._cache.put_policy(written):
                self._enqueue_agent(agent)  # a user changed the policy meanwhile; its watch event enqueues nothing now
