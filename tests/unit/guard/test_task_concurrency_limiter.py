import asyncio

import pytest

from interlock_guard.tasks.concurrency_limiter import ConcurrencyLimiter
from interlock_guard.tasks.refusals import NO_TASKS, TaskReason, TaskRefused
from tests.requirements import requirement


def slots_of(limit: int, wait_seconds: float = 60.0) -> ConcurrencyLimiter:
    slots = ConcurrencyLimiter(waiting_per_slot=2, wait_seconds=wait_seconds)
    slots.resize(limit)
    return slots


async def begin(slots: ConcurrencyLimiter, count: int) -> list[asyncio.Task[None]]:
    takers = [asyncio.create_task(slots.take()) for _ in range(count)]
    await settle()
    return takers


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@requirement("tasks.bounded")
async def test_places_are_given_until_there_are_none_then_some_wait_and_the_rest_is_refused() -> None:
    slots = slots_of(2)
    takers = await begin(slots, 7)
    assert [taker.done() for taker in takers] == [True, True, False, False, False, False, True]
    assert (slots.taken, slots.waiting) == (2, 4)
    with pytest.raises(TaskRefused) as refused:
        takers[6].result()
    assert (refused.value.refusal.status, refused.value.refusal.retry_after) == (429, 10)
    slots.send_away(NO_TASKS)
    await asyncio.gather(*takers, return_exceptions=True)


@requirement("tasks.bounded")
async def test_a_slot_that_is_freed_goes_to_the_longest_waiting_caller() -> None:
    slots = slots_of(1)
    takers = await begin(slots, 3)
    for number in (1, 2):
        slots.give_back()
        await settle()
        assert [taker.done() for taker in takers[1:]] == [True, number == 2]
    slots.give_back()
    assert (slots.taken, slots.waiting) == (0, 0)


async def test_no_caller_overtakes_those_that_wait() -> None:
    slots = slots_of(1)
    first, second = await begin(slots, 2)
    slots.give_back()
    (third,) = await begin(slots, 1)
    assert (first.done(), second.done(), third.done()) == (True, True, False)
    slots.send_away(NO_TASKS)
    await asyncio.gather(third, return_exceptions=True)


@requirement("tasks.bounded")
async def test_a_caller_that_has_waited_long_enough_is_refused_and_leaves_the_queue() -> None:
    slots = slots_of(1, wait_seconds=0.0)
    await slots.take()
    with pytest.raises(TaskRefused) as refused:
        await slots.take()
    assert refused.value.refusal.reason == TaskReason.TOO_MANY_TASKS
    assert (slots.taken, slots.waiting) == (1, 0)


async def test_a_caller_that_gives_up_leaves_the_queue() -> None:
    slots = slots_of(1)
    _, waiting, next_one = await begin(slots, 3)
    waiting.cancel()
    await settle()
    assert slots.waiting == 1
    slots.give_back()
    await next_one


async def test_a_slot_given_to_a_caller_that_gives_up_in_that_moment_is_not_lost() -> None:
    slots = slots_of(1)
    _, waiting = await begin(slots, 2)
    slots.give_back()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (slots.taken, slots.waiting) == (0, 0)


async def test_more_places_let_those_that_wait_in_and_fewer_take_none_away() -> None:
    slots = slots_of(1)
    takers = await begin(slots, 3)
    slots.resize(3)
    await asyncio.gather(*takers)
    slots.resize(1)
    assert slots.taken == 3
    slots.give_back()
    slots.give_back()
    (waiting,) = await begin(slots, 1)
    assert not waiting.done()
    slots.give_back()
    await waiting


async def test_all_that_wait_can_be_sent_away() -> None:
    slots = slots_of(1)
    _, *waiting = await begin(slots, 3)
    slots.send_away(NO_TASKS)
    for found in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(found, TaskRefused)
        assert found.refusal is NO_TASKS
    assert (slots.taken, slots.waiting) == (1, 0)


async def test_where_no_caller_may_wait_every_caller_is_answered_immediately() -> None:
    slots = ConcurrencyLimiter(waiting_per_slot=0)
    slots.resize(1)
    await slots.take()
    with pytest.raises(TaskRefused):
        await slots.take()
