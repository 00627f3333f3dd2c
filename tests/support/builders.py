"""Fluent builders of what users apply: valid as they start, and changed by one word each where a test needs it.

Each step returns a new builder, so that a base can be shared: `AGENT.without_owner()` leaves `AGENT` as it was.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from interlock.action.audit_mode import NONE_STRICTER, StricterEnvironments
from interlock.api.agent import Agent, Stage
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.api.status import AgentStatus
from interlock.api.verification import MCPBindingStatus
from interlock.deployment.config_maps import LiveConfigMap
from interlock.deployment.names import ChildKey, Manifest, placement_digest
from interlock.deployment.node_ranges import NodeRanges
from interlock.deployment.observed.pod_reports import AgentPods
from interlock.deployment.placement import ApiEndpoint, ApiServerAddress, BoundSource, MetadataServer, Placement
from interlock.deployment.plan import LiveChild
from interlock.governance.budgets import ModelPrices, budget_of, costs_money
from interlock.orchestration.claim_checks import ClaimUse
from interlock.orchestration.gates import MetricResult
from interlock.orchestration.rollout_state import RolloutCommands
from interlock.reconcile.snapshot import BudgetSnapshot, KnownRevision, Snapshot, Unreadable
from interlock_contract.agent_key import derive_agent_key
from interlock_contract.budget.ledger import Ledger
from interlock_contract.clock import write_time
from interlock_contract.names import ACCEPT_DRIFT, API_VERSION, KILL_SWITCH, KILL_SWITCH_BY, NEEDS_REVIEW
from tests.support.keys import OPERATOR_KEY
from tests.support.prices import PRICE
from tests.support.verified import verified_status

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
GUARD_IMAGE = "registry.invalid/interlock/guard:test"
NAMESPACE = "agents"
API_SERVER = ApiServerAddress((ApiEndpoint("10.96.0.1", 443), ApiEndpoint("172.18.0.2", 6443)))


def seconds(count: float) -> timedelta:
    """Return a span of time."""
    return timedelta(seconds=count)


def hours(count: float) -> timedelta:
    """Return a span of time."""
    return timedelta(hours=count)


def a_stage(
    name: str, environment: str = "staging", *, scope: dict[str, list[str]] | None = None, lasting: str | None = None
) -> dict[str, Any]:
    """Return a stage as a user writes it; `scope` is values by dimension."""
    stage: dict[str, Any] = {"name": name, "environment": environment}
    if scope is not None:
        stage["scope"] = [{"dimension": dimension, "values": values} for dimension, values in scope.items()]
    if lasting is not None:
        stage["minDuration"] = lasting
    return stage


def stages(*written: dict[str, Any]) -> tuple[Stage, ...]:
    """Return stages as the rollout's functions take them."""
    return tuple(Stage.model_validate(one) for one in written)


@dataclass(frozen=True)
class _Builder:
    raw: dict[str, Any]

    def _with(self, section: str, **members: Any) -> Self:
        """Return a builder in which members of a section are other; None takes a member away."""
        raw = copy.deepcopy(self.raw)
        for name, value in members.items():
            if value is None:
                raw[section].pop(name, None)
            else:
                raw[section][name] = value
        return replace(self, raw=raw)

    def named(self, name: str) -> Self:
        """Give it another name, and a uid to match."""
        return self._with("metadata", name=name, uid=f"uid-of-{name}")

    def labelled(self, **labels: str) -> Self:
        """Give it labels."""
        return self._with("metadata", labels=labels)

    def in_namespace(self, namespace: str) -> Self:
        """Put it elsewhere."""
        return self._with("metadata", namespace=namespace)

    def at_version(self, version: int) -> Self:
        """Give it a resource version."""
        return self._with("metadata", resourceVersion=str(version))

    def being_deleted(self, *finalizers: str) -> Self:
        """Let it have been deleted, and be kept by finalizers."""
        return self._with("metadata", deletionTimestamp="2026-03-02T09:00:00Z", finalizers=list(finalizers))

    def to_kubernetes(self) -> dict[str, Any]:
        """Return it as the API server would give it."""
        return copy.deepcopy(self.raw)


