"""The snapshot of one Agent: everything in the cluster that its reconcile depends on, read once and frozen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from interlock.action.audit_mode import NONE_STRICTER, StricterEnvironments
from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import Resources
from interlock.api.status import Condition
from interlock.deployment.config_maps import LiveConfigMaps
from interlock.deployment.content import Content
from interlock.deployment.names import ChildKey, Manifest
from interlock.deployment.node_ranges import NodeRanges
from interlock.deployment.observed.pod_reports import AgentPods
from interlock.deployment.ownership import AppliedObjects
from interlock.deployment.placement import ApiServerAddress, MetadataServer
from interlock.deployment.plan import LiveChild
from interlock.deployment.pod_users import DEFAULT_USERS, PodUsers
from interlock.deployment.readable_part import GUARD_RESOURCES, Readable, ReadablePart, kept_pod_members
from interlock.governance.budgets import ModelPrices
from interlock.governance.pod_features import feature_of
from interlock.orchestration.claim_checks import ClaimUse
from interlock.orchestration.gates import MetricResult
from interlock.orchestration.rollout_state import RolloutCommands
from interlock.reconcile.managed_objects import read_applied
from interlock_contract.budget.ledger import Ledger
from interlock_contract.revisions import printable


@dataclass(frozen=True)
class BudgetSnapshot:
    """What an Agent spends from, and what its models cost.

    Attributes:
        ledgers: The ledgers of the Agent and the total of its policy, by name. A text says why one cannot be read.
        find_prices: Returns the prices of an Agent's models under a policy.
        day_seconds: Length of a day of a budget in tests and examples, None for calendar days.
    """

    ledgers: Mapping[str, Ledger | str] = field(default_factory=dict)
    find_prices: Callable[[Agent, AgentPolicy], ModelPrices] = lambda _agent, _policy: ModelPrices()
    day_seconds: int | None = None


@dataclass(frozen=True)
class KnownRevision:
    """A revision of the agent as it is stored, or as it would be.

    Attributes:
        content: What it was reviewed with.
        stored: The content as the JSON that is stored; None if nothing is stored yet. A later version may write the
            same content otherwise, and its digest is that of the stored text.
    """

    content: Content
    stored: Mapping[str, Any] | None = None

    @property
    def data(self) -> Mapping[str, Any]:
        """The content as JSON."""
        return self.content.to_kubernetes() if self.stored is None else self.stored


@dataclass(frozen=True)
class Snapshot:
    """The snapshot.

    Attributes:
        agent: The Agent, its status included.
        policy: The AgentPolicy that it names, None where it does not exist or cannot be read.
        bindings: The MCPBindings of its namespace that serve one of its sources, in any environment. Of all others,
            which may be very many, no reconcile depends on any.
        children: Its children as they are.
        guard_image: The image of the guards.
        guard_resources: What the installation states for Interlock's own containers.
        pull_secrets: Names of the Secrets with which kubelets pull images, as the installation states them.
        users: The users and groups of the pods of its namespace.
        unreadable: Objects that matter here and cannot be read, each with the reason.
        audit_url: Where guards send their audit records; where it is empty they keep them.
        api_server: The addresses of the API server.
        nodes: The addresses of nodes and of their pods; None while they are not known.
        metadata_server: Whose metadata server gives pods identities at a cloud.
        pods: The reports of its pods.
        kill_seen: The switch's value where the second watch has seen it engaged; the Agent above may lag behind.
        starts_pods: Whether new pods may start; False while no kill controller would end them.
        operator_key: The key from which the keys of agents are derived.
        spending: Its ledgers, and the prices of its models.
        secret_created_at: When this operator last created the agent's Secret, or found that it exists; None before.
        revisions: The revisions that were read, by their digests.
        lost_revisions: Why revisions cannot be read, by their digests.
        commands: The commands about the rollout that stand on the Agent.
        may_start: Why a rollout that the policy or a binding begins must wait for those of other agents; empty if it
            need not.
        may_number: Why no run of a revision may begin, since it cannot be stored; empty if one may.
        are_authors_checked: Whether the API server checks who is named as the author of a spec.
        last_number: The highest number of its stored revisions, if its status does not say so.
        metrics: The results of the queries of its current stage's gates, by their names. A missing one is not known.
        test_pods: The pods of Jobs of tests that have ended, by the Job's name.
        config_maps: The ConfigMaps of its namespace that it and its stdio servers refer to.
        stricter: The environments that its policy holds for development, and another one of its namespace does not, or
            may not. None without mode Audit.
        operator_version: The digest of version and settings of the operator.
        may_update: Why pods of guards may not be replaced because of the operator's version alone; empty if they may.
        claims_of_others: What the other Agents have to do with claims that it names or holds.
    """

    agent: Agent
    policy: AgentPolicy | None
    bindings: tuple[MCPBinding, ...]
    children: Mapping[ChildKey, LiveChild]
    guard_image: str
    audit_url: str = ""
    unreadable: tuple["Unreadable", ...] = field(default=())
    api_server: ApiServerAddress = field(default_factory=ApiServerAddress)
    nodes: NodeRanges | None = None
    metadata_server: MetadataServer = "None"
    pods: AgentPods = field(default_factory=AgentPods)
    kill_seen: str | None = None
    starts_pods: bool = True
    operator_key: bytes = field(default=b"", repr=False)
    spending: BudgetSnapshot = field(default_factory=BudgetSnapshot)
    secret_created_at: datetime | None = None
    revisions: Mapping[str, KnownRevision] = field(default_factory=dict)
    lost_revisions: Mapping[str, str] = field(default_factory=dict)
    commands: RolloutCommands = field(default_factory=RolloutCommands)
    may_start: str = ""
    may_number: str = ""
    are_authors_checked: bool = False
    last_number: int = 0
    metrics: Mapping[str, MetricResult] = field(default_factory=dict)
    test_pods: Mapping[str, tuple[Manifest, ...]] = field(default_factory=dict)
    guard_resources: Resources | None = None
    pull_secrets: tuple[str, ...] = ()
    users: PodUsers = DEFAULT_USERS
    config_maps: LiveConfigMaps = field(default_factory=dict)
    claims_of_others: tuple[ClaimUse, ...] = ()
    stricter: StricterEnvironments = NONE_STRICTER
    operator_version: str = ""
    may_update: str = ""

    @property
    def applied(self) -> AppliedObjects:
        """The children as our last writes left them, from the status."""
        return read_applied(self.agent.status.managed_objects if self.agent.status else ())

    @property
    def kept_pod_members(self) -> frozenset[str]:
        """The members of pods that stay as they are, since what they depend on cannot be read today.

        What the policy allows no template any more is none of them, unless the policy itself sets it.
        """
        left_out = (path for one in self.unreadable for path in one.left_out)
        allowed = self.policy.spec.pod_template.allowed if self.policy is not None else frozenset[str]()
        return frozenset(
            member
            for path in left_out
            for member in kept_pod_members([path])
            if path.startswith("AgentPolicy.") or feature_of(member) in allowed
        )

    @property
    def keeps_own_resources(self) -> bool:
        """Whether Interlock's own containers keep requests and limits, since today's cannot be read."""
        return any(GUARD_RESOURCES in one.left_out for one in self.unreadable)


def sources_in(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the sources that an Agent names, as the API server gave it: a field may have any type."""
    spec = raw.get("spec")
    uses = spec.get("bindings") if isinstance(spec, Mapping) else None
    return tuple(str(use.get("source")) for use in uses if isinstance(use, Mapping)) if isinstance(uses, list) else ()


