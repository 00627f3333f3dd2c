"""Environments, budgets, prices and overrides as Python reads them."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.api.budget import AgentBudget, BudgetLimits, DeclaredPrice, PolicyBudget, limits_of, parse_override
from interlock.api.environments import EnvironmentRules
from interlock.api.ledger import BudgetLedgerSpec
from interlock.api.policy import AgentPolicySpec
from interlock.api.refusals import budget_refusals, unknown_environment_refusals
from interlock.api.shared_types import EnvironmentClass
from interlock_contract.budget.money import format_money, parse_money
from tests.requirements import requirement
from tests.support.builders import an_agent

DEFAULTS = AgentPolicySpec()


def spec(*environments: dict[str, str], **budget: Any) -> AgentPolicySpec:
    return AgentPolicySpec.model_validate({"environments": list(environments), "budget": budget})


def resolved(policy: AgentPolicySpec, name: str) -> tuple[str, str, str, str | None]:
    found = policy.environment(name)
    assert found is not None
    return found.environment_class, found.isolation, found.daily_budget, found.monthly_budget


@requirement("budget.environments")
def test_three_environments_always_exist() -> None:
    for policy in (DEFAULTS, spec({"name": "qa", "class": "staging"})):
        assert resolved(policy, "development") == ("development", "Shared", "50", None)
        assert resolved(policy, "staging") == ("staging", "Separate", "200", None)
        assert resolved(policy, "production") == ("production", "Separate", "1000", None)


@requirement("budget.environments")
def test_an_entry_replaces_what_it_sets_and_has_the_defaults_of_its_class() -> None:
    policy = spec(
        {"name": "development", "dailyBudget": "0", "monthlyBudget": "5"},
        {"name": "lab", "class": "development", "isolation": "Separate"},
        {"name": "eu", "class": "production"},
    )
    assert resolved(policy, "development") == ("development", "Shared", "0", "5")
    assert resolved(policy, "lab") == ("development", "Separate", "50", None)
    assert resolved(policy, "eu") == ("production", "Separate", "1000", None)


@requirement("budget.environments")
def test_an_unknown_environment_is_held_to_the_strictest_rules() -> None:
    assert DEFAULTS.environment("moon") is None
    assert DEFAULTS.class_of("moon") is EnvironmentClass.PRODUCTION
    assert DEFAULTS.isolation_in("moon") == "Separate"


@requirement("budget.stored-policies")
def test_the_map_of_an_earlier_version_is_read() -> None:
    stored = {"development": {"isolation": "Separate"}, "staging": {"isolation": "Shared"}, "production": {}}
    read = AgentPolicySpec.model_validate({"environments": stored})
    assert [read.isolation_in(name) for name in stored] == ["Separate", "Shared", "Separate"]
    assert resolved(read, "staging") == ("staging", "Shared", "200", None)
    with pytest.raises(ValidationError):
        AgentPolicySpec.model_validate({"environments": {"moon": {"isolation": "Shared"}}})
    with pytest.raises(ValidationError):
        AgentPolicySpec.model_validate({"environments": {"staging": "Shared"}})


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "qa"}, "has no class"),
        ({"name": "production", "class": "staging"}, "is of the class of its own name"),
        ({"name": "production", "mode": "Audit"}, "is not of class development, so its mode is Enforce"),
        ({"name": "qa", "class": "staging", "mode": "Audit"}, "is not of class development, so its mode is Enforce"),
        ({"name": "development", "mode": "Off"}, "Input should be"),
        ({"name": "total", "class": "staging"}, "is the budget of all environments together"),
        ({"name": "Q"}, "is not a name"),
        ({"name": "staging", "dailyBudget": "1e3"}, "is not an amount of US dollars"),
        ({"name": "staging", "dailyBudget": 50}, "valid string"),
        ({"name": "staging", "monthlyBudget": "-1"}, "is not an amount of US dollars"),
        ({"name": "staging", "dailyBudget": "50\n"}, "is not an amount of US dollars"),
    ],
)
def test_what_the_api_server_refuses_in_an_environment_python_refuses(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        EnvironmentRules.model_validate(entry)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"alertPercents": [80, 50]}, "in rising order"),
        ({"alertPercents": [50, 50]}, "in rising order"),
        ({"alertPercents": [0]}, "greater than or equal to 1"),
        ({"timeZone": "Europe/Berln"}, "is not the name of a time zone"),
        ({"timeZone": "../UTC"}, "is not the name of a time zone"),
        ({"timeZone": "Factory"}, "is not the name of a time zone"),
        ({"total": {}}, "needs dailyBudget or monthlyBudget"),
        ({"onExhausted": "Kill"}, "Input should be"),
    ],
)
def test_what_the_api_server_refuses_in_a_budget_python_refuses(budget: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PolicyBudget.model_validate(budget)


def test_a_budget_that_says_nothing_has_the_defaults() -> None:
    budget = PolicyBudget()
    assert (budget.alert_percents, budget.time_zone, budget.on_exhausted, budget.total) == (
        (50, 80),
        "UTC",
        "Block",
        None,
    )
    assert (budget.override.max_amount, budget.override.max_duration) == ("100", "24h")


def test_a_price_needs_input_and_output_and_may_be_zero() -> None:
    assert DeclaredPrice(model="local/*", input="0", output="0").per_call is None
    for missing in ("input", "output", "model"):
        given = {"model": "local/*", "input": "0", "output": "0"}
        del given[missing]
        with pytest.raises(ValidationError):
            DeclaredPrice.model_validate(given)


def own(*budgets: dict[str, str]) -> Any:
    agent = an_agent()
    agent.raw["spec"]["budget"] = list(budgets)
    return agent.build().spec


@requirement("budget.lower-only")
def test_the_lower_of_two_limits_holds() -> None:
    policy = spec({"name": "staging", "dailyBudget": "9.5", "monthlyBudget": "100"})
    staging, production = policy.environment("staging"), policy.environment("production")
    assert staging is not None
    assert production is not None
    lower = own({"environment": "staging", "dailyBudget": "9.25", "monthlyBudget": "20"})
    assert limits_of(staging, lower.budget) == BudgetLimits("9.25", "20")
    assert limits_of(production, lower.budget) == BudgetLimits("1000", None)
    # A policy that was lowered later holds, and 10 is more than 9.5, though not as a text.
    raised = own({"environment": "staging", "dailyBudget": "10", "monthlyBudget": "1000"})
    assert limits_of(staging, raised.budget) == BudgetLimits("9.5", "100")
    only_monthly = own({"environment": "production", "monthlyBudget": "30"})
    assert limits_of(production, only_monthly.budget) == BudgetLimits("1000", "30")


MONEY = st.integers(min_value=0, max_value=10**15).map(format_money)


@requirement("budget.lower-only")
@given(policy=MONEY, agent=MONEY)
def test_no_agent_has_more_than_its_policy(policy: str, agent: str) -> None:
    environment = spec({"name": "staging", "dailyBudget": policy}).environment("staging")
    assert environment is not None
    found = limits_of(environment, (AgentBudget(environment="staging", daily_budget=agent),))
    assert parse_money(found.daily) == min(parse_money(policy), parse_money(agent))


@requirement("budget.lower-only")
def test_a_budget_above_the_policys_is_named_with_the_way_out() -> None:
    policy = spec({"name": "eu", "class": "production", "dailyBudget": "10", "monthlyBudget": "20"})
    agent = own({"environment": "eu", "dailyBudget": "9.999", "monthlyBudget": "20.01"})
    (found,) = budget_refusals(agent, "support", policy)
    assert found == (
        "spec.budget: monthlyBudget 20.01 in eu is above the 20 of AgentPolicy support: an agent can only lower its "
        "budget, so lower it, or raise it in spec.environments there"
    )
    assert budget_refusals(own({"environment": "eu", "monthlyBudget": "1"}), "support", spec()) == []


def test_an_environment_that_the_policy_lacks_is_named_once() -> None:
    agent = own({"environment": "mars", "dailyBudget": "1"}, {"environment": "staging", "dailyBudget": "1"})
    (found,) = unknown_environment_refusals(agent, "support", DEFAULTS)
    assert found.startswith("spec.budget: AgentPolicy support has no environment mars: add it to spec.environments")


@requirement("budget.override")
def test_an_override_is_an_amount_a_time_and_a_reason() -> None:
    found = parse_override("+12.5 USD until=2026-12-01T18:00:00+02:00 reason=quarter end, see T-1")
    assert (found.amount, found.reason) == ("12.5", "quarter end, see T-1")
    assert found.until == datetime(2026, 12, 1, 18, tzinfo=timezone(timedelta(hours=2)))
    assert found.until.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+100 USD",
        "100 USD until=2026-12-01T18:00:00Z reason=x",
        "+100 USD until=2026-02-30T18:00:00Z reason=x",
        "+100 USD until=0001-01-01T00:00:00+23:00 reason=x",
        "+100 USD until=2026-12-01T18:00:00Z reason=x\n",
        "+100 USD until=2026-12-01T18:00:00Z reason=" + "x" * 257,
        "+1000000.1 USD until=2026-12-01T18:00:00Z reason=x",
    ],
)
@requirement("budget.override")
def test_what_is_no_override_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="is no override: write an amount, a time and a reason"):
        parse_override(text)


def test_a_ledger_is_of_an_agent_in_an_environment_or_of_a_policy() -> None:
    assert BudgetLedgerSpec(policy="support").agent is None
    for half in ({"agent": "triage"}, {"environment": "staging"}):
        with pytest.raises(ValidationError, match="needs both of agent and environment"):
            BudgetLedgerSpec.model_validate({"policy": "support"} | half)
