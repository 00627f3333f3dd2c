"""Guards' budgets on ledgers in memory."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec.structs import replace

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.ledger import Ledger
from interlock_contract.bundle import AgentIdentity, Bundle
from interlock_contract.clock import monotonic
from interlock_guard.budget.account import Reservation
from interlock_guard.budget.budget import Budget
from interlock_guard.budget.journal import Journal
from interlock_guard.budget.ledger_object import LedgerObject
from interlock_guard.state import LiveState
from tests.support.bounds import WAIT_SECONDS, until
from tests.support.ledger_store import LedgerStore
from tests.support.virtual_time import run_in_virtual_time

OWN, TOTAL = "triage.staging", "support.total"
NOON = 1_772_366_400
"""2026-03-01T12:00:00Z."""
DAY_END = NOON + 12 * 3600


class BudgetBench:
    """Guards on one store."""

    def __init__(self, folder: Path) -> None:
        self.store, self.now, self.folder = LedgerStore(), NOON, folder
        self.logs: list[str] = []
        self.knows_time = True
        self._began: float | None = None
        self.lives: dict[Budget, LiveState] = {}
        self._running: dict[Budget, asyncio.Task[None]] = {}

    def limit(
        self,
        *,
        day: int | None,
        month: int | None = None,
        total_day: int | None = None,
        per_task: int | None = None,
    ) -> None:
        """Set the limits, and make the ledgers where they are missing."""
        total = None if total_day is None else TOTAL
        self.terms = BundleBudget(OWN, day, month, total_ledger=total, total_day=total_day, per_task=per_task)
        for name in (OWN, total):
            if name is not None and name not in self.store.objects:
                self.store.put(name, Ledger())

    async def start(self, pod: str = "pod-a", *, waits: bool = True) -> Budget:
        """Start the guard of a pod; a second one with the same pod is the next run of its container."""
        live = LiveState()
        identity = AgentIdentity("triage", "agents", "uid")
        live.bundle = Bundle(4, identity, "r", "staging", "staging", (), (), budget=self.terms)
        runs = len([one for one in self._running if one.holder.startswith(f"{pod}/")])
        budget = Budget(
            live=live,
            open_ledger=lambda name, on_change: LedgerObject(self.store, "agents", name, on_change),
            journal=Journal(self.folder / pod, pod, 1000 + runs),
            pod_uid=pod,
            clock=self._time,
            monotonic=monotonic,
            log=self.logs.append,
        )
        live.reactions = [budget.follow]
        budget.follow()
        self.lives[budget] = live
        self._running[budget] = asyncio.create_task(budget.run(self.logs.append))
        if waits:
            await self.until(lambda: not budget.is_away, "the guard knows its ledgers")
        return budget

    def clock_runs(self) -> None:
        """Let the time of the API server pass with the monotonic clock."""
        self._began = monotonic()

    def _time(self) -> int | None:
        passed = 0 if self._began is None else int(monotonic() - self._began)
        return self.now + passed if self.knows_time else None

    def relimit(self, budget: Budget, **limits: int | str | None) -> None:
        """Give one guard a bundle with other limits."""
        self.terms = replace(self.terms, **limits)
        live = self.lives[budget]
        assert live.bundle is not None
        live.bundle = replace(live.bundle, budget=self.terms)
        budget.follow()

    async def kill(self, budget: Budget) -> None:
        """End a guard as SIGKILL does: nothing is settled, only its journal stays."""
        task = self._running[budget]
        task.cancel()
        await asyncio.wait([task])

    async def end(self, budget: Budget) -> None:
        """End a guard as SIGTERM does: the last writes follow the end of its rounds, whatever these were doing."""
        await self.kill(budget)
        self.store.answers.set()
        await budget.finish(1)

    async def close(self) -> None:
        for budget in self._running:
            await self.kill(budget)

    async def until(self, holds: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
        def describe() -> str:
            return f"{what}; {self.store.ledger(OWN)}; {self.logs}"

        await until(holds, describe, seconds)

    async def reserved(self, budget: Budget, amount: int) -> Reservation:
        found = await budget.reserve(amount)
        assert isinstance(found, Reservation), found
        return found

    def committed(self, name: str = OWN) -> int:
        """Return what is spent or in open slices."""
        return self.store.ledger(name).committed("day")

    def spent(self, name: str = OWN) -> int:
        return self.store.ledger(name).day.spent


def followed(budget: Budget) -> set[str]:
    """Return the ledgers that a guard follows: those that its bundle names, and those that it still has money of."""
    return set(budget._ledgers._limits)  # noqa: SLF001 - what it follows


def known_ledgers(budget: Budget) -> list[Ledger | None]:
    """Return the ledgers that limit a guard's agent, as the guard knows them."""
    return [limit.object.ledger for limit in budget._ledgers.order]  # noqa: SLF001 - what it knows


def in_virtual_time(folder: Path, work: Callable[[BudgetBench], Awaitable[None]]) -> None:
    """Run a test on guards whose waits take no time."""

    async def run() -> None:
        random.seed(5)  # the pauses between two tries
        bench = BudgetBench(folder)
        try:
            await work(bench)
        finally:
            await bench.close()

    run_in_virtual_time(run())