class AgentBuilder(_Builder):
    """Builds an Agent."""

    def build(self) -> Agent:
        """Return the Agent."""
        return Agent.model_validate(self.raw)

    def owned_by(self, name: str, email: str) -> Self:
        """Give it another owner."""
        return self._with("spec", owner={"name": name, "email": email})

    def without_owner(self) -> Self:
        """Take its owner away."""
        return self._with("spec", owner=None)

    def for_purpose(self, purpose: str | None) -> Self:
        """Give it another purpose, or none."""
        return self._with("spec", purpose=purpose)

    def under(self, policy: str) -> Self:
        """Let it name a policy."""
        return self._with("spec", policyRef={"name": policy})

    def without_policy_ref(self) -> Self:
        """Let it name no policy."""
        return self._with("spec", policyRef=None)

    def in_environment(self, environment: str | None) -> Self:
        """Give it one stage without scope, or neither environment nor rollout."""
        return self._with("spec", environment=environment, rollout=None)

    def created(self, at: datetime) -> Self:
        """Let the API server have created it then."""
        return self._with("metadata", creationTimestamp=write_time(at))

    def with_stages(self, *written: dict[str, Any], **members: Any) -> Self:
        """Give it a rollout; `members` are others of it, by their names in YAML."""
        return self._with("spec", environment=None, rollout={"stages": list(written), **members})

    def in_environment_and_with_stages(self, environment: str, *written: dict[str, Any]) -> Self:
        """Give it both, which is refused."""
        return self._with("spec", environment=environment, rollout={"stages": list(written)})

    def using(self, *sources: str | dict[str, Any]) -> Self:
        """Let it use exactly these sources; a dict narrows."""
        uses = [{"source": source} if isinstance(source, str) else source for source in sources]
        return self._with("spec", bindings=uses)

    def taking_tasks(self, port: int = 8080, **more: Any) -> Self:
        """Let it take tasks on a port."""
        return self._with("spec", tasks={"port": port, **more})

    def calling(self, *models: str, key: str | None = None) -> Self:
        """Let it call exactly these models, with the key in the Secret `key`, or in one named after each provider."""
        keys = ({"secretKeyRef": {"name": key or model.partition("/")[0], "key": "key"}} for model in models)
        return self._with(
            "spec", models=[{"name": name, "apiKeyFrom": key} for name, key in zip(models, keys, strict=True)]
        )

    def budgeting(self, **daily: str) -> Self:
        """Lower its daily budgets, dollars by environment."""
        budgets = [{"environment": name, "dailyBudget": amount} for name, amount in daily.items()]
        return self._with("spec", budget=budgets)

    def with_files(self, files: dict[str, str]) -> Self:
        """Give it files, content by path."""
        written = [{"path": path, "content": content} for path, content in files.items()]
        return self._with("spec", files=written)

    def with_template(self, **members: Any) -> Self:
        """Change members of its container."""
        return self._with("spec", template={**self.raw["spec"]["template"], **members})

    def with_claims(self, **volumes: dict[str, str]) -> Self:
        """Have these volumes, each with its claims by environment."""
        return self.with_template(
            volumes=[
                {
                    "name": name,
                    "persistentVolumeClaim": {
                        "claims": [{"environment": where, "claimName": claim} for where, claim in claims.items()]
                    },
                }
                for name, claims in volumes.items()
            ]
        )

    def with_replicas(self, replicas: int) -> Self:
        """Let it want so many pods."""
        return self._with("spec", replicas=replicas)

    def killed(self, value: str = "a test", by: str | None = None) -> Self:
        """Set its kill switch."""
        stamp = {} if by is None else {KILL_SWITCH_BY: by}
        return self._with("metadata", annotations={KILL_SWITCH: value, **stamp})

    def without_switch(self) -> Self:
        """Remove the kill switch."""
        return self._with("metadata", annotations=None)

    def with_status(self, status: AgentStatus | None) -> Self:
        """Give it a status."""
        raw = copy.deepcopy(self.raw)
        raw.pop("status", None)
        if status is not None:
            raw["status"] = status.to_kubernetes()
        return replace(self, raw=raw)


