"""Gather everything that matters for one agent into one frozen snapshot, from what is known: no request is made."""

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class SnapshotSources:
    """What others see, asked for at each snapshot.

    Attributes:
        kill_seen: The switch's value where the kill path has seen it engaged.
        gates: What the gates of an agent's pods say.
        api_server: Where the API server is.
    """

    kill_seen: Callable[[Key], str | None]
    gates: Callable[[Key], tuple[EgressCheckReport, ...]] = lambda _: ()
    api_server: Callable[[], ApiServerAddress] = ApiServerAddress


class SnapshotReader:
    """Builds snapshots."""

    def __init__(
        self, primaries: ResourceCache, children: ChildCache, settings: OperatorSettings, sight: SnapshotSources
    ) -> None:
        self._primaries = primaries
        self._children = children
        self._settings = settings
        self._sight = sight

    def world_of(self, key: Key) -> Snapshot | None:
        """Return the snapshot of an agent; None where there is none, or where it is being deleted."""
        raw = self._primaries.agent(key)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None
        parsed = parse_agent(raw)
        agent = _placeholder(raw) if isinstance(parsed, Unreadable) else parsed
        bindings = self._primaries.bindings(key[0])
        policy_ref = agent.spec.policy_ref
        policy = self._primaries.policy((key[0], policy_ref.name)) if policy_ref else None
        problems = (parsed, policy, *bindings)
        return Snapshot(
            agent=agent,
            policy=None if isinstance(policy, Unreadable) else policy,
            bindings=tuple(binding for binding in bindings if isinstance(binding, MCPBinding)),
            children=self._children.of(key, agent.metadata.uid),
            guard_image=self._settings.guard_image,
            audit_url=self._settings.audit_url,
            unreadable=tuple(problem for problem in problems if isinstance(problem, Unreadable)),
            kill_seen=self._sight.kill_seen(key),
            api_server=self._sight.api_server(),
            gates=self._sight.gates(key),
        )


def _placeholder(raw: Json) -> Agent:
    """Return an Agent that stands for one that cannot be read: it wants nothing and is refused."""
    status = raw.get("status")
    return Agent(
        metadata=ObjectMeta.model_validate(raw["metadata"]),
        spec=AgentSpec(template=Template(image="unreadable")),
        status=AgentStatus.model_validate(status) if status else None,
    )
