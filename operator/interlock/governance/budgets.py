"""The budgets of an agent: which ledgers it spends from, within which limits, and at which prices."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.budget import BudgetLimits, limits_of
from interlock.api.policy import AgentPolicy
from interlock_contract.budget.leases import LedgerTerms
from interlock_contract.budget.ledger_names import ledger_name, total_ledger_name
from interlock_contract.budget.money import parse_money
from interlock_contract.budget.prices import ModelPrice
from interlock_contract.budget.rates import RateLimits
from interlock_contract.budget.tokens_per_byte import TokenTerms
from interlock_contract.budget.velocity import VelocityTerms


@dataclass(frozen=True)
class ModelPrices:
    """The prices of an agent's models.

    Attributes:
        models: The prices by the names that Agents write, such as openai/gpt-4o-mini.
        missing: Why the others have none, by their names.
        book: Digest of the price book and of the policy's own prices; empty without any.
    """

    models: Mapping[str, ModelPrice] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    book: str = ""


@dataclass(frozen=True, slots=True)
class LedgerIdentity:
    """Whose ledger a BudgetLedger is.

    Attributes:
        policy: The AgentPolicy under which it was created.
        agent: The Agent; empty for the total of all agents of the policy.
        environment: The environment; empty for the total.
    """

    policy: str
    agent: str = ""
    environment: str = ""

    @property
    def name(self) -> str:
        """The name of the BudgetLedger."""
        return ledger_name(self.agent, self.environment) if self.agent else total_ledger_name(self.policy)

    def to_spec(self) -> dict[str, str]:
        """Return the spec of the BudgetLedger."""
        spec = {"policy": self.policy, "agent": self.agent, "environment": self.environment}
        return {name: value for name, value in spec.items() if value}


@dataclass(frozen=True, slots=True)
class EnvironmentBudget:
    """What an agent spends from in one environment.

    Attributes:
        identity: Its own ledger.
        terms: The limits of its own ledger.
        total: The ledger of all agents of the policy, None where the policy has no total.
        total_terms: The limits of that ledger, None where the policy has no total.
        rates: Most calls and tokens in a minute, None without a limit.
    """

    identity: LedgerIdentity
    terms: LedgerTerms
    total: LedgerIdentity | None = None
    total_terms: LedgerTerms | None = None
    rates: RateLimits | None = None

    @property
    def ledgers(self) -> tuple[LedgerIdentity, ...]:
        """The ledgers that must exist before the first pod."""
        return (self.identity,) if self.total is None else (self.identity, self.total)


def costs_money(agent: Agent, bindings: Iterable[MCPBinding]) -> bool:
    """Return True if the agent calls models, or may call a tool that has a cost."""
    used = {use.source for use in agent.spec.bindings}
    return bool(agent.spec.models) or any(
        tool.cost_per_call is not None
        for binding in bindings
        if binding.spec.source in used
        for tool in binding.spec.tools
    )


def budget_of(agent: Agent, policy: AgentPolicy, environment: str, day_seconds: int | None = None) -> EnvironmentBudget:
    """Return what the agent spends from in an environment of its policy.

    Args:
        agent: The Agent. Its own budgets count where they are lower than those of the policy.
        policy: Its policy.
        environment: The environment of a stage, which the policy has.
        day_seconds: Length of a day, None for calendar days.
    """
    identity = LedgerIdentity(policy.metadata.name, agent.metadata.name, environment)
    found = policy.spec.environment(environment)
    # Governance refuses an environment that the policy does not have.
    limits = limits_of(found, agent.spec.budget) if found is not None else BudgetLimits("0", None)
    total = policy.spec.budget.total
    return EnvironmentBudget(
        identity,
        _terms(policy, limits.daily, limits.monthly, day_seconds),
        None if total is None else LedgerIdentity(policy.metadata.name),
        total_terms_of(policy, day_seconds),
        _rates(policy),
    )


def total_terms_of(policy: AgentPolicy, day_seconds: int | None = None) -> LedgerTerms | None:
    """Return the limits of all agents of a policy together, None where it has none."""
    total = policy.spec.budget.total
    if total is None:
        return None
    return replace(_terms(policy, total.daily_budget, total.monthly_budget, day_seconds), is_total=True)


def _terms(policy: AgentPolicy, day: str | None, month: str | None, day_seconds: int | None) -> LedgerTerms:
    budget = policy.spec.budget
    return LedgerTerms(
        day=None if day is None else parse_money(day),
        month=None if month is None else parse_money(month),
        time_zone=budget.time_zone,
        alert_percents=budget.alert_percents,
        day_seconds=day_seconds,
    )


def velocity_of(policy: AgentPolicy) -> VelocityTerms:
    """Return when the speed of a spend raises an alert."""
    velocity = policy.spec.budget.velocity
    return VelocityTerms(velocity.factor, parse_money(velocity.minimum))


def token_terms_of(policy: AgentPolicy) -> TokenTerms:
    """Return when the tokens per byte of a model raise an alert."""
    limits = policy.spec.budget.tokens_per_byte
    return TokenTerms(limits.change_percent, limits.minimum_calls)


def _rates(policy: AgentPolicy) -> RateLimits | None:
    rules = policy.spec.rate_limits
    return None if rules is None else RateLimits(rules.calls_per_minute, rules.tokens_per_minute)


def addressee_of(agent: Agent) -> str:
    """Return the owner of an Agent as its ledgers name them: alerts are addressed to that person."""
    owner = agent.spec.owner
    text = "" if owner is None else f"{owner.name} <{owner.email}>"
    return "".join(one for one in text if one.isprintable())


def price_violation(agent: Agent, policy: AgentPolicy, prices: ModelPrices) -> str | None:
    """Return which models of the agent have no price, and what to do, or None.

    Args:
        agent: The Agent.
        policy: Its policy.
        prices: The prices of its models, as far as they are known.
    """
    missing = [use.name for use in agent.spec.models if use.name not in prices.models]
    if not missing:
        return None
    name = policy.metadata.name
    why = "; ".join(prices.missing[model] for model in missing if model in prices.missing)
    return (
        f"spec.models: {', '.join(missing)} has no price, so no budget could hold{f' ({why})' if why else ''}; add it "
        f"to spec.models.prices of AgentPolicy {name}, where 0 is a price, or remove the model from the Agent"
    )
