"""One ledger that limits the agent: its object, the holder's part in it, and what follows it."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from interlock_guard.budget.holder import LedgerShare
from interlock_guard.budget.ledger_object import LedgerGone, LedgerObject

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 3.0
"""Seconds between two tries to write a ledger that cannot be written: at first, and after many."""


@dataclass(slots=True, eq=False)
class LedgerLimit:
    """One ledger that limits the agent. It fails alone: its pauses are those of no other ledger.

    Attributes:
        object: The ledger as it is watched and written.
        share: The holder's part in it.
        lock: Held while the ledger is written, so that answers are taken over in their order.
        watch: What follows the ledger.
        retirement: What returns the money of a ledger that the bundle no longer names.
        was_away: Whether it could not be reached at its last change.
        is_over: Whether more is committed than the limit allows, so that nothing that is free may be reserved.
        former: Holders before this one whose slices are ended here.
        trouble: Why it could not be written; empty if it could.
        retry_at: Seconds on the monotonic clock before which it is not written again.
        gone_at: Seconds on the monotonic clock since when there is no such ledger for this guard; None where there is.
    """

    object: LedgerObject
    share: LedgerShare
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    watch: asyncio.Task[None] | None = None
    retirement: asyncio.Task[None] | None = None
    was_away: bool = False
    is_over: bool = False
    former: set[str] = field(default_factory=set)
    trouble: str = ""
    retry_at: float = 0.0
    gone_at: float | None = None
    _failures: int = 0

    @property
    def may_have_money(self) -> bool:
        """Whether the ledger may have something of this holder: a slice, or a write that has no answer yet."""
        return bool(self.share.slices()) or self.share.is_uncertain or self.lock.locked()

    def succeed(self) -> None:
        """Note that it was written, or needs no change."""
        self._failures, self.retry_at, self.gone_at = 0, 0.0, None

    def fail(self, error: Exception, now: float) -> None:
        """Pause after a failure.

        Args:
            error: What happened.
            now: Seconds on the monotonic clock.
        """
        self.share.is_uncertain = True  # the change may have been stored
        self.retry_at = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1
        if isinstance(error, LedgerGone):
            self.gone_at = now if self.gone_at is None else self.gone_at

    def stop(self) -> None:
        """Follow it no longer."""
        for task in (self.watch, self.retirement):
            if task is not None:
                task.cancel()
        self.watch = self.retirement = None
