"""The budget of one task: hard for a task that is alone, and for calls that name no task of each that is under way."""

import asyncio

import pytest

from interlock_guard.budget.account import Reservation
from interlock_guard.budget.task_accounts import TaskAccounts, TaskReservation
from interlock_guard.decision.decide import Deny, DenyReason
from tests.requirements import requirement
from tests.support.budget_bench import OWN, BudgetBench

LIMIT = 10
CALL = 1_000_000


def tasks_under_way(*names: str) -> TaskAccounts:
    tasks = TaskAccounts()
    for name in names:
        tasks.begin(name)
    return tasks


def spend(tasks: TaskAccounts, named: str, amount: int) -> None:
    reserved(tasks, named, amount).settle(amount)


def reserved(tasks: TaskAccounts, named: str, amount: int) -> TaskReservation:
    found = tasks.reserve(named, amount, LIMIT)
    assert isinstance(found, TaskReservation), found
    return found


@requirement("budget.task")
@pytest.mark.parametrize("named", ["", "a", "a task that has ended"])
def test_every_call_counts_against_a_task_that_is_alone(named: str) -> None:
    tasks = tasks_under_way("a")
    spend(tasks, named, 7)
    assert isinstance(tasks.reserve(named, 4, LIMIT), Deny)
    assert isinstance(tasks.reserve(named, 3, LIMIT), TaskReservation)


def test_a_call_that_names_a_task_counts_against_that_task_alone() -> None:
    tasks = tasks_under_way("a", "b")
    spend(tasks, "a", 10)
    assert isinstance(tasks.reserve("a", 1, LIMIT), Deny)
    assert isinstance(tasks.reserve("b", 10, LIMIT), TaskReservation)


@requirement("budget.task")
@pytest.mark.parametrize("named", ["", "c"])
def test_a_call_that_names_no_task_under_way_counts_against_each(named: str) -> None:
    tasks = tasks_under_way("a", "b")
    spend(tasks, "b", 5)
    assert isinstance(tasks.reserve(named, 6, LIMIT), Deny)
    spend(tasks, named, 5)
    assert [tasks.left(name, LIMIT) for name in "ab"] == [5, 0]


@requirement("budget.task")
def test_calls_under_way_count_with_their_worst_case() -> None:
    tasks = tasks_under_way("a")
    under_way = reserved(tasks, "a", 8)
    assert isinstance(tasks.reserve("a", 3, LIMIT), Deny)
    under_way.settle(1)
    assert isinstance(tasks.reserve("a", 9, LIMIT), TaskReservation)


def test_a_call_ends_once() -> None:
    tasks = tasks_under_way("a")
    call = reserved(tasks, "a", 8)
    call.settle(2)
    call.settle(8)
    assert tasks.left("a", LIMIT) == 8


def test_a_call_that_costs_more_than_reserved_leaves_no_money_for_the_next() -> None:
    tasks = tasks_under_way("a")
    reserved(tasks, "a", 8).settle(12)
    assert isinstance(tasks.reserve("a", 1, LIMIT), Deny)
    assert isinstance(tasks.reserve("a", 0, LIMIT), TaskReservation)


def test_a_task_that_begins_has_its_whole_budget() -> None:
    tasks = tasks_under_way("a")
    late = reserved(tasks, "a", 10)
    tasks.end("a")
    tasks.begin("b")
    late.settle(10)
    assert tasks.left("", LIMIT) == LIMIT


def test_calls_outside_of_tasks_have_no_limit_of_a_task() -> None:
    tasks = tasks_under_way("a")
    tasks.end("a")
    assert isinstance(tasks.reserve("a", 1_000, LIMIT), TaskReservation)


def test_spend_before_a_limit_was_set_counts() -> None:
    tasks = tasks_under_way("a")
    found = tasks.reserve("a", 8, None)
    assert isinstance(found, TaskReservation)
    found.settle(8)
    assert isinstance(tasks.reserve("a", 3, LIMIT), Deny)


async def test_a_guard_refuses_a_call_above_the_budget_of_its_task_although_the_day_has_room(
    bench: BudgetBench,
) -> None:
    bench.limit(day=100 * CALL, per_task=3 * CALL)
    guard = await bench.start()
    guard.tasks.begin("a")
    passed = [await guard.reserve(CALL, "a") for _ in range(3)]
    refused = await guard.reserve(CALL, "a")
    assert isinstance(refused, Deny)
    assert refused.reason is DenyReason.TASK_BUDGET_EXHAUSTED
    assert "spec.budget.perTask" in refused.message
    assert guard.refusals == 1
    assert bench.store.ledger(OWN).exhausted is None
    first = passed[0]
    assert isinstance(first, Reservation)
    guard.settle(first, 0)
    assert isinstance(guard.reserve_now(CALL), Reservation)
    assert isinstance(guard.reserve_now(CALL), Deny)


@requirement("budget.task")
async def test_of_64_parallel_calls_of_a_task_exactly_those_pass_for_which_it_has_money(bench: BudgetBench) -> None:
    bench.limit(day=100 * CALL, per_task=7 * CALL)
    guard = await bench.start()
    guard.tasks.begin("a")
    found = await asyncio.gather(*(guard.reserve(CALL) for _ in range(64)))
    assert sum(isinstance(one, Reservation) for one in found) == 7


async def test_a_call_that_the_ledger_refuses_takes_nothing_from_its_task(bench: BudgetBench) -> None:
    bench.limit(day=CALL, per_task=3 * CALL)
    guard = await bench.start()
    guard.tasks.begin("a")
    assert isinstance(await guard.reserve(2 * CALL), Deny)
    assert isinstance(guard.reserve_now(2 * CALL), Deny)
    assert guard.tasks.left("a", 3 * CALL) == 3 * CALL


async def test_a_call_whose_client_is_gone_takes_nothing_from_its_task(bench: BudgetBench) -> None:
    bench.limit(day=2 * CALL, per_task=3 * CALL)
    guards = [await bench.start("pod-a"), await bench.start("pod-b")]
    await bench.reserved(guards[0], CALL)
    guards[1].tasks.begin("a")
    waiting = asyncio.create_task(guards[1].reserve(2 * CALL))
    await asyncio.sleep(0)
    assert guards[1].tasks.left("a", 3 * CALL) == CALL
    waiting.cancel()
    await asyncio.wait([waiting])
    assert guards[1].tasks.left("a", 3 * CALL) == 3 * CALL
