import asyncio
from types import SimpleNamespace

import pytest

from interlock.runtime.app import App
from interlock.settings import OperatorSettings
from interlock_process import heartbeat
from interlock_process.heartbeat import LATE_SECONDS, Heartbeat
from tests.requirements import requirement


class FakeMonotonic:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(heartbeat, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeMonotonic:
    return FakeMonotonic(monkeypatch)


@requirement("operator.liveness")
def test_a_loop_that_does_not_turn_is_reported_after_a_while(clock: FakeMonotonic) -> None:
    beat = Heartbeat("the loop")

    clock.now += LATE_SECONDS
    assert beat.problem() is None
    clock.now += 1
    assert beat.problem() == f"the loop hangs for {LATE_SECONDS + 1:.0f} s"


async def test_a_loop_that_turns_again_is_well(clock: FakeMonotonic) -> None:
    beat = Heartbeat("the loop")
    clock.now += LATE_SECONDS + 1

    task = asyncio.get_running_loop().create_task(beat.run())
    await asyncio.sleep(0)  # one turn of the loop is one beat
    task.cancel()

    assert beat.problem() is None


async def test_an_operator_is_well_while_its_parts_are(clock: FakeMonotonic) -> None:
    assert App(OperatorSettings()).problem() is None


@requirement("operator.liveness")
async def test_an_operator_whose_loops_hang_says_so(clock: FakeMonotonic) -> None:
    runtime = App(OperatorSettings())

    clock.now += LATE_SECONDS + 1

    problem = runtime.problem()
    assert problem is not None
    assert "hangs" in problem


async def test_an_operator_whose_second_watch_ended_says_so(clock: FakeMonotonic) -> None:
    app = App(OperatorSettings())
    app._second_watch.failure = RuntimeError("no credentials")  # noqa: SLF001 - what its own thread would set

    assert app.problem() == "the second watch ended: no credentials"
