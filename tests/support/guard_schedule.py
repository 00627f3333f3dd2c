"""Random schedules of real guards' budgets: kills, partitions, lost answers, midnights, credits and new limits.

What `tests/support/budget_simulation` does with small holders, this does with `interlock_guard.budget`, its journal on
disk and its watches, in virtual time.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from msgspec.structs import replace
from typing_extensions import override

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.leases import PERIODS, close_holder, set_credit, settle
from interlock_contract.budget.ledger import Credit, Ledger, SliceKey
from interlock_contract.budget.windows import Period
from interlock_contract.bundle import AgentIdentity, Bundle
from interlock_contract.clock import monotonic
from interlock_guard.budget.account import Reservation
from interlock_guard.budget.budget import Budget
from interlock_guard.budget.journal import Journal
from interlock_guard.budget.ledger_object import LedgerObject
from interlock_guard.decision.decide import DenyReason
from interlock_guard.state import LiveState
from interlock_kube.client import FORBIDDEN, ApiError, KubeClient
from tests.support.budget_bench import followed
from tests.support.budget_simulation.audit import paid_by_credit
from tests.support.ledger_store import LedgerStore

OWN, TOTAL = "triage.staging", "support.total"
EVENING: Final = 1_774_738_740  # 2026-03-28T22:59:00Z, a minute before a day of 23 hours begins in Berlin
SILENCE_SECONDS: Final = 62
ANSWER_SECONDS: Final = 1.5
"""Seconds within which other guards return what one of them lacks."""
SAMPLE_SECONDS: Final = 0.25
QUIET_SECONDS: Final = 120
"""Seconds within which guards return all money, and give up ledgers that are gone."""
STEPS: Final = 60
WindowKey = tuple[str, Period, int]


class BudgetBroken(AssertionError):  # noqa: N818 - says the state of a promise
    """A promise is broken."""


class AuditedStore(LedgerStore):
    """Checks each version of a ledger against the one before, and against what was spent."""

    def __init__(self) -> None:
        super().__init__()
        self.true: Counter[WindowKey] = Counter()
        self.overruns: Counter[WindowKey] = Counter()
        self.ceilings: dict[tuple[str, Period], int] = {}
        """The highest limit that any guard had; none where there is no limit."""
        self.credits: list[int] = []
        """The largest amount of each chain of credits that replaced each other while they were in force."""
        self.latest: dict[str, Ledger] = {}

    @override
    def _store(self, name: str, status: dict[str, Any]) -> None:
        before = self.latest.get(name, Ledger())
        super()._store(name, status)
        after = self.latest[name] = self.ledger(name)
        for period in PERIODS:
            fallen = {one.start: one.spent for one in (before.window(period), *before.closed(period)) if one.end}
            for one in (after.window(period), *after.closed(period)):
                if one.spent < fallen.get(one.start, 0):
                    raise BudgetBroken(f"(4) spent of {name} fell to {one.spent}")
        for period in PERIODS:
            beyond, ceiling = 0, self.ceilings.get((name, period))
            for one in (after.window(period), *after.closed(period)):
                key: WindowKey = (name, period, one.start)
                if ceiling is not None:
                    beyond += max(0, _committed(after, period, one.start) - ceiling - self.overruns[key])
            if beyond > (sum(self.credits) if name == OWN else 0):
                raise BudgetBroken(f"(1) {name} is {beyond} beyond its limits of the {period}")
        self.check_truth(name)

    def check_truth(self, name: str) -> None:
        """Check that a ledger has what was spent.

        Raises:
            BudgetBroken: It has less.
        """
        ledger = self.latest[name]
        for period in PERIODS:
            for one in (ledger.window(period), *ledger.closed(period)):
                true = self.true[name, period, one.start]
                if true > (known := _committed(ledger, period, one.start)):
                    raise BudgetBroken(f"(2) {name} has {known} of the {period}, {true} were spent")


class Connection(KubeClient):
    """One guard's connection to the store: it is slow, breaks, and loses answers."""

    def __init__(self, store: AuditedStore, random: Random, fault_rate: float) -> None:  # nothing of the client
        self.is_cut = False
        self.is_dead = False
        self._store, self._random, self.fault_rate = store, random, fault_rate
        self.forbidden = ""
        """A ledger that the guard's Role does not name."""

    @override
    async def get(self, path: str, query: Mapping[str, str] | None = None, **_: Any) -> dict[str, Any]:
        await self._travel()
        self._check_role(path, query)
        found = await self._store.get(path, query)
        await self._travel()
        return found

    @override
    async def update(self, path: str, body: dict[str, Any], manager: str) -> dict[str, Any]:
        await self._travel()
        self._check_role(path)
        fault = self._random.random()
        if fault < self.fault_rate / 2:
            raise TimeoutError
        found = await self._store.update(path, body, manager)
        if fault < self.fault_rate:
            raise TimeoutError
        await self._travel()
        return found

    @override
    async def lines(self, path: str, query: Mapping[str, str], **_: Any) -> AsyncIterator[dict[str, Any]]:
        self._check_role(path, query)
        async for event in self._store.lines(path, query):
            await self._travel()
            yield event

    def _check_role(self, path: str, query: Mapping[str, str] | None = None) -> None:
        if self.forbidden and self.forbidden in f"{path} {query}":
            raise ApiError(FORBIDDEN, "forbidden")

    async def _travel(self) -> None:
        await asyncio.sleep(self._random.choice((0, 0.002, 0.01, 0.1)))
        if self.is_cut:
            raise OSError("no route")
        if self.is_dead:
            await asyncio.Event().wait()


