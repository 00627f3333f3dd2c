"""The rate limits of guards that share a minute: never more than the limits, and no refusal while there is room."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace as replace_state
from pathlib import Path

import pytest
from msgspec.structs import replace

from interlock_contract.budget.rates import NOTHING, MinuteRate, RateAmounts, RateLimits
from interlock_contract.clock import monotonic
from interlock_contract.kill import KillLatch
from interlock_guard.budget import minute_limiter as module
from interlock_guard.budget.minute_limiter import MinuteLimiter, RateReservation
from interlock_guard.decision.decide import Deny, DenyReason
from tests.requirements import requirement
from tests.support.budget_bench import NOON, OWN, BudgetBench

Found = RateReservation | Deny


class RateBench(BudgetBench):
    """Guards that count calls and tokens on one store."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._loops: list[asyncio.Task[None]] = []

    def set_rates(self, calls: int | None = None, tokens: int | None = None) -> None:
        self.limit(day=None)
        self.terms = replace(self.terms, rate_limits=RateLimits(calls, tokens))

    async def start_rates(self, pod: str = "pod-a") -> MinuteLimiter:
        budget = await self.start(pod)
        found = MinuteLimiter(self.lives[budget], budget, pod, monotonic)
        found.follow()
        self._loops.append(asyncio.create_task(found.run()))
        return found

    def change(self, *guards: MinuteLimiter, calls: int | None) -> None:
        """Give guards a bundle with another limit of calls."""
        self.terms = replace(self.terms, rate_limits=None if calls is None else RateLimits(calls))
        for guard in guards:
            live = guard._live  # noqa: SLF001 - what the program gives it
            assert live.bundle is not None
            live.bundle = replace(live.bundle, budget=self.terms)
            guard._budget.follow()  # noqa: SLF001 - see above
            guard.follow()

    @property
    def rate(self) -> MinuteRate:
        return self.store.ledger(OWN).rate

    def most(self) -> RateAmounts:
        """Return the most that was in slices in any version of the ledger."""
        taken = [ledger.rate.taken for _, ledger in self.store.history]
        return RateAmounts(max(one.calls for one in taken), max(one.tokens for one in taken))

    async def close(self) -> None:
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await super().close()


@pytest.fixture
async def rates(tmp_path: Path, virtual_clock: None) -> AsyncIterator[RateBench]:
    found = RateBench(tmp_path)
    yield found
    await found.close()


def passed(found: list[Found]) -> list[RateReservation]:
    return [one for one in found if isinstance(one, RateReservation)]


def refused(found: list[Found]) -> list[Deny]:
    return [one for one in found if isinstance(one, Deny)]


async def at_once(guards: list[MinuteLimiter], each: int, tokens: int = 0) -> list[Found]:
    return list(await asyncio.gather(*(guard.reserve(tokens) for _ in range(each) for guard in guards)))


@requirement("budget.rates")
@pytest.mark.parametrize("k", [1, 7, 40, 100])
async def test_of_120_calls_of_three_guards_exactly_as_many_pass_as_the_limit_says(rates: RateBench, k: int) -> None:
    rates.set_rates(calls=k)
    guards = [await rates.start_rates(f"pod-{name}") for name in "abc"]
    found = await at_once(guards, 40)
    assert len(passed(found)) == k
    assert {one.reason for one in refused(found)} == {DenyReason.RATE_LIMITED}
    assert rates.most().calls <= k


@requirement("budget.rates")
async def test_tokens_are_counted_at_their_worst_case_and_settled_by_usage(rates: RateBench) -> None:
    rates.set_rates(tokens=1000)
    guard = await rates.start_rates()
    found = await at_once([guard], 10, tokens=300)
    assert len(passed(found)) == 3
    for one in passed(found):
        guard.settle(one, 50)
        guard.settle(one, 50)  # a second end changes nothing
    assert len(passed(await at_once([guard], 10, tokens=300))) == 2  # 1000 - 3 x 50 = 850
    assert rates.most().tokens <= 1000


async def test_a_call_whose_usage_is_unknown_keeps_all_that_it_may_have_used(rates: RateBench) -> None:
    rates.set_rates(tokens=1000)
    guard = await rates.start_rates()
    (one,) = passed([await guard.reserve(900)])
    guard.settle(one, None)
    assert isinstance(await guard.reserve(200), Deny)


async def test_usage_above_a_reservation_is_counted_whole(rates: RateBench) -> None:
    rates.set_rates(tokens=1000)
    guard = await rates.start_rates()
    (one,) = passed([await guard.reserve(100)])
    guard.settle(one, 950)
    assert isinstance(await guard.reserve(60), Deny)
    assert isinstance(await guard.reserve(50), RateReservation)
    assert rates.rate.taken.tokens == 1000


async def test_a_call_that_was_not_forwarded_counts_nothing(rates: RateBench) -> None:
    rates.set_rates(calls=1)
    guard = await rates.start_rates()
    (one,) = passed([await guard.reserve()])
    guard.cancel(one)
    guard.cancel(one)
    assert isinstance(await guard.reserve(), RateReservation)
    assert isinstance(await guard.reserve(), Deny)


async def test_what_another_guard_does_not_use_is_no_reason_to_refuse(rates: RateBench) -> None:
    rates.set_rates(calls=64)
    first, second = await rates.start_rates("pod-a"), await rates.start_rates("pod-b")
    await first.reserve()
    assert first.free.calls > 0
    assert len(passed(await at_once([second], 63))) == 63
    assert rates.most().calls == 64


