"""Usage above a reservation is charged whole, also where the slice that should pay was closed, and only once."""

import asyncio
from pathlib import Path

import pytest

from interlock_contract.budget.leases import close_holder, roll
from interlock_guard.budget.account import Reservation
from interlock_guard.budget.budget import Budget
from interlock_guard.decision.decide import Deny
from tests.requirements import requirement
from tests.support.budget_bench import DAY_END, OWN, TOTAL, BudgetBench, in_virtual_time

CALL = 1_000_000
DAY_SECONDS = 86_400


async def two_ledgers(bench: BudgetBench) -> Budget:
    bench.limit(day=1000 * CALL, total_day=1000 * CALL)
    return await bench.start()


def close(bench: BudgetBench, holder: str, *names: str) -> None:
    """Close a holder, as the operator does."""
    for name in names:
        bench.store.put(name, close_holder(bench.store.ledger(name), holder))


async def settle_and_end(bench: BudgetBench, budget: Budget, reservation: Reservation, cost: int) -> None:
    """End a call while no ledger can be reached, kill the guard, and start its next run."""
    bench.store.go_away()
    budget.settle(reservation, cost)
    await bench.kill(budget)
    bench.store.come_back()
    await bench.start()


def is_spent(bench: BudgetBench, amount: int) -> bool:
    return bench.spent() == bench.spent(TOTAL) == amount


