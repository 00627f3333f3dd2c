"""The time of the API server."""

from email.utils import parsedate_to_datetime

import pytest

from interlock_kube.server_clock import ServerClock
from tests.requirements import requirement

NEW_YEAR = 1767225600
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


class Monotonic:
    def __init__(self) -> None:
        self.seconds = 1000.25

    def __call__(self) -> float:
        return self.seconds


def test_there_is_no_time_before_the_first_answer() -> None:
    assert ServerClock(Monotonic()).now() is None


def test_the_time_is_the_servers_and_goes_on_with_the_monotonic_clock() -> None:
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    clock.observe(DATE)
    monotonic.seconds += 61.5
    assert clock.now() == NEW_YEAR + 61


def test_a_later_answer_corrects_the_time() -> None:
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    clock.observe(DATE)
    monotonic.seconds += 10
    clock.observe("Thu, 01 Jan 2026 01:00:00 GMT")
    assert clock.now() == NEW_YEAR + 3600


def test_an_answer_corrects_the_time_no_more_than_it_must() -> None:
    """A date is cut to whole seconds, and the answer that has it took a while."""
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    clock.observe(DATE)
    monotonic.seconds += 0.5
    clock.observe(DATE)
    assert clock.seconds() == NEW_YEAR + 0.5, "the same second goes on"

    monotonic.seconds += 3
    clock.observe(DATE, took=2.5)
    assert clock.seconds() == NEW_YEAR + 3.5, "it was answered three seconds ago"

    clock.observe(DATE, took=0.25)
    assert clock.seconds() == NEW_YEAR + 1.25, "the API server's clock went back"


LATER = "Thu, 01 Jan 2026 01:00:00 GMT"


@requirement("rollout.one-clock")
@pytest.mark.parametrize("other", [LATER, "Wed, 31 Dec 2025 23:00:00 GMT", "Thu, 01 Jan 9998 00:00:00 GMT"])
def test_another_clock_is_taken_over_when_all_answers_of_a_minute_have_it(other: str) -> None:
    monotonic = Monotonic()
    clock = ServerClock(monotonic, confirm_seconds=60)
    clock.observe(DATE)
    clock.observe(other)
    monotonic.seconds += 59.9
    clock.observe(other, took=59.9)
    assert clock.now() == NEW_YEAR + 59

    monotonic.seconds += 0.25
    clock.observe("Thu, 01 Jan 2026 00:01:00 GMT")
    assert clock.now() == NEW_YEAR + 60, "one answer that agrees, from another API server or without the proxy"
    clock.observe(other)
    monotonic.seconds += 59.9
    clock.observe(other)
    assert clock.now() == NEW_YEAR + 120

    monotonic.seconds += 0.25
    clock.observe(other)
    now = clock.seconds()
    assert now is not None
    assert parsedate_to_datetime(other).timestamp() <= now <= parsedate_to_datetime(other).timestamp() + 1


@requirement("rollout.one-clock")
def test_a_second_corrects_the_time_without_more_answers() -> None:
    monotonic = Monotonic()
    clock = ServerClock(monotonic, confirm_seconds=60)
    clock.observe(DATE)
    clock.observe("Thu, 01 Jan 2026 00:00:01 GMT")
    assert clock.seconds() == NEW_YEAR + 1, "the first one was cut by almost a second"
    clock.observe("Thu, 01 Jan 2026 00:00:03 GMT")
    assert clock.seconds() == NEW_YEAR + 1


@requirement("rollout.one-clock")
def test_answers_that_took_long_are_corrected_at_once() -> None:
    monotonic = Monotonic()
    clock = ServerClock(monotonic, confirm_seconds=60)
    for date in (DATE, "Thu, 01 Jan 2026 00:00:01 GMT"):
        clock.observe(date, took=30)
    clock.observe("Thu, 01 Jan 2026 00:00:25 GMT")
    assert clock.seconds() == NEW_YEAR + 25
    clock.observe("Thu, 01 Jan 2026 00:00:28 GMT")
    assert clock.seconds() == NEW_YEAR + 25, "the third one was quick, and leaves no doubt"


@requirement("rollout.one-clock")
def test_an_answer_that_set_the_time_and_took_long_is_corrected_at_once() -> None:
    monotonic = Monotonic()
    clock = ServerClock(monotonic, confirm_seconds=60)
    clock.observe(DATE)
    clock.observe(LATER)
    monotonic.seconds += 60
    clock.observe(LATER, took=60)
    assert clock.seconds() == NEW_YEAR + 3600
    clock.observe("Thu, 01 Jan 2026 01:00:25 GMT")
    assert clock.seconds() == NEW_YEAR + 3625


@requirement("rollout.one-clock")
@pytest.mark.parametrize("minute", [59.5, 60.5])
def test_a_machine_whose_monotonic_clock_drifts_stays_with_the_api_server(minute: float) -> None:
    monotonic = Monotonic()
    clock = ServerClock(monotonic, confirm_seconds=60)
    for passed in range(50):
        clock.observe(f"Thu, 01 Jan 2026 00:{passed:02}:00 GMT")
        seconds = clock.seconds()
        assert seconds is not None
        assert 0 <= seconds - (NEW_YEAR + 60 * passed) <= 1
        monotonic.seconds += minute


@pytest.mark.parametrize(
    "date",
    [
        "",
        "now",
        "Thu, 01 Jan 2026 00:00:00 -0000",
        "Thu, 99 Jan 2026 00:00:00 GMT",
        "Thu, 01 Jan 2026 00:20260202620260 GMT",
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", id="no time that can be written comes after it"),
    ],
)
def test_a_date_that_cannot_be_read_changes_nothing(date: str) -> None:
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    clock.observe(date)
    assert clock.now() is None
    clock.observe(DATE)
    clock.observe(date)
    assert clock.now() == NEW_YEAR
