"""The budget of guards that share a ledger: never more than the limit, and no refusal while there is room."""

import asyncio
from dataclasses import replace as replace_state

import pytest

from interlock_contract.budget.leases import close_holder
from interlock_contract.budget.ledger import SliceKey
from interlock_contract.kill import KillLatch
from interlock_guard.budget import budget as module
from interlock_guard.budget.account import Reservation
from interlock_guard.budget.budget import Budget
from interlock_guard.decision.decide import Deny, DenyReason
from tests.support.budget_bench import DAY_END, NOON, OWN, TOTAL, BudgetBench

CALL = 1_000_000


async def reserve_at_once(budgets: list[Budget], each: int, amount: int = CALL) -> tuple[list[Reservation], list[Deny]]:
    """Let each guard have so many calls at the same time; return what passed and what was refused."""
    found = await asyncio.gather(*(budget.reserve(amount) for _ in range(each) for budget in budgets))
    return [one for one in found if isinstance(one, Reservation)], [one for one in found if isinstance(one, Deny)]


def within_limits(bench: BudgetBench) -> bool:
    """Return True if no version of a ledger was ever committed beyond its limit."""
    limits = {OWN: bench.terms.day, TOTAL: bench.terms.total_day}
    return all((limit := limits[name]) is None or one.committed("day") <= limit for name, one in bench.store.history)


@pytest.mark.parametrize("k", [1, 7, 63])
async def test_of_64_calls_of_one_guard_exactly_those_pass_for_which_there_is_money(bench: BudgetBench, k: int) -> None:
    bench.limit(day=k * CALL + CALL - 1)
    passed, refused = await reserve_at_once([await bench.start()], 64)
    assert (len(passed), len(refused)) == (k, 64 - k)
    assert {one.reason for one in refused} == {DenyReason.BUDGET_EXHAUSTED}
    assert within_limits(bench)