def named_claims_in(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the claims that an Agent names, as the API server gave it."""
    template = _member(raw.get("spec"), "template")
    volumes = (_member(one, "persistentVolumeClaim") for one in _items(_member(template, "volumes")))
    claims = (one for volume in volumes for one in _items(_member(volume, "claims")))
    return tuple(str(_member(one, "claimName")) for one in claims)


def held_claims_in(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the claims that an Agent's pods use by its status, also those that its spec names no longer."""
    return tuple(map(str, _items(_member(_member(raw.get("status"), "rollout"), "claims"))))


def served_source_in(raw: Mapping[str, Any]) -> str | None:
    """Return the source that an MCPBinding serves, as the API server gave it; None if it is no text."""
    source = _member(raw.get("spec"), "source")
    return source if isinstance(source, str) else None


def _member(found: Any, name: str) -> Any:
    return found.get(name) if isinstance(found, Mapping) else None


def _items(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def running_sources_in(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the sources of an Agent's revisions that run, which its spec may not name any more."""
    status = raw.get("status")
    rollout = status.get("rollout") if isinstance(status, Mapping) else None
    found = rollout.get("sources") if isinstance(rollout, Mapping) else None
    return tuple(map(str, found)) if isinstance(found, list) else ()


@dataclass(frozen=True)
class Unreadable:
    """An object that is invalid: written before its schema, or past it.

    Attributes:
        kind: Its kind.
        name: Its name.
        message: The first error.
        generation: Of its spec; 0 where too much is in its namespace, so that nothing of it is kept.
        conditions: Of its status.
        source: The source that an MCPBinding serves; None if it names none that can be read.
        rest: The object without the fields that cannot be read; None if revisions that run depend on one of them.
        left_out: The paths of these fields in the table of classes.
        denied: The rows of its map that cannot be read, so that what they are about is denied.
    """

    kind: str
    name: str
    message: str
    generation: int = field(default=0, compare=False)
    conditions: tuple[Condition, ...] = field(default=(), compare=False)
    source: str | None = None
    rest: Readable | None = field(default=None, compare=False)
    left_out: frozenset[str] = frozenset()
    denied: tuple[str, ...] = ()

    @classmethod
    def of(cls, kind: str, raw: Mapping[str, Any], message: str, conditions: tuple[Condition, ...]) -> "Unreadable":
        """Return an object, as the API server gave it, with the first error and the conditions of its status."""
        metadata = raw["metadata"]
        return cls(kind, metadata["name"], message, metadata.get("generation", 0), conditions, served_source_in(raw))

    def with_part(self, part: ReadablePart, **members: Any) -> "Unreadable":
        """Return the same with what can be read of it.

        Args:
            part: What can be read.
            members: Members of the object besides, such as its status.
        """
        rest = part.found.model_copy(update=members) if members else part.found
        return replace(self, rest=rest, left_out=part.left_out, denied=part.denied)

    @property
    def until_fixed(self) -> str:
        """What becomes of revisions that run meanwhile, as the end of a sentence; empty where they do not."""
        if self.rest is None:
            return ""
        more = len(self.denied) - _MOST_NAMED
        names = (printable(one, _MOST_SHOWN) for one in self.denied[:_MOST_NAMED])
        rows = ", ".join((*names, *((f"{more} more",) if more > 0 else ())))
        return f"revisions that run go on, and none begins{f'; calls under {rows} are denied' if rows else ''}"


_MOST_NAMED: Final = 8
"""Most rows that a message names."""
_MOST_SHOWN: Final = 80
"""Most characters of the name of a row."""


Kind = TypeVar("Kind", Agent, AgentPolicy, MCPBinding)


def readable(found: Readable | Unreadable | None, kind: type[Kind]) -> Kind | None:
    """Return an object, or as much of it as revisions that run need; None if there is none, or less can be read.

    Args:
        found: The object as it was parsed.
        kind: Its type.
    """
    rest = found.rest if isinstance(found, Unreadable) else found
    return rest if isinstance(rest, kind) else None