class PolicyBuilder(_Builder):
    """Builds an AgentPolicy."""

    def with_resources(self, **defaults: Any) -> Self:
        """Give it defaults for containers."""
        return self._with("spec", resources=defaults)

    def with_pod_template(self, **rules: Any) -> Self:
        """Say what templates may use and get by default, by the names in YAML."""
        return self._with("spec", podTemplate=rules)

    def with_guard_resources(self, **resources: Any) -> Self:
        """State requests and limits of Interlock's own containers."""
        return self.with_pod_template(guardResources=resources)

    def build(self) -> AgentPolicy:
        """Return the AgentPolicy."""
        return AgentPolicy.model_validate(self.raw)

    def giving(self, agent: str, source: str, **permissions: list[str]) -> Self:
        """Add a row to its matrix."""
        row = {"agents": [agent], "source": source, **permissions}
        return self._with("spec", dataAccess=[*self.raw["spec"].get("dataAccess", []), row])

    def giving_labelled(self, labels: dict[str, str], source: str, **permissions: list[str]) -> Self:
        """Add a row for agents with these labels."""
        row = {"agentSelector": {"matchLabels": labels}, "source": source, **permissions}
        return self._with("spec", dataAccess=[*self.raw["spec"].get("dataAccess", []), row])

    def giving_nothing(self) -> Self:
        """Empty its matrix."""
        return self._with("spec", dataAccess=None)

    def budgeting(self, **budget: Any) -> Self:
        """Say what holds for all budgets, by the names in YAML."""
        return self._with("spec", budget=budget)

    def rating(self, **limits: int) -> Self:
        """Limit calls and tokens of each minute, by the names in YAML."""
        return self._with("spec", rateLimits=limits)

    def breaking_loops(self, **loops: Any) -> Self:
        """Say when identical calls are a loop, by the names in YAML."""
        return self._with("spec", loops=loops)

    def declaring(self, *environments: dict[str, Any]) -> Self:
        """Have exactly these environments besides the defaults."""
        return self._with("spec", environments=list(environments))

    def opening(self, *rows: dict[str, Any]) -> Self:
        """Add rows of egress, by the names in YAML. What is not named is a database that the agent `triage` reaches."""
        usual = {"agents": ["triage"], "to": [{"cidr": "10.20.0.0/24"}], "ports": [{"port": 5432}]}
        known = self.raw["spec"].get("egress", [])
        added = [
            {"name": f"row-{len(known) + index}", **{k: v for k, v in {**usual, **row}.items() if v is not None}}
            for index, row in enumerate(rows)
        ]
        return self._with("spec", egress=[*known, *added])

    def identifying(self, *rows: dict[str, Any], allow: Sequence[str] = ("CloudIdentity",)) -> Self:
        """Give identities at a cloud, by the names in YAML, by default one of AWS for the agent `triage`."""
        usual = {"agents": ["triage"], "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/orders"}}
        made = [
            {"name": f"identity-{index}", **{k: v for k, v in {**usual, **row}.items() if v is not None}}
            for index, row in enumerate(rows)
        ]
        rules = {**self.raw["spec"].get("podTemplate", {}), "allow": list(allow)}
        return self._with("spec", cloudIdentity=made, podTemplate=rules)

    def isolating(self, **isolation: str) -> Self:
        """Set the isolation of agent and guard by environment; other environments keep their default."""
        return self.with_environments(*({"name": name, "isolation": word} for name, word in isolation.items()))

    def with_environments(self, *environments: dict[str, str]) -> Self:
        """Set the list of environments; development, staging and production exist in any case."""
        return self._with("spec", environments=list(environments))

    def allowing_models(
        self, *allow: str, urls: list[dict[str, Any]] | None = None, secrets: Sequence[str] | None = None, **more: Any
    ) -> Self:
        """Allow exactly these models; `urls` are providers of its own, and Secrets are named after all providers."""
        providers = ("openai", "anthropic", *(upstream["name"] for upstream in urls or []))
        named = providers if secrets is None else secrets
        return self._with("spec", models={"allow": list(allow), "urls": urls or [], "secretNames": list(named), **more})

    def through_proxy(self, url: str = "http://proxy.example.com:3128", **members: Any) -> Self:
        """Have public servers and providers reached through an egress proxy."""
        return self._with("spec", egressProxy={"url": url, **members})

    def notifying(self, *names: str, **webhook: Any) -> Self:
        """Add receivers of alerts, each with a key of Secret `webhooks` as its URL."""
        targets = [
            {"name": name, "webhook": {"urlFrom": {"secretKeyRef": {"name": "webhooks", "key": name}}, **webhook}}
            for name in names
        ]
        return self._with("spec", notify=[*self.raw["spec"].get("notify", []), *targets])

    def recording(self, arguments: str, *redact: str) -> Self:
        """Say what records hold of arguments."""
        return self._with("spec", audit={"arguments": arguments, "redact": list(redact)})

    def requiring(self, **minimums: Any) -> Self:
        """Set its minimums, by their names in YAML; what is not named is at its default."""
        return self._with("spec", rollout=minimums)


