"""Processes of one run that share a cluster; here each is an object of its own, which the kernel's locks tell apart."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lanes import Lanes

WAIT_SECONDS = 20.0


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Lanes, Lanes]]:
    found = Lanes(tmp_path / "run"), Lanes(tmp_path / "run")
    yield found
    for lanes in found:
        lanes.leave()


def test_the_first_makes_it_and_the_second_finds_it_made(two: tuple[Lanes, Lanes]) -> None:
    seen = []
    for lanes in two:
        with lanes.entering() as is_first:
            seen.append(is_first)
    assert seen == [True, False]


def test_the_second_waits_until_it_is_made(two: tuple[Lanes, Lanes]) -> None:
    seen: list[str] = []

    def enter() -> None:
        with two[1].entering() as is_first:
            seen.append(f"second, first={is_first}")

    thread = threading.Thread(target=enter)
    with two[0].entering():
        thread.start()
        seen.append("made")
    thread.join(WAIT_SECONDS)
    assert seen == ["made", "second, first=False"]


def test_after_one_that_failed_to_make_it_the_next_is_the_first(two: tuple[Lanes, Lanes]) -> None:
    with pytest.raises(ValueError, match="no engine"), two[0].entering():
        raise ValueError("no engine")
    with two[1].entering() as is_first:
        assert is_first


def test_what_is_to_be_done_once_is_done_once(two: tuple[Lanes, Lanes]) -> None:
    done: list[str] = []
    for lanes in two:
        lanes.once("operator", lambda: done.append("installed"))
        lanes.once("more", lambda: done.append("more"))
    assert done == ["installed", "more"]


def test_the_ends_of_tests_of_all_processes_are_counted(two: tuple[Lanes, Lanes]) -> None:
    for lanes in two:
        with lanes.entering():
            pass
    assert [lanes.note_end_of_test() for lanes in (*two, *two)] == [1, 2, 3, 4]
    assert not two[0].is_taken_away
    two[1].note_taken_away()
    assert two[0].is_taken_away


def test_one_waits_until_all_others_have_left(two: tuple[Lanes, Lanes]) -> None:
    for lanes in two:
        with lanes.entering():
            pass
    two[0].leave()
    waiting = threading.Thread(target=two[0].wait_for_others, daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    two[1].leave()
    waiting.join(WAIT_SECONDS)
    assert not waiting.is_alive()
    two[0].forget()
    assert not two[0].folder.exists()
