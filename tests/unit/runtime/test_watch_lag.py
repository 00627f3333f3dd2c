from dataclasses import dataclass

import pytest

from interlock.runtime.liveness import WatchLag
from tests.requirements import requirement

A, B = ("Agent", "agents", "a"), ("Agent", "agents", "b")
LATE_SECONDS = 60.0
SIDES = ("handlers", "second watch")


@dataclass
class FakeClock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def check(clock: FakeClock) -> WatchLag:
    return WatchLag(LATE_SECONDS, clock)


def test_two_watches_that_see_the_same_are_well(check: WatchLag, clock: FakeClock) -> None:
    for side in SIDES:
        check.saw(side, A, 5)
    clock.now += 10 * LATE_SECONDS

    assert check.problem() is None


@requirement("operator.liveness")
@pytest.mark.parametrize(("alive", "dead"), [SIDES, SIDES[::-1]])
def test_a_watch_that_does_not_see_what_the_other_saw_is_named(
    check: WatchLag, clock: FakeClock, alive: str, dead: str
) -> None:
    check.saw(alive, A, 5)
    clock.now += LATE_SECONDS
    assert check.problem() is None
    clock.now += 1

    problem = check.problem()

    assert problem is not None
    assert problem.startswith(f"the {dead} did not see")
    assert str(A) in problem


def test_a_watch_that_catches_up_is_well_again(check: WatchLag, clock: FakeClock) -> None:
    check.saw("handlers", A, 5)
    clock.now += 10 * LATE_SECONDS
    check.saw("second watch", A, 5)

    assert check.problem() is None


def test_a_watch_that_skips_versions_in_between_is_well(check: WatchLag, clock: FakeClock) -> None:
    for version in (5, 6, 7):
        check.saw("second watch", A, version)
    check.saw("handlers", A, 7)
    clock.now += 10 * LATE_SECONDS

    assert check.problem() is None


def test_a_watch_that_stops_in_the_midst_of_changes_is_found(check: WatchLag, clock: FakeClock) -> None:
    for version in (5, 6, 7):
        check.saw("second watch", A, version)
    check.saw("handlers", A, 6)
    clock.now += LATE_SECONDS + 1

    assert check.problem() is not None


def test_a_watch_that_moves_on_slowly_is_not_called_dead(check: WatchLag, clock: FakeClock) -> None:
    check.saw("second watch", A, 100)
    for version in range(1, 10):
        clock.now += LATE_SECONDS - 1
        check.saw("handlers", A, version)
        assert check.problem() is None


def test_changes_that_go_on_coming_do_not_excuse_a_dead_watch(check: WatchLag, clock: FakeClock) -> None:
    for version in range(1, 5):
        check.saw("handlers", A, version)
        clock.now += LATE_SECONDS / 3

    assert check.problem() is not None


def test_one_object_that_is_seen_does_not_excuse_another(check: WatchLag, clock: FakeClock) -> None:
    check.saw("handlers", A, 5)
    clock.now += LATE_SECONDS + 1
    for side in SIDES:
        check.saw(side, B, 9)

    assert check.problem() is not None


def test_an_object_that_is_gone_is_waited_for_no_longer(check: WatchLag, clock: FakeClock) -> None:
    check.saw("second watch", A, 5)
    check.forget(A)
    clock.now += LATE_SECONDS + 1

    assert check.problem() is None


@pytest.mark.parametrize("version", [6, None])
def test_a_watch_that_only_learns_of_the_end_is_well(check: WatchLag, clock: FakeClock, version: int | None) -> None:
    check.saw("second watch", A, 5)
    check.forget(A, version)
    clock.now += LATE_SECONDS + 1

    assert check.problem() is None


def test_an_object_recreated_before_the_delete_event_of_the_old_one_is_no_lag(
    check: WatchLag, clock: FakeClock
) -> None:
    for side in SIDES:
        check.saw(side, A, 5)
    check.forget(A, 6)  # the second watch saw it go
    check.saw("second watch", A, 7)  # and come again
    check.forget(A, 6)  # the handlers get the delete event only now
    check.saw("handlers", A, 7)
    clock.now += 10 * LATE_SECONDS

    assert check.problem() is None


def test_a_recreated_object_that_one_side_never_sees_is_found(check: WatchLag, clock: FakeClock) -> None:
    check.saw("second watch", A, 7)
    check.forget(A, 6)
    clock.now += LATE_SECONDS + 1

    assert check.problem() is not None
