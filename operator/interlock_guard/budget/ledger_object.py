"""One BudgetLedger as a guard knows it: watched, and changed by optimistic concurrency.

Several guards and the operator change the same object. Each change is computed from a version of it, and the API server
takes it only if the object still has that version:

    guard a   read 7 ----- replace 7 -> 8
    guard b   read 7 ----------------- replace 7: conflict, read 8 -- replace 8 -> 9
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

from interlock_contract.budget.ledger import Ledger, LedgerInvalid, dump_ledger, parse_ledger
from interlock_contract.clock import monotonic
from interlock_contract.names import API_PATH, BUDGET_LEDGERS, GUARD_FIELD_MANAGER
from interlock_guard.object_watch import KubernetesObject, ObjectWatch
from interlock_kube.client import (
    CONFLICT,
    FORBIDDEN,
    NOT_FOUND,
    UNREACHABLE,
    AnswerTooLarge,
    ApiError,
    KubeClient,
)

_TRIES: Final = 12
"""How often a change is computed again after a conflict. Each conflict is another's success."""
_PAUSE_SECONDS: Final = 0.02
"""Longest pause after the first conflict; it doubles with each, up to `_MAX_PAUSE_SECONDS`."""
_MAX_PAUSE_SECONDS: Final = 0.3
_WATCH_SECONDS: Final = 20
REQUEST_SECONDS: Final = 4.0
"""How long a read or a write may take. A call waits for two seconds at most, and money comes back within ten."""

Transition = Callable[[Ledger], Ledger]


class LedgerAway(Exception):  # noqa: N818 - says the state of the ledger
    """The ledger cannot be read or written now; whether a change was stored is unknown."""


class LedgerGone(LedgerAway):
    """There is no such ledger, or the guard's Role does not name it."""


class LedgerObject:
    """One ledger.

    Args:
        client: Sends the requests.
        namespace: The ledger's namespace.
        name: The ledger's name.
        on_change: Called whenever another version of it is known, and when it can no longer be reached, or again.
    """

    def __init__(self, client: KubeClient, namespace: str, name: str, on_change: Callable[[], None]) -> None:
        self.name = name
        self.ledger: Ledger | None = None
        """The newest version that is known; None before the first one, and where it is none that can be read."""
        self.is_away = False
        """Whether the last request failed."""
        self.contact_at: float | None = None
        """The monotonic time up to which the ledger is known to be fresh."""
        self.writes = 0
        self._collection = f"{API_PATH}/namespaces/{namespace}/{BUDGET_LEDGERS}"
        self._client, self._on_change = client, on_change
        self._object: dict[str, Any] | None = None
        self._version = 0
        """The newest version that was seen, also while `_object` has to be read again: events may be late."""
        self._watch = ObjectWatch(
            client,
            self._collection,
            name,
            on_object=self._handle,
            on_contact=self._record_contact,
            on_failure=self._record_failure,
            watch_seconds=_WATCH_SECONDS,
        )

    async def run(self, log: Callable[[str], None]) -> None:
        """Follow the ledger until cancelled."""
        await self._watch.run(log)

    async def change(self, transition: Transition) -> Ledger:
        """Change the ledger and return it as it is stored then.

        Args:
            transition: Computes the change; called again after each conflict. Where it returns what it was given,
                nothing is written.

        Raises:
            LedgerAway: The API server does not answer, or the ledger cannot be read.
            LedgerGone: There is none for this guard.
        """
        try:
            for attempt in range(_TRIES):
                if self._object is None:
                    await self.read()
                base, found = self._object, self.ledger
                if base is None:
                    raise LedgerGone(f"the ledger {self.name} does not exist")
                if found is None:
                    raise LedgerAway(f"the ledger {self.name} cannot be read: its status is none of a ledger")
                changed = transition(found)
                if changed == found:
                    return found
                try:
                    asked_at = monotonic()
                    async with asyncio.timeout(REQUEST_SECONDS):
                        stored = await self._client.update(
                            f"{self._collection}/{self.name}/status",
                            {**base, "status": dump_ledger(changed)},
                            GUARD_FIELD_MANAGER,  # admission reads the time of the write next to this name
                        )
                except ApiError as error:
                    if error.status != CONFLICT:
                        raise
                    self._object = None
                    longest = min(_MAX_PAUSE_SECONDS, _PAUSE_SECONDS * 2**attempt)
                    await asyncio.sleep(longest * random.random())  # noqa: S311 - spreads guards, hides nothing
                    continue
                self.writes += 1
                self._handle(stored)
                self._record_contact(asked_at)
                return changed
        except (ApiError, AnswerTooLarge, *UNREACHABLE, ValueError) as error:
            self._object = None  # read again: the change may have been stored
            raise self._fail(error) from None
        except asyncio.CancelledError:
            self._object = None  # the same: the guard ends, and its last change must see what this one has stored
            raise
        raise LedgerAway(f"the ledger {self.name} was changed by others {_TRIES} times in a row")

    async def read(self) -> None:
        """Read the ledger.

        Raises:
            LedgerAway: It cannot be read.
            LedgerGone: There is none for this guard.
        """
        asked_at = monotonic()
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                found = await self._client.get(f"{self._collection}/{self.name}")
        except (ApiError, AnswerTooLarge, *UNREACHABLE, ValueError) as error:
            raise self._fail(error) from None
        self._version = 0  # the answer is newer than anything that was asked for before
        self._handle(found)
        self._record_contact(asked_at)

    def _handle(self, found: KubernetesObject | None) -> None:
        """Take another version over, unless a newer one is known."""
        if found is None:
            self._object, self.ledger, self._version = None, None, 0
        elif (version := _version(found)) >= self._version:
            self._object, self._version = dict(found), version
            try:
                self.ledger = parse_ledger(found.get("status"))
            except LedgerInvalid:
                self.ledger = None
        self._on_change()

    def _record_contact(self, at: float) -> None:
        was_away, self.is_away = self.is_away, False
        self.contact_at = at if self.contact_at is None else max(at, self.contact_at)
        if was_away:
            self._on_change()

    def _fail(self, error: Exception) -> LedgerAway:
        """Note that a request failed; return what it means for the ledger."""
        self._record_failure()
        is_gone = isinstance(error, ApiError) and error.status in (FORBIDDEN, NOT_FOUND)
        message = f"the ledger {self.name}: {type(error).__name__}: {error}"
        return LedgerGone(message) if is_gone else LedgerAway(message)

    def _record_failure(self) -> None:
        self.is_away = True
        self._on_change()


def _version(found: KubernetesObject) -> int:
    """Return the order of a version: the API server's are integers that grow (KEP-5504); zero for any other."""
    version = str(found.get("metadata", {}).get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0
