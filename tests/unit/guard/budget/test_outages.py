"""Guards whose ledgers cannot be reached for a while, in virtual time."""

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from interlock_contract.clock import monotonic
from interlock_guard.budget.account import Reservation
from interlock_guard.budget.budget import AWAY_SECONDS, Budget
from interlock_guard.decision.decide import Deny, DenyReason
from tests.requirements import requirement
from tests.support.budget_bench import OWN, BudgetBench, in_virtual_time

CALL = 1_000_000
LEASE_SECONDS = 30
MINUTE = 60


async def go_away(bench: BudgetBench, budget: Budget) -> None:
    bench.store.go_away()
    await bench.until(lambda: budget.is_away, "the guard knows that the store is away")


@requirement("budget.outage")
@pytest.mark.parametrize("tenths", range(10))
def test_a_call_that_begins_while_the_ledger_is_away_is_never_told_that_the_budget_is_exhausted(
    tmp_path: Path, tenths: int
) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=100 * CALL)
        budget = await bench.start()
        await go_away(bench, budget)
        for _ in range(10):  # the pauses between two tries to write grow
            assert isinstance(await budget.reserve(CALL), Deny)
        call = asyncio.create_task(budget.reserve(CALL))
        await asyncio.sleep(AWAY_SECONDS * tenths / 10)
        bench.store.come_back()  # the watch sees it before or after the call has waited long enough
        found = await call
        assert isinstance(found, Reservation) or found.reason is DenyReason.BUDGET_UNAVAILABLE, found
        await bench.until(lambda: not budget.is_away, "the guard has its ledger again")
        assert isinstance(await budget.reserve(CALL), Reservation)

    in_virtual_time(tmp_path, work)


@requirement("budget.outage")
def test_a_call_whose_ledger_takes_no_write_is_not_told_that_the_budget_is_exhausted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=100 * CALL)
        budget = await bench.start()
        monkeypatch.setattr(bench.store, "update", lambda *_: asyncio.Event().wait())
        found = await budget.reserve(CALL)  # reads are answered, so that the ledger does not seem to be away
        assert isinstance(found, Deny)
        assert found.reason is DenyReason.BUDGET_UNAVAILABLE

    in_virtual_time(tmp_path, work)


@requirement("budget.outage", "budget.b9")
def test_a_ledger_that_is_away_for_a_minute_costs_its_open_slice_and_no_call_waits_a_second(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=100 * CALL)
        budget = await bench.start()
        for _ in range(20):  # what it has spent makes its slice larger than one call
            budget.settle(await bench.reserved(budget, CALL), CALL)
            await asyncio.sleep(0.2)
        spent, passed_at, free = 20 * CALL, [], budget.free
        assert free > 0
        await go_away(bench, budget)
        away_at = monotonic()
        while monotonic() < away_at + MINUTE:
            asked_at = monotonic()
            found = await budget.reserve(CALL // 100)
            assert monotonic() - asked_at < 1
            if isinstance(found, Reservation):
                passed_at.append(monotonic())
                budget.settle(found, CALL // 100)
                spent += CALL // 100
            else:
                assert found.reason is DenyReason.BUDGET_UNAVAILABLE
            await asyncio.sleep(0.5)
        assert passed_at
        assert max(passed_at) <= away_at + LEASE_SECONDS
        assert spent <= 20 * CALL + free
        bench.store.come_back()
        back_at = monotonic()
        await bench.until(lambda: not budget.is_away, "the guard has its ledger again")
        assert isinstance(await budget.reserve(50 * CALL), Reservation)
        assert monotonic() - back_at < 10
        await bench.until(lambda: bench.spent() == spent, "the ledger has every call of the outage")

    in_virtual_time(tmp_path, work)


@requirement("budget.outage")
def test_a_call_that_waits_when_the_ledger_goes_away_is_told_so(tmp_path: Path) -> None:
    async def work(bench: BudgetBench) -> None:
        bench.limit(day=10 * CALL)
        first, second = await bench.start("pod-a"), await bench.start("pod-b")
        await bench.reserved(first, 10 * CALL)
        call = asyncio.create_task(second.reserve(CALL))
        await bench.until(lambda: any(one.wanted for one in bench.store.ledger(OWN).slices), "the call waits")
        bench.store.go_away()
        found = await call
        assert isinstance(found, Deny)
        assert found.reason is DenyReason.BUDGET_UNAVAILABLE

    in_virtual_time(tmp_path, work)


@requirement("budget.closed-once")
def test_a_late_event_of_the_ledger_does_not_make_a_guard_think_that_it_was_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def lines(*_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield {"type": "MODIFIED", "object": await events.get()}

    async def work(bench: BudgetBench) -> None:
        bench.limit(day=100 * CALL)
        monkeypatch.setattr(bench.store, "lines", lines)
        old = copy.deepcopy(bench.store.objects[OWN])
        budget = await bench.start()
        holder = budget.holder
        await bench.reserved(budget, CALL)
        bench.store.loses_answers = 1
        call = asyncio.create_task(budget.reserve(50 * CALL))
        await bench.until(lambda: budget.is_away, "the answer of a write is lost")
        events.put_nowait(old)  # from before the slice
        assert isinstance(await call, Reservation)
        assert budget.holder == holder
        assert [one.holder for one in bench.store.ledger(OWN).slices] == [holder]

    in_virtual_time(tmp_path, work)
