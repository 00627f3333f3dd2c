"""Why a call gets no money: the denials of the budget, in the words that agents and their users read."""

from interlock_contract.budget.money import format_money
from interlock_guard.decision.decide import Deny, DenyReason


def deny_away() -> Deny:
    """Return the denial while a ledger cannot be reached."""
    message = "The ledger of the budget cannot be read or written, and the guard has not enough money left."
    return Deny(DenyReason.BUDGET_UNAVAILABLE, "", message)


def deny_unlimited() -> Deny:
    """Return the denial of a call that costs money, where the bundle has no budget for it."""
    message = "The bundle has no budget, and without one no call may cost money. The operator writes it."
    return Deny(DenyReason.BUDGET_UNAVAILABLE, "", message)


def deny_unwritten(error: Exception) -> Deny:
    """Return the denial of a call that the journal could not note."""
    return Deny(DenyReason.BUDGET_UNAVAILABLE, "", f"The journal of the budget was not written: {error}.")


def deny_exhausted(amount: int, left: int, whose: str) -> Deny:
    """Return the denial by a ledger.

    Args:
        amount: The worst case of the call in nano-dollars.
        left: What is free of the tightest budget.
        whose: Whose budget that is.
    """
    message = (
        f"This call may cost up to ${format_money(amount)}, but only ${format_money(max(0, left))} of the budget "
        f"{whose} is free. Send a smaller request, or wait for the next window."
    )
    return Deny(DenyReason.BUDGET_EXHAUSTED, "", message)


def deny_of_task(amount: int, left: int, limit: int) -> Deny:
    """Return the denial by the budget of one task.

    Args:
        amount: The worst case of the call in nano-dollars.
        left: What is free of the task's budget.
        limit: The budget of one task.
    """
    message = (
        f"This call may cost up to ${format_money(amount)}, but only ${format_money(max(0, left))} is free of the "
        f"budget of one task, which is ${format_money(limit)} (spec.budget.perTask of the AgentPolicy). Send a smaller "
        "request, or end the task."
    )
    return Deny(DenyReason.TASK_BUDGET_EXHAUSTED, "", message)
