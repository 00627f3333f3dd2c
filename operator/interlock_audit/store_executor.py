"""The store executor: it runs the store in a thread of its own and counts the results."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from interlock_audit.stores import Accepted, Batch, ChainState, Fork, Gap, Query, Store, Stored, StoreUnavailable

Result = TypeVar("Result")

_PRUNE_SECONDS: Final = 3600.0
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
    """

    def __init__(self, store: Store, clock: Callable[[], datetime], log: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        """Counters, by the name of their metric."""
        self._store, self._clock, self._log = store, clock, log
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    def now(self) -> str:
        """Return the time as records spell it."""
        return stamp(self._clock())

    async def append(self, batch: Batch) -> Accepted | Gap | Fork:
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
