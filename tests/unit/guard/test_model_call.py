"""A call of a model whose agent hangs up: closed immediately, or read on for a bounded time."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from interlock_guard.llm.call import ModelCall
from tests.requirements import requirement


class Clock:
    """The timers of a loop, which no time fires."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, seconds: float, callback: Callable[[], object]) -> SimpleNamespace:
        self.timers.append((seconds, callback))
        return SimpleNamespace(cancel=self.timers.clear)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    return clock


def under_way(seconds: int, *, is_begun: bool = True) -> tuple[ModelCall, list[str]]:
    """Return a call that is under way and what is done to its task."""
    done: list[str] = []
    unused: Any = None
    call = ModelCall(unused, "OpenAI", unused, unused, wants_stream=True, metered=unused)
    call.body, call.metered = _as_any(is_begun=is_begun), _as_any(hang_up_seconds=seconds)
    call.task = _as_any(cancel=lambda: done.append("cancelled"), done=lambda: False)
    return call, done


def _as_any(**members: Any) -> Any:
    return SimpleNamespace(**members)


@requirement("budget.settled")
def test_with_zero_seconds_a_hang_up_ends_the_call_immediately(clock: Clock) -> None:
    call, done = under_way(0)

    assert not call.hang_up()
    assert (done, clock.timers) == (["cancelled"], [])


@requirement("budget.settled")
def test_with_sixty_seconds_the_answer_is_read_on_for_sixty_seconds(clock: Clock) -> None:
    call, done = under_way(60)

    assert call.hang_up()
    assert call.hang_up()  # the second notice of the same hang-up
    assert (done, [seconds for seconds, _ in clock.timers]) == ([], [60])
    clock.timers[0][1]()
    assert done == ["cancelled"]


def test_a_call_of_which_nothing_was_sent_is_not_read_on(clock: Clock) -> None:
    call, done = under_way(60, is_begun=False)

    assert not call.hang_up()
    assert (done, clock.timers) == (["cancelled"], [])


def test_the_outcome_of_a_call_is_recorded_although_its_cost_could_not_be_read() -> None:
    call, _ = under_way(60)
    recorded: list[tuple[str, object]] = []
    call.record = _as_any(complete=lambda outcome, cost: recorded.append((outcome, cost)))
    call.end_as("Answered")

    with pytest.raises(ZeroDivisionError):
        call.finish(lambda *_: 1 // 0)  # type: ignore[return-value, arg-type]
    assert recorded == [("Answered", None)]
