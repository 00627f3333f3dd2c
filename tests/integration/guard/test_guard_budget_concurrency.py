"""Budgets under load: exactly those calls pass for which there is money, whatever runs in parallel or is killed."""

import asyncio
import random
from pathlib import Path

import aiohttp
import pytest

from interlock_contract.budget.bundle_budget import BundleBudget
from tests.integration.guard.budget_rig import DOLLAR, OWN, TOTAL, BudgetRig, a_budget_rig, are_open, check_passed
from tests.integration.guard.harness import Guard
from tests.requirements import requirement
from tests.support.bounds import until

EACH = 64
"""Calls of one guard at the same time: as many as it takes."""


async def post_at_once(rig: BudgetRig) -> tuple[int, int]:
    """Let each guard have as many calls as it takes at the same time; return how many pass, and how many are refused.

    The provider answers none of them before all are decided on, so none gives anything back. A call to which the ledger
    gave no answer in the two seconds that it waits is sent again, as SDKs do: all of this shares the processors.
    """
    rig.provider.gate.clear()
    rig.provider.answered = 0

    async def post(guard: Guard) -> int:
        while True:
            status, answer, _ = await rig.post(guard)
            if status != 503:
                return status
            assert answer["error"]["code"] == "BudgetUnavailable"

    calls = [asyncio.create_task(post(guard)) for _ in range(EACH) for guard in rig.guards]

    def decided() -> bool:
        return rig.provider.answered + sum(one.done() for one in calls) == len(calls)

    await until(decided, lambda: f"all are decided on: {rig.provider.answered} of {len(calls)} reached the provider")
    rig.provider.gate.set()
    statuses = await asyncio.gather(*calls)
    assert set(statuses) <= {200, 429}, statuses
    return statuses.count(200), statuses.count(429)


async def find_worst_case(folder: Path) -> int:
    """Return what a call reserves, by the record of one."""
    async with a_budget_rig(folder) as rig:
        return await rig.worst_case()


@requirement("budget.exact", "budget.b1")
async def test_of_64_parallel_calls_exactly_those_pass_for_which_there_is_money(tmp_path: Path) -> None:
    worst, k = await find_worst_case(tmp_path / "first"), 37
    async with a_budget_rig(tmp_path, budget=BundleBudget(OWN, k * worst + worst - 1)) as rig:
        check_passed((await post_at_once(rig))[0], k)
        assert rig.most_committed() <= k * worst + worst - 1


@requirement("budget.exact", "budget.b2")
@pytest.mark.parametrize("total", [None, 30])
async def test_of_192_parallel_calls_of_three_guards_exactly_those_pass_for_which_there_is_money(
    tmp_path: Path, total: int | None
) -> None:
    worst, k = await find_worst_case(tmp_path / "first"), 50
    budget = BundleBudget(OWN, k * worst)
    if total is not None:
        budget = BundleBudget(OWN, k * worst, total_ledger=TOTAL, total_day=total * worst)
    async with a_budget_rig(tmp_path, guards=3, budget=budget) as rig:
        expected = min(k, total or k)
        check_passed((await post_at_once(rig))[0], expected)
        assert rig.most_committed() <= k * worst


async def load(rig: BudgetRig, guard: Guard, until_done: asyncio.Event) -> None:
    """Call models until the guard is gone."""
    while not until_done.is_set():
        try:
            await rig.post(guard)
        except aiohttp.ClientError:
            return


async def kill_under_load(folder: Path, rounds: int) -> None:
    """Kill a guard again and again while it has calls under way; its next run settles by its journal."""
    chance = random.Random(7)  # noqa: S311 - the same moments in each run
    async with a_budget_rig(folder, budget=BundleBudget(OWN, DOLLAR)) as rig:
        (guard,) = rig.guards
        for _ in range(rounds):
            before, stop = rig.provider.answered, asyncio.Event()
            calls = [asyncio.create_task(load(rig, guard, stop)) for _ in range(8)]
            wanted = before + chance.randrange(1, 60)
            await until(lambda wanted=wanted: rig.provider.answered >= wanted, "calls are under way")
            await guard.stop()  # SIGKILL
            stop.set()
            await asyncio.gather(*calls)
            assert rig.provider.charged <= rig.committed() <= DOLLAR
            await guard.start()
            await are_open([guard])
            holders = {one.holder for one in rig.api.ledgers[OWN].slices}
            await until(
                lambda holders=holders: holders.isdisjoint(one.holder for one in rig.api.ledgers[OWN].slices),
                "the next run has settled the slices of the one before it",
            )
            assert rig.provider.charged <= rig.spent() <= DOLLAR
        lost = rig.spent() - rig.provider.charged
        reserved = max(round(float(line["reserved"]) * DOLLAR) for line in guard.lines() if "reserved" in line)
        assert lost <= rounds * 8 * reserved  # at most what was under way


@requirement("budget.crash", "budget.b8")
async def test_what_a_killed_guard_has_spent_is_in_the_ledger(tmp_path: Path) -> None:
    await kill_under_load(tmp_path, 4)


@requirement("budget.crash", "budget.b8")
@pytest.mark.nightly
@pytest.mark.timeout(1200)
async def test_what_a_guard_has_spent_that_is_killed_fifty_times_is_in_the_ledger(tmp_path: Path) -> None:
    await kill_under_load(tmp_path, 50)
