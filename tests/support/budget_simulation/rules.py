"""The rules that holders and ledgers keep. A test takes one out by replacing it, and the simulation must notice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from interlock_contract.budget import leases, slice_size


class Violated(AssertionError):  # noqa: N818 - says the state of a promise
    """A promise is broken; the message says which one, and where."""


@dataclass(frozen=True)
class Rules:
    """What a simulation does.

    Attributes:
        take: And the following five: the changes of a ledger.
        settle: See `take`.
        settle_former: See `take`.
        close_holder: See `take`.
        set_credit: See `take`.
        must_return: See `take`.
        slice_want: How much a holder takes.
        reserves: A holder reserves the worst case before it forwards.
        waits_for_ledger: A holder spends a grant only after the ledger was written.
        reads_again: A holder reads the ledger after a write whose answer was lost.
        journals_first: A holder writes its journal before it forwards, not after.
        reads_journal: A restarted process charges what its journal says.
        uses_server_time: A holder goes by the time of the API server, not by its own clock.
        needs_total: A holder needs money from both ledgers.
        renames_itself: A holder that was closed goes on under a new name.
    """

    take: Callable[..., Any] = leases.take
    settle: Callable[..., Any] = leases.settle
    settle_former: Callable[..., Any] = leases.settle_former
    close_holder: Callable[..., Any] = leases.close_holder
    set_credit: Callable[..., Any] = leases.set_credit
    must_return: Callable[..., Any] = leases.must_return
    slice_want: Callable[..., Any] = slice_size.slice_want
    reserves: bool = True
    waits_for_ledger: bool = True
    reads_again: bool = True
    journals_first: bool = True
    reads_journal: bool = True
    uses_server_time: bool = True
    needs_total: bool = True
    renames_itself: bool = True
