"""The account of one holder: what it may spend of its slices, what is reserved, and what is settled.

A holder is one run of a guard. It has a slice of its agent's ledger and, where the policy limits the total of all
agents, a slice of the total's ledger. A call reserves the same amount of both, or nothing. Pure memory: no clock and no
I/O. All amounts are integer nano-dollars.

    granted 100   |#### settled, not written 20 ####|==== reserved 30 ====|         free 50          |
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from interlock_contract.budget.money import add_money
from interlock_guard.budget.task_accounts import TaskReservation
from interlock_guard.decision.decide import Deny


class AccountKey(NamedTuple):
    """Which slice of the holder: the name of the ledger, and the window for which it was granted.

    A slice belongs to its window for ever. After midnight it only shrinks, as its reservations end.
    """

    ledger: str
    day_start: int
    month_start: int


@dataclass(slots=True)
class OpenSlice:
    """One slice of the holder.

    Attributes:
        granted: What the ledger has granted to this slice over its life, less what the holder has returned.
        settled: Spent over its life.
        written: How much of `settled` the ledger is known to have.
        reserved: Reserved by calls under way.
        used_at: Seconds on the monotonic clock at which a call last reserved from it.
        is_known: Whether the ledger was seen to have this slice. One that it never had only has charges.
    """

    granted: int = 0
    settled: int = 0
    written: int = 0
    reserved: int = 0
    used_at: float = 0.0
    is_known: bool = False

    @property
    def free(self) -> int:
        """What a call may reserve; below zero after a call that has cost more than it had reserved."""
        return self.granted - self.settled - self.reserved

    @property
    def unsettled(self) -> int:
        """Spent, and not yet in the ledger."""
        return self.settled - self.written

    @property
    def has_money(self) -> bool:
        """Whether some of it is granted and not yet written as spent."""
        return self.granted > self.written

    @property
    def is_needed(self) -> bool:
        """Whether it has to be in the ledger once its window has ended.

        A call that ends while a write is on its way leaves money that only the next write returns.
        """
        return self.has_money or self.reserved > 0 or self.unsettled > 0


@dataclass(slots=True, eq=False)
class Reservation:
    """What one call may cost at most, reserved in every ledger that limits it.

    Attributes:
        id: Its number in this holder's journal.
        amount: The worst case.
        keys: The slices that it was reserved in.
        epoch: Which holder reserved it, see `Account.restart`.
        is_settled: Whether it has ended.
        task: What it has reserved of the budget of one task.
    """

    id: int
    amount: int
    keys: tuple[AccountKey, ...]
    epoch: int = 0
    is_settled: bool = False
    task: TaskReservation | None = None


@dataclass(slots=True)
class Account:
    """The slices of one holder.

    Attributes:
        slices: By key; those of ended windows stay until the ledger has all of them.
        open: The reservations that have not ended, by id.
        epoch: How many holders this account had before the present one.
    """

    slices: dict[AccountKey, OpenSlice] = field(default_factory=dict)
    open: dict[int, Reservation] = field(default_factory=dict)
    epoch: int = 0
    _next: int = 1

    def free(self, keys: Iterable[AccountKey]) -> int:
        """Return what one call may reserve in all of these slices; zero without a slice, and without keys."""
        return min((self.slices[key].free if key in self.slices else 0 for key in keys), default=0)

    def reserve(self, amount: int, keys: Sequence[AccountKey], now: float) -> Reservation | None:
        """Reserve an amount in all of these slices, or return None where one of them has less.

        Args:
            amount: The worst case of the call.
            keys: One slice per ledger, of its present window.
            now: Seconds on the monotonic clock.
        """
        if not keys or any(key not in self.slices or self.slices[key].free < amount for key in keys):
            return None
        for key in keys:
            self.slices[key].reserved += amount
            self.slices[key].used_at = now
        return self.open_reservation(amount, keys)

    def open_reservation(self, amount: int, keys: Sequence[AccountKey]) -> Reservation:
        """Return a reservation that no slice is asked for: of a call without a cost."""
        reservation = Reservation(self._next, amount, tuple(keys), self.epoch)
        self._next += 1
        self.open[reservation.id] = reservation
        return reservation

    def settle(self, reservation: Reservation, cost: int) -> dict[AccountKey, int]:
        """End a reservation with what the call has cost; the second end of the same one changes nothing.

        Returns:
            What no slice has paid, which is left to `charge`: all of a call that reserved nothing, and the part above
            the reservation where the slice belonged to a closed holder, which is spent whole.

        Raises:
            ValueError: The cost is negative.
        """
        if cost < 0:
            raise ValueError("no call has a negative cost")
        if reservation.is_settled:
            return {}
        reservation.is_settled = True
        if reservation.task is not None:
            reservation.task.settle(cost)
        self.open.pop(reservation.id, None)
        unpaid = {}
        for key in reservation.keys:
            held = self.slices.get(key)
            if held is None or reservation.epoch != self.epoch or reservation.amount == 0:
                if cost > reservation.amount:
                    unpaid[key] = cost - reservation.amount
            else:
                held.reserved -= reservation.amount
                held.settled = add_money(held.settled, cost)
        return unpaid

    def charge(self, key: AccountKey, nanos: int, now: float) -> None:
        """Charge what no reservation has paid to the slice of a window. Where there is none, one without money begins.

        Args:
            key: Which slice.
            nanos: The amount.
            now: Seconds on the monotonic clock.
        """
        held = self.slices.setdefault(key, OpenSlice(used_at=now))
        held.settled = add_money(held.settled, nanos)

    def grant(self, key: AccountKey, granted: int, written: int, now: float) -> None:
        """Take over what the ledger says about a slice. What it has settled of an unknown one is no money.

        Args:
            key: Which slice.
            granted: What the ledger has granted over the life of the slice.
            written: How much of it the ledger knows to be spent.
            now: Seconds on the monotonic clock.
        """
        held = self.slices.setdefault(key, OpenSlice(settled=written, used_at=now))
        held.granted, held.written, held.is_known = granted, written, True

    def restart(self) -> None:
        """Go on as another holder, without slices. The reservations of the closed one touch none of the new slices."""
        self.slices.clear()
        self.epoch += 1

    def drop(self, key: AccountKey) -> None:
        """Forget a slice: the ledger has all of it, or has closed it."""
        self.slices.pop(key, None)


def with_task(found: Reservation | Deny, of_task: TaskReservation) -> Reservation | Deny:
    """Return the answer to a call, with what it has reserved of a task's budget; a denied call gives that back."""
    if isinstance(found, Reservation):
        found.task = of_task
    else:
        of_task.settle(0)
    return found
