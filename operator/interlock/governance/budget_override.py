"""The override of a budget: the annotation by which a user with the right to do so adds money to an Agent's budget.

The API server checks it by manifests/admission. An admission policy can be missing, so it is checked again.
"""

from datetime import datetime

from interlock.api.agent import Agent
from interlock.api.budget import parse_override
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import parse_duration
from interlock_contract.budget.ledger import Credit
from interlock_contract.budget.money import parse_money
from interlock_contract.kill import shorten
from interlock_contract.names import BUDGET_OVERRIDE, BUDGET_OVERRIDE_BY


def read_override(agent: Agent, policy: AgentPolicy, now: datetime) -> Credit | str | None:
    """Return what the annotation of an Agent adds to its budget.

    Args:
        agent: The Agent.
        policy: Its policy, which bounds amount and duration.
        now: The time.

    Returns:
        The credit; a sentence where the annotation cannot be read or is more than the policy allows; None where the
        Agent has none, or its time is over.
    """
    text = agent.metadata.annotations.get(BUDGET_OVERRIDE)
    if text is None:
        return None
    try:
        override = parse_override(text)
    except ValueError as error:
        return f"{error}; until then the budget stays as it is"
    if override.until <= now:
        return None
    amount, bounds, name = parse_money(override.amount), policy.spec.budget.override, policy.metadata.name
    if amount > parse_money(bounds.max_amount):
        return (
            f"{BUDGET_OVERRIDE} adds {override.amount} USD, more than the {bounds.max_amount} USD that AgentPolicy "
            f"{name} allows, so the budget stays as it is: write a smaller amount, or raise "
            "spec.budget.override.maxAmount there"
        )
    if override.until - now > parse_duration(bounds.max_duration):
        return (
            f"{BUDGET_OVERRIDE} is until {override.until:%Y-%m-%dT%H:%M:%SZ}, longer than the {bounds.max_duration} "
            f"that AgentPolicy {name} allows, so the budget stays as it is: write an earlier time, or raise "
            "spec.budget.override.maxDuration there"
        )
    by = agent.metadata.annotations.get(BUDGET_OVERRIDE_BY)
    return Credit(
        amount=amount,
        until=int(override.until.timestamp()),
        reason=override.reason,
        given_at=int(now.timestamp()),
        by=shorten(by) if by else None,
    )
