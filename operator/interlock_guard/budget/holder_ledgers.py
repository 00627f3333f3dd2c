"""The ledgers of a guard's holder: what it has of each, and the writes that keep that in line.

Each ledger fails alone. One that cannot be read or written stops the calls that need it, and neither the settlements of
the others nor their calls. A ledger that the bundle no longer names is retired: it only gets its money back, next to
the rounds. Where the guard's Role no longer names it either, or there is none, its slices are dropped after a while.

    named by the bundle -> retired: return, settle -> nothing left, no write without an answer: forget it
                                                   -> gone for a minute: drop its slices, which count as spent
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Final

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.leases import excess
from interlock_contract.budget.ledger import Ledger, SliceKey
from interlock_contract.budget.money import MAX_MONEY
from interlock_guard.budget.account import Account, AccountKey, Reservation
from interlock_guard.budget.holder import HolderClosed, LedgerShare, SpendRate
from interlock_guard.budget.journal import FormerRun, Journal
from interlock_guard.budget.ledger_limit import LedgerLimit
from interlock_guard.budget.ledger_object import LedgerAway, LedgerObject
from interlock_guard.budget.token_tally import TokenTally
from interlock_kube.background import explain, keep_running

GONE_SECONDS: Final = 60.0
"""How long a retired ledger is gone before its slices are dropped. The operator closes a silent holder as soon."""
TICK_SECONDS: Final = 0.5

OpenLedger = Callable[[str, Callable[[], None]], LedgerObject]
"""Returns the ledger of a name; the function is called at each of its changes."""


class HolderLedgers:
    """Knows the ledgers that limit the agent, the total of all agents first, and those that did.

    Args:
        open_ledger: Opens a ledger by its name.
        journal: This run's journal.
        pod_uid: UID of the pod.
        clock: Seconds since the epoch, of the API server; None while they are unknown.
        monotonic: Seconds on the monotonic clock.
        log: Takes lines for the log.
        spread: A number from 0 to 1 that differs between guards.
        on_change: Called with each change of a ledger.
    """

    def __init__(
        self,
        *,
        open_ledger: OpenLedger,
        journal: Journal,
        pod_uid: str,
        clock: Callable[[], int | None],
        monotonic: Callable[[], float],
        log: Callable[[str], None],
        spread: float,
        on_change: Callable[[LedgerLimit], None],
    ) -> None:
        self._open, self._journal, self._pod_uid, self._on_change = open_ledger, journal, pod_uid, on_change
        self._clock, self._monotonic, self._log, self._spread = clock, monotonic, log, spread
        self.account, self._rate = Account(), SpendRate()
        self.tally = TokenTally()
        """What the answers said of their tokens, for the agent's own ledger."""
        self._limits: dict[str, LedgerLimit] = {}
        self.order: Sequence[LedgerLimit] = ()
        """The ledgers that the bundle names."""

    @property
    def holder(self) -> str:
        """The name of this run in the ledgers."""
        return self._journal.holder

    @property
    def writes(self) -> int:
        """How often this guard has written to a ledger."""
        return sum(limit.object.writes for limit in self._limits.values())

    @property
    def is_away(self) -> bool:
        """Whether a ledger that limits the agent is not known now, or cannot be reached."""
        return any(limit.object.is_away or limit.object.ledger is None for limit in self.order)

    @property
    def seen_at(self) -> int | None:
        """The last sign of life of this holder, in seconds since the epoch, in the ledger that has the oldest one.

        None where no ledger grants it money.
        """
        found = []
        for limit in self._limits.values():
            ledger = limit.object.ledger
            for key, held in limit.share.slices().items():
                if held.has_money:
                    one = None if ledger is None else ledger.find(SliceKey(self.holder, key.day_start, key.month_start))
                    found.append(0 if one is None else one.renewed_at)
        return min(found, default=None)

    def follow(self, terms: BundleBudget) -> None:
        """Take over the limits of a bundle."""
        order = []
        for name, limits, is_total in terms.ledgers:
            limit = self._limits.get(name)
            if limit is None:
                tally = None if is_total else self.tally
                share = LedgerShare(name, limits, is_total, self.account, self._rate, tally=tally)
                limit = self._limits[name] = LedgerLimit(self._open(name, partial(self._handle_change, name)), share)
            limit.share.terms = limits
            order.append(limit)
        self.order = order
        for limit in self._limits.values():
            limit.share.is_retired = limit not in order
            self._note_excess(limit)

    def keys(self) -> tuple[AccountKey, ...] | None:
        """Return the keys of the present windows, None while they are not known."""
        now = self._clock()
        if now is None or not self.order:
            return None
        keys = []
        for limit in self.order:
            ledger = limit.object.ledger
            if ledger is None or now >= min(ledger.day.end, ledger.month.end):
                return None
            keys.append(limit.share.key(ledger))
        return tuple(keys)

    def may_spend(self, lease_seconds: float) -> bool:
        """Return False if a limit is exceeded, or if a ledger was not read for longer than a lease of the guard."""
        oldest = self._monotonic() - lease_seconds
        return not any(
            limit.is_over or limit.object.contact_at is None or limit.object.contact_at < oldest for limit in self.order
        )

    def settle(self, reservation: Reservation, cost: int) -> None:
        """End a reservation with the cost of its call in nano-dollars."""
        unpaid = self.account.settle(reservation, cost)
        self._journal.settle(reservation, cost)
        for key, nanos in unpaid.items():
            self._charge(key, nanos)
        self._rate.add(cost, self._monotonic())

    def returns(self) -> bool:
        """Return True if a ledger asks this holder to return what is free."""
        now = self._clock()
        return now is not None and any(
            (ledger := limit.object.ledger) is not None and limit.share.returns(ledger, self.holder, now)
            for limit in self.order
        )

    def start_tasks(self, log: Callable[[str], None]) -> None:
        """Watch every ledger of which the bundle or a slice speaks, and return the money of those that are retired."""
        for name, limit in list(self._limits.items()):
            if limit.watch is None:
                work = keep_running(f"watch of the ledger {name}", partial(limit.object.run, log), log)
                limit.watch = asyncio.create_task(work)
            if limit.share.is_retired and (limit.retirement is None or limit.retirement.done()):
                work = keep_running(f"retired ledger {name}", partial(self._retire, limit), log)
                limit.retirement = asyncio.create_task(work)

    def stop_tasks(self) -> None:
        """Follow no ledger any longer."""
        for limit in self._limits.values():
            limit.stop()

    async def take(self, now: int, waiting: Callable[[], Sequence[int]]) -> Collection[LedgerLimit]:
        """Take money for calls that wait, from the total of all agents first.

        Args:
            now: Seconds since the epoch, of the API server.
            waiting: Returns the worst cases of the calls that wait, first come first.

        Returns:
            The ledgers that have answered. The calls lack money only if all have.

        Raises:
            JournalFailed: The journal cannot be written, so nothing may be taken.
        """
        self._journal.start()
        answered: list[LedgerLimit] = []
        for limit in self.order:
            if not self._may_write(limit) or not await self._write(limit, now, waiting()):
                break
            answered.append(limit)
        return answered

    async def settle_due(self, now: int, *, but: Collection[LedgerLimit] = ()) -> None:
        """Write to each ledger that needs it, although no call waits for it; the total of all agents last."""
        for limit in reversed(self.order):
            if limit not in but and self._may_write(limit) and self._is_due(limit, now):
                await self._write(limit, now)

    async def end_former(self, now: int) -> None:
        """End the slices of the runs before this one in every ledger, then delete their journals."""
        for limit in reversed(self.order):
            if self._may_write(limit):
                await self._end_former_in(limit, now)
        self._drop_former()

    async def finish(self, seconds: float) -> None:
        """Settle, and return what is free, because the guard ends. The journals keep what is still open.

        That includes the slices of the runs before this one: the guard may end before its first round has ended them.

        Args:
            seconds: How long the writes may take. The ledgers are written at the same time.
        """
        for held in self.account.slices.values():
            held.granted -= max(0, held.free)
        now = self._clock()
        if now is not None:
            writes = {asyncio.create_task(self._return_all(limit, now)): limit for limit in self._limits.values()}
            if writes:
                _, pending = await asyncio.wait(writes, timeout=seconds)
                for task in pending:
                    task.cancel()
                    self._note(
                        writes[task],
                        f"the ledger {writes[task].share.name} has not answered within {seconds:g} s of the guard's "
                        "end: the next run of this container settles what is reserved there, or all of it is spent",
                    )
                await asyncio.gather(*writes, return_exceptions=True)
            self._drop_former()
        self._journal.close()

    async def _return_all(self, limit: LedgerLimit, now: int) -> None:
        """Write everything that this holder and those before it have to say to one ledger."""
        for _ in range(2):
            await self._end_former_in(limit, now)  # first: what it charges to this holder is written next
            await self._write(limit, now)
            if not self._has_former(limit):
                return  # else a ledger had closed this holder, which is now one of those before another

    async def _end_former_in(self, limit: LedgerLimit, now: int) -> None:
        if self._has_former(limit):
            await self._attempt(limit, partial(self._end_runs, limit, now))

    def _drop_former(self) -> None:
        """Delete the journals of the runs whose slices are ended in every ledger."""
        for run in list(self._journal.former):
            if self._limits and all(run.holder in limit.former for limit in self._limits.values()):
                self._journal.drop_former(run)

    async def _retire(self, limit: LedgerLimit) -> None:
        """Return the money of a ledger that the bundle no longer names, and forget the ledger."""
        while limit.share.is_retired and (limit.may_have_money or self._has_former(limit)):
            now = self._clock()
            if now is not None and self._may_write(limit):
                if self._has_former(limit):
                    await self._end_former_in(limit, now)
                elif limit.object.ledger is None or self._is_due(limit, now):
                    await self._write(limit, now)
            if limit.gone_at is not None and self._monotonic() - limit.gone_at >= GONE_SECONDS:
                self._give_up(limit)
                break
            await asyncio.sleep(TICK_SECONDS)
        if limit.share.is_retired:
            del self._limits[limit.share.name]
            if limit.watch is not None:
                limit.watch.cancel()

    def _give_up(self, limit: LedgerLimit) -> None:
        """Go on as another holder, if the present one has a slice of a ledger that is gone.

        The operator then finds the present one silent. It counts what that one had as spent, should the ledger be back.
        A slice of which no answer came is no reason: nothing was spent from it.
        """
        if limit.share.slices():
            self._start_again(f"the ledger {limit.share.name} is gone")

    def _may_write(self, limit: LedgerLimit) -> bool:
        return self._monotonic() >= limit.retry_at

    def _is_due(self, limit: LedgerLimit, now: int) -> bool:
        ledger = limit.object.ledger
        return ledger is not None and limit.share.is_due(
            ledger, self.holder, now, self._monotonic(), spread=self._spread
        )

    def _has_former(self, limit: LedgerLimit) -> bool:
        return any(run.holder not in limit.former for run in self._journal.former)

    async def _attempt(self, limit: LedgerLimit, work: Callable[[], Awaitable[object]]) -> bool:
        """Work on one ledger; return whether it has answered. A failure pauses this ledger alone."""
        try:
            async with limit.lock:
                await work()
        except HolderClosed:
            self._start_again("it was closed")
            self._on_change(limit)
            return False
        except Exception as error:  # noqa: BLE001 - whatever one ledger does to this guard reaches no other ledger
            is_expected = isinstance(error, LedgerAway)
            self._note(limit, str(error) if is_expected else f"{limit.share.name}: unexpected error: {explain(error)}")
            limit.fail(error, self._monotonic())
            return False
        limit.succeed()
        self._note(limit, "")
        return True

    async def _write(self, limit: LedgerLimit, now: int, waiting: Sequence[int] = ()) -> bool:
        """Write everything that this holder has to say to one ledger; return whether it has answered."""
        return await self._attempt(limit, partial(self._change, limit, now, waiting))

    async def _change(self, limit: LedgerLimit, now: int, waiting: Sequence[int]) -> None:
        share, bound = limit.share, self._bound_of_others(limit, now)

        def change(ledger: Ledger) -> Ledger:
            changed = share.change(
                ledger,
                holder=self.holder,
                pod_uid=self._pod_uid,
                now=now,
                monotonic=self._monotonic(),
                waiting=waiting,
                others_available=bound,
            )
            self._note_grants(share)  # before the write: its answer may be lost, and what it returns is gone
            return changed

        stored = await limit.object.change(change)
        known = set(share.slices())  # with those that `_charge` has added meanwhile, and has noted
        idle = share.accept(stored, self.holder, self._monotonic())
        for key, held in share.slices().items():
            if key not in known:
                self._journal.charge(key, held.written)  # of a slice that this run had before, and has forgotten
        self._note_grants(share)
        for key in idle:
            self._forget(key)
        self._note_excess(limit)

    def _note_grants(self, share: LedgerShare) -> None:
        for key, held in share.slices().items():
            if held.is_known:
                self._journal.grant(key, held.granted)

    def _bound_of_others(self, limit: LedgerLimit, now: int) -> int:
        """Return what the other ledgers can give to calls that wait for this one, too."""
        bound = MAX_MONEY
        for other in self.order:
            ledger = other.object.ledger
            if other is not limit and ledger is not None:
                is_first = limit.share.is_total
                bound = min(bound, other.share.available(ledger, now) if is_first else other.share.free(ledger))
        return bound

    async def _end_runs(self, limit: LedgerLimit, now: int) -> None:
        for run in [one for one in self._journal.former if one.holder not in limit.former]:
            unpaid: dict[AccountKey, int] = {}
            await limit.object.change(partial(self._end_run, limit, run, now, unpaid))
            for key, nanos in unpaid.items():
                self._charge(key, nanos)
            limit.former.add(run.holder)

    def _end_run(
        self, limit: LedgerLimit, run: FormerRun, now: int, unpaid: dict[AccountKey, int], ledger: Ledger
    ) -> Ledger:
        unpaid.clear()
        unpaid.update(limit.share.unpaid(ledger, run))
        return limit.share.end_former(ledger, run, now)

    def _charge(self, key: AccountKey, nanos: int) -> None:
        """Charge what no slice has paid, unless its ledger was given up."""
        limit = self._limits.get(key.ledger)
        if limit is None:
            return
        ledger, now = limit.object.ledger, self._monotonic()
        one = None if ledger is None else ledger.find(SliceKey(self.holder, key.day_start, key.month_start))
        if one is not None and key not in self.account.slices:  # forgotten, or of a write without an answer
            # What the slice has is not for calls: a write that returns it may be on its way.
            self.account.grant(key, one.settled, one.settled, now)
            self._journal.charge(key, one.settled)
        self.account.charge(key, nanos, now)
        self._journal.charge(key, nanos)

    def _forget(self, key: AccountKey) -> None:
        self.account.drop(key)
        self._journal.forget(key)

    def _start_again(self, cause: str) -> None:
        """Go on as another holder. What the present one has of a ledger that has closed it, or is gone, is spent."""
        self._log(f"budget: the holder {self.holder} ends, because {cause}: what it had there counts as spent")
        self._journal.renew({key: held.granted for key, held in self.account.slices.items()})
        self.account.restart()

    def _handle_change(self, name: str) -> None:
        limit = self._limits.get(name)
        if limit is not None:
            self._note_excess(limit)
            if limit.was_away and not limit.object.is_away:
                limit.retry_at = 0.0  # calls that come now need not wait for the end of a pause
            limit.was_away = limit.object.is_away
            self._on_change(limit)

    def _note_excess(self, limit: LedgerLimit) -> None:
        now, ledger = self._clock(), limit.object.ledger
        limit.is_over = now is None or ledger is None or excess(ledger, limit.share.terms, now) > 0

    def _note(self, limit: LedgerLimit, trouble: str) -> None:
        if trouble != limit.trouble:
            self._log(f"budget: {trouble or f'the ledger {limit.share.name} is written again'}")
        limit.trouble = trouble
