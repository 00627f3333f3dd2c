"""Random schedules of holders that share the calls and tokens of a minute: they crash, lose answers, race and ask.

`simulate_rates(seed)` runs one and raises `RateBroken` where a promise of `interlock_contract.budget.rates` is broken.
`RateRules` takes single rules out, so that a test can see that the simulation notices.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from interlock_contract.budget import rates
from interlock_contract.budget.rates import MINUTE, NOTHING, MinuteRate, RateAmounts, RateLimits

BEGIN: Final = 1_774_738_740
STEPS: Final = 120


class RateBroken(AssertionError):  # noqa: N818 - says the state of a promise
    """A promise is broken."""


@dataclass(frozen=True)
class RateRules:
    """What a simulation does: the changes of a minute, and whether a holder uses only what was written."""

    take: Callable[..., Any] = rates.take_rate
    keep: Callable[..., Any] = rates.keep_rate
    want: Callable[..., Any] = rates.rate_want
    roll: Callable[..., Any] = rates.roll_minute
    waits_for_ledger: bool = True


@dataclass(eq=False)
class RateHolder:
    """One guard: what it knows to be granted in its minute, and what it has used."""

    name: str
    minute: int = 0
    granted: RateAmounts = NOTHING
    used: RateAmounts = NOTHING
    clock: int = 0

    @property
    def free(self) -> RateAmounts:
        return self.granted.minus(self.used)

    def enter(self, minute: int) -> None:
        if minute > self.minute:
            self.minute, self.granted, self.used = minute, NOTHING, NOTHING


@dataclass(eq=False)
class RateSchedule:
    """One ledger, three holders and the time."""

    random: Random
    rules: RateRules
    now: int = BEGIN
    rate: MinuteRate = field(default_factory=MinuteRate)
    holders: list[RateHolder] = field(default_factory=list)
    true: Counter[int] = field(default_factory=Counter)
    true_tokens: Counter[int] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    names: int = 0

    def __post_init__(self) -> None:
        calls = self.random.choice((None, 1, 7, 30, 100))
        self.limits = RateLimits(calls, self.random.choice((500, 5_000) if calls is None else (None, 500, 5_000)))
        for _ in range(3):
            self.start()

    def start(self) -> None:
        """Start a process of a guard."""
        self.names += 1
        self.holders.append(RateHolder(f"pod/{self.names}"))

    def run(self) -> Counter[str]:
        """Run the schedule and return what happened.

        Raises:
            RateBroken: A promise is broken.
        """
        actions = [*[self.call] * 20, *[self.tick] * 4, self.crash, self.settle]
        for _ in range(STEPS):
            self.random.choice(actions)()
        return self.counts

    def tick(self) -> None:
        self.now += self.random.choice((0, 1, 5, 30))

    def crash(self) -> None:
        """End a process without warning. The next one of its pod is another holder."""
        self.holders.remove(self.random.choice(self.holders))
        self.start()
        self.counts["crashes"] += 1

    def call(self) -> None:
        """Let a holder have one call: from its slice, or with more from the ledger, or with what others return."""
        one, need = self.random.choice(self.holders), self.limits.count(self.random.choice((1, 40, 300)))
        one.clock = self.now + self.random.choice((0, 0, 0, -1, -40))  # it may be behind
        one.enter(one.clock // MINUTE * MINUTE)
        lost = self.counts["lost answers"]
        if not self.fits(one, need):
            self.write(one, need)
        if not self.fits(one, need):
            self.write(one, need, asks=True)
            for other in self.holders:
                if other is not one:
                    self.give_back(other)
            self.write(one, need)
        if self.fits(one, need):
            one.used = one.used.plus(need)
            self.true[one.minute] += need.calls
            self.true_tokens[one.minute] += need.tokens
            self.counts["passed"] += 1
            self.check_truth(one.minute)
        elif self.counts["lost answers"] == lost:
            self.counts["refused"] += 1
            self.check_refusal(need)

    def settle(self) -> None:
        """End a call with fewer tokens than it had reserved: the truth keeps what was reserved out."""
        one = self.random.choice(self.holders)
        less = self.random.randint(0, one.used.tokens)
        one.used = one.used._replace(tokens=one.used.tokens - less)
        self.true_tokens[one.minute] -= less

    def fits(self, one: RateHolder, need: RateAmounts) -> bool:
        return need.is_within(one.free)

    def write(self, one: RateHolder, need: RateAmounts, *, asks: bool = False) -> None:
        """Take what a call needs, or ask for it; the answer may be lost. Writes of others conflict."""
        rate = self.rules.roll(self.rate, max(one.clock, one.minute))
        one.enter(rate.start)
        rate = self.rules.keep(rate, one.name, "pod", one.granted)
        least, granted = need.minus(one.free), NOTHING
        use = RateAmounts(self.random.randint(0, 50), 900)
        want = self.rules.want(rate, self.limits, one.name, need=least, use=use)
        rate, granted = self.rules.take(rate, self.limits, one.name, "pod", least=least, want=want)
        rate = rates.ask_rate(rate, one.name, "pod", least if asks and granted == NOTHING else NOTHING, self.now)
        fault = self.random.random()
        if fault > 0.05:
            self.store(rate)
        if fault < 0.1:
            self.counts["lost answers"] += 1
        if fault >= 0.1 or not self.rules.waits_for_ledger:
            one.granted = one.granted.plus(granted)

    def give_back(self, one: RateHolder) -> None:
        """Return what a holder does not use, if another one asks."""
        if one.minute == self.rate.start and any(other.wanted != NOTHING for other in self.rate.others(one.name)):
            one.granted = one.used
            self.store(self.rules.keep(self.rate, one.name, "pod", one.used))

    def store(self, rate: MinuteRate) -> None:
        """Store the minute.

        Raises:
            RateBroken: It went back, or more is in slices than the limits allow.
        """
        if rate.start < self.rate.start:
            raise RateBroken(f"(4) the minute went back from {self.rate.start} to {rate.start}")
        if rate.start == self.rate.start and rate.start and not rate.slices and self.rate.slices:
            raise RateBroken("(4) the slices of a minute are gone before its end")
        if not rate.taken.is_within(self.limits.most):
            raise RateBroken(f"(1) {rate.taken} are in slices, {self.limits}")
        self.rate = rate

    def check_truth(self, minute: int) -> None:
        """Check that the limits were not passed.

        Raises:
            RateBroken: More was.
        """
        true = RateAmounts(self.true[minute], self.true_tokens[minute])
        if not true.is_within(self.limits.most):
            raise RateBroken(f"(2) {true} were used in one minute, {self.limits}")

    def check_refusal(self, need: RateAmounts) -> None:
        """Check that there was no room for a refused call, but for the slices of crashed holders.

        Raises:
            RateBroken: There was.
        """
        living, left = {other.name for other in self.holders}, self.limits.most
        for gone in self.rate.slices:
            left = left if gone.holder in living else left.minus(gone.amounts)
        for other in self.holders:
            left = left.minus(other.used) if other.minute == self.rate.start else left
        if need.is_within(left):
            raise RateBroken(f"(3) {need} was refused, and there was room for {left}")


def simulate_rates(seed: int, rules: RateRules | None = None) -> Counter[str]:
    """Run one random schedule and return what happened.

    Raises:
        RateBroken: A promise is broken.
    """
    return RateSchedule(Random(seed), rules or RateRules()).run()  # noqa: S311 - a test repeats by its seed
