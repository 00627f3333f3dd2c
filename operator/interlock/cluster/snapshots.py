"""The reader of snapshots: it gathers what matters for one Agent from the caches, without a request."""

from collections.abc import Callable

from interlock.api.agent import Agent, AgentSpec, Template
from interlock.api.binding import MCPBinding
from interlock.api.shared_types import ObjectMeta
from interlock.api.status import AgentStatus
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.resource_cache import Key, ResourceCache, parse_agent
from interlock.deployment.observed.egress_check import EgressCheckReport
from interlock.deployment.placement import ApiServerAddress
from interlock.reconcile.snapshot import Snapshot, Unreadable
from interlock.settings import OperatorSettings
from interlock_kube.client import Json


class SnapshotReader:
    """Builds snapshots of Agents.

    Args:
        cache: The objects that users apply.
        children: The children of Agents.
        settings: The operator's settings.
        kill_seen: Returns the switch's value where the kill path has seen it engaged.
        egress_checks: Returns the reports of the egress checks in an Agent's pods.
        api_server: Returns the addresses of the API server.
    """

    def __init__(
        self,
        cache: ResourceCache,
        children: ChildCache,
        settings: OperatorSettings,
        *,
        kill_seen: Callable[[Key], str | None],
        egress_checks: Callable[[Key], tuple[EgressCheckReport, ...]] = lambda _: (),
        api_server: Callable[[], ApiServerAddress] = ApiServerAddress,
    ) -> None:
        self._cache = cache
        self._children = children
        self._settings = settings
        self._kill_seen = kill_seen
        self._egress_checks = egress_checks
        self._api_server = api_server

    def read(self, key: Key) -> Snapshot | None:
        """Return the snapshot of an Agent; None where there is no such Agent, or where it is being deleted."""
        raw = self._cache.agent(key)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None
        parsed = parse_agent(raw)
        agent = _placeholder(raw) if isinstance(parsed, Unreadable) else parsed
        bindings = self._cache.bindings(key[0])
        policy_ref = agent.spec.policy_ref
        policy = self._cache.policy((key[0], policy_ref.name)) if policy_ref else None
        problems = (parsed, policy, *bindings)
        return Snapshot(
            agent=agent,
            policy=None if isinstance(policy, Unreadable) else policy,
            bindings=tuple(binding for binding in bindings if isinstance(binding, MCPBinding)),
            children=self._children.of(key, agent.metadata.uid),
            guard_image=self._settings.guard_image,
            audit_url=self._settings.audit_url,
            unreadable=tuple(problem for problem in problems if isinstance(problem, Unreadable)),
            kill_seen=self._kill_seen(key),
            api_server=self._api_server(),
            egress_checks=self._egress_checks(key),
        )


def _placeholder(raw: Json) -> Agent:
    """Return a substitute for an Agent that cannot be read: it has no children and is refused."""
    status = raw.get("status")
    return Agent(
        metadata=ObjectMeta.model_validate(raw["metadata"]),
        spec=AgentSpec(template=Template(image="unreadable")),
        status=AgentStatus.model_validate(status) if status else None,
    )
