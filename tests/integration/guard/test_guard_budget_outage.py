"""A real guard whose API server is gone for a minute, or has another time than the guard's machine."""

import asyncio
from pathlib import Path

import pytest

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.clock import utc_now
from tests.integration.guard.budget_rig import DOLLAR, OWN, a_budget_rig, are_open, build_guard
from tests.requirements import requirement
from tests.support.bounds import check_promise, until

HOUR = 3600
MINUTE = 60.0
LEASE_SECONDS = 30.0


@requirement("budget.outage", "budget.b9")
@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_an_api_server_that_is_away_for_a_minute_costs_no_call_that_is_not_in_the_ledger(tmp_path: Path) -> None:
    async with a_budget_rig(tmp_path, budget=BundleBudget(OWN, DOLLAR), lease_seconds=LEASE_SECONDS) as rig:
        (guard,) = rig.guards
        for _ in range(50):
            assert (await rig.post(guard))[0] == 200
        loop = asyncio.get_running_loop()
        await rig.api.stop()
        away_at, last_passed, slowest = loop.time(), 0.0, 0.0
        while loop.time() < away_at + MINUTE:
            asked_at = loop.time()
            status, _, _ = await rig.post(guard)
            if status == 200:
                last_passed = asked_at - away_at
            else:
                assert status == 503
                slowest = max(slowest, loop.time() - asked_at)
            assert rig.provider.charged <= rig.committed()  # what the ledger has granted, and nothing else
            await asyncio.sleep(0.2)
        assert last_passed <= LEASE_SECONDS + 1
        await rig.api.start()
        back_at = loop.time()

        async def passes() -> bool:
            return (await rig.post(guard))[0] == 200

        await until(passes, "calls pass again")
        check_promise(loop.time() - back_at, 10, "calls pass after the API server is back")
        check_promise(slowest, 1, "a call is refused while the API server is away")
        await guard.stop(15)
        assert rig.spent() == rig.committed() == rig.provider.charged


@requirement("budget.one-reset", "budget.b10")
@pytest.mark.parametrize("skew", [-HOUR, HOUR], ids=["an hour behind", "an hour ahead"])
async def test_the_day_is_that_of_an_api_server_whose_clock_differs_by_an_hour(tmp_path: Path, skew: int) -> None:
    """With days of one hour, the day of the guard's own clock is never that of the API server."""
    async with a_budget_rig(tmp_path, guards=0) as rig:
        rig.api.date = utc_now().timestamp() + skew
        rig.set_budget(BundleBudget(OWN, DOLLAR, day_seconds=HOUR))
        guard = build_guard(rig.api, tmp_path / "guard")
        await guard.start()
        await are_open([guard])
        assert (await rig.post(guard))[0] == 200
        await guard.stop(15)
        assert 0 <= rig.api.date - rig.api.ledgers[OWN].day.start < HOUR
        assert rig.spent() == rig.provider.charged
