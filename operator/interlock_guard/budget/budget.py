"""The budget of a guard: reserves the worst case of each call, and settles what it has cost.

A call that fits into the guard's slices is answered from memory. Otherwise it waits for one round of the loop, which
takes more money from the ledgers: first from the total of all agents, then from the agent's own. A crash between the
two writes leaves the total too high, never too low. Money goes back in the other order.

    reserve -> fits: journal -> forward
            -> does not fit: wait -> round: take from total, take from own -> fits: journal -> forward
                                 -> no room: write `wanted`, other guards return what is free -> round ...
                                 -> 2 s later: refused
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.money import MAX_MONEY, add_money
from interlock_guard.budget.account import Reservation, with_task
from interlock_guard.budget.denials import deny_away, deny_exhausted, deny_unwritten
from interlock_guard.budget.holder_ledgers import TICK_SECONDS, HolderLedgers, OpenLedger
from interlock_guard.budget.journal import Journal, JournalFailed
from interlock_guard.budget.ledger_limit import LedgerLimit
from interlock_guard.budget.ledger_object import LedgerObject
from interlock_guard.budget.task_accounts import TaskAccounts, TaskReservation
from interlock_guard.budget.waiting_calls import WaitingCalls
from interlock_guard.decision.decide import Deny, check_terminated
from interlock_guard.state import LiveState

WAIT_SECONDS: Final = 2.0
"""How long a call waits for money."""
AWAY_SECONDS: Final = 0.9
"""How long it waits while a ledger cannot be reached."""


class Budget:
    """Reserves and settles.

    Args:
        live: The Agent's state and its bundle.
        open_ledger: Opens a ledger by its name.
        journal: This run's journal.
        pod_uid: UID of the pod.
        clock: Seconds since the epoch, of the API server; None while they are unknown.
        monotonic: The clock of `live`, in seconds.
        log: Takes lines for the log.
        spread: A number from 0 to 1 that differs between guards.
    """

    def __init__(
        self,
        *,
        live: LiveState,
        open_ledger: OpenLedger,
        journal: Journal,
        pod_uid: str,
        clock: Callable[[], int | None],
        monotonic: Callable[[], float],
        log: Callable[[str], None],
        spread: float = 0.5,
    ) -> None:
        self._live, self._journal, self._clock, self._monotonic = live, journal, clock, monotonic
        self._ledgers = HolderLedgers(
            open_ledger=open_ledger,
            journal=journal,
            pod_uid=pod_uid,
            clock=clock,
            monotonic=monotonic,
            log=log,
            spread=spread,
            on_change=self._handle_change,
        )
        self._terms: BundleBudget | None = None
        self._wake = asyncio.Event()
        self._waiting = WaitingCalls[int, Reservation](give_back=lambda late: self.settle(late, 0), wake=self._wake.set)
        self.tally = self._ledgers.tally
        """What the answers said of their tokens, for the agent's own ledger."""
        self.tasks = TaskAccounts()
        """What the tasks under way have spent."""
        self.refusals = 0
        """Calls that were refused for lack of money."""
        self.on_ledger: Callable[[], None] = lambda: None
        """Called at each change of a ledger."""

    @property
    def terms(self) -> BundleBudget | None:
        """The budget in the bundle in force; None before the first one."""
        return None if self._live.bundle is None else self._live.bundle.budget

    @property
    def own_ledger(self) -> LedgerObject | None:
        """The agent's own ledger, None before the first bundle with a budget."""
        return self._ledgers.order[-1].object if self._ledgers.order else None

    @property
    def holder(self) -> str:
        """The name of this run in the ledgers."""
        return self._ledgers.holder

    @property
    def ledger_writes(self) -> int:
        """How often this guard has written to a ledger."""
        return self._ledgers.writes

    @property
    def seen_at(self) -> int | None:
        """The time of the holder's last sign of life in a ledger, see `HolderLedgers.seen_at`."""
        return self._ledgers.seen_at

    @property
    def is_away(self) -> bool:
        """Whether a ledger that limits the agent is not known now, or cannot be reached."""
        return self._clock() is None or self._ledgers.is_away

    @property
    def free(self) -> int:
        """Nano-dollars that a call may reserve without a write to a ledger."""
        return self._ledgers.account.free(self._ledgers.keys() or ())

    def now(self) -> int | None:
        """Return the seconds since the epoch, of the API server; None while they are unknown."""
        return self._clock()

    async def reserve(self, amount: int, task: str = "") -> Reservation | Deny:
        """Reserve the worst case of a call; its end must be told to `settle`, whatever happens.

        A call waits up to two seconds for money, and until a kill at most. It does not wait for the budget of a task.

        Args:
            amount: The worst case in nano-dollars.
            task: The task that the call names; empty without one.
        """
        of_task = self._reserve_of_task(amount, task)
        try:
            return of_task if isinstance(of_task, Deny) else with_task(await self._reserve_or_wait(amount), of_task)
        except BaseException:
            if isinstance(of_task, TaskReservation):
                of_task.settle(0)
            raise

    async def _reserve_or_wait(self, amount: int) -> Reservation | Deny:
        found = self._try(amount)
        if found is None:
            found = self._refuse_early(amount)
        if found is not None:
            return found
        seconds = AWAY_SECONDS if self.is_away else WAIT_SECONDS
        return await self._waiting.wait(amount, seconds, lambda call: self._deny(amount, is_known=call.is_known))

    def reserve_now(self, amount: int, task: str = "") -> Reservation | Deny:
        """Reserve what fits without waiting."""
        of_task = self._reserve_of_task(amount, task)
        return of_task if isinstance(of_task, Deny) else with_task(self._try(amount) or self._deny(amount), of_task)

    def _reserve_of_task(self, amount: int, task: str) -> TaskReservation | Deny:
        found = self.tasks.reserve(task, amount, None if self.terms is None else self.terms.per_task)
        self.refusals += isinstance(found, Deny)
        return found

    async def ensure(self, amount: int) -> Deny | None:
        """Wait until `reserve_now` can reserve an amount, as long as nothing is awaited in between."""
        found = await self._reserve_or_wait(amount)
        if isinstance(found, Deny):
            self.refusals -= 1  # `reserve_now` counts it
            return found
        self._ledgers.settle(found, 0)
        return None  # nothing was given to another call

    def settle(self, reservation: Reservation, cost: int) -> None:
        """End a reservation with the cost of its call in nano-dollars. A second end of the same one does nothing."""
        if reservation.is_settled:
            return
        self._ledgers.settle(reservation, add_money(cost))
        self._waiting.offer(self._try)
        if self._waiting or self._ledgers.returns():
            self._wake.set()

    def seconds_until_money(self) -> int | None:
        """Return after how many seconds the next window begins, if the budget is exhausted; else None."""
        now, found = self._clock(), 0
        if now is None:
            return None
        for limit in self._ledgers.order:
            ledger = limit.object.ledger
            if ledger is not None and ledger.exhausted is not None:
                found = max(found, ledger.window(ledger.exhausted.period).end - now)
        return found or None

    def follow(self) -> None:
        """Take over the limits of the bundle. As soon as nothing may go out, answer every call that waits for money."""
        denial = check_terminated(self._live.bundle, self._live.state)
        if denial is not None:
            self._waiting.deny_all(denial)
        terms = self.terms
        if terms is None or terms == self._terms:  # without a bundle the limits that are known stay
            return
        self._terms = terms
        self._ledgers.follow(terms)
        self._wake.set()

    async def run(self, log: Callable[[str], None]) -> None:
        """Keep the slices in line with what calls need, until cancelled."""
        try:
            while True:
                self._ledgers.start_tasks(log)
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK_SECONDS):
                        await self._wake.wait()
                self._wake.clear()
                await self._round()
        finally:
            self._ledgers.stop_tasks()

    async def finish(self, seconds: float) -> None:
        """Settle, and return what is free, because the guard ends. The journal keeps what is still open."""
        await self._ledgers.finish(seconds)

    async def _round(self) -> None:
        """Write once to each ledger that needs it, and answer the calls that fit then."""
        now = self._clock()
        self._waiting.offer(self._try)
        if now is None:
            return
        await self._ledgers.end_former(now)
        asking = list(self._waiting)
        answered = await self._take(now) if asking else ()
        await self._ledgers.settle_due(now, but=answered)
        self._waiting.offer(self._try)
        if asking and len(answered) == len(self._ledgers.order):
            for call in asking:
                call.is_known = True
            self._refuse_hopeless(self._clock() or now)  # midnight may have passed

    async def _take(self, now: int) -> Collection[LedgerLimit]:
        """Take money for the calls that wait; refuse them where the journal cannot be written."""
        try:
            return await self._ledgers.take(now, lambda: self._waiting.needs)
        except JournalFailed as error:
            self._waiting.deny_all(deny_unwritten(error))
            return ()

    def _try(self, amount: int) -> Reservation | Deny | None:
        """Return a reservation from the open slices, None where they do not have as much."""
        keys = self._ledgers.keys()
        if keys is None:
            return None
        if amount == 0:
            return self._ledgers.account.open_reservation(0, keys)
        if not self._ledgers.may_spend(self._live.state.lease_seconds):
            return None
        found = self._ledgers.account.reserve(amount, keys, self._monotonic())
        if found is not None:
            try:
                self._journal.reserve(found)
            except JournalFailed as error:
                self._ledgers.account.settle(found, 0)
                return deny_unwritten(error)
        return found

    def _refuse_hopeless(self, now: int) -> None:
        """Refuse the calls that would not fit even if all other guards returned their slices."""
        known = [(limit.share, found) for limit in self._ledgers.order if (found := limit.object.ledger) is not None]
        most = min((share.reachable(found, self.holder, now) for share, found in known), default=MAX_MONEY)
        self._waiting.offer(lambda amount: self._deny(amount) if amount > most else None)

    def _refuse_early(self, amount: int) -> Deny | None:
        """Refuse a call without waiting, if the other guards have been asked to return their money already.

        They go on returning what becomes free for as long as the ledger says that it is exhausted.
        """
        now = self._clock()
        if now is None or self.is_away:
            return None
        for limit in self._ledgers.order:
            ledger = limit.object.ledger
            if ledger is not None and ledger.exhausted is not None and now - ledger.exhausted.at > WAIT_SECONDS:
                is_smaller = amount < ledger.exhausted.refused
                if not is_smaller and amount > limit.share.available(ledger, now):
                    return self._deny(amount)
        return None

    def _deny(self, amount: int, *, is_known: bool = True) -> Deny:
        """Return why a call gets no money. Unless `is_known`, there may be money that was not asked for."""
        self.refusals += 1
        now = self._clock()
        if self.is_away or now is None or not is_known:
            return deny_away()
        worst: tuple[int, str] | None = None
        for limit in self._ledgers.order:
            ledger, share = limit.object.ledger, limit.share
            if ledger is None:
                continue
            left = share.available(ledger, now)
            if worst is None or left < worst[0]:
                worst = left, "of all agents of the policy" if share.is_total else "of the agent"
            if share.exhausts(ledger, amount, now):
                share.refused = min(share.refused or amount, amount)
        self._wake.set()
        return deny_exhausted(amount, *(worst or (0, "of the agent")))

    def _handle_change(self, limit: LedgerLimit) -> None:
        if limit.object.is_away and not limit.share.is_retired:
            for call in self._waiting:
                call.is_known = False
        self._wake.set()
        self.on_ledger()