@pytest.mark.parametrize("total_day", [None, 50 * CALL, 20 * CALL])
async def test_of_192_calls_of_three_guards_exactly_those_pass_for_which_there_is_money(
    bench: BudgetBench, total_day: int | None
) -> None:
    bench.limit(day=40 * CALL, total_day=total_day)
    guards = [await bench.start(f"pod-{name}") for name in "abc"]
    passed, refused = await reserve_at_once(guards, 64)
    assert len(passed) == min(40, (total_day or 40 * CALL) // CALL)
    assert len(passed) + len(refused) == 192
    assert within_limits(bench)


async def test_two_guards_that_race_for_the_last_cent_have_one_winner(bench: BudgetBench) -> None:
    bench.limit(day=CALL)
    guards = [await bench.start("pod-a"), await bench.start("pod-b")]
    passed, refused = await reserve_at_once(guards, 1)
    assert (len(passed), len(refused)) == (1, 1)
    assert within_limits(bench)


async def test_money_that_another_guard_does_not_use_is_no_reason_to_refuse(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    first, second = await bench.start("pod-a"), await bench.start("pod-b")
    used = await bench.reserved(first, 9 * CALL)
    first.settle(used, CALL)  # 8 calls are free in the slice of the first guard
    assert first.free >= 8 * CALL
    assert isinstance(await second.reserve(9 * CALL), Reservation)
    assert within_limits(bench)


async def test_two_guards_that_both_lack_money_give_what_is_free_to_one_of_them(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    guards = [await bench.start("pod-a"), await bench.start("pod-b")]
    for guard in guards:
        guard.settle(await bench.reserved(guard, 5 * CALL), 0)
    passed, _ = await reserve_at_once(guards, 1, 6 * CALL)
    assert len(passed) == 1
    assert within_limits(bench)


async def test_money_that_is_on_its_way_back_cannot_be_reserved(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    first, second = await bench.start("pod-a"), await bench.start("pod-b")
    first.settle(await bench.reserved(first, 10 * CALL), 0)
    tried: list[Reservation | Deny] = []
    bench.store.before_update = lambda: tried.append(first.reserve_now(CALL))
    assert isinstance(await second.reserve(8 * CALL), Reservation)
    reserved = sum(one.amount for one in tried if isinstance(one, Reservation))
    assert tried
    assert 8 * CALL + reserved <= bench.committed() <= 10 * CALL


async def test_a_small_call_passes_a_large_one_that_waits(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    guards = [await bench.start("pod-a"), await bench.start("pod-b")]
    held = await bench.reserved(guards[0], 6 * CALL)
    large = asyncio.create_task(guards[1].reserve(8 * CALL))
    small = await guards[1].reserve(CALL)
    assert isinstance(small, Reservation)
    guards[0].settle(held, 0)
    assert isinstance(await large, Reservation)


async def test_what_calls_have_cost_comes_into_the_ledger(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL, total_day=1000 * CALL)
    budget = await bench.start()
    for _ in range(5):
        budget.settle(await bench.reserved(budget, CALL), CALL // 2)
    await budget.finish(1)
    assert bench.spent() == bench.spent(TOTAL) == 5 * CALL // 2
    assert bench.committed() == bench.committed(TOTAL) == 5 * CALL // 2


async def test_usage_above_a_reservation_is_charged_whole(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    budget = await bench.start()
    budget.settle(await bench.reserved(budget, 9 * CALL), 12 * CALL)
    await budget.finish(1)
    assert bench.spent() == 12 * CALL
    assert isinstance(await budget.reserve(1), Deny)


async def test_a_killed_guard_costs_what_it_had_reserved_and_its_next_run_settles_it(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL, total_day=100 * CALL)
    budget = await bench.start()
    budget.settle(await bench.reserved(budget, 10 * CALL), CALL)
    await bench.reserved(budget, 5 * CALL)
    await bench.kill(budget)
    assert bench.committed() >= 6 * CALL
    await bench.start()
    await bench.until(lambda: bench.spent() == bench.spent(TOTAL) == 6 * CALL, "the next run settles")
    assert bench.store.ledger(OWN).slices == ()
    await bench.until(lambda: not list((bench.folder / "pod-a").iterdir()), "its journal is deleted")


async def test_a_guard_that_is_killed_before_its_first_call_gives_its_slice_back(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL)
    budget = await bench.start()
    journals: list[int] = []
    bench.store.before_update = lambda: journals.append(len(list((bench.folder / "pod-a").iterdir())))
    bench.store.loses_answers = 1
    call = asyncio.create_task(budget.reserve(10 * CALL))
    await bench.until(lambda: bench.committed() > 0, "a slice is in the ledger, and no answer has come")
    await bench.kill(budget)
    call.cancel()
    assert journals == [1]
    await bench.start()
    await bench.until(lambda: bench.committed() == 0, "the next run gives it back")


async def test_a_disk_that_refuses_the_journal_refuses_calls(
    bench: BudgetBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.limit(day=100 * CALL)
    budget = await bench.start()

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("interlock_guard.budget.journal.os.open", refuse)
    refused = await budget.reserve(CALL)
    assert isinstance(refused, Deny)
    assert (refused.reason, bench.store.writes) == (DenyReason.BUDGET_UNAVAILABLE, 0)


async def test_a_journal_that_cannot_be_read_costs_the_whole_slice(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL)
    budget = await bench.start()
    await bench.reserved(budget, 5 * CALL)
    await bench.kill(budget)
    (journal,) = (bench.folder / "pod-a").iterdir()
    journal.write_bytes(b"?\n")
    committed = bench.committed()
    await bench.start()
    await bench.until(lambda: bench.spent() == committed, "the slice is spent whole")


async def test_a_write_without_an_answer_spends_nothing_twice(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    budget = await bench.start()
    bench.store.loses_answers = 1
    first = await bench.reserved(budget, 8 * CALL)
    bench.store.loses_answers = 1
    budget.settle(first, 3 * CALL)
    await budget.finish(0.5)
    await bench.until(lambda: bench.store.loses_answers == 0 and bench.spent() == 3 * CALL, "it is settled once")
    assert isinstance(await budget.reserve(7 * CALL), Reservation)
    assert within_limits(bench)


async def test_a_slice_of_which_no_answer_came_goes_back_although_its_window_has_ended(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL, month=15 * CALL)
    budget = await bench.start()
    bench.store.loses_answers = 1
    call = asyncio.create_task(budget.reserve(10 * CALL))
    await bench.until(lambda: bench.store.writes == 1, "the slice is in the ledger")
    bench.now = DAY_END + 1
    assert isinstance(await call, Reservation)
    ledger = bench.store.ledger(OWN)
    assert (ledger.days[0].spent, ledger.committed("month")) == (0, 10 * CALL)


async def test_while_the_store_is_away_the_open_slice_is_spent_and_nothing_else(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    budget = await bench.start()
    budget.settle(await bench.reserved(budget, 5 * CALL), 0)
    bench.store.go_away()
    await bench.until(lambda: budget.is_away, "the guard knows that the store is away")
    free = budget.free
    kept = await bench.reserved(budget, free)
    loop = asyncio.get_running_loop()
    began = loop.time()
    refused = await budget.reserve(CALL)
    assert isinstance(refused, Deny)
    assert refused.reason is DenyReason.BUDGET_UNAVAILABLE
    assert loop.time() - began < 1.0 * 3
    bench.store.come_back()
    budget.settle(kept, 0)
    await bench.until(lambda: not budget.is_away, "the store is back", 10 * 3)
    assert isinstance(await budget.reserve(10 * CALL), Reservation)


async def test_a_call_that_waits_for_money_is_answered_by_a_kill(
    bench: BudgetBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 3600.0)
    bench.limit(day=10 * CALL)
    first, second = await bench.start("pod-a"), await bench.start("pod-b")
    await bench.reserved(first, 10 * CALL)
    waiting = asyncio.create_task(second.reserve(CALL))
    await bench.until(lambda: any(one.wanted for one in bench.store.ledger(OWN).slices), "the second one waits")
    live = bench.lives[second]
    live.state = replace_state(live.state, kill=KillLatch(message="killed by a test"))
    second.follow()
    answer = await asyncio.wait_for(waiting, 5)
    assert isinstance(answer, Deny)
    assert answer.reason is DenyReason.KILLED


async def test_a_slice_is_not_spent_from_once_its_ledger_was_not_read_for_too_long(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    budget = await bench.start()
    budget.settle(await bench.reserved(budget, 5 * CALL), 0)
    assert budget.free >= CALL
    live = bench.lives[budget]
    live.state = replace_state(live.state, lease_seconds=0.0)
    await asyncio.sleep(0.001)
    assert isinstance(await budget.reserve(CALL), Deny)


async def test_a_call_that_gives_up_while_it_waits_leaves_no_reservation(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    budget = await bench.start()
    held = await bench.reserved(budget, 10 * CALL)
    waiting = asyncio.create_task(budget.reserve(CALL))
    await asyncio.sleep(0)
    budget.settle(held, 0)  # its answer is there, and it is cancelled before it sees it
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert budget.free == 10 * CALL


async def test_a_lower_limit_returns_what_is_free_and_stops_reservations(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL)
    budget = await bench.start()
    kept = await bench.reserved(budget, 20 * CALL)
    budget.settle(await bench.reserved(budget, 30 * CALL), 0)
    bench.relimit(budget, day=25 * CALL)
    await bench.until(lambda: bench.committed() == 20 * CALL, "what is free is returned")
    assert isinstance(await budget.reserve(6 * CALL), Deny)
    assert isinstance(await budget.reserve(5 * CALL), Reservation)
    budget.settle(kept, 0)


async def test_midnight_opens_one_window_and_a_reservation_stays_in_its_own(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    budget = await bench.start()
    old = await bench.reserved(budget, 8 * CALL)
    bench.now = DAY_END + 1
    new = await bench.reserved(budget, 10 * CALL)
    budget.settle(old, 3 * CALL)
    budget.settle(new, 2 * CALL)
    await budget.finish(1)
    ledger = bench.store.ledger(OWN)
    assert (ledger.days[0].spent, ledger.day.spent, ledger.month.spent) == (3 * CALL, 2 * CALL, 5 * CALL)


async def test_an_exhausted_budget_says_so_until_the_next_window(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    budget = await bench.start()
    budget.settle(await bench.reserved(budget, 2 * CALL), 2 * CALL)
    for _ in range(4):
        budget.settle(await bench.reserved(budget, 2 * CALL), 2 * CALL)
    assert isinstance(await budget.reserve(CALL), Deny)
    await bench.until(lambda: budget.seconds_until_money() == DAY_END - NOON, "the ledger says so")
    bench.now = DAY_END + 1
    assert budget.seconds_until_money() is None
    await bench.until(lambda: bench.store.ledger(OWN).exhausted is None, "the guard opens the next window")


async def test_a_call_that_is_too_large_exhausts_no_budget(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    budget = await bench.start()
    assert isinstance(await budget.reserve(11 * CALL), Deny)
    budget.settle(await bench.reserved(budget, CALL), CALL)
    await budget.finish(1)
    assert bench.store.ledger(OWN).exhausted is None


async def test_money_that_is_only_reserved_exhausts_no_budget(bench: BudgetBench) -> None:
    bench.limit(day=10 * CALL)
    budget = await bench.start()
    held = await bench.reserved(budget, 10 * CALL)
    assert isinstance(await budget.reserve(CALL), Deny)
    budget.settle(held, 0)
    await budget.finish(1)
    assert bench.store.ledger(OWN).exhausted is None


async def test_a_holder_that_was_closed_goes_on_as_another_one(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL)
    budget = await bench.start()
    old = await bench.reserved(budget, 10 * CALL)
    before = budget.holder
    bench.store.put(OWN, close_holder(bench.store.ledger(OWN), before))
    closed = bench.spent()
    await bench.reserved(budget, 20 * CALL)
    assert budget.holder != before
    budget.settle(old, 12 * CALL)  # 2 calls above its reservation, which the closed slice has not paid
    await bench.until(lambda: bench.spent() == closed + 2 * CALL, "the rest is charged")


async def test_an_idle_guard_writes_nothing(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL)
    budget = await bench.start()
    await asyncio.sleep(1.2)  # more than two ticks
    assert (budget.ledger_writes, bench.store.writes) == (0, 0)


async def test_calls_that_cost_nothing_pass_an_exhausted_budget(bench: BudgetBench) -> None:
    bench.limit(day=0)
    budget = await bench.start()
    assert isinstance(await budget.reserve(1), Deny)
    free = await budget.reserve(0)
    assert isinstance(free, Reservation)
    budget.settle(free, 7)  # it has cost something, against its price
    await bench.until(lambda: bench.spent() == 7, "that is charged")


async def test_no_money_is_spent_before_the_time_of_the_api_server_is_known(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL)
    bench.knows_time = False
    budget = await bench.start(waits=False)
    refused = await budget.reserve(CALL)
    assert isinstance(refused, Deny)
    assert refused.reason is DenyReason.BUDGET_UNAVAILABLE
    assert bench.store.writes == 0


async def test_a_ledger_that_cannot_be_read_gives_no_money(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL)
    bench.store.objects[OWN]["status"]["slices"] = [{}]
    budget = await bench.start(waits=False)
    refused = await budget.reserve(CALL)
    assert isinstance(refused, Deny)
    assert refused.reason is DenyReason.BUDGET_UNAVAILABLE


async def test_the_total_is_taken_before_the_agents_own(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL, total_day=100 * CALL)
    budget = await bench.start()
    await bench.reserved(budget, CALL)
    granted = [name for name, ledger in bench.store.history if ledger.slices]
    assert granted[:2] == [TOTAL, OWN]
    key = SliceKey(budget.holder, bench.store.ledger(OWN).day.start, bench.store.ledger(OWN).month.start)
    assert bench.store.ledger(TOTAL).find(key) is not None
