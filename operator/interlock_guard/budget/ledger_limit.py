"""One ledger that limits the agent: its object, the holder's part in it, and what follows it."""

import asyncio
from dataclasses import dataclass, field

from interlock_guard.budget.holder import LedgerShare
from interlock_guard.budget.ledger_object import LedgerObject


@dataclass(slots=True, eq=False)
class LedgerLimit:
    """One ledger that limits the agent."""

    object: LedgerObject
    share: LedgerShare
    watch: asyncio.Task[None] | None = None
    is_present: bool = True
    """Whether the bundle names it; another one only gets its money back."""
    was_away: bool = False
    is_over: bool = False
    """Whether more is committed than the limit allows, so that nothing that is free may be reserved."""
    former: set[str] = field(default_factory=set)
    """Holders before this one whose slices are ended here."""
