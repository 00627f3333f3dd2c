"""The reader of snapshots of Agents, from the caches of the operator."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from interlock.action.audit_mode import NONE_STRICTER
from interlock.api.agent import Agent, AgentSpec
from interlock.api.binding import MCPBinding
from interlock.api.gates import MetricGate
from interlock.api.pod_template import Template
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import ObjectMeta
from interlock.api.status import AgentStatus
from interlock.api.stored_status import read_agent_status
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.object_parser import parse_agent
from interlock.cluster.resource_cache import ResourceCache
from interlock.deployment.config_maps import LiveConfigMaps, uses_of
from interlock.deployment.names import Manifest
from interlock.deployment.node_ranges import NodeRanges
from interlock.deployment.observed.pod_reports import AgentPods
from interlock.deployment.placement import ApiServerAddress
from interlock.deployment.pod_users import DEFAULT_USERS, PodUsers
from interlock.orchestration.claim_checks import ClaimUse
from interlock.orchestration.commands import read_commands
from interlock.orchestration.gates import MetricResult
from interlock.reconcile.claims import used_claims
from interlock.reconcile.revisions import needed_revisions
from interlock.reconcile.rollout_status import read_record
from interlock.reconcile.snapshot import BudgetSnapshot, KnownRevision, Snapshot, Unreadable, readable
from interlock.reconcile.stage_gates import current_gates
from interlock.runtime.operator_version import digest_version
from interlock.settings import OperatorSettings
from interlock_contract.kill import KillLatch, observe
from interlock_kube.client import Json
from interlock_kube.resource_types import Key


@dataclass(frozen=True)
class Turn:
    """What one reconcile has found out besides what the caches hold.

    Attributes:
        secret_created_at: See `Snapshot`.
        lost_revisions: See `Snapshot`.
        are_commands_checked: Whether the API server checks who gives commands.
        are_authors_checked: See `Snapshot`.
        may_number: See `Snapshot`.
        last_number: The highest number of the agent's stored revisions, if its status has no rollout.
        test_pods: See `Snapshot`.
    """

    secret_created_at: datetime | None = None
    lost_revisions: Mapping[str, str] = field(default_factory=dict)
    are_commands_checked: bool = False
    are_authors_checked: bool = False
    may_number: str = ""
    last_number: int = 0
    test_pods: Mapping[str, tuple[Manifest, ...]] = field(default_factory=dict)


class SnapshotReader:
    """Builds snapshots of Agents.

    Args:
        cache: The objects that users apply.
        children: The children of Agents.
        settings: The operator's settings.
        operator_key: The key from which the keys of agents are derived.
        kill_seen: Returns the switch's value where the second watch has seen it engaged.
        starts_pods: Returns whether new pods may start.
        pods: Returns the reports of an Agent's pods, and when they were Ready since a moment.
        api_server: Returns the addresses of the API server.
    """

    def __init__(
        self,
        cache: ResourceCache,
        children: ChildCache,
        settings: OperatorSettings,
        *,
        operator_key: bytes,
        kill_seen: Callable[[Key], str | None],
        starts_pods: Callable[[], bool] = lambda: True,
        pods: Callable[[Key, datetime | None], AgentPods] = lambda *_: AgentPods(),
        api_server: Callable[[], ApiServerAddress] = ApiServerAddress,
    ) -> None:
        self._cache = cache
        self._children = children
        self._settings = settings
        self._operator_key = operator_key
        self._kill_seen = kill_seen
        self._starts_pods = starts_pods
        self._pods = pods
        self._api_server = api_server
        self.spending_of: Callable[[Agent, AgentPolicy], BudgetSnapshot] = lambda *_: BudgetSnapshot()
        """Returns the ledgers that an Agent may spend from, and the prices of its models under its policy."""
        self.revisions_of: Callable[[Agent, Iterable[str]], Mapping[str, KnownRevision]] = lambda *_: {}
        """Returns those of an Agent's revisions with these digests that are kept."""
        self.config_maps_of: Callable[[str, Iterable[str]], LiveConfigMaps] = lambda *_: {}
        """Returns the ConfigMaps of a namespace with these names that are known."""
        self.metrics_of: Callable[[Key, Sequence[MetricGate]], Mapping[str, MetricResult]] = lambda *_: {}
        """Returns the last results of an Agent's metric gates by name, and goes on asking for these gates alone."""
        self.users_in: Callable[[str], PodUsers] = lambda _: DEFAULT_USERS
        """Returns the users and groups of the pods of a namespace."""
        self.nodes: Callable[[], NodeRanges | None] = lambda: None
        """Returns the addresses of nodes and of their pods; None while they are not known."""
        self.may_start: Callable[[Key, AgentPolicy], str] = lambda *_: ""
        """Returns why a rollout that the policy or a binding begins must wait for those of other agents."""
        self.may_update: Callable[[Key], str] = lambda _: ""
        """Returns why the guards of an agent may not be replaced for this version of the operator alone."""
        self._version = digest_version(settings)

    def may_start_pods(self, key: Key, uid: str) -> bool:
        """Return True unless the Agent was killed, or deleted, or the kill controller was lost since its snapshot.

        Args:
            key: The Agent.
            uid: Its uid. Another Agent may have its name by now.
        """
        raw = self._cache.agent(key)
        if raw is None or raw["metadata"]["uid"] != uid or raw["metadata"].get("deletionTimestamp"):
            return False
        if self._kill_seen(key) is not None or not self._starts_pods():
            return False
        return observe(KillLatch(), raw["metadata"].get("annotations"), raw.get("status")).message is None

    def forget(self, key: Key) -> None:
        """Forget an Agent that is gone."""
        self.metrics_of(key, ())

    def agent(self, key: Key) -> Agent | None:
        """Return an Agent, what can be read of it, or a substitute if that is too little; None where there is none."""
        raw = self._cache.agent(key)
        return None if raw is None else readable(parse_agent(raw), Agent) or _placeholder(raw)

    def status(self, key: Key) -> AgentStatus | None:
        """Return as much of an Agent's status as can be read; None where there is none."""
        raw = self._cache.agent(key)
        return None if raw is None else read_agent_status(raw.get("status"))

    def read(self, key: Key, turn: Turn | None = None) -> Snapshot | None:
        """Return the snapshot of an Agent; None where there is no such Agent.

        Args:
            key: The Agent.
            turn: What this reconcile has found out besides; None for nothing.
        """
        raw = self._cache.agent(key)
        if raw is None:
            return None
        turn = turn or Turn()
        parsed = parse_agent(raw)
        agent = readable(parsed, Agent) or _placeholder(raw)
        commands = read_commands(agent.metadata.annotations, is_checked=turn.are_commands_checked)
        facts = read_record(agent).facts
        needed = needed_revisions(facts, commands)
        revisions = self.revisions_of(agent, [ref.digest for ref in needed])
        sources = {use.source for use in agent.spec.bindings}
        sources |= {source for known in revisions.values() for source in known.content.sources}
        serving = tuple(one for one in self._cache.bindings(key[0]) if _may_serve(one, sources))
        bindings = tuple(one for found in serving if (one := readable(found, MCPBinding)) is not None)
        policy_ref = agent.spec.policy_ref
        named = self._cache.policy((key[0], policy_ref.name)) if policy_ref else None
        policy = readable(named, AgentPolicy)
        gates = current_gates(agent, policy, facts)
        return Snapshot(
            agent=agent,
            policy=policy,
            bindings=bindings,
            children=self._children.of(key, agent.metadata.uid),
            guard_image=self._settings.guard_image,
            audit_url=self._settings.audit_url,
            guard_resources=self._settings.guard_resources,
            pull_secrets=self._settings.pull_secrets,
            users=self.users_in(key[0]),
            unreadable=tuple(one for one in (parsed, named, *serving) if isinstance(one, Unreadable)),
            kill_seen=self._kill_seen(key),
            starts_pods=self._starts_pods(),
            api_server=self._api_server(),
            nodes=self.nodes(),
            metadata_server=self._settings.metadata_server,
            pods=self._pods(key, _ready_since(agent)),
            operator_key=self._operator_key,
            spending=self.spending_of(agent, policy) if policy is not None else BudgetSnapshot(),
            secret_created_at=turn.secret_created_at,
            revisions=revisions,
            lost_revisions=turn.lost_revisions,
            commands=commands,
            may_start=self.may_start(key, policy) if policy is not None else "",
            may_number=turn.may_number,
            are_authors_checked=turn.are_authors_checked,
            last_number=turn.last_number,
            metrics=self.metrics_of(key, gates.metrics),
            test_pods=turn.test_pods,
            config_maps=self._config_maps(agent, bindings),
            claims_of_others=self._claims_of_others(key),
            operator_version=self._version,
            may_update=self.may_update(key),
            stricter=self._cache.stricter_environments(policy) if policy is not None else NONE_STRICTER,
        )

    def _claims_of_others(self, key: Key) -> tuple[ClaimUse, ...]:
        return tuple(self._with_used(key[0], one) for one in self._cache.claims_of_others(key))

    def _with_used(self, namespace: str, use: ClaimUse) -> ClaimUse:
        """Return the use of an Agent with the claims that its Deployments start pods with."""
        key = (namespace, use.agent)
        raw = self._cache.agent(key)
        if raw is None or not use.held:
            return use
        return replace(use, used=used_claims(self._children.of(key, raw["metadata"]["uid"])))

    def _config_maps(self, agent: Agent, bindings: tuple[MCPBinding, ...]) -> LiveConfigMaps:
        return self.config_maps_of(agent.metadata.namespace, {use.name for use in uses_of(agent, bindings)})


def _may_serve(binding: MCPBinding | Unreadable, sources: Collection[str]) -> bool:
    """Return True if an MCPBinding serves one of some sources. One that cannot be read does unless it names another."""
    source = binding.source if isinstance(binding, Unreadable) else binding.spec.source
    return source is None or source in sources


def _ready_since(agent: Agent) -> datetime | None:
    return agent.status.stage.ready_since if agent.status and agent.status.stage else None


def _placeholder(raw: Json) -> Agent:
    """Return a substitute for an Agent that cannot be read: it has no children and is refused."""
    return Agent(
        metadata=ObjectMeta.model_validate(raw["metadata"]),
        spec=AgentSpec(template=Template(image="unreadable")),
        status=read_agent_status(raw.get("status")),
    )
