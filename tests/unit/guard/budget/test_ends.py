"""The end of a guard in order, at whatever moment it comes: nothing that is not spent stays reserved."""

import asyncio

import pytest

from interlock_contract.budget.leases import close_holder
from tests.requirements import requirement
from tests.support.budget_bench import OWN, TOTAL, BudgetBench, known_ledgers

CALL = 1_000_000
BOTH = (OWN, TOTAL)


async def kill_with_money(bench: BudgetBench) -> None:
    """Kill a guard that has spent one call, has 5 under way, and has money for more."""
    budget = await bench.start()
    budget.settle(await bench.reserved(budget, 10 * CALL), CALL)
    await bench.reserved(budget, 5 * CALL)
    await bench.kill(budget)
    assert all(bench.committed(name) > 6 * CALL for name in BOTH)


def only_spent(bench: BudgetBench, nanos: int) -> bool:
    """Return True if so much is spent in both ledgers, and nothing is reserved."""
    return all(bench.spent(name) == bench.committed(name) == nanos for name in BOTH)


@requirement("budget.crash", "budget.b8")
async def test_a_guard_that_ends_before_its_first_round_gives_back_what_a_killed_run_had(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL, total_day=100 * CALL)
    await kill_with_money(bench)
    after = await bench.start(waits=False)
    await bench.end(after)
    assert only_spent(bench, 6 * CALL)
    assert list((bench.folder / "pod-a").iterdir()) == []


@requirement("budget.crash", "budget.b8")
async def test_a_guard_that_ends_while_it_settles_a_killed_run_settles_it_once(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL, total_day=100 * CALL)
    await kill_with_money(bench)
    bench.store.answers.clear()
    writes = bench.store.writes
    after = await bench.start()
    await bench.until(lambda: bench.store.writes > writes, "one ledger has the end of the killed run")
    await bench.end(after)
    assert only_spent(bench, 6 * CALL)
    assert list((bench.folder / "pod-a").iterdir()) == []


async def test_a_guard_that_ends_while_it_takes_its_first_slice_gives_it_back(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL, total_day=100 * CALL)
    first, budget = await bench.start("pod-a"), await bench.start("pod-b")
    first.settle(await bench.reserved(first, CALL), CALL)  # which opens the windows: the second has nothing to write
    await bench.end(first)
    bench.store.answers.clear()
    call = asyncio.create_task(budget.reserve(10 * CALL))
    await bench.until(lambda: bench.committed(TOTAL) > CALL, "a slice is in the ledger, and no answer has come")
    call.cancel()
    await bench.end(budget)
    assert only_spent(bench, CALL)


@pytest.mark.parametrize("name", BOTH)
async def test_a_guard_that_ends_after_one_ledger_closed_it_gives_back_what_it_has_of_the_other(
    bench: BudgetBench, name: str
) -> None:
    bench.limit(day=100 * CALL, total_day=100 * CALL)
    budget = await bench.start()
    budget.settle(await bench.reserved(budget, 10 * CALL), CALL)
    closed = close_holder(bench.store.ledger(name), budget.holder)
    bench.store.put(name, closed)
    await bench.until(lambda: closed in known_ledgers(budget), "the guard has seen that it is closed")
    await bench.end(budget)
    (other,) = {*BOTH} - {name}
    assert bench.spent(other) == bench.committed(other) == CALL
    assert bench.spent(name) == bench.committed(name) == closed.day.spent


@requirement("budget.crash")
async def test_what_a_guard_cannot_give_back_in_time_its_next_run_gives_back(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL, total_day=100 * CALL)
    budget = await bench.start()
    budget.settle(await bench.reserved(budget, 10 * CALL), CALL)
    bench.store.silent.add(OWN)
    await bench.end(budget)
    assert bench.committed() > CALL == bench.committed(TOTAL)
    assert any(f"the ledger {OWN} has not answered within 1 s" in line for line in bench.logs)
    bench.store.silent.clear()
    await bench.start()
    await bench.until(lambda: only_spent(bench, CALL), "the next run gives it back")
