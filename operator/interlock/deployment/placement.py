"""A placement: one agent in one stage and revision. It owns Deployments, a bundle and a name."""

from dataclasses import dataclass, field
from typing import Literal

from interlock.action.actions_bound import binding_for
from interlock.api.agent import Agent, Stage
from interlock.api.binding import MCPBinding
from interlock.api.environments import Isolation
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import EnvironmentClass, Resources, ScopeDimension
from interlock.deployment.config_maps import ConfigMaps
from interlock.deployment.node_ranges import NodeRanges
from interlock.deployment.pod_users import DEFAULT_USERS, PodUsers
from interlock.governance.budgets import EnvironmentBudget, ModelPrices
from interlock.orchestration.claim_checks import claims_in
from interlock_contract.bundle import DEFAULT_DRAIN_SECONDS
from interlock_contract.bundle_schema import SCHEMA_VERSION
from interlock_contract.kill import GRACE_SECONDS


@dataclass(frozen=True, order=True)
class ApiEndpoint:
    """One address of the API server.

    Attributes:
        address: Numeric, IPv4 or IPv6.
        port: Its TCP port.
    """

    address: str
    port: int


@dataclass(frozen=True)
class ApiServerAddress:
    """Where the guards find the API server.

    Attributes:
        endpoints: The addresses of the Service `kubernetes` and of its endpoints. Most networks check a connection
            after the Service's address was replaced, some before, so rules need both.
        is_anywhere: Allow egress to the API server's ports at any address, for networks whose rules match no nodes.
    """

    endpoints: tuple[ApiEndpoint, ...] = ()
    is_anywhere: bool = False


@dataclass(frozen=True)
class BoundSource:
    """A source of the agent and the binding that serves it in this placement's environment."""

    source: str
    binding: MCPBinding


MetadataServer = Literal["None", "GKE"]
"""Whose metadata server gives pods identities at a cloud."""
Scope = tuple[ScopeDimension, ...]
"""A part of the work. An empty one is all of it."""


@dataclass(frozen=True)
class Peer:
    """Another placement of the agent, to which guards pass the tasks on that it serves.

    Attributes:
        stage: The name of its stage.
        revision: Its revision, the whole digest.
        url: The address of its guards' port for tasks.
        scope: What its stage is limited to.
        excluded: What others serve of that.
        is_draining: Whether it takes no new tasks.
    """

    stage: str
    revision: str
    url: str
    scope: Scope
    excluded: tuple[Scope, ...]
    is_draining: bool = False


