"""Which failures only missed a bound, and which say that something forbidden happened."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from tests.requirements import requirement
from tests.support import bounds
from tests.support.bounds import (
    BoundMissed,
    always,
    check_kubectl,
    check_promise,
    eventually,
    limit,
    missed_bound,
    until,
    until_exactly,
)


@pytest.fixture(autouse=True)
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Figures of these tests, which are none of the run's."""
    monkeypatch.setattr(bounds, "_figures", found := [])
    yield found
    found.clear()


def error_of(action: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - each kind of failure is told apart below
        action()
    return caught.value


async def idle(scope: AbstractAsyncContextManager[object]) -> None:
    async with scope:
        await asyncio.sleep(9)


async def idle_in_time() -> None:
    async with asyncio.timeout(0):
        await asyncio.sleep(9)


def raise_(error: BaseException) -> None:
    raise error


MISSED = {
    "eventually": lambda: eventually(lambda: None, "it comes", 0),
    "until": lambda: asyncio.run(until(lambda: False, "it comes", 0.01)),
    "until_exactly": lambda: asyncio.run(until_exactly(lambda: ["a"], ["a", "b"], "both", 0.01)),
    "limit": lambda: asyncio.run(idle(limit(0, "it ends"))),
    "asyncio": lambda: asyncio.run(idle_in_time()),
    "process": lambda: subprocess.run(["sleep", "9"], timeout=0.01, check=True),
    "kubectl": lambda: check_kubectl(1, "error: timed out waiting for the condition on agents/triage"),
    "promise": lambda: check_promise(3.01, 1, "a kill"),
    "pytest-timeout": lambda: pytest.fail("Timeout (>120.0s) from pytest-timeout."),
    "group": lambda: raise_(ExceptionGroup("", [BoundMissed("late"), ExceptionGroup("", [TimeoutError()])])),
}
FORBIDDEN = {
    "assert": lambda: raise_(AssertionError("it was forwarded")),
    "always": lambda: always(lambda: False, "it ran", 1),
    "one too many": lambda: asyncio.run(until_exactly(lambda: ["a", "a"], ["a"], "one")),
    "another one": lambda: asyncio.run(until_exactly(lambda: ["b"], ["a", "b"], "both")),
    "the condition": lambda: eventually(lambda: raise_(AssertionError("it was recorded")), "it comes", 0),
    "kubectl": lambda: check_kubectl(1, 'Error from server (NotFound): agents "triage" not found'),
    "not refused": lambda: pytest.fail("DID NOT RAISE TimeoutError"),
    "said like a bound": lambda: pytest.fail("Timeout (>1s) of the guard"),
    "no connection": lambda: raise_(ConnectionError("refused")),
    "group": lambda: raise_(ExceptionGroup("", [BoundMissed("late"), AssertionError("it was recorded")])),
}


@requirement("tests.second-try")
def test_each_bounded_wait_misses_its_bound(figures: list[str]) -> None:
    assert [name for name, action in MISSED.items() if not missed_bound(error_of(action))] == []
    figures.clear()


@requirement("tests.second-try")
def test_something_forbidden_is_no_missed_bound() -> None:
    assert [name for name, action in FORBIDDEN.items() if missed_bound(error_of(action))] == []


async def test_waits_end_as_soon_as_they_hold() -> None:
    seen: list[int] = []

    def grow() -> list[int]:
        seen.append(len(seen))
        return seen

    await until_exactly(grow, [0, 1, 2], "three")
    await until(lambda: len(grow()) > 4, "five")
    assert eventually(lambda: "found" if len(grow()) > 6 else None, "seven", 5) == "found"
    assert len(seen) == 7


async def test_the_pauses_of_a_wait_grow_by_a_fifth_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await until(lambda: len(pauses) == 50, "fifty pauses")
    assert pauses[:3] == pytest.approx([0.01, 0.012, 0.0144])
    assert pauses[-1] == 0.1


def test_a_wait_says_what_was_found_instead() -> None:
    assert str(error_of(lambda: eventually(lambda: False, lambda: "found: nothing", 0))) == (
        "not within 0 s: found: nothing"
    )


def test_a_promised_time_is_asserted_at_three_times_its_value_and_reported(figures: list[str]) -> None:
    check_promise(15, 5, "no container runs")

    assert figures == ["no container runs: 15.00 s (promised: 5 s)"]
    assert isinstance(error_of(lambda: check_promise(15.1, 5, "no container runs")), BoundMissed)
    figures.clear()
