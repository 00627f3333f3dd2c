"""The kinds as kubectl knows them: names, printer columns, selectable fields."""

from dataclasses import dataclass

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.ledger import BudgetLedger
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import ApiModel
from interlock_contract.names import AGENT_POLICIES, AGENTS, BUDGET_LEDGERS, MCP_BINDINGS


@dataclass(frozen=True)
class Column:
    """A printer column; a wide one is shown with `-o wide` only."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True)
class Scale:
    """The scale subresource of a kind, by which `kubectl scale` and autoscalers read and write the number of pods."""

    spec_replicas: str
    status_replicas: str
    selector: str


@dataclass(frozen=True)
class CrdKind:
    """One kind: its model and how kubectl calls, shows and scales it."""

    model: type[ApiModel]
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    selectable: tuple[str, ...]
    scale: Scale | None = None

    @property
    def name(self) -> str:
        """The kind as written in manifests."""
        return self.model.__name__

    @property
    def has_status(self) -> bool:
        """Return True if the kind has a status subresource."""
        return "status" in self.model.model_fields


def _condition(condition: str, field: str) -> str:
    return f".status.conditions[?(@.type=='{condition}')].{field}"


_AGE = Column("Age", ".metadata.creationTimestamp", "Time since creation", type="date")

AGENT = CrdKind(
    model=Agent,
    plural=AGENTS,
    short_name="agt",
    columns=(
        Column("Stage", ".status.stage.name", "The stage that holds now"),
        Column("Scope", ".status.stage.scopeSummary", "Which part of the work it may touch"),
        Column("Ready", ".status.readySummary", "Ready pods of those that are wanted"),
        Column("Status", _condition("Ready", "status"), "Whether it serves its stage"),
        Column("Reason", _condition("Ready", "reason"), "Why it is, or is not, ready"),
        Column("Killed", _condition("Killed", "status"), "Whether the kill switch is engaged"),
        Column("Spent", ".status.budget.summary", "What it spent today of its daily budget"),
        _AGE,
        Column("Owner", ".spec.owner.email", "The person who answers for it", wide=True),
        Column("Environment", ".status.stage.environment", "Environment of the stage", wide=True),
        Column("Policy", ".spec.policyRef.name", "The AgentPolicy that it lives under", wide=True),
        Column("Revision", ".status.stage.revisionName", "The revision that is in the stage", wide=True),
        Column("Next", ".status.stage.nextName", "The next stage", wide=True),
        Column("Next-At", ".status.stage.nextAt", "When the next stage starts if this one stays ready", wide=True),
        Column("Serving", _condition("Serving", "status"), "Whether the last stage's environment is served", wide=True),
        Column("Enforced", _condition("PolicyEnforced", "status"), "Whether every guard passed its test", wide=True),
        Column("Egress", _condition("EgressEnforced", "status"), "Whether pods reach only their guard", wide=True),
        Column("Exhausted", _condition("BudgetExhausted", "status"), "Whether its budget is exhausted", wide=True),
        Column("Forecast", ".status.budget.forecast", "US dollars of today if its spend goes on", wide=True),
        # The kill controller reads these at its start, by their names.
        Column("Kill-Requested", ".status.kill.requestedAt", "When it was killed last", wide=True),
        Column("Kill-Released", ".status.kill.releasedAt", "When that kill was released", wide=True),
        Column("Kill-Reason", ".status.kill.reason", "The value of the switch", wide=True),
        Column("Kill-By", ".status.kill.by", "Who set the switch", wide=True),
    ),
    selectable=(".spec.environment", ".spec.policyRef.name"),
    scale=Scale(".spec.replicas", ".status.replicas", ".status.selector"),
)

AGENT_POLICY = CrdKind(
    model=AgentPolicy,
    plural=AGENT_POLICIES,
    short_name="agtpol",
    columns=(
        Column("Agents", ".status.agents", "Number of Agents under it", type="integer"),
        Column("Violations", ".status.violations", "Number of these that it refuses", type="integer"),
        Column("Min-Staging", ".spec.rollout.minStaging", "Least time in staging before production"),
        Column("Min-Limited", ".spec.rollout.minLimitedScope", "Least time in a limited scope of production"),
        Column(
            "Limited-Scope",
            ".spec.rollout.requireLimitedScope",
            "Whether production must start in a limited scope",
            type="boolean",
        ),
        _AGE,
    ),
    selectable=(".spec.rollout.requireLimitedScope",),
)

MCP_BINDING = CrdKind(
    model=MCPBinding,
    plural=MCP_BINDINGS,
    short_name="mcpb",
    columns=(
        Column("Source", ".spec.source", "The name that access matrix and agents use"),
        Column("Environments", ".spec.environments", "Where it may be used"),
        Column("Ready", _condition("Ready", "status"), "Whether it is verified and reviewed"),
        Column("Verified", _condition("Verified", "status"), "Whether the last verification of the server succeeded"),
        Column("Drifted", _condition("Drifted", "status"), "Whether the server differs from what was verified"),
        Column("Agents", ".status.agents", "Number of Agents that use it", type="integer"),
        _AGE,
        Column("Mapped", ".status.toolsMapped", "Number of mapped tools", type="integer", wide=True),
        Column("Unmapped", ".status.toolsUnmapped", "Number of tools that are not mapped", type="integer", wide=True),
        Column("Changed", ".status.toolsDrifted", "Number of tools that have drifted", type="integer", wide=True),
        Column("Reason", _condition("Verified", "reason"), "Why it is, or is not, verified", wide=True),
        Column("Image", ".spec.server.stdio.image", "Image of the MCP server, if it is run here", wide=True),
        Column("URL", ".spec.server.http.url", "URL of the MCP server, if it runs elsewhere", wide=True),
    ),
    selectable=(".spec.source",),
)

BUDGET_LEDGER = CrdKind(
    model=BudgetLedger,
    plural=BUDGET_LEDGERS,
    short_name="bledger",
    columns=(
        Column("Policy", ".spec.policy", "The AgentPolicy with the limits"),
        Column("Agent", ".spec.agent", "The Agent; empty for all agents of the policy"),
        Column("Environment", ".spec.environment", "The environment; empty for all of them"),
        _AGE,
        Column("Day-Ends", ".status.day.end", "When the present day ends", wide=True),
        Column("Day-Nanos", ".status.day.spent", "Spend of the day in nano-dollars", type="integer", wide=True),
        Column("Month-Nanos", ".status.month.spent", "Spend of the month in nano-dollars", type="integer", wide=True),
    ),
    selectable=(".spec.policy", ".spec.agent"),
)

KINDS = (AGENT, AGENT_POLICY, MCP_BINDING, BUDGET_LEDGER)
