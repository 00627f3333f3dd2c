"""A guard in miniature: it takes slices, reserves, forwards and settles, one step at a time."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from interlock_contract.budget.leases import LedgerTerms, mark_exhausted, open_empty, settle, write_wanted
from interlock_contract.budget.ledger import Ledger, SliceKey
from tests.support.budget_simulation.api_server import ApiServer, Conflict, TimedOut
from tests.support.budget_simulation.audit import OWN, TOTAL, Audit
from tests.support.budget_simulation.journal import Call, Journal
from tests.support.budget_simulation.rules import Rules, Violated

LEDGERS: Final = (TOTAL, OWN)
"""In the order in which they are leased. Money is returned in the other one."""
CONTACT_SECONDS: Final = 30
"""Seconds without an answer after which a guard forwards nothing."""
MOST_ATTEMPTS: Final = 50


@dataclass
class Account:
    """What a holder knows of one slice: the charges of its requests, and the worst cases of those under way.

    Attributes:
        charged: All charges since the slice was taken.
        reserved: The worst cases of requests under way.
        unconfirmed: Usage above reservations in `charged` that no answered write has settled.
    """

    charged: int = 0
    reserved: int = 0
    unconfirmed: int = 0


@dataclass
class Pod:
    """A pod: its UID, and the journal that outlives the processes of its guard."""

    uid: str
    journal: Journal = field(default_factory=Journal)


class Holder:
    """One process of a guard."""

    def __init__(
        self,
        *,
        pod: Pod,
        started: int,
        api: ApiServer,
        audit: Audit,
        terms: dict[str, LedgerTerms],
        rules: Rules,
        random: Random,
        skew: int,
    ) -> None:
        self.pod = pod
        self.name = f"{pod.uid}/{started}"
        self.names = [self.name]
        self.terms = dict(terms)
        self.is_reachable = True
        self.last_contact = api.now
        self.under_way: list[Call] = []
        self.steps: list[Iterator[None]] = []
        self._api, self._audit, self._rules, self._random = api, audit, rules, random
        self.skew, self._offset = skew, -skew
        self._seen: dict[str, tuple[int, Ledger] | None] = dict.fromkeys(LEDGERS)
        self._accounts: dict[str, defaultdict[SliceKey, Account]] = {name: defaultdict(Account) for name in LEDGERS}
        self._overruns: Counter[tuple[str, SliceKey]] = Counter()
        self._overrun_settled: Counter[tuple[str, SliceKey]] = Counter()
        self._held: dict[str, set[SliceKey]] = {name: set() for name in LEDGERS}

    # Time and the API server

    def time(self) -> int:
        """Return the time of the API server as this holder knows it."""
        local = self._api.now + self.skew
        return local + (self._offset if self._rules.uses_server_time else 0)

    def read(self, name: str) -> tuple[int, Ledger]:
        """Read a ledger and find out whether slices of this holder were closed.

        Raises:
            TimedOut: The API server cannot be reached.
        """
        self._contact()
        self._seen[name] = found = self._api.read(name)
        self._find_closed(name, found[1])
        self._hold(name, found[1])
        return found

    def write(self, name: str, change: Callable[[Ledger], Ledger]) -> Ledger:
        """Change a ledger: read it where needed, and write it unless another writer was faster.

        Raises:
            TimedOut: No answer came.
        """
        for _ in range(MOST_ATTEMPTS):
            version, ledger = self._seen[name] or self.read(name)
            changed = change(ledger)
            if changed is ledger:
                return ledger
            self._audit.see_terms(name, changed, self.terms[name])
            self._contact()
            try:
                version = self._api.update(name, version, changed)
            except Conflict:
                self.read(name)
                continue
            except TimedOut:
                # The outcome is unknown, so that what the holder knew of the ledger holds no longer.
                self._seen[name] = None if self._rules.reads_again else (version, changed)
                raise
            self._seen[name] = version, changed
            self._hold(name, changed)
            return changed
        raise Violated("a write never succeeds")

    def _contact(self) -> None:
        if not self.is_reachable:
            raise TimedOut
        self.last_contact = self._api.now
        self._offset = -self.skew - self._random.choice((0, 0, 0, 1))  # the header `Date` has whole seconds

    def _hold(self, name: str, ledger: Ledger) -> None:
        self._held[name] = {one.key for one in ledger.slices if one.holder in self.names}

    def _find_closed(self, name: str, ledger: Ledger) -> None:
        """Go on under a new name if the operator closed this holder: what was under way counts as spent."""
        gone = {key for key in self._held[name] | set(self._accounts[name]) if ledger.find(key) is None}
        if not gone or not self._rules.renames_itself:
            return
        for key in gone:
            account = self._accounts[name].pop(key, Account())
            if account.unconfirmed:
                self._overruns[name, key] += account.unconfirmed
        if any(key.holder == self.name for key in gone):
            self.name = f"{self.pod.uid}/{self._api.now}.{len(self.names)}"
            self.names.append(self.name)

    # Money

    def free(self, name: str) -> int:
        """Return what may be reserved from the slice of the present windows; 0 where the ledger is not known."""
        seen = self._seen[name]
        if seen is None or self.time() >= min(seen[1].day.end, seen[1].month.end):
            return 0
        key = seen[1].present_key(self.name)
        one = seen[1].find(key)
        if one is None:
            return 0
        account = self._accounts[name][key]
        return one.amount + one.settled - account.charged - account.reserved

    def reserve(self, call: Call) -> bool:
        """Reserve the worst case of a request in both ledgers."""
        names = LEDGERS if self._rules.needs_total else (OWN,)
        if self._api.now - self.last_contact > CONTACT_SECONDS or any(self.free(name) < call.worst for name in names):
            return False
        for name in LEDGERS:
            seen = self._seen[name] or self._api.read(name)
            call.keys[name] = seen[1].present_key(self.name)
            self._accounts[name][call.keys[name]].reserved += call.worst if self._rules.reserves else 0
            self._audit.see_reserve(name, self._api.read(name)[1], call)
        self.under_way.append(call)
        if self._rules.journals_first:
            self.pod.journal.reserve(call)
        return True

    def forward(self, call: Call) -> Iterator[None]:
        """Take what a request needs, reserve it and forward the request; else refuse it."""
        while not self.reserve(call):
            for name in LEDGERS:
                yield
                try:
                    if self._api.now - self.last_contact > CONTACT_SECONDS:
                        self.read(name)
                    granted = self.take(name, call.worst)
                except TimedOut:
                    self._audit.counts["unavailable"] += 1
                    return
                if not granted:
                    yield from self._want(name, call)
                    return
        yield
        call.is_forwarded = True
        self._audit.see_forward(call)
        self._audit.counts["forwarded"] += 1
        if not self._rules.journals_first:
            yield
            self.pod.journal.reserve(call)

    def take(self, name: str, worst: int) -> bool:
        """Take a slice that has room for a worst case; False where the ledger has not so much.

        Raises:
            TimedOut: No answer came.
        """
        self._seen[name] or self.read(name)
        need = worst - self.free(name)
        if need <= 0:
            return True
        terms, before, granted = self.terms[name], self._seen[name], 0
        per_second = self._random.choice((0, worst // 4, worst))

        def change(ledger: Ledger) -> Ledger:
            nonlocal granted
            now = self.time()
            want = self._rules.slice_want(ledger, terms, self.name, need=need, per_second=per_second, now=now)
            changed, granted = self._rules.take(ledger, terms, self.name, self.pod.uid, least=need, want=want, now=now)
            if ledger == self._api.read(name)[1]:  # else the write will be refused
                self._audit.check_take(name, ledger, changed, terms, need, self._api.now)
            return changed if granted else ledger

        try:
            self.write(name, change)
        except TimedOut:
            if not self._rules.waits_for_ledger and before is not None:
                self._spend_without_ledger(name, change)
            raise
        return granted > 0

    def _spend_without_ledger(self, name: str, change: Callable[[Ledger], Ledger]) -> None:
        """Break the rule that a grant counts only once it was written."""
        version, ledger = self._api.read(name)
        self._seen[name] = version, change(ledger)

    def _want(self, name: str, call: Call) -> Iterator[None]:
        """Write what the ledger lacks, and wait for the other holders; the scheduler answers for them."""
        terms = self.terms[name]
        try:
            self.ask(name, call.worst)
            self.lacking = name, call
            yield
            if self.lacking is None:  # the others have answered, and there was money
                yield from self.forward(call)
                return
            self.write(
                name,
                lambda ledger: mark_exhausted(
                    write_wanted(ledger, terms, self.name, self.pod.uid, 0, self.time()),
                    *(terms, self.name, call.worst, self.time()),
                ),
            )
            self._audit.counts["refused"] += 1
        except TimedOut:
            self._audit.counts["unavailable"] += 1
        finally:
            self.lacking = None

    def ask(self, name: str, worst: int) -> None:
        """Write what a request needs, in the present windows.

        Raises:
            TimedOut: No answer came.
        """
        terms = self.terms[name]
        self.write(name, lambda ledger: write_wanted(ledger, terms, self.name, self.pod.uid, worst, self.time()))

    lacking_step: Iterator[None] | None = None
    """The request that waits for the others."""
    lacking: tuple[str, Call] | None = None
    """The ledger and the request for which there was no money when this holder wrote `wanted`."""

    def end(self, call: Call, nanos: int) -> None:
        """End a request: charge it, and write the line of the journal."""
        self.under_way.remove(call)
        self._audit.see_charge(call, nanos)
        self.pod.journal.charge(call, nanos)
        over = max(0, nanos - call.worst)
        for name, key in call.keys.items():
            if key in self._accounts[name]:
                account = self._accounts[name][key]
                account.charged += nanos
                account.reserved -= call.worst if self._rules.reserves else 0
                account.unconfirmed += over
            elif over:
                self._overruns[name, key] += over

    # Settling

    def settle(self, name: str, spare: int | None) -> None:
        """Write what was charged, and return what exceeds reservations and `spare`.

        Raises:
            TimedOut: No answer came.
        """
        _, ledger = self._seen[name] or self.read(name)
        for key in {one.key for one in ledger.slices if one.holder in self.names and (one.amount or one.wanted)}:
            account = self._accounts[name][key]
            self.write(name, self._settling(key, account, spare))
            account.unconfirmed = 0
        for (other, key), over in list(self._overruns.items()):
            if other == name:
                self._charge_overrun(name, key, over)

    def answer(self) -> None:
        """React to a change of the ledgers: return what others lack, or what a lower limit forbids.

        Raises:
            TimedOut: No answer came.
        """
        for name in reversed(LEDGERS):
            _, ledger = self.read(name)
            if self._rules.must_return(ledger, self.terms[name], self.name, self.time()):
                self.settle(name, 0)

    def settle_former(self, name: str, former: str) -> None:
        """End the slices of a former process of the pod.

        Raises:
            TimedOut: No answer came.
        """
        charged = self.pod.journal.replay(name, former) if self._rules.reads_journal else {}
        self.write(name, lambda ledger: self._rules.settle_former(ledger, former, charged, self.time()))

    def finish(self) -> None:
        """End before the pod does: requests under way end with an unknown outcome, and all money is returned.

        Raises:
            TimedOut: No answer came. The operator closes the holder.
        """
        self.steps.clear()
        for call in list(self.under_way):
            self.end(call, call.worst if call.is_forwarded else 0)
        for name in reversed(LEDGERS):
            self.settle(name, 0)

    def lose(self) -> None:
        """Note what ends with a process that ends without warning."""
        for name, accounts in self._accounts.items():
            for key, account in accounts.items():
                self._audit.see_loss(name, key, account.unconfirmed)
        for (name, key), over in self._overruns.items():
            self._audit.see_loss(name, key, over)

    def _settling(self, key: SliceKey, account: Account, spare: int | None) -> Callable[[Ledger], Ledger]:
        return lambda ledger: self._rules.settle(
            *(ledger, key), charged=account.charged, reserved=account.reserved, spare=spare, now=self.time()
        )

    def _charge_overrun(self, name: str, key: SliceKey, over: int) -> None:
        """Charge usage above its reservation, of a slice that was closed, to another one that never has money.

        What is charged to that one is cumulative, so a write whose answer was lost is repeated without harm.
        """
        other = key._replace(holder=f"{key.holder}+")
        total = self._overrun_settled[name, key] + over

        def change(ledger: Ledger) -> Ledger:
            ledger = open_empty(ledger, other, self.pod.uid, settled=self._overrun_settled[name, key], now=self.time())
            return settle(ledger, other, charged=total, reserved=0, now=self.time())

        self.write(name, change)
        self._overrun_settled[name, key] = total
        self._audit.see_overrun(name, key, over)
        del self._overruns[name, key]
