"""The store in a thread of its own, with a count of what happened to it."""

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
    """Keeps batches, answers queries and takes out what is too old.

    Args:
        store: Nobody else uses it.
        clock: The wall clock, in UTC.
        log: Takes a line about the collector itself.
    """

    def __init__(self, store: Store, clock: Callable[[], datetime], log: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        """What happened, by the name of its metric."""
        self._store, self._clock, self._log = store, clock, log
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    def now(self) -> str:
        """Return the time as records spell it."""
        return stamp(self._clock())

    async def append(self, batch: Batch) -> Accepted | Gap | Fork:
        """Take a batch in; see `Store.append`."""
        result = await self._run(self._store.append, batch)
        guard = batch.lines[0].line.guard
        match result:
            case Accepted():
                self.counts["stored_total"] += result.stored
                self.counts["repeated_total"] += len(batch.lines) - result.stored
                if result.has_hole:
                    self.counts["holes_total"] += 1
                    self._log(f"HOLE: {guard} declares lines {batch.lost} to {batch.lines[0].line.seq - 1} lost")
            case Gap():
                self.counts["gaps_total"] += 1
            case Fork():
                self.counts["forks_total"] += 1
                self._log(f"FORK: {guard} brings another line {result.seq} than the one that is kept, or follows on")
        return result

    async def find(self, query: Query) -> list[Stored]:
        """Return records; see `Store.find`."""
        return await self._run(self._store.find, query)

    async def chains(self, namespace: str) -> list[ChainState]:
        """Return what is noted of chains; see `Store.chains`."""
        return await self._run(self._store.chains, namespace)

    async def lines(self, guard: str, start: int, limit: int) -> list[Stored]:
        """Return records of one chain; see `Store.lines`."""
        return await self._run(self._store.lines, guard, start, limit)

    async def check(self) -> None:
        """Prove that the database answers; see `Store.check`."""
        await self._run(self._store.check)

    async def prune(self, keep: timedelta) -> None:
        """Take out what was received longer ago than that, in steps between which others get their turn.

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
                self._log(f"records that are too old stay for now: {error}")
            await asyncio.sleep(_PRUNE_SECONDS)

    async def close(self) -> None:
        """Let the store go, once it has done what it was asked for."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._store.close)
        self._executor.shutdown()

    async def _run(self, function: Callable[..., Result], *arguments: object) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *arguments))
        except StoreUnavailable:
            self.counts["unavailable_total"] += 1
            raise
