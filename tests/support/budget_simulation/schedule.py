"""One random schedule: which holder takes the next step, what crashes, and what time it is."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from interlock_contract.budget.leases import PERIODS, LedgerTerms, clear_exhausted, record_alerts
from interlock_contract.budget.ledger import Credit, Ledger
from tests.support.budget_simulation.api_server import ApiServer, Conflict, TimedOut
from tests.support.budget_simulation.audit import OWN, TOTAL, Audit, paid_by_credit
from tests.support.budget_simulation.holder import LEDGERS, Holder, Pod
from tests.support.budget_simulation.journal import Call
from tests.support.budget_simulation.rules import Rules, Violated

STEPS: Final = 160
SILENCE_SECONDS: Final = 60
"""Seconds without contact after which the operator closes a holder."""
MOST_HOLDERS: Final = 4
STARTS: Final = (
    *(1_780_000_000, 1_785_542_300),  # 2026-05-28T20:26:40Z, and a minute and a half before a month ends in UTC
    *(
        1_774_739_700,
        1_793_491_200,
    ),  # the nights of 2026-03-29 and 2026-11-01, when clocks change in Berlin and New York
)
ZONES: Final = ("UTC", "UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Asia/Kathmandu")


@dataclass
class Gone:
    """A holder that the operator still has to close, by ledger."""

    names: list[str]
    ledgers: list[str]


class Schedule:
    """A cluster with holders, run by a source of random numbers."""

    def __init__(self, seed: int, rules: Rules, *, own: LedgerTerms | None = None, pods: int | None = None) -> None:
        """Start pods: their number and the limits of the agent's ledger are random where they are not given."""
        self.random = Random(seed)  # noqa: S311 - a test repeats by its seed
        self.rules = rules
        self.audit = Audit()
        self.api = ApiServer(self.random, self.random.choice(STARTS), LEDGERS, self._check)
        self.api.fault_rate = self.random.choice((0, 0.05, 0.2))
        self.api.has_documents = self.random.random() < 0.1
        self.terms = {OWN: self._some_terms(300), TOTAL: self._some_terms(600)}
        if own is not None:
            self.terms = {OWN: own, TOTAL: LedgerTerms(None, None)}
            self.api.fault_rate = 0
        self.holders: list[Holder] = []
        self.former: list[tuple[Holder, str, str]] = []
        """What restarted processes have to settle: the process, a former name, and a ledger."""
        self.gone: list[Gone] = []
        self.numbers = 0
        for _ in range(pods or self.random.randint(1, 3)):
            self.start_pod()

    def run(self) -> Counter[str]:
        """Run the schedule and return what happened, by event.

        Raises:
            Violated: A promise is broken.
        """
        actions: list[Callable[[], None]] = [
            *[self.step] * 60,
            *[self.call] * 14,
            *[self.end_call] * 10,
            *[self.settle] * 6,
            *[self.answer] * 3,
            *[self.pass_time] * 3,
            *[self.close] * 3,
            *[self.recover] * 3,
            *[self.connect] * 3,
            *(self.crash, self.crash_pod, self.replace_pod, self.cut_off, self.start_pod),
            *(self.set_credit, self.set_terms, self.deliver_terms, self.record),
        ]
        forwarded = 0
        for _ in range(STEPS):
            try:
                self.random.choice(actions)()
            except TimedOut:
                self.audit.counts["lost answers"] += 1
            self._resolve_some()
            if self.audit.counts["forwarded"] > forwarded:
                forwarded = self.audit.counts["forwarded"]
                for name in LEDGERS:
                    self.audit.check_truth(name, self.api.read(name)[1])
        self.finish()
        return self.audit.counts

    # What holders do

    def step(self) -> None:
        """Let one request of a holder go on."""
        ready = [holder for holder in self.holders if holder.steps and holder.lacking is None]
        if ready:
            self._advance(self.random.choice(ready))

    def call(self) -> None:
        """Begin a request."""
        worst = self.random.choice((1, 7, 20, 20, 60, 150))
        true = self.random.choice((0, worst // 2, worst, worst, worst + 9 if self.random.random() < 0.1 else worst))
        self.begin(worst, true)

    def begin(self, worst: int, true: int) -> None:
        """Begin a request that costs `true` and at most `worst`."""
        holder = self._any_holder()
        if holder is not None:
            self.numbers += 1
            holder.steps.append(holder.forward(Call(self.numbers, worst, true)))

    def end_call(self) -> None:
        """End a request: its usage came, or it is unknown."""
        busy = [(holder, call) for holder in self.holders for call in holder.under_way if call.is_forwarded]
        if busy:
            holder, call = self.random.choice(busy)
            is_known = call.true > call.worst or self.random.random() < 0.8
            holder.end(call, call.true if is_known else call.worst)

    def settle(self) -> None:
        """Let a holder write what it was charged, and sometimes return what it does not need."""
        holder = self._any_holder()
        if holder is not None:
            spare = self.random.choice((None, None, 0, 25))
            for name in self.random.sample(LEDGERS, self.random.randint(1, 2)):
                holder.settle(name, spare)

    def answer(self) -> None:
        """Let a holder see the present ledgers."""
        holder = self._any_holder()
        if holder is not None and holder.lacking is None:
            holder.answer()

    def recover(self) -> None:
        """Let a restarted process settle a slice of a former one."""
        if self.former:
            one = self.random.choice(self.former)
            holder, former, name = one
            holder.settle_former(name, former)
            self.former.remove(one)

    # What happens to them

    def start_pod(self) -> None:
        """Start a pod, or none where there are enough."""
        if len(self.holders) < MOST_HOLDERS:
            self.numbers += 1
            self._start(Pod(f"pod-{self.numbers}"))

    def crash(self) -> None:
        """Kill a process. It is started again at once, with the journal of its pod."""
        holder = self._any_holder()
        if holder is None:
            return
        self.audit.counts["crashes"] += 1
        self._remove(holder)
        journal = holder.pod.journal
        for call in list(journal.reserved.values()):
            if self.rules.reads_journal:
                self.audit.see_charge(call, call.worst)
            journal.charge(call, call.worst)
        successor = self._start(holder.pod)
        pending = [(former, name) for one, former, name in self.former if one is holder]
        self.former = [one for one in self.former if one[0] is not holder]
        pending += [(former, name) for former in holder.names for name in LEDGERS]
        self.former += [(successor, former, name) for former, name in pending]

    def crash_pod(self) -> None:
        """Delete a pod without warning. The operator closes it."""
        holder = self._any_holder()
        if holder is not None:
            self.audit.counts["lost pods"] += 1
            self._bury(holder)

    def replace_pod(self) -> None:
        """End a pod as a new revision does: it settles first, where it can."""
        holder = self._any_holder()
        if holder is not None:
            try:
                holder.finish()
                self.audit.counts["revisions"] += 1
            finally:
                self._bury(holder)
                self.start_pod()

    def cut_off(self) -> None:
        """Cut a holder off from the API server, often for long enough that the operator closes it."""
        holder = self._any_holder()
        if holder is not None:
            holder.is_reachable = False
            self.audit.counts["partitions"] += 1
            if self.random.random() < 0.5:
                self.api.now += SILENCE_SECONDS

    def connect(self) -> None:
        """Connect all holders again."""
        for holder in self.holders:
            holder.is_reachable = True

    def pass_time(self) -> None:
        """Let time pass: seconds, to about the next midnight, or days in which nothing happens."""
        _, ledger = self.api.read(OWN)
        until_midnight = ledger.day.end - self.api.now + self.random.randint(-2, 3)
        kind = self.random.random()
        if kind < 0.2 and 0 < until_midnight < 3 * 86_400:
            self.api.now += until_midnight
        elif kind < 0.25:
            self.api.now += self.random.randint(1, 40) * 86_400
        else:
            self.api.now += self.random.choice((0, 1, 5, 31, 61, 3600))

    # What the operator does

    def close(self) -> None:
        """Close one holder in one ledger; often again after it was closed."""
        for holder in self.holders:
            if not holder.is_reachable and self.api.now - holder.last_contact >= SILENCE_SECONDS:
                self.gone.append(Gone([holder.name], list(LEDGERS)))
        if not self.gone:
            return
        gone = self.random.choice(self.gone)
        name = self.random.choice(LEDGERS)
        for holder_name in gone.names:
            self._close(name, holder_name)
        if name in gone.ledgers:
            gone.ledgers.remove(name)

    def set_credit(self) -> None:
        """Give a credit, replace it, or withdraw it."""
        amount = self.random.choice((None, 40, 100, 100))
        until = self.api.now + self.random.choice((20, 3600, 5 * 86_400))
        credit = None if amount is None else Credit(amount, until, "launch", self.api.now)
        version, ledger = self.api.read(OWN)
        known = self.audit.credits.copy(), self.audit.credit_until
        self.audit.see_credit(credit, self.api.now)
        if self._update(OWN, version, ledger, self.rules.set_credit(ledger, credit, self.api.now)):
            self.audit.counts["credits"] += credit is not None
        else:
            self.audit.credits, self.audit.credit_until = known

    def set_terms(self) -> None:
        """Set other limits, and sometimes another time zone. Holders hear of it later."""
        name = self.random.choice(LEDGERS)
        self.terms[name] = self._some_terms(300 if name == OWN else 600)
        self.audit.counts["terms"] += 1

    def deliver_terms(self) -> None:
        """Let a holder have the present terms."""
        holder = self._any_holder()
        if holder is not None:
            holder.terms = dict(self.terms)

    def record(self) -> None:
        """Record alerts and clear refusals, as the operator does."""
        for name in LEDGERS:
            version, ledger = self.api.read(name)
            changed = clear_exhausted(
                record_alerts(ledger, self.terms[name], self.api.now), self.terms[name], self.api.now
            )
            self.audit.counts["alerts"] += len(changed.alerts) - len(ledger.alerts)
            self._update(name, version, ledger, changed)

    # The end

    def finish(self) -> None:
        """End everything, and compare the books.

        Raises:
            Violated: They differ.
        """
        self.api.fault_rate = 0
        for holder in list(self.holders):
            holder.is_reachable = True
            holder.answer()
            holder.finish()
        while self.former:
            self.recover()
        for gone in self.gone:
            for name in LEDGERS:
                for holder_name in gone.names:
                    self._close(name, holder_name)
        for name in LEDGERS:
            self.audit.check_end(name, self.api.read(name)[1])

    # Below

    def drain(self) -> None:
        """Let all requests go on, in any order, until each was forwarded or refused."""
        while any(holder.steps for holder in self.holders):
            self.step()
            self._resolve_some()

    def _resolve_some(self) -> None:
        for holder in list(self.holders):
            if holder.lacking is not None and self.random.random() < 0.5:
                self._resolve(holder)

    def _resolve(self, holder: Holder) -> None:
        """Let all others answer, and see whether the refusal that follows is right."""
        assert holder.lacking is not None
        name, call = holder.lacking
        rate, self.api.fault_rate = self.api.fault_rate, 0
        others = [one for one in self.holders if one is not holder and one.is_reachable]
        self.random.shuffle(others)
        try:
            # A window may have begun since `wanted` was written. What is wanted is said again in it.
            holder.read(name)
            holder.ask(name, call.worst)
            for other in others:
                other.answer()
            holder.read(name)
            if holder.take(name, call.worst):
                holder.lacking = None
            else:
                self._check_refusal(holder, name, call)
        except TimedOut:
            pass
        self._advance(holder)
        self.api.fault_rate = rate

    def _check_refusal(self, holder: Holder, name: str, call: Call) -> None:
        _, ledger = self.api.read(name)
        free = sum(one.free(name) for one in self.holders if one.is_reachable)
        rooms = [
            limit + paid_by_credit(ledger, period, self.api.now) - ledger.committed(period) + free
            for period in PERIODS
            if (limit := holder.terms[name].limit(period)) is not None
        ]
        if min(rooms, default=call.worst) >= call.worst:
            raise Violated(f"(3) {name} refuses {call.worst}, and has room for {min(rooms, default=0)}")

    def _advance(self, holder: Holder) -> None:
        step = holder.lacking_step if holder.lacking_step in holder.steps else self.random.choice(holder.steps)
        holder.lacking_step = None
        try:
            next(step)
        except StopIteration:
            holder.steps.remove(step)
        else:
            holder.lacking_step = step if holder.lacking is not None else None

    def _any_holder(self) -> Holder | None:
        return self.random.choice(self.holders) if self.holders else None

    def _start(self, pod: Pod) -> Holder:
        self.numbers += 1
        skew = self.random.choice((0, -3600, 3600))
        holder = Holder(
            pod=pod,
            started=self.numbers,
            api=self.api,
            audit=self.audit,
            terms=self.terms,
            rules=self.rules,
            random=self.random,
            skew=skew,
        )
        self.holders.append(holder)
        return holder

    def _remove(self, holder: Holder) -> None:
        holder.lose()
        self.holders.remove(holder)

    def _bury(self, holder: Holder) -> None:
        self._remove(holder)
        names = [*holder.names, *(former for one, former, _ in self.former if one is holder)]
        self.former = [one for one in self.former if one[0] is not holder]
        self.gone.append(Gone(names, list(LEDGERS)))

    def _close(self, name: str, holder_name: str) -> None:
        version, ledger = self.api.read(name)
        changed = self.rules.close_holder(ledger, holder_name)
        if changed is not ledger and self._update(name, version, ledger, changed):
            self.audit.see_close(name, ledger, changed, holder_name)

    def _update(self, name: str, version: int, before: Ledger, after: Ledger) -> bool:
        """Write as the operator, who tries again later; True if it was written."""
        if after is before:
            return False
        try:
            self.api.update(name, version, after)
        except (Conflict, TimedOut):
            return self.api.read(name)[0] != version
        return True

    def _check(self, name: str, before: Ledger, after: Ledger) -> None:
        self.audit.check_write(name, before, after, self.api.now)

    def _some_terms(self, most: int) -> LedgerTerms:
        day = self.random.choice((most // 3, most // 2, most, None))
        month = self.random.choice((None, most, most * 3))
        return LedgerTerms(day, month, self.random.choice(ZONES), self.random.choice(((50, 80), (), (10, 50, 90))))


def simulate(seed: int, rules: Rules | None = None) -> Counter[str]:
    """Run one schedule and return what happened, by event.

    Raises:
        Violated: A promise is broken. The message has the seed.
    """
    try:
        return Schedule(seed, rules or Rules()).run()
    except Violated as error:
        raise Violated(f"seed {seed}: {error}") from None


def replaced(**changes: object) -> Rules:
    """Return the rules with some of them replaced."""
    return replace(Rules(), **changes)  # type: ignore[arg-type]
