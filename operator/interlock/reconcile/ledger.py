"""The pure part of one BudgetLedger's reconcile: close dead holders, give a credit, and raise alerts.

Guards do everything else: they open windows, take slices and settle them. The operator opens no window, since its clock
may differ from that of the API server, by which days begin.
"""

from collections.abc import Iterable
from datetime import datetime

from msgspec.structs import replace

from interlock_contract.budget.leases import LedgerTerms, clear_exhausted, close_holder, record_alerts, set_credit
from interlock_contract.budget.ledger import BudgetAlert, Credit, Ledger, VelocityAlert, write_seconds
from interlock_contract.budget.money import shorten_money
from interlock_contract.budget.tokens_per_byte import (
    MAX_TOKEN_ALERTS,
    TokenAlert,
    TokenTerms,
    find_token_alerts,
    per_kilobyte,
)
from interlock_contract.budget.velocity import VelocityTerms, record_velocity


def reconcile_ledger(
    ledger: Ledger,
    terms: LedgerTerms | None,
    now: datetime,
    *,
    dead_holders: Iterable[str] = (),
    credit: Credit | None = None,
    may_withdraw: bool = True,
    velocity: VelocityTerms | None = None,
    tokens: TokenTerms | None = None,
) -> Ledger:
    """Return the ledger as it must be now.

    Args:
        ledger: The ledger as the API server has it.
        terms: The limits that are in force, None where nothing governs the ledger at the moment.
        now: The time.
        dead_holders: Holders that spend no longer. What is left of their slices is spent.
        credit: What the Agent's annotation adds, nothing where it was refused; None without one.
        may_withdraw: Whether the Agent is known, so that a missing annotation withdraws the credit.
        velocity: When the speed of the spend is an alert, None where nothing governs the ledger at the moment.
        tokens: When the tokens per byte of a model are an alert, None where nothing governs the ledger at the moment.
    """
    at = int(now.timestamp())
    for holder in dead_holders:
        ledger = close_holder(ledger, holder)
    if credit is not None and credit.until > at:
        ledger = set_credit(ledger, credit, at)
    elif credit is None and may_withdraw and ledger.credit is not None and ledger.credit.until > at:
        ledger = set_credit(ledger, None, at)
    if terms is not None:
        ledger = clear_exhausted(record_alerts(ledger, terms, at), terms, at)
    if velocity is not None:
        ledger = record_velocity(ledger, velocity, at)
    return ledger if tokens is None else _record_tokens(ledger, tokens, at)


def _record_tokens(ledger: Ledger, terms: TokenTerms, at: int) -> Ledger:
    found = tuple(find_token_alerts(ledger.tokens, ledger.token_alerts, terms, window_start=ledger.day.start, now=at))
    return replace(ledger, token_alerts=(*ledger.token_alerts, *found)[-MAX_TOKEN_ALERTS:]) if found else ledger


def describe_alert(alert: BudgetAlert, subject: str) -> str:
    """Return an alert as a sentence.

    Args:
        alert: The alert.
        subject: Who has spent, such as `agent triage in production`.
    """
    begin = write_seconds(alert.window_start)
    amounts = f": {shorten_money(alert.spent)} of {shorten_money(alert.limit)}" if alert.limit else ""
    name = "daily" if alert.period == "day" else "monthly"
    return f"{subject} spent {alert.percent} % of its {name} budget since {begin}{amounts}"


def describe_velocity(alert: VelocityAlert, subject: str) -> str:
    """Return an alert about ten minutes as a sentence.

    Args:
        alert: The alert.
        subject: Who has spent, such as `agent triage in production`.
    """
    begin = write_seconds(alert.window_start)
    return (
        f"{subject} spent {shorten_money(alert.spent)} in the ten minutes from {begin}, where the "
        f"median of its last day is {shorten_money(alert.median)}"
    )


def describe_tokens(alert: TokenAlert, subject: str) -> str:
    """Return an alert about the tokens of a model as a sentence.

    Args:
        alert: The alert.
        subject: Who has called it, such as `agent triage in production`.
    """
    hour = per_kilobyte(alert.tokens, alert.bytes)
    day = per_kilobyte(alert.day_tokens, alert.day_bytes)
    return (
        f"{subject}: {alert.model} reported {hour} tokens of {alert.direction} for 1000 bytes in the hour from "
        f"{write_seconds(alert.hour_start)}, and {day} on the day before"
    )
