"""The detector of loops: what is counted, what is forgotten, and what a flood of other calls can hide."""

import sys
from collections import defaultdict, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_guard.decision.loops import MOST_AGAIN, MOST_ONCE, STEPS, Loop, LoopDetector
from tests.requirements import requirement

WINDOW = 60.0
CALL = b"the same"


def refused(detector: LoopDetector, times: list[float], call: bytes = CALL) -> list[float]:
    """Make a call at these times; return those at which it was refused."""
    return [at for at in times if detector.count(call, at) is not None]


def flood(detector: LoopDetector, count: int, now: float, *, each: int = 1, name: str = "flood") -> None:
    for number in range(count):
        for _ in range(each):
            detector.count(f"{name} {number}".encode(), now)


@requirement("loops.refused")
@pytest.mark.parametrize("limit", [2, 3, 20, 10_000])
def test_the_call_that_completes_a_loop_is_refused_and_those_before_it_pass(limit: int) -> None:
    detector = LoopDetector(limit, WINDOW)
    found = [detector.count(CALL, 0.001 * number) for number in range(limit + 2)]
    assert found == [None] * (limit - 1) + [
        Loop(limit, is_new=True),
        Loop(limit + 1, is_new=False),
        Loop(limit + 2, is_new=False),
    ]


@requirement("loops.refused")
def test_calls_that_are_rarer_or_different_are_no_loop() -> None:
    detector = LoopDetector(4, WINDOW)
    assert refused(detector, [20.0 * number for number in range(100)]) == []
    for number in range(100):
        assert detector.count(str(number).encode(), 3000.0) is None


@requirement("loops.refused")
def test_the_window_slides() -> None:
    detector = LoopDetector(4, WINDOW)
    # Three calls each in two calendar minutes, and four of them within one minute.
    assert refused(detector, [0, 50, 55, 59, 100]) == [59, 100]
    assert refused(LoopDetector(4, WINDOW), [0, 50, 55, 61, 111.1]) == []


@requirement("loops.refused")
def test_a_loop_passes_again_once_it_stayed_away_for_one_window_and_attempts_prolong_it() -> None:
    detector = LoopDetector(2, WINDOW)
    assert refused(detector, [0, 1, 30, 89, 148.9, 208.8]) == [1, 30, 89, 148.9, 208.8]
    assert detector.count(b"another", 210) is None
    assert refused(detector, [268.8, 269]) == [269]


@requirement("loops.refused")
@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 30)), max_size=120),
    st.integers(2, 8),
)
def test_no_call_is_refused_that_was_not_made_so_often_and_none_is_missed_beyond_one_step(
    made: list[tuple[int, float]], limit: int
) -> None:
    detector, now = LoopDetector(limit, WINDOW), 0.0
    times: dict[int, deque[float]] = defaultdict(deque)
    blocked: set[int] = set()
    for call, pause in made:
        now += pause
        mine = times[call]
        if mine and now - mine[-1] >= WINDOW:
            blocked.discard(call)
        mine.append(now)
        is_refused = detector.count(bytes([call]), now) is not None
        most = sum(now - at < WINDOW for at in mine)
        surely = sum(now - at < WINDOW * (1 - 1 / STEPS) for at in mine)
        if call in blocked or surely >= limit:
            assert is_refused
        if is_refused and call not in blocked:
            assert most >= limit
            blocked.add(call)


@requirement("loops.flood")
def test_a_flood_of_different_calls_takes_no_memory_without_bound() -> None:
    detector = LoopDetector(10_000, 3600)
    flood(detector, 3 * MOST_ONCE, 0)
    flood(detector, 3 * MOST_AGAIN, 0, each=2, name="again")
    assert len(detector) <= MOST_ONCE + MOST_AGAIN
    for number in range(200_000):
        detector.count(CALL, number / 100)
    times = detector._again[CALL]  # noqa: SLF001 - memory is what is bounded
    assert sum(sys.getsizeof(getattr(times, name)) for name in ("_starts", "_counts")) < 2048


@requirement("loops.flood")
def test_a_flood_of_different_calls_between_two_calls_hides_no_loop() -> None:
    detector = LoopDetector(3, WINDOW)
    for number in range(3):
        flood(detector, MOST_ONCE - 1, number, name=f"flood {number}")
        found = detector.count(CALL, number)
    assert found == Loop(3, is_new=True)


@requirement("loops.flood")
def test_calls_that_are_repeated_less_often_push_out_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = 64  # with as many as the program keeps, the search for the rarest takes seconds
    monkeypatch.setattr("interlock_guard.decision.loops.MOST_AGAIN", kept)
    detector = LoopDetector(20, WINDOW)
    assert refused(detector, [0, 0, 0]) == []
    for number in range(17):
        flood(detector, 2 * kept, number, each=2, name=f"flood {number}")
        found = detector.count(CALL, number)
    assert found == Loop(20, is_new=True)


@requirement("loops.flood")
def test_a_refused_call_is_not_freed_by_a_flood_of_calls_that_are_repeated_as_often() -> None:
    detector = LoopDetector(5, WINDOW)
    assert refused(detector, [0, 0, 0, 0, 0]) == [0]
    flood(detector, 4 * MOST_AGAIN, 50, each=4)
    assert detector.count(CALL, 59) is not None


def test_what_stayed_away_for_a_window_is_forgotten() -> None:
    detector = LoopDetector(5, WINDOW)
    flood(detector, 100, 0)
    flood(detector, 100, 1, each=2)
    assert len(detector) == 100
    detector.count(CALL, 61)
    assert len(detector) == 1
