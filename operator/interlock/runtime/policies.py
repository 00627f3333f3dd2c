"""The reconcile of one AgentPolicy: keep `status.access`, the effective permissions of its Agents, up to date."""

from collections.abc import Callable, Iterator

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.cluster.resource_cache import ResourceCache, parse_agent
from interlock.cluster.status_writer import StatusWriter
from interlock.reconcile.effective_permissions import AgentAccess, build_policy_status
from interlock.reconcile.snapshot import Unreadable
from interlock_kube.resource_types import Key


class PolicyReconciler:
    """Reconciles AgentPolicies.

    Args:
        cache: The objects that users apply.
        writer: Writes the status.
        enqueue_agent: Enqueues an Agent.
    """

    def __init__(self, cache: ResourceCache, writer: StatusWriter, enqueue_agent: Callable[[Key], None]) -> None:
        self._cache = cache
        self._writer = writer
        self._enqueue_agent = enqueue_agent

    async def reconcile(self, key: Key) -> None:
        """Write the status of one AgentPolicy where it has changed.

        Raises:
            ApiError: The API server refused the status.
        """
        policy = self._cache.policy(key)
        if policy is None or isinstance(policy, Unreadable):
            return  # the status of its Agents says that the policy cannot be read
        bindings = tuple(binding for binding in self._cache.bindings(key[0]) if isinstance(binding, MCPBinding))
        names = sorted(self._cache.agents_under(key))
        status = build_policy_status(AgentAccess(policy, bindings), self._read(names), len(names))
        written = await self._writer.write_policy(policy, self._cache.policy_status(key), status)
        if written is not None and self._cache.policy(key) is not None:  # otherwise it was deleted meanwhile
            for agent in self._cache.put_policy(written):
                self._enqueue_agent(agent)  # a user changed the policy meanwhile; its watch event enqueues nothing now

    def _read(self, names: list[Key]) -> Iterator[Agent | None]:
        """Yield the Agents one by one, as far as the table has room: to parse a thousand takes a second."""
        for name in names:
            raw = self._cache.agent(name)
            parsed = None if raw is None or raw["metadata"].get("deletionTimestamp") else parse_agent(raw)
            yield None if isinstance(parsed, Unreadable) else parsed