@dataclass(eq=False)
class Guard:
    """One process of a guard."""

    pod: str
    budget: Budget
    live: LiveState
    journal: Journal
    connection: Connection
    calls: "list[asyncio.Task[None]]" = field(default_factory=list)
    work: "asyncio.Task[None] | None" = None
    cut_at: float = 0.0


class GuardSchedule:
    """A cluster with guards, run by a source of random numbers."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random, self.folder = Random(seed), folder  # noqa: S311 - a test repeats by its seed
        random.seed(seed)  # the pauses of guards
        self.store, self.counts = AuditedStore(), Counter[str]()
        self.logs: list[str] = []
        self.guards: list[Guard] = []
        self.fault_rate = self.random.choice((0.0, 0.0, 0.1, 0.3))
        self.numbers = 0
        self.rooms: deque[tuple[float, int]] = deque()
        """What a call could get if all guards returned what they have not reserved, in the last seconds."""
        self.forbidden = ""
        """A ledger that the Role of the guards does not name."""
        self.unsteady_until = 0.0
        """Until when guards may not know yet what has changed."""
        total = self.random.choice((None, 150, 400))
        zone = self.random.choice(("UTC", "Europe/Berlin"))
        day, month = self.random.choice((100, 200, 300)), self.random.choice((None, None, 150, 250, 350))
        self.terms = BundleBudget(OWN, day, month, TOTAL if total else None, total, time_zone=zone)
        self.is_exact = self.fault_rate == 0
        self.store.ceilings = {(OWN, "day"): day, (TOTAL, "day"): total or 0}
        if month is not None:
            self.store.ceilings[OWN, "month"] = month
        for name in (OWN, TOTAL):
            self.store.put(name, Ledger())

    def now(self) -> int:
        """Return the time of the API server."""
        return EVENING + int(monotonic())

    async def run(self) -> Counter[str]:
        """Run the schedule and return what happened.

        Raises:
            BudgetBroken: A promise is broken.
        """
        for number in range(self.random.randint(1, 3)):
            self.start(f"pod-{number}")
        actions = [
            *[self.call] * 24,
            *[self.wait] * 8,
            *(self.kill, self.delete_pod, self.cut_off, self.relimit, self.give_credit, self.change_total),
        ]
        sampling = asyncio.create_task(self._sample())
        try:
            for _ in range(STEPS):
                await self.random.choice(actions)()
                self.close_silent()
                self._raise_broken()
            sampling.cancel()
            await self.end()
        finally:
            sampling.cancel()
            for guard in list(self.guards):
                await self._stop(guard)
        return self.counts

    def start(self, pod: str) -> None:
        """Start a process of a guard, which reads the journal of those before it."""
        self.numbers += 1
        live = LiveState()
        live.bundle = Bundle(
            *(4, AgentIdentity("triage", "agents", "uid"), "r", "staging", "staging", (), ()), budget=self.terms
        )
        connection = Connection(self.store, self.random, self.fault_rate)
        connection.forbidden = self.forbidden
        journal = Journal(self.folder / pod, pod, 1000 + self.numbers)
        budget = Budget(
            live=live,
            open_ledger=lambda name, on_change: LedgerObject(connection, "agents", name, on_change),
            journal=journal,
            pod_uid=pod,
            clock=self.now,
            monotonic=monotonic,
            log=self.logs.append,
            spread=self.random.random(),
        )
        budget.follow()
        guard = Guard(pod, budget, live, journal, connection)
        guard.work = asyncio.create_task(budget.run(self.logs.append))
        self.guards.append(guard)
        self._unsettle()

    # What happens

    async def call(self) -> None:
        """Begin some calls of one guard."""
        guard = self._any()
        if guard is not None:
            for _ in range(self.random.choice((1, 1, 4, 12))):
                worst = self.random.choice((1, 5, 5, 20, 60))
                true = self.random.choice((0, worst // 2, worst, worst))
                task = asyncio.create_task(self._call(guard, worst, true + (self.random.random() < 0.03) * 7))
                guard.calls.append(task)

    async def wait(self) -> None:
        """Let time pass; the seventh second of a minute can be midnight."""
        await asyncio.sleep(self.random.choice((0, 0.01, 0.3, 1, 3, 10, 40)))

    async def kill(self) -> None:
        """End a process as SIGKILL does. The kubelet starts the container again."""
        guard = self._any()
        if guard is not None:
            self.counts["kills"] += 1
            self.is_exact = False
            await self._stop(guard)
            await asyncio.sleep(self.random.choice((0, 0.5, 5)))
            self.start(guard.pod)

    async def delete_pod(self) -> None:
        """End a pod without warning, and start another one. The operator closes the first one."""
        guard = self._any()
        if guard is not None:
            self.counts["lost pods"] += 1
            self.is_exact = False
            await self._stop(guard)
            await asyncio.sleep(self.random.choice((0, 2)))
            self._close(f"{guard.pod}/")
            self.start(f"pod-{self.numbers}-again")

    async def cut_off(self) -> None:
        """Cut a guard off, or connect all."""
        guard = self._any()
        if guard is not None and not guard.connection.is_cut and self.random.random() < 0.6:
            self.counts["partitions"] += 1
            self.is_exact = False
            guard.connection.is_cut, guard.cut_at = True, monotonic()
        else:
            for one in self.guards:
                one.connection.is_cut = False
            self._unsettle()

    async def relimit(self) -> None:
        """Give all guards a bundle with another limit of the day."""
        day = self.random.choice((60, 100, 300))
        self.terms = replace(self.terms, day=day)
        self.store.ceilings[OWN, "day"] = max(self.store.ceilings[OWN, "day"], day)
        self.counts["limits"] += 1
        self._deliver()

    async def change_total(self) -> None:
        """Take the total out of the policy, often before guards have returned what they had of it, or put it back."""
        self.counts["changed totals"] += 1
        if self.terms.total_ledger is None:
            day = max(150, self.store.ceilings[TOTAL, "day"])
            self.store.ceilings[TOTAL, "day"] = day
            self.terms, self.forbidden = replace(self.terms, total_ledger=TOTAL, total_day=day), ""
        else:
            self.terms = replace(self.terms, total_ledger=None, total_day=None)
            self.forbidden = self.random.choice(("", TOTAL))
            if self.forbidden:
                self.counts["ledgers taken away"] += 1
                self.is_exact = False
        for guard in self.guards:
            guard.connection.forbidden = self.forbidden
        self._deliver()

    async def give_credit(self) -> None:
        """Give one credit; later ones replace it while it is in force."""
        amount = self.random.choice((50, 90))
        ledger = self.store.ledger(OWN)
        if ledger.credit is None or self.now() < ledger.credit.until:
            self.store.credits[-1:] = [max([*self.store.credits[-1:], amount])]
        else:
            self.store.credits.append(amount)
        self.counts["credits"] += 1
        self._unsettle()
        credit = Credit(amount, self.now() + self.random.choice((5, 300)), f"launch {self.numbers}", self.now())
        self.store.put(OWN, set_credit(ledger, credit, self.now()))

    def close_silent(self) -> None:
        """Close the holders of guards that are cut off for longer than two leases."""
        for guard in self.guards:
            if guard.connection.is_cut and monotonic() - guard.cut_at > SILENCE_SECONDS:
                self._close(guard.budget.holder)

    async def end(self) -> None:
        """Let all calls end, and compare the books.

        Raises:
            BudgetBroken: They differ.
        """
        for guard in self.guards:
            guard.connection.is_cut = False
            guard.connection.fault_rate = 0
        self._unsettle()
        await asyncio.sleep(QUIET_SECONDS)
        self._raise_broken()
        for guard in self.guards:
            known = followed(guard.budget)
            if known != {name for name, _, _ in self.terms.ledgers}:
                raise BudgetBroken(f"a guard still follows {known}")
        if self.counts["changed totals"]:
            self._close_unknown(TOTAL)
        self._check_returned()
        for name, _, _ in self.terms.ledgers:
            ledger = self.store.ledger(name)
            for window in (ledger.day, *ledger.days):
                key: WindowKey = (name, "day", window.start)
                true = self.store.true[key] + (0 if self._may_lose_overruns(name) else self.store.overruns[key])
                if window.spent < true or (self.is_exact and window.spent != true):
                    raise BudgetBroken(f"(B3) {name} has {window.spent} in the end, {true} were spent")

    # Below

    def _check_returned(self) -> None:
        """Check that all money is back, in ledgers that the bundle no longer names, too.

        Raises:
            BudgetBroken: Some is not.
        """
        for name in {OWN, TOTAL} - {self.forbidden}:
            for one in self.store.ledger(name).slices:
                if one.amount:
                    raise BudgetBroken(f"{name} has an open slice when no call is under way: {one}")

    def _may_lose_overruns(self, name: str) -> bool:
        """Return True if usage above a reservation may be in no ledger: its journal, or its ledger, was taken away."""
        return bool(self.counts["lost pods"] or (name == TOTAL and self.counts["changed totals"]))

    async def _call(self, guard: Guard, worst: int, true: int) -> None:
        found = await guard.budget.reserve(worst)
        if not isinstance(found, Reservation):
            self.counts[found.reason] += 1
            if found.reason == DenyReason.BUDGET_EXHAUSTED:
                self._check_refusal(guard, worst)
            return
        self.counts["forwarded"] += 1
        self._note_room()  # between two samples, calls that end at once may reserve all there is
        for key in found.keys:
            self.store.true[key.ledger, "day", key.day_start] += min(true, worst)
            self.store.true[key.ledger, "month", key.month_start] += min(true, worst)
            self.store.check_truth(key.ledger)
        await asyncio.sleep(self.random.choice((0, 0.01, 0.2, 2, 20)))
        cost = true
        if true <= worst and self.random.random() < 0.1:
            cost, self.is_exact = worst, self.is_exact and true == worst
        for key in found.keys:
            self.store.overruns[key.ledger, "day", key.day_start] += max(0, cost - worst)
            self.store.overruns[key.ledger, "month", key.month_start] += max(0, cost - worst)
        guard.budget.settle(found, cost)

    def _check_refusal(self, guard: Guard, worst: int) -> None:
        """Check that a refusal was right: that there was no room for the call in all of the last seconds.

        Raises:
            BudgetBroken: There was.
        """
        since = monotonic() - ANSWER_SECONDS
        is_steady = self.fault_rate == 0 and since > self.unsteady_until and self.rooms and self.rooms[0][0] <= since
        if is_steady and not guard.connection.is_cut:
            self.counts["checked refusals"] += 1
            least = min(room for at, room in self.rooms if at >= since)
            if min(least, self._room()) >= worst:
                raise BudgetBroken(f"(3) {worst} was refused, and there was room for {least}")

    async def _sample(self) -> None:
        while True:
            self._note_room()
            while len(self.rooms) > 1 and self.rooms[1][0] < monotonic() - ANSWER_SECONDS:
                self.rooms.popleft()
            await asyncio.sleep(SAMPLE_SECONDS)

    def _note_room(self) -> None:
        self.rooms.append((monotonic(), self._room()))

    def _room(self) -> int:
        """Return what a call could get now if every guard returned what it has not reserved."""
        found, now = [], self.now()
        for name, limits, _ in self.terms.ledgers:
            ledger = self.store.latest[name]
            if now >= ledger.day.end:
                return 0
            for guard in self.guards:
                if not guard.connection.is_cut:
                    ledger = _returned(ledger, name, guard, now)
            for period in PERIODS:
                limit = limits.limit(period)
                if limit is not None:
                    found.append(limit + paid_by_credit(ledger, period, now) - ledger.committed(period))
        return min(found)

    def _deliver(self) -> None:
        """Give all guards the present limits."""
        self._unsettle()
        for guard in self.guards:
            assert guard.live.bundle is not None
            guard.live.bundle = replace(guard.live.bundle, budget=self.terms)
            guard.budget.follow()

    def _unsettle(self) -> None:
        self.unsteady_until = monotonic() + 2

    def _raise_broken(self) -> None:
        for guard in self.guards:
            for task in list(guard.calls):
                if task.done():
                    guard.calls.remove(task)
                    task.result()
            if guard.work is not None and guard.work.done():
                guard.work.result()
        broken = [line for line in self.logs if "BudgetBroken" in line or "unexpected error" in line]
        if broken:
            raise BudgetBroken(broken[0])

    def _any(self) -> Guard | None:
        return self.random.choice(self.guards) if self.guards else None

    async def _stop(self, guard: Guard) -> None:
        """End a process: from now on it writes neither to a ledger nor to its journal."""
        guard.connection.is_dead = True
        setattr(guard.journal, "_write", lambda _: None)  # noqa: B010 - a dead process
        tasks = [*guard.calls, *([guard.work] if guard.work else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.guards.remove(guard)

    def _close_unknown(self, name: str) -> None:
        """Close the holders of which no sign of life comes: no guard goes by their names any longer."""
        known = {guard.budget.holder for guard in self.guards}
        for holder in {one.holder for one in self.store.ledger(name).slices} - known:
            self._close(holder)

    def _close(self, prefix: str) -> None:
        for name in (OWN, TOTAL):
            ledger = self.store.ledger(name)
            for holder in dict.fromkeys(one.holder for one in ledger.slices if one.holder.startswith(prefix)):
                ledger = close_holder(ledger, holder)
                self.counts["closed"] += 1
            if ledger != self.store.ledger(name):
                self.store.put(name, ledger)


def _returned(ledger: Ledger, name: str, guard: Guard, now: int) -> Ledger:
    """Return a ledger as if a guard had returned what it has not reserved."""
    for key, held in guard.budget._ledgers.account.slices.items():  # noqa: SLF001 - what it has reserved
        if key.ledger == name:
            named = SliceKey(guard.budget.holder, key.day_start, key.month_start)
            ledger = settle(ledger, named, charged=held.settled, reserved=held.reserved, spare=0, now=now)
    return ledger


def _committed(ledger: Ledger, period: Period, start: int) -> int:
    windows = (ledger.window(period), *ledger.closed(period))
    spent = sum(one.spent for one in windows if one.start == start)
    starts = ((one.day_start if period == "day" else one.month_start, one.amount) for one in ledger.slices)
    return spent + sum(amount for begun, amount in starts if begun == start)
