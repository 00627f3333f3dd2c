"""The store executor: it runs the store in threads of its own and counts the results.

Guards must not wait for readers, since a guard whose records are not stored denies calls in the end. So what readers
ask for runs in a second thread, on a second connection to the database.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from interlock_audit.cost_sql import REMOTE_STEP, CostQuery, CostStep
from interlock_audit.quotas import NO_QUOTAS, Level, Quotas, Usage, find_levels
from interlock_audit.stores import (
    Accepted,
    Batch,
    ChainPage,
    Fork,
    Gap,
    OverQuota,
    Query,
    Store,
    Stored,
    StoreUnavailable,
)
from interlock_contract.clock import write_time

Result = TypeVar("Result")

_PRUNE_SECONDS: Final = 3600.0
_WATCH_SECONDS: Final = 60.0


def stamp(time: datetime) -> str:
    """Return a time in UTC as records spell it."""
    return write_time(time, "milliseconds")


class StoreExecutor:
    """An asynchronous interface to the store, with retention and counters.

    Args:
        store: The store for guards, used only here.
        reading: The same store on a connection of its own, for readers, used only here.
        clock: The wall clock, in UTC.
        log: Writes a line about the collector itself.
        quotas: The quotas of the store, for alarms.
    """

    def __init__(
        self,
        store: Store,
        reading: Store,
        clock: Callable[[], datetime],
        log: Callable[[str], None],
        quotas: Quotas = NO_QUOTAS,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Counters, by the name of their metric."""
        self.alarms = 0
        """Agents and namespaces that use 80 % of their quota or more."""
        self.free: float | None = None
        """The part of the disk that is free, None if it is not known."""
        self._store, self._clock, self._log, self.quotas = store, clock, log, quotas
        self._reported: set[tuple[str, bool]] = set()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._reading = reading
        self._reading_executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading")
        self._reader_lock = asyncio.Lock()

    def now(self) -> str:
        """Return the time as records spell it."""
        return stamp(self._clock())

    async def append(self, batch: Batch) -> Accepted | Gap | Fork | OverQuota:
        """Store a batch; see `Store.append`."""
        result = await self._run(self._store.append, batch)
        guard = batch.lines[0].line.guard
        match result:
            case Accepted():
                self.counts["stored_total"] += result.stored
                self.counts["repeated_total"] += len(batch.lines) - result.stored
                if result.declares_gap:
                    self.counts["declared_gaps_total"] += 1
                    self._log(f"GAP: {guard} declares lines {batch.lost} to {batch.lines[0].line.seq - 1} lost")
            case Gap():
                self.counts["gaps_total"] += 1
            case Fork():
                self.counts["forks_total"] += 1
                self._log(f"FORK: {guard} sent line {result.seq}, which differs from the stored chain")
            case OverQuota(level=level):
                self._report(level, is_refused=True)
        return result

    async def find(self, query: Query) -> list[Stored]:
        """Return records; see `Store.find`."""
        return await self._read(self._reading.find, query)

    async def chains(self, namespace: str, after: str) -> ChainPage:
        """Return a page of the states of chains; see `Store.chains`."""
        return await self._read(self._reading.chains, namespace, after)

    async def lines(self, guard: str, start: int, limit: int) -> list[Stored]:
        """Return records of one chain; see `Store.lines`."""
        return await self._read(self._reading.lines, guard, start, limit)

    async def usage(self) -> list[Usage]:
        """Return what every agent has stored; see `Store.usage`."""
        return await self._read(self._reading.usage)

    async def costs(self, query: CostQuery) -> CostStep:
        """Return the sums of one step, of a size that can be sent; see `CostSource`."""
        return await self._read(self._reading.costs, query, REMOTE_STEP)

    async def tidy(self) -> None:
        """Let the database free what only a moment without readers frees; see `Store.tidy`."""
        async with self._reader_lock:
            await self._run(self._store.tidy)

    async def watch_disk(self) -> None:
        """Find out how much of the disk is free."""
        self.free = await self._run(self._store.free)

    async def watch_quotas(self) -> None:
        """Find the agents and namespaces that use 80 % of a quota or more, and log each new one."""
        usages = await self._run(self._store.usage)  # not with the readers, for whom no alarm waits
        levels = [level for level in find_levels(usages, self.quotas) if level.is_alarming]
        self.alarms = len(levels)
        self._reported = {key for key in self._reported if key[0] in {level.owner for level in levels}}
        for level in levels:
            self._report(level, is_refused=False)

    async def keep_watching(self) -> None:
        """Tidy the database, and watch its disk and the quotas, every minute until cancelled."""
        while True:
            try:
                await self.watch_disk()
                await self.tidy()
                await self.watch_quotas()
            except StoreUnavailable as error:
                self._log(f"the database could not be tidied and its quotas not checked, next try in a minute: {error}")
            await asyncio.sleep(_WATCH_SECONDS)

    def _report(self, level: Level, *, is_refused: bool) -> None:
        """Log a level once, until it is no longer alarming."""
        if (level.owner, is_refused) in self._reported:
            return
        self._reported.add((level.owner, is_refused))
        self._log(f"QUOTA: {level.text}" + (": its further records are refused" if is_refused else ""))

    async def check(self) -> None:
        """Check that the database answers; see `Store.check`."""
        await self._run(self._store.check)

    async def prune(self, keep: timedelta) -> None:
        """Delete records that were received longer ago than `keep`, in steps, so that other requests run in between.

        Raises:
            StoreUnavailable: The database refuses.
        """
        before = stamp(self._clock() - keep)
        after: str | None = ""
        while after is not None:
            pruned = await self._run(self._store.prune, before, after)
            self.counts["pruned_total"] += pruned.records
            after = pruned.next

    async def keep_pruning(self, keep: timedelta) -> None:
        """Prune now and every hour, until cancelled."""
        while True:
            try:
                await self.prune(keep)
            except StoreUnavailable as error:
                self._log(f"expired records could not be deleted, next try in an hour: {error}")
            await asyncio.sleep(_PRUNE_SECONDS)

    async def close(self) -> None:
        """Close the store after its pending requests, those of guards first."""
        for executor, store in ((self._executor, self._store), (self._reading_executor, self._reading)):
            await asyncio.get_running_loop().run_in_executor(executor, store.close)
            executor.shutdown()

    async def _read(self, function: Callable[..., Result], *arguments: object) -> Result:
        async with self._reader_lock:
            return await self._run(function, *arguments, executor=self._reading_executor)

    async def _run(
        self, function: Callable[..., Result], *arguments: object, executor: ThreadPoolExecutor | None = None
    ) -> Result:
        run = partial(function, *arguments)
        try:
            return await asyncio.get_running_loop().run_in_executor(executor or self._executor, run)
        except StoreUnavailable:
            self.counts["unavailable_total"] += 1
            raise
