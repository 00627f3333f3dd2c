"""The API server in miniature: it stores the ledgers as JSON, and conflicts and losses happen to writes."""

import json
from collections.abc import Callable
from random import Random
from typing import Final

from interlock_contract.budget.ledger import Ledger, LedgerInvalid, dump_ledger, parse_ledger
from tests.support.budget_simulation.rules import Violated

FAULTS: Final = ("lost request", "lost answer", "conflict")
Auditor = Callable[[str, Ledger, Ledger], None]


class TimedOut(Exception):  # noqa: N818 - the outcome of a request
    """No answer came. The write may have been made."""


class Conflict(Exception):  # noqa: N818 - the outcome of a request
    """Another writer was faster. The write was not made."""


class ApiServer:
    """Two ledgers, the time, and the faults of writes.

    Attributes:
        now: Seconds since the epoch, of the server.
        fault_rate: Which part of all writes fails.
        has_documents: Each write goes through the text that a real API server stores. It takes as long as all the rest.
    """

    def __init__(self, random: Random, now: int, names: tuple[str, ...], audit: Auditor) -> None:
        self.now = now
        self.fault_rate = 0.0
        self.has_documents = True
        self._random = random
        self._audit = audit
        self._parsed = {name: Ledger() for name in names}
        self._versions = dict.fromkeys(names, 1)

    def read(self, name: str) -> tuple[int, Ledger]:
        """Return a ledger and its resourceVersion."""
        return self._versions[name], self._parsed[name]

    def update(self, name: str, version: int, ledger: Ledger) -> int:
        """Replace a ledger and return its new resourceVersion.

        Raises:
            Conflict: The version is not the present one.
            TimedOut: The request or its answer was lost.
        """
        fault = self._random.choice(FAULTS) if self._random.random() < self.fault_rate else None
        if fault == "lost request":
            raise TimedOut
        if fault == "conflict" or version != self._versions[name]:
            raise Conflict
        before = self._parsed[name]
        self._parsed[name] = _store(ledger) if self.has_documents else ledger
        self._versions[name] += 1
        self._audit(name, before, self._parsed[name])
        if fault == "lost answer":
            raise TimedOut
        return self._versions[name]


def _store(ledger: Ledger) -> Ledger:
    try:
        return parse_ledger(json.loads(json.dumps(dump_ledger(ledger))))
    except LedgerInvalid as error:
        raise Violated(f"a ledger is written so that it cannot be read: {error}") from error
