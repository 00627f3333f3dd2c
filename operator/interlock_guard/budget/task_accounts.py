"""The accounts of tasks under way: what each has spent and reserved of the policy's budget of one task. Pure memory.

A task is one request that the guard passes to the agent. It begins and ends in this guard, so no ledger is needed. A
call that names a task under way counts against that one. Any other call counts in full against each task under way,
because no one knows for which of them it is made. With one task under way, every call therefore counts against it.

    tasks A (spent 3) and B (spent 5), limit 10, a call of 6:  names A -> passes     names none -> refused: B has 5 left
"""

from dataclasses import dataclass, field

from interlock_guard.budget.denials import deny_of_task
from interlock_guard.decision.decide import Deny


@dataclass(slots=True, eq=False)
class TaskAccount:
    """What one task has spent, and what its calls under way have reserved, in nano-dollars."""

    spent: int = 0
    reserved: int = 0


@dataclass(slots=True, eq=False)
class TaskReservation:
    """What one call has reserved of the tasks that it counts against. A task may end before its call does."""

    amount: int
    accounts: tuple[TaskAccount, ...] = ()
    is_settled: bool = False

    def settle(self, cost: int) -> None:
        """End it with what the call has cost in nano-dollars; a second end changes nothing."""
        if self.is_settled:
            return
        self.is_settled = True
        for account in self.accounts:
            account.reserved -= self.amount
            account.spent += cost


@dataclass(slots=True)
class TaskAccounts:
    """The accounts of the tasks under way in one guard, by the ids that the guard gave them."""

    _open: dict[str, TaskAccount] = field(default_factory=dict)

    def begin(self, task: str) -> None:
        """Open the account of a task. Call it before the agent gets the task."""
        self._open[task] = TaskAccount()

    def end(self, task: str) -> None:
        """Close the account of a task. Later calls that name it count against each task that is still under way."""
        self._open.pop(task, None)

    def left(self, named: str, limit: int) -> int:
        """Return what is left for a call of the budget of one task; all of it where no task is under way.

        Args:
            named: The task that the call names; empty without one.
            limit: The budget of one task in nano-dollars.
        """
        return _left(self._accounts(named), limit)

    def reserve(self, named: str, amount: int, limit: int | None) -> TaskReservation | Deny:
        """Reserve a call in each task that it counts against, or return why one of them has too little left.

        Args:
            named: The task that the call names; empty without one.
            amount: The worst case of the call in nano-dollars.
            limit: The budget of one task; None for none. The tasks' spend is counted all the same, for a limit that is
                set while they run.
        """
        accounts = self._accounts(named)
        if limit is not None and accounts and 0 < amount > (left := _left(accounts, limit)):
            return deny_of_task(amount, left, limit)
        for account in accounts:
            account.reserved += amount
        return TaskReservation(amount, tuple(accounts))

    def _accounts(self, named: str) -> list[TaskAccount]:
        one = self._open.get(named)
        return list(self._open.values()) if one is None else [one]


def _left(accounts: list[TaskAccount], limit: int) -> int:
    return limit - max((one.spent + one.reserved for one in accounts), default=0)
