"""Ledgers that fail alone: what one does to a guard reaches only the calls that need it, and ends with it."""

import asyncio
from pathlib import Path

import pytest

from interlock_contract.budget.leases import close_holder
from interlock_contract.clock import monotonic
from interlock_guard.budget.account import Reservation
from interlock_guard.budget.budget import Budget
from interlock_guard.budget.holder_ledgers import GONE_SECONDS
from interlock_guard.decision.decide import Deny, DenyReason
from interlock_kube.client import FORBIDDEN, NOT_FOUND
from tests.support.budget_bench import OWN, TOTAL, BudgetBench, followed, in_virtual_time

CALL = 1_000_000
REASONS = pytest.mark.parametrize("status", [FORBIDDEN, NOT_FOUND, 500, None])


def take_away(bench: BudgetBench, name: str, status: int | None) -> None:
    """Let requests about a ledger be refused, or wait for ever."""
    if status is None:
        bench.store.silent.add(name)
    else:
        bench.store.refusals[name] = status
    bench.store.wake()


async def spend(budget: Budget, amount: int = CALL) -> None:
    found = await budget.reserve(amount)
    assert isinstance(found, Reservation), found
    budget.settle(found, amount)


@REASONS
def test_a_ledger_that_the_bundle_no_longer_names_delays_no_call_however_it_fails(
    tmp_path: Path, status: int | None
) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.clock_runs()
        bench.limit(day=1000 * CALL, total_day=1000 * CALL)
        budget = await bench.start()
        await spend(budget)
        take_away(bench, TOTAL, status)
        bench.relimit(budget, total_ledger=None, total_day=None)
        for _ in range(40):
            begun = monotonic()
            await spend(budget, 5 * CALL)
            assert monotonic() - begun < 0.1
            await asyncio.sleep(1)
        assert not budget.is_away

    in_virtual_time(tmp_path, work)


@pytest.mark.parametrize("status", [FORBIDDEN, NOT_FOUND])
def test_what_a_guard_has_of_a_ledger_that_is_gone_is_given_up_after_a_minute(tmp_path: Path, status: int) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.clock_runs()
        bench.limit(day=1000 * CALL, total_day=1000 * CALL)
        budget = await bench.start()
        await spend(budget)
        before = budget.holder
        take_away(bench, TOTAL, status)
        bench.relimit(budget, total_ledger=None, total_day=None)
        await asyncio.sleep(GONE_SECONDS - 5)
        assert followed(budget) == {OWN, TOTAL}
        await asyncio.sleep(10)
        assert followed(budget) == {OWN}
        assert budget.seen_at is None  # no heartbeat for it
        bench.store.requests.clear()
        await spend(budget)
        await asyncio.sleep(60)
        assert TOTAL not in bench.store.requests
        # Should it be back, this guard gives nothing back that it may have spent. The operator finds its holder silent.
        bench.store.refusals.clear()
        bench.relimit(budget, total_ledger=TOTAL, total_day=1000 * CALL)
        await spend(budget, 2 * CALL)
        total = bench.store.ledger(TOTAL)
        assert budget.holder != before
        assert total.find(total.present_key(before)) is not None
        bench.store.put(TOTAL, close_holder(total, before))
        await budget.finish(1)
        assert bench.spent() == 4 * CALL
        assert bench.spent(TOTAL) >= 3 * CALL

    in_virtual_time(tmp_path, work)


def test_a_call_under_way_keeps_its_money_of_a_ledger_that_the_bundle_no_longer_names(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.clock_runs()
        bench.limit(day=1000 * CALL, total_day=1000 * CALL)
        budget = await bench.start()
        held = await bench.reserved(budget, 10 * CALL)
        bench.relimit(budget, total_ledger=None, total_day=None)
        await asyncio.sleep(90)
        assert bench.committed(TOTAL) == 10 * CALL
        budget.settle(held, 4 * CALL)
        await bench.until(lambda: followed(budget) == {OWN}, "the ledger is forgotten long before its day ends")
        assert bench.committed(TOTAL) == bench.spent(TOTAL) == 4 * CALL
        bench.relimit(budget, total_ledger=TOTAL, total_day=10 * CALL)  # what it had settled there is no money
        await spend(budget, 6 * CALL)
        assert budget.free == 0
        await bench.kill(budget)
        after = await bench.start()
        await bench.until(
            lambda: bench.committed(TOTAL) == bench.spent(TOTAL) == 10 * CALL, "a restart knows all of it"
        )
        assert isinstance(await after.reserve(CALL), Deny)

    in_virtual_time(tmp_path, work)


@REASONS
def test_while_one_ledger_fails_what_was_spent_comes_into_the_other(tmp_path: Path, status: int | None) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.clock_runs()
        bench.limit(day=1000 * CALL, total_day=1000 * CALL)
        budget = await bench.start()
        await spend(budget, 3 * CALL)
        take_away(bench, TOTAL, status)
        await bench.until(lambda: bench.spent() == 3 * CALL, "the agent's own ledger has it")
        refused = await budget.reserve(900 * CALL)
        assert isinstance(refused, Deny)
        assert refused.reason is DenyReason.BUDGET_UNAVAILABLE
        bench.store.refusals.clear()
        bench.store.silent.clear()
        await bench.until(lambda: bench.spent(TOTAL) == 3 * CALL, "and the total, once it is back")
        await spend(budget)

    in_virtual_time(tmp_path, work)


def test_a_guard_that_ends_settles_in_each_ledger_that_answers(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.clock_runs()
        bench.limit(day=1000 * CALL, total_day=1000 * CALL)
        budget = await bench.start()
        await spend(budget, 3 * CALL)
        take_away(bench, OWN, None)
        await budget.finish(1)
        assert bench.committed(TOTAL) == bench.spent(TOTAL) == 3 * CALL

    in_virtual_time(tmp_path, work)


def test_an_unexpected_error_with_one_ledger_reaches_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.clock_runs()
        bench.limit(day=1000 * CALL, total_day=1000 * CALL)
        budget = await bench.start()
        await spend(budget, 3 * CALL)
        share = budget._ledgers._limits[TOTAL].share  # noqa: SLF001 - the part in it
        monkeypatch.setattr(type(share), "change", lambda *_, **__: 1 // 0, raising=True)
        bench.relimit(budget, day=900 * CALL)
        await asyncio.sleep(20)
        monkeypatch.undo()
        assert [line for line in bench.logs if "ZeroDivisionError" in line]
        await bench.until(lambda: bench.spent() == bench.spent(TOTAL) == 3 * CALL, "both are settled")

    in_virtual_time(tmp_path, work)
