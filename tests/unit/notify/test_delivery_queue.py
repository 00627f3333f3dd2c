from datetime import UTC, datetime, timedelta

import pytest

from interlock_notify import delivery_queue
from interlock_notify.delivery_queue import (
    FIRST_PAUSE,
    LONGEST_ASKED,
    LONGEST_PAUSE,
    MOST_OF_LEDGER,
    MOST_PENDING,
    DeliveryQueue,
    read_retry_after,
)
from tests.unit.notify.ledgers import an_alert

EVER = datetime.fromtimestamp(0, UTC)


def a_queue(*delivered: str) -> DeliveryQueue:
    return DeliveryQueue(delivered, EVER, lambda: 0.0)


def test_an_alert_is_due_immediately_and_no_longer_once_it_is_delivered() -> None:
    queue, alert = a_queue(), an_alert()
    assert queue.offer(alert)
    assert queue.next(0.0) == alert
    assert queue.seconds_until_next(0.0) == 0.0

    queue.succeed(alert)

    assert queue.next(0.0) is None
    assert queue.seconds_until_next(0.0) is None


def test_an_alert_that_is_delivered_or_waits_is_no_new_one() -> None:
    queue, waiting, done = a_queue(an_alert(3).digest), an_alert(1), an_alert(2)
    queue.offer(waiting)
    queue.offer(done)
    queue.succeed(done)

    assert [queue.offer(alert) for alert in (waiting, done, an_alert(3))] == [False, False, False]
    assert queue.pending == 1


def test_the_pauses_of_an_alert_double_up_to_the_longest() -> None:
    queue, alert, now, pauses = a_queue(), an_alert(), 0.0, []
    queue.offer(alert)
    for _ in range(12):
        queue.fail(alert, now, is_away=False, retry_after=None)
        pauses.append(queue.seconds_until_next(now))
        now += pauses[-1] or 0.0

    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]


def test_a_pause_is_up_to_a_fifth_longer_by_chance() -> None:
    queue, alert = DeliveryQueue((), EVER, lambda: 1.0), an_alert()
    queue.offer(alert)
    queue.fail(alert, 0.0, is_away=False, retry_after=None)

    assert queue.seconds_until_next(0.0) == pytest.approx(1.2 * FIRST_PAUSE)


def test_an_alert_that_is_refused_keeps_no_other_waiting() -> None:
    queue, refused, other = a_queue(), an_alert(1), an_alert(2)
    queue.offer(refused)
    queue.offer(other)

    queue.fail(refused, 0.0, is_away=False, retry_after=None)

    assert queue.next(0.0) == other


def test_a_receiver_that_is_away_is_left_alone_with_all_alerts() -> None:
    queue, first, other = a_queue(), an_alert(1), an_alert(2)
    queue.offer(first)
    queue.offer(other)

    queue.fail(first, 0.0, is_away=True, retry_after=None)

    assert queue.next(0.9) is None
    assert queue.next(1.0) == other
    queue.fail(other, 1.0, is_away=True, retry_after=None)
    assert queue.next(2.9) is None  # the receiver's own pauses double


def test_a_receiver_that_is_back_gets_the_rest_without_a_pause() -> None:
    queue, first, other = a_queue(), an_alert(1), an_alert(2)
    queue.offer(first)
    queue.offer(other)
    for now in (0.0, 1.0, 3.0):
        queue.fail(first, now, is_away=True, retry_after=None)

    assert queue.next(7.0) == other
    queue.succeed(other)
    assert queue.next(7.0) == first


def test_a_receiver_that_asks_for_a_pause_gets_it_and_no_longer_one_than_an_hour() -> None:
    for asked, expected in ((30.0, 30.0), (10**6, LONGEST_ASKED), (0.0, FIRST_PAUSE)):
        queue, alert = a_queue(), an_alert()
        queue.offer(alert)
        queue.fail(alert, 0.0, is_away=True, retry_after=asked)

        assert queue.seconds_until_next(0.0) == expected


def test_a_full_queue_leaves_alerts_to_their_ledgers_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_queue, "MOST_PENDING", 2)
    queue = a_queue()

    assert [queue.offer(an_alert(number)) for number in range(3)] == [True, True, False]
    assert queue.has_left_out
    assert queue.pending == 2


def test_a_queue_is_bounded() -> None:
    queue = a_queue()
    for number in range(MOST_PENDING + 1):
        queue.offer(an_alert(number, f"{number}.staging"))

    assert queue.pending == MOST_PENDING
    assert queue.has_left_out


def test_one_ledger_takes_no_more_than_its_part_of_a_queue() -> None:
    queue = a_queue()

    taken = [queue.offer(an_alert(number)) for number in range(MOST_OF_LEDGER + 1)]

    assert taken == [True] * MOST_OF_LEDGER + [False]
    assert queue.has_left_out


def test_a_full_queue_makes_room_for_a_ledger_with_fewer_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_queue, "MOST_PENDING", 3)
    queue = a_queue()
    for number in range(3):
        queue.offer(an_alert(number, "loud.staging"))

    assert queue.offer(an_alert(8, "quiet.staging"))
    assert not queue.offer(an_alert(3, "loud.staging"))
    assert not queue.offer(an_alert(9, "quiet.staging")), "they are even then"
    assert queue.pending == 3
    assert queue.has_left_out


def test_ledgers_take_turns_however_many_alerts_one_has() -> None:
    queue = a_queue()
    for number in range(100):
        queue.offer(an_alert(number, "loud.staging"))
    queue.offer(an_alert(200, "quiet.staging"))
    queue.offer(an_alert(201, "calm.staging"))

    turns = []
    for _ in range(3):
        alert = queue.next(0.0)
        assert alert is not None
        turns.append(alert.ledger)
        queue.fail(alert, 0.0, is_away=False, retry_after=None)

    assert turns == ["loud.staging", "quiet.staging", "calm.staging"]


def test_an_alert_from_before_the_webhook_appeared_is_not_for_it() -> None:
    alert = an_alert()
    later = DeliveryQueue((), alert.at + timedelta(seconds=1), lambda: 0.0)

    assert not later.offer(alert)
    assert DeliveryQueue((), alert.at, lambda: 0.0).offer(alert)


def test_what_another_notifier_has_delivered_no_longer_waits() -> None:
    queue = a_queue()
    queue.offer(an_alert(1))
    queue.offer(an_alert(2))

    queue.note_delivered([an_alert(1).digest, an_alert(3).digest])

    assert queue.next(0.0) == an_alert(2)
    assert queue.pending == 1
    assert not queue.offer(an_alert(3))


def test_what_a_ledger_still_names_is_never_forgotten_so_that_it_is_not_sent_twice() -> None:
    queue = a_queue(*(an_alert(number).digest for number in range(4)))

    queue.forget({an_alert(0).digest, an_alert(1).digest}, 1)

    assert [queue.offer(an_alert(number)) for number in range(4)] == [False, False, True, True]


def test_few_deliveries_are_all_kept() -> None:
    queue = a_queue(an_alert(1).digest)

    queue.forget(set(), 1)

    assert not queue.offer(an_alert(1))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        (" 0 ", 0.0),
        ("", None),
        ("-1", None),
        ("1e9", None),
        ("\u0663", None),
        ("9" * 5000, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_alone(value: str, seconds: float | None) -> None:
    assert read_retry_after(value) == seconds
