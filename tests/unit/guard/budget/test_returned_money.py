"""Slices that a guard no longer needs: it forgets none of them while its ledger still has money in it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from interlock_guard.budget.holder_ledgers import GONE_SECONDS, TICK_SECONDS
from interlock_guard.decision.decide import Deny
from interlock_kube.client import FORBIDDEN
from tests.requirements import requirement
from tests.support.budget_bench import DAY_END, OWN, TOTAL, BudgetBench, followed, in_virtual_time

CALL = 1_000_000


@requirement("budget.exact")
def test_a_call_that_ends_during_the_last_write_of_its_day_leaves_no_money_in_the_slice(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=10 * CALL, month=10 * CALL)
        budget = await bench.start()
        held = await bench.reserved(budget, CALL)
        other = await bench.reserved(budget, 9 * CALL)
        bench.now = DAY_END + 1
        writes: list[None] = []

        def end() -> None:
            writes.append(None)
            budget.settle(other, 0)  # the write on its way keeps the money of this call in the slice

        bench.store.before_update = end
        budget.settle(held, CALL)
        await bench.until(lambda: bool(writes), "the guard writes")
        await bench.until(lambda: bench.store.ledger(OWN).committed("month") == CALL, "what is free has gone back")

    in_virtual_time(tmp_path, work)


def test_a_call_that_ends_during_the_last_write_of_a_retired_ledger_leaves_no_money_in_it(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=10 * CALL, total_day=10 * CALL)
        budget = await bench.start()
        held = await bench.reserved(budget, CALL)
        other = await bench.reserved(budget, 9 * CALL)
        bench.store.before_update = lambda: budget.settle(other, 0)
        bench.relimit(budget, total_ledger=None, total_day=None)
        budget.settle(held, CALL)
        await bench.until(lambda: followed(budget) == {OWN}, "the guard forgets the total")
        assert bench.committed(TOTAL) == bench.spent(TOTAL) == CALL

    in_virtual_time(tmp_path, work)


def test_a_slice_of_which_no_answer_came_goes_back_although_the_ledger_is_retired(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=10 * CALL, total_day=10 * CALL)
        budget = await bench.start()

        def retire() -> None:
            bench.store.before_update = lambda: None
            bench.relimit(budget, total_ledger=None, total_day=None)

        bench.store.loses_answers = 1
        bench.store.before_update = retire
        await bench.reserved(budget, 10 * CALL)
        await bench.until(lambda: followed(budget) == {OWN}, "the guard forgets the total")
        assert bench.committed(TOTAL) == 0

    in_virtual_time(tmp_path, work)


def test_a_write_under_way_keeps_a_ledger_that_is_retired_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=10 * CALL, total_day=10 * CALL)
        budget = await bench.start()
        held = await bench.reserved(budget, CALL)
        bench.relimit(budget, total_ledger=None, total_day=None)
        budget.settle(held, 0)
        await bench.until(lambda: bench.committed(TOTAL) == 0, "all of it has gone back")
        update = bench.store.update

        under_way: list[str] = []

        async def delay(path: str, body: dict[str, Any], manager: str) -> dict[str, Any]:
            under_way.append(path)
            await asyncio.sleep(2 * TICK_SECONDS)  # longer than the pause of the task that returns the money
            return await update(path, body, manager)

        monkeypatch.setattr(bench.store, "update", delay)
        bench.relimit(budget, total_ledger=TOTAL, total_day=10 * CALL)
        call = asyncio.create_task(budget.reserve(CALL))
        await bench.until(lambda: bool(under_way), "the guard writes")
        bench.relimit(budget, total_ledger=None, total_day=None)
        await call
        await bench.until(lambda: followed(budget) == {OWN}, "the guard forgets the total")
        assert bench.committed(TOTAL) == 0

    in_virtual_time(tmp_path, work)


def test_a_ledger_that_gave_nothing_ends_no_holder_when_it_is_gone(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=10 * CALL, total_day=10 * CALL)
        budget = await bench.start()
        before = budget.holder
        bench.store.refusals[TOTAL] = FORBIDDEN
        assert isinstance(await budget.reserve(CALL), Deny)
        bench.relimit(budget, total_ledger=None, total_day=None)
        await bench.until(lambda: followed(budget) == {OWN}, "the guard forgets the total", 2 * GONE_SECONDS)
        assert budget.holder == before

    in_virtual_time(tmp_path, work)