@requirement("budget.crash")
@pytest.mark.parametrize("names", [(OWN,), (TOTAL,), (OWN, TOTAL)], ids=["own", "total", "both"])
def test_a_call_that_cost_more_is_charged_whole_although_its_holder_was_closed_before_it_could_settle(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    async def work(bench: BudgetBench) -> None:
        budget = await two_ledgers(bench)
        held = await bench.reserved(budget, 10 * CALL)
        before = budget.holder
        for name in names:
            close(bench, before, name)
        budget.settle(held, 15 * CALL)  # the guard may not know yet that it was closed
        await bench.until(lambda: is_spent(bench, 15 * CALL), "both ledgers have it")
        await bench.reserved(budget, CALL)
        assert budget.holder != before
        await budget.finish(1)
        assert is_spent(bench, 15 * CALL)

    in_virtual_time(tmp_path, work)


@requirement("budget.crash")
def test_what_a_killed_guard_was_charged_above_its_closed_slices_is_charged_by_its_next_run(
    tmp_path: Path,
) -> None:
    async def work(bench: BudgetBench) -> None:
        budget = await two_ledgers(bench)
        held = await bench.reserved(budget, 10 * CALL)
        before = budget.holder
        close(bench, before, OWN)
        await settle_and_end(bench, budget, held, 15 * CALL)
        await bench.until(lambda: is_spent(bench, 15 * CALL), "both ledgers have it")

    in_virtual_time(tmp_path, work)


def test_a_run_that_is_killed_after_it_was_closed_passes_on_what_it_had_to_charge(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        budget = await two_ledgers(bench)
        held = await bench.reserved(budget, 10 * CALL)
        close(bench, budget.holder, OWN, TOTAL)
        await bench.reserved(budget, 2 * CALL)  # as another holder
        await settle_and_end(bench, budget, held, 15 * CALL)
        await bench.until(lambda: is_spent(bench, 17 * CALL), "what was under way counts whole, and what was above")

    in_virtual_time(tmp_path, work)


@requirement("budget.exact")
def test_a_charge_whose_answer_was_lost_is_made_once(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        budget = await two_ledgers(bench)
        held = await bench.reserved(budget, 10 * CALL)
        close(bench, budget.holder, OWN, TOTAL)
        await bench.reserved(budget, 2 * CALL)
        bench.store.loses_answers = 3
        budget.settle(held, 15 * CALL)
        await budget.finish(1)
        await bench.until(lambda: bench.store.loses_answers == 0 and is_spent(bench, 15 * CALL), "both ledgers have it")
        await budget.finish(1)
        assert is_spent(bench, 15 * CALL)

    in_virtual_time(tmp_path, work)


@pytest.mark.parametrize("days", [0, 1, 2, 3])
@pytest.mark.parametrize("is_away", [False, True])
def test_a_call_that_ends_days_later_is_charged_to_the_day_in_which_it_began(
    tmp_path: Path, days: int, *, is_away: bool
) -> None:
    """Whatever has become of the slice of that day: it is empty, forgotten, or no longer in the ledger."""

    async def work(bench: BudgetBench) -> None:
        bench.limit(day=1000 * CALL)
        budget = await bench.start()
        budget.settle(await bench.reserved(budget, 10 * CALL), 5 * CALL)
        late = await budget.reserve(0)
        assert isinstance(late, Reservation)
        begun = bench.store.ledger(OWN).day.start
        if days:
            bench.now = DAY_END + 1
            budget.settle(await bench.reserved(budget, CALL), 0)
            await asyncio.sleep(40)
        if is_away:
            bench.store.go_away()
            budget.settle(late, 7 * CALL)
            bench.store.come_back()
        for _ in range(1, days):
            bench.now += DAY_SECONDS
            bench.store.put(OWN, roll(bench.store.ledger(OWN), bench.terms.terms, bench.now))
        budget.settle(late, 7 * CALL)

        def spent() -> int:
            ledger = bench.store.ledger(OWN)
            return next(one.spent for one in (ledger.day, *ledger.days) if one.start == begun)

        await bench.until(lambda: spent() >= 12 * CALL, "that day has it")
        await asyncio.sleep(120)
        assert spent() == 12 * CALL

    in_virtual_time(tmp_path, work)


def test_a_free_call_that_has_cost_something_is_charged_by_the_run_after_a_kill(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        budget = await two_ledgers(bench)
        await bench.reserved(budget, CALL)
        free = await budget.reserve(0)
        assert isinstance(free, Reservation)
        await settle_and_end(bench, budget, free, 7 * CALL)
        await bench.until(lambda: is_spent(bench, 8 * CALL), "both ledgers have it")

    in_virtual_time(tmp_path, work)


@requirement("budget.exact")
def test_a_late_charge_makes_no_money_of_a_slice_whose_return_is_on_its_way(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=1000 * CALL)
        other = await bench.start("pod-b")
        other.settle(await bench.reserved(other, CALL), CALL)
        budget = await bench.start()
        late = await budget.reserve(0)
        assert isinstance(late, Reservation)
        bench.store.loses_answers = 1
        waiting = asyncio.create_task(budget.reserve(10 * CALL))
        await bench.until(lambda: bench.store.loses_answers == 0, "the ledger has a slice that the guard does not know")
        waiting.cancel()
        found: list[Reservation | Deny] = []

        def charge() -> None:
            if not found:
                budget.settle(late, CALL)
                found.append(budget.reserve_now(9 * CALL))

        bench.store.before_update = charge
        await bench.until(lambda: bool(found), "the slice is returned")
        assert isinstance(found[0], Deny)
        await bench.until(lambda: bench.spent() == 2 * CALL, "the late charge is in the ledger")

    in_virtual_time(tmp_path, work)


@requirement("budget.crash")
def test_a_charge_to_a_forgotten_slice_during_a_write_is_noted_once(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=1000 * CALL)
        budget = await bench.start()
        budget.settle(await bench.reserved(budget, 10 * CALL), 5 * CALL)
        late = await budget.reserve(0)
        assert isinstance(late, Reservation)
        bench.now = DAY_END + 1
        budget.settle(await bench.reserved(budget, CALL), 0)
        await asyncio.sleep(40)

        def charge() -> None:
            budget.settle(late, 7 * CALL)

        bench.store.before_update = charge
        await bench.reserved(budget, CALL)
        assert late.is_settled
        bench.store.go_away()
        await bench.kill(budget)
        bench.store.come_back()
        await bench.start()
        await bench.until(lambda: bench.store.ledger(OWN).days[0].spent >= 12 * CALL, "the day before has it")
        assert bench.store.ledger(OWN).days[0].spent == 12 * CALL

    in_virtual_time(tmp_path, work)


@requirement("budget.crash")
def test_what_a_closed_slice_had_returned_without_an_answer_pays_for_nothing(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=1000 * CALL)
        budget = await bench.start()
        held, other = await bench.reserved(budget, 10 * CALL), await bench.reserved(budget, 10 * CALL)
        budget.settle(other, 0)
        await asyncio.sleep(1)
        assert bench.committed() >= 20 * CALL
        bench.store.loses_answers = 1
        await bench.until(lambda: bench.store.loses_answers == 0, "what is free is returned", seconds=120)
        assert bench.committed() == 10 * CALL
        bench.store.go_away()
        budget.settle(held, 15 * CALL)
        await bench.kill(budget)
        close(bench, budget.holder, OWN)
        bench.store.come_back()
        await bench.start()
        await bench.until(lambda: bench.spent() >= 15 * CALL, "the ledger has what the call has cost")
        assert bench.spent() == 15 * CALL

    in_virtual_time(tmp_path, work)
