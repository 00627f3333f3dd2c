"""The override of a budget: the annotation by which a user with the right to do so adds money to an Agent's budget.

An override is decided on once. What is refused stays refused, also where the policy allows more later, or where so much
time has passed that the rest of it is short enough: otherwise a value that was refused would be money on some later
day. So the ledger records a refusal as a credit of nothing. Another value of the annotation is another override.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from interlock.api.agent import Agent
from interlock.api.budget import BudgetOverride, parse_override
from interlock.api.policy import AgentPolicy
from interlock.api.shared_types import parse_duration
from interlock_contract.budget.ledger import Credit
from interlock_contract.budget.money import parse_money
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.clock import write_time
from interlock_contract.kill import shorten
from interlock_contract.names import BUDGET_OVERRIDE, BUDGET_OVERRIDE_BY

OVERRIDE_POLICY: Final = "agents-commands.interlock.dev"
"""The admission policy by which only users with the right set an override, under their own name."""
_AGAIN: Final = "then set it again with another reason, since a refused override stays refused"


@dataclass(frozen=True)
class OverrideDecision:
    """What becomes of an override.

    Attributes:
        credit: What the ledger records: the money, or nothing where it was refused. None where it says no end until
            which that must be recorded.
        refusal: Why it was refused, and the way out; empty where it was not.
    """

    credit: Credit | None
    refusal: str = ""


def identify_override(agent: Agent) -> str | None:
    """Return the identity of an Agent's override, None where it has none.

    It is the text of the annotation on this very Agent: who set it is checked, and makes it no other override.
    """
    text = agent.metadata.annotations.get(BUDGET_OVERRIDE)
    return None if text is None else digest_of(canonicalize([agent.metadata.uid, text]))


def decide_override(agent: Agent, policy: AgentPolicy, now: datetime, *, is_vouched: bool) -> OverrideDecision | None:
    """Decide on the override of an Agent.

    Args:
        agent: The Agent.
        policy: Its policy, which bounds amount and duration.
        now: The time.
        is_vouched: Whether the API server vouches for who set it: `OVERRIDE_POLICY` is in force, or was when the
            override was decided on first.

    Returns:
        The decision; None where the Agent has no override, or its time is over.
    """
    text, by = (agent.metadata.annotations.get(name) for name in (BUDGET_OVERRIDE, BUDGET_OVERRIDE_BY))
    if text is None:
        return None
    try:
        override = parse_override(text)
    except ValueError as error:
        return OverrideDecision(None, f"{error}; until then the budget stays as it is")
    if override.until <= now:
        return None
    refusal = _find_refusal(override, policy, now, is_vouched=is_vouched and bool(by))
    credit = Credit(
        amount=0 if refusal else parse_money(override.amount),
        until=int(override.until.timestamp()),
        reason=override.reason,
        given_at=int(now.timestamp()),
        by=shorten(by) if by and is_vouched else None,
        id=identify_override(agent),
    )
    return OverrideDecision(credit, refusal)


def _find_refusal(override: BudgetOverride, policy: AgentPolicy, now: datetime, *, is_vouched: bool) -> str:
    """Return why an override is refused, empty where it is not."""
    bounds, name = policy.spec.budget.override, policy.metadata.name
    if not is_vouched:
        return (
            f"{BUDGET_OVERRIDE} adds nothing, because nothing in the cluster checks who may set it: apply "
            f"manifests/admission, which has ValidatingAdmissionPolicy {OVERRIDE_POLICY} and its binding, {_AGAIN}"
        )
    if parse_money(override.amount) > parse_money(bounds.max_amount):
        return (
            f"{BUDGET_OVERRIDE} adds {override.amount} USD, more than the {bounds.max_amount} USD that AgentPolicy "
            f"{name} allows, so the budget stays as it is: write a smaller amount, or raise "
            f"spec.budget.override.maxAmount there, {_AGAIN}"
        )
    if override.until - now > parse_duration(bounds.max_duration):
        return (
            f"{BUDGET_OVERRIDE} is until {write_time(override.until, 'seconds')}, longer than the "
            f"{bounds.max_duration} that AgentPolicy {name} allows, so the budget stays as it is: write an earlier "
            f"time, or raise spec.budget.override.maxDuration there, {_AGAIN}"
        )
    return ""
