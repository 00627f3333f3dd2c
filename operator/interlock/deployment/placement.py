"""A placement: one (agent, stage, revision) that must serve. Deployments, bundles and names belong to it."""

from dataclasses import dataclass, field

from interlock.action.bindings import binding_for
from interlock.api.agent import Agent, ScopeDimension, Stage
from interlock.api.agentpolicy import AgentPolicy
from interlock.api.isolation import Isolation
from interlock.api.mcpbinding import MCPBinding
from interlock.deployment.api_server import ApiServer


@dataclass(frozen=True)
class BoundSource:
    """A source of the agent and the binding that serves it in this placement's environment."""

    source: str
    binding: MCPBinding


@dataclass(frozen=True)
class Placement:
    """Everything that the children of one placement are built from.

    Attributes:
        agent: The Agent, as applied.
        policy: The policy that it lives under.
        stage: The stage that this placement serves.
        revision: The revision that it runs.
        sources: The agent's sources with their bindings, in the spec's order.
        replicas: How many pods it wants now: 0 while killed.
        guard_image: The guard's image.
        records_url: Where the guard brings its records; empty, it keeps them.
        guard_addresses: Those of the guard's Service, without which no agent's pod of its own can be made.
        api_server: Where the API server is, for the guard's own egress.
    """

    agent: Agent
    policy: AgentPolicy
    stage: Stage
    revision: str
    sources: tuple[BoundSource, ...]
    replicas: int
    guard_image: str
    records_url: str = ""
    guard_addresses: tuple[str, ...] = ()
    api_server: ApiServer = field(default_factory=ApiServer)

    @property
    def isolation(self) -> Isolation:
        """How far apart agent and guard stand."""
        return self.policy.spec.environments.isolation_in(self.stage.environment)

    @property
    def is_separate(self) -> bool:
        """Agent and guard have a pod each."""
        return self.isolation == "Separate"

    @property
    def scope(self) -> tuple[ScopeDimension, ...]:
        """The stage's limits; none is everything."""
        return self.stage.scope or ()


def bound_sources(agent: Agent, bindings: tuple[MCPBinding, ...], environment: str) -> tuple[BoundSource, ...]:
    """Return the agent's sources that exactly one binding serves in the environment, in the spec's order."""
    found = ((use.source, binding_for(bindings, use.source, environment)) for use in agent.spec.bindings)
    return tuple(BoundSource(source, binding) for source, binding in found if binding is not None)