@dataclass(frozen=True)
class Placement:
    """The input of everything in `children`.

    The attributes from `is_serving` on say what it serves at the moment, and how. They reach running pods, and change
    no pod template.

    Attributes:
        agent: The Agent, as applied.
        policy: Its AgentPolicy.
        stage: Its stage.
        revision: Its revision, the whole digest.
        sources: The agent's sources with their bindings, in the spec's order.
        replicas: Number of pods, 0 while killed.
        guard_image: The guard's image.
        guard_resources: What the installation states for Interlock's own containers where the policy states nothing.
        pull_secrets: Names of the Secrets with which kubelets pull images, as the installation states them.
        users: The users and groups of the pods of its namespace.
        collisions: How many names of the placement were those of another one (see `name_collisions`).
        audit_url: URL of the audit collector; empty if there is none, then the guard keeps its records.
        guard_addresses: Addresses of the guard's Service; a separate agent's pod needs them.
        api_server: Addresses of the API server, for the guard's egress.
        nodes: The addresses of nodes and of their pods, which no row of egress opens; None while they are not known.
        metadata_server: Whose metadata server gives pods identities at a cloud.
        budget: What it spends from, None where it spends no money.
        prices: The prices of its models.
        agent_key: The key that the agent shows to its guard.
        config_maps: What its revision keeps of ConfigMaps. Its pods refer to copies of this alone.
        is_serving: False for a placement that is being started: it serves nothing yet.
        excluded: The scopes that other placements serve instead.
        is_draining: Whether it takes no new tasks, since it is on its way out.
        drain_seconds: How long tasks under way may go on then.
        draining_pods: Names of pods with a guard that are on their way out, so that no Service leads to them.
        leaves_guards: Whether some of its guards are on their way out, and others stay.
        changed_pods: Names of pods with a guard that run another image than the revision was Ready with, those that
            were deleted since included.
        changed_addresses: Addresses of such pods of a separate agent.
        peers: The other placements of the agent that take tasks of environments of the same class.
        draining_addresses: Addresses of a separate agent's pods that get no new tasks, since they are on their way out.
        is_counted: Whether its guards count what they do, since its stage has gates, or a source is in mode Audit.
        audited: The sources in mode Audit, whose guards record what the policy does not permit, and let it pass.
        is_killed: Whether the agent is killed, so that nothing is open past the guard while its pods end.
        bundle_schema: The version of the bundle's schema that its guards read.
    """

    agent: Agent
    policy: AgentPolicy
    stage: Stage
    revision: str
    sources: tuple[BoundSource, ...]
    replicas: int
    guard_image: str
    guard_resources: Resources | None = None
    pull_secrets: tuple[str, ...] = ()
    users: PodUsers = DEFAULT_USERS
    collisions: int = 0
    audit_url: str = ""
    guard_addresses: tuple[str, ...] = ()
    api_server: ApiServerAddress = field(default_factory=ApiServerAddress)
    nodes: NodeRanges | None = None
    metadata_server: MetadataServer = "None"
    budget: EnvironmentBudget | None = None
    prices: ModelPrices = field(default_factory=ModelPrices)
    agent_key: str = field(default="", repr=False)
    config_maps: ConfigMaps = field(default_factory=dict, repr=False)
    is_serving: bool = True
    excluded: tuple[Scope, ...] = ()
    is_draining: bool = False
    drain_seconds: int = DEFAULT_DRAIN_SECONDS
    draining_pods: tuple[str, ...] = ()
    leaves_guards: bool = False
    changed_pods: tuple[str, ...] = ()
    changed_addresses: tuple[str, ...] = ()
    peers: tuple[Peer, ...] = ()
    is_counted: bool = False
    draining_addresses: tuple[str, ...] = ()
    audited: frozenset[str] = frozenset()
    is_killed: bool = False
    bundle_schema: int = SCHEMA_VERSION

    @property
    def isolation(self) -> Isolation:
        """Whether agent and guard share a pod."""
        return self.policy.spec.isolation_in(self.stage.environment)

    @property
    def is_separate(self) -> bool:
        """True if agent and guard have a pod each."""
        return self.isolation == "Separate"

    @property
    def grace_seconds(self) -> int:
        """How long an eviction lets the pods with the agent and with its guard finish, in seconds."""
        return self.agent.spec.template.termination_grace_period_seconds or GRACE_SECONDS

    @property
    def claims(self) -> frozenset[str]:
        """The names of the claims that the agent's pod mounts."""
        return claims_in(self.agent.spec, self.stage.environment)

    @property
    def scope(self) -> Scope:
        """The stage's limits; without any the stage has the whole work."""
        return self.stage.scope or ()

    @property
    def excluded_now(self) -> tuple[Scope, ...]:
        """The scopes that it does not serve, each once: all of the work while it is not serving."""
        return tuple(dict.fromkeys(self.excluded)) if self.is_serving else ((),)


def bound_sources(agent: Agent, bindings: tuple[MCPBinding, ...], environment: str) -> tuple[BoundSource, ...]:
    """Return the agent's sources that exactly one binding serves in the environment, in the spec's order."""
    found = ((use.source, binding_for(bindings, use.source, environment)) for use in agent.spec.bindings)
    return tuple(BoundSource(source, binding) for source, binding in found if binding is not None)


def may_start_open(environment_class: EnvironmentClass) -> bool:
    """Return True if an agent may start on a network that enforces no NetworkPolicy: in development alone."""
    return environment_class is EnvironmentClass.DEVELOPMENT
