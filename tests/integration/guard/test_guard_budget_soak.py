"""Thousands of calls of three guards that share a budget: whole, cut off, refused, failed, and with guards killed."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
import pytest
from aiohttp import web

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.money import parse_money
from tests.integration.guard.budget_rig import DOLLAR, OWN, BudgetRig, a_budget_rig, are_open, cost_of
from tests.integration.guard.fake_provider import answer_of
from tests.integration.guard.harness import Guard
from tests.integration.guard.model_rig import BEARER, CHAT, chat
from tests.requirements import requirement
from tests.support.bounds import until

PARALLEL = 256
MINUTE = 60.0
OUTPUT = 10
"""Tokens of output that each call allows."""
FULL_COUNT = 10_000
COUNTS = [
    pytest.param(600, id="600"),
    pytest.param(FULL_COUNT, id="10000", marks=[pytest.mark.nightly, pytest.mark.timeout(1200)]),
]


@dataclass
class Tally:
    """What the calls of one run came to."""

    passed: int = 0
    refused: int = 0
    first_refusal: int | None = None
    """How many calls the provider had answered, or was answering, when the first one was refused."""
    failed: list[tuple[int, object]] = field(default_factory=list)


async def find_worst_case(folder: Path) -> int:
    async with a_budget_rig(folder) as rig:
        return await rig.worst_case()


async def post_many(rig: BudgetRig, count: int) -> Tally:
    """Send calls, as many at the same time as `PARALLEL` says, to all guards in turn.

    A guard takes 64 calls at the same time. A call above that is sent again, as SDKs do, and so is one whose ledger did
    not answer in time, because these clients, the provider and the API server share one core.
    """
    tally, numbers = Tally(), iter(range(count))

    async def work() -> None:
        for number in numbers:
            while True:
                status, answer, _ = await rig.post(rig.guards[number % len(rig.guards)])
                if status == 200:
                    tally.passed += 1
                elif status == 429 and answer["error"]["code"] == "insufficient_quota":
                    tally.refused += 1
                    if tally.first_refusal is None:
                        tally.first_refusal = rig.provider.answered
                elif status == 429 or answer["error"]["code"] == "BudgetUnavailable":
                    await asyncio.sleep(0.02)
                    continue
                else:
                    tally.failed.append((status, answer))
                break

    await asyncio.gather(*(work() for _ in range(PARALLEL)))
    return tally


@requirement("budget.exact", "budget.b1", "budget.b2")
@pytest.mark.parametrize("count", COUNTS)
async def test_of_calls_256_at_a_time_exactly_those_pass_for_which_there_is_money(tmp_path: Path, count: int) -> None:
    worst, k = await find_worst_case(tmp_path / "first"), count * 2 // 3
    async with a_budget_rig(tmp_path, guards=3, budget=BundleBudget(OWN, k * worst)) as rig:
        rig.provider.tokens = (worst - cost_of(0, OUTPUT)) // cost_of(1, 0), OUTPUT
        tally = await post_many(rig, count)
        assert tally.failed == []
        assert (tally.passed, tally.refused) == (k, count - k)
        assert rig.provider.charged == k * worst  # not one nano-dollar over, and none left
        await rig.settled(k * worst)
        assert rig.most_committed() <= k * worst
        assert tally.first_refusal is not None
        assert tally.first_refusal > k - PARALLEL  # until then there was money for every call under way


@requirement("budget.exact", "budget.b4")
@pytest.mark.parametrize("count", COUNTS)
async def test_no_call_is_refused_as_long_as_all_calls_under_way_fit_into_the_budget(
    tmp_path: Path, count: int
) -> None:
    worst = await find_worst_case(tmp_path / "first")
    budget = BundleBudget(OWN, (count - PARALLEL) * cost_of(100, OUTPUT) + PARALLEL * worst)
    async with a_budget_rig(tmp_path, guards=3, budget=budget) as rig:
        tally = await post_many(rig, count)
        assert (tally.passed, tally.refused, tally.failed) == (count, 0, [])
        assert rig.provider.charged == count * cost_of(100, OUTPUT)
        await rig.settled(rig.provider.charged)


class Faulty:
    """A provider whose calls end in many ways; it knows what those with a usage have cost."""

    def __init__(self, rig: BudgetRig, chance: Random) -> None:
        self.rig, self.chance = rig, chance
        self.metered = 0
        """Nano-dollars of the answers whose usage was sent whole."""
        self.begun = 0
        """Nano-dollars of all calls that came and were not refused, whether a usage was sent or not."""

    async def answer(self, http: web.Request) -> web.StreamResponse:
        fault = json.loads(await http.read())["user"]
        if fault.isdecimal():
            status = int(fault)
            if status in (500, 502, 504):  # the provider may have worked, and charges for it
                self.begun += cost_of(100, OUTPUT)
            return web.json_response({"error": {"message": "no"}}, status=status)
        usage_in, usage_out = self.chance.randrange(1, 40), self.chance.randrange(1, OUTPUT)
        cost = cost_of(usage_in, usage_out)
        self.begun += cost
        usage = {"prompt_tokens": usage_in, "completion_tokens": usage_out, "total_tokens": usage_in + usage_out}
        if fault == "breaks":
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(http)
            await response.write(b'data: {"choices": []}\n\n')
            assert http.transport is not None
            http.transport.abort()
            return response
        if fault == "silent":
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(http)
            await response.write(b'data: {"choices": []}\n\n')
            await asyncio.Event().wait()
        self.metered += cost
        return web.json_response({**answer_of(CHAT, chat()), "usage": usage})


FAULTS = [*["whole"] * 7, "breaks", "silent", "500", "502", "503", "504", "529", "429", "gone"]
"""Of ten calls of agents three end badly. `silent` is a time-out of the client, `gone` one that hangs up at once."""


async def post_faulty(rig: BudgetRig, guard: Guard, fault: str) -> None:
    """Send one call; a client whose provider is silent gives up, and one that hangs up does not read its answer."""
    body = chat(max_completion_tokens=OUTPUT, user=fault, stream=fault in ("breaks", "silent"))
    url = f"http://127.0.0.1:{guard.port}{CHAT}"
    try:
        async with asyncio.timeout(0.05 if fault == "silent" else 60):
            async with rig.http.post(url, json=body, headers=BEARER) as response:
                if fault != "gone":
                    await response.read()
    except (TimeoutError, aiohttp.ClientError):
        pass


async def run_faulty(rig: BudgetRig, count: int, kill: Callable[[int], bool], chance: Random) -> Faulty:
    """Send calls that end in all ways, and kill a guard now and then."""
    provider, numbers = Faulty(rig, chance), iter(range(count))
    rig.provider.answer = provider.answer
    restarting = asyncio.Lock()

    async def work() -> None:
        for number in numbers:
            guard = rig.guards[number % len(rig.guards)]
            await post_faulty(rig, guard, chance.choice(FAULTS))
            if kill(number):
                async with restarting:
                    await guard.stop()
                    await guard.start()
                    await are_open([guard])

    await asyncio.gather(*(work() for _ in range(48)))
    return provider


async def nothing_is_reserved(rig: BudgetRig, count: int) -> None:
    """Assert that no slice holds money that is not spent.

    Guards return what is unused for half a minute. After few calls they end here, which returns it immediately.
    """

    def is_returned() -> bool:
        return not any(one.amount for one in rig.api.ledgers[OWN].slices)

    if count < FULL_COUNT:
        assert [await guard.stop(15) for guard in rig.guards] == [0] * len(rig.guards)
        assert is_returned(), rig.api.ledgers[OWN].slices  # nothing writes to the ledger any longer
    await until(is_returned, lambda: f"nothing is reserved: {rig.api.ledgers[OWN].slices}", MINUTE)


def recorded(rig: BudgetRig, basis: str | None = None) -> int:
    """Return the sum of the costs in the records of all guards."""
    return sum(
        parse_money(line["cost"])
        for guard in rig.guards
        for line in guard.lines()
        if line["kind"] == "outcome" and "cost" in line and basis in (None, line["costBasis"])
    )


FAULTY_COUNTS = [
    pytest.param(300, id="300"),
    pytest.param(FULL_COUNT, id="10000", marks=[pytest.mark.nightly, pytest.mark.timeout(1800)]),
]


@requirement("budget.settled", "budget.b3")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", FAULTY_COUNTS)
async def test_a_third_of_bad_ends_leaves_no_reservation_and_the_ledger_has_each_usage_exactly(
    tmp_path: Path, count: int
) -> None:
    chance = Random(3)  # noqa: S311 - the same calls in each run
    budget = BundleBudget(OWN, 1000 * DOLLAR, hang_up_seconds=1)
    async with a_budget_rig(tmp_path, guards=3, budget=budget) as rig:
        provider = await run_faulty(rig, count, lambda _: False, chance)
        await nothing_is_reserved(rig, count)
        assert recorded(rig, "Usage") == provider.metered
        assert rig.spent() == rig.committed() == recorded(rig)
        assert provider.begun <= rig.spent()


@requirement("budget.crash", "budget.b3", "budget.b8")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", FAULTY_COUNTS)
async def test_guards_that_are_killed_among_bad_ends_leave_no_reservation_and_no_usage_unpaid(
    tmp_path: Path, count: int
) -> None:
    chance = Random(4)  # noqa: S311 - the same calls in each run
    budget = BundleBudget(OWN, 1000 * DOLLAR, hang_up_seconds=1)
    async with a_budget_rig(tmp_path, guards=3, budget=budget) as rig:
        step = max(100, count // 50)
        provider = await run_faulty(rig, count, lambda number: number % step == step // 2, chance)
        await nothing_is_reserved(rig, count)
        assert provider.begun <= rig.spent() == rig.committed() <= 1000 * DOLLAR
        assert rig.most_committed() <= 1000 * DOLLAR