@dataclass(frozen=True)
class BindingBuilder(_Builder):
    """Builds an MCPBinding whose server was verified, unless a test changes that."""

    is_verified: bool = True
    under_globs: tuple[str, ...] = ()

    def build(self) -> MCPBinding:
        """Return the MCPBinding."""
        return MCPBinding.model_validate(self.to_kubernetes())

    def to_kubernetes(self) -> dict[str, Any]:
        """Return it as the API server would give it."""
        raw = copy.deepcopy(self.raw)
        return {**raw, "status": verified_status(raw, self.under_globs)} if self.is_verified else raw

    def unverified(self) -> Self:
        """Return the binding without a verification."""
        return replace(self, is_verified=False)

    def verified_for(self, *tools: str) -> Self:
        """Let these tools have been seen under its globs."""
        return replace(self, under_globs=tools)

    def verified_by(self, **verify: Any) -> Self:
        """Say how it is verified."""
        return self._with("spec", verify=verify)

    def accepting(self, digest: str) -> Self:
        """Accept a drift."""
        return self._with("metadata", annotations={ACCEPT_DRIFT: digest})

    def with_status(self, status: MCPBindingStatus) -> Self:
        """Give it a status."""
        raw = copy.deepcopy(self.raw)
        raw["status"] = status.to_kubernetes()
        return replace(self, raw=raw, is_verified=False)

    def serving(self, source: str, *environments: str) -> Self:
        """Let it serve a source in these environments."""
        return self._with("spec", source=source, environments=list(environments))

    def with_tools(self, *tools: dict[str, Any]) -> Self:
        """Map exactly these tools."""
        return self._with("spec", tools=list(tools))

    def with_resources(self, *resources: dict[str, Any]) -> Self:
        """Map exactly these resources."""
        return self._with("spec", resources=list(resources))

    def with_prompts(self, *prompts: dict[str, Any]) -> Self:
        """Map exactly these prompts."""
        return self._with("spec", prompts=list(prompts))

    def with_instructions(self, instructions: str) -> Self:
        """Withhold or pin the server's instructions."""
        return self._with("spec", instructions=instructions)

    def showing_descriptions(self) -> Self:
        """Show the texts that the server writes about its resources."""
        return self._with("spec", resourceDescriptions="Unreviewed")

    def letting_ask(self, *requests: str) -> Self:
        """Let the server ask the agent for this."""
        return self._with("spec", serverRequests=list(requests))

    def limited_to(self, **limits: int) -> Self:
        """Limit what passes, by the limits' names in YAML."""
        return self._with("spec", limits=limits)

    def permitting(self, **permissions: list[str]) -> Self:
        """Permit exactly this."""
        return self._with("spec", permissions=permissions)

    def with_server(self, **members: Any) -> Self:
        """Change members of its server."""
        stdio = self.raw["spec"]["server"]["stdio"]
        return self._with("spec", server={"stdio": {**stdio, **members}})

    def waiting_for_review(self, value: str = "guesses") -> Self:
        """Return the binding with guesses that no user has reviewed."""
        return self._with("metadata", annotations={NEEDS_REVIEW: value})

    def over_http(self, url: str = "https://mail.example.com/mcp", **members: Any) -> Self:
        """Let its server be one that runs elsewhere."""
        return self._with("spec", server={"http": {"url": url, **members}})


def _metadata(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-of-{name}",
        "generation": 1,
        "resourceVersion": "1",
    }


def an_agent(name: str = "triage") -> AgentBuilder:
    """Return an agent that is whole: in development, using the source crm."""
    return AgentBuilder(
        {
            "apiVersion": API_VERSION,
            "kind": "Agent",
            "metadata": _metadata(name),
            "spec": {
                "owner": {"name": "Ada Example", "email": "ada@example.com"},
                "purpose": "Sort incoming support tickets",
                "policyRef": {"name": "support"},
                "environment": "development",
                "bindings": [{"source": "crm"}],
                "template": {"image": "example/agent:1"},
            },
        }
    )


