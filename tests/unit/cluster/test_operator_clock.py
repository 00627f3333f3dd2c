"""The operator's clock, which is that of the API server."""

import logging
from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest

from interlock.cluster.operator_clock import OperatorClock
from interlock.telemetry import CLOCK_SKEW
from tests.requirements import requirement
from tests.support.builders import NOW, hours, seconds


class Node:
    """A node of the operator, with a clock that is wrong, and the API server, whose clock is right."""

    def __init__(self, skew: timedelta = timedelta()) -> None:
        self.real, self.skew = NOW, skew
        self.clock = OperatorClock(lambda: self.real + self.skew, self.monotonic)

    def monotonic(self) -> float:
        return (self.real - NOW).total_seconds()

    def answer(self) -> datetime:
        self.clock.observe(format_datetime(self.real, usegmt=True), 0.0)
        return self.clock.now()


@requirement("rollout.one-clock")
@pytest.mark.parametrize("skew", [-hours(1), timedelta(), hours(1)])
def test_the_time_is_that_of_the_api_server_whatever_the_node_says(skew: timedelta) -> None:
    node = Node(skew)
    assert node.answer() == NOW

    node.real += hours(168)
    assert node.clock.now() == NOW + hours(168), "without an answer"
    node.skew = -skew
    assert node.clock.now() == node.answer() == NOW + hours(168)
    assert CLOCK_SKEW._value.get() == -skew.total_seconds()  # noqa: SLF001


@requirement("rollout.one-clock")
def test_no_single_answer_sets_the_time() -> None:
    """Two API servers differ by a day, and the operator meets them in turn: it goes by the one that it met first."""
    node = Node()
    node.answer()
    for _ in range(10):
        node.clock.observe(format_datetime(node.real + hours(24), usegmt=True), 0.0)
        assert node.clock.now() == node.real
        node.real += seconds(30)
        assert node.answer() == node.real


@requirement("rollout.one-clock")
def test_a_clock_of_the_api_server_that_was_set_is_followed_after_a_minute() -> None:
    node = Node()
    node.answer()
    for _ in range(6):
        node.clock.observe(format_datetime(node.real + hours(24), usegmt=True), 0.0)
        assert node.clock.now() == node.real
        node.real += seconds(10)
    node.clock.observe(format_datetime(node.real + hours(24), usegmt=True), 0.0)
    assert node.clock.now() == node.real + hours(24)


def test_before_the_first_answer_the_time_is_that_of_the_node() -> None:
    assert Node(hours(1)).clock.now() == NOW + hours(1)


def test_a_clock_that_differs_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    node = Node(seconds(4))
    node.answer()
    assert not caplog.records

    node.skew = -hours(1)
    for _ in range(3):
        node.answer()
    [record] = caplog.records
    assert record.ahead_seconds == -3600  # type: ignore[attr-defined]

    node.skew = timedelta()
    node.answer()
    node.skew = hours(1)
    node.answer()
    assert len(caplog.records) == 2
