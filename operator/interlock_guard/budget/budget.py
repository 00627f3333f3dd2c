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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.leases import excess
from interlock_contract.budget.ledger import SliceKey
from interlock_contract.budget.money import MAX_MONEY
from interlock_guard.budget.account import Account, AccountKey, Reservation, with_task
from interlock_guard.budget.denials import deny_away, deny_exhausted, deny_unwritten
from interlock_guard.budget.holder import HolderClosed, LedgerShare, SpendRate
from interlock_guard.budget.journal import Journal, JournalFailed
from interlock_guard.budget.ledger_limit import LedgerLimit
from interlock_guard.budget.ledger_object import LedgerAway, LedgerObject
from interlock_guard.budget.task_accounts import TaskAccounts, TaskReservation
from interlock_guard.budget.token_tally import TokenTally
from interlock_guard.decision.decide import Deny, check_terminated
from interlock_guard.state import LiveState
from interlock_kube.background import keep_running

WAIT_SECONDS: Final = 2.0
"""How long a call waits for money."""
AWAY_SECONDS: Final = 0.9
"""How long it waits while a ledger cannot be reached."""
_TICK_SECONDS: Final = 0.5
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 3.0

OpenLedger = Callable[[str, Callable[[], None]], LedgerObject]
"""Returns the ledger of a name; the function is called at each of its changes."""