def a_policy(name: str = "support") -> PolicyBuilder:
    """Return a policy that gives the agent triage its source and requires no minimum times.

    Agent and guard share a pod in every environment, so that there is one of everything; `isolating()` is the default.
    """
    row = {"agents": ["triage"], "source": "crm", "read": ["contacts", "opportunities"], "write": ["tasks"]}
    minimums = {"minStaging": "0s", "minLimitedScope": "0s", "requireLimitedScope": False}
    shared = [{"name": name, "isolation": "Shared"} for name in ("development", "staging", "production")]
    return PolicyBuilder(
        {
            "apiVersion": API_VERSION,
            "kind": "AgentPolicy",
            "metadata": _metadata(name),
            "spec": {"dataAccess": [row], "rollout": minimums, "environments": shared},
        }
    )


def a_binding(name: str = "crm") -> BindingBuilder:
    """Return a binding that serves crm in every environment."""
    return BindingBuilder(
        {
            "apiVersion": API_VERSION,
            "kind": "MCPBinding",
            "metadata": _metadata(name),
            "spec": {
                "source": "crm",
                "environments": ["development", "staging", "production"],
                "server": {"stdio": {"image": "example/crm:1", "command": ["crm-server"]}},
                "tools": [
                    {"name": "get_contact", "operation": "read", "resource": "contacts"},
                    {"name": "create_task", "operation": "write", "resource": "tasks"},
                ],
                "permissions": {"read": ["contacts", "opportunities"], "write": ["tasks"]},
            },
        }
    )


@dataclass(frozen=True)
class SnapshotBuilder:
    """Builds a Snapshot that is complete from the start."""

    agent: AgentBuilder = field(default_factory=an_agent)
    policy: PolicyBuilder | None = field(default_factory=a_policy)
    bindings: tuple[BindingBuilder, ...] = field(default_factory=lambda: (a_binding(),))
    children: dict[ChildKey, LiveChild] = field(default_factory=dict)
    unreadable: tuple[Unreadable, ...] = ()
    kill_seen: str | None = None
    pods: AgentPods = field(default_factory=AgentPods)
    ledgers: dict[str, Ledger | str] = field(default_factory=dict)
    unpriced: tuple[str, ...] = ()
    nodes: NodeRanges | None = field(default_factory=NodeRanges)
    metadata_server: MetadataServer = "None"
    secret_created_at: datetime | None = None
    revisions: dict[str, KnownRevision] = field(default_factory=dict)
    lost_revisions: dict[str, str] = field(default_factory=dict)
    commands: RolloutCommands = field(default_factory=RolloutCommands)
    may_start: str = ""
    may_number: str = ""
    metrics: dict[str, MetricResult] = field(default_factory=dict)
    test_pods: dict[str, tuple[Manifest, ...]] = field(default_factory=dict)
    config_maps: dict[str, LiveConfigMap | None] = field(default_factory=dict)
    claims_of_others: tuple[ClaimUse, ...] = ()
    stricter: StricterEnvironments = NONE_STRICTER
    guard_image: str = GUARD_IMAGE
    operator_version: str = ""
    may_update: str = ""

    def of(self, agent: AgentBuilder) -> "SnapshotBuilder":
        """Let it be about another agent."""
        return replace(self, agent=agent)

    def with_policy(self, policy: PolicyBuilder | None) -> "SnapshotBuilder":
        """Let another policy, or none, be found."""
        return replace(self, policy=policy)

    def with_bindings(self, *bindings: BindingBuilder) -> "SnapshotBuilder":
        """Let exactly these bindings be found."""
        return replace(self, bindings=bindings)

    def with_unreadable(self, kind: str, name: str, message: str = "spec: is no such thing") -> "SnapshotBuilder":
        """Let an object be there that cannot be read."""
        return replace(self, unreadable=(*self.unreadable, Unreadable(kind, name, message)))

    def with_pods(self, pods: AgentPods) -> "SnapshotBuilder":
        """Let its pods report this."""
        return replace(self, pods=pods)

    def with_ledger(self, name: str, ledger: Ledger | str) -> "SnapshotBuilder":
        """Let a ledger be there, or one that cannot be read."""
        return replace(self, ledgers={**self.ledgers, name: ledger})

    def without_price_of(self, *models: str) -> "SnapshotBuilder":
        """Let these models have no price; all others have one."""
        return replace(self, unpriced=models)

    def with_secret_created_at(self, time: datetime) -> "SnapshotBuilder":
        """Let the operator have created its Secret then."""
        return replace(self, secret_created_at=time)

    def seen_killed(self, value: str) -> "SnapshotBuilder":
        """Let the second watch have seen the switch, whatever the Agent says."""
        return replace(self, kill_seen=value)

    def build(self) -> Snapshot:
        """Return the Snapshot."""
        agent = self.agent.build()
        return Snapshot(
            agent=agent,
            policy=self.policy.build() if self.policy else None,
            bindings=tuple(binding.build() for binding in self.bindings),
            children=dict(self.children),
            guard_image=self.guard_image,
            unreadable=self.unreadable,
            kill_seen=self.kill_seen,
            api_server=API_SERVER,
            nodes=self.nodes,
            metadata_server=self.metadata_server,
            pods=self.pods,
            operator_key=OPERATOR_KEY,
            spending=BudgetSnapshot(dict(self.ledgers), lambda agent, _: prices_of(agent, *self.unpriced)),
            secret_created_at=self.secret_created_at,
            revisions=dict(self.revisions),
            lost_revisions=dict(self.lost_revisions),
            commands=self.commands,
            may_start=self.may_start,
            may_number=self.may_number,
            metrics=dict(self.metrics),
            test_pods=dict(self.test_pods),
            config_maps=dict(self.config_maps),
            claims_of_others=self.claims_of_others,
            stricter=self.stricter,
            operator_version=self.operator_version,
            may_update=self.may_update,
        )


