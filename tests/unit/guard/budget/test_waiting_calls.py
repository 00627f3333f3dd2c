"""Calls that wait are answered once, first come first, and lose nothing that they were given."""

import asyncio
from dataclasses import dataclass, field

import pytest

from interlock_guard.budget.waiting_calls import WaitingCall, WaitingCalls
from interlock_guard.decision.decide import Deny, DenyReason
from tests.support.virtual_time import run_in_virtual_time

DENIED = Deny(DenyReason.BUDGET_EXHAUSTED, "", "nothing is left")
KILLED = Deny(DenyReason.KILLED, "", "killed")
Found = str | Deny


@dataclass
class Purse:
    """Gives numbers to calls that wait for them."""

    given_back: list[str] = field(default_factory=list)
    wakes: int = 0

    def __post_init__(self) -> None:
        self.waiting = WaitingCalls[int, str](give_back=self.given_back.append, wake=self.wake)

    def wake(self) -> None:
        self.wakes += 1

    async def begin(self, *needs: int) -> list[asyncio.Task[Found]]:
        """Let calls begin to wait, in this order."""
        begun = [asyncio.create_task(self.waiting.wait(need, 2.0, lambda _: DENIED)) for need in needs]
        await asyncio.sleep(0)
        return begun

    def offer(self, left: int) -> None:
        def answer(need: int) -> str | None:
            nonlocal left
            if need > left:
                return None
            left -= need
            return f"{need}"

        self.waiting.offer(answer)


async def test_calls_are_answered_in_the_order_in_which_they_came() -> None:
    purse = Purse()
    begun = await purse.begin(3, 9, 2, 1)
    purse.offer(5)
    assert (await begun[0], await begun[2]) == ("3", "2")
    assert purse.waiting.needs == [9, 1]
    purse.offer(10)
    assert (await begun[1], await begun[3]) == ("9", "1")
    assert not purse.waiting


async def test_an_answer_that_a_call_has_not_seen_is_its_only_one() -> None:
    purse = Purse()
    (call,) = await purse.begin(3)
    purse.offer(3)
    assert purse.waiting
    assert purse.waiting.needs == []
    purse.offer(3)
    purse.waiting.deny_all(KILLED)
    assert await call == "3"


def test_a_call_that_has_waited_too_long_is_denied() -> None:
    async def work() -> None:
        purse = Purse()
        (call,) = await purse.begin(3)
        await asyncio.sleep(1.9)
        assert not call.done()
        assert await call == DENIED
        assert not purse.waiting

    run_in_virtual_time(work())


async def test_the_denial_of_a_call_knows_what_was_found_out_for_it() -> None:
    known: list[bool] = []

    def deny(call: WaitingCall[int, str]) -> Deny:
        known.append(call.is_known)
        return DENIED

    purse = Purse()
    begun = [asyncio.create_task(purse.waiting.wait(1, 0.0, deny)) for _ in range(2)]
    await asyncio.sleep(0)
    next(iter(purse.waiting)).is_known = True
    await asyncio.gather(*begun)
    assert sorted(known) == [False, True]


async def test_all_calls_are_denied_together() -> None:
    purse = Purse()
    begun = await purse.begin(1, 2)
    purse.waiting.deny_all(KILLED)
    assert await asyncio.gather(*begun) == [KILLED, KILLED]


@pytest.mark.parametrize(("left", "given_back"), [(3, ["3"]), (0, [])], ids=["answered", "still waiting"])
async def test_a_call_that_is_cancelled_gives_back_what_it_was_given(left: int, given_back: list[str]) -> None:
    purse = Purse()
    (call,) = await purse.begin(3)
    purse.offer(left)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert purse.given_back == given_back
    assert not purse.waiting


async def test_a_call_that_is_cancelled_after_a_denial_gives_nothing_back() -> None:
    purse = Purse()
    (call,) = await purse.begin(3)
    purse.waiting.deny_all(KILLED)
    call.cancel()
    await asyncio.wait([call])
    assert purse.given_back == []


async def test_the_loop_is_woken_when_a_call_begins_to_wait_and_when_it_ends() -> None:
    purse = Purse()
    (call,) = await purse.begin(3)
    assert purse.wakes == 1
    purse.offer(3)
    await call
    assert purse.wakes == 2
