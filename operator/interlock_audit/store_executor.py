"""The store executor: it runs the store in a thread of its own and counts the results."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from interlock_audit.quotas import NO_QUOTAS, Level, Quotas, Usage, find_levels
from interlock_audit.stores import (
    Accepted,
    Batch,
    ChainState,
    Fork,
    Gap,
    OverQuota,
    Query,
    Store,
    Stored,
    StoreUnavailable,
)

Result = TypeVar("Result")

_PRUNE_SECONDS: Final = 3600.0
_QUOTA_SECONDS: Final = 60.0
_STAMP_LENGTH: Final = len("2026-03-02T09:00:00.000")


def stamp(time: datetime) -> str:
    """Return a time in UTC as records spell it."""
    return time.isoformat(timespec="milliseconds")[:_STAMP_LENGTH] + "Z"


class StoreExecutor:
    """An asynchronous interface to the store, with retention and counters.

    Args:
        store: The store, used only here.
        clock: The wall clock, in UTC.
        log: Writes a line about the collector itself.
        quotas: The quotas of the store, for alarms.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        log: Callable[[str], None],
        quotas: Quotas = NO_QUOTAS,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Counters, by the name of their metric."""
        self.alarms = 0
        """Agents and namespaces that use 80 % of their quota or more."""
        self._store, self._clock, self._log, self.quotas = store, clock, log, quotas
        self._reported: set[tuple[str, bool]] = set()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

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
        return await self._run(self._store.find, query)

    async def chains(self, namespace: str) -> list[ChainState]:
        """Return the states of chains; see `Store.chains`."""
        return await self._run(self._store.chains, namespace)

    async def lines(self, guard: str, start: int, limit: int) -> list[Stored]:
        """Return records of one chain; see `Store.lines`."""
        return await self._run(self._store.lines, guard, start, limit)

    async def usage(self) -> list[Usage]:
        """Return what every agent has stored; see `Store.usage`."""
        return await self._run(self._store.usage)

    async def watch_quotas(self) -> None:
        """Find the agents and namespaces that use 80 % of a quota or more, and log each new one."""
        levels = [level for level in find_levels(await self.usage(), self.quotas) if level.is_alarming]
        self.alarms = len(levels)
        self._reported = {key for key in self._reported if key[0] in {level.owner for level in levels}}
        for level in levels:
            self._report(level, is_refused=False)

    async def keep_watching_quotas(self) -> None:
        """Watch the quotas every minute, until cancelled."""
        while True:
            try:
                await self.watch_quotas()
            except StoreUnavailable as error:
                self._log(f"quotas could not be checked, next try in a minute: {error}")
            await asyncio.sleep(_QUOTA_SECONDS)

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
        while removed := await self._run(self._store.prune, before):
            self.counts["pruned_total"] += removed

    async def keep_pruning(self, keep: timedelta) -> None:
        """Prune now and every hour, until cancelled."""
        while True:
            try:
                await self.prune(keep)
            except StoreUnavailable as error:
                self._log(f"expired records could not be deleted, next try in an hour: {error}")
            await asyncio.sleep(_PRUNE_SECONDS)

    async def close(self) -> None:
        """Close the store after its pending requests."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._store.close)
        self._executor.shutdown()

    async def _run(self, function: Callable[..., Result], *arguments: object) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *arguments))
        except StoreUnavailable:
            self.counts["unavailable_total"] += 1
            raise