def prices_of(agent: Agent, *unpriced: str) -> ModelPrices:
    """Return a price of each of the agent's models but some."""
    models = [use.name for use in agent.spec.models]
    priced = {name: PRICE for name in models if name not in unpriced}
    missing = {name: f"the price book has no model {name}" for name in models if name in unpriced}
    return ModelPrices(priced, missing, "b" * 64 if models else "")


def a_snapshot() -> SnapshotBuilder:
    """Return a snapshot in which a new agent may run."""
    return SnapshotBuilder()


def a_placement(
    agent: AgentBuilder | None = None,
    *,
    policy: PolicyBuilder | None = None,
    bindings: tuple[BindingBuilder, ...] | None = None,
    stage: int = 0,
) -> Placement:
    """Return the placement of one of the agent's stages, its sources served by the bindings in their order."""
    built, governing = (agent or an_agent()).build(), (policy or a_policy()).build()
    served = tuple(binding.build() for binding in (bindings if bindings is not None else (a_binding(),)))
    revision = _revision_of(built)
    digest = placement_digest(built.metadata, built.spec.stages[stage].name, revision)
    environment = built.spec.stages[stage].environment
    budget = budget_of(built, governing, environment) if costs_money(built, served) else None
    return Placement(
        agent=built,
        policy=governing,
        stage=built.spec.stages[stage],
        revision=revision,
        sources=tuple(BoundSource(binding.spec.source, binding) for binding in served),
        replicas=built.spec.replicas,
        guard_image=GUARD_IMAGE,
        guard_addresses=("10.96.0.41",),
        api_server=API_SERVER,
        nodes=NodeRanges(),
        budget=budget,
        prices=prices_of(built),
        agent_key=derive_agent_key(OPERATOR_KEY, digest),
    )


def _revision_of(agent: Agent) -> str:
    """Return a digest of what of the Agent's own spec is in a revision."""
    reviewed = {"policy_ref", "template", "files", "bindings", "models", "tasks"}
    text = agent.spec.model_dump_json(include=reviewed, exclude={"tasks": {"max_concurrent_tasks"}})
    return hashlib.sha256(text.encode()).hexdigest()


def a_separate_placement(agent: AgentBuilder | None = None, **parts: Any) -> Placement:
    """Return a placement in which agent and guard have a pod each, by default in development."""
    policy = parts.pop("policy", None) or a_policy()
    everywhere = dict.fromkeys(("development", "staging", "production"), "Separate")
    return a_placement(agent, policy=policy.isolating(**everywhere), **parts)
