"""What one holder writes into one ledger: computed from the ledger, the account and the calls that wait. No I/O.

The account is the truth of this holder. A write may have been stored although no answer came, so the slice in the
ledger can be larger than the account knows. Each later write cuts the slice down to what the account knows. Money is
spent only after the write that granted it was answered, and it leaves the account before the write that returns it.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from interlock_contract.budget.leases import (
    PERIODS,
    LedgerTerms,
    clear_exhausted,
    close_holder,
    exhausts,
    mark_exhausted,
    must_return,
    open_empty,
    reachable_room,
    roll,
    room,
    settle,
    settle_former,
    take,
    write_wanted,
)
from interlock_contract.budget.ledger import Ledger, SliceKey
from interlock_contract.budget.money import MAX_MONEY
from interlock_contract.budget.slice_size import (
    IDLE_SECONDS,
    SLICE_SECONDS,
    TOTAL_SLICE_SECONDS,
    settle_seconds,
    slice_want,
)
from interlock_guard.budget.account import Account, AccountKey, OpenSlice
from interlock_guard.budget.journal import FormerRun
from interlock_guard.budget.token_tally import TokenTally

ROLL_SECONDS: Final = 60
"""Within so many seconds after midnight the guards of an idle agent open its next window."""


class HolderClosed(Exception):  # noqa: N818 - says what happened
    """A slice of the holder is no longer in the ledger, although there was money in it: all of it counts as spent."""


@dataclass(slots=True)
class SpendRate:
    """The recent spend of a holder."""

    _spent: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, nanos: int, now: float) -> None:
        """Note what a call has cost.

        Args:
            nanos: Its cost.
            now: Seconds on the monotonic clock.
        """
        if self._spent and now - self._spent[-1][0] < 1:
            self._spent[-1] = self._spent[-1][0], self._spent[-1][1] + nanos
        else:
            self._spent.append((now, nanos))
        self._trim(now)

    def per_second(self, now: float) -> int:
        """Return the nano-dollars a second of the last `SLICE_SECONDS`."""
        self._trim(now)
        return sum(nanos for _, nanos in self._spent) // SLICE_SECONDS

    def _trim(self, now: float) -> None:
        while self._spent and now - self._spent[0][0] > SLICE_SECONDS:
            self._spent.popleft()


@dataclass(slots=True)
class LedgerShare:
    """The part of one holder in one ledger.

    Attributes:
        name: The ledger.
        terms: Its limits.
        is_total: Whether it is the ledger of all agents of the policy.
        account: The holder's account in all of its ledgers.
        rate: The holder's recent spend.
        is_retired: Whether the bundle no longer names the ledger. It then only gets its money back.
        refused: The smallest worst case that was refused and is not yet in the ledger; zero without one.
        is_uncertain: Whether the last write may have been stored although no answer came.
        settled_at: Seconds on the monotonic clock of the last write.
        tally: What the answers said of their tokens, None in a ledger that does not keep it.
    """

    name: str
    terms: LedgerTerms
    is_total: bool
    account: Account
    rate: SpendRate
    is_retired: bool = False
    refused: int = 0
    is_uncertain: bool = False
    settled_at: float = 0.0
    tally: TokenTally | None = None
    _offered: int = 0

    def key(self, ledger: Ledger) -> AccountKey:
        """Return the account's key of the slice of the present windows."""
        return AccountKey(self.name, ledger.day.start, ledger.month.start)

    def slices(self) -> Mapping[AccountKey, OpenSlice]:
        """Return the slices of this ledger."""
        return {key: held for key, held in self.account.slices.items() if key.ledger == self.name}

    def free(self, ledger: Ledger) -> int:
        """Return what a call may reserve in the present windows."""
        held = self.account.slices.get(self.key(ledger))
        return 0 if held is None else held.free

    def available(self, ledger: Ledger, now: int) -> int:
        """Return what this holder can reserve, with what it can still take."""
        ledger = roll(ledger, self.terms, now)
        return self.free(ledger) + room(ledger, self.terms, now)

    def reachable(self, ledger: Ledger, holder: str, now: int) -> int:
        """Return what this holder could reserve if all other slices came back."""
        ledger = roll(ledger, self.terms, now)
        return self.free(ledger) + reachable_room(ledger, self.terms, holder, now)

    def is_due(self, ledger: Ledger, holder: str, now: int, monotonic: float, *, spread: float) -> bool:
        """Return True if the holder has to write, although no call waits for money.

        Args:
            ledger: The newest known version.
            holder: The holder.
            now: Seconds since the epoch, of the API server.
            monotonic: Seconds on the monotonic clock.
            spread: A number from 0 to 1 that differs between guards.
        """
        if self.is_uncertain or self.refused:
            return True
        ended = min(ledger.day.end, ledger.month.end)
        if now >= ended and (ledger.exhausted is not None or now >= ended + spread * ROLL_SECONDS):
            return ledger.day.start > 0  # a ledger without windows gets them with the first slice
        if ledger.exhausted is not None and room(ledger, self.terms, now) >= ledger.exhausted.refused:
            return True
        present, returns = self.key(ledger), self.returns(ledger, holder, now)
        settles = monotonic - self.settled_at >= settle_seconds(ledger, self.terms)
        found = ledger.find(ledger.present_key(holder))
        has_waited = found is not None and found.wanted > 0  # and no call waits any longer
        return has_waited or any(
            ((key != present or self.is_retired) and held.reserved == 0)
            or (held.unsettled and settles)
            or (held.free > 0 and (returns or self._is_idle(held, monotonic)))
            for key, held in self.slices().items()
        )

    def change(
        self,
        ledger: Ledger,
        *,
        holder: str,
        pod_uid: str,
        now: int,
        monotonic: float,
        waiting: Sequence[int] = (),
        others_available: int = MAX_MONEY,
    ) -> Ledger:
        """Return the ledger with everything that this holder has to say.

        Args:
            ledger: The newest version.
            holder: The holder.
            pod_uid: UID of its pod.
            now: Seconds since the epoch, of the API server.
            monotonic: Seconds on the monotonic clock.
            waiting: Worst cases of the calls that wait for money, first come first.
            others_available: What the other ledger that limits these calls can give.

        Raises:
            HolderClosed: The operator has closed the holder.
        """
        found, ledger = ledger, roll(ledger, self.terms, now)
        present, returns = self.key(ledger), self.returns(ledger, holder, now)
        for key, held in self.slices().items():
            named = SliceKey(holder, key.day_start, key.month_start)
            if ledger.find(named) is None:
                # A slice of the present windows stays in the ledger when it is empty. Others go with their window.
                if held.is_known and (held.has_money or key == present):
                    raise HolderClosed(holder)
                if held.unsettled:
                    ledger = open_empty(ledger, named, pod_uid, settled=held.written, now=now)
            if key != present or returns or self._is_idle(held, monotonic):
                held.granted -= max(0, held.free)  # before the write: no call may reserve what it returns
            ledger = settle(
                ledger,
                named,
                charged=held.settled,
                reserved=held.reserved,
                spare=max(0, held.free),
                now=now,
            )
        for one in ledger.slices:
            # A slice of which no answer came: none of it may be spent, so all of it goes back.
            if (
                one.holder == holder
                and AccountKey(self.name, one.day_start, one.month_start) not in self.account.slices
            ):
                ledger = settle(ledger, one.key, charged=one.settled, reserved=0, spare=0, now=now)
        self._offered = self.refused
        ledger = self._take(ledger, holder, pod_uid, now, monotonic, waiting, others_available)
        ledger = clear_exhausted(ledger, self.terms, now)
        if self.refused:
            ledger = mark_exhausted(ledger, self.terms, holder, self.refused, now)
        # Counts of tokens are no reason to write.
        return ledger if self.tally is None or ledger == found else self.tally.write(ledger, now)

    def end_former(self, ledger: Ledger, run: FormerRun, now: int) -> Ledger:
        """Return the ledger with the slices of an earlier run ended: as its journal says, or spent whole."""
        ledger = roll(ledger, self.terms, now)
        if run.spending is None:
            return close_holder(ledger, run.holder)
        charged = {
            SliceKey(run.holder, key.day_start, key.month_start): amount
            for key, amount in run.spending.most().items()
            if key.ledger == self.name
        }
        return settle_former(ledger, run.holder, charged, now)

    def unpaid(self, ledger: Ledger, run: FormerRun) -> Mapping[AccountKey, int]:
        """Return what an earlier run has spent beyond its slices that are no longer in the ledger, to `charge` it.

        Such a slice was closed, so that all it was granted counts as spent.
        """
        if run.spending is None:
            return {}
        return {
            key: beyond
            for key, most in run.spending.most().items()
            if key.ledger == self.name
            and ledger.find(SliceKey(run.holder, key.day_start, key.month_start)) is None
            and (beyond := most - run.spending.granted.get(key, 0)) > 0
        }

    def accept(self, ledger: Ledger, holder: str, monotonic: float) -> list[AccountKey]:
        """Take over what was stored.

        Returns:
            The keys of slices that are no longer needed. None of them holds money.
        """
        self.is_uncertain, self.settled_at = False, monotonic
        self.refused = 0 if self.refused == self._offered else self.refused
        self._offered = 0
        if self.tally is not None:
            self.tally.accept()
        present = self.key(ledger)
        for one in ledger.slices:
            key = AccountKey(self.name, one.day_start, one.month_start)
            if one.holder == holder and (key == present or key in self.account.slices):
                self.account.grant(key, one.amount + one.settled, one.settled, monotonic)
        return [
            key for key, held in self.slices().items() if (key != present or self.is_retired) and not held.is_needed
        ]

    def exhausts(self, ledger: Ledger, refused: int, now: int) -> bool:
        """Return True if the refusal of a call means that the budget is exhausted.

        Args:
            ledger: The newest version.
            refused: The worst case of the call.
            now: Seconds since the epoch, of the API server.
        """
        unsettled = sum(held.unsettled for held in self.slices().values())
        return any(exhausts(ledger, self.terms, period, refused, now, unsettled=unsettled) for period in PERIODS)

    def _take(
        self,
        ledger: Ledger,
        holder: str,
        pod_uid: str,
        now: int,
        monotonic: float,
        waiting: Sequence[int],
        others_available: int,
    ) -> Ledger:
        free = self.free(ledger)
        here = free + room(ledger, self.terms, now)
        used, lacking = 0, 0
        for amount in waiting:
            if used + amount <= min(here, others_available):
                used += amount
            elif used + amount > here:
                lacking += amount
        if used > free:
            need = used - free
            want = slice_want(
                ledger,
                self.terms,
                holder,
                need=need,
                per_second=self.rate.per_second(monotonic),
                now=now,
                seconds=TOTAL_SLICE_SECONDS if self.is_total else SLICE_SECONDS,
            )
            ledger, _ = take(ledger, self.terms, holder, pod_uid, least=need, want=want, now=now)
        return write_wanted(ledger, self.terms, holder, pod_uid, lacking, now)

    def returns(self, ledger: Ledger, holder: str, now: int) -> bool:
        """Return True if what is free goes back: no call may use it, another holder lacks it, or a call was refused."""
        return self.is_retired or ledger.exhausted is not None or must_return(ledger, self.terms, holder, now)

    def _is_idle(self, held: OpenSlice, monotonic: float) -> bool:
        return monotonic - held.used_at >= IDLE_SECONDS
