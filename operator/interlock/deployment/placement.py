"""A placement: one (agent, stage, revision) that must serve. Deployments, bundles and names belong to it."""

import hashlib
import json
from dataclasses import dataclass, field

from interlock.action.actions_bound import binding_for
from interlock.api.agent import Agent, AgentSpec, Stage
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy, Isolation
from interlock.api.shared_types import Environment, ScopeDimension


@dataclass(frozen=True, order=True)
class ApiEndpoint:
    """One address at which it answers.

    Attributes:
        address: Numeric, IPv4 or IPv6.
        port: Its TCP port.
    """

    address: str
    port: int


@dataclass(frozen=True)
class ApiServerAddress:
    """The API server.

    Attributes:
        endpoints: The addresses of the Service `kubernetes` and of what is behind it. Networks differ in which of the
            two they compare: most look at a connection after its Service's address was replaced, some before.
        is_anywhere: Let guards out to its ports at any address: for networks whose rules do not match nodes.
    """

    endpoints: tuple[ApiEndpoint, ...] = ()
    is_anywhere: bool = False


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
        audit_url: Where the guard brings its records; empty, it keeps them.
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
    audit_url: str = ""
    guard_addresses: tuple[str, ...] = ()
    api_server: ApiServerAddress = field(default_factory=ApiServerAddress)

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


def may_start_open(environment: Environment) -> bool:
    """Tell whether an agent may start where the network enforces nothing: in development alone, and it is told."""
    return environment is Environment.DEVELOPMENT


def revision_of(spec: AgentSpec) -> str:
    """Return the revision: ten hexadecimal digits over template, files, bindings, names of models, the port for tasks.

    Owner, purpose, policy, replicas, how many tasks at once and the rollout's own times are not behaviour: changing
    them starts no new revision.
    """
    behaviour = spec.model_dump(
        by_alias=True,
        exclude_none=True,
        mode="json",
        include={"template", "files", "bindings", "tasks"},
        exclude={"tasks": {"max_concurrent_tasks"}},
    )
    if spec.models:  # an agent without models keeps the revision that it had before there were any
        behaviour["models"] = [use.name for use in spec.models]
    text = json.dumps(behaviour, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]