@dataclass(slots=True, eq=False)
class _Waiter:
    amount: int
    answer: "asyncio.Future[Reservation | Deny]"
    is_known: bool = False
    """Whether the ledgers have answered a round for it, and none was away since: only then does it lack money."""


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
        self._live, self._open, self._journal, self._pod_uid = live, open_ledger, journal, pod_uid
        self._clock, self._monotonic, self._log, self._spread = clock, monotonic, log, spread
        self._account, self._rate = Account(), SpendRate()
        self._limits: dict[str, LedgerLimit] = {}
        self._order: list[LedgerLimit] = []
        self._terms: BundleBudget | None = None
        self._waiters: list[_Waiter] = []
        self._wake = asyncio.Event()
        self._trouble = ""
        self._failures = 0
        self._retry_at = 0.0
        self.tasks = TaskAccounts()
        """What the tasks under way have spent."""
        self.tally = TokenTally()
        """What the answers said of their tokens, for the agent's own ledger."""
        self.refusals = 0
        """Calls that were refused for lack of money."""
        self.on_ledger: Callable[[], None] = lambda: None
        """Called at each change of a ledger."""

    @property
    def terms(self) -> BundleBudget | None:
        """The budget in the bundle in force; None where calls are not limited."""
        return None if self._live.bundle is None else self._live.bundle.budget

    @property
    def own_ledger(self) -> LedgerObject | None:
        """The agent's own ledger, None before the first bundle with a budget."""
        return self._order[-1].object if self._order else None

    @property
    def holder(self) -> str:
        """The name of this run in the ledgers."""
        return self._journal.holder

    @property
    def ledger_writes(self) -> int:
        """How often this guard has written to a ledger."""
        return sum(limit.object.writes for limit in self._limits.values())

    @property
    def written_at(self) -> float:
        """Seconds on the monotonic clock of the last write to a ledger; zero before the first one."""
        return max((limit.share.settled_at for limit in self._limits.values()), default=0.0)

    @property
    def is_away(self) -> bool:
        """Whether a ledger that limits the agent is not known now, or cannot be reached."""
        return self._clock() is None or any(
            limit.object.is_away or limit.object.ledger is None for limit in self._order
        )

    @property
    def free(self) -> int:
        """Nano-dollars that a call may reserve without a write to a ledger."""
        return self._account.free(self._keys() or ())

    @property
    def has_open_slice(self) -> bool:
        """Whether a ledger grants this guard money."""
        return any(held.granted > held.written for held in self._account.slices.values())

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
        except asyncio.CancelledError:
            if isinstance(of_task, TaskReservation):
                of_task.settle(0)
            raise

    async def _reserve_or_wait(self, amount: int) -> Reservation | Deny:
        found = self._try(amount)
        if found is None:
            found = self._refuse_early(amount)
        if found is not None:
            return found
        waiter = _Waiter(amount, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._wake.set()
        try:
            await asyncio.wait([waiter.answer], timeout=AWAY_SECONDS if self.is_away else WAIT_SECONDS)
        except asyncio.CancelledError:
            if waiter.answer.done() and isinstance(late := waiter.answer.result(), Reservation):
                self.settle(late, 0)
            raise
        finally:
            self._waiters.remove(waiter)
            self._wake.set()  # what it lacks need not be returned any longer
        return waiter.answer.result() if waiter.answer.done() else self._deny(amount, is_known=waiter.is_known)

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
        self._account.settle(found, 0)
        self._journal.settle(found, 0)
        return None  # nothing was given to another call

    def settle(self, reservation: Reservation, cost: int) -> None:
        """End a reservation with the cost of its call in nano-dollars. A second end of the same one does nothing."""
        if reservation.is_settled:
            return
        for key in self._account.settle(reservation, cost):
            limit, overrun = self._limits.get(key.ledger), cost - reservation.amount
            if limit is not None and overrun > 0:
                gone = SliceKey(self.holder, key.day_start, key.month_start)
                limit.share.overruns[gone] = limit.share.overruns.get(gone, 0) + overrun
        self._journal.settle(reservation, cost)
        self._rate.add(cost, self._monotonic())
        self._serve()
        if self._waiters or any(self._is_asked(limit) for limit in self._order):
            self._wake.set()

    def seconds_until_money(self) -> int | None:
        """Return after how many seconds the next window begins, if the budget is exhausted; else None."""
        now, found = self._clock(), 0
        if now is None:
            return None
        for limit in self._order:
            ledger = limit.object.ledger
            if ledger is not None and ledger.exhausted is not None:
                found = max(found, ledger.window(ledger.exhausted.period).end - now)
        return found or None

    def follow(self) -> None:
        """Take over the limits of the bundle. As soon as nothing may go out, answer every call that waits for money."""
        denial = check_terminated(self._live.bundle, self._live.state)
        if denial is not None:
            self._refuse_all(denial)
        terms = self.terms
        if terms is None or terms == self._terms:  # without a bundle the limits that are known stay
            return
        self._terms = terms
        self._order = []
        for name, limits, is_total in terms.ledgers:
            limit = self._limits.get(name)
            if limit is None:
                tally = None if is_total else self.tally
                share = LedgerShare(name, limits, is_total, self._account, self._rate, tally=tally)
                limit = self._limits[name] = LedgerLimit(self._open(name, partial(self._handle_change, name)), share)
            limit.share.terms = limits
            self._order.append(limit)
        for limit in self._limits.values():
            limit.is_present = limit in self._order
            self._note_excess(limit)
        self._wake.set()

    async def run(self, log: Callable[[str], None]) -> None:
        """Keep the slices in line with what calls need, until cancelled."""
        try:
            while True:
                self._watch_ledgers(log)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_SECONDS):
                        await self._wake.wait()
                self._wake.clear()
                await self._round()
        finally:
            for limit in self._limits.values():
                if limit.watch is not None:
                    limit.watch.cancel()
                    limit.watch = None

    def _watch_ledgers(self, log: Callable[[str], None]) -> None:
        """Watch every ledger of which the bundle or a slice speaks, and no other one."""
        for name, limit in list(self._limits.items()):
            if limit.watch is None:
                work = keep_running(f"watch of the ledger {name}", partial(limit.object.run, log), log)
                limit.watch = asyncio.create_task(work)
            if not limit.is_present and not limit.share.slices():
                limit.watch.cancel()
                del self._limits[name]

    async def finish(self, seconds: float) -> None:
        """Settle, and return what is free, because the guard ends. The journal keeps what is still open."""
        for held in self._account.slices.values():
            held.granted -= max(0, held.free)
        now = self._clock()
        if now is not None:
            with suppress(TimeoutError, LedgerAway):
                async with asyncio.timeout(seconds):
                    for limit in reversed(self._order):
                        await self._write(limit, now, takes=False)
        self._journal.close()

    async def _round(self) -> None:
        """Write once to each ledger that needs it, and answer the calls that fit then."""
        now = self._clock()
        self._serve()
        if now is None or self._monotonic() < self._retry_at:
            return
        try:
            await self._end_former(now)
            if asking := list(self._waiters):
                for limit in self._order:
                    await self._write(limit, now, takes=True)
                for waiter in asking:
                    waiter.is_known = True
            else:
                for limit in sorted(self._limits.values(), key=lambda one: one.share.is_total):
                    if self._is_due(limit, now):
                        await self._write(limit, now, takes=False)
        except JournalFailed as error:
            self._refuse_all(deny_unwritten(error))
            return
        except LedgerAway as away:
            self._note(str(away))
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._failures, 10))
            self._failures, self._retry_at = self._failures + 1, self._monotonic() + pause
            return
        self._failures = 0
        self._note("")
        self._serve()
        self._refuse_hopeless(self._clock() or now)  # midnight may have passed

    async def _end_former(self, now: int) -> None:
        """End the slices of the runs before this one in every ledger, then delete their journals."""
        for run in list(self._journal.former):
            for limit in reversed(self._order):
                if run.holder not in limit.former:
                    await limit.object.change(partial(limit.share.end_former, run=run, now=now))
                    limit.former.add(run.holder)
            if self._order:
                self._journal.drop_former(run)

    async def _write(self, limit: LedgerLimit, now: int, *, takes: bool) -> None:
        share, waiting = limit.share, [one.amount for one in self._waiters if not one.answer.done()]
        others = [other for other in self._order if other is not limit and other.object.ledger is not None]
        bound = MAX_MONEY
        for other in others:
            if (known := other.object.ledger) is not None:
                bound = min(bound, other.share.available(known, now) if share.is_total else other.share.free(known))
        if takes:
            self._journal.start()
        try:
            stored = await limit.object.change(
                lambda ledger: share.change(
                    ledger,
                    holder=self.holder,
                    pod_uid=self._pod_uid,
                    now=now,
                    monotonic=self._monotonic(),
                    waiting=waiting if takes else (),
                    others_available=bound,
                )
            )
        except LedgerAway:
            share.is_uncertain = True
            raise
        except HolderClosed:
            self._start_again()
            self._wake.set()
            return
        for key in share.accept(stored, self.holder, self._monotonic()):
            self._account.drop(key)
            self._journal.forget(key)
        self._note_excess(limit)

    def _start_again(self) -> None:
        """Go on as another holder: the operator has closed this one, so that its slices are spent whole."""
        self._log(f"budget: the holder {self.holder} was closed, its open slices count as spent")
        self._journal.renew()
        self._account.restart()

    def _try(self, amount: int) -> Reservation | Deny | None:
        """Return a reservation from the open slices, None where they do not have as much."""
        keys = self._keys()
        if keys is None:
            return None
        if amount == 0:
            return self._account.open_reservation(0, keys)
        if any(limit.is_over for limit in self._order) or not self._is_fresh():
            return None
        found = self._account.reserve(amount, keys, self._monotonic())
        if found is not None:
            try:
                self._journal.reserve(found)
            except JournalFailed as error:
                self._account.settle(found, 0)
                return deny_unwritten(error)
        return found

    def _keys(self) -> tuple[AccountKey, ...] | None:
        """Return the keys of the present windows, None while they are not known."""
        now = self._clock()
        if now is None or not self._order:
            return None
        keys = []
        for limit in self._order:
            ledger = limit.object.ledger
            if ledger is None or now >= min(ledger.day.end, ledger.month.end):
                return None
            keys.append(limit.share.key(ledger))
        return tuple(keys)

    def _is_fresh(self) -> bool:
        """Return False if a ledger was not read for longer than the guard goes on without the API server."""
        oldest = self._monotonic() - self._live.state.lease_seconds
        return all(limit.object.contact_at is not None and limit.object.contact_at >= oldest for limit in self._order)

    def _serve(self) -> None:
        """Answer the calls that fit, first come first."""
        for waiter in self._waiters:
            if not waiter.answer.done():
                found = self._try(waiter.amount)
                if found is not None:
                    waiter.answer.set_result(found)

    def _refuse_all(self, denial: Deny) -> None:
        for waiter in self._waiters:
            if not waiter.answer.done():
                waiter.answer.set_result(denial)

    def _refuse_hopeless(self, now: int) -> None:
        """Refuse the calls that would not fit even if all other guards returned their slices."""
        known = [(limit.share, found) for limit in self._order if (found := limit.object.ledger) is not None]
        most = min((share.reachable(found, self.holder, now) for share, found in known), default=MAX_MONEY)
        for waiter in self._waiters:
            if not waiter.answer.done() and waiter.amount > most:
                waiter.answer.set_result(self._deny(waiter.amount))

    def _refuse_early(self, amount: int) -> Deny | None:
        """Refuse a call without waiting, if the other guards have been asked to return their money already.

        They go on returning what becomes free for as long as the ledger says that it is exhausted.
        """
        now = self._clock()
        if now is None or self.is_away:
            return None
        for limit in self._order:
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
        for limit in self._order:
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

    def _is_due(self, limit: LedgerLimit, now: int) -> bool:
        ledger = limit.object.ledger
        if ledger is None:
            return False
        if not limit.is_present:
            for held in limit.share.slices().values():
                held.granted -= max(0, held.free)
            return bool(limit.share.slices())
        return limit.share.is_due(ledger, self.holder, now, self._monotonic(), spread=self._spread)

    def _is_asked(self, limit: LedgerLimit) -> bool:
        now, ledger = self._clock(), limit.object.ledger
        return now is not None and ledger is not None and limit.share.returns(ledger, self.holder, now)

    def _handle_change(self, name: str) -> None:
        limit = self._limits.get(name)
        if limit is not None:
            self._note_excess(limit)
            if limit.object.is_away:
                for waiter in self._waiters:
                    waiter.is_known = False
            elif limit.was_away:
                self._retry_at = 0.0  # calls that come now need not wait for the end of a pause
            limit.was_away = limit.object.is_away
        self._wake.set()
        self.on_ledger()

    def _note_excess(self, limit: LedgerLimit) -> None:
        now, ledger = self._clock(), limit.object.ledger
        limit.is_over = now is None or ledger is None or excess(ledger, limit.share.terms, now) > 0

    def _note(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._log(f"budget: {trouble or 'the ledgers are written again'}")
        self._trouble = trouble