@requirement("budget.rates")
async def test_the_next_minute_is_a_new_one(rates: RateBench) -> None:
    rates.set_rates(calls=2)
    guard = await rates.start_rates()
    (denied,) = refused(await at_once([guard], 3))
    assert denied.retry_seconds == 60
    assert denied.message == (
        "The agent has made its 2 calls of this minute (rateLimits.callsPerMinute). Try again in 60 seconds."
    )
    rates.now = NOON + 59
    (denied,) = refused([await guard.reserve()])
    assert denied.retry_seconds == 1
    rates.now = NOON + 60
    assert len(passed(await at_once([guard], 2))) == 2
    assert rates.rate.start == NOON + 60


async def test_a_clock_that_goes_back_opens_no_former_minute(rates: RateBench) -> None:
    rates.set_rates(calls=2)
    guard = await rates.start_rates()
    await at_once([guard], 2)
    rates.now = NOON - 1
    assert isinstance(await guard.reserve(), Deny)
    assert isinstance(await (await rates.start_rates("pod-b")).reserve(), Deny)


@requirement("budget.rates")
async def test_what_a_crashed_guard_took_counts_until_the_minute_ends(rates: RateBench) -> None:
    rates.set_rates(calls=64)
    crashed = await rates.start_rates("pod-a")
    await at_once([crashed], 20)
    await rates.kill(crashed._budget)  # noqa: SLF001 - the budget of the same guard
    rates._loops[0].cancel()  # noqa: SLF001 - its loop
    taken = rates.rate.taken.calls
    assert taken >= 20
    found = await at_once([await rates.start_rates("pod-a")], 64)
    assert len(passed(found)) == 64 - taken
    rates.now = NOON + 60
    assert isinstance(await (await rates.start_rates("pod-c")).reserve(), RateReservation)


async def test_a_call_larger_than_the_limit_is_refused_for_ever(rates: RateBench) -> None:
    rates.set_rates(tokens=1000)
    guard = await rates.start_rates()
    found = guard.check(1001)
    assert found == await guard.reserve(1001)
    assert found is not None
    assert (found.reason, found.retry_seconds) == (DenyReason.RATE_LIMITED, None)
    assert "may use 1000 a minute (rateLimits.tokensPerMinute)" in found.message


async def test_an_idle_guard_writes_nothing_and_a_busy_one_seldom(
    rates: RateBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TICK_SECONDS", 0.01)
    rates.set_rates(calls=600)
    guard = await rates.start_rates()
    await asyncio.sleep(0.1)
    assert rates.store.writes == 0
    for _ in range(600):
        assert isinstance(await guard.reserve(), RateReservation)
    assert rates.store.writes <= 16
    rates.now, before = NOON + 300, rates.store.writes
    await asyncio.sleep(0.1)
    assert rates.store.writes == before


async def test_a_refused_agent_does_not_ask_at_each_call(rates: RateBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.2)
    rates.set_rates(calls=2)
    first, second = await rates.start_rates("pod-a"), await rates.start_rates("pod-b")
    for guard in (first, second):
        assert isinstance(await guard.reserve(), RateReservation)
    assert isinstance(await first.reserve(), Deny)
    rates.now += 3
    before = rates.store.writes
    assert first.check() is not None
    assert len(refused(await at_once([first], 50))) == 50
    assert rates.store.writes == before


async def test_a_ledger_that_is_away_closes_the_limits(rates: RateBench) -> None:
    rates.set_rates(calls=64)
    guard = await rates.start_rates()
    assert isinstance(await guard.reserve(), RateReservation)
    left = guard.free.calls
    rates.store.go_away()
    found = await at_once([guard], left + 2)
    assert len(passed(found)) == left
    assert {one.reason for one in refused(found)} == {DenyReason.BUDGET_UNAVAILABLE}


async def test_an_answer_that_is_lost_grants_nothing(rates: RateBench) -> None:
    rates.set_rates(calls=5)
    guard = await rates.start_rates()
    rates.store.loses_answers = 1
    found = await at_once([guard], 10)
    assert len(passed(found)) == 5
    assert rates.most().calls <= 5


async def test_a_kill_answers_the_calls_that_wait(rates: RateBench) -> None:
    rates.set_rates(calls=1)
    first, second = await rates.start_rates("pod-a"), await rates.start_rates("pod-b")
    await first.reserve()
    waiting = asyncio.create_task(second.reserve())
    await rates.until(lambda: bool(second._waiting), "the call waits")  # noqa: SLF001 - what waits
    live = second._live  # noqa: SLF001 - what the program gives it
    live.state = replace_state(live.state, kill=KillLatch("u-1", "leak"))
    second.follow()
    found = await waiting
    assert isinstance(found, Deny)
    assert found.reason is DenyReason.KILLED


async def test_lower_limits_take_back_what_is_not_used(rates: RateBench) -> None:
    rates.set_rates(calls=64)
    guards = [await rates.start_rates("pod-a"), await rates.start_rates("pod-b")]
    for guard in guards:
        await at_once([guard], 5)
    rates.change(*guards, calls=12)
    assert len(passed(await at_once(guards, 10))) == 2


async def test_without_limits_nothing_is_counted(rates: RateBench) -> None:
    rates.set_rates(calls=1)
    guard = await rates.start_rates()
    rates.change(guard, calls=None)
    assert len(passed(await at_once([guard], 100))) == 100
    assert rates.rate.slices == ()


async def test_a_guard_that_ends_returns_what_it_does_not_use(rates: RateBench) -> None:
    rates.set_rates(calls=64)
    guard = await rates.start_rates()
    await guard.reserve()
    assert guard.free != NOTHING
    await guard.finish(1)
    assert rates.rate.taken.calls == 1
