"""Bounded waits: every test that waits for something does it here, and misses its bound with one exception.

`BoundMissed` says that something expected had not happened in time. It never says that something forbidden happened:
that is a plain `AssertionError`. The difference decides over a second try (`tests/support/second_try.py`).
"""

import asyncio
import contextlib
import inspect
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")

WAIT_SECONDS = 50.0
POLL_SECONDS = 0.05
ASYNC_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.01, 0.1
POLL_GROWTH = 1.2
"""A check may cost as much as its pause. A wait is prolonged by a fifth at most, so figures stay what they are."""
TOLERANCE = 3.0
"""A promised time is asserted at three times its value: timing on a shared machine decides no test."""
TIMED_OUT = "timed out waiting for the condition"
"""What kubectl prints at the end of a wait without success."""

Description = str | Callable[[], str]
_figures: list[str] = []


class BoundMissed(AssertionError):  # noqa: N818 - the name says what happened
    """Something expected did not happen in time."""


def eventually(find: Callable[[], T | None], what: Description, seconds: float, *, poll: float = POLL_SECONDS) -> T:
    """Return the first answer of `find` that is neither None nor False.

    Args:
        find: Observes the state. An exception that it raises ends the wait.
        what: The expected state, or a function that says what was found instead.
        seconds: The bound.
        poll: Seconds between two checks.

    Raises:
        BoundMissed: `find` had no answer in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = find()
        if found is not None and found is not False:
            return found
        if time.monotonic() >= deadline:
            raise BoundMissed(f"not within {seconds:g} s: {_text(what)}")
        time.sleep(poll)


def always(check: Callable[[], bool], what: Description, seconds: float, *, poll: float = 0.2) -> None:
    """Assert that `check` holds each time in so many seconds; a failure is no missed bound."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert check(), f"it holds no longer; found: {_text(what)}"
        time.sleep(poll)


async def until(
    condition: Callable[[], Awaitable[bool]] | Callable[[], bool], what: Description, seconds: float = WAIT_SECONDS
) -> None:
    """Wait until the condition holds; the pauses between two checks grow.

    Raises:
        BoundMissed: The condition did not hold in time.
    """
    pause = ASYNC_POLL_SECONDS
    try:
        async with asyncio.timeout(seconds):
            while True:
                result = condition()
                if await result if inspect.isawaitable(result) else result:
                    return
                await asyncio.sleep(pause)
                pause = min(pause * POLL_GROWTH, LONGEST_POLL_SECONDS)
    except TimeoutError:
        raise BoundMissed(f"not within {seconds:g} s: {_text(what)}") from None


async def until_exactly(
    observed: Callable[[], Sequence[object]], expected: Sequence[object], what: str, seconds: float = WAIT_SECONDS
) -> None:
    """Wait until a growing sequence equals the expected one.

    An entry that is not expected fails immediately and gets no second try: something happened that must not.

    Raises:
        AssertionError: An observed entry differs from the expected one, or there are more.
        BoundMissed: Expected entries were missing in time.
    """

    def equal() -> bool:
        found = list(observed())
        assert found == list(expected[: len(found)]), f"{what}: {found} instead of {list(expected)}"
        return len(found) == len(expected)

    await until(equal, what, seconds)


async def until_count(count: Callable[[], int], expected: int, what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until a growing count is the expected one; one more fails immediately, as in `until_exactly`.

    Raises:
        AssertionError: There are more than expected.
        BoundMissed: Some were missing in time.
    """

    def equal() -> bool:
        found = count()
        assert found <= expected, f"{what}: {found} instead of {expected}"
        return found == expected

    await until(equal, what, seconds)


@contextlib.asynccontextmanager
async def limit(seconds: float, what: str) -> AsyncIterator[None]:
    """Bound a block of awaits, as `asyncio.timeout` does.

    Raises:
        BoundMissed: The block did not end in time.
    """
    try:
        async with asyncio.timeout(seconds) as scope:
            yield
    except TimeoutError:
        if scope.expired():
            raise BoundMissed(f"not within {seconds:g} s: {what}") from None
        raise


def check_kubectl(code: int, said: str) -> None:
    """Check that a command of kubectl succeeded.

    Args:
        code: Its exit code.
        said: What it printed.

    Raises:
        AssertionError: It failed.
        BoundMissed: `kubectl wait`, or `kubectl rollout status`, waited until its time-out.
    """
    if code != 0 and TIMED_OUT in said:
        raise BoundMissed(said)
    assert code == 0, said


def check_promise(measured: float, promised: float, what: str, *, unit: str = "s") -> None:
    """Report a measured time, or amount, as a figure, and assert it at `TOLERANCE` times the promised one.

    Args:
        measured: Seconds that passed.
        promised: Seconds that an issue or a page names.
        what: What was measured.
        unit: The unit of both, where it is not seconds.

    Raises:
        BoundMissed: It took longer than `TOLERANCE` times the promised time.
    """
    _figures.append(f"{what}: {measured:.2f} {unit} (promised: {promised:g} {unit})")
    if measured > promised * TOLERANCE:
        raise BoundMissed(f"{what}: {measured:.2f} {unit}, promised are {promised:g} {unit}")


def missed_bound(error: BaseException) -> bool:
    """Return True if an exception says that a bound was missed, and says nothing else.

    That is `BoundMissed`, a time-out of asyncio, of a socket or of a process, pytest-timeout's failure, or a group of
    such exceptions only.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(missed_bound(one) for one in error.exceptions)
    if isinstance(error, pytest.fail.Exception):
        return str(error).startswith("Timeout (>") and str(error).endswith("from pytest-timeout.")
    return isinstance(error, BoundMissed | TimeoutError | subprocess.TimeoutExpired)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Mark the report of a failure that only missed a bound, and hand the figures to the process that sums up."""
    report: pytest.TestReport = yield
    error = call.excinfo.value if call.excinfo is not None and report.failed else None
    vars(report).update(missed_bound=error is not None and missed_bound(error), figures=list(_figures))
    _figures.clear()
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the measured times of all tests."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for figure in getattr(report, "figures", ()):
                terminalreporter.write_line(f"figure: {figure}")


def _text(what: Description) -> str:
    return what if isinstance(what, str) else what()
